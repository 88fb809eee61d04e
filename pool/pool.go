// Package pool keeps a client's WebSocket connections open and lends each to one user at a time.
//
// The usual pattern is request and answer:
//
//	p, err := pool.New("wss://example.com/rpc", &pool.Options{MaxConns: 4})
//	...
//	err = p.Do(ctx, func(conn *pool.Conn) error {
//		if err := conn.Send(ctx, request); err != nil {
//			return err
//		}
//		answer, err = conn.Receive(ctx)
//		return err
//	})
//
// If the function fails or ctx has ended, Do closes the connection instead of keeping it, so that a late answer is never
// taken for the answer to the next request. This requires a protocol in which each request has one answer and nothing
// comes unasked. If more comes, read it before the function returns, or use wsd.Redial.
//
// To fan work out over all connections, use as many goroutines as there are connections, each with its own:
//
//	for range maxConns {
//		group.Go(func() error {
//			return p.Do(ctx, func(conn *pool.Conn) error {
//				for job := range jobs { ... }
//			})
//		})
//	}
package pool

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/done"
)

// Pool is a set of connections to one server, or to several equal ones. It is made by New and safe for concurrent use.
type Pool struct {
	opts     Options
	ledger   *ledger
	ctx      context.Context // of the dials: ended by Close and Shutdown
	cancel   context.CancelFunc
	acquired atomic.Uint64
	waited   atomic.Int64 // nanoseconds, of those that were served
}

// New returns a pool of connections to url, a ws or wss URL as for wsd.Dial. It dials nothing yet, except for MinIdle in
// the background. A nil opts means the defaults. The error is an *OptionError.
func New(url string, opts *Options) (*Pool, error) {
	p := &Pool{opts: Options{MaxConns: defaultMaxConns}}
	if opts != nil {
		p.opts = *opts
	}
	if err := p.opts.settle(); err != nil {
		return nil, err
	}
	servers := endpoints{balance: p.opts.Balance}
	for i, raw := range append([]string{url}, p.opts.MoreURLs...) {
		option := "url"
		if i > 0 {
			option = "MoreURLs"
		}
		shown, err := checkURL(option, raw)
		if err != nil {
			return nil, err
		}
		servers.all = append(servers.all, &endpoint{url: raw, shown: shown, window: firstWindow})
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.ledger = newLedger(&p.opts, servers, p.dial)
	p.ledger.start()
	return p, nil
}

// Acquire hands out an open connection: an idle one, the most recently used first; a new one while there are fewer than
// MaxConns; or else the next one released, first come, first served. The caller must Release or Destroy it.
//
// Acquire blocks until it has a connection or ctx is done; a dial that it has begun then serves another caller. While all
// endpoints fail, it waits for their backoff. It returns a *DialError when it has waited for RetryFor, or at once if
// retries cannot help: wsd.Permanent says so, or the host does not exist.
func (p *Pool) Acquire(ctx context.Context) (*Conn, error) {
	if ctx == nil {
		return nil, wsd.ErrNilContext
	}
	if ctx.Err() != nil {
		return nil, done.Canceled("acquire", ctx)
	}
	var since time.Time // zero until it waits
	var unusable *link  // what it was given last
	for {
		l, w, err := p.ledger.take(since, unusable != nil)
		if unusable != nil {
			// Only now, so that no later caller gets what comes into its place.
			p.ledger.discard(unusable)
		}
		if w != nil {
			since = w.since
			l, err = p.ledger.await(ctx, w)
		}
		if err != nil {
			return nil, err
		}
		switch usable, err := p.usable(ctx, l); {
		case err != nil:
			p.ledger.putBack(l) // its next user checks it again
			return nil, err
		case usable:
			if !since.IsZero() {
				p.waited.Add(int64(time.Since(since)))
			}
			p.acquired.Add(1)
			l.used = true
			return &Conn{pool: p, link: l}, nil
		}
		unusable = l
	}
}

// Do calls f with a connection, between an Acquire and a Release. If f fails or panics, or ctx is done by then, the
// connection is destroyed instead, as an answer may be under way. conn is f's until f returns. Do returns Acquire's error
// or f's.
func (p *Pool) Do(ctx context.Context, f func(conn *Conn) error) error {
	c, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	good := false
	defer func() {
		if good {
			_ = c.Release()
		} else {
			_ = c.Destroy()
		}
	}()
	err = f(c)
	good = err == nil && ctx.Err() == nil
	return err
}

// Close closes the pool. Calls to Acquire, including those that wait, return ErrClosed at once. All connections are
// closed with StatusNormalClosure, including those that are handed out, whose users see them end. Close returns nil when
// all have ended, which takes wsd.Config.CloseTimeout at most; nothing is left running. Connections that are handed out
// may be released later, or not at all. Calling Close again, or during Shutdown, is fine.
func (p *Pool) Close() error {
	p.ledger.stop()
	p.cancel()
	p.ledger.closeAll(func(conn *wsd.Conn) { _ = conn.Close(wsd.StatusNormalClosure, "") })
	return nil
}

// Shutdown closes the pool as Close does, but waits for connections that are handed out to be released before it closes
// them. If ctx is done first, it ends the rest without closing handshakes and returns an error matching ctx's cause. If
// nothing is left to wait for it returns nil, whatever ctx says. Nothing is left running in either case.
func (p *Pool) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return wsd.ErrNilContext
	}
	p.ledger.stop()
	p.cancel()
	err := p.ledger.awaitEmpty(ctx)
	p.ledger.closeAll((*wsd.Conn).CloseNow)
	return err
}

// usable reports whether a connection can be handed out. If ctx ends before that is known, it returns an error.
func (p *Pool) usable(ctx context.Context, l *link) (bool, error) {
	if !l.reusable() {
		return false, nil
	}
	if p.opts.CheckAfter == 0 || time.Since(l.idleSince) < p.opts.CheckAfter {
		return true, nil
	}
	check, cancel := limit(ctx, p.opts.CheckTimeout)
	defer cancel()
	switch _, err := l.conn.Ping(check, nil); {
	case err == nil, errors.Is(err, errors.ErrUnsupported): // a browser looks after its connections itself
		return l.reusable(), nil // a late answer may have arrived ahead of the pong
	case ctx.Err() != nil:
		return false, done.Canceled("acquire", ctx)
	}
	p.ledger.checkFailed()
	return false, nil
}

// limit returns ctx bounded by timeout, where 0 is no bound.
func limit(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// dial makes a connection to e and tells the ledger.
func (p *Pool) dial(e *endpoint) {
	begun := time.Now()
	conn, err := p.connect(e)
	if err != nil {
		p.ledger.dialFailed(e, begun, newFailure(e, err))
		return
	}
	l := newLink(conn, e, &p.opts)
	p.ledger.add(l)
	context.AfterFunc(conn.Context(), func() { p.ledger.connEnded(l) })
}

// connect makes a connection that is ready for its first user.
func (p *Pool) connect(e *endpoint) (*wsd.Conn, error) {
	ctx, cancel := limit(p.ctx, p.opts.DialTimeout)
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
