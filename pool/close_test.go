// close_test.go tests the end of a pool.

package pool_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

func TestCloseFreesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 2})
		out, idle := acquire(t, p), acquire(t, p)
		conn, idleConn := unwrap(t, out), unwrap(t, idle)
		hold := acquireLater(p)
		synctest.Wait()
		require.NoError(t, idle.Release()) // goes to hold
		held := <-hold
		require.NoError(t, held.err)
		waiting := []chan acquired{acquireLater(p), acquireLater(p), acquireLater(p)}
		synctest.Wait()
		begun := time.Now()
		require.NoError(t, p.Close())
		require.Zero(t, time.Since(begun))
		for _, w := range waiting {
			require.ErrorIs(t, (<-w).err, pool.ErrClosed)
		}
		for _, c := range []*wsd.Conn{conn, idleConn} {
			require.True(t, c.CloseEvent().Clean)
			require.Equal(t, wsd.StatusNormalClosure, c.CloseEvent().Code)
		}
		_, err := p.Acquire(context.Background())
		require.ErrorIs(t, err, pool.ErrClosed)
		require.ErrorIs(t, p.Do(context.Background(), func(*pool.Conn) error { return nil }), pool.ErrClosed)
		require.ErrorIs(t, out.Send(context.Background(), wsd.Text("x")), wsd.ErrClosed)
		require.NoError(t, out.Release())
		require.NoError(t, held.conn.Destroy())
		require.NoError(t, p.Close())
		require.NoError(t, p.Shutdown(context.Background()))
		s := p.Stats()
		require.Zero(t, s.InUse+s.Idle+s.Dialing+s.Closing+s.Waiting)
	})
}

type acquired struct {
	conn *pool.Conn
	err  error
}

func acquireLater(p *pool.Pool) chan acquired {
	got := make(chan acquired, 1)
	go func() {
		c, err := p.Acquire(context.Background())
		got <- acquired{c, err}
	}()
	return got
}

// Close does not wait for dials that hang, nor for a peer that does not answer, longer than CloseTimeout.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := make(chan struct{})
		h := newHost(t, func(*wsd.Conn) { <-silent })
		p := newPool(t, h, pool.Options{MaxConns: 3, DialOptions: wsd.DialOptions{Config: wsd.Config{CloseTimeout: 3 * time.Second}}})
		c := acquire(t, p)
		for range 40 {
			require.NoError(t, c.Send(context.Background(), wsd.Text("x")))
		}
		h.mu.Lock()
		h.slow = time.Hour
		h.mu.Unlock()
		w := acquireLater(p)
		synctest.Wait()
		begun := time.Now()
		require.NoError(t, p.Close())
		require.LessOrEqual(t, time.Since(begun), 3*time.Second)
		require.ErrorIs(t, (<-w).err, pool.ErrClosed)
		close(silent)
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 2})
		out, idle := acquire(t, p), acquire(t, p)
		outConn, idleConn := unwrap(t, out), unwrap(t, idle)
		waiting := acquireLater(p)
		synctest.Wait()
		finished := make(chan error, 1)
		go func() { finished <- p.Shutdown(context.Background()) }()
		require.ErrorIs(t, (<-waiting).err, pool.ErrClosed)
		require.NoError(t, idle.Release())
		<-time.After(time.Minute)
		require.Empty(t, finished)
		require.True(t, idleConn.CloseEvent().Clean)
		ask(t, out, "to the end")
		require.NoError(t, out.Release())
		require.NoError(t, <-finished)
		require.True(t, outConn.CloseEvent().Clean)
		require.Equal(t, wsd.StatusNormalClosure, outConn.CloseEvent().Code)
		var none context.Context
		require.ErrorIs(t, p.Shutdown(none), wsd.ErrNilContext)
	})
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 2})
		out := acquire(t, p)
		conn := unwrap(t, out)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		begun := time.Now()
		require.ErrorIs(t, p.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(begun))
		require.Equal(t, wsd.StateClosed, conn.State())
		require.NoError(t, out.Release())
	})
}

// A connection whose Setup completes after the pool has been closed belongs to nobody, and is closed as well.
func TestSetupThatOutlastsThePool(t *testing.T) {
	for name, end := range map[string]func(*pool.Pool) error{
		"Close":    (*pool.Pool).Close,
		"Shutdown": func(p *pool.Pool) error { return p.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, goOn := make(chan *wsd.Conn, 1), make(chan struct{})
				h := newHost(t, nil)
				p := newPool(t, h, pool.Options{MaxConns: 1, Setup: func(_ context.Context, conn *wsd.Conn) error {
					begun <- conn
					<-goOn
					return nil
				}})
				waiting := acquireLater(p)
				conn := <-begun
				ended := make(chan error, 1)
				go func() { ended <- end(p) }()
				require.ErrorIs(t, (<-waiting).err, pool.ErrClosed)
				close(goOn)
				require.NoError(t, <-ended)
				require.Equal(t, wsd.StateClosed, conn.State())
				synctest.Wait()
				require.Zero(t, h.open())
			})
		})
	}
}

// Nor does a Shutdown whose context is done take the time for a closing handshake with it.
func TestSetupThatOutlastsAShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, goOn, silent := make(chan struct{}), make(chan struct{}), make(chan struct{})
		defer close(silent)
		h := newHost(t, func(conn *wsd.Conn) { <-silent })
		p := newPool(t, h, pool.Options{MaxConns: 1, MinIdle: 1, DialOptions: wsd.DialOptions{Config: wsd.Config{CloseTimeout: time.Hour}},
			Setup: func(ctx context.Context, conn *wsd.Conn) error {
				for range 40 { // more than the server's buffer holds, so that it does not see a close frame
					if err := conn.Send(context.Background(), wsd.Text("x")); err != nil {
						return err
					}
				}
				close(begun)
				<-goOn
				return nil
			}})
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ended := make(chan error, 1)
		go func() { ended <- p.Shutdown(ctx) }()
		synctest.Wait()
		require.Empty(t, ended, "Setup is waited for")
		at := time.Now()
		close(goOn)
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Less(t, time.Since(at), time.Minute)
	})
}

// A Shutdown that meets a dial at its very end neither waits for the connection nor leaves it behind.
func TestShutdownBesideADial(t *testing.T) {
	h := newHost(t, nil)
	opts := options(map[string]*host{"server": h}, pool.Options{MaxConns: 8, MinIdle: 8})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pools := 2000
	if raceEnabled {
		pools = 200
	}
	for i := range pools {
		p, err := pool.New("ws://server/", opts)
		require.NoError(t, err)
		for p.Stats().Idle < i%8 { // some are there, and others on their way
			runtime.Gosched()
		}
		require.NoError(t, p.Shutdown(ctx))
	}
}

// A Close in the middle ends a Shutdown that waits.
func TestCloseDuringShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 2})
		out := acquire(t, p)
		finished := make(chan error, 1)
		go func() { finished <- p.Shutdown(context.Background()) }()
		synctest.Wait()
		require.NoError(t, p.Close())
		require.NoError(t, <-finished)
		require.NoError(t, out.Release())
	})
}

// Concurrent calls to Acquire, Release, Close and Shutdown end, whatever comes first.
func TestCloseUnderLoad(t *testing.T) {
	for range 20 {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 3})
		var users sync.WaitGroup
		begun := make(chan struct{}, 100)
		for i := range 12 {
			users.Go(func() {
				for {
					c, err := p.Acquire(context.Background())
					if err != nil {
						if !errors.Is(err, pool.ErrClosed) {
							t.Error(err)
						}
						return
					}
					select {
					case begun <- struct{}{}:
					default:
					}
					if i%3 == 0 {
						_ = c.Destroy()
					} else {
						_ = c.Release()
					}
				}
			})
		}
		for range 50 {
			<-begun
		}
		users.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := p.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		require.NoError(t, p.Close())
		users.Wait()
		s := p.Stats()
		require.Zero(t, s.InUse+s.Idle+s.Dialing+s.Closing+s.Waiting, "%+v", s)
	}
}

// A Shutdown after a Close has nothing to wait for, whatever its context says and whoever has not released.
func TestShutdownBehindClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 2})
		out := acquire(t, p)
		done, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, p.Close())
		for range 100 { // for whoever looks at both at once finds the right one half of the time
			require.NoError(t, p.Shutdown(done))
		}
		require.NoError(t, out.Release())
		require.Zero(t, p.Stats().InUse+p.Stats().Closing, "Close has closed it")
		for range 100 {
			require.NoError(t, p.Shutdown(done))
		}
	})
}

// A dial that ends because the pool does is not a failed one.
func TestDialThatThePoolEndsIsNoFailure(t *testing.T) {
	for name, end := range map[string]func(*pool.Pool) error{
		"Close":    (*pool.Pool).Close,
		"Shutdown": func(p *pool.Pool) error { return p.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, nil)
				h.slow = time.Hour
				p := newPool(t, h, pool.Options{MaxConns: 2, MinIdle: 2, DialTimeout: -1,
					DialOptions: wsd.DialOptions{HandshakeTimeout: -1}})
				synctest.Wait()
				require.Equal(t, 2, p.Stats().Dialing)
				begun := time.Now()
				require.NoError(t, end(p))
				require.Zero(t, time.Since(begun), "the dials are ended, not waited for")
				s := p.Stats()
				require.Zero(t, s.Dialing)
				require.EqualValues(t, 2, s.Dials)
				require.Zero(t, s.DialErrors)
				require.Zero(t, s.Endpoints[0].Failures)
				require.Empty(t, s.Endpoints[0].LastError)
			})
		})
	}
}

// What the pool closes itself, for whatever reason, is not lost, nor does it speak against its endpoint.
func TestOwnClosingsAreNotLosses(t *testing.T) {
	var hung chan struct{}
	for _, row := range []struct {
		name   string
		opts   pool.Options
		handle func(*wsd.Conn)
		close  func(t *testing.T, p *pool.Pool, c *pool.Conn)
		count  func(pool.Stats) uint64 // nil for none
	}{
		{name: "Destroy", close: func(t *testing.T, _ *pool.Pool, c *pool.Conn) { require.NoError(t, c.Destroy()) },
			count: func(s pool.Stats) uint64 { return s.Discarded }},
		{name: "Do that failed", close: func(t *testing.T, p *pool.Pool, c *pool.Conn) {
			require.NoError(t, c.Release())
			require.ErrorIs(t, p.Do(t.Context(), func(*pool.Conn) error { return io.EOF }), io.EOF)
		}, count: func(s pool.Stats) uint64 { return s.Discarded }},
		{name: "unread message", close: func(t *testing.T, _ *pool.Pool, c *pool.Conn) {
			require.NoError(t, c.Send(t.Context(), wsd.Text("a")))
			synctest.Wait()
			require.NoError(t, c.Release())
		}, count: func(s pool.Stats) uint64 { return s.Discarded }},
		{name: "MaxIdleTime", opts: pool.Options{MaxIdleTime: time.Millisecond}, close: func(t *testing.T, _ *pool.Pool, c *pool.Conn) {
			require.NoError(t, c.Release())
		}, count: func(s pool.Stats) uint64 { return s.IdleTooLong }},
		{name: "MaxLifetime, idle", opts: pool.Options{MaxLifetime: 10 * time.Millisecond}, close: func(t *testing.T, _ *pool.Pool, c *pool.Conn) {
			require.NoError(t, c.Release())
		}, count: func(s pool.Stats) uint64 { return s.Expired }},
		{name: "MaxLifetime, released", opts: pool.Options{MaxLifetime: time.Millisecond}, close: func(t *testing.T, _ *pool.Pool, c *pool.Conn) {
			<-time.After(2 * time.Millisecond)
			require.NoError(t, c.Release())
		}, count: func(s pool.Stats) uint64 { return s.Expired }},
		{name: "check without an answer", handle: func(conn *wsd.Conn) { <-hung; echo(conn) },
			opts: pool.Options{CheckAfter: time.Millisecond, CheckTimeout: time.Millisecond},
			close: func(t *testing.T, p *pool.Pool, c *pool.Conn) {
				for range 40 { // more than the server's buffer holds
					require.NoError(t, c.Send(t.Context(), wsd.Text("x")))
				}
				require.NoError(t, c.Release())
				<-time.After(2 * time.Millisecond)
				require.NoError(t, acquire(t, p).Release())
			}, count: func(s pool.Stats) uint64 { return s.ChecksFailed }},
		{name: "Close, idle", close: func(t *testing.T, p *pool.Pool, c *pool.Conn) {
			require.NoError(t, c.Release())
			require.NoError(t, p.Close())
		}},
		{name: "Close, lent", close: func(t *testing.T, p *pool.Pool, c *pool.Conn) {
			require.NoError(t, p.Close())
			synctest.Wait()
			require.NoError(t, c.Release())
		}},
		{name: "Shutdown, then released", close: func(t *testing.T, p *pool.Pool, c *pool.Conn) {
			time.AfterFunc(time.Millisecond, func() { _ = c.Release() })
			require.NoError(t, p.Shutdown(t.Context()))
		}},
		{name: "Shutdown that gave up", close: func(t *testing.T, p *pool.Pool, c *pool.Conn) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			require.ErrorIs(t, p.Shutdown(ctx), context.DeadlineExceeded)
			synctest.Wait()
			require.NoError(t, c.Destroy())
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hung = make(chan struct{})
				row.opts.MaxConns = 1
				p := newPool(t, newHost(t, row.handle), row.opts)
				c := acquire(t, p)
				conn := unwrap(t, c)
				row.close(t, p, c)
				close(hung)
				<-conn.Closed()
				synctest.Wait()
				s := p.Stats()
				require.Zero(t, s.Lost)
				require.Zero(t, s.Endpoints[0].Failures)
				require.Empty(t, s.Endpoints[0].LastError)
				if row.count != nil {
					require.EqualValues(t, 1, row.count(s))
				}
			})
		})
	}
}

// Whatever happens at the time of a Close or Shutdown, each connection is closed, each place freed and each call ended.
func TestEndDuringEverything(t *testing.T) {
	rounds := 60
	if testing.Short() || raceEnabled {
		rounds = 15
	}
	for round := range rounds {
		var asked atomic.Int64
		hostile := func(conn *wsd.Conn) {
			for m := range conn.Messages() {
				switch asked.Add(1) % 7 {
				case 0:
					conn.CloseNow()
				case 1:
					_ = conn.Close(wsd.StatusGoingAway, "")
				case 2: // two answers
					_ = conn.Send(conn.Context(), m)
				}
				_ = conn.Send(conn.Context(), m)
			}
		}
		hosts := map[string]*host{"a": newHost(t, hostile), "b": newHost(t, hostile)}
		p, err := pool.New("ws://a", options(hosts, pool.Options{MaxConns: 5, MinIdle: 2, MoreURLs: []string{"ws://b"},
			Balance: pool.Balance(round % 2), MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond,
			MaxLifetime: 3 * time.Millisecond, MaxIdleTime: time.Millisecond, CheckAfter: time.Microsecond}))
		require.NoError(t, err)
		watched := watchStats(t, p)
		var users sync.WaitGroup
		begun := make(chan struct{}, 16)
		for user := range cap(begun) {
			users.Go(func() {
				for i := user; ; i++ {
					if i == user+10 {
						begun <- struct{}{}
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%50)*100*time.Microsecond)
					c, err := p.Acquire(ctx)
					if err == nil {
						if err := c.Send(ctx, wsd.Text("x")); err == nil && i%3 > 0 {
							_, _ = c.Receive(ctx)
						}
						if i%5 == 0 {
							_ = c.Destroy()
						} else if err := c.Release(); err != nil {
							t.Error(err)
						}
					}
					cancel()
					if errors.Is(err, pool.ErrClosed) {
						return
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		if round%3 == 0 {
			require.NoError(t, p.Close())
		} else {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(round%3)*time.Minute)
			require.NoError(t, p.Shutdown(ctx))
			cancel()
		}
		users.Wait()
		watched()
		s := p.Stats()
		require.Zero(t, s.InUse+s.Idle+s.Dialing+s.Closing+s.Waiting, "%+v", s)
		for _, h := range hosts {
			for h.server.Connections() > 0 {
				runtime.Gosched()
			}
		}
	}
}
