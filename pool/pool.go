// Package pool keeps WebSocket connections of a client open and lends them out, one user at a time.
//
// Request and answer, the usual thing:
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
// Do closes the connection instead of keeping it where the function fails or ctx has ended, so that an answer that comes
// late is never taken for the answer to the next request. That takes a protocol in which each request has one answer and
// nothing comes unasked; where more comes, read it before the function returns, or use wsd.Redial.
//
// Work is fanned over all connections by as many goroutines as there are connections, each with its own:
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

// Pool is a set of connections to one server, or to several that are equal. It is made by New and safe for concurrent
// use.
type Pool struct {
	opts   Options
	puddle *puddle.Pool[*link]
	ctx    context.Context // of the dials: ended by Close and Shutdown
	cancel context.CancelFunc
	wake   chan struct{}  // tells the keeper to look; has room for one
	ended  chan struct{}  // closed by end alone, with which the keeper ends
	tasks  sync.WaitGroup // the keeper, dials and closings; not added to once ended is closed

	// attention is how many wait in the queue, and one more once the pool is closed. While it is zero, connections go out
	// and come back without mu.
	attention atomic.Int32
	idle      atomic.Int32 // idle connections; may be behind for a moment
	acquired  atomic.Uint64
	waited    atomic.Int64 // nanoseconds, of those who were served

	// waiters holds used waiters, whose channels are empty. It is no global, for channels must not leave a synctest bubble.
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
	received uint64      // messages that had come when it was done
	retireAt time.Time   // zero for never
	expired  atomic.Bool // retireAt has come: whoever has the link next closes it
	used     bool        // has been handed out; owned by whoever holds the resource
	proven   atomic.Bool // has come back in good order: its endpoint works
	retiring bool        // Pool.mu: the pool is closing it
	counted  bool        // Pool.mu: its end has been
}

// reusable reports whether the next user can have the connection.
func (l *link) reusable() bool {
	if l.conn.State() != wsd.StateOpen {
		return false
	}
	if l.used {
		select {
		case <-l.conn.Messages():
			// Unread, or the channel is closed. Its loss does not matter: the connection is closed.
			return false
		default:
		}
	}
	return true
}

// New makes a pool of connections to url, a ws or wss URL as for wsd.Dial. It dials nothing yet, but for MinIdle in the
// background. Nil options are the defaults. The error is an *OptionError.
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

// Acquire hands out an open connection: an idle one, the one used last first, or a new one while there are fewer than
// MaxConns, or else the next that is released, in the order in which Acquire was called. Whoever gets it must Release or
// Destroy it.
//
// It blocks until then or until ctx is done, and returns ctx's cause, with the *DialError of the endpoints where that was
// what it waited for. While all endpoints fail it waits for their backoff, with all others, and returns a *DialError when
// it has waited for RetryFor, or at once where new tries cannot help: wsd.Permanent says so of the failure, or the host
// does not exist, and no connection is left. The dial that it has begun is not ended with ctx: the connection goes to
// somebody else.
//
// The connection was open a moment ago. That its server has gone since shows in its first use only.
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

// Do calls f with a connection, between an Acquire and a Release. Where f fails or panics, or ctx is done by then, the
// connection is destroyed instead, as it may have an answer under way. f must not keep the connection, nor close it, and
// it has to fail where a Receive in it has failed, by a shorter context of its own too. Do returns Acquire's error or f's.
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

// lend makes the handle of a connection that goes out.
func (p *Pool) lend(res *resource) *Conn {
	l := res.Value()
	l.used = true
	p.acquired.Add(1)
	return &Conn{pool: p, res: res, link: l}
}
