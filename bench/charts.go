//go:build linux

package main

// This file draws a workload's chart: a panel of bars for each case, in SVG that is read in light and dark pages alike.

import (
	"encoding/xml"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Measures of a chart, in pixels of a page that shows it at full width: what a README of GitHub's has at the least.
const (
	chartWidth  = 830
	chartMargin = 16
	panelGutter = 28
	barHeight   = 13
	barPitch    = 19
	lineHeight  = 18
	nameWidth   = 58 // the names of the libraries, left of the bars
	valueWidth  = 76 // the numbers, right of the longest bar
	panelGap    = 12 // above and below what a panel holds
)

// What a letter takes at the most, on average, in whichever font the reader has: in a panel's heading, and elsewhere.
const (
	boldWidth   = 7.6
	letterWidth = 6.2
)

// chartStyle colours wsd, its rivals and the raw loop. A page's colours cannot be known from within an image, the reader's
// wish can, so a chart brings its own ground. What is not a library is an outline: colour is not all that tells it apart.
const chartStyle = `
  .ground { fill: #ffffff; stroke: #d1d9e0 } .grid { stroke: #d1d9e0 }
  text { fill: #1f2328; font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif }
  .title { font-size: 17px; font-weight: 600 } .panel { font-weight: 600 } .soft { fill: #59636e }
  .value { font-variant-numeric: tabular-nums } .wsd { fill: #c2410c } text.wsd { font-weight: 600 }
  .rival { fill: #7d97b5 } .raw { fill: none; stroke: #7d97b5; stroke-dasharray: 3 2 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d } .grid { stroke: #3d444d }
    text { fill: #e6edf3 } .soft { fill: #9aa4af } .wsd { fill: #f0883e }
    .rival { fill: #6f8fb3 } .raw { stroke: #6f8fb3 }
  }
`

// bar is a library's line in a panel.
type bar struct {
	library string
	value   float64
	label   string // the value in writing, or why there is none
	known   bool
}

// class is the style of a library's bar.
func (b bar) class() string {
	switch b.library {
	case wsdName, rawName:
		return b.library
	}
	return "rival"
}

// panel is a case of a chart, with a scale of its own unless all share one.
type panel struct {
	heading []string // in lines
	bars    []bar
	longest float64 // the value that the longest bar stands for
}

// panels are those of a workload, and whether there is anything to draw.
func (r *report) panels(w workload, shown column, width float64) (panels []panel, any bool) {
	var greatest float64
	for _, c := range w.cases {
		p := panel{heading: wrap(c.name, int(width/boldWidth))}
		for _, l := range r.libraries {
			if !l.plays(c.role) {
				continue
			}
			o := r.outcome(w.name, c.name, l.name)
			b := bar{library: l.name}
			if b.value, b.known = o.median(shown.key); b.known {
				b.value /= shown.scale
				b.label = withCommas(fmt.Sprintf(shown.format, b.value))
				p.longest = max(p.longest, b.value)
				any = true
			} else if o != nil {
				b.label, _, _ = strings.Cut(strings.TrimPrefix(o.note, "cannot: "), ":")
			}
			p.bars = append(p.bars, b)
		}
		greatest = max(greatest, p.longest)
		panels = append(panels, p)
	}
	if w.oneScale {
		for i := range panels {
			panels[i].longest = greatest
		}
	}
	return panels, any
}

// draw writes the chart of a workload and says whether there was anything to draw.
func (r *report) draw(w workload, path string) (bool, error) {
	var shown column
	for _, c := range w.columns {
		if c.key == w.chart {
			shown = c
		}
	}
	columns := min(2, len(w.cases))
	width := float64(chartWidth-2*chartMargin-(columns-1)*panelGutter) / float64(max(1, columns))
	panels, any := r.panels(w, shown, width)
	if !any {
		return false, nil
	}

	var b strings.Builder
	y := float64(chartMargin + lineHeight)
	write(&b, "title", chartMargin, y, w.title+": "+shown.name+", "+better(shown.key))
	y += lineHeight + 4
	r.legend(&b, y, w.oneScale)
	y += 12
	for row := 0; row < len(panels); row += columns {
		beside := panels[row:min(row+columns, len(panels))]
		fmt.Fprintf(&b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", chartMargin, y, chartWidth-chartMargin)
		headings, bars := 0, 0
		for _, p := range beside {
			headings, bars = max(headings, len(p.heading)), max(bars, len(p.bars))
		}
		for i, p := range beside {
			x := chartMargin + float64(i)*(width+panelGutter)
			p.write(&b, x, y+panelGap+8, width, headings)
		}
		y += 2*panelGap + float64(headings*lineHeight+bars*barPitch)
	}

	height := int(y)
	svg := fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%[1]d\" height=\"%[2]d\" viewBox=\"0 0 %[1]d %[2]d\" role=\"img\">\n"+
		"<title>%[3]s</title>\n<style>%[4]s</style>\n<rect class=\"ground\" x=\".5\" y=\".5\" width=\"%[5]d\" height=\"%[6]d\" rx=\"6\"/>\n%[7]s</svg>\n",
		chartWidth, height, escaped(w.title), chartStyle, chartWidth-1, height-1, b.String())
	if err := os.WriteFile(path, []byte(svg), 0o644); err != nil {
		return false, fmt.Errorf("bench: the chart of %s: %w", w.name, err)
	}
	return true, nil
}

// better says which way a column's values are good.
func better(key string) string {
	if key == rateKey || key == bytesKey {
		return "more is better"
	}
	return "less is better"
}

// legend says what the bars are.
func (r *report) legend(b *strings.Builder, y float64, oneScale bool) {
	scale := "Each panel has its own scale, from zero."
	if oneScale {
		scale = "All panels have the same scale, from zero."
	}
	write(b, "soft", chartMargin, y, scale)
	x := float64(chartWidth - chartMargin)
	for _, entry := range []struct{ class, text string }{{rawName, "no library"}, {"rival", "other libraries"}, {wsdName, wsdName}} {
		shown := false
		for _, l := range r.libraries {
			shown = shown || bar{library: l.name}.class() == entry.class
		}
		if !shown {
			continue
		}
		x -= float64(len(entry.text)) * letterWidth
		write(b, "soft", x, y, entry.text)
		x -= 17
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\"/>\n", entry.class, x, y-11)
		x -= 14
	}
}

// write writes a panel whose heading has so many lines, its first at y.
func (p panel) write(b *strings.Builder, x, y, width float64, headings int) {
	for i, line := range p.heading {
		write(b, "panel", x, y+float64(i*lineHeight), line)
	}
	y += float64(headings*lineHeight) + 3
	for _, bar := range p.bars {
		class := ""
		if bar.library == wsdName {
			class = wsdName
		}
		write(b, class, x, y, bar.library)
		length := 0.0
		if bar.known && p.longest > 0 {
			length = max(1, bar.value/p.longest*(width-nameWidth-valueWidth))
			fmt.Fprintf(b, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>\n",
				bar.class(), x+nameWidth, y-11, length, barHeight)
			length += 6
			class += " value"
		} else {
			class = "soft"
		}
		write(b, strings.TrimSpace(class), x+nameWidth+length, y, bar.label)
		y += barPitch
	}
}

// write writes a line of text.
func write(b *strings.Builder, class string, x, y float64, text string) {
	if class != "" {
		class = fmt.Sprintf(" class=%q", class)
	}
	fmt.Fprintf(b, "<text%s x=\"%.1f\" y=\"%.1f\">%s</text>\n", class, x, y, escaped(text))
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}

// wrap breaks a text into lines of so many letters, at its spaces.
func wrap(text string, letters int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= letters:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

// withCommas puts commas into a number that has been written out, where it is large and whole.
func withCommas(number string) string {
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return number
	}
	return thousands(n)
}
