// serve.go is an HTTP server in memory, for tests of whole handshakes in a bubble.

package wsdtest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/seed62836080/wsd"
)

// URL is where clients of a Server find it.
const URL = "http://192.0.2.2"

// Server is an http.Server without sockets. Connections to it are Transports.
type Server struct {
	// Config is the http.Server, for settings such as ReadHeaderTimeout and for its Shutdown.
	Config *http.Server

	client   *http.Client
	serving  chan struct{} // closed when Config has stopped serving
	listener *listener

	mu       sync.Mutex // held while a request is let in
	closed   bool       // none is, any more
	handlers sync.WaitGroup
}

// Serve returns a server that handles requests with handler, all in memory. Inside a testing/synctest bubble it belongs to
// the bubble: its waits are durable, so that time advances during handshakes too. Call Close when the test is done.
func Serve(handler http.Handler) *Server {
	s := &Server{serving: make(chan struct{}), listener: &listener{coming: make(chan *End), over: make(chan struct{})}}
	s.Config = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.begin() {
			defer s.handlers.Done()
			handler.ServeHTTP(w, r)
		}
	})}
	s.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.listener.dial(ctx) },
	}}
	go func() {
		defer close(s.serving)
		_ = s.Config.Serve(s.listener)
	}()
	return s
}

// begin lets a request in, unless the server is being closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.handlers.Add(1)
	}
	return !s.closed
}

// Client returns an http.Client whose every request goes to the server, whatever its host. As DialOptions.HTTPClient it
// serves wsd.Dial, wsd.Redial and pools.
func (s *Server) Client() *http.Client { return s.client }

// Dial is wsd.Dial over memory. target is a path, or a URL whose host then becomes that of the request. A nil opts means
// the defaults; its HTTPClient is not used.
func (s *Server) Dial(ctx context.Context, target string, opts *wsd.DialOptions) (*wsd.Conn, *http.Response, error) {
	var own wsd.DialOptions
	if opts != nil {
		own = *opts
	}
	own.HTTPClient = s.client
	if strings.HasPrefix(target, "/") {
		target = URL + target
	}
	return wsd.Dial(ctx, target, &own)
}

// Close stops the server, cuts off all its connections, also those that handlers have taken over, and waits until its
// handlers have returned.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.Config.Close()
	<-s.serving
	s.listener.cut()
	s.client.CloseIdleConnections()
	s.handlers.Wait()
}

// listener hands out the server's ends of connections.
type listener struct {
	coming chan *End
	over   chan struct{} // closed by Close
	once   sync.Once

	mu   sync.Mutex // guards ends
	ends []*End
}

var errNotServing = errors.New("wsdtest: the server is closed")

// dial connects to whoever accepts.
func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	client, server := Transport()
	select {
	case l.coming <- server:
		return client, nil
	case <-l.over:
		return nil, errNotServing
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept returns the next connection, and net.ErrClosed once the listener is closed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case end := <-l.coming:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ends = append(l.ends, end)
		return end, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// Close makes Accept and dial fail.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

// Addr returns the address of the server's ends.
func (l *listener) Addr() net.Addr { return serverAddr() }

// cut closes all connections.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range l.ends {
		_ = end.Close()
	}
}

// Pair is Pipe after a handshake with these options, which may be nil: it agrees on a subprotocol, on compression and
// whatever else a handshake decides, and the client's Response is the answer. It panics if the handshake fails.
func Pair(dial *wsd.DialOptions, accept *wsd.AcceptOptions) (client, server *wsd.Conn) {
	accepted := make(chan *wsd.Conn, 1)
	s := Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := wsd.Accept(w, r, accept); err == nil {
			accepted <- conn
		}
	}))
	client, _, err := s.Dial(context.Background(), "/", dial)
	if err != nil {
		s.Close()
		panic("wsdtest: " + err.Error())
	}
	s.listener.release()
	s.Close()
	return client, <-accepted
}

// release makes cut spare the connections so far.
func (l *listener) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = nil
}
