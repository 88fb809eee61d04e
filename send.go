// send.go takes messages from callers into the queue: which sender may add to it, how many bytes, and who waits for whom.

package wsd

import (
	"container/list"
	"context"
	"fmt"
	"io"

	"github.com/seed62836080/wsd/internal/done"
)

// largePayload is the size in bytes from which a message is written from its sender's slice instead of a copy in the
// queue.
const largePayload = 32 << 10

// admission decides which sender may add to the queue. Conn.mu guards it.
type admission struct {
	turn    bool       // a sender has the queue for itself: its message takes several steps
	waiting *list.List // of *sender, first come, first served; nil before the first
	granted int        // senders that have been admitted but have not run since
	size    int        // the bytes that these will queue
}

// first returns the sender that has waited longest, nil if none waits.
func (a *admission) first() *list.Element {
	if a.waiting == nil {
		return nil
	}
	return a.waiting.Front()
}

// sender is a goroutine that waits for admission.
type sender struct {
	admitted chan struct{} // closed with granted set
	granted  bool
	turn     bool
	size     int
}

// admits reports whether a sender may be admitted.
func (o *outgoing) admits(size int, turn bool) bool {
	a := &o.admission
	if a.turn || turn && a.granted > 0 {
		return false
	}
	used := o.queued() + a.size
	return used == 0 || used+size <= o.limit
}

// admit admits the waiting senders that may now add to the queue. Called with mu held.
func (c *Conn) admit() {
	a := &c.out.admission
	for first := a.first(); first != nil; first = a.first() {
		next := first.Value.(*sender)
		if !c.out.admits(next.size, next.turn) {
			return
		}
		a.waiting.Remove(first)
		if next.turn {
			a.turn = true
		} else {
			a.granted++
			a.size += next.size
		}
		next.granted = true
		close(next.admitted)
	}
}

// enter waits until a sender may queue size bytes and, with turn, until no other sender's message is under way. It
// returns with mu held, unless there is an error.
func (c *Conn) enter(ctx context.Context, size int, turn bool) error {
	o, a := &c.out, &c.out.admission
	c.mu.Lock()
	if o.refused {
		defer c.mu.Unlock()
		return c.endErrorLocked()
	}
	if a.first() == nil && o.admits(size, turn) {
		a.turn = turn
		return nil
	}
	self := &sender{admitted: make(chan struct{}), turn: turn, size: size}
	if a.waiting == nil {
		a.waiting = list.New()
	}
	place := a.waiting.PushBack(self)
	closing := c.closes()
	c.mu.Unlock()
	select {
	case <-self.admitted:
	case <-ctx.Done():
	case <-closing:
	}
	c.mu.Lock()
	if self.granted && !turn {
		a.granted--
		a.size -= size
	}
	switch {
	case o.refused:
		defer c.mu.Unlock()
		return c.endErrorLocked()
	case self.granted:
		return nil
	}
	a.waiting.Remove(place)
	c.admit()
	c.mu.Unlock()
	return canceled("send", ctx)
}

// leave ends a turn. Called with mu held.
func (c *Conn) leave() {
	c.out.admission.turn = false
	c.admit()
}

// canceled returns the error of a call whose ctx is done. It must not be called with mu held: a context is foreign code,
// and may ask for the connection's state.
func canceled(call string, ctx context.Context) error {
	return done.Canceled(call, ctx)
}

// checkCall is the first step of every call that takes a context.
func (c *Conn) checkCall(call string, ctx context.Context) error {
	if ctx == nil {
		return ErrNilContext
	}
	if ctx.Err() == nil {
		return nil
	}
	err := canceled(call, ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.refused {
		// The context may be the connection's own: how the connection ended says more.
		return c.endErrorLocked()
	}
	return err
}

// Send queues m and returns. The message is written together with whatever else is queued by then. m.Data belongs to the
// caller again when Send returns. Send blocks while the queue is full (Config.SendQueue). A message of 32 KiB or more is
// not copied: Send blocks until it is written.
//
// If ctx is done before the message has been queued, Send has no effect and returns an error matching ctx's error and its
// cause. Only if a large message has been sent in part does a ctx that ends the wait end the connection too. From the
// moment the connection closes, Send returns an error matching ErrClosed. For a message that is neither text nor binary,
// or text that is not UTF-8, it returns an error matching ErrInvalidMessage. A nil error does not mean that the peer got
// the message: Flush tells that it was written, and only an answer tells that it was read.
func (c *Conn) Send(ctx context.Context, m Message) error {
	if err := c.checkCall("send", ctx); err != nil {
		return err
	}
	if err := checkMessage(m); err != nil {
		return err
	}
	if c.out.deflater != nil && c.out.deflater.wants(m) {
		return c.sendCompressed(ctx, m)
	}
	return c.sendPayload(ctx, byte(m.Type), m.Data, len(m.Data))
}

// sendPayload queues a message as it appears on the wire. opcode has RSV1 set if payload is compressed; size is the
// uncompressed size in bytes.
func (c *Conn) sendPayload(ctx context.Context, opcode byte, payload []byte, size int) error {
	if len(payload) >= largePayload {
		return c.sendLarge(ctx, opcode, payload, size)
	}
	if err := c.enter(ctx, len(payload)+maxFrameHeader, false); err != nil {
		return err
	}
	c.out.enqueue(finBit|opcode, payload)
	c.sent(size)
	c.mu.Unlock()
	return nil
}

func checkMessage(m Message) error {
	switch {
	case m.Type == BinaryMessage:
		return nil
	case m.Type != TextMessage:
		return fmt.Errorf("%w: type %d, expected text or binary", ErrInvalidMessage, m.Type)
	case !validUTF8(m.Data):
		return fmt.Errorf("%w: text is not UTF-8", ErrInvalidMessage)
	}
	return nil
}

// sent counts a message that has been queued, and gets it written. Called with mu held.
func (c *Conn) sent(size int) {
	o := &c.out
	o.messages++
	o.bytes += uint64(size)
	o.unused = false
	delivered := c.delivered.Load()
	answer := c.answered.Load() < delivered
	if answer && c.answered.Add(1) == delivered {
		c.answersGiven()
	}
	if o.admission.first() != nil {
		c.admit()
	}
	switch {
	case o.writing:
		// The goroutine that is writing will look again.
	case !c.transport.raw.ok() || !o.ready():
		c.wakeWriter()
	case o.large != nil:
		// Its sender has to wait for the write anyway.
		c.writeLargeNow()
	case answer && c.drained():
		// The consumer has answered everything: nothing more is about to be queued, and waking the writer would take
		// longer than writing.
		c.writeQueueNow()
	default:
		c.wakeWriter()
	}
}

// drained reports whether the consumer has taken everything that has arrived.
func (c *Conn) drained() bool { return len(c.messages) == 0 && !c.batchLeft.Load() }

// sendLarge writes a message from the caller's slice, and waits until it is written. Its parameters are those of
// sendPayload.
func (c *Conn) sendLarge(ctx context.Context, opcode byte, data []byte, size int) error {
	if err := c.enter(ctx, 0, true); err != nil {
		return err
	}
	defer c.mu.Unlock()
	defer c.leave()
	return c.writeLarge(ctx, opcode, data, size)
}

// writeLarge does what sendLarge does once it is the sender's turn. Called with mu held, which it gives up meanwhile.
func (c *Conn) writeLarge(ctx context.Context, opcode byte, data []byte, size int) error {
	o := &c.out
	if o.largeDone == nil {
		o.largeDone = make(chan struct{}, 1)
	}
	l := largeMessages.Get().(*largeMessage)
	defer l.release()
	l.opcode, l.data = opcode, data
	o.large = l
	c.sent(size)
	c.mu.Unlock()
	select {
	case <-o.largeDone:
		c.mu.Lock()
	case <-ctx.Done():
		unsent, cut := canceled("send", ctx), canceled("send of a large message", ctx)
		c.mu.Lock()
		if o.large == l && !l.begun {
			o.large = nil
			o.messages--
			o.bytes -= uint64(size)
			o.signalProgress() // a Flush may wait for this message
			return unsent
		}
		if o.large == l {
			// The frame cannot be completed without the slice, which belongs to the caller again now.
			c.mu.Unlock()
			c.abort(cut)
			c.mu.Lock()
		}
		c.mu.Unlock()
		<-o.largeDone
		c.mu.Lock()
	}
	if len(l.data) > 0 || o.written < o.messages {
		return c.endErrorLocked()
	}
	return nil
}

// sendCompressed compresses a message and queues it.
func (c *Conn) sendCompressed(ctx context.Context, m Message) error {
	d := c.out.deflater
	opcode := rsv1Bit | byte(m.Type)
	compressed := getBuffer()
	defer putBuffer(compressed)
	var err error
	if d.history == nil {
		// The message does not refer to others, so senders need not wait for each other while they compress.
		if compressed.b, err = d.deflate(compressed.b, m.Data); err != nil {
			return notCompressed(err)
		}
		return c.sendPayload(ctx, opcode, compressed.b, len(m.Data))
	}
	// The message refers to those before it: taking a turn makes the order of compressing that of sending. A payload that
	// is not copied into the queue needs no room there.
	if err := c.enter(ctx, min(len(m.Data), largePayload)+maxFrameHeader, true); err != nil {
		return err
	}
	c.mu.Unlock()
	compressed.b, err = d.compress(compressed.b, m.Data)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.leave()
	switch {
	case err != nil:
		err = notCompressed(err)
	case c.out.refused:
		err = c.endErrorLocked()
	case len(compressed.b) >= largePayload:
		err = c.writeLarge(ctx, opcode, compressed.b, len(m.Data))
	default:
		c.out.enqueue(finBit|opcode, compressed.b)
		c.sent(len(m.Data))
	}
	if err != nil {
		d.forget()
		return err
	}
	d.remember(m.Data)
	return nil
}

func notCompressed(err error) error { return &causeError{"compressing a message", err} }

// Flush waits until everything queued before the call has been written to the transport. If ctx is done before that, it
// returns an error matching ctx's error and its cause; if the connection ends before that, one matching ErrClosed.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.checkCall("flush", ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	var over error
	for upTo := o.messages; o.written < upTo; upTo = min(upTo, o.messages) {
		switch {
		case o.stopped:
			return c.endErrorLocked()
		case over != nil:
			return over
		}
		over = c.awaitProgress("flush", ctx)
	}
	return nil
}

// awaitProgress waits for a write or the end, or returns the error of a call whose ctx is done. What the caller waits for
// may have happened at the same time, and so may the end, as ctx may be the connection's own: the caller checks for both
// before it returns the error. Called with mu held, which it releases meanwhile.
func (c *Conn) awaitProgress(call string, ctx context.Context) error {
	progress := c.out.progressed()
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-progress:
		return nil
	case <-ctx.Done():
		return canceled(call, ctx)
	}
}

// Writer returns a writer for one message that is produced piece by piece. Each Write sends its bytes in fragments of up
// to 32 KiB, and Close sends the last, empty one (RFC 6455, section 5.4); wrap the writer in a bufio.Writer if the pieces
// are tiny. The message is not compressed.
//
// From the first Write to Close, the message has the connection's queue to itself: other senders wait, control frames do
// not. A Send by the same goroutine before Close would therefore wait for itself. Every message must be ended, by Close
// or by ctx, which bounds the whole message. If ctx is done in the middle of the message, the connection is closed with
// StatusInternalError, because the message cannot be completed. That is how to abandon a message whose source has failed:
// Close would deliver what has been written as if it were all of it.
//
// Write and Close block while the queue is full. Their errors match ctx's error and its cause if ctx was done before the
// first Write, and ErrClosed if the connection closes. A Write that makes a text invalid UTF-8 sends nothing and returns
// an error matching ErrInvalidMessage. So does a Close inside a character, which also closes the connection as a done ctx
// does. The writer must be used by one goroutine at a time.
func (c *Conn) Writer(ctx context.Context, t MessageType) io.WriteCloser {
	w := &messageWriter{conn: c, ctx: ctx, opcode: byte(t), text: t == TextMessage}
	if ctx == nil {
		w.err = ErrNilContext
	} else if t != TextMessage && t != BinaryMessage {
		w.err = fmt.Errorf("%w: type %d, expected text or binary", ErrInvalidMessage, t)
	}
	return w
}

// messageWriter writes one fragmented message.
type messageWriter struct {
	conn     *Conn
	ctx      context.Context
	unwatch  func() bool // ends the watch over ctx, nil before the first frame
	err      error       // returned by every further call
	opcode   byte        // of the next frame
	utf8     utf8State
	size     int
	text     bool
	complete bool // the last frame has been queued; conn.mu guards it
}

// Write sends p as a fragment.
func (w *messageWriter) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.text {
		state := w.utf8.check(p)
		if state == utf8Reject {
			return 0, fmt.Errorf("%w: text is not UTF-8 at byte %d or later", ErrInvalidMessage, w.size)
		}
		w.utf8 = state
	}
	for len(p) > 0 {
		piece := p[:min(len(p), largePayload)]
		if w.err = w.frame(0, piece); w.err != nil {
			w.release()
			return n, w.err
		}
		n += len(piece)
		p = p[len(piece):]
	}
	return n, nil
}

// Close sends the last fragment and lets other senders continue.
func (w *messageWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	defer w.release()
	if w.utf8 != utf8Accept {
		w.err = fmt.Errorf("%w: text ends inside a character", ErrInvalidMessage)
		w.abandon(w.err)
		return w.err
	}
	if w.err = w.frame(finBit, nil); w.err != nil {
		return w.err
	}
	w.err = &causeError{"write to a message that is complete", io.ErrClosedPipe}
	return nil
}

// release lets go of the context, which may live on for a long time.
func (w *messageWriter) release() {
	if w.unwatch != nil {
		w.unwatch()
	}
}

// frame queues one frame of the message.
func (w *messageWriter) frame(fin byte, payload []byte) error {
	c := w.conn
	if w.unwatch == nil {
		if err := c.checkCall("writer", w.ctx); err != nil {
			return err
		}
		// Wait for room for the frame here: once ctx is watched, its end during a wait would end the connection.
		if err := c.enter(w.ctx, len(payload)+maxFrameHeader, true); err != nil {
			return err
		}
		c.mu.Unlock()
		w.unwatch = context.AfterFunc(w.ctx, func() { w.abandon(done.Why(w.ctx)) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	for !o.refused && o.queued() > 0 && o.queued()+len(payload)+maxFrameHeader > o.limit {
		progress := o.progressed()
		c.mu.Unlock()
		<-progress // when ctx is done the connection is closed, which counts as progress
		c.mu.Lock()
	}
	if o.refused {
		return c.endErrorLocked()
	}
	o.enqueue(fin|w.opcode, payload)
	w.opcode = byte(OpContinuation)
	w.size += len(payload)
	if fin == 0 {
		c.wakeWriter()
		return nil
	}
	// Count it before the writer can take the frame, so that Flush knows when it was written.
	w.complete = true
	c.sent(w.size)
	c.leave()
	return nil
}

// abandon closes the connection if the message is not complete, since the peer would wait for the rest of it.
func (w *messageWriter) abandon(cause error) {
	c := w.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.complete && !c.out.refused {
		const reason = "a message could not be completed"
		c.setCause(&causeError{reason, cause}, StatusInternalError, reason)
		c.queueClose(StatusInternalError, reason)
	}
}
