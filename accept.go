// accept.go is the server's side of the opening handshake: it judges a request, answers it, and takes its connection
// over.

package wsd

import (
	"bufio"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// AcceptOptions holds what a server asks of handshakes, and what its connections are told. The zero value and nil are
// safe defaults. It is only read, and one value may serve many calls at once.
type AcceptOptions struct {
	Config
	// Subprotocols holds those that the server speaks, in its order of preference. The first that the client asked for
	// is agreed on; where there is none, the connection has none (RFC 6455, section 1.9).
	Subprotocols []string
	// Header is added to the answer of a handshake that succeeds, together with what the ResponseWriter's Header has
	// by then. Fields that the handshake sets itself cannot be given.
	Header http.Header
	// Origins holds the origins from which web pages may connect, besides the server's own: [scheme "://"] host
	// [":" port], where * stands for any run of characters, as in "*.example.com" or "https://example.com:*". Without a
	// scheme it is https, and on a server without TLS http too; without a port it is the scheme's own. Opaque origins,
	// such as "null", have to be named literally. "*" alone lets every page connect.
	//
	// A page is the server's own where its host and port are those of the request's Host. On a server that speaks TLS
	// its scheme has to be https. A request without Origin does not come from a web page and passes.
	Origins []string
	// CheckOrigin, where it is set, decides instead of Origins and the rule of the server's own host, for requests
	// without Origin too.
	CheckOrigin func(*http.Request) bool
	// HandshakeTimeout bounds the writing of the answer. Default 10 s, negative for no bound. What a request may take
	// to arrive is http.Server's matter: set its ReadHeaderTimeout.
	HandshakeTimeout time.Duration
}

// defaultHandshakeTimeout bounds a handshake that a peer lets trickle.
const defaultHandshakeTimeout = 10 * time.Second

var defaultAcceptOptions AcceptOptions

// IsUpgrade reports whether r asks for a WebSocket, so that one handler can serve a page and a socket under one path.
// Accept may still refuse it.
func IsUpgrade(r *http.Request) bool { return asksForWebSocket(r.Header) }

// Accept performs the server's side of the opening handshake (RFC 6455, section 4.2) and takes the connection over from
// net/http, through any ResponseWriter that lets http.ResponseController reach it. nil options are the defaults. w and
// r.Body must not be used afterwards; the handler may return, the connection lives on. Where connections are many, let it
// return and a goroutine go on: what net/http holds for a request whose handler stays is some 12 KiB. r's context is done
// when the handler returns; Conn.Context is the one of the connection.
//
// A request that is not a handshake, or not one to agree to, is answered before anything is taken over, with an HTTP
// status and a line of text that says what was wrong, and the error is a *HandshakeError with that StatusCode: 400 for
// a malformed request, 403 for a web page of a foreign origin, 405 for another method than GET, 426 for a request that
// does not ask for a WebSocket or asks for another version than 13, 505 for HTTP/2 and later, 500 where the options or the
// ResponseWriter are at fault. StatusCode is 0 where the connection failed while it was taken over.
func Accept(w http.ResponseWriter, r *http.Request, opts *AcceptOptions) (*Conn, error) {
	if opts == nil {
		opts = &defaultAcceptOptions
	}
	agreed, refused := opts.judge(r)
	if refused != nil {
		refuse(w, refused)
		return nil, refused
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refused = refusal(http.StatusInternalServerError, "", fmt.Sprintf(
			"expected a ResponseWriter that hands its connection over, by a method Hijack or by one Unwrap to one that has it, got %T", w))
		refused.Err = err
		refuse(w, refused)
		return nil, refused
	}
	c := newConn(conn, ServerRole, &opts.Config, agreed)
	buffered, err := opts.answer(&c.transport, rw, w.Header(), r.Header[mapKey][0], &agreed)
	if err != nil {
		_ = conn.Close()
		return nil, &HandshakeError{Problem: "the answer could not be written", Err: err}
	}
	_ = conn.SetDeadline(time.Time{}) // the server's own, too, where Hijack has left them
	c.start(buffered)
	return c, nil
}

// judge decides on a request, and on what to agree to.
func (o *AcceptOptions) judge(r *http.Request) (agreement, *HandshakeError) {
	if problem := o.check(); problem != nil {
		problem.StatusCode = http.StatusInternalServerError
		return agreement{}, problem
	}
	if refused := checkRequest(r); refused != nil {
		return agreement{}, refused
	}
	if o.CheckOrigin != nil {
		if !o.CheckOrigin(r) {
			return agreement{}, refusal(http.StatusForbidden, "Origin", "not allowed here: "+shown(r.Header["Origin"]))
		}
	} else if refused := checkOrigin(r.Header, r.Host, r.TLS != nil, o.Origins); refused != nil {
		return agreement{}, refused
	}
	subprotocol, refused := chooseSubprotocol(r.Header[mapProtocol], o.Subprotocols)
	if refused != nil {
		return agreement{}, refused
	}
	agreed := agreement{subprotocol: subprotocol}
	var malformed string
	agreed.compression, agreed.extensions, malformed = chooseDeflate(r.Header[mapExtensions], o.Compression)
	if malformed != "" {
		return agreement{}, refusal(http.StatusBadRequest, wireExtensions, malformed)
	}
	return agreed, nil
}

// check finds mistakes in the options, which would otherwise show with some clients only.
func (o *AcceptOptions) check() *HandshakeError {
	if problem := checkSubprotocols(o.Subprotocols); problem != nil {
		return problem
	}
	if problem := checkExtraHeader(o.Header); problem != nil {
		return problem
	}
	for _, pattern := range o.Origins {
		if problem := checkOriginPattern(pattern); problem != nil {
			return problem
		}
	}
	return nil
}

// checkRequest judges a handshake but for its origin and what it offers.
func checkRequest(r *http.Request) *HandshakeError {
	switch {
	case r.ProtoMajor >= 2:
		// Upgrade does not exist there (RFC 9113, section 8.2.2), and this server has WebSockets over HTTP/1.1 only,
		// which is to refuse the major version (RFC 9110, section 15.6.6).
		return refusal(http.StatusHTTPVersionNotSupported, "", "expected HTTP/1.1, got "+quoted(r.Proto))
	case r.Method != http.MethodGet:
		return refusal(http.StatusMethodNotAllowed, "", "expected the method GET, got "+quoted(r.Method))
	case !r.ProtoAtLeast(1, 1):
		// The major version is fine, so this is not 505's case but RFC 6455's own, a malformed handshake (section 4.2.1).
		return refusal(http.StatusBadRequest, "", "expected HTTP/1.1 or later, got "+quoted(r.Proto))
	case r.Host == "":
		return refusal(http.StatusBadRequest, "Host", "expected a host, got none")
	// The bytes of a body would be taken for frames.
	case len(r.TransferEncoding) > 0:
		return refusal(http.StatusBadRequest, "Transfer-Encoding", "expected no body, got one")
	case r.ContentLength != 0:
		return refusal(http.StatusBadRequest, "Content-Length", "expected no body, got one")
	}
	return checkRequestHeader(r.Header)
}

// refuse answers a handshake that is not agreed to.
func refuse(w http.ResponseWriter, refused *HandshakeError) {
	h := w.Header()
	switch refused.StatusCode {
	case http.StatusBadRequest:
		// Else net/http would answer only once it has read the body that was announced, which may never come.
		h.Set("Connection", "close")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
		h[wireVersion] = []string{protocolVersion}
	case http.StatusInternalServerError:
		// What is wrong here is nothing that a client should read.
		http.Error(w, "WebSocket handshake failed", refused.StatusCode)
		return
	}
	text := refused.Problem
	if refused.Header != "" {
		text = refused.Header + ": " + text
	}
	http.Error(w, "WebSocket handshake refused: "+text, refused.StatusCode)
}

// answer writes the 101, and returns the bytes that came behind the request.
func (o *AcceptOptions) answer(t *transport, rw *bufio.ReadWriter, extra http.Header, key string, agreed *agreement) ([]byte, error) {
	var b, buffered []byte
	// A ResponseWriter of another make may have no buffers to hand over.
	if rw != nil && rw.Writer != nil {
		b = rw.AvailableBuffer() // room that exists already
	}
	if rw != nil && rw.Reader != nil {
		early, _ := rw.Peek(rw.Reader.Buffered()) // what is buffered is there without an error
		buffered = slices.Clone(early)            // so that the reader and all behind it can go
	}
	b = appendAnswer(b, key, agreed)
	b = appendHeader(b, extra)
	b = appendHeader(b, o.Header)
	b = append(b, "\r\n"...)
	// For the shortest answer too: the client may have left the answers to earlier requests in the socket, unread.
	return buffered, t.writeWithin(b, durationOr(o.HandshakeTimeout, defaultHandshakeTimeout))
}
