// conn.go is the life of a connection: how it begins, what callers see of it, and how it ends.

package wsd

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed62836080/wsd/internal/netio"
	"github.com/seed62836080/wsd/internal/park"
)

// Conn is a WebSocket connection (RFC 6455), a server's or a client's. All its methods are safe for concurrent use.
//
// A connection reads ahead into Messages on its own, answers pings and the closing handshake, and ends when either side
// closes it, the peer breaks the protocol, the transport fails, or the keepalive finds the peer gone. At the end, in this
// order, the cause is stored, Messages is closed, Errors is closed and Closed is closed.
type Conn struct {
	role       Role
	policy     SlowConsumerPolicy
	agreed     *agreement    // nil if the handshake agreed on nothing that callers can ask for
	closeAfter time.Duration // CloseTimeout, 0 for none
	stallAfter time.Duration // StallTimeout, 0 for none
	pingEvery  time.Duration // PingInterval, 0 for none
	pongWithin time.Duration // PongTimeout, 0 for none
	transport  netio.Transport
	slot       park.Slot // where the connection waits without a reader
	group      *errgroup.Group
	messages   chan Message // closed by the reader alone

	// The reader's own.
	parser      Parser
	deliveredAt time.Duration   // on clock: when the last read with a message in it came, or when that message was delivered
	settledAt   time.Duration   // on clock: when all messages before it had last been answered
	pause       time.Duration   // between the last messages that did not come together
	heavy       *[]heavyMessage // nil before the first
	stamped     bool            // deliveredAt fits the present read
	watched     bool            // a watch has been started over the present reader
	parks       bool            // the reader ends while nothing comes
	discarding  bool            // a message was discarded, and all later ones are too
	dropReport  bool            // Errors has been told that messages are dropped

	// Written by the reader for others to see.
	batchLeft atomic.Bool   // the reader has bytes that it has not parsed
	stalled   atomic.Bool   // the reader waits for the consumer
	stallSeen atomic.Bool   // the reader has waited since the keepalive looked
	roused    atomic.Bool   // tells the reader to end
	delivered atomic.Uint64 // messages that went into Messages
	answered  atomic.Uint64 // those of them that a Send has followed; changed with mu held, by the sender
	dropped   atomic.Uint64 // messages that were not delivered
	dataRead  atomic.Uint64 // bytes of messages
	bytesRead atomic.Uint64 // bytes that came from the transport

	mu sync.Mutex // guards all below, and is held for appends and swaps only
	// The next three are made on demand: a program that only receives and sends does not need them.
	errors chan error    // closed by finish alone
	closed chan struct{} // closed by finish alone
	ctx    *connContext

	event      CloseEvent // Err and Code are set with the first cause of the end, the rest by finish
	state      State
	pingLate   bool        // the keepalive's first ping without an answer had to wait to be written
	pongsStuck bool        // the reader has waited for pongs to be written, in vain
	pinged     uint32      // how many of the keepalive's pings have no answer
	peerClose  *CloseError // what the peer's close frame said, nil until it comes

	out        outgoing
	pings      []*pingWait
	pingID     uint64
	closing    chan struct{} // made when somebody waits for it, closed by refuseSends
	graceOver  chan struct{} // made while the reader waits for answers; gets a value when the wait is over
	watch      *quietWatch   // nil while the reader is not to be roused
	keepalive  *time.Timer
	closeTimer *time.Timer
	failTimer  *time.Timer
	bytesSeen  uint64 // bytesRead when the keepalive looked
	writesSeen uint64 // transport's Progress when the keepalive looked
}

const (
	errorBuffer = 4 // errors; one place is reserved for the cause of the end
	// answerGrace is how long the close frame waits for the answers to messages that have just been delivered, if the
	// consumer has answered all messages before them. A busy machine may need that long to let the consumer run.
	answerGrace = 500 * time.Millisecond
	// silentGrace is the same for a consumer that leaves messages unanswered.
	silentGrace = 100 * time.Millisecond
	// lingerTime is how long a connection waits for the end of the peer's bytes when nothing else is left to do.
	lingerTime = time.Second
	// failQuiet is how long the peer must send nothing, after this side has failed the connection, before this side ends
	// its own bytes. failPause is the same once the peer has been seen to keep sending.
	failQuiet = 10 * time.Millisecond
	failPause = 100 * time.Millisecond
	// writeFailedGrace is how long a reader may look for the peer's close frame after a write has failed.
	writeFailedGrace = 250 * time.Millisecond
)

// NewConn returns a connection over a transport on which the opening handshake is already done or not needed. It owns rwc
// from then on. rwc.Close must not wait for the peer, and must unblock a Read and a Write that are waiting, as a
// net.Conn's does. Deadlines and CloseWrite are used if rwc has them, and so is NetConn, through which a TLS connection
// gives access to the connection below it, so that it can be closed without waiting. A Compression in cfg is taken as
// negotiated exactly as given.
func NewConn(rwc io.ReadWriteCloser, role Role, cfg Config) *Conn {
	c := newConn(rwc, role, &cfg, agreement{compression: cfg.Compression})
	c.start(nil)
	return c
}

// newConn returns a connection with the settings that the handshake agreed on. Nothing runs until it is started.
func newConn(rwc io.ReadWriteCloser, role Role, cfg *Config, agreed agreement) *Conn {
	settled := *cfg
	settled.Compression = agreed.compression
	c := &Conn{
		role:       role,
		policy:     cfg.SlowConsumer,
		closeAfter: durationOr(cfg.CloseTimeout, defaultCloseTimeout),
		stallAfter: durationOr(cfg.StallTimeout, defaultStallTimeout),
		pingEvery:  durationOr(cfg.PingInterval, defaultPingInterval),
		pongWithin: durationOr(cfg.PongTimeout, defaultPongTimeout),
		messages:   make(chan Message, messageBuffer(cfg)),
		group:      new(errgroup.Group),
		state:      StateOpen,
	}
	if agreed.subprotocol != "" || agreed.extensions != "" {
		c.agreed = &agreed
	}
	c.parser.init(role, &settled)
	c.out.init(role, &settled)
	c.transport.Init(rwc)
	return c
}

// start begins reading on a new connection and starts its keepalive. buffered is what came after the handshake.
func (c *Conn) start(buffered []byte) {
	if c.pingEvery > 0 {
		c.mu.Lock()
		c.keepalive = time.AfterFunc(c.pingEvery, c.keepAlive)
		c.mu.Unlock()
	}
	c.beginReading(buffered)
}

func messageBuffer(cfg *Config) int {
	switch {
	case cfg.MessageBuffer == 0:
		return defaultMessageBuffer
	case cfg.MessageBuffer < 0:
		return 0
	}
	return min(cfg.MessageBuffer, maxMessageBuffer)
}

// Messages returns the channel on which received messages are delivered, whole and in order. It is closed after the last
// of them, once the end has begun: Receive and, once Closed is closed, CloseEvent tell why. Messages still waiting in it
// can then be received. While it is full, Config.SlowConsumer determines what happens.
func (c *Conn) Messages() <-chan Message { return c.messages }

// Errors returns a channel of what goes wrong: ErrSlowConsumer, once, if messages are dropped, and as its last value the
// cause of an end that is not clean. It need not be read. It is closed at the end, without a value if the end is clean
// and nothing went wrong.
func (c *Conn) Errors() <-chan error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.errorsLocked()
}

func (c *Conn) errorsLocked() chan error {
	if c.errors == nil {
		c.errors = make(chan error, errorBuffer)
		if c.state == StateClosed {
			close(c.errors)
		}
	}
	return c.errors
}

// Closed returns a channel that is closed when the connection has ended and everything it held is released. It is the
// last to be closed: from then on Messages can be drained without waiting, and CloseEvent is complete.
func (c *Conn) Closed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == nil {
		c.closed = make(chan struct{})
		if c.state == StateClosed {
			close(c.closed)
		}
	}
	return c.closed
}

// Context returns a context that is canceled when the connection ends. Its context.Cause is the cause of the end. It has
// no values, not even those of a server's request: what they refer to may end with the request's handler.
func (c *Conn) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil {
		c.ctx = new(connContext)
		c.ctx.Context, c.ctx.cancel = context.WithCancelCause(context.Background())
		if c.state == StateClosed {
			c.ctx.cancel(c.event.Err)
		}
	}
	return c.ctx.Context
}

// connContext is the context of a connection, with what cancels it.
type connContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// CloseEvent reports how the connection ended. It is complete once Closed is closed. Before that, even if Messages is
// closed, it holds only the cause as far as it is known, and Clean is false; on an open connection it is zero.
func (c *Conn) CloseEvent() CloseEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.event
}

// State returns the state of the connection. It does not block.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Version returns the version of the protocol, "hybi-13", the drafts' name for what became RFC 6455.
func (c *Conn) Version() string { return "hybi-13" }

// Subprotocol returns the subprotocol agreed on, or "" if there is none (RFC 6455, section 1.9).
func (c *Conn) Subprotocol() string {
	if c.agreed == nil {
		return ""
	}
	return c.agreed.subprotocol
}

// Extensions returns the extensions agreed on, as listed in the server's Sec-WebSocket-Extensions header, or "" if there
// are none (RFC 6455, section 9).
func (c *Conn) Extensions() string {
	if c.agreed == nil {
		return ""
	}
	return c.agreed.extensions
}

// Stats holds the counters of a connection. Messages are text and binary messages, and bytes are those of their
// uncompressed payloads.
type Stats struct {
	MessagesReceived uint64 // whole messages that arrived, whether waiting in Messages, received, or dropped
	BytesReceived    uint64 // of those
	MessagesDropped  uint64 // those of them that were discarded: no room under DropSlow, or this side was closing
	MessagesSent     uint64 // accepted by Send and SendPrepared, and those of a Writer once complete
	BytesSent        uint64 // of those
	Writes           uint64 // writes to the transport: far fewer than messages if senders coalesce
	PongsCoalesced   uint64 // pings without a pong of their own because the peer did not read (RFC 6455, section 5.5.3)
}

// Stats returns the connection's counts so far. It does not block.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		MessagesReceived: c.delivered.Load() + c.dropped.Load(),
		BytesReceived:    c.dataRead.Load(),
		MessagesDropped:  c.dropped.Load(),
		MessagesSent:     c.out.messages,
		BytesSent:        c.out.bytes,
		Writes:           c.out.writes,
		PongsCoalesced:   c.out.coalesced,
	}
}

// Receive returns the next message. It blocks until there is one, ctx is done, or the connection ends. If ctx is done
// first, the error matches ctx's error and its cause. If the connection has ended and all messages have been received,
// the error matches ErrClosed and the cause of the end.
func (c *Conn) Receive(ctx context.Context) (Message, error) {
	if ctx == nil {
		return Message{}, ErrNilContext
	}
	select {
	case m, ok := <-c.messages:
		return c.taken(m, ok)
	default:
	}
	select {
	case m, ok := <-c.messages:
		return c.taken(m, ok)
	case <-ctx.Done():
	}
	select {
	case m, ok := <-c.messages:
		// Both were ready. ctx may be the connection's own: a message, or how the connection ended, says more.
		return c.taken(m, ok)
	default:
		return Message{}, canceled("receive", ctx)
	}
}

func (c *Conn) taken(m Message, ok bool) (Message, error) {
	if ok {
		return m, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answersGiven()
	return Message{}, c.endErrorLocked()
}

// endError returns the error for calls once the end has begun.
func (c *Conn) endError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endErrorLocked()
}

func (c *Conn) endErrorLocked() error {
	switch {
	case c.event.Err != nil:
		return &closedError{c.event.Err}
	case c.out.failed != nil:
		return &closedError{c.out.failed}
	}
	return &closedError{errClosedHere}
}

// errClosedHere is the cause that calls return after a Close by this side, until the handshake has decided how the
// connection ends.
var errClosedHere = errors.New("wsd: closed by this side")

// Close closes the connection with the closing handshake (RFC 6455, section 7): it writes what is queued, sends a close
// frame with code and reason, and waits for the peer's close frame, all within Config.CloseTimeout; then it closes the
// transport whatever happened. Messages that arrive meanwhile are delivered until one finds no room in Messages; from
// then on they are discarded. Under DropSlow only those that find no room are.
//
// Close blocks until the connection has ended. It returns nil if the handshake was completed, whichever side began it,
// and otherwise the cause of the end. StatusNoStatus sends a close frame without a code. For a code that may not be sent,
// or a reason without a code, of more than 123 bytes or not in UTF-8, Close returns a *CloseArgumentError and leaves the
// connection as it was.
func (c *Conn) Close(code StatusCode, reason string) error {
	if err := validateClose(code, reason); err != nil {
		return err
	}
	c.startClose(code, reason)
	<-c.Closed()
	if event := c.CloseEvent(); !event.Clean {
		return &closedError{event.Err}
	}
	return nil
}

// startClose begins the closing handshake if nothing else has, without waiting for its end.
func (c *Conn) startClose(code StatusCode, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queueClose(code, reason)
	c.answersGiven()
}

// CloseNow ends the connection at once, without a closing handshake, and returns when it has ended. What is queued is
// lost. The cause of the end then matches net.ErrClosed, unless there was another cause before.
func (c *Conn) CloseNow() {
	c.abort(errAborted)
	<-c.Closed()
}

var errAborted = &causeError{"closed by CloseNow", net.ErrClosed}

// queueClose queues a close frame behind everything that is queued, unless there is one already, and bounds the time that
// the rest of the handshake may take. Called with mu held.
func (c *Conn) queueClose(code StatusCode, reason string) {
	if c.out.refused {
		return
	}
	if c.peerClose != nil {
		// The answer to a close frame repeats its code (RFC 6455, section 5.5.1).
		code, reason = c.peerClose.Code, ""
	} else if isViolation(c.event.Err) {
		// A handler that returns while the reader waits for its answers does not turn a violation into a normal closure.
		code, reason = c.event.Code, c.event.Reason
	}
	c.out.closeFrame = c.out.appendFrame(nil, finBit|byte(OpClose), appendClosePayload(nil, code, reason))
	c.refuseSends()
	c.startCloseTimer()
	c.wakeWriter()
}

func (c *Conn) startCloseTimer() {
	if c.closeTimer == nil && c.closeAfter > 0 {
		c.closeTimer = time.AfterFunc(c.closeAfter, func() { c.abort(ErrCloseTimeout) })
	}
}

// refuseSends makes the connection take no more messages. Called with mu held.
func (c *Conn) refuseSends() {
	if c.out.refused {
		return
	}
	c.out.refused = true
	if c.state == StateOpen {
		c.state = StateClosing
	}
	if c.closing != nil {
		close(c.closing)
	}
	c.out.signalProgress() // for senders that wait to queue more
}

// closes returns a channel that is closed when Sends are no longer taken and the reader need no longer deliver. Called
// with mu held.
func (c *Conn) closes() <-chan struct{} {
	if c.closing == nil {
		c.closing = make(chan struct{})
		if c.out.refused {
			close(c.closing)
		}
	}
	return c.closing
}

// setCause stores why the connection ends, if nothing has been stored: the first cause wins. It starts the timeout for
// the rest of the end. Called with mu held.
func (c *Conn) setCause(err error, code StatusCode, reason string) {
	if c.event.Err != nil {
		return
	}
	c.event = CloseEvent{Code: code, Reason: reason, Err: err}
	if c.state == StateOpen {
		c.state = StateClosing
	}
	c.startCloseTimer()
}

// abort ends the connection at once. The reader and the writer find their transport closed.
func (c *Conn) abort(cause error) {
	c.mu.Lock()
	c.setCause(cause, StatusAbnormalClosure, "")
	c.refuseSends()
	c.stopWriter()
	c.answersGiven()
	c.mu.Unlock()
	c.transport.Abort()
	c.unpark()
}

// report puts err into Errors, if that leaves room there for as many more errors as room says. Called with mu held,
// before the end.
func (c *Conn) report(err error, room int) {
	if errors := c.errorsLocked(); len(errors) < errorBuffer-room {
		errors <- err
	}
}

// finish is started by the reader when it ends, so that no goroutine has to wait for that earlier. It waits for the
// reader and the writer, and announces the end.
func (c *Conn) finish() {
	cause := c.group.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, timer := range []*time.Timer{c.keepalive, c.closeTimer, c.failTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
	if c.watch != nil {
		c.watch.timer.Stop()
	}
	c.event.Clean = c.out.closeWritten && c.peerClose != nil
	if !c.event.Clean && !isViolation(cause) { // a violation was reported when it was found
		c.report(cause, 0)
	}
	c.state = StateClosed
	if c.errors != nil {
		close(c.errors)
	}
	c.failPings()
	if c.ctx != nil {
		c.ctx.cancel(cause)
	}
	if c.closed != nil {
		close(c.closed)
	}
}
