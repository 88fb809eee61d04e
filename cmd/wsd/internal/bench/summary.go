// summary.go is what came of a run, in numbers, for the table, for programs and for the page.

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// summary is what came of a run.
type summary struct {
	*options
	totals
	URL        string
	Started    time.Time
	Connecting time.Duration // until all had connected
	Took       time.Duration // from then on, until no more was sent
	CPU        time.Duration // this process's, meanwhile
	Busy       float64       // the share of this machine's processor time that all processes took, meanwhile; 0 if unknown
	Opened     int
	Missing    uint64
	Errors     []failure
	Points     []point
	latencies  *hdrhistogram.Histogram
}

// failure is why connections failed, and how many.
type failure struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

// complete adds what is known at the end.
func (s *summary) complete(r *run) {
	s.Missing = r.missing.Load()
	s.latencies = r.recorder.all()
	s.Errors = r.reasons()
	if s.Missing > 0 {
		what := "messages had no answer"
		if r.sub {
			what = "deliveries did not come"
		}
		s.Errors = append(s.Errors, failure{what, int(s.Missing)})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Opened = r.opened
}

func (s *summary) perSecond(n uint64) float64 { return float64(n) / max(s.Took.Seconds(), 1e-9) }

// asked is how many connections there should have been.
func (s *summary) asked() int {
	if s.sub {
		return s.conns + 1
	}
	return s.conns
}

// limit says what kept the rate from being higher, where that was this program.
func (s *summary) limit() string {
	share := s.CPU.Seconds() / max(s.Took.Seconds(), 1e-9) / float64(runtime.GOMAXPROCS(0))
	switch {
	case share > 0.85:
		return fmt.Sprintf("wsd bench itself was the limit, not the server: it kept %.0f %% of the processors busy", share*100)
	case s.Busy > 0.95 && share > s.Busy/2:
		return fmt.Sprintf("wsd bench itself was the limit, not the server: it kept %.0f %% of the processors busy, all else %.0f %%", share*100,
			(s.Busy-share)*100)
	case s.Busy > 0.95:
		return fmt.Sprintf("this machine was the limit: all else kept %.0f %% of its processors busy, wsd bench %.0f %%", (s.Busy-share)*100, share*100)
	}
	if sent := s.timetabled(); s.rate > 0 && !s.sub && s.Took > 0 && sent < 0.95*s.rate {
		return fmt.Sprintf("behind the timetable: %s/s were sent of %s/s", tty.Count(int64(sent)), tty.Count(int64(s.rate)))
	}
	return ""
}

// timetabled returns how many messages a second were sent, as if all connections had been there from the beginning: while they
// connect evenly, half of them send on average.
func (s *summary) timetabled() float64 {
	return float64(s.sent) / max((s.Took-s.ramp/2).Seconds(), 1e-9)
}

// quantiles are those of the table.
var quantiles = []struct {
	name string
	at   float64
}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99}}

// writeTable writes the results for people.
func writeTable(w io.Writer, s *summary) error {
	colours := tty.Colours(w)
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s for %.1f s\n", tty.Safe(s.URL), s.Took.Seconds())
	row("connections", "%s of %s, opened within %v", tty.Count(int64(s.Opened)), tty.Count(int64(s.asked())), s.Connecting.Round(time.Millisecond))
	row("sent", "%s messages, %s/s, %s/s", tty.Count(int64(s.sent)), tty.Count(int64(s.perSecond(s.sent))), tty.Bytes(int64(s.perSecond(s.bytesSent))))
	row("received", "%s messages, %s, %s/s", tty.Count(int64(s.received)),
		tty.Paint(colours, tty.Bold, tty.Count(int64(s.perSecond(s.received)))+"/s"), tty.Bytes(int64(s.perSecond(s.bytesReceived))))
	if s.CPU > 0 && s.received > 0 {
		row("own CPU", "%.2f of %d processors, %.2f µs a message", s.CPU.Seconds()/s.Took.Seconds(), runtime.GOMAXPROCS(0),
			float64(s.CPU.Microseconds())/float64(s.received))
	}
	if limit := s.limit(); limit != "" {
		row("limit", "%s", tty.Paint(colours, tty.Yellow, limit))
	}
	if len(s.Errors) == 0 {
		row("failed", "none")
	}
	for i, e := range s.Errors {
		name := ""
		if i == 0 {
			name = "failed"
		}
		row(name, "%s", tty.Paint(colours, tty.Red, fmt.Sprintf("%s: %s", tty.Count(int64(e.Count)), tty.Safe(e.Reason))))
	}
	s.writeLatencies(&b, colours)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeLatencies writes quantiles and a histogram.
func (s *summary) writeLatencies(b *strings.Builder, colours bool) {
	h := s.latencies
	if h.TotalCount() == 0 {
		return
	}
	head, values := fmt.Sprintf("\n  %-8s", "latency"), fmt.Sprintf("  %-8s", "")
	column := func(name string, ns int64) {
		head += fmt.Sprintf("%9s", name)
		text := since(ns)
		values += strings.Repeat(" ", max(9-len([]rune(text)), 1)) + text
	}
	column("min", h.Min())
	for _, q := range quantiles {
		column(q.name, h.ValueAtQuantile(q.at))
	}
	column("max", h.Max())
	fmt.Fprintf(b, "%s\n%s\n\n", head, values)
	bars := s.bars()
	most := int64(0)
	for _, bar := range bars {
		most = max(most, bar.count)
	}
	const width = 40 // columns
	for _, bar := range bars {
		share := float64(bar.count) / float64(h.TotalCount())
		fmt.Fprintf(b, "  %10s  %s%s %5.1f %%\n", "≤ "+since(bar.to), tty.Paint(colours, tty.Cyan, blocks(float64(bar.count)/float64(most)*width)),
			strings.Repeat(" ", width-int(math.Ceil(float64(bar.count)/float64(most)*width))), share*100)
	}
}

// blocks draws a bar of so many columns, to an eighth.
func blocks(columns float64) string {
	eighths := int(math.Ceil(columns * 8))
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}

// bar is how many latencies there are up to a bound, and above the last bar's.
type bar struct{ to, count int64 }

// bars returns the distribution on a scale of 1, 2, 5, 10, without empty ends.
func (s *summary) bars() []bar {
	var bounds []int64
	for decade := int64(100); decade <= int64(maxLatency); decade *= 10 {
		bounds = append(bounds, decade, 2*decade, 5*decade)
	}
	bars := make([]bar, len(bounds))
	for i, bound := range bounds {
		bars[i].to = bound
	}
	for _, d := range s.latencies.Distribution() {
		for i, bound := range bounds {
			if d.To <= bound || i == len(bounds)-1 {
				bars[i].count += d.Count
				break
			}
		}
	}
	first, last := 0, len(bars)-1
	for first < last && bars[first].count == 0 {
		first++
	}
	for last > first && bars[last].count == 0 {
		last--
	}
	return bars[first : last+1]
}

// jsonSummary is a summary for programs.
type jsonSummary struct {
	URL         string             `json:"url"`
	Started     time.Time          `json:"started"`
	Took        float64            `json:"took_s"`
	Connecting  float64            `json:"connecting_s"`
	Connections int                `json:"connections"`
	Opened      int                `json:"opened"`
	Sent        uint64             `json:"sent"`
	Received    uint64             `json:"received"`
	Missing     uint64             `json:"missing"`
	BytesSent   uint64             `json:"bytes_sent"`
	BytesGotten uint64             `json:"bytes_received"`
	Rate        float64            `json:"rate"`
	Latency     map[string]float64 `json:"latency_ns"`
	Errors      []failure          `json:"errors"`
	CPU         float64            `json:"own_cpu_s"`
	Processors  int                `json:"processors"`
	Limit       string             `json:"limit,omitempty"`
	Points      []point            `json:"points"`
}

// writeJSON writes the results for programs.
func writeJSON(w io.Writer, s *summary) error {
	h := s.latencies
	latency := map[string]float64{"min": float64(h.Min()), "max": float64(h.Max()), "mean": h.Mean(), "count": float64(h.TotalCount())}
	if h.TotalCount() == 0 {
		latency = map[string]float64{"count": 0}
	} else {
		for _, q := range quantiles {
			latency[q.name] = float64(h.ValueAtQuantile(q.at))
		}
	}
	errors := s.Errors
	if errors == nil {
		errors = []failure{}
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(jsonSummary{
		URL: s.URL, Started: s.Started, Took: s.Took.Seconds(), Connecting: s.Connecting.Seconds(), Connections: s.asked(), Opened: s.Opened,
		Sent: s.sent, Received: s.received, Missing: s.Missing, BytesSent: s.bytesSent, BytesGotten: s.bytesReceived,
		Rate: s.perSecond(s.received), Latency: latency, Errors: errors, CPU: s.CPU.Seconds(), Processors: runtime.GOMAXPROCS(0),
		Limit: s.limit(), Points: s.Points,
	})
}
