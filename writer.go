// writer.go is the way out: what waits to be written, and the goroutine that writes it in as few calls as it can.
package wsd

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// maxFramePayload is where data frames are cut, in bytes, so that control frames never wait behind megabytes.
	maxFramePayload = 1 << 20
	// largeChunk is how many bytes of a large message are written at a time, so that the keepalive sees a peer that reads
	// slowly make progress; maskChunk is how many where they are masked first.
	largeChunk = 256 << 10
	maskChunk  = 64 << 10
	// firstBuffer is the size in bytes with which buffers begin, keepBuffer the largest that goes back to the pool.
	firstBuffer = 2 << 10
	keepBuffer  = 256 << 10
)

// buffer is a growing slice on loan from the pool.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, firstBuffer)} }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

func putBuffer(b *buffer) {
	if b != nil && cap(b.b) <= keepBuffer {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}

// outgoing is all that waits to be written, and who writes it. Conn.mu guards it.
type outgoing struct {
	masked   bool
	limit    int // of queue, in bytes
	deflater *deflater

	// In the order in which they are written. Control frames go between frames, ahead of the data that waits.
	rest       []byte       // what a write that did not wait has left over, in the middle of a frame
	restOf     *buffer      // what rest is a part of
	pings      []byte       // frames
	pongs      []byte       // frames
	queue      *buffer      // data frames, nil where there are none
	large      largeMessage // the one message that is written from its sender's slice
	closeFrame []byte       // nil where there is none

	admission    admission
	refused      bool  // no message is taken any more
	stopped      bool  // nothing is written any more
	failed       error // what a write failed with
	closeWritten bool

	writing  bool          // somebody writes, with mu given up
	running  bool          // the writer goroutine exists
	parked   bool          // it waits for wake
	unused   bool          // nothing has been sent since the keepalive looked: the writer need not stay
	wake     chan struct{} // has room for the one value that a parked writer is sent
	progress chan struct{} // made for those who wait, closed after every write and at the end

	messages, bytes uint64 // taken
	written         uint64 // of messages
	restUpTo        uint64 // what written becomes with rest
	writes          uint64
	waitingPongs    uint64 // in pongs
	coalesced       uint64 // pongs that were not sent
	pongsStuck      bool   // the reader has waited for pongs to be written, in vain
}

// largeMessage is a message that its sender, who has the turn, waits for. All fields but done are valid while active.
type largeMessage struct {
	active bool
	begun  bool   // part of it has been written
	opcode byte   // of the next frame, with RSV1 where it is set
	data   []byte // what has not been written
	frame  int    // how many bytes of that belong to a frame whose header has been written
	key    uint32 // the masking key of that frame, rotated
	done   chan struct{}
}

func (o *outgoing) init(role Role, cfg *Config) {
	o.masked = role == ClientRole
	o.limit = int(limitOr(cfg.SendQueue, defaultSendQueue))
	o.deflater = newDeflater(role, cfg.Compression)
}

// appendFrame appends a frame to dst, masked where this side masks. first is the first byte of its header.
func (o *outgoing) appendFrame(dst []byte, first byte, payload []byte) []byte {
	var key uint32
	if o.masked {
		key = newMaskingKey()
	}
	dst = appendFrameHeader(dst, first, len(payload), o.masked, key)
	if !o.masked {
		return append(dst, payload...)
	}
	start := len(dst)
	dst = slices.Grow(dst, len(payload))[:start+len(payload)]
	maskBytes(dst[start:], payload, key)
	return dst
}

// enqueue appends a data frame to the queue.
func (o *outgoing) enqueue(first byte, payload []byte) {
	if o.queue == nil {
		o.queue = getBuffer()
	}
	o.queue.b = o.appendFrame(o.queue.b, first, payload)
}

func (o *outgoing) queued() int {
	if o.queue == nil {
		return 0
	}
	return len(o.queue.b)
}

// idle reports whether nothing waits to be written.
func (o *outgoing) idle() bool {
	return o.rest == nil && o.queue == nil && len(o.pings) == 0 && len(o.pongs) == 0 && !o.large.active &&
		(o.closeFrame == nil || o.closeWritten)
}

// progressed returns a channel that is closed after the next write, and at the end.
func (o *outgoing) progressed() <-chan struct{} {
	if o.progress == nil {
		o.progress = make(chan struct{})
	}
	return o.progress
}

func (o *outgoing) signalProgress() {
	if o.progress != nil {
		close(o.progress)
		o.progress = nil
	}
}

// wakeWriter sees to it that the writer goroutine looks at what waits. Called with mu held.
func (c *Conn) wakeWriter() {
	switch o := &c.out; {
	case o.stopped:
	case !o.running:
		if o.wake == nil {
			o.wake = make(chan struct{}, 1)
		}
		o.running = true
		c.group.Go(c.writeLoop)
	case o.parked:
		o.parked = false
		o.wake <- struct{}{}
	}
}

// stopWriter ends the writing. Called with mu held.
func (c *Conn) stopWriter() {
	o := &c.out
	if o.stopped {
		return
	}
	o.stopped = true
	o.signalProgress()
	if o.parked {
		o.parked = false
		o.wake <- struct{}{}
	}
}

// writeLoop writes what waits until the connection ends, or until nothing has been sent for a while: the next message
// starts it again. It never fails the group, for what ends a connection is the reader's to say.
func (c *Conn) writeLoop() error {
	o := &c.out
	for {
		// Goroutines that are ready to run may have more to send: then it goes with the same write.
		runtime.Gosched()
		c.mu.Lock()
		for !o.stopped && !o.writing && !o.idle() {
			c.writeNext()
		}
		if o.stopped {
			c.releaseOutput()
			c.mu.Unlock()
			return nil
		}
		if o.unused && !o.writing {
			o.running = false
			c.mu.Unlock()
			return nil
		}
		o.parked = true
		c.mu.Unlock()
		<-o.wake
	}
}

// writeNext makes one write of all that can go together. Called with mu held, which it gives up while it writes.
func (c *Conn) writeNext() {
	o := &c.out
	var head, body []byte
	var control, taken *buffer
	upTo := o.messages
	closing := false
	switch {
	case o.rest != nil:
		head, taken, upTo = o.rest, o.restOf, o.restUpTo
		o.rest, o.restOf = nil, nil
	case o.large.active && o.large.frame > 0:
		// Nothing may come between the bytes of a frame.
		taken, head = o.takeLarge(nil)
		if len(o.large.data) > 0 {
			upTo--
		}
	default:
		if len(o.pings) > 0 || len(o.pongs) > 0 || o.queue == nil {
			control = getBuffer()
			control.b = append(append(control.b, o.pings...), o.pongs...)
			o.pings, o.pongs, o.waitingPongs = nil, nil, 0
			head = control.b
		}
		switch {
		case o.queue != nil:
			taken, o.queue = o.queue, nil
			if head == nil {
				head = taken.b
			} else {
				body = taken.b
			}
			if o.large.active {
				upTo--
			}
		case o.large.active:
			taken, body = o.takeLarge(control)
			head = control.b
			if len(o.large.data) > 0 {
				upTo--
			}
		case o.closeFrame != nil && !o.closeWritten:
			control.b = append(control.b, o.closeFrame...)
			head, closing = control.b, true
		}
	}
	o.writing = true
	c.admit()
	c.mu.Unlock()
	err := c.transport.write(head, body)
	c.mu.Lock()
	putBuffer(control)
	putBuffer(taken)
	o.closeWritten = o.closeWritten || closing && err == nil
	c.wrote(upTo, err)
	if o.large.active && o.large.begun && (len(o.large.data) == 0 || err != nil) {
		o.endLarge()
	}
}

// takeLarge takes what is next of the large message and returns it, in a buffer where this side masks. The header of a
// frame that begins goes behind what is in control.
func (o *outgoing) takeLarge(control *buffer) (*buffer, []byte) {
	l := &o.large
	l.begun = true
	if l.frame == 0 {
		l.frame = min(len(l.data), maxFramePayload)
		first := l.opcode
		if l.frame == len(l.data) {
			first |= finBit
		}
		l.opcode = byte(OpContinuation)
		if o.masked {
			l.key = newMaskingKey()
		}
		control.b = appendFrameHeader(control.b, first, l.frame, o.masked, l.key)
	}
	size := min(l.frame, largeChunk)
	if o.masked {
		size = min(l.frame, maskChunk)
	}
	payload := l.data[:size]
	l.data = l.data[size:]
	l.frame -= size
	if !o.masked {
		return nil, payload
	}
	masked := getBuffer()
	if cap(masked.b) < size {
		masked.b = make([]byte, 0, maskChunk)
	}
	masked.b = masked.b[:size]
	l.key = maskBytes(masked.b, payload, l.key)
	return masked, masked.b
}

// endLarge lets the sender of the large message go on.
func (o *outgoing) endLarge() {
	o.large.active = false
	o.large.done <- struct{}{}
}

// writeNow writes the queue from the goroutine of a sender, as far as that goes without waiting. Called with mu held
// where nothing but the queue waits and nobody writes; it gives mu up while it writes.
func (c *Conn) writeNow() {
	o := &c.out
	taken, upTo := o.queue, o.messages
	o.queue = nil
	o.writing = true
	c.mu.Unlock()
	n, err := c.transport.tryWrite(taken.b)
	c.mu.Lock()
	if err == nil && n < len(taken.b) {
		o.rest, o.restOf, o.restUpTo = taken.b[n:], taken, upTo
		upTo = o.written
	} else {
		putBuffer(taken)
	}
	c.wrote(upTo, err)
	c.admit()
	if !o.idle() {
		c.wakeWriter()
	}
}

// wrote takes the outcome of a write. Called with mu held.
func (c *Conn) wrote(upTo uint64, err error) {
	o := &c.out
	o.writing = false
	o.writes++
	o.pongsStuck = false
	if err == nil {
		o.written = max(o.written, upTo)
		o.signalProgress()
		return
	}
	if o.failed == nil && !o.stopped {
		o.failed = err
		// The peer may have sent a close frame before it stopped reading: the reader gets a moment to find it.
		cause := fmt.Errorf("wsd: write: %w", err)
		c.failTimer = time.AfterFunc(writeFailedGrace, func() { c.abort(cause) })
		c.refuseSends()
	}
	c.stopWriter()
	o.signalProgress()
}

// releaseOutput lets go of what will not be written. Called by the writer, with mu held, when it has been stopped.
func (c *Conn) releaseOutput() {
	o := &c.out
	o.running = false
	if o.large.active {
		o.endLarge()
	}
}
