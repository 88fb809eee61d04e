// close_test.go tests the end of a pool.

package pool_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
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
		for range 100 {
			require.NoError(t, p.Shutdown(done))
		}
	})
}
