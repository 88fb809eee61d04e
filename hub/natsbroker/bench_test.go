//go:build unix

// bench_test.go measures what NATS costs beside the broker in memory: processor time of all nodes together, latency, history,
// and what an embedded server needs.

package natsbroker_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

// sink is a transport that takes everything, counts messages of 128 bytes, and never has anything to read.
type sink struct {
	closed chan struct{}
	end    func()
	taken  *atomic.Int64 // bytes
}

func newSink(taken *atomic.Int64) sink {
	closed := make(chan struct{})
	return sink{closed, sync.OnceFunc(func() { close(closed) }), taken}
}

func (s sink) Read([]byte) (int, error) {
	<-s.closed
	return 0, context.Canceled
}

func (s sink) Write(p []byte) (int, error) {
	s.taken.Add(int64(len(p)))
	return len(p), nil
}

func (s sink) Close() error {
	s.end()
	return nil
}

// frameBytes is what a message of messageBytes takes on the wire.
const (
	messageBytes = 128
	frameBytes   = 4 + messageBytes
)

func newMembers(b *testing.B, h *hub.Hub, n int, taken *atomic.Int64) (members []*hub.Member) {
	b.Helper()
	for range n {
		c := wsd.NewConn(newSink(taken), wsd.ServerRole, wsd.Config{PingInterval: -1, SendQueue: 1 << 20})
		b.Cleanup(func() {
			c.CloseNow()
			<-c.Closed()
		})
		m, err := h.Join(c, "")
		require.NoError(b, err)
		members = append(members, m)
	}
	return members
}

func newHub(b *testing.B, broker hub.Broker) *hub.Hub {
	b.Helper()
	h := hub.New(&hub.Options{Broker: broker, Backlog: -1, History: []hub.History{{Topics: "kept.*", Messages: 2000, Bytes: -1}}})
	b.Cleanup(func() { require.NoError(b, h.Close()) })
	return h
}

func newEmbedded(b *testing.B, opts natsbroker.Options) *natsbroker.Broker {
	b.Helper()
	opts.Logger = quiet
	broker, err := natsbroker.Embedded(&opts)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, broker.Close()) })
	return broker
}

// newPair returns two nodes of a cluster. History is on one of them.
func newPair(b *testing.B) (near, far *hub.Hub) {
	b.Helper()
	first := newEmbedded(b, natsbroker.Options{Listen: "127.0.0.1:0"})
	second := newEmbedded(b, natsbroker.Options{Listen: "127.0.0.1:0", Routes: []string{first.Addr()}})
	require.Eventually(b, func() bool { return second.Stats().Routes == 1 && first.Stats().Routes == 1 }, patience, time.Millisecond)
	return newHub(b, first), newHub(b, second)
}

// processor returns the time that this process has had of all processors.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkDelivery publishes to 500 members, with 64 messages on their way.
func BenchmarkDelivery(b *testing.B) {
	for _, row := range []struct {
		name string
		open func(*testing.B) (near, far *hub.Hub)
	}{
		{"memory", func(b *testing.B) (near, far *hub.Hub) { near = newHub(b, hub.NewMemory()); return near, near }},
		{"embedded alone", func(b *testing.B) (near, far *hub.Hub) {
			near = newHub(b, newEmbedded(b, natsbroker.Options{}))
			return near, near
		}},
		{"members on another node", newPair},
	} {
		b.Run(row.name, func(b *testing.B) {
			const members, ahead = 500, 64
			var taken atomic.Int64
			near, far := row.open(b)
			for _, m := range newMembers(b, far, members, &taken) {
				require.NoError(b, m.Subscribe("live.a"))
			}
			msg := wsd.Binary(make([]byte, messageBytes))
			wait := func(published int) {
				for taken.Load() < int64(published)*members*frameBytes {
					time.Sleep(20 * time.Microsecond)
				}
			}
			before, published := processor(b), 0
			for b.Loop() {
				wait(published - ahead)
				require.NoError(b, near.Publish(b.Context(), "live.a", msg))
				published++
			}
			wait(published)
			b.ReportMetric(float64(processor(b)-before)/float64(published*members), "cpu-ns/delivery")
		})
	}
}

// BenchmarkLatency publishes on one node and waits for it on another.
func BenchmarkLatency(b *testing.B) {
	near, far := newPair(b)
	for _, topic := range []string{"live.a", "kept.a"} {
		b.Run(topic, func(b *testing.B) {
			l, err := far.Listen(topic)
			require.NoError(b, err)
			defer l.Close()
			msg := wsd.Binary(make([]byte, messageBytes))
			for b.Loop() {
				require.NoError(b, near.Publish(b.Context(), topic, msg))
				<-l.C()
			}
		})
	}
}

// BenchmarkPublish publishes to nobody, by as many goroutines as there are processors and by 64 times as many.
func BenchmarkPublish(b *testing.B) {
	h := newHub(b, newEmbedded(b, natsbroker.Options{}))
	for _, topic := range []string{"live.a", "kept.a"} {
		for _, many := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s by %d", topic, many), func(b *testing.B) {
				msg := wsd.Binary(make([]byte, messageBytes))
				b.SetParallelism(many)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := h.Publish(b.Context(), topic, msg); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// BenchmarkResume has 500 members get 1,000 messages each from history.
func BenchmarkResume(b *testing.B) {
	const members, messages = 500, 1000
	for _, row := range []struct {
		name   string
		broker func(*testing.B) hub.Broker
	}{
		{"memory", func(*testing.B) hub.Broker { return hub.NewMemory() }},
		{"embedded alone", func(b *testing.B) hub.Broker { return newEmbedded(b, natsbroker.Options{}) }},
	} {
		b.Run(row.name, func(b *testing.B) {
			h := newHub(b, row.broker(b))
			for range messages {
				require.NoError(b, h.Publish(b.Context(), "kept.a", wsd.Binary(make([]byte, messageBytes))))
			}
			var taken atomic.Int64
			all := newMembers(b, h, members, &taken)
			before, n := processor(b), 0
			for b.Loop() {
				taken.Store(0)
				var coming sync.WaitGroup
				for _, m := range all {
					coming.Go(func() {
						if err := m.SubscribeFrom("kept.a", hub.Position{}); err != nil {
							b.Error(err)
						}
					})
				}
				coming.Wait()
				for taken.Load() < members*messages*frameBytes {
					time.Sleep(100 * time.Microsecond)
				}
				for _, m := range all {
					require.NoError(b, m.Unsubscribe("kept.a"))
				}
				n++
			}
			b.ReportMetric(float64(processor(b)-before)/float64(n*members*messages), "cpu-ns/delivery")
		})
	}
}

// BenchmarkStart starts and stops an embedded server, and tells of the memory that one takes.
func BenchmarkStart(b *testing.B) {
	for name, opts := range map[string]natsbroker.Options{"with history": {}, "without": {NoHistory: true}} {
		b.Run(name, func(b *testing.B) {
			opts.Logger = quiet
			var memory float64
			for b.Loop() {
				before := inUse()
				broker, err := natsbroker.Embedded(&opts)
				require.NoError(b, err)
				memory = inUse() - before
				require.NoError(b, broker.Close())
			}
			b.ReportMetric(memory/1024, "KiB")
		})
	}
}

// inUse returns the bytes of heap and stacks that are in use.
func inUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse) + float64(m.StackInuse)
}
