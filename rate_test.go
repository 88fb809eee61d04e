// rate_test.go tests that a peer is read no faster than a ReceiveRate, and what that must not do.

package wsd_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// A flood is received in a burst and then at the rate, whole and in order.
func TestReceiveRate(t *testing.T) {
	for _, row := range []struct {
		name          string
		rate          wsd.ReceiveRate
		count         int
		sent          frame
		burst, second int // how many are received at once, and in each second from then on
	}{
		{"messages", wsd.ReceiveRate{Messages: 100}, 500, frame{0x82, []byte{1}}, 100, 100},
		{"messages, longer burst", wsd.ReceiveRate{Messages: 100, Burst: 3 * time.Second}, 1000, frame{0x81, []byte("x")}, 300, 100},
		{"bytes", wsd.ReceiveRate{Bytes: 10_000}, 60, frame{0x82, make([]byte, 992)}, 10, 10}, // 1000 bytes with the header
		{"both", wsd.ReceiveRate{Messages: 5, Bytes: 1 << 20}, 20, frame{0x82, []byte{1}}, 5, 5},
		{"pings", wsd.ReceiveRate{Messages: 100}, 500, frame{0x89, []byte{1}}, 100, 100},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{ReceiveRate: row.rate, MessageBuffer: row.count, PingInterval: -1})
				defer p.close()
				defer c.CloseNow()
				var pongs atomic.Int64
				if row.sent.first == 0x89 {
					go func() {
						for {
							if _, err := p.tryReceive(); err != nil {
								return
							}
							pongs.Add(1)
						}
					}()
				}
				go func() {
					for range row.count {
						if _, err := p.rwc.Write(p.encode(row.sent)); err != nil {
							return
						}
					}
				}()
				received := func() int {
					synctest.Wait()
					return int(c.Stats().MessagesReceived) + int(pongs.Load())
				}
				require.InDelta(t, row.burst, received(), 2)
				for second := 1; row.burst+second*row.second < row.count; second++ {
					time.Sleep(time.Second)
					require.InDelta(t, row.burst+second*row.second, received(), 2+float64(row.second)/10, "second %d", second)
				}
				time.Sleep(2 * time.Second)
				require.Equal(t, row.count, received())
				require.Equal(t, wsd.StateOpen, c.State())
			})
		})
	}
}

// A peer that waits for its turn is not taken for dead, and a Close does not wait for its flood.
func TestReceiveRateLeavesKeepaliveAndCloseAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{ReceiveRate: wsd.ReceiveRate{Bytes: 100}, PingInterval: 10 * time.Second,
			PongTimeout: 5 * time.Second, MessageBuffer: 4096})
		defer p.close()
		go func() {
			for range 100 { // 50 s each
				if _, err := p.rwc.Write(p.encode(frame{0x82, make([]byte, 5000)})); err != nil {
					return
				}
			}
		}()
		go func() {
			for { // the pings, which it answers behind its flood, and the close frame
				if _, err := p.tryReceive(); err != nil {
					return
				}
			}
		}()
		time.Sleep(20 * time.Minute)
		require.Equal(t, wsd.StateOpen, c.State())
		require.Positive(t, c.Stats().MessagesReceived)
		begun := time.Now()
		_ = c.Close(wsd.StatusNormalClosure, "")
		require.LessOrEqual(t, time.Since(begun), 5*time.Second, "CloseTimeout")
		c.CloseNow()
	})
}

func TestReceiveRateEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{ReceiveRate: wsd.ReceiveRate{Messages: 1}, PingInterval: -1})
		defer p.close()
		go func() { _, _ = p.rwc.Write(p.encode(frame{0x82, nil})) }()
		go func() { _, _ = p.rwc.Write(p.encode(frame{0x82, nil})) }()
		synctest.Wait()
		begun := time.Now()
		c.CloseNow()
		require.Zero(t, time.Since(begun))
	})
}

// Over a socket, what is not read is not taken from the peer either.
func TestReceiveRateSlowsThePeer(t *testing.T) {
	peer, transport := tcpPair(t)
	defer peer.Close()
	c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{ReceiveRate: wsd.ReceiveRate{Bytes: 64 << 10}, SlowConsumer: wsd.DropSlow})
	defer c.CloseNow()
	flood := encodeFrame(frame{0x82, make([]byte, 64<<10)}, true)
	require.NoError(t, peer.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
	taken := 0
	for {
		n, err := peer.Write(flood)
		if taken += n; err != nil {
			break
		}
	}
	require.Less(t, taken, 64<<20, "the buffers of two kernels, not what half a second can carry")
	require.LessOrEqual(t, c.Stats().BytesReceived, uint64(512<<10))
}

// Without a rate nothing waits.
func TestNoReceiveRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []wsd.ReceiveRate{{}, {Messages: -1, Bytes: -1}, {Burst: time.Second}} {
			c, p := servedConn(t, wsd.Config{ReceiveRate: rate, PingInterval: -1})
			go func() {
				for range 10_000 {
					_, _ = p.rwc.Write(p.encode(frame{0x82, []byte{1}}))
				}
			}()
			begun := time.Now()
			for range 10_000 {
				_, err := c.Receive(context.Background())
				require.NoError(t, err)
			}
			require.Zero(t, time.Since(begun))
			c.CloseNow()
			p.close()
		}
	})
}
