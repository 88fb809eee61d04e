//go:build unix

// bench_test.go measures WebSockets over HTTP/2 beside a handler that echoes bytes over the same stack, without WebSockets:
//
//	go test -run '^$' -bench .

package h2_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// rawEcho answers an extended CONNECT, and sends back the bytes that come. Of HTTP/1.1 it takes only the connection.
func rawEcho(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		rawUpgrade(w)
		return
	}
	control := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if control.Flush() != nil {
		return
	}
	first := make([]byte, 1) // enough while nothing comes
	n, err := r.Body.Read(first)
	if _, failed := w.Write(first[:n]); err != nil || failed != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil || control.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// rawUpgrade takes a TCP connection over, and waits for the first byte.
func rawUpgrade(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	if _, err := io.WriteString(conn, answer); err == nil {
		_, _ = conn.Read(make([]byte, 1))
	}
}

// open opens a connection without a Conn at the client's end.
func open(t testing.TB, s served, by http.RoundTripper) io.ReadWriteCloser {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.Server.URL, nil)
	require.NoError(t, err)
	req.Header = http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	resp, err := by.RoundTrip(req)
	require.NoError(t, err)
	stream, ok := resp.Body.(io.ReadWriteCloser)
	require.True(t, ok, "status %d", resp.StatusCode)
	return stream
}

// BenchmarkEcho has 64 streams of one TCP connection echo messages of 64 bytes, some of which are in flight on each.
func BenchmarkEcho(b *testing.B) {
	const streams, size, header = 64, 64, 2
	masked := append([]byte{0x82, 0x80 | size, 0, 0, 0, 0}, make([]byte, size)...)
	for _, inFlight := range []int{1, 64} {
		for _, raw := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d in flight/%s", inFlight, map[bool]string{true: "raw", false: "wsd"}[raw]), func(b *testing.B) {
				s := benchmarked(b, true, raw)
				answer := header + size
				if raw {
					answer = len(masked)
				}
				burst := slices.Repeat(masked, inFlight)
				var opened []io.ReadWriteCloser
				for range streams {
					opened = append(opened, open(b, s, s.transport))
				}
				var all sync.WaitGroup
				b.ResetTimer()
				spent := cpuTime()
				for _, stream := range opened {
					all.Go(func() {
						answers := make([]byte, answer*inFlight)
						for n := 0; n < b.N/streams+1; n += inFlight {
							if _, err := stream.Write(burst); err != nil {
								b.Error(err)
								return
							}
							if _, err := io.ReadFull(stream, answers); err != nil {
								b.Error(err)
								return
							}
						}
						_ = stream.Close()
					})
				}
				all.Wait()
				b.ReportMetric(float64(cpuTime()-spent)/float64(b.N), "CPU-ns/op")
			})
		}
	}
}

// cpuTime is what this process, client and server, has taken of processors.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// benchmarked is a server of WebSockets that echo, or of rawEcho, with TLS or without.
func benchmarked(b testing.TB, secure, raw bool) served {
	if raw {
		s := serve(b, secure, nil)
		s.Config.Handler = http.HandlerFunc(rawEcho) // without what ConfigureHTTP2 wraps
		return s
	}
	return serve(b, secure, &wsd.Server{Handler: echoAndRelease, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{PingInterval: -1}}})
}

// echoAndRelease is echoAll for the messages of which nothing is kept.
func echoAndRelease(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
		m.Release()
	}
}

// BenchmarkDial opens connections and cuts them off, as streams of a TCP connection that is there, and with TLS for each.
func BenchmarkDial(b *testing.B) {
	for _, shared := range []bool{true, false} {
		b.Run(map[bool]string{true: "stream", false: "TLS"}[shared], func(b *testing.B) {
			s := benchmarked(b, true, false)
			by := http.RoundTripper(s.transport)
			if !shared {
				by = s.transport.Base
			}
			opts := &wsd.DialOptions{HTTPClient: &http.Client{Transport: by}}
			spent := cpuTime()
			for b.Loop() {
				conn, _, err := wsd.Dial(b.Context(), s.url, opts)
				require.NoError(b, err)
				conn.CloseNow()
			}
			b.ReportMetric(float64(cpuTime()-spent)/float64(b.N), "CPU-ns/op")
		})
	}
}

// way is how idle connections are carried.
type way struct{ tcp, secure, raw bool }

func (w way) String() string {
	names := map[bool][]string{false: {"stream", "clear", "wsd"}, true: {"TCP", "TLS", "raw"}}
	return names[w.tcp][0] + "/" + names[w.secure][1] + "/" + names[w.raw][2]
}

// held is what idle connections hold each, at both ends, in bytes. Clients are the same for both servers.
func held(t testing.TB, w way, connections int) float64 {
	t.Helper()
	s := benchmarked(t, w.secure, w.raw)
	by := http.RoundTripper(s.transport)
	if w.tcp {
		by = s.transport.Base
	}
	all := make([]io.ReadWriteCloser, 0, 1+connections)
	all = append(all, open(t, s, by))
	before := inUse()
	for range connections {
		all = append(all, open(t, s, by))
	}
	after := inUse()
	for _, stream := range all {
		_ = stream.Close()
	}
	return (float64(after) - float64(before)) / float64(connections)
}

// inUse is the memory in use behind a garbage collection.
func inUse() uint64 {
	var stats runtime.MemStats
	for range 3 { // what is finalized and what pools hold goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}

// BenchmarkIdle has 1,000 idle streams of one TCP connection, and 1,000 TCP connections.
func BenchmarkIdle(b *testing.B) {
	for _, tcp := range []bool{false, true} {
		for _, secure := range []bool{false, true} {
			for _, raw := range []bool{false, true} {
				w := way{tcp, secure, raw}
				b.Run(w.String(), func(b *testing.B) {
					var sum float64
					for b.Loop() {
						sum += held(b, w, 1000)
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(sum/float64(b.N)/1024, "KiB/connection")
				})
			}
		}
	}
}
