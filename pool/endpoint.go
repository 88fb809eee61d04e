// endpoint.go decides where the next connection is dialed, and when: balance, backoff, and a slow start after every loss.

package pool

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/puddle/v2"
	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/backoff"
)

const (
	// firstWindow is how many dials to an endpoint may be under way at once to begin with. Every success adds one, which
	// doubles it from round to round. A lost connection brings it back to this number, a failed dial to one, so that a
	// server that comes up again does not get all of a pool's dials at once.
	firstWindow = 4
	// settled is how long a connection that has not been given back must have lived for its endpoint to count as working.
	settled = time.Second
)

// endpoint is a server of the pool. Pool.mu guards all but the URLs.
type endpoint struct {
	url      string
	shown    string // url without its secrets
	conns    int
	dialing  int
	window   int       // how many dials may be under way
	failures int       // in a row
	failedAt time.Time // the last of them
	restTill time.Time // no dial begins before then
	err      error     // the last failure
	down     bool      // the last dial failed
	hopeless bool      // in a way that retrying does not help
	idle     int       // scratch of takeBalanced
}

// choose returns the endpoint that Balance prefers among those for which can returns true, or nil if there is none.
// Called with mu held.
func (p *Pool) choose(turn *int, can func(*endpoint) bool, load func(*endpoint) int) *endpoint {
	if p.opts.Balance == RoundRobin {
		for i := range p.endpoints {
			at := (*turn + i) % len(p.endpoints)
			if can(p.endpoints[at]) {
				*turn = at + 1
				return p.endpoints[at]
			}
		}
		return nil
	}
	var best *endpoint
	for _, e := range p.endpoints {
		if can(e) && (best == nil || load(e) < load(best)) {
			best = e
		}
	}
	return best
}

// startDials begins as many dials as there are waiters without one and idle connections missing, within MaxConns and the
// windows of the endpoints. It reports false if endpoints kept some from beginning. Called with mu held.
func (p *Pool) startDials() bool {
	missing := p.queue.length + p.short() - p.dialing
	if missing <= 0 || p.size >= p.opts.MaxConns {
		return true
	}
	now := time.Now()
	for ; missing > 0 && p.size < p.opts.MaxConns; missing-- {
		e := p.choose(&p.dialTurn,
			func(e *endpoint) bool { return e.dialing < e.window && !now.Before(e.restTill) },
			func(e *endpoint) int { return e.conns + e.dialing },
		)
		if e == nil {
			return false
		}
		p.size++
		p.dialing++
		e.dialing++
		p.counts.dials++
		p.tasks.Go(func() { p.dial(e) })
	}
	return true
}

// short returns how many idle connections are missing.
func (p *Pool) short() int {
	if p.opts.MinIdle == 0 {
		return 0
	}
	return max(0, p.opts.MinIdle-int(p.idle.Load()))
}

// endpointKey is the key under which a dial's context holds its endpoint.
type endpointKey struct{}

// errNotDialed is for resources that puddle would make on its own.
var errNotDialed = errors.New("wsd: pool: not asked for")

// dial makes a connection, which goes to the first waiter.
func (p *Pool) dial(e *endpoint) {
	begun := time.Now()
	// This context need not be canceled: construct ends with the pool.
	err := p.puddle.CreateResource(context.WithValue(context.Background(), endpointKey{}, e))
	if err == nil {
		p.idle.Add(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	e.dialing--
	switch {
	case err == nil && p.closed:
		p.closeIdle()
	case err == nil:
		p.pump()
	case errors.Is(err, puddle.ErrNotAvailable):
		// All of puddle's permits were in use for a moment, one of them by a TryAcquire that found nothing. The dial is
		// tried again.
		p.counts.dials--
		p.shrink()
	case p.closed:
		p.shrink()
	default:
		p.counts.dialErrors++
		p.fail(e, begun, err)
		p.shrink()
	}
}

// construct makes a resource for puddle: it dials, and tells the pool.
func (p *Pool) construct(ctx context.Context) (*link, error) {
	e, ok := ctx.Value(endpointKey{}).(*endpoint)
	if !ok {
		return nil, errNotDialed
	}
	conn, err := p.connect(e)
	if err != nil {
		return nil, err
	}
	stats := conn.Stats()
	l := &link{conn: conn, endpoint: e, opened: time.Now(), sent: stats.MessagesSent, received: stats.MessagesReceived}
	if life := p.opts.MaxLifetime; life > 0 {
		l.retireAt = l.opened.Add(life - backoff.Delay(1, life/10, life))
	}
	// This comes before puddle has the link, for then anyone may have it.
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		conn.CloseNow()
		return nil, ErrClosed
	}
	defer p.mu.Unlock()
	p.links[l] = struct{}{}
	e.conns++
	e.down = false
	e.window = min(e.window+1, p.opts.MaxConns)
	context.AfterFunc(conn.Context(), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.noteEnd(l)
	})
	p.poke() // the keeper needs to know when to retire it
	return l, nil
}

// connect makes a connection that is ready for its first user.
func (p *Pool) connect(e *endpoint) (*wsd.Conn, error) {
	ctx, cancel := p.ctx, context.CancelFunc(func() {})
	if p.opts.DialTimeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, p.opts.DialTimeout)
	}
	defer cancel()
	conn, _, err := wsd.Dial(ctx, e.url, &p.opts.DialOptions)
	if err != nil {
		return nil, err
	}
	if p.opts.Setup != nil {
		if err := p.opts.Setup(ctx, conn); err != nil {
			conn.CloseNow()
			return nil, err
		}
	}
	if conn.State() != wsd.StateOpen {
		conn.CloseNow()
		return nil, conn.CloseEvent().Err
	}
	return conn, nil
}

// noteEnd accounts for the end of a connection that the pool has not closed. Called with mu held.
func (p *Pool) noteEnd(l *link) {
	if l.counted || l.retiring {
		return
	}
	l.counted = true
	p.counts.lost++
	e := l.endpoint
	e.window = min(e.window, firstWindow)
	switch {
	case l.proven.Load():
	case time.Since(l.opened) >= settled, l.answered():
		e.failures = 0
	default:
		// It was accepted and dropped, which is no better than refused: without a rest the pool would dial in a loop.
		cause := l.conn.CloseEvent().Err
		if cause == nil {
			cause = wsd.ErrClosed // it is closing, and has no cause yet
		}
		if !errors.Is(cause, net.ErrClosed) { // that is the cause of a CloseNow by its user
			p.fail(e, l.opened, cause)
		}
	}
	p.poke() // its record is to be removed, and MinIdle filled
}

// answered reports whether the connection was closed after it had done its work: its user has sent something and received
// something, and the peer gave no other reason. Every dial that follows is due to a user who received something, so this
// is not a loop.
func (l *link) answered() bool {
	var closed *wsd.CloseError
	if !errors.As(l.conn.CloseEvent().Err, &closed) || closed.Code != wsd.StatusNormalClosure && closed.Code != wsd.StatusNoStatus {
		return false
	}
	stats := l.conn.Stats()
	return stats.MessagesSent > l.sent && stats.MessagesReceived > l.received
}

// fail rests an endpoint. begun is when the failed dial began. Called with mu held.
func (p *Pool) fail(e *endpoint, begun time.Time, err error) {
	now := time.Now()
	e.down = true
	e.window = 1
	e.err = &DialError{URL: e.shown, Err: err}
	e.hopeless = hopeless(err)
	// Of dials that were under way together, only the first failure counts.
	if e.failures == 0 || begun.After(e.failedAt) {
		e.failures++
		e.failedAt = now
		e.restTill = now.Add(backoff.Delay(e.failures, p.opts.MinBackoff, p.opts.MaxBackoff))
	}
	var handshake *wsd.HandshakeError
	if errors.As(err, &handshake) {
		if asked := backoff.RetryAfter(handshake.Response); asked > 0 {
			till := now.Add(asked + backoff.Delay(1, p.opts.MinBackoff, p.opts.MaxBackoff))
			if till.After(e.restTill) {
				e.restTill = till
			}
		}
	}
	p.refuse()
	p.poke()
}

// hopeless reports whether it is in vain for an Acquire to wait.
func hopeless(err error) bool {
	var dns *net.DNSError
	return wsd.Permanent(err) || errors.As(err, &dns) && dns.IsNotFound
}

// outage returns the last failure if every endpoint is down, else nil. Called with mu held.
func (p *Pool) outage() error {
	var last *endpoint
	for _, e := range p.endpoints {
		if !e.down {
			return nil
		}
		if last == nil || e.failedAt.After(last.failedAt) {
			last = e
		}
	}
	return last.err
}

// resting reports whether there is room for a connection, but every endpoint is down, and no dial is under way or may
// begin yet. Called with mu held.
func (p *Pool) resting(now time.Time) bool {
	if p.size >= p.opts.MaxConns {
		return false
	}
	for _, e := range p.endpoints {
		if !e.down || e.dialing > 0 || !now.Before(e.restTill) {
			return false
		}
	}
	return true
}

// refuse gives those that have waited for too long the error of an outage, unless a dial may still change that. Called
// with mu held.
func (p *Pool) refuse() {
	w := p.queue.front
	if w == nil {
		return
	}
	now := time.Now()
	if !p.resting(now) {
		return
	}
	failure := p.outage()
	inVain := len(p.links) == 0
	for _, e := range p.endpoints {
		inVain = inVain && e.hopeless
	}
	for ; w != nil && (inVain || now.Sub(w.since) >= p.opts.RetryFor); w = p.queue.front {
		p.counts.refused++
		p.serve(w, delivery{err: failure})
	}
}
