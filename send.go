// send.go takes messages from callers to the queue, of one connection or of many: what they may be, how they are compressed,
// and who writes.

package wsd

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/seed62836080/wsd/internal/backlog"
	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/textcheck"
)

// largePayload is the size in bytes from which a message is written from its sender's slice instead of a copy in the
// queue.
const largePayload = 32 << 10

// checkCall is the first step of every call that takes a context.
func (c *Conn) checkCall(call string, ctx context.Context) error {
	if ctx == nil {
		return ErrNilContext
	}
	if ctx.Err() == nil {
		return nil
	}
	err := canceled(call, ctx)
	if c.queue.isRefused() {
		// The context may be the connection's own: how the connection ended says more.
		return c.ending.err()
	}
	return err
}

// callError returns the error of a call that the queue has refused or whose context is done.
func (c *Conn) callError(err error) error {
	if err == errRefused {
		return c.ending.err()
	}
	return err
}

// Send queues m, to be written with whatever else is queued, and returns. It blocks while the queue is full
// (Config.SendQueue). A message of 32 KiB or more is not copied: Send blocks until it is written. A streamed one is passed
// on as its Body arrives, and closed.
//
// If ctx is done before the message has been queued, Send has no effect. If it is done while a large message is being
// written, the connection ends. Errors may match ErrInvalidMessage, and ErrClosed. A nil error does not
// mean that the peer got the message: only its answer does.
func (c *Conn) Send(ctx context.Context, m Message) error {
	if err := c.checkCall("send", ctx); err != nil {
		return err
	}
	if m.stream != nil {
		return c.sendStreamed(ctx, &m)
	}
	if err := checkMessage(&m); err != nil {
		return err
	}
	if c.deflater != nil && c.deflater.wants(&m) {
		return c.sendCompressed(ctx, &m)
	}
	return c.sendPayload(ctx, &outgoing{opcode: byte(m.Type), payload: m.Data, size: len(m.Data)})
}

func checkMessage(m *Message) error {
	switch {
	case m.stream != nil:
		return fmt.Errorf("%w: a streamed message arrives while it is sent, which only Send can wait for", ErrInvalidMessage)
	case m.Type == BinaryMessage:
		return nil
	case m.Type != TextMessage:
		return fmt.Errorf("%w: type %d, expected text or binary", ErrInvalidMessage, m.Type)
	case !textcheck.Valid(m.Data):
		return fmt.Errorf("%w: text is not UTF-8", ErrInvalidMessage)
	}
	return nil
}

// sendPayload queues a message as it appears on the wire.
func (c *Conn) sendPayload(ctx context.Context, o *outgoing) error {
	if len(o.payload) >= largePayload && !o.share {
		return c.sendLarge(ctx, o)
	}
	c.askPrompt(o)
	writeTo, err := c.queue.add(ctx, o)
	err = c.finishSend(writeTo, err)
	if c.settings.trace != nil {
		c.settings.trace.tried(c, o, err)
	}
	return err
}

// askPrompt notes in o whether the consumer has taken all that has arrived: if o is an answer, nothing more is about to be sent
// then. How many messages wait is looked at only if it is one: a broadcast would wait for the memory of each connection.
func (c *Conn) askPrompt(o *outgoing) {
	o.prompt = !c.queue.moreToAnswer()
	if inbox := c.settings.inbox; inbox != nil {
		inbox.help()
		o.prompt = o.prompt && inbox.idle()
		return
	}
	o.waiting = c.messages
}

// finishSend completes a call that has added a message to the queue, and writes if that is the sender's to do.
func (c *Conn) finishSend(writeTo uint64, err error) error {
	if err != nil {
		return c.callError(err)
	}
	switch writeTo {
	case 0:
	case handOver:
		forMany.add(c)
	default:
		c.write(writeTo)
	}
	return nil
}

// sendLarge writes a message from the caller's slice, and waits until it is written.
func (c *Conn) sendLarge(ctx context.Context, o *outgoing) (err error) {
	if err := c.queue.enter(ctx, 0, needTurn); err != nil {
		return c.callError(err)
	}
	defer func() {
		c.queue.leave()
		c.settings.trace.tried(c, o, err)
	}()
	return c.sendInTurn(ctx, o)
}

// sendInTurn queues the message of the sender whose turn it is, and waits until a large one is written.
func (c *Conn) sendInTurn(ctx context.Context, o *outgoing) error {
	if len(o.payload) < largePayload {
		c.askPrompt(o)
		writeTo, err := c.queue.addInTurn(o)
		return c.finishSend(writeTo, err)
	}
	number, writeTo, err := c.queue.addAwaited(o)
	if err = c.finishSend(writeTo, err); err != nil {
		return err
	}
	cut := func() { c.ending.abort(canceled("send of a large message", ctx)) }
	return c.callError(c.queue.awaitWritten(ctx, number, o.size, cut))
}

// sendCompressed compresses a message and queues it.
func (c *Conn) sendCompressed(ctx context.Context, m *Message) (err error) {
	d := c.deflater
	o := outgoing{opcode: rsv1Bit | byte(m.Type), size: len(m.Data)}
	compressed := bufpool.Get(firstBuffer)
	defer func() { bufpool.Put(compressed) }()
	if !d.Takeover() {
		// The message does not refer to others, so senders need not wait for each other while they compress.
		if compressed, err = d.Compress(compressed, m.Data); err != nil {
			return err
		}
		o.payload = compressed
		return c.sendPayload(ctx, &o)
	}
	// The message refers to those before it: taking a turn makes the order of compressing that of sending. A payload that
	// is not copied into the queue needs no room there.
	if err := c.queue.enter(ctx, min(len(m.Data), largePayload)+maxFrameHeader, needTurnToCompress); err != nil {
		return c.callError(err)
	}
	defer func() {
		c.queue.leave()
		c.settings.trace.tried(c, &o, err)
	}()
	if compressed, err = d.Compress(compressed, m.Data); err == nil {
		o.payload = compressed
		err = c.sendInTurn(ctx, &o)
	}
	return d.Settle(m.Data, err)
}

// SendJSON sends v, encoded as JSON, in a text message. The error is that of encoding/json, or that of Send.
func (c *Conn) SendJSON(ctx context.Context, v any) error {
	m, err := JSON(v)
	if err != nil {
		return err
	}
	return c.Send(ctx, m)
}

// TrySend queues m at once, whatever its size, or returns an error matching ErrQueueFull. It never waits for the network: it
// copies m, and one that is larger than Config.SendQueue is taken by an empty queue only. While another sender waits for
// room, or a Writer or a large message is under way, the queue counts as full. NotifyRoom tells when to try again. Other
// errors are those of Send.
func (c *Conn) TrySend(m Message) error {
	if err := checkMessage(&m); err != nil {
		return err
	}
	if c.deflater == nil || !c.deflater.wants(&m) {
		return c.trySendPayload(&outgoing{opcode: byte(m.Type), payload: m.Data, size: len(m.Data)})
	}
	return c.trySendCompressed(&m)
}

func (c *Conn) trySendPayload(o *outgoing) error {
	if len(o.payload) < largePayload || o.share {
		c.askPrompt(o)
		writeTo, err := c.queue.tryAdd(o)
		err = c.finishSend(writeTo, err)
		if c.settings.trace != nil {
			c.settings.trace.tried(c, o, err)
		}
		return err
	}
	err := c.queue.hasRoom(o.room())
	if err == nil {
		o.payload = append(bufpool.Get(len(o.payload)), o.payload...) // not under the queue's lock
		err = c.trySendLoan(o, false)
	}
	c.settings.trace.tried(c, o, err)
	return c.callError(err)
}

// trySendLoan queues a message whose payload is a loan, and gives the loan back unless the queue keeps it. inTurn says that it
// is this sender's turn.
func (c *Conn) trySendLoan(o *outgoing, inTurn bool) error {
	c.askPrompt(o)
	o.loan = len(o.payload) >= largePayload
	var writeTo uint64
	var err error
	if inTurn {
		writeTo, err = c.queue.tryAddInTurn(o)
	} else {
		writeTo, err = c.queue.tryAdd(o)
	}
	if err != nil || !o.loan {
		defer bufpool.Put(o.payload)
	}
	return c.finishSend(writeTo, err)
}

// trySendCompressed compresses a message and queues it, if there is room.
func (c *Conn) trySendCompressed(m *Message) (err error) {
	d := c.deflater
	o := outgoing{opcode: rsv1Bit | byte(m.Type), size: len(m.Data)}
	room := min(len(m.Data), largePayload) + maxFrameHeader
	defer func() { c.settings.trace.tried(c, &o, err) }() // behind the turn
	if !d.Takeover() {
		if err = c.queue.hasRoom(room); err != nil {
			return c.callError(err)
		}
		if o.payload, err = d.Compress(bufpool.Get(firstBuffer), m.Data); err != nil {
			bufpool.Put(o.payload)
			return err
		}
		return c.trySendLoan(&o, false)
	}
	if err = c.queue.tryTurn(room); err != nil {
		return c.callError(err)
	}
	defer c.queue.leave()
	if o.payload, err = d.Compress(bufpool.Get(firstBuffer), m.Data); err != nil {
		bufpool.Put(o.payload)
	} else {
		err = c.trySendLoan(&o, true)
	}
	return d.Settle(m.Data, err)
}

// NotifyRoom calls f once, as soon as TrySend of a message of at most a few KiB may succeed, or the connection has ended. f
// runs on a goroutine of the connection, which writes nothing meanwhile: it must not block, and may call TrySend. A later
// NotifyRoom replaces an f that has not been called; nil removes it.
func (c *Conn) NotifyRoom(f func()) { c.queue.notifyRoom(f) }

// Flush waits until everything that was queued before the call has been written to the transport: messages, and the
// fragments of a Writer so far. Control frames do not count. If the connection ends before that, the error matches
// ErrClosed.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.checkCall("flush", ctx); err != nil {
		return err
	}
	return c.callError(c.queue.flush(ctx))
}

// Prepared is a message for many connections. It is safe for concurrent use by any number of connections.
type Prepared struct {
	message Message         // its Data belongs to the Prepared
	plain   *backlog.Shared // it, uncompressed; nil if it is large

	mu         sync.Mutex // held while the message is compressed: others that need that wait for it
	compressed []preparedPayload
}

// preparedPayload is the message in the form shared by all connections that compress alike.
type preparedPayload struct {
	level   int // deflate.Deflater.Level
	payload []byte
	shared  *backlog.Shared // payload; nil if it is large
}

// share copies a payload, to which many connections then refer. opcode is outgoing's. Large ones are no frames yet: how long
// frames are is a connection's.
func share(opcode byte, payload []byte) ([]byte, *backlog.Shared) {
	if len(payload) >= shareLeast {
		return slices.Clone(payload), nil
	}
	shared := backlog.NewShared(opcode, payload)
	return shared.Payload(), shared
}

// Prepare returns m prepared for SendPrepared and TrySendPrepared, or an error matching ErrInvalidMessage. It copies m.Data.
//
// Work that is the same for many connections is done once: text is checked here, and the message is compressed when the
// first connection needs it, for all that compress alike. Queues of servers refer to it instead of copying it. With
// context takeover a connection refers to what it sent before (RFC 7692, section 7.1.1), so each one compresses and keeps
// the message for itself: to send to many, negotiate no takeover. Clients mask, each with its own keys.
func Prepare(m Message) (*Prepared, error) {
	if err := checkMessage(&m); err != nil {
		return nil, err
	}
	p := &Prepared{message: m}
	p.message.Data, p.plain = share(byte(m.Type), m.Data)
	return p, nil
}

// Message returns the message that was prepared. Its Data is the Prepared's own, shared by all that send it: it must not be
// changed or released.
func (p *Prepared) Message() Message { return p.message }

// SendPrepared is Send for a prepared message, which may be nil no more than invalid. Whatever its size, it returns once
// there is room in the queue.
func (c *Conn) SendPrepared(ctx context.Context, p *Prepared) error {
	if err := c.checkCall("send", ctx); err != nil {
		return err
	}
	o, own, err := p.forConn(c)
	switch {
	case err != nil:
		return err
	case own:
		return c.sendCompressed(ctx, &p.message)
	}
	return c.sendPayload(ctx, &o)
}

// TrySendPrepared is TrySend for a prepared message, to which the queue refers.
func (c *Conn) TrySendPrepared(p *Prepared) error {
	o, own, err := p.forConn(c)
	switch {
	case err != nil:
		return err
	case own:
		return c.trySendCompressed(&p.message)
	}
	return c.trySendPayload(&o)
}

// forConn returns the message as c sends it, or that c compresses it on its own.
func (p *Prepared) forConn(c *Conn) (o outgoing, own bool, err error) {
	if p == nil || p.message.Type == 0 {
		return o, false, fmt.Errorf("%w: expected what Prepare returned", ErrInvalidMessage)
	}
	d, m := c.deflater, &p.message
	o = outgoing{opcode: byte(m.Type), payload: m.Data, size: len(m.Data), share: true, shared: p.plain}
	switch {
	case d == nil || !d.wants(m):
		return o, false, nil
	case d.Takeover():
		return o, true, nil
	}
	o.opcode |= rsv1Bit
	o.payload, o.shared, err = p.compressedBy(d)
	return o, false, err
}

// compressedBy returns the message as d, which has no context takeover, compresses it.
func (p *Prepared) compressedBy(d *deflater) ([]byte, *backlog.Shared, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, done := range p.compressed {
		if done.level == d.Level() {
			return done.payload, done.shared, nil
		}
	}
	compressed, err := d.Compress(bufpool.Get(firstBuffer), p.message.Data)
	defer func() { bufpool.Put(compressed) }()
	if err != nil {
		return nil, nil, err
	}
	payload, shared := share(rsv1Bit|byte(p.message.Type), compressed)
	p.compressed = append(p.compressed, preparedPayload{d.Level(), payload, shared})
	return payload, shared, nil
}
