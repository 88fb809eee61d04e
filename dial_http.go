//go:build !js

// dial_http.go is the client's side of the opening handshake: it makes a request through net/http, with its proxies, TLS,
// cookies and redirects, judges the answer, and takes over the connection.

package wsd

import (
	"bytes"
	"context"
	"crypto/rand"
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

	"github.com/seed62836080/wsd/internal/origin"
	"github.com/seed62836080/wsd/internal/quote"
	"github.com/seed62836080/wsd/internal/roundtrip"
	"github.com/seed62836080/wsd/internal/wsurl"
)

const (
	// maxErrorBody is how much of an answer that does not complete the handshake can be read, in bytes.
	maxErrorBody = 64 << 10
	// maxTextLine is how much of it an error message quotes, in bytes.
	maxTextLine = 256
	// maxRedirects is net/http's limit.
	maxRedirects = 10
)

var errRedirects = errors.New("stopped after 10 redirects")

// dial is Dial through net/http.
func dial(ctx context.Context, url string, opts *DialOptions) (*Conn, *http.Response, error) {
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
	c := newConn(conn.rwc, ClientRole, &opts.Config, &conn.agreed)
	c.start(conn.buffered, OpenedInfo{Response: resp})
	return c, resp, nil
}

// request makes the first request of a handshake (RFC 6455, section 4.1), without the key.
func (o *DialOptions) request(rawURL string) (*http.Request, *HandshakeError) {
	target, problem := parseTarget(rawURL)
	if problem != nil {
		return nil, problem
	}
	if problem := checkSubprotocols(o.Subprotocols, o.isSubprotocol()); problem != nil {
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

// newKey returns a nonce for Sec-WebSocket-Key.
func newKey() string {
	var nonce [keySize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return base64.StdEncoding.EncodeToString(nonce[:])
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
	first := origin.Of(via[0].URL)
	left := func(r *http.Request) bool { return origin.Of(r.URL) != first }
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
