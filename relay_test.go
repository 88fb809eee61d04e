// relay_test.go checks that a relay carries everything, both ways and no faster than the other end takes it, and how it ends.

package wsd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// relayed is a client and a server with a relay between them.
type relayed struct {
	client, a, b, server *wsd.Conn
	cancel               context.CancelCauseFunc // of the relay's context
	err                  error                   // of Relay
	over                 chan struct{}           // closed when Relay has returned
}

func startRelay(t *testing.T, cfg wsd.Config) *relayed { return startRelayOf(t, cfg, cfg) }

// startRelayOf starts one whose own two connections have another configuration than the client and the server.
func startRelayOf(t *testing.T, outer, own wsd.Config) *relayed {
	r := &relayed{over: make(chan struct{})}
	r.client, r.a = wsdtest.Pipe(outer, own)
	r.b, r.server = wsdtest.Pipe(own, outer)
	var ctx context.Context
	ctx, r.cancel = context.WithCancelCause(context.Background())
	go func() {
		defer close(r.over)
		r.err = wsd.Relay(ctx, r.a, r.b)
		if r.a.State() != wsd.StateClosed || r.b.State() != wsd.StateClosed {
			t.Error("Relay has returned before both connections had ended")
		}
	}()
	t.Cleanup(func() {
		for _, c := range []*wsd.Conn{r.client, r.a, r.b, r.server} {
			c.CloseNow()
		}
		<-r.over
		r.cancel(nil)
	})
	return r
}

func TestRelayCarriesBothWays(t *testing.T) {
	for compression, agreed := range compressions {
		t.Run(compression, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRelay(t, wsd.Config{Compression: agreed})
				var background sync.WaitGroup
				for from, to := range map[*wsd.Conn]*wsd.Conn{r.client: r.server, r.server: r.client} {
					background.Go(func() {
						for i := range 5 {
							for _, size := range sizesOfEach {
								if err := from.Send(t.Context(), wsd.Binary(bytes.Repeat([]byte{byte(i)}, size))); err != nil {
									t.Error(err)
								}
							}
						}
						if err := from.Send(t.Context(), wsd.Text("the last")); err != nil {
							t.Error(err)
						}
					})
					background.Go(func() {
						n := 0
						for m, err := range to.Each(t.Context()) {
							if err != nil {
								t.Error(err)
							}
							if m.Type == wsd.TextMessage {
								break
							}
							want := bytes.Repeat([]byte{byte(n / len(sizesOfEach))}, sizesOfEach[n%len(sizesOfEach)])
							if !bytes.Equal(want, m.Data) {
								t.Error("message", n)
							}
							n++
						}
						if n != 5*len(sizesOfEach) {
							t.Error(n, "messages")
						}
					})
				}
				background.Wait()
				require.NoError(t, r.client.Close(4000, "done"))
			})
		})
	}
}

// Whatever was sent before the end arrives ahead of it.
func TestRelayLosesNothingAheadOfAClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRelay(t, wsd.Config{})
		const count = 1000
		var sending sync.WaitGroup
		sending.Go(func() {
			for range count {
				_ = r.client.Send(t.Context(), wsd.Binary(make([]byte, 5000)))
			}
			_ = r.client.StartClose(4000, "done")
		})
		sending.Go(func() { // though what the server sends meanwhile finds nobody any more
			for r.server.Send(t.Context(), wsd.Binary(make([]byte, 5000))) == nil {
				time.Sleep(time.Millisecond) // or no time would pass in the bubble, whose other direction is never idle
			}
		})
		sending.Go(func() { swallow(r.client) })
		n := 0
		for _, err := range r.server.Each(t.Context()) {
			require.NoError(t, err)
			time.Sleep(10 * time.Millisecond)
			n++
		}
		require.Equal(t, count, n)
		require.EqualValues(t, 4000, r.server.CloseEvent().Code)
		sending.Wait()
	})
}

// A consumer that sends without an end, to a peer that has closed and reads on, cannot hold the end up, even if no time passes:
// only as many sends are waited for as there are messages to answer.
func TestRelayedSendsBehindACloseAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wsdtest.Pipe()
		for range 10 {
			require.NoError(t, client.Send(t.Context(), wsd.Text("to be answered")))
		}
		synctest.Wait()
		require.NoError(t, client.StartClose(4000, "done"))
		for {
			err := server.Send(t.Context(), wsd.Binary(make([]byte, 5000)))
			if err != nil {
				require.ErrorIs(t, err, wsd.ErrClosed)
				break
			}
		}
		<-server.Closed()
		require.True(t, server.CloseEvent().Clean)
		<-client.Closed()
	})
}

func TestRelayEnds(t *testing.T) {
	why := errors.New("why")
	for name, row := range map[string]struct {
		end            func(r *relayed)
		client, server wsd.StatusCode // what they see
		reason         string         // what the other one sees
		says           string
		is             error
		isClose        bool
	}{
		"the client closes": {func(r *relayed) { _ = r.client.StartClose(4000, "bye") },
			4000, 4000, "bye", "the first connection ended", wsd.ErrClosed, true},
		"the server closes": {func(r *relayed) { _ = r.server.StartClose(wsd.StatusInternalError, "oops") },
			1011, 1011, "oops", "the second connection ended", wsd.ErrClosed, true},
		"the client closes without a code": {func(r *relayed) { _ = r.client.StartClose(wsd.StatusNoStatus, "") },
			1005, 1005, "", "the first connection ended", wsd.ErrClosed, true},
		"the client is gone": {func(r *relayed) { r.client.CloseNow() },
			1006, 1001, "", "the first connection ended", wsd.ErrClosed, false},
		"the server is gone": {func(r *relayed) { r.server.CloseNow() },
			1014, 1006, "", "the second connection ended", wsd.ErrClosed, false},
		"the client sends too much": {func(r *relayed) {
			r.a.SetMaxMessageSize(10)
			_ = r.client.Send(context.Background(), wsd.Text("more than ten bytes"))
		}, 1009, 1001, "", "the first connection ended", wsd.ErrClosed, false},
		"the server sends too much": {func(r *relayed) {
			r.b.SetMaxMessageSize(10)
			_ = r.server.Send(context.Background(), wsd.Text("more than ten bytes"))
		}, 1014, 1009, "", "the second connection ended", wsd.ErrClosed, false},
		"somebody closes the first": {func(r *relayed) { _ = r.a.StartClose(4001, "by the owner") },
			4001, 4001, "by the owner", "the first connection ended", wsd.ErrClosed, true},
		"somebody closes the second": {func(r *relayed) { _ = r.b.StartClose(4001, "by the owner") },
			4001, 4001, "by the owner", "the second connection ended", wsd.ErrClosed, true},
		"somebody cuts off the first": {func(r *relayed) { r.a.CloseNow() },
			1006, 1001, "", "the first connection ended", wsd.ErrClosed, false},
		"the context is done": {func(r *relayed) { r.cancel(why) },
			1001, 1001, "", "relay", why, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRelay(t, wsd.Config{})
				var consuming sync.WaitGroup
				consuming.Go(func() { swallow(r.client) })
				consuming.Go(func() { swallow(r.server) })
				synctest.Wait()
				row.end(r)
				<-r.over
				<-r.client.Closed()
				<-r.server.Closed()
				client, server := r.client.CloseEvent(), r.server.CloseEvent()
				require.Equal(t, row.client, client.Code)
				require.Equal(t, row.server, server.Code)
				if other := server.Reason; row.says != "the second connection ended" {
					require.Equal(t, row.reason, other)
				} else {
					require.Equal(t, row.reason, client.Reason)
				}
				require.ErrorContains(t, r.err, row.says)
				require.ErrorIs(t, r.err, row.is)
				require.Equal(t, row.isClose, errors.As(r.err, new(*wsd.CloseError)))
				consuming.Wait()
			})
		})
	}
}

// A fast sender gets no further ahead than the queues between it and a consumer that is slow.
func TestRelayKeepsBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRelay(t, wsd.Config{PingInterval: -1, WriteTimeout: -1})
		var sent atomic.Int64
		var sending sync.WaitGroup
		sending.Go(func() {
			for r.client.Send(context.Background(), wsd.Binary(make([]byte, 10<<10))) == nil {
				sent.Add(1)
			}
		})
		synctest.Wait()
		before := sent.Load()
		require.Less(t, before, int64(150), "of 10 KiB: what two queues, two pipes and three channels hold")
		time.Sleep(time.Hour)
		require.Equal(t, before, sent.Load())
		for range 50 {
			_, err := r.server.Receive(t.Context())
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Greater(t, sent.Load(), before)
		r.client.CloseNow()
		sending.Wait()
	})
}

// A message that a relay's ends stream passes through while it arrives, and one that is cut is blamed on whom it came from.
func TestRelayPassesStreamsOn(t *testing.T) {
	for name, cut := range map[string]bool{"whole": false, "cut": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRelayOf(t, wsd.Config{}, wsd.Config{StreamAbove: 1 << 10})
				w := r.client.Writer(t.Context(), wsd.BinaryMessage, nil)
				var want []byte
				for i := range 100 {
					piece := bytes.Repeat([]byte{byte(i)}, 3000)
					_, err := w.Write(piece)
					require.NoError(t, err)
					want = append(want, piece...)
				}
				synctest.Wait()
				require.Greater(t, r.b.Stats().Writes, uint64(2), "ahead of the end of the message")
				if cut {
					r.client.CloseNow()
					<-r.over
					require.ErrorContains(t, r.err, "the first connection ended")
					<-r.server.Closed()
					require.Equal(t, wsd.StatusInternalError, r.server.CloseEvent().Code)
					return
				}
				require.NoError(t, w.Close())
				m, err := r.server.Receive(t.Context())
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, m.Data))
			})
		})
	}
}

// While what came from an end that is gone waits for the other to read, that one can go on sending.
func TestRelayReadsOnFromTheOneThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRelay(t, wsd.Config{PingInterval: -1, WriteTimeout: -1, MessageBuffer: -1})
		require.NoError(t, r.server.Send(t.Context(), wsd.Text("the client is busy with this")))
		var sending sync.WaitGroup
		for _, size := range []int{200 << 10, 4 << 20} {
			sending.Go(func() { _ = r.server.Send(t.Context(), wsd.Binary(make([]byte, size))) })
			synctest.Wait()
		}
		r.server.CloseNow()
		sending.Wait()
		for range 100 {
			require.NoError(t, r.client.Send(t.Context(), wsd.Binary(make([]byte, 50<<10))))
		}
		require.Equal(t, wsd.StateOpen, r.client.State())
		n := 0
		for m, err := range r.client.Each(t.Context()) {
			require.NoError(t, err)
			n = max(n, len(m.Data))
		}
		require.Equal(t, 200<<10, n, "what had come whole")
		require.Equal(t, wsd.StatusBadGateway, r.client.CloseEvent().Code)
		<-r.over
	})
}

// A context that ends the relay does not cut a large message that is being written to a peer that reads.
func TestRelayDoesNotCutMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRelay(t, wsd.Config{PingInterval: -1, MessageBuffer: -1})
		var sending sync.WaitGroup
		sending.Go(func() {
			_ = r.client.Send(context.Background(), wsd.Text("the consumer is busy with this"))
			for range 2 {
				_ = r.client.Send(context.Background(), wsd.Binary(make([]byte, 4<<20)))
			}
		})
		synctest.Wait()
		r.cancel(nil)
		time.Sleep(time.Second)
		sizes := []int{}
		for m, err := range r.server.Each(t.Context()) {
			require.NoError(t, err)
			sizes = append(sizes, len(m.Data))
		}
		require.Contains(t, sizes, 4<<20)
		require.Equal(t, wsd.StatusGoingAway, r.server.CloseEvent().Code)
		<-r.over
		require.ErrorIs(t, r.err, context.Canceled)
		sending.Wait()
	})
}

func TestRelayOfWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := wsdtest.Pipe()
		b, server := wsdtest.Pipe()
		//lint:ignore SA1012 that it is found
		require.Equal(t, wsd.ErrNilContext, wsd.Relay(nil, a, b))
		require.Equal(t, wsd.StateOpen, a.State())
		require.NoError(t, client.StartClose(4000, "early"))
		<-a.Closed()
		err := wsd.Relay(a.Context(), a, b)
		require.ErrorIs(t, err, wsd.ErrClosed)
		<-server.Closed()
		require.Equal(t, "early", server.CloseEvent().Reason)
		<-client.Closed()
		require.Error(t, wsd.Relay(context.Background(), a, b))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.Error(t, wsd.Relay(ctx, a, b))
	})
}

// Over sockets, with both ends sending at once and one of them closing in the middle, every relay comes to its end.
func TestRelayOverSockets(t *testing.T) {
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			farA, nearA := tcpPair(t)
			farB, nearB := tcpPair(t)
			client, a := wsd.NewConn(farA, wsd.ClientRole, wsd.Config{}), wsd.NewConn(nearA, wsd.ServerRole, wsd.Config{})
			server, b := wsd.NewConn(farB, wsd.ServerRole, wsd.Config{}), wsd.NewConn(nearB, wsd.ClientRole, wsd.Config{})
			var background sync.WaitGroup
			for _, c := range []*wsd.Conn{client, server} {
				background.Go(func() { swallow(c) })
				background.Go(func() {
					for n := 1; c.Send(context.Background(), wsd.Binary(make([]byte, n%50_000))) == nil; n += 777 {
					}
				})
			}
			time.AfterFunc(time.Duration(i)*time.Millisecond/2, func() { _ = []*wsd.Conn{client, server}[i%2].StartClose(4000, "") })
			var closed *wsd.CloseError
			require.ErrorAs(t, wsd.Relay(t.Context(), a, b), &closed)
			require.EqualValues(t, 4000, closed.Code)
			client.CloseNow()
			server.CloseNow()
			background.Wait()
		})
	}
}
