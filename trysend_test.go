// trysend_test.go checks sends that do not wait: what they take, what they refuse, and who is told when there is room.

package wsd_test

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// waysToTry are the two sends that do not wait.
var waysToTry = map[string]func(*wsd.Conn, wsd.Message) error{
	"TrySend":         (*wsd.Conn).TrySend,
	"TrySendPrepared": func(c *wsd.Conn, m wsd.Message) error { return c.TrySendPrepared(prepared(m)) },
}

var compressions = map[string]*wsd.Compression{
	"plain":       nil,
	"no takeover": {ServerNoContextTakeover: true, ClientNoContextTakeover: true},
	"takeover":    {},
}

// eachWayToTry runs a test in a bubble for each role, way to send and compression. Nobody reads from far until the test does.
func eachWayToTry(t *testing.T, cfg wsd.Config, test func(t *testing.T, near, far *wsd.Conn, try func(*wsd.Conn, wsd.Message) error)) {
	for way, try := range waysToTry {
		for compression, agreed := range compressions {
			for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
				t.Run(way+", "+compression+", "+role.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						cfg := cfg
						cfg.Compression, cfg.PingInterval = agreed, -1
						near, far := pipeOf(role, cfg)
						defer far.CloseNow()
						defer near.CloseNow()
						test(t, near, far, try)
					})
				})
			}
		}
	}
}

// Whatever is taken arrives, in order; what is refused does not; and no call takes time.
func TestTrySendNeverWaits(t *testing.T) {
	for _, size := range []int{10, 5 << 10, 40 << 10, 4 << 20} {
		eachWayToTry(t, wsd.Config{MessageBuffer: -1}, func(t *testing.T, near, far *wsd.Conn, try func(*wsd.Conn, wsd.Message) error) {
			var taken [][]byte
			begun, refused := time.Now(), 0
			for refused < 3 {
				m := wsd.Binary(append(noise(size), byte(len(taken))))
				err := try(near, m)
				if err == nil {
					taken = append(taken, bytes.Clone(m.Data))
					clear(m.Data) // it is the caller's again
					continue
				}
				require.ErrorIs(t, err, wsd.ErrQueueFull)
				refused++
				synctest.Wait()
			}
			require.Equal(t, begun, time.Now())
			require.NotEmpty(t, taken)
			for i, want := range taken {
				m, err := far.Receive(t.Context())
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, m.Data), "message %d of %d", i, len(taken))
			}
			synctest.Wait()
			require.NoError(t, try(near, wsd.Text("there is room again")))
			m, err := far.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, "there is room again", string(m.Data))
			require.EqualValues(t, len(taken)+1, near.Stats().MessagesSent)
		})
	}
}

// A message longer than the queue is taken by an empty one only.
func TestTrySendOfMoreThanTheQueue(t *testing.T) {
	eachWayToTry(t, wsd.Config{MessageBuffer: -1, SendQueue: 1000}, func(t *testing.T, near, far *wsd.Conn, try func(*wsd.Conn, wsd.Message) error) {
		require.NoError(t, try(near, wsd.Text("the reader is stuck with this")))
		synctest.Wait()
		require.NoError(t, try(near, wsd.Binary(noise(3<<20))))
		synctest.Wait() // as much of it as the transport takes is on its way
		require.ErrorIs(t, try(near, wsd.Binary(noise(3<<20))), wsd.ErrQueueFull)
		require.ErrorIs(t, try(near, wsd.Binary(noise(990))), wsd.ErrQueueFull)
		_, err := far.Receive(t.Context())
		require.NoError(t, err)
		m, err := far.Receive(t.Context())
		require.NoError(t, err)
		require.Len(t, m.Data, 3<<20)
	})
}

// Whether a compressed message fits is known only when it is compressed. What is refused then leaves no trace in what is
// compressed later.
func TestTrySendOfWhatDoesNotFitCompressed(t *testing.T) {
	eachWayToTry(t, wsd.Config{MessageBuffer: -1}, func(t *testing.T, near, far *wsd.Conn, try func(*wsd.Conn, wsd.Message) error) {
		sent := 0
		for ; near.Stats().QueuedBytes < 30<<10; sent++ { // one on its way, and one behind it
			require.NoError(t, try(near, wsd.Binary(noise(20<<10))))
			synctest.Wait()
		}
		refused := wsd.Binary(noise(100 << 10))
		require.ErrorIs(t, try(near, refused), wsd.ErrQueueFull)
		require.Less(t, near.Stats().QueuedBytes, 64<<10)
		for range sent {
			_, err := far.Receive(t.Context())
			require.NoError(t, err)
		}
		synctest.Wait()
		require.NoError(t, try(near, refused))
		m, err := far.Receive(t.Context())
		require.NoError(t, err)
		require.True(t, bytes.Equal(refused.Data, m.Data))
	})
}

// While somebody else has the queue or waits for it, it counts as full.
func TestTrySendBehindOthers(t *testing.T) {
	others := map[string]func(context.Context, *wsd.Conn) error{
		"a Writer": func(ctx context.Context, c *wsd.Conn) error {
			w := c.Writer(ctx, wsd.BinaryMessage, nil)
			if _, err := w.Write([]byte("the beginning")); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
		"a large Send": func(ctx context.Context, c *wsd.Conn) error {
			return c.Send(ctx, wsd.Binary(noise(4<<20)))
		},
		"one who waits in line": func(ctx context.Context, c *wsd.Conn) error {
			for {
				if err := c.Send(ctx, wsd.Binary(noise(20<<10))); err != nil {
					return err
				}
			}
		},
	}
	for name, other := range others {
		t.Run(name, func(t *testing.T) {
			eachWayToTry(t, wsd.Config{MessageBuffer: -1, WriteTimeout: -1}, func(t *testing.T, near, _ *wsd.Conn, try func(*wsd.Conn, wsd.Message) error) {
				require.NoError(t, near.Send(t.Context(), wsd.Text("the reader is stuck with this")))
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				var background sync.WaitGroup
				background.Go(func() { _ = other(ctx, near) })
				synctest.Wait()
				require.ErrorIs(t, try(near, wsd.Text("x")), wsd.ErrQueueFull)
				require.ErrorIs(t, try(near, wsd.Text(string(bytes.Repeat([]byte("x"), 2000)))), wsd.ErrQueueFull)
				cancel()
				near.CloseNow()
				background.Wait()
			})
		})
	}
}

func TestTrySendAfterTheEnd(t *testing.T) {
	eachWayToTry(t, wsd.Config{}, func(t *testing.T, near, far *wsd.Conn, try func(*wsd.Conn, wsd.Message) error) {
		require.ErrorIs(t, try(near, wsd.Message{Type: wsd.TextMessage, Data: []byte("fine")}), nil)
		require.NoError(t, near.StartClose(wsd.StatusNormalClosure, ""))
		require.ErrorIs(t, try(near, wsd.Text("x")), wsd.ErrClosed)
		require.ErrorIs(t, try(near, wsd.Binary(noise(100<<10))), wsd.ErrClosed)
		<-near.Closed()
		require.ErrorIs(t, try(near, wsd.Text("x")), wsd.ErrClosed)
		require.ErrorIs(t, near.TrySend(wsd.Text("\xFF")), wsd.ErrInvalidMessage)
		require.ErrorIs(t, near.TrySend(wsd.Message{}), wsd.ErrInvalidMessage)
	})
}

// Many goroutines try at the same time; with takeover they wait for each other's compressing and for nothing else.
func TestTrySendFromManyGoroutines(t *testing.T) {
	for compression, agreed := range compressions {
		t.Run(compression, func(t *testing.T) {
			near, far := pipeOf(wsd.ServerRole, wsd.Config{Compression: agreed, SendQueue: 1 << 20})
			defer far.CloseNow()
			defer near.CloseNow()
			const senders, each = 8, 200
			var senting sync.WaitGroup
			var taken atomic.Int64
			for i := range senders {
				senting.Go(func() {
					for range each {
						if near.TrySend(wsd.Binary(bytes.Repeat([]byte{byte(i)}, 1+i*300))) == nil {
							taken.Add(1)
						}
					}
				})
			}
			senting.Wait()
			require.Positive(t, taken.Load())
			for range taken.Load() {
				m, err := far.Receive(t.Context())
				require.NoError(t, err)
				require.Len(t, m.Data, 1+int(m.Data[0])*300)
			}
		})
	}
}

// One frame of 8 MiB serves a thousand connections that do not read.
func TestPreparedIsNotCopied(t *testing.T) {
	const size = 8 << 20
	conns := 1000
	if wsd.RaceEnabled || testing.Short() {
		conns = 100
	}
	for compression, agreed := range map[string]*wsd.Compression{"plain": nil, "no takeover": compressions["no takeover"]} {
		t.Run(compression, func(t *testing.T) {
			var peers []*peer
			var all []*wsd.Conn
			for range conns {
				c, p := servedConn(t, wsd.Config{Compression: agreed, PingInterval: -1})
				all, peers = append(all, c), append(peers, p)
			}
			message := prepared(wsd.Binary(noise(size)))
			require.NoError(t, all[0].TrySendPrepared(message)) // which compresses it
			before := held()
			for i, c := range all[1:] {
				if i%2 == 0 {
					require.NoError(t, c.TrySendPrepared(message))
				} else {
					require.NoError(t, c.SendPrepared(t.Context(), message))
				}
			}
			require.Less(t, held()-before, int64(conns)*256<<10, "what the pipes hold, and no frame")
			for i, c := range all {
				peers[i].close()
				c.CloseNow()
			}
			runtime.KeepAlive(message)
		})
	}
}

// Full is not slow: Stats tell how much waits, and since when.
func TestStatsOfWhatWaits(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1, WriteTimeout: -1, SendQueue: 1 << 20})
		background := ends(t, c, p)
		require.Zero(t, c.Stats().QueuedBytes)
		require.True(t, c.Stats().OldestQueued.IsZero())
		time.Sleep(time.Minute)
		begun := time.Now()
		queueMany(t, c, 256<<10) // the transport takes some of it
		time.Sleep(10 * time.Second)
		require.NoError(t, c.TrySend(wsd.Binary(noise(4096))))
		stats := c.Stats()
		require.Greater(t, stats.QueuedBytes, 4096)
		require.Less(t, stats.QueuedBytes, 264<<10)
		require.Equal(t, begun, stats.OldestQueued, "the transport has not taken all that was queued then")
		background.Go(func() { _, _, _ = p.reads(0x88) })
		require.NoError(t, c.Flush(t.Context()))
		require.Zero(t, c.Stats().QueuedBytes)
		require.True(t, c.Stats().OldestQueued.IsZero())
	})
}

func TestNotifyRoom(t *testing.T) {
	eachWayToTry(t, wsd.Config{MessageBuffer: -1, WriteTimeout: -1}, func(t *testing.T, near, far *wsd.Conn, try func(*wsd.Conn, wsd.Message) error) {
		fill := func() {
			for took := true; took; synctest.Wait() { // the transport takes some of it
				for took = false; try(near, wsd.Binary(noise(5<<10))) == nil; took = true {
				}
			}
		}
		calls := 0
		near.NotifyRoom(func() { calls++ })
		synctest.Wait()
		require.Equal(t, 1, calls, "there is room")

		fill()
		near.NotifyRoom(func() { t.Error("it has been replaced") })
		near.NotifyRoom(func() {
			calls++
			require.NoError(t, try(near, wsd.Text("from within")))
		})
		time.Sleep(time.Minute)
		require.Equal(t, 1, calls)
		for found := false; !found; {
			m, err := far.Receive(t.Context())
			require.NoError(t, err)
			found = string(m.Data) == "from within"
		}
		synctest.Wait()
		require.Equal(t, 2, calls, "once")

		fill()
		near.NotifyRoom(func() { t.Error("it has been removed") })
		near.NotifyRoom(nil)
		near.NotifyRoom(func() { calls++ })
		far.CloseNow()
		<-near.Closed()
		synctest.Wait()
		require.Equal(t, 3, calls, "the end")
		near.NotifyRoom(func() { calls++ })
		synctest.Wait()
		require.Equal(t, 4, calls, "and after it")
	})
}

// A sender that writes itself does not call back: it may hold the locks that the callback wants.
func TestNotifyRoomIsNotCalledBySenders(t *testing.T) {
	client, server := tcpPair(t)
	c := wsd.NewConn(server, wsd.ServerRole, wsd.Config{PingInterval: -1})
	p := &peer{t, client, true}
	defer p.close()
	defer c.CloseNow()
	var mu sync.Mutex
	for range 1000 {
		told := make(chan struct{})
		p.send(text("a question"))
		<-c.Messages()
		mu.Lock()
		c.NotifyRoom(func() {
			mu.Lock()
			defer mu.Unlock()
			close(told)
		})
		require.NoError(t, c.TrySend(wsd.Text("an answer")))
		mu.Unlock()
		<-told
		require.Equal(t, text("an answer"), p.receive())
	}
}
