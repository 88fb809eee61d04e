//go:build !js

// upgrade.go is the server's side of the handshake.

package websocket

import (
	"errors"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed62836080/wsd"
)

// Upgrader turns HTTP requests into WebSocket connections. It is safe for concurrent use.
type Upgrader struct {
	// HandshakeTimeout bounds the writing of the answer. Zero means 10 s.
	HandshakeTimeout time.Duration
	// ReadBufferSize is not used, and WriteBufferSize is how long a message of NextWriter may be to become one frame, if it
	// is above 32 KiB: connections borrow memory while they need some.
	ReadBufferSize, WriteBufferSize int
	// WriteBufferPool is not used, for the same reason.
	WriteBufferPool BufferPool
	// Subprotocols lists the subprotocols that the server speaks, in order of preference. The first one that the client
	// asked for is agreed on. If it is nil, a Sec-Websocket-Protocol in the answer's header says what is agreed on.
	Subprotocols []string
	// Error answers a request that cannot be upgraded. Default: http.Error with the text of the status.
	Error func(w http.ResponseWriter, r *http.Request, status int, reason error)
	// CheckOrigin reports whether pages of the request's origin may connect. Default: those of the request's host, and
	// requests without an Origin, may.
	CheckOrigin func(r *http.Request) bool
	// EnableCompression says to compress messages, each on its own, for clients that can (RFC 7692).
	EnableCompression bool
}

// BufferPool is a pool of buffers, such as a *sync.Pool.
type BufferPool interface {
	// Get returns a value from the pool, nil if it is empty.
	Get() any
	// Put adds a value.
	Put(any)
}

// IsWebSocketUpgrade reports whether a request asks for a WebSocket.
func IsWebSocketUpgrade(r *http.Request) bool { return wsd.IsUpgrade(r) }

// Subprotocols returns the subprotocols that a request asks for.
func Subprotocols(r *http.Request) []string { return list(r.Header["Sec-Websocket-Protocol"]) }

// Upgrade turns a request into a connection. responseHeader is added to the answer, for cookies, say, and may be nil. A
// request that cannot be upgraded is answered by u.Error, and the error is a HandshakeError.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request, responseHeader http.Header) (*Conn, error) {
	if _, given := field(responseHeader, "Sec-Websocket-Extensions"); given {
		return u.refuse(w, r, http.StatusInternalServerError, "the application cannot choose extensions: see EnableCompression")
	}
	if r.ProtoMajor >= 2 {
		return u.refuse(w, r, http.StatusBadRequest, "expected HTTP/1.1, got "+r.Proto) // there is no net.Conn to hand out
	}
	opts := u.options(r, responseHeader)
	conn, err := wsd.Accept(w, r, opts)
	*opts = wsd.AcceptOptions{}
	acceptOptions.Put(opts)
	if err == nil {
		return newConn(conn, u.WriteBufferSize), nil
	}
	return u.refused(w, r, err)
}

// acceptOptions are those that no Upgrade needs at present.
var acceptOptions = sync.Pool{New: func() any { return new(wsd.AcceptOptions) }}

// options returns what is asked of wsd, on loan from acceptOptions. It is no part of Upgrade, whose stack net/http's goroutine
// would keep for good: 8 KiB instead of 4.
//
//go:noinline
func (u *Upgrader) options(r *http.Request, h http.Header) *wsd.AcceptOptions {
	opts := acceptOptions.Get().(*wsd.AcceptOptions)
	setOptions(&opts.Config, u.EnableCompression)
	if opts.Header, opts.CheckOrigin = ownFields(h), u.CheckOrigin; opts.CheckOrigin == nil {
		opts.CheckOrigin = ofSameHost
	}
	opts.Subprotocols, opts.HandshakeTimeout = u.subprotocols(r, h), u.HandshakeTimeout
	return opts
}

// refused answers a request that wsd has refused.
func (u *Upgrader) refused(w http.ResponseWriter, r *http.Request, err error) (*Conn, error) {
	var refused *wsd.HandshakeError
	if !errors.As(err, &refused) || refused.StatusCode == 0 {
		return nil, err
	}
	reason := refused.Problem
	if refused.Header != "" {
		reason = refused.Header + ": " + reason
	}
	status := refused.StatusCode
	switch status {
	case http.StatusUpgradeRequired, http.StatusHTTPVersionNotSupported:
		status = http.StatusBadRequest
	}
	return u.refuse(w, r, status, reason)
}

// refuse answers a request that cannot be upgraded.
func (u *Upgrader) refuse(w http.ResponseWriter, r *http.Request, status int, reason string) (*Conn, error) {
	err := HandshakeError{"websocket: " + reason}
	if u.Error != nil {
		u.Error(w, r, status, err)
		return nil, err
	}
	w.Header().Set("Sec-Websocket-Version", "13")
	http.Error(w, http.StatusText(status), status)
	return nil, err
}

// ofSameHost reports whether a request comes from no page, or from one of its own host.
func ofSameHost(r *http.Request) bool {
	origin := r.Header["Origin"]
	if len(origin) == 0 {
		return true
	}
	if scheme, host, _ := strings.Cut(origin[0], "://"); host == r.Host && (scheme == "http" || scheme == "https") && plainHost(host) {
		return true // to parse it, the stack of a handler would have to grow
	}
	page, err := url.Parse(origin[0])
	return err == nil && strings.EqualFold(page.Host, r.Host)
}

// plainHost reports whether a host, perhaps with a port, has no characters that mean anything in a URL.
func plainHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', c == '.', c == '-':
		case c == ':':
			_, err := strconv.ParseUint(host[i+1:], 10, 16)
			return err == nil
		default:
			return false
		}
	}
	return true
}

// subprotocols returns those that may be agreed on, without what no handshake can have.
func (u *Upgrader) subprotocols(r *http.Request, h http.Header) []string {
	offered := u.Subprotocols
	if offered == nil {
		offered, _ = field(h, "Sec-Websocket-Protocol")
	}
	if len(offered) == 0 {
		return nil
	}
	asked := Subprotocols(r)
	var possible []string
	for _, name := range offered {
		if slices.Contains(asked, name) && !slices.Contains(possible, name) {
			possible = append(possible, name)
		}
	}
	return possible
}

// field returns the values of a field, whose name may be spelled in any way.
func field(h http.Header, name string) (values []string, given bool) {
	for key, v := range h {
		if textproto.CanonicalMIMEHeaderKey(key) == name {
			values, given = append(values, v...), true
		}
	}
	return values, given
}

// ownFields returns h without what the handshake itself sets.
func ownFields(h http.Header) http.Header {
	if len(h) == 0 {
		return nil
	}
	own := maps.Clone(h)
	maps.DeleteFunc(own, func(name string, _ []string) bool {
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Trailer":
			return true
		}
		return strings.HasPrefix(name, "Sec-Websocket-")
	})
	return own
}

// Upgrade turns a request into a connection, whatever its origin. A request that cannot be upgraded is not answered. The
// sizes are those of an Upgrader.
//
// Deprecated: use an Upgrader.
func Upgrade(w http.ResponseWriter, r *http.Request, responseHeader http.Header, readBufSize, writeBufSize int) (*Conn, error) {
	u := Upgrader{
		ReadBufferSize: readBufSize, WriteBufferSize: writeBufSize,
		Error:       func(http.ResponseWriter, *http.Request, int, error) {}, // the caller answers
		CheckOrigin: func(*http.Request) bool { return true },
	}
	return u.Upgrade(w, r, responseHeader)
}
