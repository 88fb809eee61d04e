// transport.go opens WebSockets: many of them over one connection of QUIC.

package h3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/seed62836080/wsd/internal/extended"
)

const (
	// dialTime bounds what it takes to make a connection of QUIC ready.
	dialTime = 30 * time.Second
	// streamTime is how long a server may take to permit another stream before a connection counts as full.
	streamTime = time.Second
	// keepAlive keeps a connection from its idle timeout, of 30 seconds by default, while its WebSockets say nothing.
	keepAlive = 10 * time.Second
	// idleTime is how long a connection without streams is kept.
	idleTime = 90 * time.Second
	// maxInterim is how many answers of the kind 1xx may come ahead of the final one.
	maxInterim = 16
)

// ErrNotOffered is matched by the error of a server that speaks HTTP/3 and has no WebSockets over it.
var ErrNotOffered = errors.New("h3: the server does not offer extended CONNECT")

// ErrTransportClosed is what requests get after Transport.Close.
var ErrTransportClosed = errors.New("h3: the transport is closed")

// Transport is an http.RoundTripper for the handshakes of wsd.Dial, as the Transport of DialOptions.HTTPClient. It keeps a
// connection for each server, more if the server permits only so many streams. It speaks HTTP/3 alone: URLs are wss, and a
// server that cannot be reached by UDP is not asked in another way. The zero value is ready for use. Its fields must not be
// changed once it is used. It is safe for concurrent use.
type Transport struct {
	// TLSClientConfig is the configuration of TLS. Its NextProtos are replaced.
	TLSClientConfig *tls.Config
	// QUICConfig is the configuration of QUIC. Without it, connections are kept alive while they have streams.
	QUICConfig *quic.Config
	// Dial makes connections. Default quic.DialAddr.
	Dial func(ctx context.Context, addr string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error)

	mu      sync.Mutex
	hosts   map[string]*host
	closed  bool
	dialing sync.WaitGroup
	ctx     context.Context // of all dials, made by the first; ended by Close
	cancel  context.CancelFunc
}

// host is a server. Its fields are guarded by the transport's lock.
type host struct {
	conns   []*conn
	dialing chan struct{} // closed when the dial under way is over; nil if none is
	failed  error         // of the last dial
}

// conn is a connection of QUIC. Its fields are guarded by the transport's lock.
type conn struct {
	raw    *quic.Conn
	client *http3.ClientConn
	open   int         // streams, also those that are about to begin
	limit  int         // of them, as far as it was found; 0 for none
	idle   *time.Timer // ends the connection; nil while it has streams
}

// RoundTrip performs one request of a handshake, and answers it as a server would over HTTP/1.1: with status 101 for a
// WebSocket that was accepted. The response's ProtoMajor is 3.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !extended.IsHandshake(req) || req.URL.Scheme != "https" {
		return nil, fmt.Errorf("h3: expected the handshake of a WebSocket with a wss URL, got %s of %s", req.Method, req.URL.Redacted())
	}
	address := req.URL.Host
	if req.URL.Port() == "" {
		address = net.JoinHostPort(req.URL.Hostname(), "443")
	}
	for {
		c, err := t.connFor(req.Context(), address)
		if err != nil {
			return nil, err
		}
		raw, err := t.openStream(req.Context(), address, c)
		if err != nil {
			return nil, err
		}
		if raw != nil {
			return t.handshake(req, c, raw, address)
		}
	}
}

// openStream begins a stream, for which c has counted one more. It returns nil if c takes no more.
func (t *Transport) openStream(ctx context.Context, address string, c *conn) (*http3.RequestStream, error) {
	bounded, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	raw, err := c.client.OpenRequestStream(bounded)
	if err == nil {
		return raw, nil
	}
	full := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
	t.mu.Lock()
	if full {
		c.limit = max(c.open-1, 1)
	} else if ctx.Err() == nil {
		t.forget(address, c) // it has ended, or the server said GOAWAY
	}
	t.mu.Unlock()
	t.release(c)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, nil
}

// handshake performs the handshake on a stream.
func (t *Transport) handshake(req *http.Request, c *conn, raw *http3.RequestStream, address string) (*http.Response, error) {
	s := &stream{rawStream: raw, local: c.client.LocalAddr(), remote: c.client.RemoteAddr(), closed: func() { t.release(c) }}
	forget := context.AfterFunc(req.Context(), func() { _ = s.SetDeadline(past) })
	resp, err := ask(req, raw)
	if err != nil {
		forget()
		_ = s.SetDeadline(past)
		_ = s.Close()
		if req.Context().Err() != nil {
			err = context.Cause(req.Context())
		}
		return nil, fmt.Errorf("h3: %s: %w", address, err)
	}
	resp.Proto, resp.ProtoMajor = "HTTP/3.0", 3
	if resp.StatusCode/100 == 2 {
		if !forget() {
			<-req.Context().Done()
			_ = s.Close()
			return nil, context.Cause(req.Context())
		}
		resp.Body = s
	} else {
		resp.Body = &refusal{resp.Body, s, forget}
	}
	extended.Translate(resp, req)
	return resp, nil
}

// ask sends the request and reads the final answer.
func ask(req *http.Request, raw *http3.RequestStream) (*http.Response, error) {
	out := &http.Request{
		Method: http.MethodConnect, Proto: "websocket", ProtoMajor: 3, URL: req.URL, Host: req.Host, Header: make(http.Header),
	}
	for name, values := range req.Header {
		if extended.Translates(name) {
			canonical := http.CanonicalHeaderKey(name)
			out.Header[canonical] = append(out.Header[canonical], values...)
		}
	}
	if err := raw.SendRequestHeader(out.WithContext(req.Context())); err != nil {
		return nil, err
	}
	for range maxInterim + 1 {
		resp, err := raw.ReadResponse()
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols: // which HTTP/3 does not have (RFC 9114, section 4.5)
			return nil, errors.New("the server has answered 101")
		case resp.StatusCode/100 != 1:
			return resp, nil
		}
	}
	return nil, fmt.Errorf("expected a final answer behind at most %d interim ones", maxInterim)
}

// refusal is what a server says that refuses, as long as the request's context permits it to be read.
type refusal struct {
	io.ReadCloser
	stream *stream
	forget func() bool
}

func (b *refusal) Close() error {
	b.forget()
	err := b.ReadCloser.Close()
	return errors.Join(err, b.stream.Close())
}

// connFor returns a connection that has counted one more stream.
func (t *Transport) connFor(ctx context.Context, address string) (*conn, error) {
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, ErrTransportClosed
		}
		if t.hosts == nil {
			t.hosts = make(map[string]*host)
		}
		h := t.hosts[address]
		if h == nil {
			h = new(host)
			t.hosts[address] = h
		}
		h.conns = slices.DeleteFunc(h.conns, func(c *conn) bool { return c.raw.Context().Err() != nil })
		for _, c := range h.conns {
			if c.limit == 0 || c.open < c.limit {
				c.open++
				if c.idle != nil {
					c.idle.Stop()
					c.idle = nil
				}
				t.mu.Unlock()
				return c, nil
			}
		}
		if h.dialing == nil {
			h.dialing = make(chan struct{})
			t.begin(func(ctx context.Context) { t.connect(ctx, address, h) })
		}
		dialing := h.dialing
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-dialing:
		}
		t.mu.Lock()
		err := h.failed
		t.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// begin runs f, inside mu, in a goroutine for which Close waits. It goes on if those who asked for it give up.
func (t *Transport) begin(f func(context.Context)) {
	if t.ctx == nil {
		t.ctx, t.cancel = context.WithCancel(context.Background())
	}
	ctx, cancel := context.WithTimeout(t.ctx, dialTime)
	t.dialing.Go(func() {
		defer cancel()
		f(ctx)
	})
}

// connect makes a connection ready.
func (t *Transport) connect(ctx context.Context, address string, h *host) {
	c, err := t.ready(ctx, address)
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.failed = err; t.closed {
		h.failed = ErrTransportClosed
		if err == nil {
			defer func() { _ = c.client.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") }()
		}
	} else if err == nil {
		h.conns = append(h.conns, c)
		c.idle = time.AfterFunc(idleTime, func() { t.endIdle(c) })
	}
	close(h.dialing)
	h.dialing = nil
}

// ready returns a connection whose server has announced extended CONNECT.
func (t *Transport) ready(ctx context.Context, address string) (*conn, error) {
	config := t.TLSClientConfig.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		name, _, _ := net.SplitHostPort(address)
		config.ServerName = strings.Trim(name, "[]")
	}
	config.NextProtos = []string{http3.NextProtoH3}
	settings := t.QUICConfig
	if settings == nil {
		settings = &quic.Config{KeepAlivePeriod: keepAlive}
	}
	dial := t.Dial
	if dial == nil {
		dial = quic.DialAddr
	}
	raw, err := dial(ctx, address, config, settings)
	if err != nil {
		return nil, err
	}
	client := (&http3.Transport{DisableCompression: true}).NewClientConn(raw)
	select {
	case <-client.ReceivedSettings():
	case <-client.Context().Done():
		return nil, context.Cause(client.Context())
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil && !client.Settings().EnableExtendedConnect {
		err = ErrNotOffered
	}
	if err != nil {
		_ = client.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		return nil, err
	}
	return &conn{raw: raw, client: client}, nil
}

// forget takes no more streams on a connection, inside mu.
func (t *Transport) forget(address string, c *conn) {
	if h := t.hosts[address]; h != nil {
		h.conns = slices.DeleteFunc(h.conns, func(other *conn) bool { return other == c })
	}
}

// release counts one stream less.
func (t *Transport) release(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.open--; c.open == 0 && c.idle == nil {
		c.idle = time.AfterFunc(idleTime, func() { t.endIdle(c) })
	}
}

// endIdle ends a connection if it has no streams.
func (t *Transport) endIdle(c *conn) {
	t.mu.Lock()
	unused := c.open == 0
	if unused {
		for address := range t.hosts {
			t.forget(address, c)
		}
	}
	t.mu.Unlock()
	if unused {
		_ = c.client.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	}
}

// Close ends all connections, and with them the WebSockets that they carry, and dials that are under way. WebSockets that
// should end well are closed ahead of that. Requests get ErrTransportClosed from then on.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	if t.cancel != nil {
		t.cancel()
	}
	var conns []*conn
	for _, h := range t.hosts {
		conns = append(conns, h.conns...)
		h.conns = nil
	}
	for _, c := range conns {
		if c.idle != nil {
			c.idle.Stop()
		}
	}
	t.mu.Unlock()
	for _, c := range conns {
		_ = c.client.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	}
	t.dialing.Wait()
	return nil
}
