// closing.go is the end of a connection, whole: what begins it, its first cause, what is still sent and read, how long each
// step may take, and how it is announced.

package wsd

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
)

const (
	errorBuffer = 4 // errors; one place is reserved for the cause of the end
	// graceTicks is how many ticks the close frame waits for the answers to messages that have just been delivered, and
	// graceTick how long each is on an idle machine. A busy one makes ticks longer, as it does with the consumer's turn.
	graceTicks = 16
	graceTick  = time.Millisecond
	// graceMost bounds all of them together.
	graceMost = 500 * time.Millisecond
	// closeSpans is how many times CloseTimeout the end may take, in all, while the peer takes what is being written.
	closeSpans = 12
	// lingerTime is how long a connection waits for the end of the peer's bytes when nothing else is left to do.
	lingerTime = time.Second
	// failQuiet is how long the peer must send nothing, after this side has failed the connection, before this side ends
	// its own bytes. failPause is the same once the peer has been seen to keep sending.
	failQuiet = 10 * time.Millisecond
	failPause = 100 * time.Millisecond
	// writeFailedGrace is how long a reader may look for the peer's close frame after a write has failed.
	writeFailedGrace = 250 * time.Millisecond
)

// phase says how far the end of a connection has come. What the peer has done of it is told by ending.peer.
type phase uint8

const (
	phaseOpen     phase = iota // messages travel both ways
	phaseCaused                // the cause is known; the consumer's last answers may still be sent
	phaseRefusing              // no more messages are taken; the close frame is queued if there is to be one
	phaseClosed                // the close frame has been written
	phaseOver                  // the end has been announced
)

// ending is how a connection ends, and how that is told. Its methods are safe for concurrent use.
type ending struct {
	queue   *sendQueue
	abort   func(cause error)    // ends the connection at once
	written func() time.Duration // on clock: when bytes were last written by somebody who waited for that
	within  time.Duration        // CloseTimeout, 0 for none

	mu    sync.Mutex // guards all below; the queue's lock may be taken inside it
	phase phase
	event CloseEvent    // Err and Code are set with the first cause, the rest by announce
	peer  *CloseError   // what the peer's close frame said, nil until it comes
	begun time.Duration // on clock: when the end began
	sent  time.Duration // on clock: when the close frame was written
	timer *time.Timer   // of CloseTimeout, nil until the end begins
	look  *time.Timer   // ends the reader's look for a close frame behind a failed write

	// The next three are made on demand: a program that only receives and sends does not need them. announce closes or
	// cancels them, nothing else.
	failures chan error
	closed   chan struct{}
	ctx      *connContext
}

// connContext is the context of a connection, with what cancels it.
type connContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// state returns what State tells.
func (e *ending) state() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.phase {
	case phaseOpen:
		return StateOpen
	case phaseOver:
		return StateClosed
	}
	return StateClosing
}

// begins notes that the end has come to a phase, and starts the time that it may take.
func (e *ending) begins(p phase) {
	e.phase = max(e.phase, p)
	if e.timer == nil {
		e.begun = clock.Now()
		if e.within > 0 {
			e.timer = time.AfterFunc(e.within, e.expire)
		}
	}
}

// cause stores why the connection ends, and reports whether that is the first cause: later ones are ignored.
func (e *ending) cause(event CloseEvent) (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.event.Err != nil {
		return false
	}
	event.Local = event.Local || e.event.Local
	event.SentCode, event.SentReason = e.event.SentCode, e.event.SentReason
	e.event = event
	e.begins(phaseCaused)
	return true
}

// fail stores a violation as the cause of the end, and reports it, if it is the first cause.
func (e *ending) fail(event CloseEvent) {
	if e.cause(event) {
		e.report(event.Err, 0)
	}
}

// peerClosed stores what the peer's close frame said, which is the cause if there is none yet.
func (e *ending) peerClosed(code StatusCode, reason string) {
	e.mu.Lock()
	e.peer = &CloseError{Code: code, Reason: reason, Local: e.event.Local}
	e.mu.Unlock()
	e.cause(CloseEvent{Code: code, Reason: reason, Err: e.peer})
}

// close queues a close frame behind everything that is queued, unless one is already. If cause is not nil, it is why.
func (e *ending) close(code StatusCode, reason string, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase >= phaseRefusing {
		return
	}
	local := e.event.Local || e.event.Err == nil
	if cause != nil && e.event.Err == nil {
		e.event = CloseEvent{Code: code, Reason: reason, Err: cause}
	}
	switch {
	case e.peer != nil:
		// The answer to a close frame repeats its code (RFC 6455, section 5.5.1).
		code, reason = e.peer.Code, ""
	case isViolation(e.event.Err):
		// A handler that returns while the reader waits for its answers does not turn a violation into a normal closure.
		code, reason = e.event.Code, e.event.Reason
	}
	e.event.Local, e.event.SentCode, e.event.SentReason = local, code, reason
	e.begins(phaseRefusing)
	e.queue.close(appendClosePayload(nil, code, reason))
}

// refuses notes that no more messages are taken, and returns the cause.
func (e *ending) refuses() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begins(phaseRefusing)
	return e.event.Err
}

// closeWritten notes that the close frame has been written. Whatever the peer does now, CloseTimeout runs once.
func (e *ending) closeWritten() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase < phaseClosed {
		e.phase, e.sent = phaseClosed, clock.Now()
		if e.timer != nil {
			e.timer.Reset(e.within)
		}
	}
}

// writeFailed is called with what made a write fail. The peer may have sent a close frame before it stopped reading: the
// reader gets a moment to find it.
func (e *ending) writeFailed(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase < phaseOver {
		e.begins(phaseRefusing)
		e.look = time.AfterFunc(writeFailedGrace, func() { e.abort(cause) })
	}
}

// expire runs on the timer of CloseTimeout. While messages are being written, time counts only without progress.
func (e *ending) expire() {
	e.mu.Lock()
	if e.phase == phaseOver {
		e.mu.Unlock()
		return
	}
	until := e.sent + e.within
	if e.phase < phaseClosed {
		until = min(max(e.written(), e.begun)+e.within, e.begun+closeSpans*e.within)
	}
	left := until - clock.Now()
	if left > 0 {
		e.timer.Reset(left)
	}
	e.mu.Unlock()
	if left <= 0 {
		e.abort(ErrCloseTimeout)
	}
}

// err returns the error of calls once the end has begun.
func (e *ending) err() error {
	failed := e.queue.failure()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.event.Err != nil:
		return &closedError{e.event.Err}
	case failed != nil:
		return &closedError{failed}
	}
	return &closedError{errClosedHere}
}

// report puts err into Errors, if that leaves room there for as many more errors as room says.
func (e *ending) report(err error, room int) {
	failures := e.errorChannel()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase < phaseOver && len(failures) < errorBuffer-room {
		failures <- err
	}
}

func (e *ending) closeEvent() CloseEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.event
}

func (e *ending) errorChannel() chan error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failures == nil {
		e.failures = make(chan error, errorBuffer)
		if e.phase == phaseOver {
			close(e.failures)
		}
	}
	return e.failures
}

func (e *ending) closedChannel() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed == nil {
		e.closed = make(chan struct{})
		if e.phase == phaseOver {
			close(e.closed)
		}
	}
	return e.closed
}

func (e *ending) context() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil {
		e.ctx = new(connContext)
		e.ctx.Context, e.ctx.cancel = context.WithCancelCause(context.Background())
		if e.phase == phaseOver {
			e.ctx.cancel(e.event.Err)
		}
	}
	return e.ctx.Context
}

// announce completes the CloseEvent and tells of the end, when nothing of the connection runs any more.
func (e *ending) announce(cause error) {
	e.mu.Lock()
	e.event.Clean = e.phase == phaseClosed && e.peer != nil
	if e.phase < phaseClosed {
		e.event.SentCode, e.event.SentReason = 0, "" // queued, but not written
	}
	clean := e.event.Clean
	e.mu.Unlock()
	if !clean && !isViolation(cause) { // a violation was reported when it was found
		e.report(cause, 0)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, timer := range []*time.Timer{e.timer, e.look} {
		if timer != nil {
			timer.Stop()
		}
	}
	e.phase = phaseOver
	if e.failures != nil {
		close(e.failures)
	}
	if e.ctx != nil {
		e.ctx.cancel(cause)
	}
	if e.closed != nil {
		close(e.closed)
	}
}

// isViolation reports whether the cause of an end is a violation on this connection. A violation on another connection,
// with which a transport or a context may fail, has been wrapped with a problem.
func isViolation(err error) bool {
	_, violation := err.(*ProtocolError)
	return violation || err == ErrSlowConsumer || err == ErrBodyTimeout
}

// answers compares the messages that were delivered with those that the consumer has sent since, so that the close frame
// can wait for an answer that is on its way.
type answers struct {
	delivered atomic.Uint64                 // messages that went into Messages
	answered  atomic.Uint64                 // those of them that a message of this side has followed
	awaited   atomic.Pointer[chan struct{}] // set while the reader waits; gets a value when there is nothing to wait for
}

// due reports whether a message that is sent now answers one that was delivered.
func (a *answers) due() bool { return a.answered.Load() < a.delivered.Load() }

// sent counts a message that has been queued.
func (a *answers) sent() {
	for {
		answered, delivered := a.answered.Load(), a.delivered.Load()
		if answered >= delivered {
			return
		}
		if a.answered.CompareAndSwap(answered, answered+1) {
			if answered+1 == delivered {
				a.over()
			}
			return
		}
	}
}

// over ends the reader's wait for answers.
func (a *answers) over() {
	if awaited := a.awaited.Load(); awaited != nil {
		select {
		case *awaited <- struct{}{}:
		default:
		}
	}
}

// await gives the consumer a moment to answer what was delivered at a time on clock, anew after each answer, and none if
// nothing is unanswered or that was long ago. most bounds it, if it is not 0, and so does the queue when it takes nothing
// more. While a message is on its way into the queue, no tick counts.
func (a *answers) await(queue *sendQueue, deliveredAt, most time.Duration) {
	if clock.Now()-deliveredAt >= graceMost {
		return
	}
	over := make(chan struct{}, 1)
	a.awaited.Store(&over)
	defer a.awaited.Store(nil)
	refusal := queue.refusals()
	begun, answered := clock.Now(), a.answered.Load()
	tick := time.NewTimer(graceTick)
	defer tick.Stop()
	for ticks := 0; a.due() && ticks < graceTicks && (most == 0 || clock.Now()-begun < most); {
		select {
		case <-over:
			return
		case <-refusal:
			return
		case <-tick.C:
			tick.Reset(graceTick)
		}
		ticks++
		if now := a.answered.Load(); now != answered || queue.busy() {
			answered, ticks = now, 0
		}
	}
}

// end carries the end out, as the reader's last act, and returns the cause. err is what ended the reading, nil for the
// peer's close frame. Nothing more is delivered: a consumer that ranges over Messages reaches the end now, and its answers
// still leave ahead of the close frame.
func (c *Conn) end(err error) error {
	switch failed, ok := err.(readError); {
	case err == nil:
		c.endOnClose()
	case ok:
		c.endOnReadError(failed.error)
	default:
		c.endOnViolation(err)
	}
	c.transport.Release()
	c.queue.stop()
	cause := c.ending.refuses()
	c.transport.Close()
	go c.finish()
	return cause
}

// endOnClose answers the peer's close frame, unless that is itself the answer, and waits for the peer to end the
// transport if it is up to the peer to do so (RFC 6455, sections 5.5.1 and 7.1.1).
func (c *Conn) endOnClose() {
	c.endDelivery()
	c.answers.await(&c.queue, c.reader.messageAt, graceMost)
	c.ending.close(StatusNoStatus, "", nil)
	if !c.queue.awaitClosed() {
		return
	}
	if c.role == ClientRole {
		c.drain(func() {})
	} else if sendsOn := c.reader.batchLeft.Load(); c.transport.Discard() || sendsOn {
		// The peer may not send behind its close frame, but does: with bytes unread, closing would be a reset, which can
		// overtake the answer.
		c.transport.CloseWrite()
		c.drain(func() {})
	}
}

// endOnViolation fails the connection (RFC 6455, section 7.1.7) with a close frame that says why, and sends nothing after
// it.
func (c *Conn) endOnViolation(err error) {
	code, reason := StatusPolicyViolation, "messages are not being received"
	if violation, ok := err.(*ProtocolError); ok {
		code, reason = violation.Code, cutReason(violation.Problem)
	}
	c.ending.fail(CloseEvent{Code: code, Reason: reason, Err: err, Local: true})
	c.endDelivery()
	c.answers.await(&c.queue, c.reader.messageAt, graceMost)
	c.ending.close(code, reason, nil)
	if !c.queue.awaitClosed() {
		return
	}
	// With bytes unread, closing now would reset the connection, and the reset can overtake the close frame. Half-closing
	// waits for a pause: proxies take it for the end of both directions, and reset a peer that keeps sending. A transport
	// that cannot half-close is closed after the pause.
	quiet := failQuiet
	if c.reader.parser.frame.opcode == OpClose {
		quiet = 0 // nothing follows a close frame, not even one that breaks the rules
	}
	pause := time.AfterFunc(quiet, func() {
		if c.transport.HalfCloses() && !c.transport.CloseWrite() {
			c.transport.Abort()
		}
	})
	defer pause.Stop()
	c.drain(func() { pause.Reset(failPause) })
}

// endOnReadError ends a connection whose transport can no longer be read. If the peer has only ended its own bytes, it
// still gets what was accepted for it, and the answers to what it sent.
func (c *Conn) endOnReadError(err error) {
	eof := err == io.EOF
	if failed := c.queue.failure(); failed != nil {
		err = failed
	} else if c.ending.state() != StateOpen {
		err = &causeError{"the connection ended before the peer's close frame", err}
	} else {
		err = &causeError{"the connection ended without a close frame", err}
	}
	c.ending.cause(CloseEvent{Code: StatusAbnormalClosure, Err: err})
	c.endDelivery()
	if eof {
		c.answers.await(&c.queue, c.reader.messageAt, 0)
		c.queue.refuse()
		c.queue.awaitEmpty()
	}
}

// drain reads and discards until the peer ends its bytes, for at most lingerTime. It calls more whenever some have come.
func (c *Conn) drain(more func()) {
	timer := time.AfterFunc(lingerTime, c.transport.Abort)
	defer timer.Stop()
	for {
		if _, err := c.transport.Read(nil, true); err == nil {
			more()
		} else if !c.foundQuiet(err) {
			return
		}
	}
}

// finish is started by the reader when it ends, so that no goroutine has to wait for that earlier. It waits for the
// reader and the writer, and announces the end.
func (c *Conn) finish() {
	cause := c.group.Wait()
	c.keepalive.stop()
	c.parking.stopWatch()
	c.pings.fail()
	c.queue.end()
	c.ending.announce(cause)
}

// abort ends the connection at once. The reader and the writer find their transport closed.
func (c *Conn) abort(cause error) {
	c.ending.cause(CloseEvent{Code: StatusAbnormalClosure, Err: cause, Local: true})
	c.queue.stop()
	c.ending.refuses()
	c.transport.Abort()
	c.parking.unpark()
}

// Close begins the closing handshake with code and reason (RFC 6455, section 7.1.2) and waits for its end, which takes no
// longer than described for Config.CloseTimeout. What is queued is sent first. The answer may take until the consumer
// has received what waits in Messages. It returns nil if the end was clean, and otherwise an error that matches ErrClosed
// and wraps the cause. A reason that does not fit is mended and cut. For a code that may not be sent, the connection is
// closed with StatusInternalError and the error is a *CloseArgumentError.
func (c *Conn) Close(code StatusCode, reason string) error {
	invalid := c.StartClose(code, reason)
	<-c.Closed()
	if invalid != nil {
		return invalid
	}
	if event := c.CloseEvent(); !event.Clean {
		return &closedError{event.Err}
	}
	return nil
}

// StartClose is Close without the wait. It does not block, and has no effect on a connection that is closing. Its error is
// nil or a *CloseArgumentError.
func (c *Conn) StartClose(code StatusCode, reason string) error {
	invalid := checkCloseCode(code, reason)
	if invalid != nil {
		code, reason = StatusInternalError, ""
	}
	c.ending.close(code, cutReason(reason), nil)
	c.answers.over()
	if invalid != nil {
		return invalid
	}
	return nil
}

// CloseNow ends the connection at once, without a closing handshake, and returns when it has ended. What is queued is
// lost. The cause of the end then matches net.ErrClosed, unless there was another cause before.
func (c *Conn) CloseNow() {
	c.abort(errAborted)
	<-c.Closed()
}

var (
	errAborted    = &causeError{"closed by CloseNow", net.ErrClosed}
	errClosedHere = errors.New("closed by this side")
)
