// bench_test.go measures what lending itself costs, without the network.

package pool_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

func BenchmarkAcquireRelease(b *testing.B) {
	p := newPool(b, newHost(b, nil), pool.Options{MaxConns: 8})
	_ = acquire(b, p).Release()
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		c, err := p.Acquire(ctx)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Release()
	}
}

func BenchmarkDo(b *testing.B) {
	p := newPool(b, newHost(b, nil), pool.Options{MaxConns: 8})
	_ = acquire(b, p).Release()
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Do(ctx, func(*pool.Conn) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkContended64On8 has 64 goroutines share 8 connections, each giving its connection back at once: the worst case
// for the queue.
func BenchmarkContended64On8(b *testing.B) {
	p := newPool(b, newHost(b, nil), pool.Options{MaxConns: 8})
	ctx := context.Background()
	b.ReportAllocs()
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := p.Acquire(ctx)
			if err != nil {
				b.Error(err)
				return
			}
			_ = c.Release()
		}
	})
}

// BenchmarkEcho64On8 is the same with a request and its answer over an in-memory transport each time.
func BenchmarkEcho64On8(b *testing.B) {
	p := newPool(b, newHost(b, nil), pool.Options{MaxConns: 8})
	ctx := context.Background()
	b.ReportAllocs()
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			err := p.Do(ctx, func(conn *pool.Conn) error {
				if err := conn.Send(ctx, wsd.Text("hello")); err != nil {
					return err
				}
				_, err := conn.Receive(ctx)
				return err
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
