// Package pool keeps a client's WebSocket connections open and lends each to one user at a time.
//
// The usual pattern is request and answer:
//
//	p, err := pool.New("wss://example.com/rpc", &pool.Options{MaxConns: 4})
//	...
//	err = p.Do(ctx, func(conn *wsd.Conn) error {
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
//			return p.Do(ctx, func(conn *wsd.Conn) error {
//				for job := range jobs { ... }
//			})
//		})
//	}
package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/puddle/v2"
	"github.com/seed62836080/wsd"
)

// Pool is a set of connections to one server, or to several equal ones. It is made by New and safe for concurrent use.
type Pool struct {
	opts   Options
	puddle *puddle.Pool[*link]
	ctx    context.Context // of the dials: ended by Close and Shutdown
	cancel context.CancelFunc
	wake   chan struct{}  // tells the keeper to look; has room for one value
	ended  chan struct{}  // closed by end alone, which ends the keeper
	tasks  sync.WaitGroup // the keeper, dials and closings; not added to once ended is closed

	// attention is the number of waiters in the queue, plus one once the pool is closed. While it is zero, connections go
	// out and come back without mu.
	attention atomic.Int32
	idle      atomic.Int32 // idle connections; may lag behind for a moment
	acquired  atomic.Uint64
	waited    atomic.Int64 // nanoseconds, of those that were served

	// waiters holds used waiters, whose channels are empty. It is not a global, because channels must not leave a
	// synctest bubble.
	waiters sync.Pool

	mu        sync.Mutex // guards all below; held for moments only
	queue     queue
	links     map[*link]struct{}
	size      int // connections, dials and closings: MaxConns at most
	dialing   int
	closing   int
	endpoints []*endpoint
	dialTurn  int // under RoundRobin, the next endpoint to dial
	takeTurn  int // and the next to take an idle connection of
	closed    bool
	empty     chan struct{} // closed when closed is set and size is 0
	counts    counts
}

type resource = puddle.Resource[*link]

// link is one pooled connection.
type link struct {
	conn     *wsd.Conn
	endpoint *endpoint
	opened   time.Time
	sent     uint64      // messages that Setup has sent
	received uint64      // messages that had arrived when Setup was done
	retireAt time.Time   // zero for never
	expired  atomic.Bool // retireAt has passed: whoever holds the link next closes it
	used     bool        // has been handed out; owned by whoever holds the resource
	proven   atomic.Bool // was returned in good order: its endpoint works
	retiring bool        // Pool.mu: the pool is closing it
	counted  bool        // Pool.mu: its end has been counted
}

// reusable reports whether the next user can have the connection.
func (l *link) reusable() bool {
	if l.conn.State() != wsd.StateOpen {
		return false
	}
	if l.used {
		select {
		case <-l.conn.Messages():
			// A message was left unread, or the channel is closed. Losing the message does not matter: the connection is
			// closed.
			return false
		default:
		}
	}
	return true
}

// New returns a pool of connections to url, a ws or wss URL as for wsd.Dial. It dials nothing yet, except for MinIdle in
// the background. A nil opts means the defaults. The error is an *OptionError.
func New(url string, opts *Options) (*Pool, error) {
	p := &Pool{
		opts:  Options{MaxConns: defaultMaxConns},
		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		empty: make(chan struct{}),
		links: make(map[*link]struct{}),
	}
	p.waiters.New = newWaiter
	if opts != nil {
		p.opts = *opts
	}
	if err := p.opts.settle(); err != nil {
		return nil, err
	}
	for i, raw := range append([]string{url}, p.opts.MoreURLs...) {
		option := "url"
		if i > 0 {
			option = "MoreURLs"
		}
		shown, err := checkURL(option, raw)
		if err != nil {
			return nil, err
		}
		p.endpoints = append(p.endpoints, &endpoint{url: raw, shown: shown, window: firstWindow})
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var err error
	p.puddle, err = puddle.NewPool(&puddle.Config[*link]{
		Constructor: p.construct,
		MaxSize:     int32(p.opts.MaxConns),
	})
	if err != nil {
		return nil, optionError("MaxConns", "%v", err)
	}
	p.tasks.Go(p.keep)
	return p, nil
}

// Acquire hands out an open connection: an idle one, the most recently used first; a new one while there are fewer than
// MaxConns; or else the next one released, in the order in which Acquire was called. The caller must Release or Destroy
// it.
//
// Acquire blocks until it has a connection or ctx is done. If ctx is done, it returns an error matching ctx's cause, with
// the *DialError of the endpoints if that was what it waited for. While all endpoints fail, Acquire waits for their
// backoff, along with all other callers. It returns a *DialError when it has waited for RetryFor, or at once if no
// connection is left and retries cannot help: wsd.Permanent says so of the failure, or the host does not exist. A dial
// that Acquire has begun does not end with ctx: its connection then goes to another caller.
//
// The connection was open a moment ago. If its server has gone since, only the first use shows it.
func (p *Pool) Acquire(ctx context.Context) (*Conn, error) {
	if ctx == nil {
		return nil, wsd.ErrNilContext
	}
	if ctx.Err() != nil {
		return nil, canceled("acquire", ctx)
	}
	if p.attention.Load() == 0 {
		for res := p.takeIdle(); res != nil; res = p.takeIdle() {
			if ok, err := p.fit(ctx, res, false); err != nil {
				return nil, err
			} else if ok {
				return p.lend(res), nil
			}
		}
	}
	res, err := p.wait(ctx)
	if err != nil {
		return nil, err
	}
	return p.lend(res), nil
}

// Do calls f with a connection, between an Acquire and a Release. If f fails or panics, or ctx is done by then, the
// connection is destroyed instead, as an answer may be under way. f must not keep or close the connection, and must fail
// if a Receive in it has failed, even one with a shorter context of its own. Do returns Acquire's error or f's.
func (p *Pool) Do(ctx context.Context, f func(conn *wsd.Conn) error) error {
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
	err = f(c.link.conn)
	good = err == nil && ctx.Err() == nil
	return err
}

// lend returns the handle of a connection that is handed out.
func (p *Pool) lend(res *resource) *Conn {
	l := res.Value()
	l.used = true
	p.acquired.Add(1)
	return &Conn{pool: p, res: res, link: l}
}
