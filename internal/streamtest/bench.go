//go:build unix

// bench.go is what the benchmarks of carriers have in common.

package streamtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Echoes serves messages that are echoed, or, raw, bytes that are, at a URL that by reaches.
type Echoes func(b testing.TB, raw bool) (url string, by http.RoundTripper)

// BenchmarkEcho has 64 streams of one connection echo messages of 64 bytes, some of which are in flight on each.
func BenchmarkEcho(b *testing.B, serve Echoes) {
	const streams, size, header = 64, 64, 2
	masked := append([]byte{0x82, 0x80 | size, 0, 0, 0, 0}, make([]byte, size)...)
	for _, inFlight := range []int{1, 64} {
		for _, raw := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d in flight/%s", inFlight, map[bool]string{true: "raw", false: "wsd"}[raw]), func(b *testing.B) {
				url, by := serve(b, raw)
				answer := header + size
				if raw {
					answer = len(masked)
				}
				burst := slices.Repeat(masked, inFlight)
				var opened []io.ReadWriteCloser
				for range streams {
					opened = append(opened, Open(b, url, by))
				}
				var all sync.WaitGroup
				b.ResetTimer()
				spent := CPUTime()
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
				b.ReportMetric(float64(CPUTime()-spent)/float64(b.N), "CPU-ns/op")
			})
		}
	}
}

// Open opens a connection to a ws or wss URL without a Conn at the client's end.
func Open(t testing.TB, url string, by http.RoundTripper) io.ReadWriteCloser {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http"+strings.TrimPrefix(url, "ws"), nil)
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

// CPUTime is what this process, client and server, has taken of processors.
func CPUTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// EchoServer echoes messages, and sends no pings.
func EchoServer() *wsd.Server {
	return &wsd.Server{Handler: EchoAll, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{PingInterval: -1}}}
}
