// Package netio reads and writes the transport of one connection: any io.ReadWriteCloser, and without waiting if it is a
// socket of the operating system. It lends the memory for what arrives, and knows nothing of what the bytes mean.
package netio

import (
	"errors"
	"io"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
)

// PieceSize is how many bytes of a long message should be written at a time, so that Progress shows a peer that reads
// slowly. It fits in two of the largest segments that a kernel makes, of not quite 64 KiB: pieces of 128 KiB would each
// need a third with a few bytes, which would cost a third of the rate.
const PieceSize = 127 << 10

const (
	// idleSize is the size in bytes of the buffer that a Transport keeps while it waits, if it cannot tell when there is
	// something to read.
	idleSize = 1 << 10
	// beginningSize is how many bytes are read where a long message is expected: its beginning, enough for its place to
	// be known, so that the rest can be read straight into that.
	beginningSize = 5 << 10
	// littleSize is how many bytes are read at a time where little is to be.
	littleSize = 2 << 10
	// maxEmptyReads is how many times in a row an io.Reader may return neither bytes nor an error.
	maxEmptyReads = 100
	// maxDiscards is how many bursts are read from a peer that keeps sending after its close frame.
	maxDiscards = 64
	// maxLayers bounds how many connections may be nested: TLS to a proxy and TLS to the server within that are two. It
	// ends the search if a connection claims to be below itself.
	maxLayers = 8
)

// ErrNothing is returned by a Read that was not to wait and found nothing.
var ErrNothing = errors.New("nothing to read")

// ErrInvalidRead is returned if a transport's Read breaks the contract of io.Reader.
var ErrInvalidRead = errors.New("the transport's Read returned an impossible count")

// Transport wraps the io.ReadWriteCloser of one connection. It is used in place: Init makes it ready, and it must not be
// copied. One goroutine at a time may read, which includes Release, Discard and ExpectLong; one at a time may write; all
// other methods are safe for concurrent use.
type Transport struct {
	rwc      io.ReadWriteCloser
	socket   socket       // of no use unless CanTry
	progress atomic.Int64 // of package clock, see Progress
	burst    burst
	idle     *[idleSize]byte // kept while waiting; nil if CanTry, or the transport holds what has come

	closeOnce sync.Once
	// The reader's own, here because closeOnce leaves room for them.
	wait         bool // the Read under way may wait
	expectsLong  bool
	moreExpected bool // the last read filled its buffer
	readsLess    bool // reads into a borrowed buffer take little of it
}

// Init makes t the transport over rwc, which it owns from then on.
func (t *Transport) Init(rwc io.ReadWriteCloser) {
	t.rwc = rwc
	t.progress.Store(int64(clock.Now()))
	if t.initSocket(); !t.CanTry() && !t.holds() {
		t.idle = new([idleSize]byte)
	}
}

// Under returns what t is the transport over.
func (t *Transport) Under() io.ReadWriteCloser { return t.rwc }

// ExpectLong says whether what comes next is probably the beginning of a message too long for one read. A read into a
// borrowed buffer then takes only as much as it needs for that, as the rest would have to be copied from there.
func (t *Transport) ExpectLong(long bool) { t.expectsLong = long }

// ReadLess says whether reads into a borrowed buffer are to take little at a time, since what is read may have to be kept.
func (t *Transport) ReadLess(less bool) { t.readsLess = less }

// readAny is Read for a transport that cannot be read without waiting.
func (t *Transport) readAny(direct []byte) ([]byte, error) {
	into := direct
	if into == nil {
		if t.moreExpected || t.holds() {
			into = t.burst.borrow()
			if t.readsLess {
				into = into[:littleSize]
			}
		} else {
			t.burst.giveBack()
			into = t.idle[:]
		}
	}
	for range maxEmptyReads {
		n, err := t.rwc.Read(into)
		if n < 0 || n > len(into) {
			return nil, ErrInvalidRead
		}
		if n > 0 {
			// The bytes matter more than an error after them, which the next read will return again. That a payload
			// filled its place says nothing about what follows it.
			t.moreExpected = direct == nil && n == len(into)
			return into[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, io.ErrNoProgress
}

// Release gives back what Read has borrowed. What was read into it is then gone.
func (t *Transport) Release() {
	t.burst.giveBack()
	t.socket.release()
}

// Discard drops what has arrived and was not read, if CanTry, and reports whether there was anything; otherwise it reports
// whether there probably is. Closing a socket with bytes unread resets the connection, and the reset may reach the peer
// ahead of what was written last (RFC 6455, section 7.1.1).
func (t *Transport) Discard() (found bool) {
	if !t.CanTry() {
		return t.moreExpected
	}
	for range maxDiscards {
		if _, err := t.Read(nil, false); err != nil {
			break
		}
		found = true
	}
	return found
}

// writeAny is Write for a transport that cannot be written without waiting.
func (t *Transport) writeAny(head, body []byte) error {
	if err := t.writeAll(head); err != nil {
		return err
	}
	return t.writeAll(body)
}

// WriteWithin writes all of b, and takes no longer than bound, if that is positive and the transport has deadlines.
func (t *Transport) WriteWithin(b []byte, bound time.Duration) error {
	if t.CanTryWrite() {
		// An error here will be found again below, unless it is from a deadline that somebody else set.
		n, _ := t.TryWrite(b, nil)
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
	if conn, ok := t.rwc.(net.Conn); ok {
		var deadline time.Time
		if bound > 0 {
			deadline = time.Now().Add(bound)
		}
		_ = conn.SetWriteDeadline(deadline)
	}
	return t.Write(b, nil)
}

// writeAll writes all of b through rwc.
func (t *Transport) writeAll(b []byte) error {
	for len(b) > 0 {
		piece := b
		if len(b) > PieceSize && !t.holds() {
			piece = b[:PieceSize]
		}
		n, err := t.rwc.Write(piece)
		if err != nil {
			return err
		}
		if n <= 0 || n > len(piece) {
			return io.ErrShortWrite
		}
		b = b[n:]
		t.progress.Store(int64(clock.Now()))
	}
	return nil
}

// Progress returns when, on the clock of package clock, a Write last wrote something; before the first, when the transport
// began.
func (t *Transport) Progress() time.Duration { return time.Duration(t.progress.Load()) }

// NoteProgress is for a transport that takes what is written ahead of passing it on: it did some of that now.
func (t *Transport) NoteProgress() { t.progress.Store(int64(clock.Now())) }

// Rouse makes a Read that waits return an error matching os.ErrDeadlineExceeded, and every one after it, until it is
// called with false. It does nothing if the transport has no deadlines.
func (t *Transport) Rouse(on bool) {
	var deadline time.Time
	if on {
		deadline = time.Unix(1, 0)
	}
	if conn, ok := t.rwc.(net.Conn); ok {
		_ = conn.SetReadDeadline(deadline)
	}
}

// HalfCloses reports whether the transport has a CloseWrite.
func (t *Transport) HalfCloses() bool {
	_, ok := t.rwc.(interface{ CloseWrite() error })
	return ok
}

// CloseWrite tells the peer that nothing more comes, and reports whether it succeeded.
func (t *Transport) CloseWrite() bool {
	half, ok := t.rwc.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// Close closes the transport when there is nothing more to send. Only the first call does; others wait for it.
func (t *Transport) Close() { t.closeOnce.Do(func() { _ = t.rwc.Close() }) }

// Abort ends all reading and writing at once, and closes the transport. Unlike a TLS connection's Close, it does not wait
// for the peer: the connection below is closed first.
func (t *Transport) Abort() {
	if d, ok := t.rwc.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Unix(1, 0))
	}
	if conn := innermost(t.rwc); conn != nil {
		_ = conn.Close()
	}
	t.Close()
}

// LocalAddr returns the address of this end, nil if the transport has none.
func (t *Transport) LocalAddr() (addr net.Addr) {
	for layer := range layers(t.rwc) {
		if end, ok := layer.(interface{ LocalAddr() net.Addr }); ok && addr == nil {
			addr = end.LocalAddr()
		}
	}
	return addr
}

// RemoteAddr returns the address of the other end, nil if the transport has none.
func (t *Transport) RemoteAddr() (addr net.Addr) {
	for layer := range layers(t.rwc) {
		if end, ok := layer.(interface{ RemoteAddr() net.Addr }); ok && addr == nil {
			addr = end.RemoteAddr()
		}
	}
	return addr
}

// innermost returns the innermost connection below rwc, or nil if there is none.
func innermost(rwc any) (conn net.Conn) {
	outermost := true
	for layer := range layers(rwc) {
		if !outermost {
			conn = layer.(net.Conn)
		}
		outermost = false
	}
	return conn
}

// layers returns rwc and the connections below it, outermost first.
func layers(rwc any) iter.Seq[any] {
	return func(yield func(any) bool) {
		for range maxLayers + 1 {
			if !yield(rwc) {
				return
			}
			secure, ok := rwc.(interface{ NetConn() net.Conn })
			if !ok {
				return
			}
			below := secure.NetConn()
			if below == nil {
				return
			}
			rwc = below
		}
	}
}
