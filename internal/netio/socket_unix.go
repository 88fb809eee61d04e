//go:build unix

// socket_unix.go reads and writes sockets through their descriptors: a buffer is borrowed only when there are bytes to
// read, and a write that would wait comes back instead.

package netio

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/seed62836080/wsd/internal/clock"
)

// socket is a socket's descriptor, kept alive and polled by the net package.
type socket struct {
	conn       syscall.RawConn // nil if the transport is something else
	reading    *reading        // what a Read works with; nil if none has begun since Release
	othersRead atomic.Bool     // for noteRead
}

// reading is the state of a read. It comes from a pool, as nothing comes on most connections at any moment.
type reading struct {
	t *Transport
	// into is what is read into, or nil for a borrowed buffer, and afterwards what was read.
	into []byte
	err  int32 // a syscall.Errno, 0 if there was no error
	step func(fd uintptr) bool
}

var readings = sync.Pool{New: func() any {
	r := new(reading)
	// A closure rather than a method: that is one stack frame less in goroutines that wait by the thousand.
	r.step = func(fd uintptr) bool {
		t, into := r.t, r.into
		if into == nil {
			into = t.burst.borrow()
			switch {
			case t.readsLess:
				into = into[:littleSize]
			case t.expectsLong:
				into = into[:beginningSize]
			}
		}
		n, err := readNow(int(fd), into)
		for err == syscall.EINTR {
			n, err = readNow(int(fd), into)
		}
		if err == syscall.EAGAIN {
			// The goroutine waits now, perhaps for hours.
			t.burst.giveBack()
			if t.wait {
				return false
			}
		}
		errno, _ := err.(syscall.Errno)
		r.err = int32(errno)
		r.into = into[:max(n, 0)]
		return true
	}
	return r
}}

// begin returns what a Read of t works with.
func (s *socket) begin(t *Transport) *reading {
	if s.reading == nil {
		s.reading = readings.Get().(*reading)
		s.reading.t = t
	}
	return s.reading
}

// release gives back what begin took.
func (s *socket) release() {
	if r := s.reading; r != nil {
		s.reading, r.t, r.into = nil, nil, nil
		readings.Put(r)
	}
}

// writing is the state of a write. It comes from a pool, as most connections are not writing at any moment.
type writing struct {
	head, body []byte        // what is to be written
	progress   *atomic.Int64 // when something was last written; nil for a single attempt, without waiting
	announce   bool          // as for writeNow
	wrote      int
	err        error
	step       func(fd uintptr) bool
}

var writings = sync.Pool{New: func() any {
	w := new(writing)
	w.step = func(fd uintptr) bool {
		for {
			n, err := writeNow(int(fd), w.head, w.body, w.announce)
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				return w.progress == nil
			case err != nil:
				w.err = os.NewSyscallError("write", err)
				return true
			}
			w.wrote += n
			if w.progress == nil {
				return true
			}
			w.progress.Store(int64(clock.Now()))
			if w.advance(n); len(w.head)+len(w.body) == 0 {
				return true
			}
		}
	}
	return w
}}

// advance records n bytes as written.
func (w *writing) advance(n int) {
	ofHead := min(n, len(w.head))
	w.head, w.body = w.head[ofHead:], w.body[n-ofHead:]
}

func (t *Transport) initSocket() {
	var raw syscall.RawConn
	var err error
	switch socket := t.rwc.(type) {
	case *net.TCPConn:
		raw, err = socket.SyscallConn()
	case *net.UnixConn:
		raw, err = socket.SyscallConn()
	default:
		// Nothing else is trusted to be a bare socket: a type that wraps one may do more in its Read and Write.
		return
	}
	if err != nil {
		return
	}
	t.socket.conn = raw
	t.socket.othersRead.Store(true) // as far as is known
}

// CanTry reports whether the transport is a socket that can be read and written without waiting.
func (t *Transport) CanTry() bool { return t.socket.conn != nil }

// CanTryWrite reports whether TryWrite may be called.
func (t *Transport) CanTryWrite() bool { return t.CanTry() }

// holds reports whether the transport itself holds what has come: only a browser's does.
func (*Transport) holds() bool { return false }

// Socket returns the socket if CanTry, otherwise nil.
func (t *Transport) Socket() syscall.RawConn { return t.socket.conn }

// Read returns some of what has come, at least a byte. It reads into direct if that is not nil, otherwise into a borrowed
// buffer, which is valid until the next Read or Release. If there is nothing, it waits for bytes; without wait, it returns
// ErrNothing instead, if CanTry. Nothing is borrowed while it waits, nor after ErrNothing. At the end of the bytes the
// error is io.EOF.
func (t *Transport) Read(direct []byte, wait bool) ([]byte, error) {
	if !t.CanTry() {
		return t.readAny(direct)
	}
	r := t.socket.begin(t)
	r.into, t.wait = direct, wait
	err := t.socket.conn.Read(r.step)
	b := r.into
	r.into = nil // or the connection would keep a buffer that is lent to another by now
	switch errno := syscall.Errno(r.err); {
	case err != nil:
		return nil, err
	case errno == syscall.EAGAIN:
		return nil, ErrNothing
	case errno != 0:
		return nil, os.NewSyscallError("read", errno)
	case len(b) == 0:
		return nil, io.EOF
	}
	t.noteRead()
	return b, nil
}

// Write writes all of head and body, waiting as long as that takes.
func (t *Transport) Write(head, body []byte) error {
	if !t.CanTry() {
		return t.writeAny(head, body)
	}
	_, err := t.writeSocket(head, body, &t.progress)
	return err
}

// TryWrite writes as much of head and then body as there is room for, in one call that does not wait, and returns how
// many bytes that was: none, without an error, if there is no room. It may only be called if CanTryWrite.
func (t *Transport) TryWrite(head, body []byte) (n int, err error) {
	return t.writeSocket(head, body, nil)
}

// writeSocket writes head and then body, and returns how many bytes it wrote. If progress is nil, that is what the socket
// takes in one call, without waiting; otherwise it is everything, however long that takes, and progress tells when something
// was last written.
func (t *Transport) writeSocket(head, body []byte, progress *atomic.Int64) (int, error) {
	if len(head)+len(body) == 0 {
		return 0, nil
	}
	w := writings.Get().(*writing)
	w.head, w.body, w.progress, w.wrote, w.err = head, body, progress, 0, nil
	w.announce = t.onlyBusy()
	err := t.socket.conn.Write(w.step)
	n, writeErr := w.wrote, w.err
	w.head, w.body, w.progress = nil, nil, nil
	writings.Put(w)
	if err == nil {
		err = writeErr
	}
	return n, err
}
