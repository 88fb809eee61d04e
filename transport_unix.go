//go:build unix

// transport_unix.go reads and writes sockets through their descriptors: a read buffer is lent only when there are bytes to
// read, and a write that would wait comes back instead.

package wsd

import (
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// rawConn is a socket's descriptor, kept alive and polled by the net package.
type rawConn struct {
	conn syscall.RawConn
	// The state of an attempt to read, kept here so that readStep is allocated only once: it reads into the slice into,
	// or into a burst buffer if that is nil, and leaves what it read there.
	readStep func(fd uintptr) bool
	into     []byte
	wait     bool
	crowded  atomic.Bool // another connection has read since this one did
	readErr  syscall.Errno
}

// lastReader is the address of the rawConn that read last.
var lastReader atomic.Uintptr

// noteRead finds out whether this connection is the only busy one.
func (r *rawConn) noteRead() {
	self := uintptr(unsafe.Pointer(r))
	crowded := lastReader.Load() != self
	if crowded {
		lastReader.Store(self)
	}
	if r.crowded.Load() != crowded {
		r.crowded.Store(crowded)
	}
}

// writing is the state of a write. It comes from a pool, as most connections are not writing at any moment.
type writing struct {
	head, body []byte        // what is to be written
	progress   *atomic.Int64 // when a call last wrote; nil for a single attempt, without waiting
	alone      bool          // as for writeNow
	wrote      int
	err        error
	step       func(fd uintptr) bool
}

var writings = sync.Pool{New: func() any {
	w := new(writing)
	w.step = func(fd uintptr) bool {
		for {
			n, err := writeNow(int(fd), w.head, w.body, w.alone)
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
			w.progress.Store(int64(clock()))
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

func (t *transport) initRaw(socket syscall.Conn) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return
	}
	t.raw.conn = conn
	t.raw.crowded.Store(true) // as far as is known
	// A closure rather than a method: that is one stack frame less in goroutines that wait by the thousand.
	t.raw.readStep = func(fd uintptr) bool {
		r := &t.raw
		into := r.into
		if into == nil {
			into = t.lend()
			if t.brief {
				into = into[:readBrief]
			}
		}
		n, err := readNow(int(fd), into)
		for err == syscall.EINTR {
			n, err = readNow(int(fd), into)
		}
		if err == syscall.EAGAIN {
			// The goroutine waits now, perhaps for hours.
			t.release()
			if r.wait {
				return false
			}
		}
		r.readErr, _ = err.(syscall.Errno)
		r.into = into[:max(n, 0)]
		return true
	}
}

func (r *rawConn) ok() bool { return r.conn != nil }

// read reads into direct, or into a burst buffer if that is nil. If there are no bytes it waits, or without wait returns
// errNothingThere.
func (r *rawConn) read(direct []byte, wait bool) ([]byte, error) {
	r.into, r.wait = direct, wait
	err := r.conn.Read(r.readStep)
	b := r.into
	r.into = nil // or the connection would keep a buffer that is lent to another by now
	switch {
	case err != nil:
		return nil, err
	case r.readErr == syscall.EAGAIN:
		return nil, errNothingThere
	case r.readErr != 0:
		return nil, os.NewSyscallError("read", r.readErr)
	case len(b) == 0:
		return nil, io.EOF
	}
	r.noteRead()
	return b, nil
}

// write writes head and then body, and returns how many bytes it wrote. If progress is nil, that is what the socket takes
// in one call, without waiting; otherwise it is everything, however long that takes, and progress counts the calls that
// wrote something.
func (r *rawConn) write(head, body []byte, progress *atomic.Int64) (int, error) {
	if len(head)+len(body) == 0 {
		return 0, nil
	}
	w := writings.Get().(*writing)
	w.head, w.body, w.progress, w.wrote, w.err = head, body, progress, 0, nil
	w.alone = !r.crowded.Load() && runtime.GOMAXPROCS(0) > 1
	err := r.conn.Write(w.step)
	n, writeErr := w.wrote, w.err
	w.head, w.body, w.progress = nil, nil, nil
	writings.Put(w)
	if err == nil {
		err = writeErr
	}
	return n, err
}
