// writer.go is the way out: what waits to be written, and the goroutine that writes it in as few calls as possible.

package wsd

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/netio"
)

const (
	// maxFramePayload is the maximum payload of a data frame, in bytes, so that control frames never wait behind
	// megabytes.
	maxFramePayload = 1 << 20
	// firstBuffer is the initial size of buffers in bytes, and keepBuffer the largest size that goes back to the pool.
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

// outgoing is everything that waits to be written, and who writes it. Conn.mu guards it.
type outgoing struct {
	limit    int // of queue, in bytes
	deflater *deflater

	// These are in the order in which they are written. Control frames go between frames, ahead of the data that waits.
	rest       *leftover      // nil if there is none
	control    *controlFrames // nil if there are none
	queue      *buffer        // data frames, nil if there are none
	large      *largeMessage  // the one message that is written from its sender's slice, nil if there is none
	closeFrame []byte         // nil until this side closes; nothing follows it

	admission admission
	largeDone chan struct{} // has room for the one value that the sender of the large message waits for
	wake      chan struct{} // has room for the one value that wakes a sleeping writer
	progress  chan struct{} // made when somebody waits, closed around every write and at the end
	failed    *causeError   // the failed write that is the cause of the end, unless the reader finds another

	masked       bool // this side masks
	refused      bool // no more messages are taken
	stopped      bool // nothing more is written
	closeWritten bool
	writing      bool // a write is under way, with mu released
	running      bool // the writer goroutine exists
	asleep       bool // it waits for wake
	unused       bool // nothing has been sent since the keepalive looked: the writer need not stay

	messages, bytes uint64 // taken
	written         uint64 // of messages
	writes          uint64
	coalesced       uint64 // pongs that were not sent
}

// leftover is what a non-blocking write left unwritten, in the middle of a frame.
type leftover struct {
	bytes []byte
	of    *buffer // the buffer that bytes is part of
	upTo  uint64  // the value of outgoing.written once it is written
}

// controlFrames holds the pings and pongs that wait.
type controlFrames struct {
	pings, pongs []byte
	pongCount    uint64
}

// largeMessage is a message that its sender, which has the turn, waits for.
type largeMessage struct {
	begun  bool   // part of it has been taken to be written
	opcode byte   // of the next frame, with RSV1 if it is set
	data   []byte // what has not been written
	frame  int    // how many bytes of data belong to a frame whose header has been written
	key    uint32 // the masking key of that frame, rotated
}

var largeMessages = sync.Pool{New: func() any { return new(largeMessage) }}

// release returns l to the pool, without the slice, which belongs to the sender again.
func (l *largeMessage) release() {
	*l = largeMessage{}
	largeMessages.Put(l)
}

func (o *outgoing) init(role Role, cfg *Config) {
	o.masked = role == ClientRole
	o.limit = int(min(limitOr(cfg.SendQueue, defaultSendQueue), math.MaxInt))
	o.deflater = newDeflater(role, cfg.Compression)
}

// appendFrame appends a frame to dst, masked if this side masks. first is the first byte of its header.
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

// controls returns the control frames that wait, so that more can be added.
func (o *outgoing) controls() *controlFrames {
	if o.control == nil {
		o.control = new(controlFrames)
	}
	return o.control
}

// pingBytes and pongBytes are the lengths in bytes of the pings and pongs that wait.
func (o *outgoing) pingBytes() int {
	if o.control == nil {
		return 0
	}
	return len(o.control.pings)
}

func (o *outgoing) pongBytes() int {
	if o.control == nil {
		return 0
	}
	return len(o.control.pongs)
}

// idle reports whether nothing waits to be written.
func (o *outgoing) idle() bool {
	return o.rest == nil && o.control == nil && o.queue == nil && o.large == nil &&
		(o.closeFrame == nil || o.closeWritten)
}

// progressed returns a channel that is closed the next time something is taken to be written or has been written, or at
// the end.
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

// wakeWriter makes the writer goroutine look at what waits. Called with mu held.
func (c *Conn) wakeWriter() {
	switch o := &c.out; {
	case o.stopped:
	case !o.running:
		if o.wake == nil {
			o.wake = make(chan struct{}, 1)
		}
		o.running = true
		c.group.Go(c.writeLoop)
	case o.asleep:
		o.asleep = false
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
	if o.asleep {
		o.asleep = false
		o.wake <- struct{}{}
	}
}

// writeLoop writes what waits until the connection ends, or until nothing has been sent for a while; the next message
// then starts it again. It never fails the group, as it is for the reader to say what ended the connection.
func (c *Conn) writeLoop() error {
	o := &c.out
	for {
		// Goroutines that are ready to run may have more to send, which then goes with the same write.
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
		o.asleep = true
		c.mu.Unlock()
		<-o.wake
	}
}

// batch is what goes with one write: head followed by body.
type batch struct {
	head, body []byte
	lent       [2]*buffer // the buffers they are part of, nil for the slice of a large message's sender
	upTo       uint64     // the value of outgoing.written once it is written
	closing    bool       // the close frame is in it
}

// next takes what to write next. Something must be waiting.
func (o *outgoing) next() batch {
	b := batch{upTo: o.messages}
	if o.large != nil {
		b.upTo--
	}
	inFrame := o.large != nil && o.large.frame > 0 // nothing may come between the bytes of a frame
	control := !inFrame && o.control != nil
	switch {
	case o.rest != nil:
		b.head, b.lent[0], b.upTo = o.rest.bytes, o.rest.of, o.rest.upTo
		o.rest = nil
		return b
	case o.queue != nil && !control:
		b.head, b.lent[0] = o.queue.b, o.queue
		o.queue = nil
		return b
	}
	head := getBuffer()
	if control {
		head.b = append(append(head.b, o.control.pings...), o.control.pongs...)
		o.control = nil
	}
	switch {
	case o.queue != nil:
		b.body, b.lent[1] = o.queue.b, o.queue
		o.queue = nil
	case o.large != nil:
		b.body = o.takeLarge(head)
		if len(o.large.data) == 0 {
			b.upTo = o.messages
		}
	case o.closeFrame != nil && !o.closeWritten:
		head.b = append(head.b, o.closeFrame...)
		b.closing = true
	}
	b.head, b.lent[0] = head.b, head
	return b
}

// takeLarge takes the next piece of the large message. If a frame begins, its header is appended to head. If this side
// masks, the bytes are appended to head too; otherwise they are returned.
func (o *outgoing) takeLarge(head *buffer) []byte {
	l := o.large
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
		head.b = appendFrameHeader(head.b, first, l.frame, o.masked, l.key)
	}
	size := min(l.frame, netio.PieceSize)
	payload := l.data[:size]
	l.data = l.data[size:]
	l.frame -= size
	if !o.masked {
		return payload
	}
	start := len(head.b)
	head.b = slices.Grow(head.b, size)[:start+size]
	l.key = maskBytes(head.b[start:], payload, l.key)
	return nil
}

// putBack takes back what is left of a batch from the queue or the large message, n bytes of which were written.
func (o *outgoing) putBack(b *batch, n int) {
	if n < len(b.head) {
		o.rest = &leftover{b.head[n:], b.lent[0], b.upTo}
		b.lent[0] = nil
	}
	if written := max(n-len(b.head), 0); written < len(b.body) {
		o.large.frame += len(b.body) - written
		o.large.data = b.body[written : len(b.body)+len(o.large.data)]
		if o.rest != nil {
			o.rest.upTo = o.messages - 1
		}
	}
}

// writeNext makes one write of everything that can go together. Called by the writer with mu held, which it releases
// while it writes.
func (c *Conn) writeNext() {
	b := c.out.next()
	c.out.writing = true
	c.admit()
	c.out.signalProgress() // what has been taken has left room
	c.mu.Unlock()
	err := c.transport.Write(b.head, b.body)
	c.mu.Lock()
	putBuffer(b.lent[0])
	putBuffer(b.lent[1])
	c.out.closeWritten = c.out.closeWritten || b.closing && err == nil
	c.wrote(b.upTo, err)
}

// writeQueueNow writes the queue from the goroutine of a sender, as far as possible without waiting. Called with mu held,
// when the output is ready and no large message waits; it releases mu while it writes. It runs on the handler's stack,
// which is small.
func (c *Conn) writeQueueNow() {
	o := &c.out
	taken, upTo := o.queue, o.messages
	o.queue, o.writing = nil, true
	c.mu.Unlock()
	n, err := c.transport.TryWrite(taken.b, nil)
	c.mu.Lock()
	if err == nil && n < len(taken.b) {
		o.rest = &leftover{taken.b[n:], taken, upTo}
		upTo = o.written
	} else {
		putBuffer(taken)
	}
	c.wrote(upTo, err)
	c.leaveToWriter()
}

// writeLargeNow does the same when a large message waits, and continues until that is written or would have to wait.
func (c *Conn) writeLargeNow() {
	o := &c.out
	for o.large != nil && o.ready() {
		b := o.next()
		o.writing = true
		c.mu.Unlock()
		n, err := c.transport.TryWrite(b.head, b.body)
		c.mu.Lock()
		partial := err == nil && n < len(b.head)+len(b.body)
		if partial {
			o.putBack(&b, n)
			b.upTo = o.written
		}
		putBuffer(b.lent[0])
		c.wrote(b.upTo, err)
		if partial {
			break
		}
	}
	c.leaveToWriter()
}

// leaveToWriter ends writing by a sender. Called with mu held.
func (c *Conn) leaveToWriter() {
	o := &c.out
	c.admit()
	if !o.idle() {
		c.wakeWriter()
	}
	if o.stopped && o.large != nil {
		o.endLarge()
	}
}

// ready reports whether a sender may write itself: no write is under way or about to begin, and nothing waits other than
// the queue and the large message.
func (o *outgoing) ready() bool {
	return !o.writing && (o.asleep || !o.running) && !o.stopped && o.rest == nil && o.control == nil &&
		o.closeFrame == nil
}

// wrote records the outcome of a write that, if it succeeded, sets written to upTo. Called with mu held.
func (c *Conn) wrote(upTo uint64, err error) {
	o := &c.out
	o.writing = false
	o.writes++
	c.pongsStuck = false
	switch {
	case err == nil:
		o.written = max(o.written, upTo)
	case o.failed == nil && !o.stopped:
		cause := &causeError{"write", err}
		o.failed = cause
		// The peer may have sent a close frame before it stopped reading: the reader gets a moment to find it.
		c.failTimer = time.AfterFunc(writeFailedGrace, func() { c.abort(cause) })
		c.refuseSends()
	}
	if err != nil {
		c.stopWriter()
	}
	if o.large != nil && o.large.begun && (err != nil || len(o.large.data) == 0 && o.rest == nil) {
		o.endLarge()
	}
	o.signalProgress()
}

// endLarge lets the sender of the large message continue.
func (o *outgoing) endLarge() {
	o.large = nil
	o.largeDone <- struct{}{}
}

// releaseOutput releases what will not be written. Called by the writer, with mu held, when it has been stopped.
func (c *Conn) releaseOutput() {
	o := &c.out
	o.running = false
	// A sender that is writing may be using another sender's slice, and then releases that sender itself.
	if o.large != nil && !o.writing {
		o.endLarge()
	}
}
