// transport.go is what a connection needs of its transport: any io.ReadWriteCloser will do, and what else it offers is
// used.

package wsd

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd/internal/bufpool"
)

const (
	// readBurst is the size in bytes of the buffers that are lent to a connection while bytes arrive.
	readBurst = 64 << 10
	// readIdle is the size in bytes of the buffer that a connection keeps while it waits, over a transport that cannot
	// tell when it is readable.
	readIdle = 1 << 10
	// readBrief is how many bytes are read of a message that is probably long, before its place is known and the rest can
	// be read straight into it.
	readBrief = 5 << 10
	// maxEmptyReads is how many times in a row an io.Reader may return neither bytes nor an error.
	maxEmptyReads = 100
	// maxDiscards is how many bursts are read from a peer that keeps sending after its close frame.
	maxDiscards = 64
	// maxLayers bounds how many connections may be nested: TLS to a proxy and TLS to the server within that are two. It
	// ends the search if a connection claims to be below itself.
	maxLayers = 8
)

var errNothingThere = errors.New("wsd: nothing to read")

var errInvalidRead = errors.New("wsd: the transport's Read returned an impossible count")

// lender holds the burst buffer that a reader has on loan.
type lender struct{ burst *[readBurst]byte }

// lend returns the burst buffer, taking one from the pool if there is none on loan.
func (l *lender) lend() []byte {
	if l.burst == nil {
		l.burst = (*[readBurst]byte)(bufpool.Get(readBurst)[:readBurst])
	}
	return l.burst[:]
}

// release gives the burst buffer back. What was read into it is then gone.
func (l *lender) release() {
	if l.burst != nil {
		bufpool.Put(l.burst[:])
		l.burst = nil
	}
}

// transport wraps the io.ReadWriteCloser of one connection. One goroutine reads, one at a time writes, any may close.
type transport struct {
	rwc      io.ReadWriteCloser
	raw      rawConn      // not ok if the transport is not a socket of the operating system
	progress atomic.Int64 // on clock: when a write that waits last ended

	closeOnce sync.Once
	lender
	idle   *[readIdle]byte // kept while waiting; nil with raw
	brief  bool            // a read into the burst buffer takes no more than readBrief
	filled bool            // the last read filled its buffer, so there is probably more
}

func (t *transport) init(rwc io.ReadWriteCloser) {
	t.rwc = rwc
	t.noteProgress()
	switch socket := rwc.(type) {
	case *net.TCPConn:
		t.initRaw(socket)
	case *net.UnixConn:
		t.initRaw(socket)
	}
	// Nothing else is trusted to be a bare socket: a type that wraps one may do more in its Read and Write.
	if !t.raw.ok() {
		t.idle = new([readIdle]byte)
	}
}

// read waits for bytes. They go into direct if that is not nil, otherwise into a buffer that is valid until the next read
// or release. Without wait, it returns errNothingThere if there are none, provided that the transport can tell.
func (t *transport) read(direct []byte, wait bool) ([]byte, error) {
	if t.raw.ok() {
		return t.raw.read(direct, wait)
	}
	into := direct
	if into == nil {
		if t.filled {
			into = t.lend()
		} else {
			t.release()
			into = t.idle[:]
		}
	}
	for range maxEmptyReads {
		n, err := t.rwc.Read(into)
		if n < 0 || n > len(into) {
			return nil, errInvalidRead
		}
		if n > 0 {
			// The bytes matter more than an error after them, which the next read will return again. That a payload
			// filled its place says nothing about what follows it.
			t.filled = direct == nil && n == len(into)
			return into[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, io.ErrNoProgress
}

// discard drops what has arrived and was not read, if the transport can tell. Closing a socket with bytes unread resets
// the connection, and the reset may reach the peer ahead of what was written last (RFC 6455, section 7.1.1).
func (t *transport) discard() {
	if !t.raw.ok() {
		return
	}
	for range maxDiscards {
		if _, err := t.raw.read(nil, false); err != nil {
			return
		}
	}
}

// write writes all of head and body, waiting as long as that takes.
func (t *transport) write(head, body []byte) error {
	if t.raw.ok() {
		_, err := t.raw.write(head, body, &t.progress)
		return err
	}
	if err := t.writeAll(head); err != nil {
		return err
	}
	return t.writeAll(body)
}

// writeWithin writes all of b, and takes no longer than bound, if that is positive and the transport has deadlines.
func (t *transport) writeWithin(b []byte, bound time.Duration) error {
	if t.raw.ok() {
		// An error here will be found again below, unless it is from a deadline that somebody else set.
		n, _ := t.raw.write(b, nil, nil)
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
	if socket, ok := t.rwc.(net.Conn); ok {
		var deadline time.Time
		if bound > 0 {
			deadline = time.Now().Add(bound)
		}
		_ = socket.SetWriteDeadline(deadline)
	}
	return t.write(b, nil)
}

// writeAll writes all of b through rwc.
func (t *transport) writeAll(b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), largeChunk)]
		n, err := t.rwc.Write(piece)
		if err != nil {
			return err
		}
		if n <= 0 || n > len(piece) {
			return io.ErrShortWrite
		}
		b = b[n:]
		t.noteProgress()
	}
	return nil
}

func (t *transport) noteProgress() { t.progress.Store(int64(clock())) }

func (t *transport) progressed() time.Duration { return time.Duration(t.progress.Load()) }

// rouse makes a read that waits on a socket return, or allows reads to wait again.
func (t *transport) rouse(on bool) {
	var deadline time.Time
	if on {
		deadline = time.Unix(1, 0)
	}
	if socket, ok := t.rwc.(net.Conn); ok {
		_ = socket.SetReadDeadline(deadline)
	}
}

// halfCloses reports whether the transport has a CloseWrite.
func (t *transport) halfCloses() bool {
	_, ok := t.rwc.(interface{ CloseWrite() error })
	return ok
}

// closeWrite tells the peer that nothing more comes, and reports whether it succeeded.
func (t *transport) closeWrite() bool {
	half, ok := t.rwc.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// close closes the transport when there is nothing more to send.
func (t *transport) close() { t.closeOnce.Do(func() { _ = t.rwc.Close() }) }

// abort ends all reading and writing at once. Unlike a TLS connection's Close, it does not wait for the peer: the
// connection below is closed first.
func (t *transport) abort() {
	if d, ok := t.rwc.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Unix(1, 0))
	}
	if conn := bottom(t.rwc); conn != nil {
		_ = conn.Close()
	}
	t.close()
}

// bottom returns the innermost connection below rwc, or nil if there is none.
func bottom(rwc any) (conn net.Conn) {
	for range maxLayers {
		secure, ok := rwc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		below := secure.NetConn()
		if below == nil {
			break
		}
		conn, rwc = below, below
	}
	return conn
}
