// sinks.go is where events go: lines for people, a recording, the page. None loses any.

package tap

import (
	"fmt"
	"io"
	"sync"
)

// sinks are what was asked for. A nil one is not there.
type sinks struct {
	lines   *spool
	colours bool
	record  *spool
	page    *gallery
	notes   io.Writer // what is no event
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
	if s.record != nil {
		if line, err := e.encode(); err == nil {
			s.record.put(line)
		}
	}
	if all {
		s.show(e)
	}
}

// frame takes a frame, as it is shown and as it is recorded.
func (s *sinks) frame(shown, recorded *Event) {
	if s.record != nil {
		s.take(recorded, false)
	}
	s.show(shown)
}

func (s *sinks) show(e *Event) {
	if s.lines != nil {
		s.lines.put([]byte(e.line(s.colours) + "\n"))
	}
	if s.page != nil {
		s.page.add(e)
	}
}

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

// maxWaiting bounds what waits to be written, in bytes.
const maxWaiting = 4 << 20

func newSpool(w io.Writer, failed func(error)) *spool {
	s := &spool{w: w, failed: failed, done: make(chan struct{})}
	s.changed.L = &s.mu
	go s.run()
	return s
}

// put adds a line.
func (s *spool) put(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > maxWaiting && !s.broken {
		s.changed.Wait()
	}
	if s.broken {
		return
	}
	s.waiting = append(s.waiting, line...)
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
