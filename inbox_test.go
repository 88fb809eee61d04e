// inbox_test.go checks an Inbox: order, shares, turns, the policies, the end, and who waits for whom.

package wsd_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// collect receives from an inbox until as many connections have ended, and returns the messages of each. It fails the test if
// something follows an end.
func collect(t testing.TB, inbox *wsd.Inbox, ends int) map[*wsd.Conn][]string {
	messages := map[*wsd.Conn][]string{}
	ended := map[*wsd.Conn]bool{}
	for len(ended) < ends {
		d := <-inbox.C()
		require.NotNil(t, d.Conn)
		require.False(t, ended[d.Conn], "a delivery behind the last")
		if !d.Ended {
			messages[d.Conn] = append(messages[d.Conn], d.Message.String())
			continue
		}
		require.Empty(t, d.Message)
		require.Equal(t, wsd.StateClosed, d.Conn.State())
		require.NotNil(t, d.Conn.CloseEvent().Err)
		select {
		case <-d.Conn.Closed():
		default:
			require.Fail(t, "Closed is not closed")
		}
		ended[d.Conn] = true
	}
	return messages
}

func TestInboxDeliversInOrderAndTheEndLast(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 16, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const conns, count = 20, 100
				inbox := wsd.NewInbox(n)
				var sending sync.WaitGroup
				for i := range conns {
					client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Inbox: inbox, MessageBuffer: i - 1})
					server.SetValue(i)
					sending.Go(func() {
						for k := range count {
							require.NoError(t, client.Send(t.Context(), wsd.Text(fmt.Sprint(i, ":", k))))
						}
						_ = client.Close(wsd.StatusNormalClosure, "")
					})
				}
				for c, messages := range collect(t, inbox, conns) {
					require.Len(t, messages, count)
					for k, message := range messages {
						require.Equal(t, fmt.Sprint(c.Value(), ":", k), message)
					}
					require.True(t, c.CloseEvent().Clean)
				}
				sending.Wait()
			})
		})
	}
}

func TestInboxOfServersAndClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inbox := wsd.NewInbox(0)
		client, server := wsdtest.Pipe(wsd.Config{Inbox: inbox})
		require.NoError(t, client.Send(t.Context(), wsd.Text("to the server")))
		d := <-inbox.C()
		require.Same(t, server, d.Conn)
		require.NoError(t, server.Send(t.Context(), wsd.Text("to the client")))
		d = <-inbox.C()
		require.Same(t, client, d.Conn)
		require.Equal(t, "to the client", d.Message.String())
		require.NoError(t, client.Close(4000, "both"), "without anybody who receives")
		collect(t, inbox, 2)
	})
}

// docs/architecture.md, the rules, as far as an Inbox has a part in them: what comes is delivered until the first cause of an
// end, and the answers to a peer wait for nobody who receives.
func TestRulesWithAnInbox(t *testing.T) {
	for name, rule := range map[string]struct {
		does     func(c *wsd.Conn, p *peer)
		messages []string
		code     wsd.StatusCode
		says     string // of the cause
	}{
		"2 first cause": {func(c *wsd.Conn, p *peer) {
			p.send(text("one"), closeFrame(4001))
			p.expectClose(4001)
			<-c.Closed()
			c.CloseNow()
			_ = c.Close(4002, "too late")
		}, []string{"one"}, 4001, "closed with 4001"},
		"6 pings": {func(_ *wsd.Conn, p *peer) {
			p.send(text("one"), text("two"), ping("still there?"))
			require.Equal(t, pong("still there?"), p.receive())
			p.send(closeFrame(1000))
			p.expectClose(1000)
		}, []string{"one", "two"}, wsd.StatusNormalClosure, "closed with 1000"},
		"7 lengths": {func(_ *wsd.Conn, p *peer) {
			p.send(text("one"))
			p.send(binaryFrame(make([]byte, 2000)), text("behind it"))
			p.expectClose(1009)
		}, []string{"one"}, wsd.StatusMessageTooBig, "MaxMessageSize"},
		"8 after the end": {func(c *wsd.Conn, p *peer) {
			p.send(text("one"))
			p.close()
			<-c.Closed()
			require.ErrorIs(t, c.Send(context.Background(), wsd.Text("late")), wsd.ErrClosed)
			_, err := c.Receive(context.Background())
			require.ErrorIs(t, err, wsd.ErrInbox)
		}, []string{"one"}, wsd.StatusAbnormalClosure, "without a close frame"},
		"10 violations": {func(_ *wsd.Conn, p *peer) {
			p.send(text("one"), frame{0x83, nil}, text("behind it"))
			p.expectClose(1002)
		}, []string{"one"}, wsd.StatusProtocolError, "opcode"},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				inbox := wsd.NewInbox(1)
				c, p := pair(t, wsd.Config{Inbox: inbox, MessageBuffer: 4, MaxMessageSize: 1000, PingInterval: -1})
				rule.does(c, p) // nobody receives
				messages := collect(t, inbox, 1)
				require.Equal(t, rule.messages, messages[c])
				event := c.CloseEvent()
				require.Equal(t, rule.code, event.Code)
				require.ErrorContains(t, event.Err, rule.says)
				p.close()
			})
		})
	}
}

// Whatever receives from such a connection says so, and Messages is closed at the end like any other.
func TestInboxLeavesNothingToReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inbox := wsd.NewInbox(1)
		client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Inbox: inbox})
		require.NoError(t, client.Send(t.Context(), wsd.Text("for the inbox")))
		_, err := server.Receive(t.Context())
		require.ErrorIs(t, err, wsd.ErrInbox)
		require.ErrorIs(t, server.ReceiveJSON(t.Context(), new(int)), wsd.ErrInbox)
		for _, err := range server.Each(t.Context()) {
			require.ErrorIs(t, err, wsd.ErrInbox)
		}
		_, err = wsd.NetConn(server, wsd.TextMessage).Read(make([]byte, 1))
		require.ErrorIs(t, err, wsd.ErrInbox)
		require.ErrorIs(t, wsd.Relay(t.Context(), client, server), wsd.ErrInbox)
		messages := server.Messages()
		require.Equal(t, messages, server.Messages())
		synctest.Wait()
		select {
		case <-messages:
			require.Fail(t, "something came")
		default:
		}
		require.Equal(t, "for the inbox", (<-inbox.C()).Message.String())
		client.CloseNow()
		_, open := <-messages
		require.False(t, open)
		<-server.Closed()
		_, open = <-server.Messages()
		require.False(t, open)
		_, err = server.Receive(t.Context())
		require.ErrorIs(t, err, wsd.ErrInbox)
		require.True(t, (<-inbox.C()).Ended)
	})
}

// Asked for only after the end has begun, Messages is closed too.
func TestInboxMessagesAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inbox := wsd.NewInbox(1)
		client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Inbox: inbox})
		client.CloseNow()
		<-server.Closed()
		_, open := <-server.Messages()
		require.False(t, open)
		require.True(t, (<-inbox.C()).Ended)
	})
}

// One that floods has its share, and the others are behind no more than a turn of it.
func TestInboxTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns, n, turn = 1000, 8, 8
		inbox := wsd.NewInbox(n)
		cfg := wsd.Config{Inbox: inbox, PingInterval: -1}
		flooding, flooded := wsdtest.Pipe(wsd.Config{PingInterval: -1}, cfg)
		var sending sync.WaitGroup
		sending.Go(func() {
			for flooding.Send(context.Background(), wsd.Text("flood")) == nil {
			}
		})
		synctest.Wait() // all is full
		clients := []*wsd.Conn{flooding}
		for range conns - 1 {
			client, _ := wsdtest.Pipe(wsd.Config{PingInterval: -1}, cfg)
			clients = append(clients, client)
		}
		for range 3 {
			for _, client := range clients[1:] {
				require.NoError(t, client.Send(t.Context(), wsd.Text("quiet")))
			}
			synctest.Wait()
			of := map[*wsd.Conn]int{}
			for range n + 1 + turn + conns {
				d := <-inbox.C()
				of[d.Conn]++
			}
			require.Len(t, of, conns, "everybody's message has come within its turn")
			require.LessOrEqual(t, of[flooded], n+1+2*turn)
		}
		for _, client := range clients {
			client.CloseNow()
		}
		sending.Wait()
		collect(t, inbox, conns)
	})
}

// The policies judge by a connection's own share.
func TestInboxPolicies(t *testing.T) {
	const share = 4
	flood := func(t *testing.T, policy wsd.SlowConsumerPolicy) (inbox *wsd.Inbox, c *wsd.Conn, told *events, p *peer) {
		inbox, told = wsd.NewInbox(-1), new(events)
		trace := told.trace(nothingElse)
		trace.MessageReceived, trace.Opened = nil, nil
		c, p = servedConn(t, wsd.Config{
			Inbox: inbox, MessageBuffer: share, SlowConsumer: policy, StallTimeout: 3 * time.Second, PingInterval: -1, Trace: trace,
		})
		for i := range 50 {
			p.send(text(fmt.Sprint(i)))
		}
		synctest.Wait()
		return inbox, c, told, p
	}
	t.Run("block", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inbox, c, told, p := flood(t, wsd.BlockSlow)
			require.EqualValues(t, share+1, c.Stats().MessagesReceived, "its share, and the one that is too many")
			require.Equal(t, []string{"StallBegun"}, told.take())
			time.Sleep(time.Hour)
			require.Equal(t, wsd.StateOpen, c.State())
			for i := range 50 {
				require.Equal(t, fmt.Sprint(i), (<-inbox.C()).Message.String())
			}
			require.Contains(t, told.take(), "StallEnded 1h0m0s")
			p.close()
			require.True(t, (<-inbox.C()).Ended)
		})
	})
	t.Run("close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inbox, c, _, p := flood(t, wsd.CloseSlow)
			time.Sleep(2 * time.Second)
			require.Equal(t, "0", (<-inbox.C()).Message.String(), "somebody receives, slowly")
			time.Sleep(2 * time.Second)
			require.Equal(t, wsd.StateOpen, c.State())
			time.Sleep(time.Second)
			require.Equal(t, frame{0x88, closePayload(1013, "messages are not being received")}, p.receive())
			p.close()
			<-c.Closed()
			require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrSlowConsumer)
			for i := 1; i <= share; i++ {
				require.Equal(t, fmt.Sprint(i), (<-inbox.C()).Message.String(), "what had come is delivered")
			}
			require.True(t, (<-inbox.C()).Ended)
		})
	})
	t.Run("drop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inbox, c, told, p := flood(t, wsd.DropSlow)
			require.EqualValues(t, 50-share, c.Stats().MessagesDropped)
			require.EqualValues(t, 50, c.Stats().MessagesReceived)
			require.Len(t, told.take(), 50-share)
			require.ErrorIs(t, <-c.Errors(), wsd.ErrSlowConsumer)
			for i := range share {
				require.Equal(t, fmt.Sprint(i), (<-inbox.C()).Message.String())
			}
			p.close()
			require.True(t, (<-inbox.C()).Ended)
		})
	})
}

// Nothing that ends a connection waits for whoever receives.
func TestInboxNeedsNobodyForAnEnd(t *testing.T) {
	for name, end := range map[string]func(client, server *wsd.Conn){
		"Close":           func(_, server *wsd.Conn) { _ = server.Close(wsd.StatusNormalClosure, "") },
		"CloseNow":        func(_, server *wsd.Conn) { server.CloseNow() },
		"the peer's":      func(client, server *wsd.Conn) { client.CloseNow(); <-server.Closed() },
		"a login expires": func(_, server *wsd.Conn) { server.ExpireAt(time.Now()); <-server.Closed() },
	} {
		for _, stalled := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", stalled ", stalled), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					inbox := wsd.NewInbox(1)
					client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Inbox: inbox, MessageBuffer: 1})
					count := 1
					if stalled {
						count = 10
					}
					for range count {
						require.NoError(t, client.Send(t.Context(), wsd.Text("x")))
					}
					synctest.Wait()
					if name == "the peer's" && stalled {
						// Nothing is read that could tell of it, as on a connection without an Inbox.
						go func() {
							for !(<-inbox.C()).Ended {
							}
						}()
					}
					end(client, server)
					require.Equal(t, wsd.StateClosed, server.State())
					client.CloseNow()
				})
			})
		}
	}
}

// An Inbox that nobody receives from leaves no goroutine behind, however many connections have come and gone, and gives all
// it has to whoever comes late.
func TestInboxAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 10000
		before := goroutines()
		inbox := wsd.NewInbox(16)
		for i := range conns {
			client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Inbox: inbox, MessageBuffer: 2})
			for range i % 5 {
				require.NoError(t, client.Send(t.Context(), wsd.Text("nobody reads this")))
			}
			if i%2 == 0 {
				server.CloseNow()
			}
			client.CloseNow()
			server.CloseNow()
		}
		synctest.Wait()
		require.LessOrEqual(t, goroutines(), before+1)
		time.Sleep(time.Hour)
		collect(t, inbox, conns)
	})
}

func TestInboxIsForgottenWithWhatWaits(t *testing.T) {
	gone := make(chan struct{})
	func() {
		inbox := wsd.NewInbox(1)
		runtime.AddCleanup(inbox, func(int) { close(gone) }, 0)
		for range 10 {
			client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Inbox: inbox})
			require.NoError(t, client.Send(t.Context(), wsd.Text("nobody reads this")))
			server.CloseNow()
			client.CloseNow()
		}
	}()
	for deadline := time.Now().Add(time.Minute); ; {
		runtime.GC()
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
			require.True(t, time.Now().Before(deadline), "the Inbox is kept")
		}
	}
}

// A connection that waits for its body to be read keeps nobody else waiting.
func TestInboxBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inbox := wsd.NewInbox(4)
		cfg := wsd.Config{Inbox: inbox, StreamAbove: 1000, BodyTimeout: 5 * time.Second, PingInterval: -1}
		large := bytes.Repeat([]byte("0123456789"), 100_000)
		streaming, streamed := wsdtest.Pipe(wsd.Config{PingInterval: -1}, cfg)
		other, _ := wsdtest.Pipe(wsd.Config{PingInterval: -1}, cfg)
		var sending sync.WaitGroup
		send := func() {
			sending.Go(func() {
				_ = streaming.Send(context.Background(), wsd.Binary(large))
				_ = streaming.Send(context.Background(), wsd.Text("behind it"))
			})
			synctest.Wait()
		}
		send()
		d := <-inbox.C()
		require.True(t, d.Message.Streamed())
		for range 50 {
			require.NoError(t, other.Send(t.Context(), wsd.Text("meanwhile")))
			require.Equal(t, "meanwhile", (<-inbox.C()).Message.String())
		}
		require.True(t, string(large) == d.Message.String())
		require.Equal(t, "behind it", (<-inbox.C()).Message.String())
		sending.Wait()

		for range 10 {
			require.NoError(t, other.Send(t.Context(), wsd.Text("ahead of it")))
		}
		synctest.Wait()
		send()
		time.Sleep(time.Hour)
		require.Equal(t, wsd.StateOpen, streamed.State(), "others' messages are ahead of it")
		for d = range inbox.C() {
			if d.Conn == streamed {
				break
			}
			require.Equal(t, "ahead of it", d.Message.String())
		}
		require.True(t, d.Message.Streamed())
		time.Sleep(6 * time.Second)
		streaming.CloseNow()
		require.ErrorIs(t, streamed.CloseEvent().Err, wsd.ErrBodyTimeout, "it was left alone")
		other.CloseNow()
		collect(t, inbox, 2)
		sending.Wait()
	})
}

// Under a Server without a handler a connection stays until it ends, and Shutdown ends it.
func TestInboxUnderAServer(t *testing.T) {
	inbox := wsd.NewInbox(16)
	ws := &wsd.Server{Logger: slog.New(slog.DiscardHandler)}
	ws.Inbox = inbox
	ws.Trace = &wsd.Trace{Opened: func(c *wsd.Conn, info wsd.OpenedInfo) { c.SetValue(info.Request.URL.Path) }}
	server := httptest.NewServer(ws)
	defer server.Close()
	var clients []*wsd.Conn
	for i := range 10 {
		c, _, err := wsd.Dial(t.Context(), server.URL+fmt.Sprint("/", i), nil)
		require.NoError(t, err)
		defer c.CloseNow()
		clients = append(clients, c)
		require.NoError(t, c.Send(t.Context(), wsd.Text("hello")))
		d := <-inbox.C()
		require.Equal(t, fmt.Sprint("/", i), d.Conn.Value(), "set before the first Delivery")
		require.NoError(t, d.Conn.Send(t.Context(), d.Message))
		require.Equal(t, "hello", (<-c.Messages()).String())
	}
	for ws.Connections() < 10 { // a Server counts a connection once Accept has returned, and it may have delivered by then
		runtime.Gosched()
	}
	require.NoError(t, clients[0].Close(wsd.StatusNormalClosure, ""))
	require.True(t, (<-inbox.C()).Ended)
	for ws.Connections() > 9 {
		runtime.Gosched()
	}
	require.NoError(t, ws.Shutdown(t.Context()), "while nobody receives")
	require.Zero(t, ws.Connections())
	collect(t, inbox, 9)
	stats := ws.Stats()
	require.EqualValues(t, 10, stats.Accepted)
	require.EqualValues(t, 10, stats.MessagesReceived)
	require.Zero(t, stats.Failed)
}

// Big messages wait within the bounds that they have in Messages.
func TestInboxBoundsBigMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inbox := wsd.NewInbox(100)
		client, server := wsdtest.Pipe(wsd.Config{PingInterval: -1}, wsd.Config{Inbox: inbox, MessageBuffer: 100, PingInterval: -1})
		var sending sync.WaitGroup
		big := []byte(strings.Repeat("x", 16<<20))
		sending.Go(func() {
			for range 12 {
				_ = client.Send(context.Background(), wsd.Binary(big))
			}
			_ = client.Close(wsd.StatusNormalClosure, "")
		})
		synctest.Wait()
		require.LessOrEqual(t, server.Stats().BytesReceived, uint64(2*64<<20+16<<20), "in the channel and in the share")
		messages := collect(t, inbox, 1)
		require.Len(t, messages[server], 12)
		sending.Wait()
	})
}

// Behind the last end nothing of an Inbox lingers, not even for a moment: a bubble whose test returns then would fail.
func TestInboxIsStillBehindTheLastEnd(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			inbox := wsd.NewInbox(16)
			client, server := wsdtest.Pipe(wsd.Config{}, wsd.Config{Inbox: inbox})
			const count = 200
			var sending sync.WaitGroup
			sending.Go(func() {
				for range count {
					require.NoError(t, client.Send(t.Context(), wsd.Text("ping")))
				}
			})
			for range count { // an answer moves what waits, so that the Inbox's own goroutine pauses
				require.NoError(t, server.Send(t.Context(), (<-inbox.C()).Message))
			}
			sending.Wait()
			client.CloseNow()
			require.True(t, (<-inbox.C()).Ended)
		})
	}
}
