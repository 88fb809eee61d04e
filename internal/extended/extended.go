// Package extended is how a WebSocket begins over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220), by extended CONNECT: how a
// request shows it, and how its stream is taken over from the HTTP server below.
package extended

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// ProtocolField is under what net/http's server files the pseudo-header field of an extended CONNECT.
const ProtocolField = ":protocol"

// ErrNotHandedOver is the error of a Take that has changed nothing: another answer can follow.
var ErrNotHandedOver = errors.New("the stream is not handed over")

// Connect is an extended CONNECT, ahead of its answer.
type Connect struct {
	// Protocol is the value of :protocol.
	Protocol string
	// Take answers 200 with what w's Header holds, within that time if it is positive, and returns the stream. Closing
	// that ends its bytes, and after a deadline in the past resets it.
	Take func(w http.ResponseWriter, within time.Duration) (io.ReadWriteCloser, error)
	// Keep is told of the channel that is closed when the connection over the stream has ended. It may be nil.
	Keep func(ended <-chan struct{})
	// HandlerStays says that the request's handler may not return ahead of that.
	HandlerStays bool
}

type contextKey struct{}

// With returns a copy of r that is known as an extended CONNECT to those below. They see it as a GET, by which routers and
// middleware know the handshake of a WebSocket.
func With(r *http.Request, connect *Connect) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), contextKey{}, connect))
	r.Method = http.MethodGet
	return r
}

// Of returns the extended CONNECT that r is, nil if it is none.
func Of(r *http.Request) *Connect {
	if r.ProtoMajor < 2 {
		return nil
	}
	if connect, known := r.Context().Value(contextKey{}).(*Connect); known {
		return connect
	}
	return ofHTTP2(r)
}
