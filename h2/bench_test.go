//go:build unix

// bench_test.go measures WebSockets over HTTP/2 beside a handler that echoes bytes over the same stack, without WebSockets:
//
//	go test -run '^$' -bench .

package h2_test

import (
	"io"
	"net/http"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/streamtest"
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

func BenchmarkEcho(b *testing.B) {
	streamtest.BenchmarkEcho(b, func(b testing.TB, raw bool) (string, http.RoundTripper) {
		s := benchmarked(b, true, raw)
		return s.url, s.transport
	})
}

// benchmarked is a server of WebSockets that echo, or of rawEcho, with TLS or without.
func benchmarked(b testing.TB, secure, raw bool) served {
	if raw {
		s := serve(b, secure, nil)
		s.Config.Handler = http.HandlerFunc(rawEcho) // without what ConfigureHTTP2 wraps
		return s
	}
	return serve(b, secure, streamtest.EchoServer())
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
			spent := streamtest.CPUTime()
			for b.Loop() {
				conn, _, err := wsd.Dial(b.Context(), s.url, opts)
				require.NoError(b, err)
				conn.CloseNow()
			}
			b.ReportMetric(float64(streamtest.CPUTime()-spent)/float64(b.N), "CPU-ns/op")
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
	all = append(all, streamtest.Open(t, s.url, by))
	before := inUse()
	for range connections {
		all = append(all, streamtest.Open(t, s.url, by))
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
