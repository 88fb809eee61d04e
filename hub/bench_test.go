// bench_test.go measures what a publication costs besides its deliveries, and what a delivery costs beside a bare loop.

package hub_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// sink is a transport that takes everything, and never has anything to read.
type sink struct{ closed chan struct{} }

func (s sink) Read([]byte) (int, error) {
	<-s.closed
	return 0, context.Canceled
}
func (s sink) Write(p []byte) (int, error) { return len(p), nil }
func (s sink) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func sinks(b *testing.B, n int) (conns []*wsd.Conn) {
	for range n {
		c := wsd.NewConn(sink{make(chan struct{})}, wsd.ServerRole, wsd.Config{PingInterval: -1})
		b.Cleanup(func() {
			c.CloseNow()
			<-c.Closed()
		})
		conns = append(conns, c)
	}
	return conns
}

// BenchmarkPublish publishes to one of 10,000 topics, on which 100,000 subscriptions are.
func BenchmarkPublish(b *testing.B) {
	h := hub.New(nil)
	defer h.Close()
	for i, c := range sinks(b, 1000) {
		m, err := h.Join(c, "")
		require.NoError(b, err)
		for j := range 100 {
			require.NoError(b, m.Subscribe(fmt.Sprintf("prices.market.%d", (i*100+j)%10_000)))
		}
	}
	l, err := h.Listen("alone.*")
	require.NoError(b, err)
	defer l.Close()
	msg := wsd.Binary(make([]byte, 128))
	for name, topic := range map[string]string{"nobody": "prices.other.1", "10 members": "prices.market.1", "a listener": "alone.1"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = h.Publish(b.Context(), topic, msg)
			}
		})
	}
}

// BenchmarkBroadcast sends a message to 500 connections, by a hub and by a loop.
func BenchmarkBroadcast(b *testing.B) {
	msg := wsd.Binary(make([]byte, 128))
	conns := sinks(b, 500)
	b.Run("loop", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, _ := wsd.Prepare(msg)
			for _, c := range conns {
				_ = c.TrySendPrepared(p)
			}
		}
	})
	h := hub.New(nil)
	defer h.Close()
	for _, c := range conns {
		m, err := h.Join(c, "")
		require.NoError(b, err)
		require.NoError(b, m.Subscribe("t"))
	}
	b.Run("hub", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = h.Publish(b.Context(), "t", msg)
		}
	})
}
