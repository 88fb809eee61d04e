// pool_test.go tests what is handed out, to whom, and what never is.

package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

func TestIdleConnectionsFirstTheLastUsedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 3})
		a, b := acquire(t, p), acquire(t, p)
		first, second := unwrap(t, a), unwrap(t, b)
		require.NotSame(t, first, second)
		require.NoError(t, a.Release())
		require.NoError(t, b.Release())
		c, d := acquire(t, p), acquire(t, p)
		require.Same(t, second, unwrap(t, c))
		require.Same(t, first, unwrap(t, d))
		require.Equal(t, 2, h.dials())
		ask(t, c, "still open")
		ask(t, d, "so is this")
		require.NoError(t, c.Release())
		require.NoError(t, d.Release())
	})
}

func TestWaitingIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const users = 20
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 2})
		a, b := acquire(t, p), acquire(t, p)
		served := make(chan int, users)
		for i := range users {
			go func() {
				c, err := p.Acquire(context.Background())
				if err != nil {
					served <- -1
					return
				}
				served <- i
				_ = c.Release()
			}()
			synctest.Wait() // it is in the queue
		}
		require.Equal(t, users, p.Stats().Waiting)
		require.Equal(t, 2, p.Stats().InUse)
		require.NoError(t, a.Release())
		for i := range users {
			require.Equal(t, i, <-served)
		}
		require.NoError(t, b.Release())
		synctest.Wait()
		require.Equal(t, 2, h.dials())
		require.Equal(t, 2, p.Stats().Idle)
		require.Equal(t, uint64(users+2), p.Stats().Acquired)
	})
}

// A wait that is given up takes nothing from those behind it.
func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 1})
		a := acquire(t, p)
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errors.New("enough"))
		defer cancel()
		_, err := p.Acquire(ctx)
		require.EqualError(t, err, "wsd: acquire: enough")
		require.ErrorIs(t, err, context.Cause(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = p.Acquire(ctx) // it is done beforehand
		require.ErrorIs(t, err, context.Cause(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, uint64(1), p.Stats().Canceled)
		require.Zero(t, p.Stats().Waiting)
		require.NoError(t, a.Release())
		b := acquire(t, p)
		ask(t, b, "hello")
		// A connection's own context has its end for a cause, which has the prefix already.
		conn, err := b.Unwrap()
		require.NoError(t, err)
		conn.CloseNow()
		_, err = p.Acquire(conn.Context())
		require.EqualError(t, err, "wsd: acquire: closed by CloseNow: "+net.ErrClosed.Error())
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, b.Release())
		var none context.Context
		_, err = p.Acquire(none)
		require.ErrorIs(t, err, wsd.ErrNilContext)
	})
}

// Contexts that end at the very moment at which connections are handed to their waiters lose none of them.
func TestNoConnectionIsLostToACanceledWait(t *testing.T) {
	p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 2})
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 300 {
				ctx, cancel := context.WithCancel(context.Background())
				go cancel()
				if c, err := p.Acquire(ctx); err == nil {
					_ = c.Release()
				}
			}
		})
	}
	users.Wait()
	require.Zero(t, p.Stats().InUse)
	a, b := acquire(t, p), acquire(t, p) // both places are there
	require.NoError(t, a.Release())
	require.NoError(t, b.Release())
}

// lateContext is done from the moment somebody waits for it, and something else has happened by then.
type lateContext struct {
	context.Context
	meanwhile func()
	err       error
}

func (l *lateContext) Done() <-chan struct{} {
	if l.err == nil {
		l.err = context.Canceled
		l.meanwhile()
	}
	done := make(chan struct{})
	close(done)
	return done
}

func (l *lateContext) Err() error { return l.err }

// Whether a wait sees a connection or the end of its context first, the connection is not lost.
func TestWaitServedBesideItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 1})
		for range 50 {
			out := acquire(t, p)
			c, err := p.Acquire(&lateContext{Context: context.Background(), meanwhile: func() { require.NoError(t, out.Release()) }})
			if err == nil {
				require.NoError(t, c.Release())
			}
			require.Equal(t, 1, p.Stats().Idle)
		}
	})
}

// Nor is a connection kept that ends between its release and the end of the wait that it is served to.
func TestWaitServedWithWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 1})
		for i := range 50 {
			out := acquire(t, p)
			conn := unwrap(t, out)
			c, err := p.Acquire(&lateContext{Context: context.Background(), meanwhile: func() {
				require.NoError(t, out.Release())
				conn.CloseNow()
				synctest.Wait()
			}})
			if err == nil { // it was in line again when the next connection came
				require.NoError(t, c.Release())
			}
			synctest.Wait()
			require.Equal(t, h.open(), p.Stats().Idle)
			require.EqualValues(t, i+1, p.Stats().Lost)
		}
	})
}

// nosyContext asks for the state of the pool when it is asked why it is done.
type nosyContext struct {
	context.Context
	pool *pool.Pool
}

func (n nosyContext) Err() error {
	n.pool.Stats()
	return n.Context.Err()
}

// A context is foreign code, and may use the very pool that it is passed to.
func TestContextThatAsksForThePool(t *testing.T) {
	for _, idle := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			silent := make(chan struct{})
			h := newHost(t, func(*wsd.Conn) { <-silent }) // nobody receives, so that no ping is answered
			defer close(silent)
			p := newPool(t, h, pool.Options{MaxConns: 1, CheckAfter: time.Minute, CheckTimeout: time.Hour, MaxIdleTime: -1,
				DialOptions: wsd.DialOptions{Config: wsd.Config{PingInterval: -1}}})
			c := acquire(t, p)
			for range 40 { // more than the server's buffer holds
				require.NoError(t, c.Send(context.Background(), wsd.Text("x")))
			}
			if idle {
				require.NoError(t, c.Release())
				<-time.After(2 * time.Minute)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := p.Acquire(nosyContext{ctx, p}) // waits for its release, or for the check
			require.ErrorIs(t, err, context.DeadlineExceeded)
			if !idle {
				require.NoError(t, c.Release())
			}
		})
	}
}

// A wait that begins at the very moment of a Release sees it, even if no other call comes that would find the connection
// idle.
func TestNoReleaseIsLostToAWaitThatBegins(t *testing.T) {
	for name, more := range map[string][]string{"one endpoint": nil, "two": {"ws://server/two"}} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 1, MoreURLs: more})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begin, done := make(chan struct{}), make(chan error)
			defer close(begin)
			go func() {
				for range begin {
					c, err := p.Acquire(ctx)
					if err == nil {
						err = c.Release()
					}
					done <- err
				}
			}()
			for i := range 50_000 {
				c := acquire(t, p)
				begin <- struct{}{}
				for range i % 64 { // the two meet at all moments
					p.Stats()
				}
				require.NoError(t, c.Release())
				require.NoError(t, <-done)
			}
		})
	}
}

func TestUseAfterRelease(t *testing.T) {
	for name, end := range map[string]func(*pool.Conn) error{"Release": (*pool.Conn).Release, "Destroy": (*pool.Conn).Destroy} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 1})
				old := acquire(t, p)
				require.NoError(t, end(old))
				other := acquire(t, p) // the same connection, where it was released
				require.ErrorIs(t, old.Send(context.Background(), wsd.Text("mine?")), pool.ErrReleased)
				_, err := old.Receive(context.Background())
				require.ErrorIs(t, err, pool.ErrReleased)
				require.ErrorIs(t, old.TrySend(wsd.Text("mine?")), pool.ErrReleased)
				require.ErrorIs(t, old.SendJSON(context.Background(), "mine?"), pool.ErrReleased)
				require.ErrorIs(t, old.ReceiveJSON(context.Background(), new(string)), pool.ErrReleased)
				_, err = old.Unwrap()
				require.ErrorIs(t, err, pool.ErrReleased)
				require.ErrorIs(t, old.Release(), pool.ErrReleased)
				require.ErrorIs(t, old.Destroy(), pool.ErrReleased)
				ask(t, other, "mine")
				require.Equal(t, 1, p.Stats().InUse)
				require.NoError(t, other.Release())
			})
		})
	}
}

// Values travel as JSON, and one that is not what was expected leaves the connection fit for its next user.
func TestValuesAsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 1})
		c := acquire(t, p)
		old := unwrap(t, c)
		require.NoError(t, c.SendJSON(ctx, []int{1, 2}))
		var got []int
		require.NoError(t, c.ReceiveJSON(ctx, &got))
		require.Equal(t, []int{1, 2}, got)
		require.NoError(t, c.TrySend(wsd.Text("no JSON")))
		require.Error(t, c.ReceiveJSON(ctx, &got))
		require.NoError(t, c.Release())
		next := acquire(t, p)
		require.Same(t, old, unwrap(t, next))
		require.NoError(t, next.Release())
	})
}

// The next user does not get what the last one has left behind.
func TestSpoiledConnectionsAreNotReused(t *testing.T) {
	ctx := context.Background()
	for name, spoil := range map[string]func(*testing.T, *pool.Conn){
		"unread message": func(t *testing.T, c *pool.Conn) {
			require.NoError(t, c.Send(ctx, wsd.Text("a")))
			synctest.Wait() // the answer is there
		},
		"Receive given up": func(t *testing.T, c *pool.Conn) {
			timeout, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := c.Receive(timeout)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		},
		"ReceiveJSON given up": func(t *testing.T, c *pool.Conn) {
			timeout, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			require.ErrorIs(t, c.ReceiveJSON(timeout, new(string)), context.DeadlineExceeded)
		},
		"Receive under way": func(t *testing.T, c *pool.Conn) {
			go func() {
				m, err := c.Receive(ctx)
				if err == nil {
					panic(fmt.Sprintf("received %q, which is for the next user", m.Data))
				}
			}()
			synctest.Wait()
		},
		"unread body": func(t *testing.T, c *pool.Conn) {
			require.NoError(t, c.Send(ctx, wsd.Text(strings.Repeat("long", 10))))
			m, err := c.Receive(ctx)
			require.NoError(t, err)
			require.True(t, m.Streamed())
			_, err = m.Body().Read(make([]byte, 1))
			require.NoError(t, err)
		},
		"closed by its user": func(t *testing.T, c *pool.Conn) {
			require.NoError(t, unwrap(t, c).Close(wsd.StatusNormalClosure, ""))
		},
		"closed by the server": func(t *testing.T, c *pool.Conn) {
			require.NoError(t, c.Send(ctx, wsd.Text("bye")))
			<-unwrap(t, c).Closed()
		},
		"being closed": func(t *testing.T, c *pool.Conn) {
			go func() { _ = unwrap(t, c).Close(wsd.StatusNormalClosure, "") }()
			<-unwrap(t, c).Messages()
		},
	} {
		for _, buffer := range []int{0, -1} { // with and without room for unread messages in the channel
			t.Run(fmt.Sprint(name, ", buffer ", buffer), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHost(t, func(c *wsd.Conn) {
						for m := range c.Messages() {
							if string(m.Data) == "bye" {
								return
							}
							_ = c.Send(ctx, m)
						}
					})
					p := newPool(t, h, pool.Options{MaxConns: 1,
						DialOptions: wsd.DialOptions{Config: wsd.Config{MessageBuffer: buffer, StreamAbove: 20}}})
					c := acquire(t, p)
					old := unwrap(t, c)
					spoil(t, c)
					require.NoError(t, c.Release())
					next := acquire(t, p)
					require.NotSame(t, old, unwrap(t, next))
					ask(t, next, "b")
					require.NoError(t, next.Release())
					require.Equal(t, wsd.StateClosed, old.State())
					require.Equal(t, 2, h.dials())
				})
			})
		}
	}
}

// answerLate is a handler that answers "slow" after a second, and all else at once. It takes the next message when the
// answer is written, since the pong to a ping behind that message would overtake an answer that is still queued.
func answerLate(c *wsd.Conn) {
	for m := range c.Messages() {
		if string(m.Data) == "slow" {
			<-time.After(time.Second)
		}
		_ = c.Send(context.Background(), m)
		_ = c.Flush(context.Background())
	}
}

// An answer that comes late finds its connection idle, which can then no longer be used.
func TestLateAnswerToAnIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, answerLate)
		p := newPool(t, h, pool.Options{MaxConns: 1})
		c := acquire(t, p)
		require.NoError(t, c.Send(context.Background(), wsd.Text("slow")))
		require.NoError(t, c.Release()) // against the rules
		<-time.After(2 * time.Second)
		c = acquire(t, p)
		ask(t, c, "fast")
		require.NoError(t, c.Release())
		require.Equal(t, uint64(1), p.Stats().Discarded)
	})
}

// Nor can one whose answer comes while it is checked: the answer is ahead of the pong.
func TestLateAnswerDuringACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, answerLate)
		h.server.MessageBuffer = -1 // so that with two messages the server reads nothing more, pings neither
		p := newPool(t, h, pool.Options{MaxConns: 1, CheckAfter: 100 * time.Millisecond, CheckTimeout: time.Minute})
		c := acquire(t, p)
		require.NoError(t, c.Send(context.Background(), wsd.Text("slow")))
		require.NoError(t, c.Send(context.Background(), wsd.Text("and another")))
		require.NoError(t, c.Release()) // against the rules
		<-time.After(500 * time.Millisecond)
		c = acquire(t, p)
		ask(t, c, "fast")
		require.NoError(t, c.Release())
		require.Equal(t, uint64(1), p.Stats().Discarded)
	})
}

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 1})
		request := func(ctx context.Context, text string) (answer string, err error) {
			err = p.Do(ctx, func(conn *pool.Conn) error {
				if err := conn.Send(ctx, wsd.Text(text)); err != nil {
					return err
				}
				m, err := conn.Receive(ctx)
				answer = string(m.Data)
				return err
			})
			return answer, err
		}
		for _, text := range []string{"one", "two"} {
			answer, err := request(context.Background(), text)
			require.NoError(t, err)
			require.Equal(t, text, answer)
		}
		require.Equal(t, 1, h.dials())

		mine := errors.New("mine")
		require.ErrorIs(t, p.Do(context.Background(), func(*pool.Conn) error { return mine }), mine)
		_, err := request(context.Background(), "three")
		require.NoError(t, err)
		require.Equal(t, 2, h.dials(), "an error destroys the connection")

		ctx, cancel := context.WithCancel(context.Background())
		require.NoError(t, p.Do(ctx, func(*pool.Conn) error { cancel(); return nil }))
		_, err = request(context.Background(), "four")
		require.NoError(t, err)
		require.Equal(t, 3, h.dials(), "a context that ends in the middle destroys the connection")

		require.PanicsWithValue(t, "oops", func() { _ = p.Do(context.Background(), func(*pool.Conn) error { panic("oops") }) })
		_, err = request(context.Background(), "five")
		require.NoError(t, err)
		require.Equal(t, 4, h.dials(), "a panic destroys the connection")
		require.Equal(t, uint64(3), p.Stats().Discarded)
	})
}

// The function that Do calls has the connection until it returns, and what happened to the connection is not forgotten.
func TestDoLendsWhatAcquireLends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 1})
		var kept *pool.Conn
		require.NoError(t, p.Do(t.Context(), func(conn *pool.Conn) error {
			kept = conn
			ask(t, conn, "mine")
			return nil
		}))
		require.ErrorIs(t, kept.Send(t.Context(), wsd.Text("late")), pool.ErrReleased)
		require.ErrorIs(t, kept.Release(), pool.ErrReleased)
		require.Equal(t, 1, p.Stats().Idle)

		require.NoError(t, p.Do(t.Context(), func(conn *pool.Conn) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := conn.Receive(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return nil // as if nothing had happened
		}))
		require.NoError(t, p.Do(t.Context(), func(conn *pool.Conn) error { ask(t, conn, "other"); return nil }))
		require.Equal(t, 2, h.dials(), "the answer to a Receive that failed could still come")

		require.NoError(t, p.Do(t.Context(), (*pool.Conn).Release))
		require.Equal(t, 1, p.Stats().Idle)
		require.NoError(t, p.Do(t.Context(), (*pool.Conn).Destroy))
		synctest.Wait()
		require.Zero(t, p.Stats().Idle)
		require.EqualValues(t, 2, p.Stats().Discarded)
	})
}

// The first user of a connection gets what the server sends unasked, and has to read it.
func TestGreetingIsForTheFirstUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, func(c *wsd.Conn) {
			_ = c.Send(context.Background(), wsd.Text("welcome"))
			echo(c)
		})
		p := newPool(t, h, pool.Options{MaxConns: 1, MinIdle: 1})
		synctest.Wait()
		c := acquire(t, p)
		m, err := c.Receive(context.Background())
		require.NoError(t, err)
		require.Equal(t, "welcome", string(m.Data))
		require.NoError(t, c.Release())
		require.Equal(t, 1, h.dials())
	})
}

// Stats add up at every moment: also while a dial becomes a connection, which is lent, destroyed and dialed again.
func TestStatsAddUp(t *testing.T) {
	p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 3, MinIdle: 1})
	watched := watchStats(t, p)
	for range 2000 {
		require.NoError(t, acquire(t, p).Destroy())
	}
	watched()
}

// Lending costs the handle and nothing else.
func TestLendingAllocatesTheHandleAlone(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 1})
	require.NoError(t, acquire(t, p).Release())
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		if c, err := p.Acquire(context.Background()); err == nil {
			_ = c.Release()
		}
	}), 1.0)
}

func TestOptionsThatCannotBe(t *testing.T) {
	good := pool.Options{MaxConns: 2}
	for _, test := range []struct {
		url    string
		change func(*pool.Options)
		option string
	}{
		{"ws://host", func(o *pool.Options) { o.MaxConns = 0 }, "MaxConns"},
		{"ws://host", func(o *pool.Options) { o.MaxConns = -1 }, "MaxConns"},
		{"ws://host", func(o *pool.Options) { o.MaxConns = math.MaxInt }, "MaxConns"},
		{"ws://host", func(o *pool.Options) { o.MinIdle = -1 }, "MinIdle"},
		{"ws://host", func(o *pool.Options) { o.MinIdle = 3 }, "MinIdle"},
		{"ws://host", func(o *pool.Options) { o.MinBackoff = -1 }, "MinBackoff"},
		{"ws://host", func(o *pool.Options) { o.Balance = 2 }, "Balance"},
		{"ws://host", func(o *pool.Options) { o.MoreURLs = []string{"ws://other", "other"} }, "MoreURLs"},
		{"", nil, "url"},
		{"host", nil, "url"},
		{"ftp://host", nil, "url"},
		{"ws:host", nil, "url"},
		{"ws://", nil, "url"},
		{"ws://:80", nil, "url"},
		{"ws://host/#fragment", nil, "url"},
		{"ws://user:secret@ho st", nil, "url"},
		{"ws://host:secret", nil, "url"},
		{"ws://host/%zz", nil, "url"},
	} {
		o := good
		if test.change != nil {
			test.change(&o)
		}
		p, err := pool.New(test.url, &o)
		require.Nil(t, p)
		var problem *pool.OptionError
		require.ErrorAs(t, err, &problem, test.url)
		require.Equal(t, test.option, problem.Option)
		require.NotContains(t, err.Error(), "secret")
		require.True(t, strings.HasPrefix(err.Error(), "wsd: pool option "), err.Error())
	}
	for _, url := range []string{"ws://host", "wss://[::1]:1/path?query", "http://host", "https://host", "ws://host/%23"} {
		p, err := pool.New(url, nil)
		require.NoError(t, err)
		require.Equal(t, 8, p.Stats().MaxConns)
		require.NoError(t, p.Close())
	}
}

// A connection handed to a waiter that has just given up counts as just used, as if it had come back with nobody waiting.
func TestWaiterThatGaveUpLeavesTheTimeOfUseAlone(t *testing.T) {
	const idleFor, turns = time.Minute, 40
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 1, MaxIdleTime: idleFor})
		for range turns {
			c := acquire(t, p)
			time.Sleep(2 * idleFor)
			ctx, cancel := context.WithCancel(t.Context())
			waited := make(chan struct{})
			go func() {
				defer close(waited)
				if again, err := p.Acquire(ctx); err == nil {
					_ = again.Release()
				}
			}()
			synctest.Wait()
			cancel()
			require.NoError(t, c.Release())
			<-waited
			time.Sleep(idleFor / 2)
			require.Zero(t, p.Stats().IdleTooLong)
		}
	})
}

// Connections whose messages went elsewhere could not be lent.
func TestNoPoolOfConnectionsWithAnInbox(t *testing.T) {
	_, err := pool.New("ws://server/", &pool.Options{DialOptions: wsd.DialOptions{Config: wsd.Config{Inbox: wsd.NewInbox(1)}}})
	require.ErrorIs(t, err, wsd.ErrInbox)
}
