// queue.go is the queue of the calls that wait for a connection, and how they are served.

package pool

import (
	"context"
	"fmt"
	"time"
)

// waiter is an Acquire in the queue, or on its way into it.
type waiter struct {
	since      time.Time
	ready      chan delivery // has room for the one delivery
	prev, next *waiter       // Pool.mu
	queued     bool          // Pool.mu
}

// delivery ends a wait, with a connection or an error.
type delivery struct {
	res *resource
	hot bool // it was in use until just now
	err error
}

func newWaiter() any { return &waiter{ready: make(chan delivery, 1)} }

// queue is a list of waiters, first come first. Its zero value is empty; Pool.mu guards it.
type queue struct {
	front, back *waiter
	length      int
}

func (q *queue) pushBack(w *waiter) {
	w.prev, w.next, w.queued = q.back, nil, true
	if q.back == nil {
		q.front = w
	} else {
		q.back.next = w
	}
	q.back = w
	q.length++
}

func (q *queue) pushFront(w *waiter) {
	w.prev, w.next, w.queued = nil, q.front, true
	if q.front == nil {
		q.back = w
	} else {
		q.front.prev = w
	}
	q.front = w
	q.length++
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.front = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.back = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.length--
}

// wait queues for a connection.
func (p *Pool) wait(ctx context.Context) (*resource, error) {
	w := p.waiters.Get().(*waiter)
	defer p.waiters.Put(w)
	w.since = time.Now()
	for again := false; ; again = true {
		if err := p.enqueue(w, again); err != nil {
			return nil, err
		}
		var d delivery
		select {
		case d = <-w.ready:
		case <-ctx.Done():
			return nil, p.leave(ctx, w)
		}
		if d.err != nil {
			return nil, d.err
		}
		if ok, err := p.fit(ctx, d.res, d.hot); err != nil {
			return nil, err
		} else if ok {
			p.waited.Add(int64(time.Since(w.since)))
			return d.res, nil
		}
	}
}

// enqueue puts a waiter into the queue, at the front if it has been served before but in vain.
func (p *Pool) enqueue(w *waiter, again bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if again {
		p.queue.pushFront(w)
	} else {
		p.counts.waits++
		p.queue.pushBack(w)
	}
	// From here on, those that give connections back look into the queue.
	p.attention.Add(1)
	p.pump()
	return nil
}

// leave takes a waiter whose ctx is done out of the queue.
func (p *Pool) leave(ctx context.Context, w *waiter) error {
	ended := canceled("acquire", ctx) // without mu, as a context is foreign code
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.canceled++
	if w.queued {
		p.remove(w)
		if failure := p.outage(); failure != nil {
			return fmt.Errorf("%w (%w)", ended, &plainError{failure})
		}
		return ended
	}
	// It was served at the same moment.
	if d := <-w.ready; d.res != nil {
		p.handOver(d.res, d.hot)
	}
	return ended
}

// remove takes a waiter out of the queue. Called with mu held.
func (p *Pool) remove(w *waiter) {
	p.queue.remove(w)
	p.attention.Add(-1)
}

// serve ends the wait of w. Called with mu held.
func (p *Pool) serve(w *waiter, d delivery) {
	p.remove(w)
	w.ready <- d
}

// pump serves waiters from idle connections, and starts dials for what is missing. Called with mu held, whenever one of
// the two has changed.
func (p *Pool) pump() {
	if p.closed {
		return
	}
	p.serveIdle()
	p.refuse()
	if !p.startDials() {
		p.poke() // the keeper knows when an endpoint's rest is over
	}
}

// serveIdle gives idle connections to waiters. Called with mu held.
func (p *Pool) serveIdle() {
	for w := p.queue.front; w != nil; w = p.queue.front {
		res := p.takeIdleHeld()
		if res == nil {
			break
		}
		p.serve(w, delivery{res: res})
	}
}
