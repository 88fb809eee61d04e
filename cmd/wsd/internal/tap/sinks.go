// sinks.go is where events go: lines for people, a recording, the page. None loses any.

package tap

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// sinks are what was asked for. A nil one is not there.
type sinks struct {
	lines   *spool
	colours bool
	records []record
	page    *gallery
	notes   io.Writer // what is no event
}

// record takes events as JSON, a line for each.
type record struct {
	*spool
	terminal bool // which nothing may control
}

// keep returns how much of a payload is needed.
func (s *sinks) keep() int {
	if s.page != nil {
		return pageKeep
	}
	return lineKeep
}

// take takes an event; all says that it is for everybody, and not for the recording alone.
func (s *sinks) take(e *Event, all bool) {
	if s.recording() {
		if line, err := e.encode(); err == nil {
			for _, r := range s.records {
				if r.terminal {
					r.put([]byte(tty.Safe(string(line))))
				} else {
					r.put(line)
				}
			}
		}
	}
	if all {
		s.show(e)
	}
}

func (s *sinks) show(e *Event) {
	if s.lines != nil {
		s.lines.put(append(e.appendLine(nil, s.colours), '\n'))
	}
	if s.page != nil {
		s.page.add(e)
	}
}

// recording reports whether somebody takes events as JSON.
func (s *sinks) recording() bool { return len(s.records) > 0 }

// none reports whether nothing was asked for.
func (s *sinks) none() bool { return s.lines == nil && !s.recording() && s.page == nil }

// problem tells of what kept a connection from being one.
func (s *sinks) problem(remote, text string) {
	fmt.Fprintf(s.notes, "%s: %s\n", remote, text)
}

// spool writes lines from a goroutine of its own, many at a time. Whoever puts one waits if too much waits already. It is safe
// for concurrent use.
type spool struct {
	w      io.Writer
	failed func(error) // called once, by the goroutine, when a write fails; what follows is dropped
	done   chan struct{}

	mu      sync.Mutex // guards all below
	changed sync.Cond  // of mu
	waiting []byte
	closed  bool
	broken  bool
}

const (
	// maxWaiting bounds what waits to be written, in bytes.
	maxWaiting = 4 << 20
	// gathering is how long lines gather behind a write: to wake the goroutine that writes costs more than a line.
	gathering = 5 * time.Millisecond
)

func newSpool(w io.Writer, failed func(error)) *spool {
	s := &spool{w: w, failed: failed, done: make(chan struct{})}
	s.changed.L = &s.mu
	go s.run()
	return s
}

// put adds lines.
func (s *spool) put(lines []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > maxWaiting && !s.broken {
		s.changed.Wait()
	}
	if s.broken {
		return
	}
	s.waiting = append(s.waiting, lines...)
	s.changed.Broadcast()
}

// next waits for lines, and returns them for buffer. It returns nil at the end.
func (s *spool) next(buffer []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) == 0 && !s.closed {
		s.changed.Wait()
	}
	lines := s.waiting
	s.waiting = buffer[:0]
	s.changed.Broadcast()
	return lines
}

func (s *spool) run() {
	defer close(s.done)
	var buffer []byte
	for {
		lines := s.next(buffer)
		if len(lines) == 0 {
			return
		}
		if _, err := s.w.Write(lines); err != nil {
			s.mu.Lock()
			s.broken = true
			s.changed.Broadcast()
			s.mu.Unlock()
			s.failed(err)
			return
		}
		buffer = lines
		time.Sleep(gathering)
	}
}

// close writes what waits, and ends.
func (s *spool) close() {
	s.mu.Lock()
	s.closed = true
	s.changed.Broadcast()
	s.mu.Unlock()
	<-s.done
}
