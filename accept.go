// accept.go is the server's side of the opening handshake: it judges a request, answers it, and takes its connection over, by
// Upgrade, or by extended CONNECT over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220).

package wsd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/seed62836080/wsd/internal/ascii"
	"github.com/seed62836080/wsd/internal/extended"
	"github.com/seed62836080/wsd/internal/middleware"
	"github.com/seed62836080/wsd/internal/netio"
	"github.com/seed62836080/wsd/internal/quote"
)

// AcceptOptions holds what a server requires of handshakes, and the settings of its connections. The zero value and nil
// are safe defaults. It is only read, so one value may serve many calls at the same time.
type AcceptOptions struct {
	Config
	// Subprotocols lists the subprotocols that the server speaks, in order of preference. The first one that the client
	// asked for is agreed on; if there is none, the connection has none (RFC 6455, section 1.9).
	Subprotocols []string
	// RequireSubprotocol refuses requests, with 400, that ask for none of Subprotocols.
	RequireSubprotocol bool
	// Header is added to the answer to a successful handshake, together with what the ResponseWriter's Header holds by
	// then. It cannot have fields that the handshake itself sets.
	Header http.Header
	// Origins lists the origins from which web pages may connect, besides the server's own, of which SameOrigin tells.
	//
	// An origin is [scheme "://"] host [":" port], and * stands for any run of characters, as in "*.example.com" or
	// "https://example.com:*". No scheme means https, and http too on a server without TLS; no port means the scheme's
	// own. "null" and other opaque origins must be named literally, and an entry with a path is compared literally. "*"
	// alone lets every page connect.
	Origins []string
	// CheckOrigin, if set, decides instead of Origins and the rule for the server's own pages, also for requests
	// without Origin.
	CheckOrigin func(*http.Request) bool
	// HandshakeTimeout bounds the writing of the answer. Default 10 s; negative means no bound. How long a request may
	// take to arrive is up to http.Server: set its ReadHeaderTimeout.
	HandshakeTimeout time.Duration
	// Refused, if set, is told of each handshake that fails, once it has been answered: on the request's goroutine, by
	// Accept, and by Server.Serve also for those that it refuses itself. Dashboards need it, logs have Server.Logger.
	Refused func(*http.Request, *HandshakeError)
}

// defaultHandshakeTimeout bounds a handshake with a peer that lets it trickle.
const defaultHandshakeTimeout = 10 * time.Second

var defaultAcceptOptions AcceptOptions

// IsUpgrade reports whether r asks for a WebSocket, by Upgrade or over HTTP/2 and HTTP/3 by extended CONNECT, so that one
// handler can serve a page and a socket at the same path. Accept may still refuse it.
func IsUpgrade(r *http.Request) bool {
	if r.ProtoMajor >= 2 {
		connect := extended.Of(r)
		return connect != nil && ascii.EqualFold(connect.Protocol, "websocket")
	}
	return asksForWebSocket(r.Header)
}

// Subprotocols returns the subprotocols that a request asks for, preferred ones first, without what is no token. Use it if
// AcceptOptions.Subprotocols is not enough to choose one.
func Subprotocols(r *http.Request) []string {
	var asked []string
	for element := range elements(r.Header[mapProtocol]) {
		if isToken(element) {
			asked = append(asked, element)
		}
	}
	return asked
}

// Accept performs the server's side of the opening handshake (RFC 6455, section 4.2) and takes the connection over from
// net/http, through any ResponseWriter that lets http.ResponseController reach it. Middleware that wraps net/http's own
// sees WriteHeader with 101, or 200 for extended CONNECT. w and r.Body must not be used afterwards. The handler may return,
// over HTTP/2 with ConfigureHTTP2, or else once Closed is closed. A nil opts means the defaults.
//
// A request that is refused is answered first. The error is then a *HandshakeError with the StatusCode of that answer,
// or 0 if the connection failed meanwhile.
func Accept(w http.ResponseWriter, r *http.Request, opts *AcceptOptions) (*Conn, error) {
	if opts == nil {
		opts = &defaultAcceptOptions
	}
	c, refused := opts.accept(w, r)
	if refused != nil {
		opts.tellRefused(r, refused)
		return nil, refused
	}
	return c, nil
}

// tellRefused tells of a handshake that has failed.
func (o *AcceptOptions) tellRefused(r *http.Request, refused *HandshakeError) {
	if o.Refused != nil {
		o.Refused(r, refused)
	}
}

// accept is Accept, without telling of what it refuses.
func (o *AcceptOptions) accept(w http.ResponseWriter, r *http.Request) (*Conn, *HandshakeError) {
	agreed, refused := o.judge(r)
	if refused != nil {
		o.refuse(w, r, refused)
		return nil, refused
	}
	if connect := extended.Of(r); connect != nil {
		return o.acceptStream(w, r, connect, &agreed)
	}
	key := r.Header[mapKey][0]
	told, failed := o.announce(w, key, &agreed)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, o.notHandedOver(w, r, told, err)
	}
	c := newConn(conn, ServerRole, &o.Config, &agreed)
	buffered := takeBuffered(rw)
	switch {
	case told == nil:
		failed = o.answer(&c.transport, rw, key, &agreed, w.Header(), o.Header)
	case !told.Sent():
		failed = o.answer(&c.transport, rw, key, &agreed, w.Header())
	}
	if failed != nil {
		_ = conn.Close()
		return nil, &HandshakeError{Problem: "the answer could not be written", Err: failed}
	}
	_ = conn.SetDeadline(time.Time{}) // also those of the server, if Hijack has left them
	freeBuffers(conn, rw)
	c.start(buffered, OpenedInfo{Request: r})
	return c, nil
}

// notHandedOver ends a handshake whose ResponseWriter does not hand its connection over.
func (o *AcceptOptions) notHandedOver(w http.ResponseWriter, r *http.Request, told *middleware.Announcement, err error) *HandshakeError {
	if told != nil && told.Sent() {
		// Middleware refuses what net/http below it does not. It is too late for another answer.
		told.Close()
		return &HandshakeError{Problem: fmt.Sprintf("expected %T to hand its connection over behind the answer", w), Err: err}
	}
	if told != nil {
		clear(w.Header()) // of the answer that is not sent
	}
	refused := refusal(http.StatusInternalServerError, "", fmt.Sprintf(
		"expected a ResponseWriter that hands its connection over, by a method Hijack or by one Unwrap to one that has it, got %T", w))
	refused.Err = err
	o.refuse(w, r, refused)
	return refused
}

// judge decides whether to accept a request, and what to agree to.
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
	subprotocol, refused := chooseSubprotocol(r.Header[mapProtocol], o.Subprotocols, o.isSubprotocol())
	if refused != nil {
		return agreement{}, refused
	}
	if subprotocol == "" && o.RequireSubprotocol {
		return agreement{}, refusal(http.StatusBadRequest, wireProtocol,
			"expected one of "+shown(o.Subprotocols)+", got "+shown(r.Header[mapProtocol]))
	}
	agreed := agreement{subprotocol: subprotocol}
	var malformed string
	agreed.compression, agreed.extensions, malformed = chooseDeflate(r.Header[mapExtensions], o.Compression)
	if malformed != "" {
		return agreement{}, refusal(http.StatusBadRequest, wireExtensions, malformed)
	}
	return agreed, nil
}

// check finds mistakes in the options that would otherwise show up only with some clients.
func (o *AcceptOptions) check() *HandshakeError {
	if problem := checkSubprotocols(o.Subprotocols, o.isSubprotocol()); problem != nil {
		return problem
	}
	if o.RequireSubprotocol && len(o.Subprotocols) == 0 {
		return &HandshakeError{Header: wireProtocol, Problem: "RequireSubprotocol needs Subprotocols to choose from"}
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

// checkRequest judges a handshake except for its origin and what it offers.
func checkRequest(r *http.Request) *HandshakeError {
	switch {
	case r.ProtoMajor >= 2:
		return checkExtendedConnect(r)
	case r.Method != http.MethodGet:
		return refusal(http.StatusMethodNotAllowed, "", "expected the method GET, got "+quote.Short(r.Method))
	case !r.ProtoAtLeast(1, 1):
		// The major version is fine, so this is not a case for 505 but a malformed handshake in the sense of RFC 6455
		// (section 4.2.1).
		return refusal(http.StatusBadRequest, "", "expected HTTP/1.1 or later, got "+quote.Short(r.Proto))
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

// refuse answers a handshake that is not accepted, unless whoever asked for the connection does (pull.go).
func (o *AcceptOptions) refuse(w http.ResponseWriter, r *http.Request, refused *HandshakeError) {
	if !o.pulled {
		refuse(w, r, refused)
	}
}

// refuse answers a handshake that is not accepted.
func refuse(w http.ResponseWriter, r *http.Request, refused *HandshakeError) {
	h := w.Header()
	switch refused.StatusCode {
	case http.StatusBadRequest:
		if r.ProtoMajor < 2 {
			// Otherwise net/http would answer only after reading the announced body, which may never come.
			h.Set("Connection", "close")
		} else if refused.Header == wireVersion {
			h[mapVersion] = []string{protocolVersion}
		}
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
		if r.ProtoMajor >= 2 {
			h.Set("Allow", http.MethodConnect)
		}
	case http.StatusUpgradeRequired:
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
		h[wireVersion] = []string{protocolVersion}
	case http.StatusInternalServerError:
		// A client should not see what is wrong here.
		http.Error(w, "WebSocket handshake failed", refused.StatusCode)
		return
	}
	text := refused.Problem
	if refused.Header != "" {
		text = refused.Header + ": " + text
	}
	http.Error(w, "WebSocket handshake refused: "+text, refused.StatusCode)
}

// announce shows the answer to middleware, with its fields in the ResponseWriter's Header. It returns nil if there is none
// that can be told, and otherwise also why an answer could not be sent.
func (o *AcceptOptions) announce(w http.ResponseWriter, key string, agreed *agreement) (*middleware.Announcement, error) {
	told := middleware.Around(w)
	if told == nil {
		return nil, nil
	}
	h := w.Header()
	maps.DeleteFunc(h, func(name string, _ []string) bool { return isHandshakeField(name) })
	h["Upgrade"], h["Connection"] = []string{"websocket"}, []string{"Upgrade"}
	h[wireAccept] = []string{string(appendAccept(nil, key))}
	if agreed.subprotocol != "" {
		h[wireProtocol] = []string{agreed.subprotocol}
	}
	if agreed.extensions != "" {
		h[wireExtensions] = []string{agreed.extensions}
	}
	for name, values := range o.Header {
		h[name] = slices.Concat(h[name], values)
	}
	var deadline time.Time
	if timeout := durationOr(o.HandshakeTimeout, defaultHandshakeTimeout); timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	return told, told.Announce(deadline)
}

// takeBuffered returns the bytes that came after the request.
func takeBuffered(rw *bufio.ReadWriter) []byte {
	// A ResponseWriter that is not net/http's may have no buffers to hand over.
	if rw == nil || rw.Reader == nil {
		return nil
	}
	early, _ := rw.Peek(rw.Reader.Buffered()) // what is buffered is there without an error
	return slices.Clone(early)                // so that the reader and all it refers to can be freed
}

// freeBuffers frees the 8 KiB that net/http's buffers hold until the handler returns, which may be when the connection ends.
// What reads a connection of another make may be such a buffer.
func freeBuffers(conn net.Conn, rw *bufio.ReadWriter) {
	if !isSocket(conn) || rw == nil {
		return
	}
	if rw.Reader != nil {
		*rw.Reader = bufio.Reader{}
	}
	if rw.Writer != nil {
		*rw.Writer = bufio.Writer{}
	}
}

// isSocket reports whether conn is known to keep its deadlines to the letter, and to have no buffer but those of TLS.
func isSocket(conn net.Conn) bool {
	switch conn := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	case *tls.Conn:
		return isSocket(conn.NetConn())
	}
	return false
}

// answer writes the 101, with the fields of headers.
func (o *AcceptOptions) answer(t *netio.Transport, rw *bufio.ReadWriter, key string, agreed *agreement, headers ...http.Header) error {
	var b []byte
	if rw != nil && rw.Writer != nil {
		b = rw.AvailableBuffer() // room that exists already
	}
	b = appendAnswer(b, key, agreed)
	for _, h := range headers {
		b = appendHeader(b, h)
	}
	b = append(b, "\r\n"...)
	// Even the shortest answer needs the timeout: the client may have left the answers to earlier requests in the
	// socket, unread.
	return t.WriteWithin(b, durationOr(o.HandshakeTimeout, defaultHandshakeTimeout))
}

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
