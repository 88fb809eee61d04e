// watch.go looks at a run while it goes: a line for people, and a point for the charts.

package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// point is what happened within a part of a run.
type point struct {
	At          float64 `json:"at_s"` // its end
	Rate        float64 `json:"rate"` // messages received a second
	P50         int64   `json:"p50_ns"`
	P99         int64   `json:"p99_ns"`
	Max         int64   `json:"max_ns"`
	Connections int64   `json:"connections"`
	Failed      int     `json:"failed"`
}

// maxPoints bounds how many points there are: intervals get longer in a long run.
const maxPoints = 600

// watch takes points.
type watch struct {
	r        *run
	live     *live
	summary  *summary
	last     totals
	lastAt   int64
	interval time.Duration
}

func newWatch(r *run, live *live, s *summary) *watch {
	return &watch{r: r, live: live, summary: s}
}

// run takes points until the time is over, ctx is done, or no connection is left.
func (w *watch) run(ctx context.Context, limit time.Duration, connected <-chan struct{}) {
	w.interval = max(200*time.Millisecond, limit/maxPoints)
	if limit < 2*time.Second {
		w.interval = max(limit/10, time.Millisecond)
	}
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	end := time.NewTimer(limit)
	defer end.Stop()
	w.lastAt, w.last = clock(), w.r.totals()
	all := false
	for {
		select {
		case <-tick.C:
			w.take()
			if all && w.r.alive.Load() <= 0 {
				return
			}
		case <-connected:
			all, connected = true, nil
		case <-end.C:
			w.take()
			return
		case <-ctx.Done():
			w.take()
			return
		}
	}
}

// take takes a point.
func (w *watch) take() {
	now, sums := clock(), w.r.totals()
	elapsed := time.Duration(now - w.lastAt)
	if elapsed < w.interval/2 {
		return // the rest of the last interval, too short for a rate; its latencies count
	}
	h := w.r.recorder.interval()
	p := point{
		At: time.Duration(now - w.r.began).Seconds(), Rate: float64(sums.received-w.last.received) / elapsed.Seconds(),
		P50: h.ValueAtQuantile(50), P99: h.ValueAtQuantile(99), Max: h.Max(), Connections: w.r.alive.Load(), Failed: w.r.failed(),
	}
	if h.TotalCount() == 0 {
		p.P50, p.P99, p.Max = 0, 0, 0
	}
	w.last, w.lastAt = sums, now
	w.summary.Points = append(w.summary.Points, p)
	w.live.show(p)
}

func (w *watch) finish() { w.live.clear() }

// live is a line that is written over and over on a terminal, or now and then on one that cannot do that. Elsewhere there is none.
type live struct {
	w       io.Writer
	over    bool // the line is written over
	colours bool
	width   int
	last    time.Time
}

func newLive(w io.Writer, quiet bool) *live {
	if quiet || !tty.Is(w) {
		w = io.Discard
	}
	return &live{w: w, over: tty.Is(w) && os.Getenv("TERM") != "dumb", colours: tty.Colours(w), last: time.Now()}
}

const lineInterval = 5 * time.Second // where lines are not written over

func (l *live) show(p point) {
	text := fmt.Sprintf("%5.1f s  %s/s  p50 %s  p99 %s  max %s  %s open  ", p.At, tty.Count(int64(p.Rate)), since(p.P50), since(p.P99), since(p.Max),
		tty.Count(p.Connections))
	errors := fmt.Sprintf("%d failed", p.Failed)
	width := len([]rune(text)) + len(errors)
	if columns, _ := tty.Size(l.w); l.over && width >= columns { // a line that is broken could not be written over
		text, errors = string([]rune(text + errors)[:columns-1]), ""
		width = columns - 1
	}
	if p.Failed > 0 && errors != "" {
		errors = tty.Paint(l.colours, tty.Red, errors)
	}
	text += errors
	if l.over {
		fmt.Fprintf(l.w, "\r%s%s", text, strings.Repeat(" ", max(l.width-width, 0)))
		l.width = width
		return
	}
	if time.Since(l.last) >= lineInterval {
		l.last = time.Now()
		fmt.Fprintln(l.w, text)
	}
}

func (l *live) clear() {
	if l.width > 0 {
		fmt.Fprintf(l.w, "\r%s\r", strings.Repeat(" ", l.width))
		l.width = 0
	}
}

// since writes a latency with three digits.
func since(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d <= 0:
		return "-"
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.2f µs", float64(ns)/1e3)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(ns)/1e3)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(ns)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(ns)/1e6)
	}
	return fmt.Sprintf("%.2f s", float64(ns)/1e9)
}
