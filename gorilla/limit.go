// limit.go is a deadline as a context, for calls that rarely wait: it has a timer only while somebody does.

package websocket

import (
	"context"
	"sync"
	"time"
)

// limit is a context that ends at a time.
type limit struct {
	at time.Time

	mu    sync.Mutex // guards all below
	done  chan struct{}
	timer *time.Timer
}

// noLimit never ends.
var noLimit = new(limit)

// newLimit returns a context that ends at a time, never if that is zero. stop must follow.
func newLimit(at time.Time) *limit {
	if at.IsZero() {
		return noLimit
	}
	return &limit{at: at}
}

// Deadline returns the time.
func (l *limit) Deadline() (time.Time, bool) { return l.at, !l.at.IsZero() }

// Done returns a channel that is closed at that time.
func (l *limit) Done() <-chan struct{} {
	if l.at.IsZero() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		done := make(chan struct{})
		l.done = done
		l.timer = time.AfterFunc(time.Until(l.at), func() { close(done) })
	}
	return l.done
}

// Err reports whether the time has come.
func (l *limit) Err() error {
	if l.at.IsZero() || time.Now().Before(l.at) {
		return nil
	}
	return context.DeadlineExceeded
}

// Value has none.
func (l *limit) Value(any) any { return nil }

// stop lets go of the timer.
func (l *limit) stop() {
	if l.at.IsZero() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
}
