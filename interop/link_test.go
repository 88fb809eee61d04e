// link_test.go connects wsd with a peer, whoever is the server, and gives the cases one view of both.

package interop

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/h2"
)

// options are what a case asks of a connection.
type options struct {
	wsd.Config
	ask      []string // subprotocols that the client asks for
	speak    []string // subprotocols that wsd's server speaks; a peer's server speaks wsd.v1 and wsd.v2
	counting bool     // count the bytes on the wire
}

// link is a connection between wsd and a peer.
type link struct {
	*wsd.Conn
	t      *testing.T
	ctx    context.Context
	peer   *process
	id     string
	opened event // what the peer told
	wire   *wire // nil where bytes are not counted
}

// opener makes connections with one peer in one role over one scheme.
type opener struct {
	peer *process
	make func(t *testing.T, opts options) *link
}

func (o opener) open(t *testing.T, opts options) *link {
	t.Helper()
	return o.make(t, opts)
}

// needs ends the test where the peer cannot take part in it.
func (o opener) needs(t *testing.T, what string) {
	t.Helper()
	if why := o.peer.cannot(what); why != "" {
		t.Skip(why)
	}
}

var lastID atomic.Uint64

func newID() string { return fmt.Sprintf("/%d", lastID.Add(1)) }

// wire counts the bytes of a transport. It hides what else the transport can, so only what counts uses it.
type wire struct {
	net.Conn
	in, out atomic.Int64
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.in.Add(int64(n))
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.out.Add(int64(n))
	return n, err
}

// dialing is an opener that has wsd dial the peer's server at base, a URL without a path.
func dialing(p *process, base string) opener { return dialingBy(p, base, nil, overHTTP1) }

// dialingThrough is dialing by an HTTP proxy.
func dialingThrough(p *process, base string, proxy *url.URL) opener {
	return dialingBy(p, base, proxy, overHTTP1)
}

// dialingHTTP2 is dialing over HTTP/2, each connection over a TCP connection of its own.
func dialingHTTP2(p *process, base string) opener { return dialingBy(p, base, nil, overHTTP2) }

// A version makes the transport that wsd.Dial takes.
type version func(*testing.T, *http.Transport) http.RoundTripper

func overHTTP1(_ *testing.T, base *http.Transport) http.RoundTripper { return base }

func overHTTP2(t *testing.T, base *http.Transport) http.RoundTripper {
	t.Helper()
	transport := &h2.Transport{Base: base, UnencryptedHTTP2: true}
	t.Cleanup(func() { _ = transport.Close() })
	return transport
}

// dialingBy is dialing over a version of HTTP, by an HTTP proxy where there is one.
func dialingBy(p *process, base string, proxy *url.URL, over version) opener {
	return opener{p, func(t *testing.T, opts options) *link {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		t.Cleanup(cancel)
		l := &link{t: t, ctx: ctx, peer: p, id: newID()}
		transport := &http.Transport{TLSClientConfig: clientTLS(t), Proxy: http.ProxyURL(proxy)}
		if opts.counting {
			transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				l.wire = &wire{Conn: conn}
				return l.wire, err
			}
		}
		var err error
		var resp *http.Response
		by := over(t, transport)
		l.Conn, resp, err = wsd.Dial(ctx, base+l.id, &wsd.DialOptions{
			Config:       opts.Config,
			Subprotocols: opts.ask,
			HTTPClient:   &http.Client{Transport: by},
		})
		require.NoError(t, err)
		_, isHTTP1 := by.(*http.Transport)
		require.Equal(t, isHTTP1, resp.ProtoMajor == 1)
		t.Cleanup(l.CloseNow)
		l.opened, err = p.next(ctx, l.id, "opened")
		require.NoError(t, err)
		return l
	}}
}

// server is wsd's, which knows by the path of a request which test it is for.
type server struct {
	counting atomic.Bool // whether the next connections' bytes are counted
	secure   bool
	base     string // the URL without a path
	mu       sync.Mutex
	expected map[string]*expectation
}

type expectation struct {
	opts   wsd.AcceptOptions
	result chan accepted
}

type accepted struct {
	conn *wsd.Conn
	wire *wire
	err  error
}

// startServer starts wsd's server, which offers the protocols with TLS, HTTP/1.1 if there are none. In clear text it takes
// HTTP/1.1 and HTTP/2.
func startServer(t *testing.T, secure bool, protocols ...string) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{secure: secure, expected: map[string]*expectation{}}
	s.base = "ws://" + listener.Addr().String()
	listener = countingListener{listener, s}
	if secure {
		s.base = "wss://" + strings.TrimPrefix(s.base, "ws://")
		config := serverTLS(t)
		if len(protocols) > 0 {
			config.NextProtos = protocols
		}
		listener = tls.NewListener(listener, config)
	}
	httpServer := &http.Server{Handler: s, Protocols: new(http.Protocols), ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		w, _ := conn.(*wire)
		return context.WithValue(ctx, wireKey{}, w)
	}}
	httpServer.Protocols.SetHTTP1(true)
	httpServer.Protocols.SetHTTP2(true)
	httpServer.Protocols.SetUnencryptedHTTP2(true)
	wsd.ConfigureHTTP2(httpServer)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = httpServer.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = httpServer.Close()
		<-served
	})
	return s
}

type wireKey struct{}

type countingListener struct {
	net.Listener
	server *server
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil && l.server.counting.Load() {
		conn = &wire{Conn: conn}
	}
	return conn, err
}

// ServeHTTP accepts what a test expects.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	expected := s.expected[r.URL.Path]
	delete(s.expected, r.URL.Path)
	s.mu.Unlock()
	if expected == nil {
		http.NotFound(w, r)
		return
	}
	conn, err := wsd.Accept(w, r, &expected.opts)
	counted, _ := r.Context().Value(wireKey{}).(*wire)
	expected.result <- accepted{conn, counted, err}
}

// expect has the server accept a request for path.
func (s *server) expect(path string, opts wsd.AcceptOptions) <-chan accepted {
	result := make(chan accepted, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected[path] = &expectation{opts, result}
	return result
}

// accepting is an opener that has the peer's client connect to wsd's server, by the base of a proxy's URLs perhaps.
func accepting(p *process, s *server, base string) opener {
	return opener{p, func(t *testing.T, opts options) *link {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		t.Cleanup(cancel)
		l := &link{t: t, ctx: ctx, peer: p, id: newID()}
		s.counting.Store(opts.counting)
		result := s.expect(l.id, wsd.AcceptOptions{Config: opts.Config, Subprotocols: opts.speak})
		require.NoError(t, p.connect(base+l.id, opts.ask, opts.Compression != nil))
		var got accepted
		var failed error
		if l.opened, failed = p.next(ctx, l.id, "opened"); failed == nil {
			select {
			case got = <-result:
			case <-ctx.Done():
				failed = ctx.Err()
			}
		} else {
			select {
			case got = <-result:
			default:
			}
		}
		require.NoError(t, errors.Join(got.err, failed))
		l.Conn, l.wire = got.conn, got.wire
		t.Cleanup(l.CloseNow)
		return l
	}}
}

// can reports whether the peer can take part in something, and notes where it cannot.
func (l *link) can(what string) bool {
	if l.peer.cannot(what) == "" {
		return true
	}
	results.lacks(l.t.Name())
	return false
}

// order has the peer do something.
func (l *link) order(do string, details map[string]any) {
	l.t.Helper()
	order := map[string]any{"do": do}
	for name, value := range details {
		order[name] = value
	}
	line, err := json.Marshal(order)
	require.NoError(l.t, err)
	require.NoError(l.t, l.Send(l.ctx, wsd.Text("!"+string(line))))
}

// receive returns the next message.
func (l *link) receive() wsd.Message {
	l.t.Helper()
	msg, err := l.Receive(l.ctx)
	require.NoError(l.t, err)
	return msg
}

// told waits for what the peer tells of the connection.
func (l *link) told(kind string) event {
	l.t.Helper()
	e, err := l.peer.next(l.ctx, l.id, kind)
	require.NoError(l.t, err)
	return e
}

// ended waits for the end of the connection.
func (l *link) ended() wsd.CloseEvent {
	l.t.Helper()
	select {
	case <-l.Closed():
	case <-l.ctx.Done():
		require.FailNow(l.t, "the connection did not end")
	}
	return l.CloseEvent()
}
