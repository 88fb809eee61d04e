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
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// rawEcho answers an extended CONNECT, and sends back the bytes that come.
func rawEcho(w http.ResponseWriter, r *http.Request) {
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

// open opens a stream without a Conn at the client's end.
func open(t testing.TB, s served) io.ReadWriteCloser {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.Server.URL, nil)
	require.NoError(t, err)
	req.Header = http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	resp, err := s.transport.RoundTrip(req)
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
		for name, raw := range map[string]bool{"raw": true, "wsd": false} {
			b.Run(fmt.Sprintf("%d in flight/%s", inFlight, name), func(b *testing.B) {
				s := benchmarked(b, raw)
				answer := header + size
				if raw {
					answer = len(masked)
				}
				burst := slices.Repeat(masked, inFlight)
				var all sync.WaitGroup
				b.ResetTimer()
				for range streams {
					stream := open(b, s)
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
			})
		}
	}
}

// benchmarked is a server of WebSockets that echo, or of rawEcho.
func benchmarked(b testing.TB, raw bool) served {
	ws := &wsd.Server{Handler: echoAll, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{PingInterval: -1}}}
	s := serve(b, true, ws)
	if raw {
		s.Config.Handler = http.HandlerFunc(rawEcho)
	}
	return s
}

// BenchmarkDial opens a connection and closes it, as a stream of a TCP connection that is there, and with TLS for each.
func BenchmarkDial(b *testing.B) {
	for name, transport := range map[string]func(served) http.RoundTripper{
		"HTTP2": func(s served) http.RoundTripper { return s.transport },
		"TLS":   func(s served) http.RoundTripper { return s.transport.Base },
	} {
		b.Run(name, func(b *testing.B) {
			s := benchmarked(b, false)
			opts := &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport(s)}}
			for b.Loop() {
				conn, _, err := wsd.Dial(b.Context(), s.url, opts)
				require.NoError(b, err)
				require.NoError(b, conn.Close(wsd.StatusNormalClosure, ""))
			}
		})
	}
}

// held is what streams hold each, at both ends, in bytes.
func held(t *testing.T, raw bool) float64 {
	t.Helper()
	const streams = 400
	s := benchmarked(t, raw)
	first := open(t, s)
	before := inUse()
	all := make([]io.ReadWriteCloser, streams)
	for i := range all {
		all[i] = open(t, s)
	}
	after := inUse()
	runtime.KeepAlive(first)
	for _, stream := range all {
		_ = stream.Close()
	}
	return (float64(after) - float64(before)) / streams
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

// TestAnIdleWebSocketCostsLittleBeyondItsStream compares it with a stream whose handler only waits for bytes.
func TestAnIdleWebSocketCostsLittleBeyondItsStream(t *testing.T) {
	raw, ws := held(t, true), held(t, false)
	t.Logf("%.1f KiB, of which net/http and the client have %.1f", ws/1024, raw/1024)
	require.Less(t, ws-raw, 15.0*1024)
}
