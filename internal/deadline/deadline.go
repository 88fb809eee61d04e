// Package deadline has calls end at a time that may be set while they wait, as those of a net.Conn do. It knows nothing of what
// they do.
package deadline

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// Calls are those to Read, or to Write, of one stream: one at a time has its turn, and all end at a deadline or at Close.
type Calls struct {
	turn chan struct{} // has room for the one whose turn it is

	mu        sync.Mutex // guards all below
	closed    bool
	until     *callContext
	timer     *time.Timer // ends until, nil if there is no deadline
	deadlines int         // how many have been set
}

// callContext is the context of calls that may wait. It is over at their deadline, or at the end.
type callContext struct {
	done chan struct{} // closed once err is set
	err  error
}

func (c *callContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c *callContext) Done() <-chan struct{}       { return c.done }
func (c *callContext) Value(any) any               { return nil }
func (c *callContext) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// end ends the context, once.
func (c *callContext) end(err error) {
	if c.Err() == nil {
		c.err = err
		close(c.done)
	}
}

// NewCalls returns calls without a deadline.
func NewCalls() *Calls {
	return &Calls{turn: make(chan struct{}, 1), until: &callContext{done: make(chan struct{})}}
}

// Do waits for the turn and calls f with the context that holds for the call.
func (c *Calls) Do(f func(context.Context) error) error {
	ctx := c.context()
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := f(ctx)
	if err != nil && ctx.Err() == net.ErrClosed {
		return net.ErrClosed
	}
	return err
}

func (c *Calls) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until
}

// EndAt sets the deadline; the zero time means none.
func (c *Calls) EndAt(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.deadlines++
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.until.Err() != nil {
		c.until = &callContext{done: make(chan struct{})}
	}
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		c.until.end(os.ErrDeadlineExceeded)
	default:
		number := c.deadlines
		c.timer = time.AfterFunc(wait, func() { c.expire(number) })
	}
	return nil
}

// expire ends the calls at a deadline, unless that is not the last one that was set.
func (c *Calls) expire(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadlines == number {
		c.until.end(os.ErrDeadlineExceeded)
	}
}

// Close ends the calls, and all later ones, with net.ErrClosed.
func (c *Calls) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.until.Err() != nil {
		c.until = &callContext{done: make(chan struct{})}
	}
	c.until.end(net.ErrClosed)
}
