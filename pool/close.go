// close.go closes connections and pools.

package pool

import (
	"context"

	"github.com/seed62836080/wsd"
)

// The ways to close a connection.
const (
	politely = true  // with the closing handshake
	abruptly = false // without, as that may never complete
)

// discard closes a connection that must not be handed out again.
func (p *Pool) discard(res *resource) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if res.Value().conn.State() == wsd.StateOpen {
		p.counts.discarded++
	}
	p.retire(res, abruptly)
}

// retire closes a connection and then frees its place. Called with mu held.
func (p *Pool) retire(res *resource, polite bool) {
	l := res.Value()
	if l.conn.State() != wsd.StateOpen {
		p.noteEnd(l)
	}
	l.retiring = true
	select {
	case <-l.conn.Closed():
		p.forget(res)
		return
	case <-p.ended: // it is being closed
		p.forget(res)
		return
	default:
	}
	p.closing++
	p.tasks.Go(func() {
		if polite {
			_ = l.conn.Close(wsd.StatusNormalClosure, "")
		} else {
			l.conn.CloseNow()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closing--
		p.forget(res)
	})
}

// forget frees the place of a connection that has ended. Called with mu held.
func (p *Pool) forget(res *resource) {
	l := res.Value()
	delete(p.links, l)
	l.endpoint.conns--
	// Of puddle's ways to give up a resource, only this one is done when it returns.
	res.Hijack()
	p.shrink()
}

// shrink counts one place less in use. Called with mu held.
func (p *Pool) shrink() {
	p.size--
	if p.closed && p.size == 0 {
		close(p.empty)
	}
	p.pump()
}

// Close closes the pool. Calls to Acquire, including those that wait, return ErrClosed at once. All connections are
// closed with StatusNormalClosure, including those that are handed out, whose users see them end. Close returns nil when
// all have ended, which takes wsd.Config.CloseTimeout at most; nothing is left running. Connections that are handed out
// may be released later, or not at all. Calling Close again, or during Shutdown, is fine.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.shut()
	p.end(func(conn *wsd.Conn) { _ = conn.Close(wsd.StatusNormalClosure, "") })
	p.mu.Unlock()
	p.tasks.Wait()
	return nil
}

// Shutdown closes the pool as Close does, but waits for connections that are handed out to be released before it closes
// them. If ctx is done first, it ends the rest without closing handshakes and returns an error matching ctx's cause. If
// nothing is left to wait for it returns nil, whatever ctx says. Nothing is left running in either case.
func (p *Pool) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return wsd.ErrNilContext
	}
	p.mu.Lock()
	p.shut()
	p.mu.Unlock()
	var err error
	select {
	case <-p.empty:
	case <-p.ended: // a Close has come in between
	case <-ctx.Done():
		select {
		case <-p.empty:
		case <-p.ended:
		default:
			err = canceled("pool shutdown", ctx)
		}
	}
	p.mu.Lock()
	p.end((*wsd.Conn).CloseNow)
	p.mu.Unlock()
	p.tasks.Wait()
	return err
}

// end closes what is still there and ends the keeper. Called with mu held, in a closed pool.
func (p *Pool) end(closeConn func(*wsd.Conn)) {
	if p.over() {
		return
	}
	for l := range p.links {
		l.retiring = true
		p.tasks.Go(func() { closeConn(l.conn) })
	}
	close(p.ended)
}

// over reports whether end has been called: whatever is left is being closed, and no more tasks may begin.
func (p *Pool) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// shut stops handing out connections. Called with mu held.
func (p *Pool) shut() {
	if p.closed {
		return
	}
	p.closed = true
	p.attention.Add(1)
	p.cancel()
	for w := p.queue.front; w != nil; w = p.queue.front {
		p.serve(w, delivery{err: ErrClosed})
	}
	if p.size == 0 {
		close(p.empty)
	}
	p.closeIdle()
}

// closeIdle closes what is idle in a closed pool. Called with mu held.
func (p *Pool) closeIdle() {
	all := p.puddle.AcquireAllIdle()
	p.idle.Add(-int32(len(all)))
	for _, res := range all {
		p.retire(res, politely)
	}
}
