// trysend_load_test.go sends without waiting while everything else goes on: whatever state another sender is in, and however the
// connection ends, each call returns at once, and what was taken arrives whole and in order or the connection has ended.

package wsd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// busySenders are what other goroutines may be doing. Each goes on until the connection has ended.
var busySenders = map[string]func(c *wsd.Conn){
	"nobody": func(*wsd.Conn) {},
	"small messages": func(c *wsd.Conn) {
		for c.Send(context.Background(), wsd.Binary(make([]byte, 500))) == nil {
		}
	},
	"large messages": func(c *wsd.Conn) {
		for c.Send(context.Background(), wsd.Binary(make([]byte, 200<<10))) == nil {
		}
	},
	"messages that are compressed": func(c *wsd.Conn) {
		m := wsd.Binary(bytes.Repeat([]byte("some text, "), 8000))
		for c.Send(context.Background(), m) == nil {
		}
	},
	"prepared messages": func(c *wsd.Conn) {
		m := prepared(wsd.Binary(make([]byte, 50<<10)))
		for c.SendPrepared(context.Background(), m) == nil {
		}
	},
	"a Writer that pauses": func(c *wsd.Conn) {
		for {
			w := c.Writer(context.Background(), wsd.BinaryMessage, nil)
			for range 3 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
				select {
				case <-time.After(time.Millisecond):
				case <-c.Closed():
				}
			}
			if w.Close() != nil {
				return
			}
		}
	},
	"contexts that end in line": func(c *wsd.Conn) {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			err := c.Send(ctx, wsd.Binary(make([]byte, 20<<10)))
			cancel()
			if errors.Is(err, wsd.ErrClosed) {
				return
			}
		}
	},
	"room that is waited for": func(c *wsd.Conn) {
		for c.State() == wsd.StateOpen {
			room := make(chan struct{})
			c.NotifyRoom(sync.OnceFunc(func() { close(room) }))
			select {
			case <-room:
			case <-time.After(time.Millisecond): // another may have replaced it
			}
		}
	},
}

// waysToEnd are how the connection ends under the senders.
var waysToEnd = map[string]func(near, far *wsd.Conn){
	"Close":               func(near, _ *wsd.Conn) { _ = near.Close(wsd.StatusNormalClosure, "") },
	"CloseNow":            func(near, _ *wsd.Conn) { near.CloseNow() },
	"the peer's Close":    func(_, far *wsd.Conn) { _ = far.Close(wsd.StatusNormalClosure, "") },
	"the peer's CloseNow": func(_, far *wsd.Conn) { far.CloseNow() },
}

const attackHeader = 10 // bytes: what is tried has a number, others have zeros

// attack tries many sizes until the connection has ended, and returns how many messages were taken.
func attack(t *testing.T, c *wsd.Conn, try func(*wsd.Conn, wsd.Message) error) (taken int) {
	buffer := bytes.Repeat([]byte("x"), 600<<10)
	for i := 0; ; i++ {
		size := []int{0, 100, 5 << 10, 9 << 10, 40 << 10, 600<<10 - attackHeader}[i%6]
		m := wsd.Binary(fmt.Appendf(buffer[:0], "%0*d", attackHeader, taken+1)[:attackHeader+size])
		switch err := try(c, m); {
		case err == nil:
			taken++
		case errors.Is(err, wsd.ErrQueueFull):
			select {
			case <-time.After(time.Millisecond / 10):
			case <-c.Closed():
			}
		case errors.Is(err, wsd.ErrClosed):
			if c.State() == wsd.StateOpen {
				t.Error("an open connection says that it has ended:", err)
			}
			return taken
		default:
			t.Error(err)
			return taken
		}
		clear(buffer[:attackHeader]) // it is the caller's again
	}
}

// underAttack has one goroutine try while others are busy, ends the connection, and compares what came with what was taken.
func underAttack(t *testing.T, near, far *wsd.Conn, busy func(*wsd.Conn), try func(*wsd.Conn, wsd.Message) error, end func(near, far *wsd.Conn)) {
	var sending, receiving sync.WaitGroup
	var taken int
	var arrived atomic.Int64
	all, enough := 0, make(chan struct{})
	sending.Go(func() { taken = attack(t, near, try) })
	for range 2 {
		sending.Go(func() { busy(near) })
	}
	receiving.Go(func() { swallow(near) })
	receiving.Go(func() {
		for m := range far.Messages() {
			if all++; all == 15 {
				close(enough)
			}
			var number int64
			if len(m.Data) < attackHeader || m.Data[attackHeader-1] < '0' {
				continue // another's
			}
			if _, err := fmt.Sscanf(string(m.Data[:attackHeader]), "%d", &number); err != nil || number != arrived.Load()+1 {
				continue
			}
			arrived.Add(1)
		}
	})
	<-enough
	end(near, far)
	<-near.Closed()
	<-far.Closed()
	sending.Wait()
	receiving.Wait()
	require.LessOrEqual(t, arrived.Load(), int64(taken))
	if near.CloseEvent().Clean && near.CloseEvent().Local {
		require.EqualValues(t, taken, arrived.Load(), "what was taken ahead of a Close arrives")
	}
	require.ErrorIs(t, try(near, wsd.Text("late")), wsd.ErrClosed)
}

func TestTryingUnderEveryLoad(t *testing.T) {
	role := wsd.ServerRole
	for loadName, busy := range busySenders {
		for way, try := range waysToTry {
			for ending, end := range waysToEnd {
				for compression, agreed := range compressions {
					if compression == "no takeover" && (testing.Short() || wsd.RaceEnabled) {
						continue
					}
					if rand.N(2) == 0 {
						continue // in another run
					}
					if role++; role > max(wsd.ServerRole, wsd.ClientRole) {
						role = min(wsd.ServerRole, wsd.ClientRole)
					}
					t.Run(fmt.Sprintf("%s, %s, %s, %s, %v", way, loadName, ending, compression, role), func(t *testing.T) {
						near, far := pipeOf(role, wsd.Config{Compression: agreed})
						underAttack(t, near, far, busy, try, end)
					})
				}
			}
		}
	}
}

// eachSocket are the byte streams that are not in memory.
var eachSocket = map[string]func(t *testing.T) (client, server io.ReadWriteCloser){
	"tcp":  func(t *testing.T) (client, server io.ReadWriteCloser) { return tcpPair(t) },
	"unix": func(t *testing.T) (client, server io.ReadWriteCloser) { return wiretest.Pair(t, "unix") },
	"TLS": func(t *testing.T) (client, server io.ReadWriteCloser) {
		a, b := tcpPair(t)
		clientTLS, serverTLS := soakTLS()
		return tls.Client(a, clientTLS), tls.Server(b, serverTLS)
	},
}

func TestTryingUnderLoadOverSockets(t *testing.T) {
	ways, at := []string{"TrySend", "TrySendPrepared"}, 0
	for socket, pair := range eachSocket {
		for loadName, busy := range busySenders {
			for compression, agreed := range compressions {
				for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
					at++
					way := ways[at%len(ways)]
					if at%3 > 0 { // another third in another run: the order is random
						continue
					}
					t.Run(fmt.Sprintf("%s, %s, %s, %s, %v", socket, way, loadName, compression, role), func(t *testing.T) {
						a, b := pair(t)
						cfg := wsd.Config{Compression: agreed}
						near, far := wsd.NewConn(a, wsd.ClientRole, cfg), wsd.NewConn(b, wsd.ServerRole, cfg)
						if role == wsd.ServerRole {
							near, far = far, near
						}
						underAttack(t, near, far, busy, waysToTry[way], waysToEnd["Close"])
					})
				}
			}
		}
	}
}
