// endpoint.go decides where the next connection is dialed, and when: balance, backoff, and a slow start after every loss.

package pool

import (
	"errors"
	"net"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/backoff"
)

// firstWindow is how many dials to an endpoint may be under way at once to begin with. Every success adds one, which
// doubles it from round to round. A lost connection brings it back to this number, a failed dial to one, so that a server
// that comes up again does not get all of a pool's dials at once.
const firstWindow = 4

// endpoint is a server of the pool. ledger.mu guards all but the URLs.
type endpoint struct {
	url      string
	shown    string // url without its secrets
	conns    int    // those that are idle, lent or closing
	idle     int    // those of them that are idle
	dialing  int
	window   int       // how many dials may be under way
	failures int       // in a row
	failedAt time.Time // the last of them
	restTill time.Time // no dial begins before then
	down     *failure  // of the last dial; nil if that succeeded
}

// failure is why a dial failed, or a connection ended as good as at once. It is not changed.
type failure struct {
	err      *DialError
	text     string        // err's, for which foreign code may be needed
	hopeless bool          // retrying does not help
	asked    time.Duration // for how long the server wants to be left alone
}

func newFailure(e *endpoint, err error) *failure {
	f := &failure{err: &DialError{URL: e.shown, Err: err}}
	f.text = f.err.Error()
	var dns *net.DNSError
	f.hopeless = wsd.Permanent(err) || errors.As(err, &dns) && dns.IsNotFound
	var handshake *wsd.HandshakeError
	if errors.As(err, &handshake) {
		f.asked = backoff.RetryAfter(handshake.Response)
	}
	return f
}

// connected accounts for a dial that has succeeded.
func (e *endpoint) connected(maxConns int) {
	e.dialing--
	e.conns++
	e.down = nil
	e.window = min(e.window+1, maxConns)
}

// lose accounts for a connection that has ended by itself.
func (e *endpoint) lose(l *link, end lesson, opts *Options) {
	e.window = min(e.window, firstWindow)
	switch {
	case l.proven:
	case end.worked:
		e.failures = 0
	case end.failure != nil:
		e.fail(l.opened, time.Now(), end.failure, opts)
	}
}

// fail rests the endpoint because of a failure of what was begun at begun.
func (e *endpoint) fail(begun, now time.Time, f *failure, opts *Options) {
	e.down = f
	e.window = 1
	// Of dials that were under way together, only the first failure counts.
	if e.failures == 0 || begun.After(e.failedAt) {
		e.failures++
		e.failedAt = now
		e.restTill = now.Add(backoff.Delay(e.failures, opts.MinBackoff, opts.MaxBackoff))
	}
	if f.asked > 0 {
		till := now.Add(f.asked + backoff.Delay(1, opts.MinBackoff, opts.MaxBackoff))
		if till.After(e.restTill) {
			e.restTill = till
		}
	}
}

// mayDial reports whether a dial may begin.
func (e *endpoint) mayDial(now time.Time) bool {
	return e.dialing < e.window && !now.Before(e.restTill)
}

// endpoints are all servers of the pool. ledger.mu guards the turns.
type endpoints struct {
	all      []*endpoint
	balance  Balance
	dialTurn int // under RoundRobin, the next endpoint to dial
	takeTurn int // and the next to take an idle connection of
}

// toDial returns the endpoint to dial next, nil if none may be dialed.
func (s *endpoints) toDial(now time.Time) *endpoint {
	return s.choose(&s.dialTurn,
		func(e *endpoint) bool { return e.mayDial(now) },
		func(e *endpoint) int { return e.conns + e.dialing })
}

// toTake returns the endpoint of which to take an idle connection, nil if none is idle.
func (s *endpoints) toTake() *endpoint {
	return s.choose(&s.takeTurn,
		func(e *endpoint) bool { return e.idle > 0 },
		func(e *endpoint) int { return e.conns - e.idle })
}

// choose returns the endpoint that Balance prefers among those for which can returns true, or nil if there is none.
func (s *endpoints) choose(turn *int, can func(*endpoint) bool, load func(*endpoint) int) *endpoint {
	var best *endpoint
	for i := range s.all {
		at := i
		if s.balance == RoundRobin {
			at = (*turn + i) % len(s.all)
		}
		e := s.all[at]
		switch {
		case !can(e):
		case s.balance == RoundRobin:
			*turn = at + 1
			return e
		case best == nil || load(e) < load(best):
			best = e
		}
	}
	return best
}

// outage returns the last failure if every endpoint is down, else nil.
func (s *endpoints) outage() error {
	last := s.all[0]
	for _, e := range s.all {
		if e.down == nil {
			return nil
		}
		if e.failedAt.After(last.failedAt) {
			last = e
		}
	}
	return last.down.err
}

// resting returns the last failure if every endpoint is down, and no dial is under way or may begin yet, else nil.
func (s *endpoints) resting(now time.Time) error {
	for _, e := range s.all {
		if e.dialing > 0 || !now.Before(e.restTill) {
			return nil
		}
	}
	return s.outage()
}

// hopeless reports whether waiting for any of the endpoints, all of which are down, is in vain.
func (s *endpoints) hopeless() bool {
	for _, e := range s.all {
		if !e.down.hopeless {
			return false
		}
	}
	return true
}
