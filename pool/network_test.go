// network_test.go is a network in memory for the tests: hosts that can be taken down, also inside synctest bubbles.

package pool_test

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
	"github.com/seed62836080/wsd/wsdtest"
)

// memConn makes a net.Conn of one end of a transport.
type memConn struct{ *wsdtest.End }

func (memConn) LocalAddr() net.Addr  { return memAddr{} }
func (memConn) RemoteAddr() net.Addr { return memAddr{} }

type memAddr struct{}

func (memAddr) Network() string { return "memory" }
func (memAddr) String() string  { return "memory" }

// host is a server on the network, and its listener.
type host struct {
	server   *wsd.Server
	http     *http.Server
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once

	mu     sync.Mutex
	fault  error              // what dials get instead of a connection
	dialed []time.Time        // when dials came, refused ones too
	conns  map[*wsd.Conn]bool // open ones, on the server's side
	slow   time.Duration      // what a dial takes
}

// newHost serves handler; nil is an echo.
func newHost(t testing.TB, handler func(*wsd.Conn)) *host {
	if handler == nil {
		handler = echo
	}
	h := &host{incoming: make(chan net.Conn), closed: make(chan struct{}), conns: make(map[*wsd.Conn]bool)}
	h.server = &wsd.Server{Handler: func(c *wsd.Conn) {
		h.mu.Lock()
		h.conns[c] = true
		h.mu.Unlock()
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.conns, c)
		}()
		handler(c)
	}}
	return h.serve(t, h.server)
}

func (h *host) serve(t testing.TB, handler http.Handler) *host {
	h.http = &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.http.Serve(h)
	}()
	t.Cleanup(func() {
		require.NoError(t, h.http.Close())
		if h.server != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.NoError(t, h.server.Shutdown(ctx))
		}
		<-served
	})
	return h
}

func echo(c *wsd.Conn) {
	for m := range c.Messages() {
		if c.Send(context.Background(), m) != nil {
			return
		}
	}
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.incoming:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *host) Addr() net.Addr { return memAddr{} }

func (h *host) dial(ctx context.Context) (net.Conn, error) {
	h.mu.Lock()
	h.dialed = append(h.dialed, time.Now())
	fault, slow := h.fault, h.slow
	h.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fault != nil {
		return nil, fault
	}
	a, b := wsdtest.Transport()
	select {
	case h.incoming <- memConn{b}:
		return memConn{a}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errRefused is what a dial gets where nobody listens.
var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// fail makes dials fail with err from now on, or succeed if err is nil.
func (h *host) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = err
}

// drop ends all connections as a crash does, in a bubble, and lets both sides notice.
func (h *host) drop() {
	synctest.Wait()
	defer synctest.Wait()
	h.mu.Lock()
	all := make([]*wsd.Conn, 0, len(h.conns))
	for c := range h.conns {
		all = append(all, c)
	}
	h.mu.Unlock()
	for _, c := range all {
		c.CloseNow()
	}
}

// dials returns how many dials have come.
func (h *host) dials() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.dialed)
}

// open returns how many connections the server has.
func (h *host) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// options makes a pool's options for a network of hosts by name.
func options(hosts map[string]*host, o pool.Options) *pool.Options {
	o.DialOptions.HTTPClient = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			h, ok := hosts[name]
			if !ok {
				return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
			}
			return h.dial(ctx)
		},
	}}
	return &o
}

// newPool makes a pool of connections to h, and closes it at the end.
func newPool(t testing.TB, h *host, o pool.Options) *pool.Pool {
	settled := options(map[string]*host{"server": h}, o)
	p, err := pool.New("ws://server/", settled)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// ask does one request and its answer.
func ask(t testing.TB, c *pool.Conn, text string) {
	require.NoError(t, c.Send(context.Background(), wsd.Text(text)))
	m, err := c.Receive(context.Background())
	require.NoError(t, err)
	require.Equal(t, text, string(m.Data))
}

// acquire is an Acquire that works.
func acquire(t testing.TB, p *pool.Pool) *pool.Conn {
	c, err := p.Acquire(context.Background())
	require.NoError(t, err)
	return c
}

// unwrap tells which connection a handle is for.
func unwrap(t testing.TB, c *pool.Conn) *wsd.Conn {
	conn, err := c.Unwrap()
	require.NoError(t, err)
	return conn
}

// watchStats checks without a pause that a pool's Stats add up, until the function that it returns is called.
func watchStats(t testing.TB, p *pool.Pool) (stop func()) {
	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for looks := 0; ; looks++ {
			select {
			case <-over:
				return
			default:
			}
			if s := p.Stats(); !addsUp(s) {
				t.Errorf("look %d: more than MaxConns, or not the sum of the endpoints: %+v", looks, s)
				return
			}
			runtime.Gosched()
		}
	}()
	return func() {
		close(over)
		<-watched
	}
}

// addsUp reports whether each connection and dial is counted once, and all have a place.
func addsUp(s pool.Stats) bool {
	conns, dialing := 0, 0
	for _, e := range s.Endpoints {
		conns += e.Conns
		dialing += e.Dialing
	}
	return conns == s.InUse+s.Idle+s.Closing && dialing == s.Dialing && conns+dialing <= s.MaxConns
}
