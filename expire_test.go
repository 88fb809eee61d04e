// expire_test.go tests the end of logins: when it comes, that it can be moved, and what it costs.

package wsd_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

func TestExpireAt(t *testing.T) {
	for _, row := range []struct {
		name string
		set  func(c *wsd.Conn)
		ends time.Duration // 0 for never
	}{
		{"once", func(c *wsd.Conn) { c.ExpireAt(time.Now().Add(time.Hour)) }, time.Hour},
		{"in the past", func(c *wsd.Conn) { c.ExpireAt(time.Now().Add(-time.Hour)) }, time.Nanosecond},
		{"later", func(c *wsd.Conn) {
			c.ExpireAt(time.Now().Add(time.Hour))
			time.AfterFunc(time.Minute, func() { c.ExpireAt(time.Now().Add(2 * time.Hour)) })
		}, 2*time.Hour + time.Minute},
		{"sooner", func(c *wsd.Conn) {
			c.ExpireAt(time.Now().Add(time.Hour))
			c.ExpireAt(time.Now().Add(time.Minute))
		}, time.Minute},
		{"never after all", func(c *wsd.Conn) {
			c.ExpireAt(time.Now().Add(time.Hour))
			time.AfterFunc(time.Hour-1, func() { c.ExpireAt(time.Time{}) })
		}, 0},
		{"removed and set again", func(c *wsd.Conn) {
			c.ExpireAt(time.Now().Add(time.Hour))
			c.ExpireAt(time.Time{})
			c.ExpireAt(time.Now().Add(2 * time.Hour))
		}, 2 * time.Hour},
		{"removed before it was set", func(c *wsd.Conn) { c.ExpireAt(time.Time{}) }, 0},
		{"a time without a monotonic clock", func(c *wsd.Conn) { c.ExpireAt(time.Now().Add(time.Hour).Round(0)) }, time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := wsdtest.Pipe()
				defer client.CloseNow()
				defer server.CloseNow()
				begun := time.Now()
				row.set(server)
				if row.ends == 0 {
					time.Sleep(24 * time.Hour)
					synctest.Wait()
					require.Equal(t, wsd.StateOpen, client.State())
					return
				}
				time.Sleep(row.ends - 1)
				synctest.Wait()
				require.Equal(t, row.ends > 1, client.State() == wsd.StateOpen)
				<-server.Closed()
				<-client.Closed()
				require.LessOrEqual(t, time.Since(begun), row.ends)
				require.Equal(t, wsd.StatusUnauthorized, client.CloseEvent().Code)
				require.Equal(t, "the login has expired", client.CloseEvent().Reason)
				require.True(t, client.CloseEvent().Clean)
				require.True(t, server.CloseEvent().Local)
				require.True(t, wsd.Permanent(client.CloseEvent().Err))
			})
		})
	}
}

// What is queued when the time comes is still sent.
func TestExpireAtSendsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wsdtest.Pipe()
		defer client.CloseNow()
		defer server.CloseNow()
		server.ExpireAt(time.Now())
		err := server.Send(t.Context(), wsd.Text("last"))
		<-server.Closed()
		m, ok := <-client.Messages()
		require.Equal(t, err == nil, ok)
		if ok {
			require.Equal(t, "last", string(m.Data))
		}
	})
}

// Ten thousand logins need no goroutine.
func TestExpireAtNeedsNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 10_000
		all := make([]*wsd.Conn, 0, conns)
		for range conns / 2 {
			client, server := wsdtest.Pipe()
			all = append(all, client, server)
		}
		synctest.Wait()
		before := goroutines()
		for _, c := range all {
			c.ExpireAt(time.Now().Add(time.Hour))
		}
		synctest.Wait()
		require.LessOrEqual(t, goroutines(), before)
		for _, c := range all {
			c.CloseNow()
		}
	})
}

// A connection that ends before its login does is not kept for that.
func TestExpireAtKeepsNoConnection(t *testing.T) {
	for name, end := range map[string]func(client, server *wsd.Conn){
		"CloseNow":         func(_, server *wsd.Conn) { server.CloseNow() },
		"Close":            func(_, server *wsd.Conn) { _ = server.Close(wsd.StatusNormalClosure, "") },
		"the peer's Close": func(client, _ *wsd.Conn) { _ = client.Close(wsd.StatusNormalClosure, "") },
	} {
		t.Run(name, func(t *testing.T) {
			kept := func() weak.Pointer[wsd.Conn] {
				client, server := wsdtest.Pipe()
				server.ExpireAt(time.Now().Add(24 * time.Hour))
				end(client, server)
				<-server.Closed()
				client.CloseNow()
				server.ExpireAt(time.Now().Add(24 * time.Hour)) // in vain
				return weak.Make(server)
			}()
			for kept.Value() != nil {
				runtime.GC()
			}
		})
	}
}

// Times are moved, and connections closed, by any goroutine.
func TestExpireAtConcurrently(t *testing.T) {
	for range 20 {
		client, server := wsdtest.Pipe()
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for range 50 {
					server.ExpireAt(time.Now().Add(time.Duration(i) * time.Hour))
					server.ExpireAt(time.Time{})
				}
			})
		}
		all.Go(func() { _ = client.Close(wsd.StatusNormalClosure, "") })
		all.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		<-server.Closed()
		require.NoError(t, ctx.Err())
		cancel()
	}
}
