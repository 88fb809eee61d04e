// dial.go is the client's side of the opening handshake: it makes a request through net/http, with its proxies, TLS,
// cookies and redirects, judges the answer, and takes over the connection.

package wsd

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/quote"
	"github.com/seed62836080/wsd/internal/roundtrip"
	"github.com/seed62836080/wsd/internal/wsurl"
)

// DialOptions holds what a client asks for in a handshake, and the settings of its connection. The zero value and nil are
// safe defaults. It is only read, so one value may serve many calls at the same time.
type DialOptions struct {
	Config
	// HTTPClient performs the handshake, with its Jar, its CheckRedirect, its Timeout, and above all its Transport, which
	// is the place for a dial function (to a unix socket, say), a TLS configuration and a proxy. The client is only read.
	// Of an *http.Transport the settings are used, but not the pool. Only HTTP/1.1 is spoken: a dial function that does
	// TLS itself must not offer h2. Default http.DefaultClient.
	//
	// For ws URLs too, a proxy is asked for a tunnel with CONNECT, unless another RoundTripper wraps the *http.Transport:
	// see the package comment.
	HTTPClient *http.Client
	// Header is added to the request, with the names spelled as they are here, except Host, which replaces the URL's. It
	// cannot have fields that the handshake itself sets.
	Header http.Header
	// Subprotocols lists the subprotocols to ask for, preferred ones first. The server chooses one or none (RFC 6455,
	// section 1.9).
	Subprotocols []string
	// HandshakeTimeout bounds the handshake from dialing on, including redirects. Default 10 s; negative means no bound
	// other than the context and HTTPClient.Timeout.
	HandshakeTimeout time.Duration
}

const (
	// maxErrorBody is how much of an answer that does not complete the handshake can be read, in bytes.
	maxErrorBody = 64 << 10
	// maxTextLine is how much of it an error message quotes, in bytes.
	maxTextLine = 256
	// maxRedirects is net/http's limit.
	maxRedirects = 10
)

var errRedirects = errors.New("stopped after 10 redirects")

// Dial opens a connection to a ws or wss URL, or an http or https URL, which mean the same (RFC 6455, section 4.1). User
// info in the URL becomes basic authentication, unless Header has an Authorization. A nil opts means the defaults. The
// response is the server's answer, without a body if the handshake succeeded.
//
// ctx bounds only the handshake. The error is a *HandshakeError, which has the answer too if there was one, or
// ErrNilContext. It matches context.DeadlineExceeded if HandshakeTimeout ended the handshake. The package comment says
// which redirects are followed, and what goes along.
func Dial(ctx context.Context, url string, opts *DialOptions) (*Conn, *http.Response, error) {
	if ctx == nil {
		return nil, nil, ErrNilContext
	}
	if opts == nil {
		opts = new(DialOptions)
	}
	req, problem := opts.request(url)
	if problem != nil {
		return nil, nil, problem
	}
	limit := startHandshakeLimit(ctx, opts.timeout())
	h := handshake{opts: opts, key: newKey()}
	conn, resp, problem := h.perform(limit, req)
	if ended := limit.stop(); ended != nil && (problem == nil || resp == nil) {
		if problem == nil {
			_ = conn.rwc.Close()
		}
		problem = h.failed("given up", ended)
		resp = nil
	}
	if problem != nil {
		limit.cancel(context.Canceled)
		problem.Response = resp
		if resp != nil {
			problem.StatusCode = resp.StatusCode
		}
		return nil, resp, problem
	}
	conn.agreed.response = resp
	c := newConn(conn.rwc, ClientRole, &opts.Config, conn.agreed)
	c.start(conn.buffered, OpenedInfo{Response: resp})
	return c, resp, nil
}

// request makes the first request of a handshake (RFC 6455, section 4.1), without the key.
func (o *DialOptions) request(rawURL string) (*http.Request, *HandshakeError) {
	target, problem := parseTarget(rawURL)
	if problem != nil {
		return nil, problem
	}
	if problem := checkSubprotocols(o.Subprotocols); problem != nil {
		return nil, problem
	}
	if problem := checkExtraHeader(o.Header); problem != nil {
		return nil, problem
	}
	req := &http.Request{Method: http.MethodGet, URL: target, Host: target.Host, Header: make(http.Header, len(o.Header)+8)}
	// net/http and the caller's policy for redirects know the canonical names. roundtrip.Respell restores the caller's.
	for _, name := range slices.Sorted(maps.Keys(o.Header)) {
		canonical := http.CanonicalHeaderKey(name)
		req.Header[canonical] = append(req.Header[canonical], o.Header[name]...)
	}
	if hosts, given := req.Header["Host"]; given {
		switch {
		case len(hosts) != 1 || hosts[0] == "":
			return nil, &HandshakeError{Header: "Host", Problem: "expected one value, got " + shown(hosts)}
		case !wsurl.IsAuthority(hosts[0]):
			return nil, &HandshakeError{Header: "Host", Problem: "expected host or host:port, got " + shown(hosts)}
		}
		req.Host = hosts[0]
		delete(req.Header, "Host")
	}
	if user := target.User; user != nil {
		if req.Header.Get("Authorization") == "" {
			password, _ := user.Password()
			req.SetBasicAuth(user.Username(), password)
		}
		// From here on the credentials are in the header, so they follow redirects within the origin and no others.
		target.User = nil
	}
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	req.Header[wireVersion] = []string{protocolVersion}
	if len(o.Subprotocols) > 0 {
		req.Header[wireProtocol] = []string{strings.Join(o.Subprotocols, ", ")}
	}
	if o.Compression != nil {
		if offer := deflateOffer(o.Compression); offer != "" {
			req.Header[wireExtensions] = []string{offer}
		}
	}
	return req, nil
}

// parseTarget turns the URL of a WebSocket (RFC 6455, section 3) into that of its handshake.
func parseTarget(rawURL string) (*url.URL, *HandshakeError) {
	target, err := wsurl.Parse(rawURL)
	switch {
	case target == nil:
		return nil, &HandshakeError{Problem: "expected a URL such as wss://example.com/path: " + err.Error()}
	case err != nil:
		return nil, &HandshakeError{Problem: err.Error() + " in the URL " + quote.Short(target.Redacted())}
	}
	normalize(target)
	return target, nil
}

// normalize turns u into what a handshake sends: with the scheme of HTTP, without a default port (RFC 6455, section 4.1),
// and with a query that cannot break the request line (RFC 3986, section 3.4), as url.Parse ensures for a path.
func normalize(u *url.URL) {
	u.Scheme = httpScheme(u.Scheme)
	if port := u.Port(); port == "" || port == wsurl.DefaultPort(u.Scheme) {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	var query strings.Builder
	for i := range len(u.RawQuery) {
		if c := u.RawQuery[i]; c <= ' ' || c >= 0x7F || strings.IndexByte(`"<>`, c) >= 0 {
			query.WriteString(url.PathEscape(u.RawQuery[i : i+1]))
		} else {
			query.WriteByte(c)
		}
	}
	u.RawQuery = query.String()
}

// httpScheme is the scheme of the handshake, which cookie jars and proxies go by.
func httpScheme(scheme string) string {
	switch scheme {
	case "ws":
		return "http"
	case "wss":
		return "https"
	}
	return scheme
}

// newKey returns a nonce for Sec-WebSocket-Key.
func newKey() string {
	var nonce [keySize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// client returns the caller's client or the default.
func (o *DialOptions) client() *http.Client {
	if o.HTTPClient == nil {
		return http.DefaultClient
	}
	return o.HTTPClient
}

// timeout returns what bounds the handshake besides the context, 0 for nothing.
func (o *DialOptions) timeout() time.Duration {
	timeout := durationOr(o.HandshakeTimeout, defaultHandshakeTimeout)
	if t := o.client().Timeout; t > 0 && (timeout == 0 || t < timeout) {
		timeout = t
	}
	return timeout
}

// handshakeLimit is the context of a handshake. It ends with the caller's context or the timeout while the handshake is
// under way, and with neither once stop has been called, so that nothing below the connection notices them later.
type handshakeLimit struct {
	context.Context
	cancel context.CancelCauseFunc
	forget func() bool
	timer  *time.Timer // nil for none
}

type handshakeTimeoutError struct{ timeout time.Duration }

func (e handshakeTimeoutError) Error() string { return "no answer within " + e.timeout.String() }
func (e handshakeTimeoutError) Unwrap() error { return context.DeadlineExceeded }

func startHandshakeLimit(ctx context.Context, timeout time.Duration) *handshakeLimit {
	l := new(handshakeLimit)
	l.Context, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if timeout > 0 {
		l.timer = time.AfterFunc(timeout, func() { l.cancel(handshakeTimeoutError{timeout}) })
	}
	l.forget = context.AfterFunc(ctx, func() { l.cancel(done.Why(ctx)) })
	return l
}

// stop ends the limit, and returns what ended the handshake before, if anything did.
func (l *handshakeLimit) stop() error {
	late := l.timer != nil && !l.timer.Stop()
	if !l.forget() || late {
		<-l.Done() // the cancellation is under way
	}
	return context.Cause(l.Context)
}

// handshake is a client's opening handshake, over all its redirects.
type handshake struct {
	opts  *DialOptions
	key   string      // of the last request
	conn  net.Conn    // of the last request, nil if the transport is not net/http's own
	http2 atomic.Bool // a connection was for HTTP/2
	again bool        // the request is a second one, as the first answer's Connection had close beside Upgrade
	// addressed is the last connection that a transport of another make has told of.
	addressed atomic.Pointer[net.Conn]
}

// dialed is the result of a handshake.
type dialed struct {
	rwc      io.ReadWriteCloser
	buffered []byte
	agreed   agreement
}

// perform carries out the handshake. It returns the response whenever there is one, with a body that holds nothing open.
func (h *handshake) perform(ctx context.Context, req *http.Request) (dialed, *http.Response, *HandshakeError) {
	client := *h.opts.client()
	client.Timeout = 0 // it would keep running on the connection; ctx includes it
	client.CheckRedirect = h.checkRedirect
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	transport, ok := client.Transport.(*http.Transport)
	if ok {
		own := roundtrip.NewTransport(transport)
		own.WithoutClose = h.again
		defer own.Close()
		client.Transport = own
	}
	if len(h.opts.Header) > 0 {
		client.Transport = roundtrip.Respell(client.Transport, h.opts.Header)
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if ok {
			h.conn = info.Conn // with net/http's own transport, the answer is known to come over this connection
		} else if info.Conn != nil {
			h.addressed.Store(&info.Conn)
		}
		if roundtrip.IsForHTTP2(info.Conn) {
			h.http2.Store(true)
		}
	}})
	req.Header[wireKey] = []string{h.key}
	resp, err := client.Do(req.Clone(ctx))
	if err != nil {
		if resp != nil {
			resp.Body = http.NoBody // it is closed
		}
		// net/http's error is about a Get of an http URL, which is not what the caller asked for.
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return dialed{}, resp, h.failed("", err)
	}
	if ok && !h.again && lostConnection(resp) {
		h.again, h.key = true, newKey()
		return h.perform(ctx, req)
	}
	conn, problem := h.judge(resp)
	if problem != nil {
		body := keepBody(resp)
		if line := textLine(resp.Header, body); line != "" {
			problem.Problem += fmt.Sprintf(", which says %#q", line) // in backquotes, as wsd's servers quote what came
		}
		return dialed{}, resp, problem
	}
	resp.Body = http.NoBody
	return conn, resp, nil
}

// failed returns the error of a handshake that got no answer. A connection for HTTP/2 says more than what came of it, such
// as the end of its bytes.
func (h *handshake) failed(problem string, err error) *HandshakeError {
	if h.http2.Load() {
		problem = roundtrip.NotForHTTP1
	}
	return &HandshakeError{Problem: problem, Err: err}
}

// judge verifies the answer, and takes over its connection.
func (h *handshake) judge(resp *http.Response) (dialed, *HandshakeError) {
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return dialed{}, &HandshakeError{Problem: "expected the status 101 Switching Protocols, got " + quote.Short(resp.Status)}
	}
	if lostConnection(resp) {
		return dialed{}, &HandshakeError{Header: "Connection", Problem: "expected the token Upgrade alone, got one with close"}
	}
	agreed, problem := checkAnswerHeader(resp.Header, h.key, h.opts.Subprotocols, h.opts.Compression)
	if problem != nil {
		return dialed{}, problem
	}
	body, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return dialed{}, &HandshakeError{Problem: "HTTPClient.Transport gives no connection to write to"}
	}
	switch {
	case h.conn == nil:
		if conn := h.addressed.Load(); conn != nil {
			agreed.local, agreed.remote = (*conn).LocalAddr(), (*conn).RemoteAddr()
		}
		return dialed{body, nil, agreed}, nil
	case !isSocket(roundtrip.Unwrapped(h.conn)):
		return dialed{&bodyConn{h.conn, body}, nil, agreed}, nil
	}
	conn := roundtrip.Unwrapped(h.conn)
	return dialed{conn, drainBody(conn, body), agreed}, nil
}

// lostConnection reports whether the Connection of an answer 101 had the token close: net/http then removes the whole
// field, and closes the connection.
func lostConnection(resp *http.Response) bool {
	return resp.StatusCode == http.StatusSwitchingProtocols && resp.Close && len(resp.Header["Connection"]) == 0
}

// isSocket reports whether conn is known to keep its deadlines to the letter.
func isSocket(conn net.Conn) bool {
	switch conn := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	case *tls.Conn:
		return isSocket(conn.NetConn())
	}
	return false
}

// drainBody returns what net/http has read from conn after the answer. From then on conn can be used directly.
func drainBody(conn net.Conn, body io.Reader) []byte {
	// Past its deadline conn returns nothing more, so the body ends with what it holds. A read deadline does not harm
	// TLS, and anything else that may be wrong with conn is found by the next read too.
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	var buffered []byte
	for chunk := make([]byte, 512); ; {
		n, err := body.Read(chunk)
		buffered = append(buffered, chunk[:n]...)
		if err != nil {
			break
		}
	}
	_ = conn.SetReadDeadline(time.Time{})
	return buffered
}

// bodyConn is a connection that is read through the body of the answer, which may hold bytes that came after it.
type bodyConn struct {
	net.Conn
	body io.ReadWriteCloser
}

func (c *bodyConn) Read(b []byte) (int, error) { return c.body.Read(b) }

// NetConn returns the connection below TLS, nil if there is none: closing that one does not wait for the peer.
func (c *bodyConn) NetConn() net.Conn {
	if secure, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return secure.NetConn()
	}
	return nil
}

// CloseWrite tells the peer that nothing more comes, if the connection can.
func (c *bodyConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// keepBody reads what the caller may read of an answer that does not complete the handshake, releases its connection, and
// returns what it has read.
func keepBody(resp *http.Response) []byte {
	var body []byte
	if resp.StatusCode != http.StatusSwitchingProtocols {
		// What has come by the time the limit ends is still worth reading.
		body, _ = io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// textLine returns the first line of a plain-text body, in which servers say what was wrong, truncated if it is long. For
// any other body it returns nothing.
func textLine(h http.Header, body []byte) string {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "text/plain" {
		return ""
	}
	line, _, _ := bytes.Cut(bytes.TrimSpace(body), []byte("\n"))
	return string(bytes.TrimSpace(line[:min(len(line), maxTextLine)]))
}

// checkRedirect applies the caller's policy and then the rules of a WebSocket handshake.
func (h *handshake) checkRedirect(req *http.Request, via []*http.Request) error {
	normalize(req.URL)
	if _, given := via[0].Header["Referer"]; !given {
		req.Header.Del("Referer") // a WebSocket handshake has none, and the URL of one may be a secret
	}
	policy := h.opts.client().CheckRedirect
	if policy != nil {
		if err := policy(req, via); err != nil {
			return err
		}
	} else if len(via) >= maxRedirects {
		return errRedirects
	}
	switch last := via[len(via)-1]; {
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return errors.New("redirected to the scheme " + quote.Short(req.URL.Scheme) + ", expected ws, wss, http or https")
	case !wsurl.IsAuthority(req.URL.Host):
		return errors.New("redirected to the host " + quote.Short(req.URL.Host) + ", expected a host name or address")
	case last.URL.Scheme == "https" && req.URL.Scheme == "http":
		return errors.New("redirected from wss to ws, which is refused")
	}
	// net/http copies the header of the first request each time, so once a redirect has left the origin, credentials must
	// be removed each time, even if a later redirect comes back.
	origin := originOf(via[0].URL)
	left := func(r *http.Request) bool { return originOf(r.URL) != origin }
	if left(req) || slices.ContainsFunc(via, left) {
		maps.DeleteFunc(req.Header, func(name string, _ []string) bool { return isCredential(name) })
	}
	h.key = newKey() // a nonce is for one connection
	req.Header[wireKey] = []string{h.key}
	return nil
}

// isCredential reports whether a header field is one that HTTP has for credentials, however a caller's policy spells it.
func isCredential(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "Www-Authenticate", "Proxy-Authenticate":
		return true
	}
	return false
}

func originOf(u *url.URL) origin {
	port := u.Port()
	if port == "" {
		port = wsurl.DefaultPort(u.Scheme)
	}
	return origin{u.Scheme, strings.ToLower(u.Hostname()), port}
}
