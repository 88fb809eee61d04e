// keeper_test.go tests what happens to idle connections over time.

package pool_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

func TestMinIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 5, MinIdle: 3, MaxIdleTime: time.Minute})
		synctest.Wait()
		require.Equal(t, 3, p.Stats().Idle, "kept warm from the beginning")
		a, b := acquire(t, p), acquire(t, p)
		synctest.Wait()
		require.Equal(t, 3, p.Stats().Idle, "filled up behind those that go out")
		c := acquire(t, p)
		synctest.Wait()
		require.Equal(t, 2, p.Stats().Idle, "as far as MaxConns goes")
		for _, c := range []*pool.Conn{a, b, c} {
			require.NoError(t, c.Release())
		}
		require.Equal(t, 5, p.Stats().Idle)
		<-time.After(time.Hour / 2)
		require.Equal(t, 3, p.Stats().Idle, "what is warm stays")
		require.Equal(t, 5, h.dials(), "and is not dialed again")
		h.drop()
		<-time.After(10 * time.Second)
		require.Equal(t, 3, p.Stats().Idle, "filled up after a loss, with nobody asking")
		require.Equal(t, 3, h.open())
	})
}

func TestMaxIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 3, MaxIdleTime: time.Minute})
		a, b := acquire(t, p), acquire(t, p)
		conn := unwrap(t, b)
		require.NoError(t, a.Release())
		<-time.After(40 * time.Second)
		require.NoError(t, b.Release())
		<-time.After(21 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, p.Stats().Idle, "the one that was idle for a minute is gone")
		require.Equal(t, wsd.StateOpen, conn.State())
		<-time.After(40 * time.Second)
		synctest.Wait()
		require.Zero(t, p.Stats().Idle)
		require.Equal(t, uint64(2), p.Stats().IdleTooLong)
		event := conn.CloseEvent()
		require.True(t, event.Clean)
		require.Equal(t, wsd.StatusNormalClosure, event.Code)
	})
}

func TestMaxLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 20
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: conns, MaxLifetime: time.Hour, MaxIdleTime: -1})
		var all []*pool.Conn
		for range conns {
			all = append(all, acquire(t, p))
		}
		for _, c := range all[1:] {
			require.NoError(t, c.Release())
		}
		<-time.After(53 * time.Minute)
		require.Equal(t, conns-1, p.Stats().Idle)
		var left []int
		for range 7 {
			<-time.After(time.Minute)
			synctest.Wait()
			left = append(left, p.Stats().Idle)
		}
		<-time.After(time.Second)
		require.Zero(t, p.Stats().Idle)
		require.NotEqual(t, left[0], left[3], "they do not go together: %v", left)
		require.NotEqual(t, left[3], left[6], "they do not go together: %v", left)
		// The one in use goes when it is released.
		ask(t, all[0], "hello")
		old := unwrap(t, all[0])
		require.NoError(t, all[0].Release())
		c := acquire(t, p)
		require.NotSame(t, old, unwrap(t, c))
		<-old.Closed()
		require.Equal(t, wsd.StatusNormalClosure, old.CloseEvent().Code)
		require.NoError(t, c.Release())
		require.Equal(t, uint64(conns), p.Stats().Expired)
	})
}

// The ping before a connection is handed out finds a peer that has gone silent.
func TestCheckAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		p := newPool(t, h, pool.Options{MaxConns: 2, CheckAfter: time.Minute, CheckTimeout: time.Second, MaxIdleTime: -1,
			DialOptions: wsd.DialOptions{Config: wsd.Config{PingInterval: -1}}})
		c := acquire(t, p)
		conn := unwrap(t, c)
		require.NoError(t, c.Release())
		<-time.After(2 * time.Minute)
		c = acquire(t, p)
		require.Same(t, conn, unwrap(t, c), "it answers, and is handed out")
		require.NoError(t, c.Release())

		silent := make(chan struct{})
		h2 := newHost(t, func(c *wsd.Conn) {
			<-silent // nobody receives, so that nothing is read
		})
		defer close(silent)
		p2 := newPool(t, h2, pool.Options{MaxConns: 2, CheckAfter: time.Minute, CheckTimeout: time.Second, MaxIdleTime: -1,
			DialOptions: wsd.DialOptions{Config: wsd.Config{PingInterval: -1}}})
		c = acquire(t, p2)
		conn = unwrap(t, c)
		for range 40 { // more than the server's buffer holds
			require.NoError(t, c.Send(context.Background(), wsd.Text("x")))
		}
		require.NoError(t, c.Release())
		c = acquire(t, p2)
		require.Same(t, conn, unwrap(t, c), "it has been idle for no time")
		require.NoError(t, c.Release())
		<-time.After(2 * time.Minute)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
		defer cancel()
		_, err := p2.Acquire(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1, p2.Stats().Idle, "nothing is known of it yet")
		c = acquire(t, p2)
		require.NotSame(t, conn, unwrap(t, c))
		require.Equal(t, time.Second*3/2, time.Since(begun))
		require.Equal(t, uint64(1), p2.Stats().ChecksFailed)
		require.NoError(t, c.Release())
	})
}

// A connection that may be idle for long only because it is one of MinIdle goes as soon as a fresher one takes its place.
func TestMinIdleKeepsTheFreshest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, newHost(t, nil), pool.Options{MaxConns: 2, MinIdle: 1, MaxIdleTime: time.Minute})
		synctest.Wait()
		a, b := acquire(t, p), acquire(t, p)
		old, fresh := unwrap(t, a), unwrap(t, b)
		require.NoError(t, a.Release())
		<-time.After(time.Hour / 3)
		require.Equal(t, 1, p.Stats().Idle)
		require.Equal(t, wsd.StateOpen, old.State())
		require.NoError(t, b.Release())
		synctest.Wait()
		require.Equal(t, 1, p.Stats().Idle)
		require.Equal(t, wsd.StateClosed, old.State())
		require.Equal(t, wsd.StateOpen, fresh.State())
	})
}

// silentPool returns a pool with one idle connection, to be checked, whose server does not answer pings.
func silentPool(t *testing.T, maxConns int, checkTimeout time.Duration) *pool.Pool {
	silent := make(chan struct{})
	var conns atomic.Int32
	h := newHost(t, func(conn *wsd.Conn) {
		if conns.Add(1) == 1 {
			<-silent // nobody receives, so that nothing is read
		}
		echo(conn)
	})
	t.Cleanup(func() { close(silent) })
	p := newPool(t, h, pool.Options{MaxConns: maxConns, CheckAfter: time.Minute, CheckTimeout: checkTimeout, MaxIdleTime: -1,
		DialOptions: wsd.DialOptions{Config: wsd.Config{PingInterval: -1}}})
	c := acquire(t, p)
	for range 40 { // more than the server's buffer holds
		require.NoError(t, c.Send(t.Context(), wsd.Text("x")))
	}
	require.NoError(t, c.Release())
	<-time.After(2 * time.Minute)
	return p
}

// Who was given a connection that turned out to be dead is still ahead of those that came later.
func TestFailedCheckKeepsTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := silentPool(t, 1, time.Second)
		first := acquireLater(p)
		synctest.Wait()
		second := acquireLater(p)
		synctest.Wait()
		require.Equal(t, 1, p.Stats().Waiting)
		<-time.After(time.Minute)
		require.Empty(t, second)
		require.Len(t, first, 1)
		got := <-first
		require.NoError(t, got.err)
		require.EqualValues(t, 1, p.Stats().ChecksFailed)
		require.NoError(t, got.conn.Release())
		got = <-second
		require.NoError(t, got.err)
		require.NoError(t, got.conn.Release())
		require.EqualValues(t, 3, p.Stats().Waits, "the first connection's user, and these two")
	})
}

// A check that is given up leaves the connection where it was: behind those used since.
func TestCheckGivenUpIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := silentPool(t, 2, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		checked := make(chan error, 1)
		go func() {
			_, err := p.Acquire(ctx)
			checked <- err
		}()
		synctest.Wait()
		fresh := acquire(t, p)
		require.NoError(t, fresh.Release())
		require.ErrorIs(t, <-checked, context.DeadlineExceeded)
		require.Equal(t, 2, p.Stats().Idle)
		ask(t, acquire(t, p), "answered by the fresh one")
		require.Zero(t, p.Stats().ChecksFailed)
	})
}
