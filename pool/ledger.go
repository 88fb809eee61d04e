// ledger.go is the bookkeeping of a pool: where each connection is, who waits for one, what is dialed and what is closed.

package pool

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/done"
)

// ledger keeps account of the connections of a pool, the dials under way and the calls that wait. Each of its methods
// takes the lock and releases it, except for the parts at the end of this file. Under the lock nothing waits, and no
// foreign code runs, such as contexts and errors may have: dials and closings have goroutines of their own.
type ledger struct {
	opts   *Options        // only read
	dial   func(*endpoint) // ends with a call of add or dialFailed
	timer  *time.Timer     // makes keep sweep at sweepAt
	empty  chan struct{}   // closed by freed: the pool lends nothing more, and all places are free
	cutOff chan struct{}   // closed by closeAll
	tasks  sync.WaitGroup  // keep, dials and closings; once cutOff is closed, only a task begins another

	// waiters holds used ones, whose channels are empty. It is not a global, because channels must not leave a synctest
	// bubble.
	waiters sync.Pool

	mu        sync.Mutex // guards all below, and places and endpoints
	endpoints endpoints
	links     map[*link]struct{} // all but those that are gone
	idle      []*link            // the longest idle first
	line      line               // empty unless idle is
	places    [gone + 1]int      // how many links are in each, and under dialing how many dials are under way
	sweepAt   time.Time          // zero for not before something changes
	phase     phase
	counts    counts
}

// phase is how far the end of a pool has come.
type phase uint8

const (
	running  phase = iota
	stopping       // nothing more is lent, and what is lent is waited for
	over           // all connections are being closed, or have been
)

// place is where a link is.
type place uint8

const (
	dialing place = iota
	idle
	lent // or being checked, to be lent
	closing
	gone // has given up its place
)

// The ways to close a connection.
const (
	politely = true  // with the closing handshake
	abruptly = false // without, as that may never complete
)

func newLedger(opts *Options, endpoints endpoints, dial func(*endpoint)) *ledger {
	b := &ledger{
		opts:      opts,
		dial:      dial,
		timer:     time.NewTimer(time.Hour),
		empty:     make(chan struct{}),
		cutOff:    make(chan struct{}),
		endpoints: endpoints,
		links:     make(map[*link]struct{}),
	}
	b.timer.Stop()
	b.waiters.New = func() any { return &waiter{ready: make(chan delivery, 1)} }
	b.line.init()
	return b
}

// start dials for MinIdle. From then on dial may be called.
func (b *ledger) start() {
	b.tasks.Go(b.keep)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialOrRefuse(time.Now())
}

// take lends the idle connection that Balance prefers, the one used last of its endpoint. If none is idle it returns a
// waiter that is in line instead, for await. since is when the caller began to wait, zero if it has not. again says that
// what it was given before could not be used: then it is the next to be served.
func (b *ledger) take(since time.Time, again bool) (*link, *waiter, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase != running {
		return nil, nil, ErrClosed
	}
	if at := len(b.idle) - 1; at >= 0 {
		for e := b.endpoints.toTake(); b.idle[at].endpoint != e; {
			at--
		}
		l := b.idle[at]
		b.idle = slices.Delete(b.idle, at, at+1)
		b.move(l, lent)
		if len(b.idle) < b.opts.MinIdle {
			b.dialOrRefuse(time.Now())
		}
		return l, nil, nil
	}
	now := time.Now()
	w := b.waiters.Get().(*waiter)
	w.since = since
	if since.IsZero() {
		w.since = now
		b.counts.waits++
	}
	if again {
		b.line.addFirst(w)
	} else {
		b.line.addLast(w)
	}
	b.dialOrRefuse(now)
	return nil, w, nil
}

// await waits in the line until w is served.
func (b *ledger) await(ctx context.Context, w *waiter) (*link, error) {
	defer b.waiters.Put(w)
	select {
	case served := <-w.ready:
		return served.link, served.err
	case <-ctx.Done():
	}
	outage := b.leave(w)
	err := done.Canceled("acquire", ctx)
	if outage != nil {
		return nil, fmt.Errorf("%w (%w)", err, done.Within(outage))
	}
	return nil, err
}

// leave takes a waiter that gives up out of the line. It returns the error of the endpoints, if that is what w waited for.
func (b *ledger) leave(w *waiter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.canceled++
	if w.inLine() {
		b.line.remove(w)
		return b.endpoints.outage()
	}
	// It has been served at the same moment.
	if served := <-w.ready; served.link != nil {
		b.pass(served.link, time.Now())
	}
	return nil
}

// giveBack takes back a connection that its user has left in good order.
func (b *ledger) giveBack(l *link) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	l.idleSince = now
	if !l.proven {
		l.proven = true
		l.endpoint.failures = 0
	}
	b.pass(l, now)
}

// putBack takes back a connection that has not been used: its idle time continues.
func (b *ledger) putBack(l *link) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pass(l, now)
}

// add makes a connection known that has been dialed.
func (b *ledger) add(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.links[l] = struct{}{}
	l.endpoint.connected(b.opts.MaxConns)
	b.pass(l, l.idleSince)
	b.dialOrRefuse(l.idleSince) // its endpoint allows more dials now
}

// dialFailed ends a dial that was begun at begun.
func (b *ledger) dialFailed(e *endpoint, begun time.Time, f *failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.places[dialing]--
	e.dialing--
	if b.phase == running { // else the pool itself has ended the dial
		b.counts.dialErrors++
		e.fail(begun, time.Now(), f, b.opts)
	}
	b.freed()
}

// checkFailed counts a connection that has not answered a ping.
func (b *ledger) checkFailed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.checksFailed++
}

// discard closes a lent connection that must not be lent again.
func (b *ledger) discard(l *link) {
	ended := l.conn.State() != wsd.StateOpen
	var end lesson
	if ended {
		end = l.learnFromEnd()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if ended {
		b.lose(l, end)
	} else {
		b.counts.discarded++
	}
	b.close(l, abruptly)
}

// connEnded learns that a connection has ended, whoever has ended it.
func (b *ledger) connEnded(l *link) {
	end := l.learnFromEnd()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lose(l, end)
	if at := slices.Index(b.idle, l); at >= 0 {
		b.idle = slices.Delete(b.idle, at, at+1)
		b.forget(l)
	}
}

// keep sweeps whenever a time has come, until the pool is over.
func (b *ledger) keep() {
	defer b.timer.Stop()
	for {
		select {
		case <-b.timer.C:
			b.sweep()
		case <-b.cutOff:
			return
		}
	}
}

// sweep closes idle connections whose time is up, and lets dials begin and waiters be refused whose time has come.
func (b *ledger) sweep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase != running {
		return
	}
	now := time.Now()
	b.sweepAt = time.Time{}
	b.closeIdle(&b.counts.expired, func(l *link) bool { return l.expired(now) })
	spare := len(b.idle) - b.opts.MinIdle
	b.closeIdle(&b.counts.idleTooLong, func(l *link) bool {
		tooLong := spare > 0 && b.opts.MaxIdleTime > 0 && now.Sub(l.idleSince) >= b.opts.MaxIdleTime
		if tooLong {
			spare--
		}
		return tooLong
	})
	for _, l := range b.idle {
		b.sweepBy(l.retireAt)
	}
	b.sweepForIdleTime()
	b.dialOrRefuse(now)
}

// stop makes the pool lend nothing more. It closes what is idle, and what is lent as soon as that comes back.
func (b *ledger) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase != running {
		return
	}
	b.phase = stopping
	for b.line.first() != nil {
		b.line.serve(delivery{err: ErrClosed})
	}
	var uncounted uint64
	b.closeIdle(&uncounted, func(*link) bool { return true })
	b.freed()
}

// awaitEmpty waits until a pool that has been stopped has no connections, or is over, or ctx is done, whose error it
// returns.
func (b *ledger) awaitEmpty(ctx context.Context) error {
	select {
	case <-b.empty:
	case <-b.cutOff:
	case <-ctx.Done():
		select {
		case <-b.empty:
		case <-b.cutOff:
		default:
			return done.Canceled("pool shutdown", ctx)
		}
	}
	return nil
}

// closeAll closes all connections of a pool that has been stopped, and waits until they have ended and no task is left.
func (b *ledger) closeAll(closeConn func(*wsd.Conn)) {
	b.mu.Lock()
	if b.phase != over {
		b.phase = over
		for l := range b.links {
			b.tasks.Go(func() { closeConn(l.conn) })
		}
		close(b.cutOff)
	}
	b.mu.Unlock()
	b.tasks.Wait()
}

// stats returns all of Stats but what the ledger does not count.
func (b *ledger) stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{
		MaxConns:     b.opts.MaxConns,
		InUse:        b.places[lent],
		Idle:         b.places[idle],
		Dialing:      b.places[dialing],
		Closing:      b.places[closing],
		Waiting:      b.line.length,
		Waits:        b.counts.waits,
		Canceled:     b.counts.canceled,
		Refused:      b.counts.refused,
		Dials:        b.counts.dials,
		DialErrors:   b.counts.dialErrors,
		Lost:         b.counts.lost,
		Discarded:    b.counts.discarded,
		ChecksFailed: b.counts.checksFailed,
		Expired:      b.counts.expired,
		IdleTooLong:  b.counts.idleTooLong,
	}
	now := time.Now()
	for _, e := range b.endpoints.all {
		stats := EndpointStats{URL: e.shown, Conns: e.conns, Dialing: e.dialing, Failures: e.failures}
		stats.Resting = max(0, e.restTill.Sub(now))
		if e.down != nil {
			stats.LastError = e.down.text
		}
		s.Endpoints = append(s.Endpoints, stats)
	}
	return s
}

// The rest are parts of the methods above, which hold the lock.

// occupied returns how many places are occupied, MaxConns at most.
func (b *ledger) occupied() int {
	return b.places[dialing] + b.places[idle] + b.places[lent] + b.places[closing]
}

func (b *ledger) move(l *link, to place) {
	b.places[l.place]--
	b.places[to]++
	if l.place == idle {
		l.endpoint.idle--
	}
	if to == idle {
		l.endpoint.idle++
	}
	l.place = to
}

// pass gives a connection to the longest waiter, or adds it to the idle ones, if it can still be lent.
func (b *ledger) pass(l *link, now time.Time) {
	switch {
	case l.lost:
		b.forget(l)
	case b.phase != running:
		b.close(l, b.phase == stopping)
	case l.expired(now):
		b.counts.expired++
		b.close(l, politely)
	case b.line.first() != nil:
		b.move(l, lent)
		b.line.serve(delivery{link: l})
	default:
		b.move(l, idle)
		at := len(b.idle)
		for at > 0 && b.idle[at-1].idleSince.After(l.idleSince) {
			at--
		}
		b.idle = slices.Insert(b.idle, at, l)
		b.sweepBy(l.retireAt)
		b.sweepForIdleTime()
	}
}

// closeIdle closes and counts the idle connections that are due.
func (b *ledger) closeIdle(count *uint64, due func(*link) bool) {
	b.idle = slices.DeleteFunc(b.idle, func(l *link) bool {
		if !due(l) {
			return false
		}
		*count++
		b.close(l, politely)
		return true
	})
}

// close closes a connection, and frees its place when it has ended.
func (b *ledger) close(l *link, polite bool) {
	if b.phase == over && l.place == lent {
		b.forget(l) // closeAll closes it
		return
	}
	b.move(l, closing)
	b.tasks.Go(func() {
		if polite {
			_ = l.conn.Close(wsd.StatusNormalClosure, "")
		} else {
			l.conn.CloseNow()
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.forget(l)
	})
}

// lose counts a connection that neither the pool nor its user has ended.
func (b *ledger) lose(l *link, end lesson) {
	if l.lost || l.place >= closing || b.phase == over {
		return
	}
	l.lost = true
	b.counts.lost++
	l.endpoint.lose(l, end, b.opts)
	b.dialOrRefuse(time.Now())
}

// forget frees the place of a connection that has ended.
func (b *ledger) forget(l *link) {
	b.move(l, gone)
	delete(b.links, l)
	l.endpoint.conns--
	b.freed()
}

// freed uses a place that is free.
func (b *ledger) freed() {
	b.dialOrRefuse(time.Now())
	if b.phase != running && b.occupied() == 0 {
		close(b.empty)
	}
}

// dialOrRefuse begins as many dials as there are waiters without one and idle connections missing, within MaxConns and
// what the endpoints allow. Waiters for whom none can begin are refused once they have waited for long enough.
func (b *ledger) dialOrRefuse(now time.Time) {
	if b.phase != running {
		return
	}
	missing := b.line.length + max(0, b.opts.MinIdle-len(b.idle)) - b.places[dialing]
	for ; missing > 0 && b.occupied() < b.opts.MaxConns; missing-- {
		e := b.endpoints.toDial(now)
		if e == nil {
			break
		}
		b.places[dialing]++
		e.dialing++
		b.counts.dials++
		b.tasks.Go(func() { b.dial(e) })
	}
	if missing <= 0 || b.occupied() >= b.opts.MaxConns {
		return
	}
	if outage := b.endpoints.resting(now); outage != nil {
		inVain := len(b.links) == 0 && b.endpoints.hopeless()
		for first := b.line.first(); first != nil; first = b.line.first() {
			if !inVain && now.Sub(first.since) < b.opts.RetryFor {
				b.sweepBy(first.since.Add(b.opts.RetryFor))
				break
			}
			b.counts.refused++
			b.line.serve(delivery{err: outage})
		}
	}
	for _, e := range b.endpoints.all {
		if now.Before(e.restTill) {
			b.sweepBy(e.restTill)
		}
	}
}

// sweepForIdleTime makes keep sweep when the longest idle connection has been idle for too long.
func (b *ledger) sweepForIdleTime() {
	if b.opts.MaxIdleTime > 0 && len(b.idle) > b.opts.MinIdle {
		b.sweepBy(b.idle[0].idleSince.Add(b.opts.MaxIdleTime))
	}
}

// sweepBy makes keep sweep at t at the latest; zero is never.
func (b *ledger) sweepBy(t time.Time) {
	if !t.IsZero() && (b.sweepAt.IsZero() || t.Before(b.sweepAt)) {
		b.sweepAt = t
		b.timer.Reset(time.Until(t))
	}
}
