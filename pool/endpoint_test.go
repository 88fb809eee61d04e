// endpoint_test.go tests servers that fail, lose, refuse and ignore the pool, and several of them.

package pool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

// The server comes back at once: nobody sees an error.
func TestLossOfAllConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 10
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: conns})
		var all []*pool.Conn
		for range conns {
			all = append(all, acquire(t, p))
		}
		for _, c := range all {
			require.NoError(t, c.Release())
		}
		h.drop()
		for i := range conns {
			all[i] = acquire(t, p)
			ask(t, all[i], "again")
		}
		for _, c := range all {
			require.NoError(t, c.Release())
		}
		require.Equal(t, 2*conns, h.dials())
		require.Equal(t, uint64(conns), p.Stats().Lost)
	})
}

// The server is gone for a while, with all connections, under load: RetryFor hides that.
func TestOutageShorterThanRetryFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 4, RetryFor: time.Minute})
		var users sync.WaitGroup
		failures := make(chan error, 1000)
		stop := make(chan struct{})
		for i := range 16 {
			users.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
					}
					c, err := p.Acquire(context.Background())
					if err != nil {
						failures <- err
						continue
					}
					want := fmt.Sprint(i, " ", n)
					if c.Send(context.Background(), wsd.Text(want)) != nil {
						_ = c.Destroy()
						continue
					}
					m, err := c.Receive(context.Background())
					if err == nil && string(m.Data) != want {
						failures <- errors.New("crossed")
					}
					_ = c.Release()
				}
			})
		}
		<-time.After(time.Second)
		h.fail(errRefused)
		h.drop()
		<-time.After(20 * time.Second)
		h.fail(nil)
		<-time.After(20 * time.Second)
		close(stop)
		users.Wait()
		close(failures)
		for err := range failures {
			require.NoError(t, err)
		}
		require.Positive(t, p.Stats().Idle)
		require.Zero(t, p.Stats().InUse)
	})
}

// A server that is gone for longer is reported, after RetryFor, once to each.
func TestOutageLongerThanRetryFor(t *testing.T) {
	for name, retryFor := range map[string]time.Duration{"default": 0, "ten seconds": 10 * time.Second, "off": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, nil)
				h.fail(errRefused)
				p := newPool(t, h, pool.Options{MaxConns: 2, RetryFor: retryFor})
				var users sync.WaitGroup
				for range 50 {
					users.Go(func() {
						begun := time.Now()
						_, err := p.Acquire(context.Background())
						var failure *pool.DialError
						if !errors.As(err, &failure) {
							t.Errorf("expected a DialError, got %v", err)
							return
						}
						switch {
						case failure.URL != "ws://server/":
							t.Errorf("URL %q", failure.URL)
						case !errors.Is(err, syscall.ECONNREFUSED):
							t.Errorf("the cause is not in %v", err)
						case time.Since(begun) < retryFor:
							t.Errorf("gave up after %v", time.Since(begun))
						}
					})
				}
				users.Wait()
				require.Equal(t, uint64(50), p.Stats().Refused)
				require.NotEmpty(t, p.Stats().Endpoints[0].LastError)
				h.fail(nil)
				<-time.After(time.Minute)
				c := acquire(t, p)
				require.NoError(t, c.Release())
				require.Empty(t, p.Stats().Endpoints[0].LastError)
			})
		})
	}
}

// If a context ends during an outage, the error reports both.
func TestContextEndsDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		h.fail(errRefused)
		p := newPool(t, h, pool.Options{MaxConns: 2, RetryFor: time.Hour})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := p.Acquire(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.ErrorAs(t, err, new(*pool.DialError))
		require.Equal(t, 1, strings.Count(err.Error(), "wsd: "), err.Error())
	})
}

// 1,000 waiters, a server that is down for ten minutes: few tries meanwhile, and no stampede when it is back.
func TestNoStampede(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiters, conns = 1000, 100
		h := newHost(t, nil)
		h.fail(errRefused)
		p := newPool(t, h, pool.Options{MaxConns: conns, RetryFor: time.Hour, MaxBackoff: 10 * time.Second})
		var users sync.WaitGroup
		for range waiters {
			users.Go(func() {
				c, err := p.Acquire(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				<-time.After(10 * time.Millisecond)
				if err := c.Release(); err != nil {
					t.Error(err)
				}
			})
		}
		const outage = 10 * time.Minute
		<-time.After(outage)
		// The pauses are half of MaxBackoff on average.
		tries := h.dials()
		require.Greater(t, tries, 20)
		require.Less(t, tries, 300)
		require.Equal(t, waiters, p.Stats().Waiting)
		h.mu.Lock()
		h.fault, h.dialed, h.slow = nil, nil, 100*time.Millisecond
		h.mu.Unlock()
		users.Wait()
		// One dial to begin with; the number at a time doubles from there.
		h.mu.Lock()
		defer h.mu.Unlock()
		waves := map[time.Time]int{}
		var order []time.Time
		for _, at := range h.dialed {
			if waves[at] == 0 {
				order = append(order, at)
			}
			waves[at]++
		}
		require.GreaterOrEqual(t, len(order), 4)
		for i, at := range order {
			require.LessOrEqual(t, waves[at], 1<<i, "wave %d", i)
		}
		require.LessOrEqual(t, len(h.dialed), conns)
	})
}

// A server that accepts every connection and closes it at once does not make the pool dial in a loop.
func TestServerThatClosesAtOnce(t *testing.T) {
	for name, o := range map[string]pool.Options{"waiting users": {MaxConns: 4}, "kept warm": {MaxConns: 4, MinIdle: 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, func(*wsd.Conn) {})
				p := newPool(t, h, o)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
				defer cancel()
				var users sync.WaitGroup
				if o.MinIdle == 0 {
					for range 10 {
						users.Go(func() {
							for ctx.Err() == nil {
								if c, err := p.Acquire(ctx); err == nil {
									_, _ = c.Receive(ctx)
									_ = c.Release()
								}
							}
						})
					}
				}
				<-ctx.Done()
				users.Wait()
				require.Greater(t, h.dials(), 10)
				// About 45 rests of 15 s on average, with up to MaxConns dials behind each.
				require.Less(t, h.dials(), 400)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		// A Setup that ends its connection is no better, and the error says how it ended.
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 1, Setup: func(ctx context.Context, conn *wsd.Conn) error {
			conn.CloseNow()
			return nil
		}})
		_, err := p.Acquire(context.Background())
		require.ErrorAs(t, err, new(*pool.DialError))
		require.ErrorIs(t, err, net.ErrClosed)
		require.Less(t, h.dials(), 50)
	})
}

// A server that closes each connection when it has answered is not failing: the next user does not wait.
func TestServerThatClosesWhenItHasAnswered(t *testing.T) {
	answerOnce := func(end func(*wsd.Conn)) func(*wsd.Conn) {
		return func(c *wsd.Conn) {
			if m, err := c.Receive(context.Background()); err == nil {
				_ = c.Send(context.Background(), m)
				end(c)
			}
		}
	}
	login := func(ctx context.Context, conn *wsd.Conn) error {
		if err := conn.Send(ctx, wsd.Text("a user's name")); err != nil {
			return err
		}
		_, err := conn.Receive(ctx)
		return err
	}
	for _, row := range []struct {
		name   string
		end    func(*wsd.Conn)
		setup  func(context.Context, *wsd.Conn) error
		rested bool
	}{
		{name: "1000", end: func(*wsd.Conn) {}},
		{name: "no code", end: func(c *wsd.Conn) { _ = c.Close(wsd.StatusNoStatus, "") }},
		{name: "1001, it goes away", end: func(c *wsd.Conn) { _ = c.Close(wsd.StatusGoingAway, "") }, rested: true},
		{name: "1012, it restarts", end: func(c *wsd.Conn) { _ = c.Close(wsd.StatusServiceRestart, "") }, rested: true},
		{name: "1013, it is full", end: func(c *wsd.Conn) { _ = c.Close(wsd.StatusTryAgainLater, "") }, rested: true},
		{name: "not closed but ended", end: func(c *wsd.Conn) { _ = c.Flush(context.Background()); c.CloseNow() }, rested: true},
		{name: "1000, but only Setup was answered", end: func(*wsd.Conn) { <-time.After(100 * time.Millisecond) }, setup: login, rested: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, answerOnce(row.end))
				p := newPool(t, h, pool.Options{MaxConns: 1, Setup: row.setup, RetryFor: time.Hour})
				var waited time.Duration
				for range 20 {
					begun := time.Now()
					c := acquire(t, p)
					waited += time.Since(begun)
					if row.setup == nil {
						ask(t, c, "a question")
					}
					_, err := c.Receive(context.Background())
					require.ErrorIs(t, err, wsd.ErrClosed)
					require.NoError(t, c.Release())
				}
				require.Equal(t, row.rested, waited > 0)
				require.Equal(t, row.rested, p.Stats().Endpoints[0].LastError != "")
				require.Equal(t, row.rested, p.Stats().Endpoints[0].Failures > 0)
				require.EqualValues(t, 20, p.Stats().Lost)
			})
		})
	}
}

func TestServerThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{incoming: make(chan net.Conn, 1000), closed: make(chan struct{})} // nobody serves
		p := newPool(t, h, pool.Options{MaxConns: 2, DialTimeout: 2 * time.Second, RetryFor: -1})
		begun := time.Now()
		_, err := p.Acquire(context.Background())
		require.ErrorAs(t, err, new(*pool.DialError))
		require.ErrorAs(t, err, new(*wsd.HandshakeError))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, time.Since(begun))
		<-time.After(time.Minute)
		// The context of an Acquire bounds its waiting, too.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = p.Acquire(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1, p.Stats().Dialing)
	})
}

// A user whose dial hangs gets what others release meanwhile.
func TestReleaseServesWhoeverWaitsForADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 2, DialTimeout: time.Hour})
		a := acquire(t, p)
		conn := unwrap(t, a)
		h.mu.Lock()
		h.slow = 5 * time.Second
		h.mu.Unlock()
		got := make(chan *pool.Conn)
		go func() {
			c, _ := p.Acquire(context.Background())
			got <- c
		}()
		synctest.Wait()
		require.Equal(t, 1, p.Stats().Dialing)
		require.NoError(t, a.Release())
		b := <-got
		require.Same(t, conn, unwrap(t, b))
		require.NoError(t, b.Release())
		<-time.After(time.Minute)
		require.Equal(t, 2, p.Stats().Idle, "the dial went on, and its connection waits for the next user")
	})
}

func TestErrorsThatDoNotMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := http.StatusNotFound
		h := &host{incoming: make(chan net.Conn), closed: make(chan struct{})}
		h.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) }))
		p := newPool(t, h, pool.Options{MaxConns: 2, RetryFor: time.Hour})
		begun := time.Now()
		for range 3 {
			_, err := p.Acquire(context.Background())
			var handshake *wsd.HandshakeError
			require.ErrorAs(t, err, &handshake)
			require.Equal(t, status, handshake.StatusCode)
		}
		require.Zero(t, time.Since(begun))
		require.Equal(t, 1, h.dials(), "while the endpoint is rested, the answer is known")

		none, err := pool.New("ws://nowhere/", options(nil, pool.Options{MaxConns: 1, RetryFor: time.Hour}))
		require.NoError(t, err)
		defer func() { require.NoError(t, none.Close()) }()
		_, err = none.Acquire(context.Background())
		var dns *net.DNSError
		require.ErrorAs(t, err, &dns)
		require.ErrorAs(t, err, new(*pool.DialError))
		require.Zero(t, time.Since(begun))
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy sync.Mutex
		down := true
		h := &host{incoming: make(chan net.Conn), closed: make(chan struct{}), server: &wsd.Server{Handler: echo}}
		h.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			busy.Lock()
			defer busy.Unlock()
			if down {
				down = false
				w.Header().Set("Retry-After", "120")
				http.Error(w, "later", http.StatusServiceUnavailable)
				return
			}
			h.server.ServeHTTP(w, r)
		}))
		p := newPool(t, h, pool.Options{MaxConns: 2, RetryFor: time.Hour})
		begun := time.Now()
		c := acquire(t, p)
		require.GreaterOrEqual(t, time.Since(begun), 2*time.Minute)
		require.Less(t, time.Since(begun), 3*time.Minute)
		require.Equal(t, 2, h.dials())
		require.NoError(t, c.Release())
	})
}

// Who waits for a shorter time than the server wants to be left alone is not kept waiting for longer.
func TestRetryForEndsDuringARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{incoming: make(chan net.Conn), closed: make(chan struct{})}
		h.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			http.Error(w, "later", http.StatusServiceUnavailable)
		}))
		p := newPool(t, h, pool.Options{MaxConns: 2, RetryFor: 10 * time.Second})
		begun := time.Now()
		_, err := p.Acquire(t.Context())
		require.ErrorAs(t, err, new(*pool.DialError))
		require.Equal(t, 10*time.Second, time.Since(begun))
	})
}

func TestSetup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, func(c *wsd.Conn) {
			_ = c.Send(context.Background(), wsd.Text("welcome"))
			echo(c)
		})
		denied := errors.New("denied")
		var tries int
		p := newPool(t, h, pool.Options{MaxConns: 1, Setup: func(ctx context.Context, conn *wsd.Conn) error {
			if tries++; tries == 1 {
				return denied
			}
			m, err := conn.Receive(ctx)
			if err == nil && string(m.Data) != "welcome" {
				return errors.New("no welcome")
			}
			return err
		}, RetryFor: -1})
		_, err := p.Acquire(context.Background())
		require.ErrorIs(t, err, denied)
		require.ErrorAs(t, err, new(*pool.DialError))
		<-time.After(time.Second)
		for range 2 {
			c := acquire(t, p)
			ask(t, c, "hello")
			require.NoError(t, c.Release())
		}
		require.Equal(t, 2, h.dials())
		require.Equal(t, 1, h.open())
	})
}

func TestEndpoints(t *testing.T) {
	for name, balance := range map[string]pool.Balance{"least loaded": pool.LeastLoaded, "round robin": pool.RoundRobin} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, c := newHost(t, nil), newHost(t, nil), newHost(t, nil)
				p, err := pool.New("ws://user:secret@a/x?token=secret", options(map[string]*host{"a": a, "b": b, "c": c},
					pool.Options{MaxConns: 9, MoreURLs: []string{"ws://b", "ws://c"}, Balance: balance}))
				require.NoError(t, err)
				defer func() { require.NoError(t, p.Close()) }()
				conns := make([]*pool.Conn, 9)
				for i := range conns {
					conns[i] = acquire(t, p)
				}
				synctest.Wait()
				require.Equal(t, []int{3, 3, 3}, []int{a.open(), b.open(), c.open()})
				where := make(map[*wsd.Conn]int)
				for i, c := range conns {
					where[unwrap(t, c)] = i % 3
					require.NoError(t, c.Release())
				}
				// What is idle is taken evenly too.
				for range 3 {
					got := map[int]int{}
					for i := range 3 {
						conns[i] = acquire(t, p)
						got[where[unwrap(t, conns[i])]]++
					}
					require.Equal(t, map[int]int{0: 1, 1: 1, 2: 1}, got)
					for _, c := range conns[:3] {
						require.NoError(t, c.Release())
					}
				}
				require.Equal(t, "ws://a/x", p.Stats().Endpoints[0].URL)

				// One of them fails: the others do its work, and it gets its share when it is back.
				b.fail(errRefused)
				b.drop()
				for i := range conns {
					conns[i] = acquire(t, p)
					ask(t, conns[i], "hello")
				}
				require.Zero(t, b.open())
				require.Equal(t, 9, a.open()+c.open())
				require.Less(t, b.dials(), 7, "it is rested")
				require.NotEmpty(t, p.Stats().Endpoints[1].LastError)
				b.fail(nil)
				<-time.After(time.Minute)
				for _, c := range conns {
					require.NoError(t, c.Destroy())
				}
				synctest.Wait()
				for i := range conns {
					conns[i] = acquire(t, p)
				}
				synctest.Wait()
				require.Equal(t, []int{3, 3, 3}, []int{a.open(), b.open(), c.open()})
				for _, c := range conns {
					require.NoError(t, c.Release())
				}
			})
		})
	}
}

// If one server has lost its connections, LeastLoaded makes up for that, and RoundRobin continues in order.
func TestBalanceOfAnUnevenLoad(t *testing.T) {
	for _, test := range []struct {
		balance pool.Balance
		open    []int // connections to each server in the end
	}{{pool.LeastLoaded, []int{2, 2}}, {pool.RoundRobin, []int{3, 1}}} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newHost(t, nil), newHost(t, nil)
			p, err := pool.New("ws://a", options(map[string]*host{"a": a, "b": b},
				pool.Options{MaxConns: 4, MoreURLs: []string{"ws://b"}, Balance: test.balance}))
			require.NoError(t, err)
			defer func() { require.NoError(t, p.Close()) }()
			conns := make([]*pool.Conn, 4) // to a, b, a, b
			for i := range conns {
				conns[i] = acquire(t, p)
			}
			require.NoError(t, conns[1].Destroy())
			require.NoError(t, conns[3].Destroy())
			synctest.Wait()
			require.Equal(t, []int{2, 0}, []int{a.open(), b.open()})
			conns[1], conns[3] = acquire(t, p), acquire(t, p)
			synctest.Wait()
			require.Equal(t, test.open, []int{a.open(), b.open()})
			for _, c := range conns {
				require.NoError(t, c.Release())
			}
		})
	}
}

// A Receive on a connection that has just been lost fails, and says why.
func TestLossInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 1})
		c := acquire(t, p)
		h.drop()
		_, err := c.Receive(context.Background())
		require.ErrorIs(t, err, wsd.ErrClosed)
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, c.Release())
		c = acquire(t, p)
		require.EqualValues(t, 1, p.Stats().Lost, "seen by the pool and by its user, but lost once")
		ask(t, c, "healed")
		require.NoError(t, c.Release())
	})
}

// nosyError asks for the state of the pool when it is asked what it is.
type nosyError struct{ pool **pool.Pool }

func (n nosyError) Error() string   { return fmt.Sprint("idle: ", (*n.pool).Stats().Idle) }
func (n nosyError) Is(error) bool   { return (*n.pool).Stats().Idle > 0 }
func (n nosyError) As(any) bool     { return (*n.pool).Stats().Idle > 0 }
func (n nosyError) Unwrap() []error { return []error{io.EOF, fmt.Errorf("%d", (*n.pool).Stats().Idle)} }

// The error of a Setup is foreign code, and may use the very pool that it is returned to, as may Setup.
func TestSetupThatAsksForThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *pool.Pool
		ready := make(chan struct{})
		var depth int
		p = newPool(t, newHost(t, nil), pool.Options{MaxConns: 1, RetryFor: -1, Setup: func(context.Context, *wsd.Conn) error {
			<-ready
			if depth++; depth > 1 {
				return io.EOF
			}
			require.Equal(t, 1, p.Stats().Dialing)
			return nosyError{&p}
		}})
		close(ready)
		_, err := p.Acquire(t.Context())
		require.ErrorIs(t, err, io.EOF)
		require.EqualError(t, err, "wsd: no connection to ws://server/: idle: 0")
	})
}

// An endpoint to which a connection was released in good order works, whatever failed before, and however soon after its
// dial that connection is lost.
func TestReleaseProvesTheEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		h.fail(errRefused)
		p := newPool(t, h, pool.Options{MaxConns: 1, RetryFor: -1})
		_, err := p.Acquire(t.Context())
		require.ErrorIs(t, err, errRefused)
		h.fail(nil)
		<-time.After(time.Second)
		c := acquire(t, p)
		require.Equal(t, 1, p.Stats().Endpoints[0].Failures)
		require.NoError(t, c.Release())
		require.Zero(t, p.Stats().Endpoints[0].Failures)
		h.drop()
		require.EqualValues(t, 1, p.Stats().Lost)
		require.Zero(t, p.Stats().Endpoints[0].Failures)
		begun := time.Now()
		require.NoError(t, acquire(t, p).Release())
		require.Zero(t, time.Since(begun), "no rest")
	})
}

// While a connection is left, who waits may get that one, even if no other can be had.
func TestHopelessDialsBesideAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 2, RetryFor: time.Hour})
		c := acquire(t, p)
		h.fail(&net.DNSError{Err: "no such host", Name: "server", IsNotFound: true})
		waiting := acquireLater(p)
		synctest.Wait()
		require.NotEmpty(t, p.Stats().Endpoints[0].LastError)
		require.Empty(t, waiting)
		require.NoError(t, c.Release())
		got := <-waiting
		require.NoError(t, got.err)
		require.NoError(t, got.conn.Release())
	})
}

// After a loss the server is not dialed by all at once, however many dials it has taken before.
func TestLossEndsTheStampede(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 50
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: conns, MaxIdleTime: -1})
		all := make([]*pool.Conn, conns)
		for i := range all {
			all[i] = acquire(t, p)
		}
		for _, c := range all {
			require.NoError(t, c.Release())
		}
		<-time.After(time.Minute)
		h.drop()
		h.mu.Lock()
		h.dialed, h.slow = nil, 100*time.Millisecond
		h.mu.Unlock()
		waiting := make([]chan acquired, conns)
		for i := range waiting {
			waiting[i] = acquireLater(p)
		}
		synctest.Wait()
		require.Equal(t, 4, h.dials())
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 4+8, h.dials())
		for _, w := range waiting {
			got := <-w
			require.NoError(t, got.err)
			require.NoError(t, got.conn.Release())
		}
	})
}

// Dials that fail together are one failure.
func TestDialsThatFailTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		h.fail(errRefused)
		h.slow = time.Second
		p := newPool(t, h, pool.Options{MaxConns: 8, RetryFor: -1})
		var users [4]chan acquired
		for i := range users {
			users[i] = acquireLater(p)
		}
		for _, user := range users {
			require.ErrorIs(t, (<-user).err, errRefused)
		}
		require.Equal(t, len(users), h.dials())
		require.EqualValues(t, len(users), p.Stats().DialErrors)
		require.Equal(t, 1, p.Stats().Endpoints[0].Failures)
	})
}

// If several endpoints are down, the last failure is reported.
func TestOutageOfSeveralEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &host{incoming: make(chan net.Conn), closed: make(chan struct{})}
		a.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600") // so that it is not the last one
			http.Error(w, "later", http.StatusServiceUnavailable)
		}))
		b := newHost(t, nil)
		b.fail(errRefused)
		b.slow = 2 * time.Second
		p, err := pool.New("ws://a", options(map[string]*host{"a": a, "b": b},
			pool.Options{MaxConns: 2, MoreURLs: []string{"ws://b"}, RetryFor: -1}))
		require.NoError(t, err)
		defer func() { require.NoError(t, p.Close()) }()
		_, err = p.Acquire(t.Context())
		require.ErrorIs(t, err, errRefused)
		var failure *pool.DialError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, "ws://b", failure.URL)
	})
}

// A connection whose end has begun is lost, even if its user releases it before that is over.
func TestReleaseDuringTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, func(conn *wsd.Conn) {
			if m, err := conn.Receive(context.Background()); err == nil {
				_ = conn.Send(context.Background(), m)
			}
		})
		p := newPool(t, h, pool.Options{MaxConns: 1})
		c := acquire(t, p)
		require.NoError(t, c.Send(t.Context(), wsd.Text("one, and no more")))
		conn := unwrap(t, c)
		for range conn.Messages() {
		}
		require.Equal(t, wsd.StateClosing, conn.State())
		require.NoError(t, c.Release())
		require.Zero(t, p.Stats().Discarded)
		require.EqualValues(t, 1, p.Stats().Lost)
	})
}
