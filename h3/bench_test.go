//go:build unix

// bench_test.go measures WebSockets over HTTP/3 beside a handler that echoes bytes over the same stack, without WebSockets:
//
//	go test -run '^$' -bench .

package h3_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// rawEcho answers an extended CONNECT, and sends back the bytes that come.
func rawEcho(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusOK)
	stream, err := w.(http3.HTTPStreamer).HTTPStream()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := stream.Read(buf)
		if n > 0 {
			if _, err := stream.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = stream.Close()
			return
		}
	}
}

// BenchmarkEcho has 64 streams of one connection echo messages of 64 bytes, some of which are in flight on each.
func BenchmarkEcho(b *testing.B) {
	const streams, size, header = 64, 64, 2
	masked := append([]byte{0x82, 0x80 | size, 0, 0, 0, 0}, make([]byte, size)...)
	for _, inFlight := range []int{1, 64} {
		for _, raw := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d in flight/%s", inFlight, map[bool]string{true: "raw", false: "wsd"}[raw]), func(b *testing.B) {
				handler, answer := http.Handler(http.HandlerFunc(rawEcho)), len(masked)
				if !raw {
					answer = header + size
					handler = &wsd.Server{Handler: echoAndRelease, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{PingInterval: -1}}}
				}
				url, opts := serve(b, handler, nil)
				var opened []io.ReadWriteCloser
				for range streams {
					opened = append(opened, open(b, url, opts.HTTPClient.Transport))
				}
				burst := slices.Repeat(masked, inFlight)
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

func echoAndRelease(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
		m.Release()
	}
}

// open opens a connection without a Conn at the client's end.
func open(b testing.TB, url string, by http.RoundTripper) io.ReadWriteCloser {
	b.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https"+url[len("wss"):], nil)
	require.NoError(b, err)
	req.Header = http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	resp, err := by.RoundTrip(req)
	require.NoError(b, err)
	stream, ok := resp.Body.(io.ReadWriteCloser)
	require.True(b, ok, "status %d", resp.StatusCode)
	return stream
}
