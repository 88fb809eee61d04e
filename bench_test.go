//go:build unix

// bench_test.go measures echoes over loopback TCP, with the processor time that they take.

package wsd_test

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// benchmarkEcho has clients write window frames at a time and read as many answers, all in this process.
func benchmarkEcho(b *testing.B, conns, window, size int, echo func(*wsd.Conn)) {
	benchmarkEchoWith(b, wsd.Config{}, conns, window, size, func(c *wsd.Conn) { go echo(c) })
}

// benchmarkEchoWith has serve see to it that what arrives on a connection is given back.
func benchmarkEchoWith(b *testing.B, cfg wsd.Config, conns, window, size int, serve func(*wsd.Conn)) {
	frame := encodeFrame(binaryFrame(make([]byte, size)), true)
	header := 2
	if size > 125 {
		header = 4
	}
	if size > 65535 {
		header = 10
	}
	batch := make([]byte, 0, window*len(frame))
	for range window {
		batch = append(batch, frame...)
	}
	clients := make([]net.Conn, conns)
	for i := range clients {
		client, server := tcpPair(b)
		clients[i] = client
		serve(wsd.NewConn(server, wsd.ServerRole, cfg))
	}
	rounds := b.N/(conns*window) + 1
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	done := make(chan error, conns)
	for _, client := range clients {
		go func() {
			r := bufio.NewReaderSize(client, 64<<10)
			for range rounds {
				if _, err := client.Write(batch); err != nil {
					done <- err
					return
				}
				if _, err := r.Discard(window * (header + size)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range clients {
		require.NoError(b, <-done)
	}
	b.StopTimer()
	messages := float64(rounds * conns * window)
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/messages, "cpu-ns/msg")
	for _, client := range clients {
		client.Close()
	}
}

func cpuTime(t testing.TB) time.Duration {
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkEcho(b *testing.B) {
	b.Run("64x64x64B", func(b *testing.B) { benchmarkEcho(b, 64, 64, 64, echo) })
	b.Run("64x16x1KiB", func(b *testing.B) { benchmarkEcho(b, 64, 16, 1024, echo) })
	b.Run("64x1x64B", func(b *testing.B) { benchmarkEcho(b, 64, 1, 64, echo) })
	b.Run("1x1x64B", func(b *testing.B) { benchmarkEcho(b, 1, 1, 64, echo) })
	b.Run("1x64x64B", func(b *testing.B) { benchmarkEcho(b, 1, 64, 64, echo) })
	b.Run("4x1x64KiB", func(b *testing.B) { benchmarkEcho(b, 4, 1, 64<<10, echo) })
	b.Run("4x1x1MiB", func(b *testing.B) { benchmarkEcho(b, 4, 1, 1<<20, echo) })
}

// BenchmarkEchoLoops compares the loops that an echo can be written with.
func BenchmarkEchoLoops(b *testing.B) {
	for _, loop := range []struct {
		name string
		echo func(*wsd.Conn)
	}{{"range", echo}, {"release", echoWithRelease}, {"each", echoByEach}} {
		b.Run("64x16x1KiB/"+loop.name, func(b *testing.B) { benchmarkEcho(b, 64, 16, 1024, loop.echo) })
		b.Run("4x1x64KiB/"+loop.name, func(b *testing.B) { benchmarkEcho(b, 4, 1, 64<<10, loop.echo) })
	}
}

// BenchmarkEchoTraced compares echoes without a Trace, with one that has no functions, and with one that counts.
func BenchmarkEchoTraced(b *testing.B) {
	var sent, received atomic.Uint64
	for _, row := range []struct {
		name  string
		trace *wsd.Trace
	}{
		{"none", nil},
		{"empty", new(wsd.Trace)},
		{"counting", &wsd.Trace{
			MessageSent:     func(*wsd.Conn, wsd.MessageInfo) { sent.Add(1) },
			MessageReceived: func(*wsd.Conn, wsd.MessageInfo) { received.Add(1) },
		}},
	} {
		serve := func(c *wsd.Conn) { go echo(c) }
		b.Run("64x64x64B/"+row.name, func(b *testing.B) { benchmarkEchoWith(b, wsd.Config{Trace: row.trace}, 64, 64, 64, serve) })
		b.Run("64x1x64B/"+row.name, func(b *testing.B) { benchmarkEchoWith(b, wsd.Config{Trace: row.trace}, 64, 1, 64, serve) })
	}
}

// BenchmarkEchoInbox compares handlers of their own with one loop over an Inbox.
func BenchmarkEchoInbox(b *testing.B) {
	rows := map[string][3]int{"64x64x64B": {64, 64, 64}, "64x1x64B": {64, 1, 64}, "64x16x1KiB": {64, 16, 1024}}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		conns, window, size := rows[name][0], rows[name][1], rows[name][2]
		b.Run(name+"/handlers", func(b *testing.B) { benchmarkEcho(b, conns, window, size, echo) })
		b.Run(name+"/inbox", func(b *testing.B) {
			inbox := wsd.NewInbox(256)
			go func() {
				for ended := 0; ended < conns; {
					if d := <-inbox.C(); d.Ended {
						ended++
					} else {
						_ = d.Conn.Send(context.Background(), d.Message)
					}
				}
			}()
			benchmarkEchoWith(b, wsd.Config{Inbox: inbox}, conns, window, size, func(*wsd.Conn) {})
		})
	}
}

func echoWithRelease(c *wsd.Conn) {
	for m := range c.Messages() {
		if c.Send(context.Background(), m) != nil {
			return
		}
		m.Release()
	}
}

// BenchmarkEchoBesideAFlood measures what a peer that sends as fast as it can costs others, with and without a ReceiveRate.
func BenchmarkEchoBesideAFlood(b *testing.B) {
	for _, row := range []struct {
		name   string
		floods bool
		rate   wsd.ReceiveRate
	}{
		{"no flood", false, wsd.ReceiveRate{}}, {"no rate", true, wsd.ReceiveRate{}}, {"1000 a second", true, wsd.ReceiveRate{Messages: 1000}},
	} {
		b.Run(row.name, func(b *testing.B) {
			if row.floods {
				client, server := tcpPair(b)
				defer client.Close()
				conn := wsd.NewConn(server, wsd.ServerRole, wsd.Config{ReceiveRate: row.rate})
				defer conn.CloseNow()
				go func() {
					for range conn.Messages() {
					}
				}()
				flood := bytes.Repeat(encodeFrame(binaryFrame([]byte("flood")), true), 1000)
				go func() {
					for {
						if _, err := client.Write(flood); err != nil {
							return
						}
					}
				}()
			}
			benchmarkEcho(b, 16, 1, 64, echo)
		})
	}
}

// BenchmarkServerStats measures what it costs to read the sums over many connections.
func BenchmarkServerStats(b *testing.B) {
	for _, conns := range []int{100, 2000} {
		b.Run(strconv.Itoa(conns), func(b *testing.B) {
			ws := &wsd.Server{Handler: func(c *wsd.Conn) { <-c.Closed() }}
			server := httptest.NewServer(ws)
			defer server.Close()
			for range conns {
				c, _, err := wsd.Dial(b.Context(), server.URL, nil)
				require.NoError(b, err)
				defer c.CloseNow()
			}
			for b.Loop() {
				ws.Stats()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*conns), "ns/conn")
		})
	}
}

// BenchmarkLimits compares handshakes under no limits with such under each kind. They are refused for their origin, as what
// an accepted one does to sockets would drown the difference.
func BenchmarkLimits(b *testing.B) {
	for _, row := range []struct {
		name   string
		limits wsd.Limits
	}{
		{"none", wsd.Limits{}},
		{"in all", wsd.Limits{Connections: 1000}},
		{"by address", wsd.Limits{AddressConnections: 1000, AddressHandshakes: 1e12}},
		{"by address behind a proxy", wsd.Limits{AddressConnections: 1000, AddressHandshakes: 1e12,
			ClientAddr: wsd.TrustedProxies("X-Forwarded-For", netip.MustParsePrefix("192.0.2.0/24"))}},
	} {
		b.Run(row.name, func(b *testing.B) {
			ws := &wsd.Server{Handler: echo, Limits: row.limits, Logger: slog.New(slog.DiscardHandler)}
			request := handshakeRequest()
			request.Header.Set("Origin", "http://evil.example")
			request.Header.Set("X-Forwarded-For", "198.51.100.7")
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				ws.ServeHTTP(w, request)
				if w.Code != http.StatusForbidden {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
