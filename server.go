// server.go runs a handler for every connection of an http.Server, and ends all connections when the server shuts down.

package wsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
)

// Server is an http.Handler that turns requests into WebSocket connections, runs Handler for each, and keeps track of
// them. The zero value with a Handler is ready for use. Its fields must not be changed once it serves. It is safe for
// concurrent use.
//
// An http.Server does not know of connections that were taken over from it. Have its Shutdown end them, within a limit
// that begins then (a context that a signal has canceled would cut them off):
//
//	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//	defer cancel()
//	server.RegisterOnShutdown(func() { ws.Shutdown(limit) })
//	err := errors.Join(server.Shutdown(limit), ws.Shutdown(limit))
type Server struct {
	// Handler is called in a goroutine of its own for every connection. If the connection is open when Handler returns,
	// it is closed with StatusNormalClosure, or with StatusInternalError if Handler panics; the panic is logged with
	// log/slog.
	//
	// Handler does not see the request, which has been released by then. If it depends on who is asking, or on a path,
	// call Accept in a net/http handler instead; examples/chat is a server of that kind.
	Handler func(*Conn)
	// AcceptOptions are the options for Accept.
	AcceptOptions

	mu     sync.Mutex
	conns  map[*Conn]struct{} // those whose handlers run or whose closing is under way
	active int                // handshakes and handlers under way; none begins once ended is made
	ended  chan struct{}      // made by the first Shutdown, closed when active is zero from then on
	over   bool               // a Shutdown has cut off the connections: nothing is waited for any more
}

// ServeHTTP accepts the request's connection and returns; the handler keeps running. Requests that are not WebSocket
// handshakes, or not allowed, are answered as by Accept, and all requests with 503 once Shutdown has been called. If the
// options or w are at fault, the client is told no more than 500, and the error is logged with log/slog.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		w.Header().Set("Connection", "close")
		http.Error(w, ErrServerClosed.Error(), http.StatusServiceUnavailable)
		return
	}
	accepted := false
	defer func() {
		if !accepted { // also if CheckOrigin panicked, from which net/http recovers
			s.end()
		}
	}()
	conn, err := Accept(w, r, &s.AcceptOptions)
	if err != nil {
		// The client is not told what is wrong with the server itself, and nobody else sees Accept's error.
		if refused := new(HandshakeError); errors.As(err, &refused) && refused.StatusCode == http.StatusInternalServerError {
			slog.Error("wsd: a handshake failed by the server's fault", "error", err)
		}
		return
	}
	accepted = true
	s.mu.Lock()
	if s.conns == nil {
		s.conns = make(map[*Conn]struct{})
	}
	s.conns[conn] = struct{}{}
	down, over := s.ended != nil, s.over
	s.mu.Unlock()
	switch {
	case over:
		conn.abort(errAborted)
	case down:
		conn.StartClose(StatusGoingAway, "")
	}
	// A separate goroutine frees the request, and the stack and buffers that net/http needed for it.
	go s.serve(conn)
}

func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return false
	}
	s.active++
	return true
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 && s.ended != nil {
		close(s.ended)
	}
}

// serve runs the handler. It leaves most of the goroutine's initial stack, which is small, to the handler.
func (s *Server) serve(conn *Conn) {
	returned := false
	defer s.served(conn, &returned)
	s.Handler(conn)
	returned = true
}

// served is deferred by serve.
func (s *Server) served(conn *Conn, returned *bool) {
	defer s.end()
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	if p := recover(); p != nil {
		slog.Error("wsd: panic in a handler", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	if *returned {
		_ = conn.Close(StatusNormalClosure, "")
	} else { // a panic, or runtime.Goexit, as in a failed test, after which recover finds nothing
		_ = conn.Close(StatusInternalError, "the handler failed")
	}
}

// Connections returns the number of connections whose handlers are running or that are being closed.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown stops accepting connections, closes existing ones with StatusGoingAway, as well as those that result from
// handshakes under way, and waits until they have ended and their handlers have returned. If ctx is done first, it ends
// the rest as CloseNow does, and returns without waiting for their handlers. If nothing is left it returns nil, whatever
// ctx says. Calling it again waits again.
func (s *Server) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return ErrNilContext
	}
	s.mu.Lock()
	if s.ended == nil {
		s.ended = make(chan struct{})
		if s.active == 0 {
			close(s.ended)
		}
	}
	ended := s.ended
	s.mu.Unlock()
	for _, conn := range s.open() {
		conn.StartClose(StatusGoingAway, "")
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-ended:
		return nil // both were ready
	default:
	}
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	for _, conn := range s.open() {
		conn.abort(errAborted)
	}
	return canceled("shutdown", ctx)
}

// open returns the current connections.
func (s *Server) open() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}
