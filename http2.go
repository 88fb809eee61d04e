// http2.go takes WebSockets that begin with extended CONNECT, over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220): what such a
// request must say, and how its stream is taken over.

package wsd

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"

	"github.com/seed62836080/wsd/internal/ascii"
	"github.com/seed62836080/wsd/internal/extended"
	"github.com/seed62836080/wsd/internal/quote"
)

const (
	// streamWindow is how many bytes a WebSocket over HTTP/2 may have waiting for a consumer, below Messages.
	streamWindow = 64 << 10
	// connectionWindow has room for 1,024 of them whose consumers have stalled.
	connectionWindow = 1024 * streamWindow
	// streamFrame is the longest frame of HTTP/2 that a server takes. Go's clients hold half of what they may send, for
	// each stream.
	streamFrame = 16 << 10
)

// ConfigureHTTP2 prepares a server of net/http for WebSockets over HTTP/2. Call it once s.Handler is set, ahead of serving;
// s needs package extendedconnect too.
//
// It wraps the Handler, DefaultServeMux if there is none, so that handlers may return while their connections live on,
// which then see the method GET. It sets what is zero in s.HTTP2 of MaxReceiveBufferPerStream and
// MaxReceiveBufferPerConnection, so that a consumer that stalls stops no other WebSocket of its TCP connection, and
// MaxReadFrameSize. A panic of the handler cuts its connection off.
func ConfigureHTTP2(s *http.Server) {
	handler := s.Handler
	if handler == nil {
		handler = http.DefaultServeMux
	}
	s.Handler = extended.Staying(handler)
	settings := new(http.HTTP2Config)
	if s.HTTP2 != nil {
		*settings = *s.HTTP2
	}
	if settings.MaxReceiveBufferPerStream == 0 {
		settings.MaxReceiveBufferPerStream = streamWindow
	}
	if settings.MaxReceiveBufferPerConnection == 0 {
		all := int64(settings.MaxConcurrentStreams) * int64(settings.MaxReceiveBufferPerStream)
		settings.MaxReceiveBufferPerConnection = int(min(max(all, connectionWindow), math.MaxInt32))
	}
	if settings.MaxReadFrameSize == 0 {
		settings.MaxReadFrameSize = streamFrame
	}
	s.HTTP2 = settings
}

// checkExtendedConnect judges a handshake over HTTP/2 or HTTP/3 except for its origin and what it offers (RFC 8441, section
// 5). There is no Sec-WebSocket-Key: one that comes nevertheless is ignored, as that section has it.
func checkExtendedConnect(r *http.Request) *HandshakeError {
	connect := extended.Of(r)
	switch {
	case connect == nil && r.Method == http.MethodGet:
		// Upgrade does not exist there (RFC 9113, section 8.2.2), nor can 426 ask for it. HTTP/1.1 would do, so this
		// refuses the major version (RFC 9110, section 15.6.6).
		return refusal(http.StatusHTTPVersionNotSupported, "",
			"expected an extended CONNECT, or HTTP/1.1, got GET over "+quote.Short(r.Proto))
	case connect == nil:
		return refusal(http.StatusMethodNotAllowed, "",
			"expected the method CONNECT with the :protocol websocket, got "+quote.Short(r.Method)+" without one")
	case !ascii.EqualFold(connect.Protocol, "websocket"):
		return refusal(http.StatusNotImplemented, "", "expected the :protocol websocket, got "+quote.Short(connect.Protocol))
	case r.Host == "":
		return refusal(http.StatusBadRequest, "", "expected an :authority, got none")
	case r.ContentLength >= 0:
		return refusal(http.StatusBadRequest, "Content-Length", "expected a stream without an announced end, got one")
	}
	// The answer names the version as 426 would, which exists for Upgrade only (RFC 6455, section 4.4).
	if v := r.Header[mapVersion]; len(v) != 1 || v[0] != protocolVersion {
		return refusal(http.StatusBadRequest, wireVersion, "expected 13, got "+shown(v))
	}
	return nil
}

// acceptStream answers an extended CONNECT that was judged, and begins a connection over its stream.
func (o *AcceptOptions) acceptStream(
	w http.ResponseWriter, r *http.Request, connect *extended.Connect, agreed *agreement,
) (*Conn, *HandshakeError) {
	h := w.Header()
	before := maps.Clone(h)
	maps.DeleteFunc(h, func(name string, _ []string) bool { return isHandshakeField(name) })
	if agreed.subprotocol != "" {
		h[mapProtocol] = []string{agreed.subprotocol}
	}
	if agreed.extensions != "" {
		h[mapExtensions] = []string{agreed.extensions}
	}
	for name, values := range o.Header {
		h[name] = slices.Concat(h[name], values)
	}
	stream, err := connect.Take(w, durationOr(o.HandshakeTimeout, defaultHandshakeTimeout))
	switch {
	case errors.Is(err, extended.ErrNotHandedOver):
		clear(h) // of the answer that is not sent
		maps.Copy(h, before)
		refused := refusal(http.StatusInternalServerError, "", fmt.Sprintf(
			"expected a ResponseWriter whose stream http.ResponseController reaches, by methods Unwrap, got %T", w))
		refused.Err = err
		refuse(w, r, refused)
		return nil, refused
	case err != nil:
		return nil, &HandshakeError{Problem: "the answer could not be written", Err: err}
	}
	c := newConn(stream, ServerRole, &o.Config, agreed)
	c.start(nil, OpenedInfo{Request: r})
	if connect.Keep != nil {
		connect.Keep(c.Closed())
	}
	return c, nil
}

// stay waits for the end of a connection whose request's handler may not return ahead of that.
func stay(r *http.Request, c *Conn) {
	if connect := extended.Of(r); connect != nil && connect.HandlerStays {
		<-c.Closed()
	}
}
