// Package h2 opens WebSockets over HTTP/2 (RFC 8441): many of them over one TCP connection, with package wsd's Dial, its
// options and its connections. A Transport is what Dial's HTTPClient needs for that:
//
//	transport := new(h2.Transport)
//	defer transport.Close()
//	opts := &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}
//	conn, _, err := wsd.Dial(ctx, "wss://example.com/chat", opts)
//
// Everything that Dial does, it does over HTTP/2 as well: origins, subprotocols, compression, cookies, redirects. Servers
// that do not offer WebSockets over HTTP/2 are asked over HTTP/1.1.
package h2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/roundtrip"
)

const (
	// defaultMaxHeader bounds the header of an answer, in bytes as RFC 9113, section 6.5.2, counts them. It equals
	// http.DefaultMaxHeaderBytes.
	defaultMaxHeader = 1 << 20
	// dialTime bounds what it takes to make a TCP connection ready, which goes on if those who asked for it give up.
	dialTime = 30 * time.Second
	// rememberTime is how long a server that does not offer HTTP/2 is asked over HTTP/1.1 at once.
	rememberTime = 5 * time.Minute
	// defaultIdleTime is how long a TCP connection without streams is kept.
	defaultIdleTime = 90 * time.Second
	// maxAttempts is how often a request is made that servers have not looked at.
	maxAttempts = 3
)

// Transport is an http.RoundTripper for the handshakes of wsd.Dial. It keeps a TCP connection for each server, more if the
// server permits only so many streams, and a little longer than it is used. The zero value is ready for use. Its fields
// must not be changed once it is used. It is safe for concurrent use. Other requests than handshakes it passes to Base.
type Transport struct {
	// Base has the TLS configuration, the dial functions, the proxy, MaxResponseHeaderBytes and IdleConnTimeout, and it is
	// used over HTTP/1.1 for servers that offer nothing else, and through SOCKS proxies. It is only read. A DialTLSContext
	// decides by its NextProtos whether HTTP/2 is offered. Default http.DefaultTransport.
	Base *http.Transport
	// UnencryptedHTTP2 has servers without TLS asked over HTTP/2 first, as those that know it can be (RFC 9113, section
	// 3.3). Without it, ws URLs mean HTTP/1.1.
	UnencryptedHTTP2 bool

	mu      sync.Mutex
	hosts   map[hostKey]*host
	conns   map[*conn]*host
	closed  bool
	dialing sync.WaitGroup
	ctx     context.Context // of all dials, made by the first; ended by Close
	cancel  context.CancelFunc
}

// hostKey is what TCP connections have in common that can be used in place of each other.
type hostKey struct{ scheme, address, proxy string }

// host is a server as it is reached in one way. Its fields are guarded by the transport's lock.
type host struct {
	conns []*conn
	dial  *dial     // under way; nil if none is
	http1 time.Time // until when the server is asked over HTTP/1.1
}

// dial is a TCP connection that is being made.
type dial struct {
	done chan struct{} // closed when it is ready or has failed
	err  error         // from then on
}

// RoundTrip performs one request of a handshake, and answers it as a server would over HTTP/1.1: with status 101 for a
// WebSocket that was accepted. The response's ProtoMajor tells what was spoken.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	base := t.base()
	if !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		return base.RoundTrip(req)
	}
	if req.URL.Scheme != "https" && !t.UnencryptedHTTP2 {
		return overHTTP1(base, req)
	}
	var proxy *url.URL
	if base.Proxy != nil {
		var err error
		if proxy, err = base.Proxy(req); err != nil {
			return nil, err
		}
	}
	if proxy != nil && proxy.Scheme != "http" && proxy.Scheme != "https" {
		return overHTTP1(base, req)
	}
	var err error
	for range maxAttempts {
		var c *conn
		if c, err = t.connFor(req.Context(), base, req.URL, proxy); err != nil {
			if errors.Is(err, errNotHTTP2) {
				return overHTTP1(base, req)
			}
			return nil, err
		}
		var resp *http.Response
		resp, err = c.roundTrip(req)
		var again retryable
		if !errors.As(err, &again) {
			return resp, err
		}
		err = again.error
	}
	return nil, err
}

// overHTTP1 performs a handshake as Dial does without this package.
func overHTTP1(base *http.Transport, req *http.Request) (*http.Response, error) {
	own := roundtrip.NewTransport(base)
	defer own.Close()
	return own.RoundTrip(req)
}

func (t *Transport) base() *http.Transport {
	if t.Base != nil {
		return t.Base
	}
	if base, ok := http.DefaultTransport.(*http.Transport); ok {
		return base
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment}
}

// connFor returns a TCP connection on which room for a stream was reserved.
func (t *Transport) connFor(ctx context.Context, base *http.Transport, target, proxy *url.URL) (*conn, error) {
	key := hostKey{scheme: target.Scheme, address: addressOf(target)}
	if proxy != nil {
		key.proxy = proxy.String()
	}
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, ErrTransportClosed
		}
		h := t.host(key)
		if time.Now().Before(h.http1) {
			t.mu.Unlock()
			return nil, errNotHTTP2
		}
		for _, c := range h.conns {
			if c.reserve() {
				t.mu.Unlock()
				return c, nil
			}
		}
		d := h.dial
		if d == nil {
			d = &dial{done: make(chan struct{})}
			h.dial = d
			t.begin(func(ctx context.Context) { t.connect(ctx, base, key, proxy, h, d) })
		}
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-d.done:
		}
		if d.err != nil {
			return nil, d.err
		}
	}
}

// host returns what is known of a server, inside mu.
func (t *Transport) host(key hostKey) *host {
	h := t.hosts[key]
	if h == nil {
		h = new(host)
		if t.hosts == nil {
			t.hosts = make(map[hostKey]*host)
			t.conns = make(map[*conn]*host)
		}
		t.hosts[key] = h
	}
	return h
}

// begin runs f, inside mu, in a goroutine for which Close waits.
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

// connect makes a TCP connection ready, or finds that the server has nothing for it.
func (t *Transport) connect(ctx context.Context, base *http.Transport, key hostKey, proxy *url.URL, h *host, d *dial) {
	c, err := t.ready(ctx, base, key, proxy)
	t.mu.Lock()
	h.dial, d.err = nil, err
	closed := t.closed
	if errors.Is(err, errNotHTTP2) {
		h.http1 = time.Now().Add(rememberTime)
	}
	if err == nil && !closed {
		h.conns = append(h.conns, c)
		t.conns[c] = h
	}
	close(d.done)
	t.mu.Unlock()
	switch {
	case err != nil:
	case closed:
		c.fail(ErrTransportClosed)
		c.running.Wait()
	default:
		t.changed(c) // it may have ended by now
		c.ended()    // nobody may want it any more
	}
}

// ready returns a TCP connection whose server has announced extended CONNECT.
func (t *Transport) ready(ctx context.Context, base *http.Transport, key hostKey, proxy *url.URL) (*conn, error) {
	raw, err := dialRaw(ctx, base, key, proxy)
	if err != nil {
		return nil, err
	}
	header := uint32(defaultMaxHeader)
	if most := base.MaxResponseHeaderBytes; most > 0 {
		header = uint32(min(most, largestWindow))
	}
	idle := base.IdleConnTimeout
	if idle <= 0 {
		idle = defaultIdleTime
	}
	c := newConn(raw, header, idle, t.changed)
	select {
	case <-c.settled:
	case <-ctx.Done():
		c.fail(fmt.Errorf("h2: dialing: %w", context.Cause(ctx)))
	}
	c.mu.Lock()
	err, offered := c.failed, c.peer.extendedConnect
	c.mu.Unlock()
	if err == nil && !offered {
		err = errNotHTTP2
		c.fail(err)
	}
	if err != nil {
		c.running.Wait()
		return nil, err
	}
	return c, nil
}

// changed forgets a TCP connection that takes no more streams; those that it has live on.
func (t *Transport) changed(c *conn) {
	c.mu.Lock()
	leaving, over := c.leaving != nil, c.failed != nil
	c.mu.Unlock()
	if !leaving {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.conns[c]
	if h == nil {
		return
	}
	for i, other := range h.conns {
		if other == c {
			h.conns = append(h.conns[:i:i], h.conns[i+1:]...)
			break
		}
	}
	if over {
		delete(t.conns, c)
	}
}

// CloseIdleConnections ends the TCP connections that carry nothing now.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	var conns []*conn
	for c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.endIdle()
	}
}

// Close ends all TCP connections, and with them the WebSockets that they carry, and waits until nothing of them is left.
// WebSockets that should end well are closed ahead of that. Requests get ErrTransportClosed from then on.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	var conns []*conn
	for c := range t.conns {
		conns = append(conns, c)
	}
	if t.cancel != nil {
		t.cancel()
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.fail(ErrTransportClosed)
		c.running.Wait()
	}
	t.dialing.Wait()
	return nil
}
