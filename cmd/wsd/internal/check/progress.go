// What a user sees while the cases are tried: how many have ended, and how.

package check

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
	"github.com/seed62836080/wsd/conformance/suite"
)

// On a terminal one line is written over and over; on one that cannot do that, there is a line now and then.
const (
	liveInterval = 100 * time.Millisecond
	lineInterval = 10 * time.Second
)

// A progress tells on w how far a run has come.
type progress struct {
	w     io.Writer
	live  bool // lines are written over
	total int
	begun time.Time
	ended suite.Tally
	width int // of the line that the terminal shows now
}

func newProgress(w io.Writer, total int) *progress {
	return &progress{w: w, live: tty.Is(w) && os.Getenv("TERM") != "dumb", total: total}
}

// watch tells how far the run has come until ended is closed, and hands each result on to print, unless that is nil, which
// may write to the same terminal. Cases that are not run are left to the report: there can be very many.
func (p *progress) watch(ended <-chan suite.Result, print func(suite.Result)) {
	p.begun = time.Now()
	interval := lineInterval
	if p.live {
		interval = liveInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	defer p.clear()
	for {
		select {
		case <-tick.C:
			p.show()
		case r, more := <-ended:
			if !more {
				return
			}
			p.ended.Add(r.Verdict)
			if print != nil && r.Verdict != suite.NotRun {
				p.clear()
				print(r)
			}
		}
	}
}

func (p *progress) show() {
	line := fmt.Sprintf("%d of %d cases after %v", p.ended.Cases(), p.total, time.Since(p.begun).Round(time.Second))
	for _, part := range []struct {
		n    int
		what suite.Verdict
	}{{p.ended.Failed, suite.Failed}, {p.ended.NotApplicable, suite.NotApplicable}, {p.ended.NotRun, suite.NotRun}} {
		if part.n > 0 {
			line += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	if !p.live {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprintf(p.w, "\r%-*s", p.width, line)
	p.width = len(line)
}

// clear takes the line off the terminal, so that others can be written there.
func (p *progress) clear() {
	if p.width > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.width))
		p.width = 0
	}
}
