//go:build unix

// bench_test.go measures WebSockets over HTTP/3 beside a handler that echoes bytes over the same stack, without WebSockets:
//
//	go test -run '^$' -bench .

package h3_test

import (
	"net/http"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"github.com/seed62836080/wsd/internal/streamtest"
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

func BenchmarkEcho(b *testing.B) {
	streamtest.BenchmarkEcho(b, func(b testing.TB, raw bool) (string, http.RoundTripper) {
		handler := http.Handler(http.HandlerFunc(rawEcho))
		if !raw {
			handler = streamtest.EchoServer()
		}
		url, opts := serve(b, handler, nil)
		return url, opts.HTTPClient.Transport
	})
}
