// Package h3 carries WebSockets over HTTP/3 (RFC 9220), with quic-go: Handler has wsd.Accept and wsd.Server take them at an
// http3.Server, and a Transport has wsd.Dial open them. The connections, their options and the rules of the handshake are
// package wsd's.
//
// No browser does so by default today; it serves Go clients and proxies. quic-go's API moves between minor versions, so
// each version of this module is for one: v0.65. What it needs of it is http3.HTTPStreamer at servers, and
// Transport.NewClientConn with ClientConn.OpenRequestStream at clients.
package h3

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/seed62836080/wsd/internal/extended"
)

// maxWriters bounds how many ResponseWriters may be nested.
const maxWriters = 64

// Handler wraps the handler of an http3.Server, so that wsd.Accept, wsd.Server and wsd.IsUpgrade know requests for WebSockets
// over HTTP/3. Handlers may return while their connections live on, and see such requests with the method GET. A nil next
// means http.DefaultServeMux.
func Handler(next http.Handler) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 3 || r.Method != http.MethodConnect || r.Proto == "HTTP/3.0" {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, extended.With(r, &extended.Connect{
			Protocol: r.Proto, // where quic-go files it
			Take: func(w http.ResponseWriter, within time.Duration) (io.ReadWriteCloser, error) {
				return take(w, r, within)
			},
		}))
	})
}

// take answers 200 and takes the stream over. Middleware sees the status; the bytes pass by it.
func take(w http.ResponseWriter, r *http.Request, within time.Duration) (io.ReadWriteCloser, error) {
	inner := w
	for range maxWriters {
		outer, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		inner = outer.Unwrap()
	}
	streamer, ok := inner.(http3.HTTPStreamer)
	if !ok {
		return nil, fmt.Errorf("%w: expected an http3.HTTPStreamer below, got %T", extended.ErrNotHandedOver, inner)
	}
	if within > 0 {
		_ = http.NewResponseController(inner).SetWriteDeadline(time.Now().Add(within))
	}
	w.WriteHeader(http.StatusOK)
	inner.WriteHeader(http.StatusOK) // some middleware waits for a body; quic-go ignores a second time
	raw, err := streamer.HTTPStream()
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	s := &stream{rawStream: raw, local: local, closed: func() {}}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		s.remote = net.UDPAddrFromAddrPort(from)
	}
	return s, nil
}
