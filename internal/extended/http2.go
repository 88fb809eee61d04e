// http2.go takes streams over from net/http's server for HTTP/2, which gives a handler both ways of a stream, for as long as
// the handler stays.

package extended

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxWriters bounds how many ResponseWriters may be nested, so that one which claims to be below itself ends the search.
const maxWriters = 64

// errReturned is the error of a stream whose handler has not stayed.
var errReturned = errors.New("the request's handler has returned ahead of its WebSocket's end (wsd.ConfigureHTTP2 permits it)")

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// ofHTTP2 returns the extended CONNECT that net/http has handed to a handler, nil if r is none.
func ofHTTP2(r *http.Request) *Connect {
	protocol := r.Header[ProtocolField]
	if r.ProtoMajor != 2 || r.Method != http.MethodConnect || len(protocol) != 1 {
		return nil
	}
	takeOver := func(w http.ResponseWriter, within time.Duration) (io.ReadWriteCloser, error) {
		s, err := take(w, r, within)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return &Connect{Protocol: protocol[0], Take: takeOver, HandlerStays: true}
}

// Staying wraps the handler of a server for HTTP/2: for an extended CONNECT it returns only when the connection that was
// made of it has ended, so that the handlers below it need not stay. The body of such a request is the stream's own,
// whatever middleware has made of it.
func Staying(next http.Handler) http.Handler { return staying{next} }

type staying struct{ next http.Handler }

func (h staying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	connect := ofHTTP2(r)
	if connect == nil {
		h.next.ServeHTTP(w, r)
		return
	}
	s := &stay{request: r}
	connect.Take, connect.Keep, connect.HandlerStays = s.take, s.keep, false
	returned := false
	defer func() { s.await(returned) }()
	h.next.ServeHTTP(w, With(r, connect))
	returned = true
}

// stay is how a handler is made to stay.
type stay struct {
	request *http.Request

	mu    sync.Mutex
	taken *stream         // nil until the stream is taken, which it is once
	ended <-chan struct{} // nil until keep is called
}

func (s *stay) take(w http.ResponseWriter, within time.Duration) (io.ReadWriteCloser, error) {
	s.mu.Lock()
	again := s.taken != nil
	s.mu.Unlock()
	if again {
		return nil, fmt.Errorf("%w: it has been taken over before", ErrNotHandedOver)
	}
	taken, err := take(w, s.request, within)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = taken
	return taken, nil
}

func (s *stay) keep(ended <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = ended
}

// await waits until the connection has ended, if one was made. A handler that panics, of which net/http is to know soon,
// does not leave its connection behind.
func (s *stay) await(returned bool) {
	s.mu.Lock()
	taken, ended := s.taken, s.ended
	s.mu.Unlock()
	if ended == nil {
		return
	}
	if !returned {
		_ = taken.SetDeadline(past)
	}
	<-ended
}

// stream is a stream of HTTP/2 that net/http's server has given to a handler.
type stream struct {
	body          io.ReadCloser
	below         http.ResponseWriter
	control       *http.ResponseController
	local, remote net.Addr

	mu   sync.Mutex
	over bool // closed: the handler may have returned, behind which nothing may be set
}

// take answers 200 and takes the stream over. What middleware above net/http's ResponseWriter makes of a status and of
// header fields it can; the bytes pass by it.
func take(w http.ResponseWriter, r *http.Request, within time.Duration) (*stream, error) {
	s := &stream{body: r.Body, below: innermost(w)}
	s.control = http.NewResponseController(s.below)
	s.local, s.remote = addresses(r)
	// Those of http.Server are for a request with an end.
	if err := s.control.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHandedOver, err)
	}
	var deadline time.Time
	if within > 0 {
		deadline = time.Now().Add(within)
	}
	if err := s.control.SetWriteDeadline(deadline); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHandedOver, err)
	}
	w.WriteHeader(http.StatusOK)
	s.below.WriteHeader(http.StatusOK) // some middleware waits for a body; net/http ignores a second time
	if err := s.control.Flush(); err != nil {
		_ = s.SetDeadline(past)
		return nil, err
	}
	if err := s.control.SetWriteDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return s, nil
}

// innermost returns the ResponseWriter below all middleware.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for range maxWriters {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = outer.Unwrap()
	}
	return w
}

// addresses returns those of the connection by which r came, as far as they are known.
func addresses(r *http.Request) (local, remote net.Addr) {
	local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		remote = net.TCPAddrFromAddrPort(from)
	} else if unix, ok := local.(*net.UnixAddr); ok {
		remote = &net.UnixAddr{Name: r.RemoteAddr, Net: unix.Net}
	}
	return local, remote
}

func (s *stream) Read(b []byte) (int, error) { return s.body.Read(b) }

// Write writes b and has it sent.
func (s *stream) Write(b []byte) (n int, err error) {
	defer recoverReturned(&err)
	if n, err = s.below.Write(b); err != nil {
		return n, err
	}
	return n, s.control.Flush()
}

// SetDeadline ends reads and writes that wait at t. One in the past resets the stream.
func (s *stream) SetDeadline(t time.Time) (err error) {
	defer recoverReturned(&err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return net.ErrClosed
	}
	return errors.Join(s.control.SetReadDeadline(t), s.control.SetWriteDeadline(t))
}

// Close ends reading. The end of what was written goes out when the handler returns, which it may from then on.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.body.Close()
}

// LocalAddr returns the address at which the server was reached, nil if it is not known.
func (s *stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr returns the address of the other end of the TCP connection, nil if it is not known.
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// recoverReturned is deferred by what panics in net/http once the handler has returned.
func recoverReturned(err *error) {
	if recover() != nil {
		*err = errReturned
	}
}
