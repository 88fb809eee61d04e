// keeper.go is the pool's one goroutine: it does what a time or an end of a connection asks for, when nobody else does.

package pool

import (
	"time"

	"github.com/seed62836080/wsd"
)

// poke has the keeper look.
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

// tend closes what is over its time, fills up to MinIdle, serves and refuses those who wait. It returns when it is to run
// again, zero for not before it is told. Called with mu held.
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
		// What becomes idle from now on is not over its time before that.
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

// tendIdle closes idle connections that have ended, are to be retired, or were idle for too long. It returns how long
// the longest idle of the others, MinIdle excepted, has been so.
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
	// Longest idle are those at the end.
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
	// Last, for closing one may look for idle ones.
	for _, res := range doomed {
		p.retire(res, politely)
	}
	return longest
}
