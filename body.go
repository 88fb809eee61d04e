// body.go is a streamed message between the reader, which receives it, and whoever reads it: how much of it waits, how long
// it may be left alone, and what its reader is told at the end.

package wsd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/parts"
)

// Body returns the message as a stream of bytes, an io.WriterTo too. A streamed message has one Body; of a whole one, each
// call returns a new reader of Data. The error at the end of the message is io.EOF; if the connection ends before, it matches
// ErrClosed, the cause and io.ErrUnexpectedEOF. Close drops the rest. Text is UTF-8, but reads may cut characters.
//
// Until a streamed Body has been read to its end or closed, the connection delivers nothing further, and may not see the
// answer to a Ping either (Config.BodyTimeout).
func (m Message) Body() io.ReadCloser {
	if m.stream != nil {
		return streamedBody{m.stream}
	}
	return &wholeBody{data: m.Data}
}

// Decode decodes the message as JSON into v. It reads the Body of a streamed message to its end, and closes it. The error is
// that of encoding/json or of the Body.
func (m Message) Decode(v any) error {
	data := m.Data
	if m.stream != nil {
		body := m.Body()
		defer body.Close()
		var err error
		if data, err = io.ReadAll(body); err != nil {
			return err
		}
	}
	return json.Unmarshal(data, v)
}

// String returns Data as a string, whatever the type, or the rest of a streamed message, which it reads to its end and closes.
// What an error cuts off is missing: use Body where that matters.
func (m Message) String() string {
	if m.stream == nil {
		return string(m.Data)
	}
	defer m.stream.Close()
	var text strings.Builder
	_, _ = streamedBody{m.stream}.WriteTo(&text)
	return text.String()
}

// errBodyClosed is returned by a Read after Close.
var errBodyClosed = &causeError{"read of a message's Body after its Close", io.ErrClosedPipe}

// streamedBody reads what has come of a message.
type streamedBody struct{ pipe *parts.Pipe }

func (b streamedBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.pipe.Read(p, nil)
	return n, bodyError(err)
}

// WriteTo writes each part as it comes. What w does not take is lost.
func (b streamedBody) WriteTo(w io.Writer) (total int64, err error) {
	for {
		part, err := b.pipe.Take()
		if err == parts.ErrEnd {
			return total, nil
		}
		if err != nil {
			return total, bodyError(err)
		}
		n, err := w.Write(part)
		if err == nil && n < len(part) {
			err = io.ErrShortWrite
		}
		bufpool.Put(part)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

func (b streamedBody) Close() error {
	b.pipe.Close()
	return nil
}

// bodyError returns an error of a pipe in the words of a Body.
func bodyError(err error) error {
	switch err {
	case parts.ErrEnd:
		return io.EOF
	case parts.ErrClosed:
		return errBodyClosed
	}
	return err
}

// wholeBody reads a message that is there.
type wholeBody struct {
	mu     sync.Mutex // guards all below
	data   []byte     // what has not been read
	closed bool
}

// take returns up to n bytes that have not been read, or why there are none.
func (b *wholeBody) take(n int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, errBodyClosed
	case len(b.data) == 0:
		return nil, io.EOF
	}
	taken := b.data[:min(n, len(b.data))]
	b.data = b.data[len(taken):]
	return taken, nil
}

func (b *wholeBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	taken, err := b.take(len(p))
	return copy(p, taken), err
}

func (b *wholeBody) WriteTo(w io.Writer) (int64, error) {
	taken, err := b.take(math.MaxInt)
	if err != nil {
		if err == io.EOF {
			err = nil
		}
		return 0, err
	}
	n, err := w.Write(taken)
	if err == nil && n < len(taken) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

func (b *wholeBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data, b.closed = nil, true
	return nil
}

// cutError is the error of a Body whose connection ended before the message did. It matches what the end's cause does, but
// for io.EOF, with which a transport may have ended: the message has not been read to its end.
type cutError struct{ cause error }

func (e *cutError) Error() string { return "wsd: message cut short: " + done.Plain(e.cause) }
func (e *cutError) Is(target error) bool {
	return target == io.ErrUnexpectedEOF || target != io.EOF && errors.Is(e.cause, target)
}
func (e *cutError) As(target any) bool { return errors.As(e.cause, target) }

// sendStreamed passes a streamed message on while it arrives.
func (c *Conn) sendStreamed(ctx context.Context, m *Message) error {
	defer m.stream.Close()
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	// An end of ctx or of this connection is not to wait for the peer that sends the body.
	defer context.AfterFunc(ctx, m.stream.Close)()
	defer context.AfterFunc(c.Context(), m.stream.Close)()
	w := c.Writer(ctx, m.Type, &WriterOptions{Compress: m.Compress}).(*messageWriter)
	_, err := streamedBody{m.stream}.WriteTo(w)
	switch {
	case err == nil:
		return w.Close()
	case ctx.Err() != nil:
		return canceled("send", ctx)
	case err == error(errBodyClosed) && c.queue.isRefused():
		return c.ending.err()
	}
	abandon(err) // closes this connection, as the message cannot be completed
	if w.unwatch != nil {
		<-c.queue.refusalChannel() // a Close that follows is not to be ahead of that
	}
	return err
}

// bodies is what the reader knows of streamed messages.
type bodies struct {
	within time.Duration            // BodyTimeout, 0 for none
	last   atomic.Pointer[incoming] // the one that was delivered last; nil once its end is known to be read
	number atomic.Uint64            // with an Inbox, which delivery it is; 0 until it has gone into the channel
}

// newBodies returns nil if no message is streamed.
func newBodies(cfg *Config) *bodies {
	if cfg.StreamAbove <= 0 {
		return nil
	}
	return &bodies{within: durationOr(cfg.BodyTimeout, defaultBodyTimeout)}
}

// unread returns the streamed message behind which nothing can be delivered until its end is read, nil if there is none.
func (b *bodies) unread() *incoming {
	if b == nil {
		return nil
	}
	return b.last.Load()
}

// incoming is the reader's side of the streamed message that was delivered last.
type incoming struct {
	pipe    *parts.Pipe
	ahead   func() bool   // whether another message is ahead of it in Messages
	expired func()        // called if it is left alone for too long
	within  time.Duration // BodyTimeout, 0 for none

	touched atomic.Int64 // on clock: when it was last read, or known to have another message ahead of it
	mu      sync.Mutex   // guards timer
	timer   *time.Timer  // nil unless it is watched
}

// aheadLooks is how often, within BodyTimeout, a watch looks whether another message is still ahead in Messages, as nothing
// tells when that has been taken.
const aheadLooks = 16

func (in *incoming) touch() { in.touched.Store(int64(clock.Now())) }

// watch begins to count the time for which the body is left alone.
func (in *incoming) watch() {
	if in.within == 0 {
		return
	}
	in.touch()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.timer = time.AfterFunc(in.pause(in.within), in.look)
}

// pause returns when to look again if left is what is left of the time.
func (in *incoming) pause(left time.Duration) time.Duration {
	if in.ahead() {
		return min(left, max(in.within/aheadLooks, time.Millisecond))
	}
	return left
}

// look runs on the timer.
func (in *incoming) look() {
	if in.pipe.Finished() {
		return
	}
	if in.ahead() || in.pipe.Waiting() {
		in.touch()
	}
	left := time.Duration(in.touched.Load()) + in.within - clock.Now()
	if left <= 0 {
		in.expired()
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.timer != nil {
		in.timer.Reset(in.pause(left))
	}
}

// stop ends the watch.
func (in *incoming) stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.timer != nil {
		in.timer.Stop()
		in.timer = nil
	}
}

// deliverPart passes on a part of a streamed message, and delivers the message with the first one.
func (r *reader) deliverPart(event Event) error {
	r.dataRead.Add(uint64(len(event.Data)))
	if event.Part == FirstPart {
		return r.deliverFirst(event)
	}
	in := r.bodies.unread()
	if in == nil || r.discarding {
		bufpool.Put(event.Data)
		return nil
	}
	in.pipe.Add(event.Data, event.Part == LastPart)
	r.messageAt = clock.Now()
	if event.Part != LastPart && in.pipe.Full() {
		return r.awaitBody(func() bool { return !in.pipe.Full() })
	}
	return nil
}

// deliverFirst delivers a streamed message of which the first part has come.
func (r *reader) deliverFirst(event Event) error {
	in := &incoming{ahead: r.bodyAhead(), within: r.bodies.within}
	in.pipe = parts.NewPipe(in.touch)
	in.expired = func() { r.bodyExpired(in.pipe) }
	in.pipe.Add(event.Data, false)
	if err := r.awaitBodyEnd(); err != nil {
		in.pipe.Close()
		return err
	}
	before := r.bodies.unread() // nil, unless nothing is delivered any more
	r.bodies.last.Store(in)     // ahead of the consumer, who may look for it at once
	delivered, err := r.deliverNext(Message{Type: MessageType(event.Opcode), stream: in.pipe})
	if !delivered {
		r.bodies.last.Store(before)
		in.pipe.Close()
		return err
	}
	in.watch()
	return err
}

// awaitBody waits until the streamed message has been read as far as enough says, or this side closes: then the rest is
// discarded. Under CloseSlow it returns ErrSlowConsumer if a message ahead in Messages is not received for StallTimeout.
func (r *reader) awaitBody(enough func() bool) error {
	body := r.bodies.unread()
	refusal := r.conn.queue.refusalChannel()
	r.stalled.Store(true)
	defer r.stalled.Store(false)
	r.stallSeen.Store(true)
	patience := r.newPatience()
	defer patience.stop()
	for consumed := r.consumed(); !enough(); {
		select {
		case <-body.pipe.Room():
		case <-refusal:
			r.discarding = true
			return nil
		case <-patience.over:
			until := clock.Now()
			if now := r.consumed(); now != consumed || !body.ahead() {
				consumed, until = now, until+patience.within
			}
			if patience.ended(until) {
				return ErrSlowConsumer
			}
		}
	}
	return nil
}

// consumed returns how many messages have been received, of all connections if they share an Inbox.
func (r *reader) consumed() uint64 {
	c := r.conn
	if c.settings.inbox != nil {
		return c.settings.inbox.received()
	}
	return c.queue.delivered() - uint64(len(c.messages))
}

// awaitBodyEnd waits until the streamed message has been read to its end or closed: until then nothing follows it.
func (r *reader) awaitBodyEnd() error {
	c := r.conn
	body := r.bodies.unread()
	if body == nil {
		return nil
	}
	if !body.pipe.Finished() {
		begun := c.settings.trace.stallBegun(c)
		err := r.awaitBody(body.pipe.Finished)
		c.settings.trace.stallEnded(c, begun)
		if err != nil {
			return err
		}
	}
	if !r.discarding {
		body.stop()
		r.bodies.last.Store(nil)
	}
	return nil
}

// bodyExpired closes the connection because nobody reads a streamed message.
func (r *reader) bodyExpired(pipe *parts.Pipe) {
	c := r.conn
	if c.ending.state() != StateOpen {
		return // and what has come can still be read
	}
	const reason = "a message is not being read"
	c.ending.fail(CloseEvent{Code: StatusTryAgainLater, Reason: reason, Err: ErrBodyTimeout, Local: true})
	pipe.Fail(&cutError{c.ending.err()})
	c.ending.queueClose(StatusTryAgainLater, reason, nil)
}

// bodyAhead returns what tells whether another message is ahead of the streamed one that is delivered next.
func (r *reader) bodyAhead() func() bool {
	c := r.conn
	if c.settings.inbox != nil {
		number := &r.bodies.number
		number.Store(0)
		return func() bool {
			own := number.Load()
			return own == 0 || c.settings.inbox.received()+1 < own
		}
	}
	return func() bool { return len(c.messages) > 1 }
}

// endDelivery tells the consumer, once the cause is stored, that nothing more comes.
func (r *reader) endDelivery() {
	r.closeMessages()
	if body := r.bodies.unread(); body != nil {
		body.stop()
		body.pipe.Fail(&cutError{r.conn.ending.err()})
	}
}
