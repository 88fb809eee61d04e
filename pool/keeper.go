// keeper.go is the pool's one permanent goroutine: it acts when a time has come or a connection has ended and nobody else
// does.

package pool

import (
	"time"

	"github.com/seed62836080/wsd"
)

// poke makes the keeper look.
func (p *Pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// keep runs until the pool has ended.
func (p *Pool) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.ended:
			return
		}
		p.mu.Lock()
		next := p.tend()
		p.mu.Unlock()
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// tend closes connections whose time is up, fills up to MinIdle, and serves and refuses waiters. It returns when to run
// again; zero means not before a poke. Called with mu held.
func (p *Pool) tend() time.Time {
	if p.closed {
		return time.Time{}
	}
	now := time.Now()
	var next time.Time
	at := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for l := range p.links {
		switch {
		case l.retireAt.IsZero() || l.expired.Load():
		case now.Before(l.retireAt):
			at(l.retireAt)
		default:
			l.expired.Store(true)
		}
	}
	if idle := p.tendIdle(); len(p.links) > 0 && p.opts.MaxIdleTime > 0 {
		// Connections that become idle from now on are not due before that.
		at(now.Add(p.opts.MaxIdleTime - idle))
	}
	p.serveIdle()
	p.refuse()
	p.startDials()
	if w := p.queue.front; w != nil && p.resting(now) {
		at(w.since.Add(p.opts.RetryFor))
	}
	if (p.queue.length > 0 || p.short() > 0) && p.size < p.opts.MaxConns {
		for _, e := range p.endpoints {
			if now.Before(e.restTill) {
				at(e.restTill)
			}
		}
	}
	return next
}

// tendIdle closes idle connections that have ended, are to be retired, or have been idle for too long. Of the others,
// except for MinIdle of them, it returns how long the longest idle one has been idle.
func (p *Pool) tendIdle() (longest time.Duration) {
	all := p.puddle.AcquireAllIdle()
	p.idle.Add(-int32(len(all)))
	var doomed []*resource
	drop := func(i int, count *uint64) {
		*count++
		doomed, all[i] = append(doomed, all[i]), nil
	}
	left := len(all)
	for i, res := range all {
		var lostIsCounted uint64
		switch l := res.Value(); {
		case l.conn.State() != wsd.StateOpen:
			drop(i, &lostIsCounted)
		case !l.reusable():
			drop(i, &p.counts.discarded)
		case l.expired.Load():
			drop(i, &p.counts.expired)
		default:
			continue
		}
		left--
	}
	// The longest idle are at the end.
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] == nil || left <= p.opts.MinIdle || p.opts.MaxIdleTime == 0 {
			continue
		}
		if idle := all[i].IdleDuration(); idle >= p.opts.MaxIdleTime {
			drop(i, &p.counts.idleTooLong)
			left--
		} else {
			longest = max(longest, idle)
		}
	}
	p.putIdle(all)
	// This comes last, as closing one may look for idle ones.
	for _, res := range doomed {
		p.retire(res, politely)
	}
	return longest
}
