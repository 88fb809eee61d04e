// broadcast_test.go checks that messages for many are written by few, whole and in order.

package wsd_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// A broadcast over sockets starts no goroutine for each connection, and everything arrives in order.
func TestABroadcastNeedsFewGoroutines(t *testing.T) {
	const conns, messages = 100, 200
	var servers, clients []*wsd.Conn
	for range conns {
		a, b := tcpPair(t)
		cfg := wsd.Config{PingInterval: -1}
		clients = append(clients, wsd.NewConn(a, wsd.ClientRole, cfg))
		servers = append(servers, wsd.NewConn(b, wsd.ServerRole, cfg))
	}
	defer func() {
		for i := range conns {
			clients[i].CloseNow()
			servers[i].CloseNow()
			<-clients[i].Closed()
			<-servers[i].Closed()
		}
	}()
	stacks := make([]byte, 4<<20)
	var sending, receiving sync.WaitGroup
	for sender := range 2 {
		sending.Go(func() {
			for n := range messages {
				p := prepared(wsd.Text(fmt.Sprintf("%d %d", sender, n)))
				for _, c := range servers {
					if err := c.TrySendPrepared(p); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for _, c := range clients {
		receiving.Go(func() {
			next := [2]int{}
			for range 2 * messages {
				m, err := c.Receive(t.Context())
				var sender, n int
				if err == nil {
					_, err = fmt.Sscan(string(m.Data), &sender, &n)
				}
				if err != nil || n != next[sender] {
					t.Errorf("expected message %d, got %q, %v", next[sender], m.Data, err)
					return
				}
				next[sender]++
			}
		})
	}
	sending.Wait()
	stacks = stacks[:runtime.Stack(stacks, true)]
	receiving.Wait()
	require.LessOrEqual(t, strings.Count(string(stacks), "(*Conn).writeLoop("), conns/10, "but for those whose peer is late")
	for _, c := range servers {
		require.EqualValues(t, 2*messages, c.Stats().MessagesSent)
	}
}

// What is handed over and what is sent in other ways beside it arrives, whoever writes it, also ahead of a Close.
func TestBroadcastsBesideOtherSenders(t *testing.T) {
	const conns, messages = 8, 300
	var working sync.WaitGroup
	for i := range conns {
		a, b := tcpPair(t)
		far, near := wsd.NewConn(a, wsd.ClientRole, wsd.Config{SendQueue: 4 << 10}), wsd.NewConn(b, wsd.ServerRole, wsd.Config{SendQueue: 4 << 10})
		working.Go(func() {
			var sending sync.WaitGroup
			sending.Go(func() {
				for n := range messages {
					if err := near.SendPrepared(t.Context(), prepared(wsd.Text(fmt.Sprintf("shared %d", n)))); err != nil {
						t.Error(err)
					}
				}
			})
			sending.Go(func() {
				for n := range messages {
					if err := near.Send(t.Context(), wsd.Text(fmt.Sprintf("own %d %s", n, strings.Repeat("x", n*i)))); err != nil {
						t.Error(err)
					}
					if n%50 == 0 {
						if _, err := near.Ping(t.Context(), nil); err != nil {
							t.Error(err)
						}
					}
				}
			})
			sending.Wait()
			if err := near.Close(wsd.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
			<-near.Closed()
		})
		working.Go(func() {
			next := map[string]int{}
			for m := range far.Messages() {
				var kind string
				var n int
				if _, err := fmt.Sscan(string(m.Data), &kind, &n); err != nil || n != next[kind] {
					t.Errorf("expected message %d, got %.20q, %v", next[kind], m.Data, err)
				}
				next[kind]++
			}
			if next["shared"] != messages || next["own"] != messages {
				t.Errorf("expected all messages, got %v", next)
			}
			<-far.Closed()
		})
	}
	working.Wait()
}
