//go:build linux

package main

// This file draws a workload's chart: bars for each case side by side, or lines where the cases are a growing number.

import (
	"fmt"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// colours are one for each library, by name: a library keeps its own where others are left out. They keep apart in the eyes
// of the colour-blind as well (the palette of Okabe and Ito).
var colours = map[string]color.Color{
	wsdName:   color.RGBA{R: 213, G: 94, A: 255},
	"gorilla": color.RGBA{G: 114, B: 178, A: 255},
	"coder":   color.RGBA{R: 86, G: 180, B: 233, A: 255},
	"gws":     color.RGBA{G: 158, B: 115, A: 255},
	"gobwas":  color.RGBA{R: 240, G: 228, B: 66, A: 255},
	rawName:   color.RGBA{R: 160, G: 160, B: 160, A: 255},
}

// draw writes the chart of a workload and says whether there was anything to draw.
func (r *report) draw(w workload, path string) (bool, error) {
	var shown column
	for _, c := range w.columns {
		if c.key == w.chart {
			shown = c
		}
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = w.title
	p.Y.Label.Text = shown.name + " (less is better)"
	if shown.key == rateKey || shown.key == bytesKey {
		p.Y.Label.Text = shown.name + " (more is better)"
	}
	p.Y.Min = 0
	p.Legend.Top = true
	p.Legend.XOffs = -vg.Points(8)
	p.BackgroundColor = color.White
	p.Y.Tick.Marker = plainTicks{}
	p.Add(plotter.NewGrid())

	var drawn bool
	var err error
	if w.name == "growth" {
		drawn, err = r.lines(p, w, shown)
	} else {
		drawn, err = r.bars(p, w, shown)
	}
	if err != nil {
		return false, fmt.Errorf("bench: the chart of %s: %w", w.name, err)
	}
	if !drawn {
		return false, nil
	}
	p.Y.Max *= 1.25 // room for the legend
	width := vg.Length(max(6, 1.6*float64(len(w.cases)))) * vg.Inch
	if err := p.Save(width, 4.5*vg.Inch, path); err != nil {
		return false, fmt.Errorf("bench: the chart of %s: %w", w.name, err)
	}
	return true, nil
}

// bars puts a group of bars up for each case.
func (r *report) bars(p *plot.Plot, w workload, shown column) (drawn bool, err error) {
	width := vg.Points(math.Max(6, 60/float64(len(r.libraries))))
	for i, l := range r.libraries {
		values := make(plotter.Values, len(w.cases))
		any := false
		for j, c := range w.cases {
			value, ok := r.outcome(w.name, c.name, l.name).median(shown.key)
			values[j] = value / shown.scale
			any = any || ok
		}
		if !any {
			continue
		}
		bar, err := plotter.NewBarChart(values, width)
		if err != nil {
			return false, err
		}
		bar.Color = colours[l.name]
		bar.LineStyle.Width = 0
		bar.Offset = width * vg.Length(float64(i)-float64(len(r.libraries)-1)/2)
		p.Add(bar)
		p.Legend.Add(l.name, bar)
		drawn = true
	}
	names := make([]string, len(w.cases))
	for i, c := range w.cases {
		names[i] = strings.ReplaceAll(c.name, ", ", "\n")
	}
	p.NominalX(names...)
	p.X.Tick.Label.YAlign = text.YTop
	p.X.Min, p.X.Max = -0.5, float64(len(w.cases))-0.5
	return drawn, nil
}

// lines draws a line for each library over the number that begins each case's name.
func (r *report) lines(p *plot.Plot, w workload, shown column) (drawn bool, err error) {
	p.X.Label.Text = "connections"
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = plot.LogTicks{Prec: -1}
	for _, l := range r.libraries {
		var points plotter.XYs
		for _, c := range w.cases {
			number, _, _ := strings.Cut(c.name, " ")
			x, err := strconv.ParseFloat(strings.ReplaceAll(number, ",", ""), 64)
			if err != nil {
				return false, fmt.Errorf("expected a case's name to begin with a number, got %q", c.name)
			}
			if value, ok := r.outcome(w.name, c.name, l.name).median(shown.key); ok {
				points = append(points, plotter.XY{X: x, Y: value / shown.scale})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return false, err
		}
		line.Color, dots.Color = colours[l.name], colours[l.name]
		line.Width = vg.Points(2)
		p.Add(line, dots)
		p.Legend.Add(l.name, line)
		drawn = true
	}
	p.X.Max *= 1.2
	return drawn, nil
}

// plainTicks are the default ones with their numbers written out: 200,000 instead of 2e+05.
type plainTicks struct{}

func (plainTicks) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range ticks {
		if t.Label != "" && t.Value >= 1000 && t.Value == math.Trunc(t.Value) {
			ticks[i].Label = thousands(int(t.Value))
		}
	}
	return ticks
}
