// chaos_test.go has many workers send many requests over loopback to a server that drops, stalls and refuses at random.

package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/pool"
)

// TestMain fails the whole binary when a goroutine outlives its test.
func TestMain(m *testing.M) {
	code := m.Run()
	var left string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		if left = string(stacks[:runtime.Stack(stacks, true)]); strings.Count(left, "\n\ngoroutine ") == 0 {
			os.Exit(code)
		}
	}
	fmt.Fprintln(os.Stderr, "leaked goroutines:\n\n"+left)
	os.Exit(1)
}

// chaos is a server that cannot be relied on. calm makes it behave.
type chaos struct {
	calm atomic.Bool
	ws   wsd.Server
	over chan struct{} // ends what it stalls

	dropped, stalled, late, refused, unanswered, reset atomic.Int64
}

func (c *chaos) one(in int) bool { return !c.calm.Load() && rand.IntN(in) == 0 }

// stall waits for too long for any client, or as long as the test takes.
func (c *chaos) stall(r <-chan struct{}) {
	select {
	case <-time.After(2 * patience):
	case <-r:
	case <-c.over:
	}
}

// patience is how long a worker waits for an answer, and the pool for a handshake: far longer than either takes.
var patience = func() time.Duration {
	if raceEnabled {
		return time.Second
	}
	return 100 * time.Millisecond
}()

func (c *chaos) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case c.one(6):
		c.refused.Add(1)
		http.Error(w, "chaos", http.StatusServiceUnavailable)
	case c.one(60):
		c.unanswered.Add(1)
		c.stall(r.Context().Done())
	case c.one(6):
		c.reset.Add(1)
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	default:
		c.ws.ServeHTTP(w, r)
	}
}

// handle answers each request with its own text.
func (c *chaos) handle(conn *wsd.Conn) {
	if c.one(20) {
		return // accepted, and closed at once
	}
	for m := range conn.Messages() {
		switch {
		case c.one(300):
			c.dropped.Add(1)
			conn.CloseNow()
			return
		case c.one(300):
			c.dropped.Add(1)
			_ = conn.Send(context.Background(), m)
			return // the answer, and then no more
		case c.one(8000):
			c.stalled.Add(1)
			c.stall(conn.Context().Done())
			continue // this one is never answered
		case c.one(8000):
			// The answer comes when nobody waits for it any more.
			c.late.Add(1)
			c.stall(nil)
		}
		if conn.Send(context.Background(), m) != nil {
			return
		}
	}
}

func TestChaos(t *testing.T) {
	const workers, conns = 64, 12
	requests := 100_000
	if testing.Short() || raceEnabled {
		requests = 10_000
	}
	c := &chaos{over: make(chan struct{})}
	c.ws.Handler = c.handle
	listener := wiretest.Listen(t, "tcp")
	server := &http.Server{Handler: c}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	p, err := pool.New("ws://"+listener.Addr().String(), &pool.Options{MaxConns: conns, MinIdle: 2, DialTimeout: patience,
		MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond, RetryFor: time.Second, MaxLifetime: 2 * time.Second,
		CheckAfter: 50 * time.Millisecond, CheckTimeout: patience})
	require.NoError(t, err)

	var next, answers, failures, crossed atomic.Int64
	var unexpected atomic.Pointer[error]
	request := func(worker int, number int64) {
		want := fmt.Sprintf("worker %d, request %d", worker, number)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		check := func(m wsd.Message) {
			if string(m.Data) != want {
				crossed.Add(1)
			}
		}
		var err error
		if number%2 == 0 {
			err = p.Do(ctx, func(conn *pool.Conn) error {
				if err := conn.Send(ctx, wsd.Text(want)); err != nil {
					return err
				}
				m, err := conn.Receive(ctx)
				if err == nil {
					check(m)
				}
				return err
			})
		} else {
			var conn *pool.Conn
			if conn, err = p.Acquire(ctx); err == nil {
				var m wsd.Message
				if err = conn.Send(ctx, wsd.Text(want)); err == nil {
					if m, err = conn.Receive(ctx); err == nil {
						check(m)
					}
				}
				// A connection with a failed Receive is not reused, so Release is enough.
				if err := conn.Release(); err != nil {
					unexpected.Store(&err)
				}
			}
		}
		switch {
		case err == nil:
			answers.Add(1)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, wsd.ErrClosed), errors.As(err, new(*pool.DialError)):
			failures.Add(1)
		default:
			unexpected.Store(&err)
		}
	}
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for number := next.Add(1); number <= int64(requests); number = next.Add(1) {
				request(worker, number)
				if s := p.Stats(); !addsUp(s) {
					t.Errorf("more than MaxConns, or not the sum of the endpoints: %+v", s)
					return
				}
			}
		})
	}
	group.Wait()
	stats := p.Stats()
	t.Logf("%d answers, %d errors; dropped %d, stalled %d, late %d, refused %d, unanswered %d, reset %d", answers.Load(),
		failures.Load(), c.dropped.Load(), c.stalled.Load(), c.late.Load(), c.refused.Load(), c.unanswered.Load(), c.reset.Load())
	t.Logf("%+v", stats)
	if err := unexpected.Load(); err != nil {
		require.NoError(t, *err)
	}
	require.Zero(t, crossed.Load())
	require.EqualValues(t, requests, answers.Load()+failures.Load())
	require.Greater(t, answers.Load(), int64(requests)*8/10)
	require.NotZero(t, c.dropped.Load())
	require.Zero(t, stats.InUse)
	require.Zero(t, stats.Waiting)

	// When the server is well again, so is the pool.
	c.calm.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for well := 0; well < conns; {
		err := p.Do(ctx, func(conn *pool.Conn) error {
			if err := conn.Send(ctx, wsd.Text("well?")); err != nil {
				return err
			}
			_, err := conn.Receive(ctx)
			return err
		})
		if err == nil {
			well++
		}
		require.NoError(t, ctx.Err(), "%v", err)
	}
	require.NoError(t, p.Shutdown(ctx))
	stats = p.Stats()
	require.Zero(t, stats.InUse+stats.Idle+stats.Dialing+stats.Closing+stats.Waiting, "%+v", stats)
	close(c.over)
	// No connection is left: all handlers return without this side closing their connections.
	for c.ws.Connections() > 0 {
		require.NoError(t, ctx.Err())
		runtime.Gosched()
	}
	require.NoError(t, c.ws.Shutdown(ctx))
	require.NoError(t, server.Shutdown(ctx))
	<-served
}
