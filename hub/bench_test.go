// bench_test.go measures what a publication costs besides its deliveries, and what a delivery costs beside a bare loop.

package hub_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// sink is a transport that takes everything, and never has anything to read.
type sink struct {
	closed chan struct{}
	pause  time.Duration // before it takes something
}

func (s sink) Read([]byte) (int, error) {
	<-s.closed
	return 0, context.Canceled
}
func (s sink) Write(p []byte) (int, error) {
	if s.pause > 0 {
		time.Sleep(s.pause)
	}
	return len(p), nil
}
func (s sink) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func sinks(b *testing.B, n int) (conns []*wsd.Conn) { return slowSinks(b, n, 0) }

// slowSinks returns connections whose peers take something once in a while.
func slowSinks(b *testing.B, n int, pause time.Duration) (conns []*wsd.Conn) {
	for range n {
		c := wsd.NewConn(sink{make(chan struct{}), pause}, wsd.ServerRole, wsd.Config{PingInterval: -1})
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

// BenchmarkTopics publishes to 10,000 topics in turn, with five subscribers each, by a hub and by a loop that knows them.
func BenchmarkTopics(b *testing.B) {
	const topics, each, members = 10_000, 5, 500
	msg := wsd.Binary(make([]byte, 128))
	conns := sinks(b, members)
	h := hub.New(nil)
	defer h.Close()
	var joined []*hub.Member
	for _, c := range conns {
		m, err := h.Join(c, "")
		require.NoError(b, err)
		joined = append(joined, m)
	}
	names, known := make([]string, topics), make([][]*wsd.Conn, topics)
	for i := range topics {
		names[i] = fmt.Sprintf("prices.%d", i)
		for j := range each {
			m := joined[(i*each+j)%members]
			require.NoError(b, m.Subscribe(names[i]))
			known[i] = append(known[i], m.Conn())
		}
	}
	b.Run("loop", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p, _ := wsd.Prepare(msg)
			for _, c := range known[i%topics] {
				_ = c.TrySendPrepared(p)
			}
		}
	})
	b.Run("hub", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			_ = h.Publish(b.Context(), names[i%topics], msg)
		}
	})
}

// BenchmarkLatest publishes to 1,000 topics in turn, to all of which 500 members are subscribed under Latest, half of them slow.
func BenchmarkLatest(b *testing.B) {
	const topics, members = 1000, 500
	for _, slow := range []int{0, members / 2} {
		b.Run(fmt.Sprintf("%d of %d slow", slow, members), func(b *testing.B) {
			h := hub.New(&hub.Options{Slow: hub.Latest})
			defer h.Close()
			for _, c := range append(slowSinks(b, slow, 10*time.Millisecond), sinks(b, members-slow)...) {
				m, err := h.Join(c, "")
				require.NoError(b, err)
				require.NoError(b, m.Subscribe("prices.*"))
			}
			names := make([]string, topics)
			for i := range names {
				names[i] = fmt.Sprintf("prices.%d", i)
			}
			msg := wsd.Binary(make([]byte, 128))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_ = h.Publish(b.Context(), names[i%topics], msg)
			}
			s := h.Stats()
			b.ReportMetric(float64(s.Replaced)/float64(s.Published), "replaced/op")
		})
	}
}
