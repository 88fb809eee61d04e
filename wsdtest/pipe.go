// Package wsdtest helps to test programs that use wsd. It has a connected client and server in memory, without sockets,
// suitable for testing/synctest.
//
// A handler that is a function of a *wsd.Conn needs no more than Pipe. In a bubble, its timeouts take no time:
//
//	synctest.Test(t, func(t *testing.T) {
//		client, server := wsdtest.Pipe()
//		go handler(server)
//		...
//		client.Close(wsd.StatusNormalClosure, "") // what still runs when the test returns fails it
//		<-server.Closed()
//	})
//
// What a handshake decides, on origins, cookies, subprotocols or paths, is tested in a bubble too: Serve runs any
// http.Handler in memory, and Pair shakes hands before it returns both ends. (With httptest.NewServer, a test waits for
// sockets, which does not let a bubble's time advance.)
package wsdtest

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
)

// pipeBuffer is how many bytes each direction of a pipe holds before a Write waits.
const pipeBuffer = 64 << 10

// Pipe returns the two ends of a connection in memory, with the opening handshake done. Each direction buffers 64 KiB.
// Without a Config both ends have the defaults, with one both have that Config, and with two the first is the client's
// and the second the server's. With more, Pipe panics. Inside a testing/synctest bubble, all its waits are durable, so
// that time advances. For ends with a subprotocol, see Pair.
func Pipe(configs ...wsd.Config) (client, server *wsd.Conn) {
	var of [2]wsd.Config
	switch len(configs) {
	case 0:
	case 1:
		of = [2]wsd.Config{configs[0], configs[0]}
	case 2:
		of = [2]wsd.Config(configs)
	default:
		panic("wsdtest: Pipe takes at most two Configs, the client's and the server's")
	}
	a, b := Transport()
	return wsd.NewConn(a, wsd.ClientRole, of[0]), wsd.NewConn(b, wsd.ServerRole, of[1])
}

// Transport returns the two ends of a byte stream in memory. Like a TCP connection, it is buffered, has addresses and
// deadlines, and can be closed in one direction by CloseWrite. Use it with wsd.NewConn, or to play a peer byte by byte. The
// addresses are *net.TCPAddr of networks that exist in documentation only (RFC 5737): a is a client at 192.0.2.1, with a
// port of its own, and b a server at 192.0.2.2:80.
func Transport() (a, b *End) {
	x, y := newStream(), newStream()
	client, server := clientAddr(), serverAddr()
	return &End{in: x, out: y, local: client, remote: server}, &End{in: y, out: x, local: server, remote: client}
}

// lastPort is that of the last client, counted on beyond the range of ports.
var lastPort atomic.Uint32

func clientAddr() *net.TCPAddr {
	const first = 1 << 10
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: first + int(lastPort.Add(1)%(1<<16-first))}
}

func serverAddr() *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80} }

// End is one end of a Transport, a net.Conn. It is safe for concurrent use.
type End struct {
	in, out       *stream
	local, remote *net.TCPAddr
}

// LocalAddr returns the address of this end.
func (e *End) LocalAddr() net.Addr { return e.local }

// RemoteAddr returns the address of the other end.
func (e *End) RemoteAddr() net.Addr { return e.remote }

// Read reads what the other end has written, and waits while there is nothing. After the last byte it returns io.EOF.
func (e *End) Read(p []byte) (int, error) { return e.in.read(p) }

// Write writes all of p, and waits while the buffer is full. Once the other end is closed it returns io.ErrClosedPipe.
func (e *End) Write(p []byte) (int, error) { return e.out.write(p) }

// CloseWrite tells the other end that no more bytes come. Reading goes on.
func (e *End) CloseWrite() error {
	e.out.end(io.EOF)
	return nil
}

// Close closes both directions. Calls waiting on either end return, on this end with net.ErrClosed.
func (e *End) Close() error {
	e.in.abandon()
	e.out.end(io.EOF)
	return nil
}

// SetDeadline sets both deadlines.
func (e *End) SetDeadline(t time.Time) error {
	e.in.readDeadline.set(e.in, t)
	e.out.writeDeadline.set(e.out, t)
	return nil
}

// SetReadDeadline makes a Read that is waiting at t, or begins later, fail with os.ErrDeadlineExceeded. The zero time
// means no deadline.
func (e *End) SetReadDeadline(t time.Time) error {
	e.in.readDeadline.set(e.in, t)
	return nil
}

// SetWriteDeadline does for Write what SetReadDeadline does for Read.
func (e *End) SetWriteDeadline(t time.Time) error {
	e.out.writeDeadline.set(e.out, t)
	return nil
}

// stream is one direction.
type stream struct {
	mu            sync.Mutex
	changed       sync.Cond
	data          []byte
	ended         error // what a reader gets after the data
	abandoned     bool  // the reader has closed
	readDeadline  deadline
	writeDeadline deadline
}

func newStream() *stream {
	s := new(stream)
	s.changed.L = &s.mu
	return s
}

// deadline wakes the stream when its time comes. The stream's mu guards it.
type deadline struct {
	timer *time.Timer
	past  bool
}

func (d *deadline) set(s *stream, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.past = !t.IsZero() && !t.After(time.Now())
	if !t.IsZero() && !d.past {
		var timer *time.Timer
		timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if d.timer == timer {
				d.past = true
				s.changed.Broadcast()
			}
		})
		d.timer = timer
	}
	s.changed.Broadcast()
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.abandoned:
			return 0, net.ErrClosed
		case s.readDeadline.past:
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0 || len(p) == 0:
			n := copy(p, s.data)
			s.data = s.data[n:]
			if len(s.data) == 0 {
				s.data = nil
			}
			s.changed.Broadcast()
			return n, nil
		case s.ended != nil:
			return 0, s.ended
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended != nil:
			return n, net.ErrClosed
		case s.abandoned:
			return n, io.ErrClosedPipe
		case s.writeDeadline.past:
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		}
		if room := pipeBuffer - len(s.data); room > 0 {
			taken := min(room, len(p))
			s.data = append(s.data, p[:taken]...)
			p = p[taken:]
			n += taken
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

// end is called by the writer: no more data comes.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = err
	}
	s.stopTimer(&s.writeDeadline)
	s.changed.Broadcast()
}

// abandon is called by the reader: no more data is taken.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned = true
	s.data = nil
	s.stopTimer(&s.readDeadline)
	s.changed.Broadcast()
}

func (s *stream) stopTimer(d *deadline) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
