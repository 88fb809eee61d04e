// stream.go makes a stream of QUIC the transport of a WebSocket: its bytes travel in DATA frames (RFC 9220, section 3).

package h3

import (
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// rawStream is what a server's stream and a client's have in common.
type rawStream interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error
	CancelRead(quic.StreamErrorCode)
	CancelWrite(quic.StreamErrorCode)
	SetDeadline(time.Time) error
}

// stream is a stream that carries a WebSocket.
type stream struct {
	rawStream
	local, remote net.Addr
	closed        func() // called once, by Close

	mu      sync.Mutex
	expired bool // a deadline in the past is set: Close is an abort
	over    bool
}

// SetDeadline ends reads and writes that wait at t. Behind one in the past, Close resets the stream.
func (s *stream) SetDeadline(t time.Time) error {
	s.mu.Lock()
	s.expired = !t.IsZero() && !t.After(time.Now())
	s.mu.Unlock()
	return s.rawStream.SetDeadline(t)
}

// CloseWrite ends what this side sends.
func (s *stream) CloseWrite() error { return s.rawStream.Close() }

// Close ends the stream: what was written still arrives, unless a deadline in the past is set.
func (s *stream) Close() error {
	s.mu.Lock()
	expired, again := s.expired, s.over
	s.over = true
	s.mu.Unlock()
	if again {
		return nil
	}
	defer s.closed()
	if expired { // RFC 8441, section 5: as a connection that is reset
		s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		s.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		return nil
	}
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	return s.rawStream.Close()
}

// LocalAddr returns the address of this end of the connection of QUIC.
func (s *stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr returns the address of its other end.
func (s *stream) RemoteAddr() net.Addr { return s.remote }
