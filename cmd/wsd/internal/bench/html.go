// html.go writes a page with charts, which needs nothing else.

package bench

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

//go:embed report.html
var reportPage string

var reportTemplate = template.Must(template.New("report").Parse(reportPage))

// figure is a number with its name.
type figure struct{ Name, Value, More string }

// chart is a drawing.
type chart struct {
	Title, Unit string
	Width       int
	Height      int
	Lines       []line
	Bars        []column
	Rows, Marks []mark // what the axes say
}

type line struct{ Class, Name, Points string }

type column struct {
	X, Y, Width, Height float64
	Title               string
}

type mark struct {
	At   float64
	Text string
}

// The area of a chart in which lines are drawn, in the units of its SVG.
const (
	chartWidth, chartHeight = 640, 220
	chartLeft, chartBottom  = 64, 24
)

// htmlReport returns the page.
func htmlReport(s *summary) ([]byte, error) {
	h := s.latencies
	var b bytes.Buffer
	settings := fmt.Sprintf("messages of %s, %s %s connections", s.lengths(), s.pace(), tty.Count(int64(s.conns)))
	figures := []figure{
		{"received", tty.Count(int64(s.perSecond(s.received))) + "/s", tty.Count(int64(s.received)) + " messages"},
		{"median", since(h.ValueAtQuantile(50)), "p90 " + since(h.ValueAtQuantile(90))},
		{"p99", since(h.ValueAtQuantile(99)), "p99.9 " + since(h.ValueAtQuantile(99.9))},
		{"longest", since(h.Max()), "p99.99 " + since(h.ValueAtQuantile(99.99))},
		{"connections", tty.Count(int64(s.Opened)), "of " + tty.Count(int64(s.asked()))},
	}
	if s.CPU > 0 {
		figures = append(figures, figure{"own CPU", fmt.Sprintf("%.2f", s.CPU.Seconds()/s.Took.Seconds()), fmt.Sprintf("of %d processors", runtime.GOMAXPROCS(0))})
	}
	err := reportTemplate.Execute(&b, map[string]any{
		"URL": s.URL, "Started": s.Started.Format(time.RFC1123), "Took": fmt.Sprintf("%.1f s", s.Took.Seconds()), "Settings": settings,
		"Figures": figures, "Errors": s.Errors, "Limit": s.limit(),
		"Charts": []chart{s.rateChart(), s.latencyChart(), s.distributionChart(), s.connectionsChart()},
	})
	return b.Bytes(), err
}

// pace says how fast messages were sent, in words.
func (s *summary) pace() string {
	switch {
	case s.rate > 0:
		return tty.Count(int64(s.rate)) + " a second on"
	case s.inflight == 1:
		return "one under way on each of"
	}
	return fmt.Sprintf("%d under way on each of", s.inflight)
}

// lengths says how long messages were, in words.
func (s *summary) lengths() string {
	var parts []string
	for i, least := range s.sizes.least {
		text := tty.Bytes(int64(least))
		if most := s.sizes.most[i]; most != least {
			text = tty.Count(int64(least)) + " to " + tty.Bytes(int64(most))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// scale returns the top of an axis, and where its lines are.
func scale(most float64) (top float64, steps []float64) {
	if most <= 0 {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most)))
	switch {
	case most/step < 2:
		step /= 5
	case most/step < 5:
		step /= 2
	}
	for at := 0.0; at < most+step*0.999; at += step {
		steps = append(steps, at)
		top = at
	}
	return top, steps
}

// over returns a chart of something over the time of the run.
func (s *summary) over(title, unit string, format func(float64) string, lines map[string]func(point) float64, order ...string) chart {
	c := chart{Title: title, Unit: unit, Width: chartWidth, Height: chartHeight}
	most, end := 0.0, 0.001
	for _, p := range s.Points {
		end = max(end, p.At)
		for _, value := range lines {
			most = max(most, value(p))
		}
	}
	top, steps := scale(most)
	y := func(v float64) float64 { return (chartHeight - chartBottom) * (1 - v/top*0.94) }
	x := func(t float64) float64 { return chartLeft + (chartWidth-chartLeft-12)*t/end }
	for _, step := range steps {
		c.Rows = append(c.Rows, mark{y(step), format(step)})
	}
	_, times := scale(end)
	for _, t := range times {
		if t <= end {
			c.Marks = append(c.Marks, mark{x(t), fmt.Sprintf("%.4g s", t)})
		}
	}
	for i, name := range order {
		var points strings.Builder
		for _, p := range s.Points {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(p.At), y(lines[name](p)))
		}
		c.Lines = append(c.Lines, line{Class: fmt.Sprintf("line%d", i), Name: name, Points: points.String()})
	}
	return c
}

func (s *summary) rateChart() chart {
	return s.over("Messages received a second", "", short,
		map[string]func(point) float64{"rate": func(p point) float64 { return p.Rate }}, "rate")
}

func (s *summary) latencyChart() chart {
	return s.over("Latency over time", "", latencyLabel, map[string]func(point) float64{
		"p50": func(p point) float64 { return float64(p.P50) }, "p99": func(p point) float64 { return float64(p.P99) },
	}, "p50", "p99")
}

// short writes a number for an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.4gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.4gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}

func latencyLabel(v float64) string {
	if v == 0 {
		return "0"
	}
	number, unit, _ := strings.Cut(since(int64(v)), " ")
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return number + " " + unit
}

func (s *summary) connectionsChart() chart {
	return s.over("Connections", "", short, map[string]func(point) float64{
		"open": func(p point) float64 { return float64(p.Connections) }, "failed": func(p point) float64 { return float64(p.Failed) },
	}, "open", "failed")
}

// distributionChart shows how many latencies there are, by length.
func (s *summary) distributionChart() chart {
	c := chart{Title: "Distribution of latencies", Width: chartWidth, Height: chartHeight}
	if s.latencies.TotalCount() == 0 {
		return c
	}
	bars := s.bars()
	most := 0.0
	for _, b := range bars {
		most = max(most, float64(b.count)/float64(s.latencies.TotalCount())*100)
	}
	top, steps := scale(most)
	y := func(v float64) float64 { return (chartHeight - chartBottom) * (1 - v/top*0.94) }
	for _, step := range steps {
		c.Rows = append(c.Rows, mark{y(step), fmt.Sprintf("%.3g %%", step)})
	}
	width := float64(chartWidth-chartLeft-12) / float64(len(bars))
	every := (len(bars) + 9) / 10 // as many as can be read
	for i, b := range bars {
		share := float64(b.count) / float64(s.latencies.TotalCount()) * 100
		c.Bars = append(c.Bars, column{
			X: chartLeft + float64(i)*width + 1, Y: y(share), Width: max(width-2, 1), Height: chartHeight - chartBottom - y(share),
			Title: fmt.Sprintf("up to %s: %.2f %% (%s)", since(b.to), share, tty.Count(b.count)),
		})
		if i%every == 0 {
			c.Marks = append(c.Marks, mark{chartLeft + (float64(i)+0.5)*width, latencyLabel(float64(b.to))})
		}
	}
	return c
}
