// closing.go is the end of a connection, whole: what begins it, its first cause, what is still sent and read, how long each
// step may take, and how it is announced.

package wsd

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd/internal/browser"
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
	phaseOpen         phase = iota // messages travel both ways
	phaseCaused                    // the cause is known; the consumer's last answers may still be sent
	phaseRefusing                  // no more messages are taken; the close frame is queued if there is to be one
	phaseCloseWritten              // the close frame has been written
	phaseOver                      // the end has been announced
)

// ending is how a connection ends, and how that is told. Its methods are safe for concurrent use.
type ending struct {
	conn *Conn // whose end it is

	mu       sync.Mutex // guards all below; the queue's lock may be taken inside it
	phase    phase
	course   *course  // nil until the end begins
	rare     *rareEnd // nil before any of it is needed
	afterAll func()   // called behind all else; nil unless whenOver has been called
}

// rareEnd is what a program that only receives and sends does not ask for. announce closes or cancels it, nothing else.
type rareEnd struct {
	failures chan error
	closed   chan struct{}
	ctx      context.Context
	cancel   context.CancelCauseFunc
	login    *login // nil unless ExpireAt has been called
}

// rarely returns what most connections do not need.
func (e *ending) rarely() *rareEnd {
	if e.rare == nil {
		e.rare = new(rareEnd)
	}
	return e.rare
}

// within returns CloseTimeout, 0 for none.
func (e *ending) within() time.Duration { return e.conn.settings.closeTimeout }

// whenOver has f called, by whoever announces the end, when all else is done; at once if it is.
func (e *ending) whenOver(f func()) {
	if !e.keepForEnd(f) {
		f()
	}
}

// keepForEnd keeps f for the end, and reports false if that is over.
func (e *ending) keepForEnd(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == phaseOver {
		return false
	}
	e.afterAll = f
	return true
}

// last returns what whenOver was given.
func (e *ending) last() func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.afterAll
}

// course is what is known of an end that has begun.
type course struct {
	event          CloseEvent    // Err and Code are set with the first cause, the rest by announce
	untold         bool          // the cause goes into Errors as soon as somebody asks for that
	peer           *CloseError   // what the peer's close frame said, nil until it comes
	beganAt        time.Duration // on clock: when the end began
	closeWrittenAt time.Duration // on clock: when the close frame was written
	timer          *time.Timer   // of CloseTimeout, nil if there is none
	due            clock.Due     // when it is to run
	look           *time.Timer   // ends the reader's look for a close frame behind a failed write
	lookDue        clock.Due     // when it is to run
}

// login is how long a peer may stay.
type login struct {
	until time.Time
	timer *time.Timer
}

// expireAt has expired called at a time, instead of one set before.
func (e *ending) expireAt(until time.Time, expired func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch rare := e.rarely(); {
	case e.phase >= phaseRefusing:
	case until.IsZero():
		if rare.login != nil {
			rare.login.timer.Stop()
			rare.login = nil
		}
	case rare.login == nil:
		rare.login = &login{until, time.AfterFunc(time.Until(until), expired)}
	default:
		rare.login.until = until
		rare.login.timer.Reset(time.Until(until))
	}
}

// loginOver reports whether the time that expireAt set has come. It may have been moved since the timer ran, and the clock
// of the wall may have been set.
func (e *ending) loginOver() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	login := e.rare.login
	if login == nil || e.phase >= phaseRefusing {
		return false
	}
	left := time.Until(login.until)
	if left > 0 {
		login.timer.Reset(left)
	}
	return left <= 0
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

// reach notes that the end has come to a phase, starts the time that it may take, and returns its course.
func (e *ending) reach(p phase) *course {
	e.phase = max(e.phase, p)
	if e.course == nil {
		e.course = &course{beganAt: clock.Now()}
		if within := e.within(); within > 0 {
			e.course.due.In(within)
			e.course.timer = time.AfterFunc(within, e.expire)
		}
	}
	return e.course
}

// causeAtOnce is cause for an end that waits for nobody.
func (e *ending) causeAtOnce(event CloseEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.course == nil {
		e.course = &course{beganAt: clock.Now()}
	}
	e.reach(phaseCaused).store(event)
}

// cause stores why the connection ends, and reports whether that is the first cause: later ones are ignored.
func (e *ending) cause(event CloseEvent) (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reach(phaseCaused).store(event)
}

// store stores the cause of the end if there is none yet, and reports whether it did.
func (known *course) store(event CloseEvent) (first bool) {
	if known.event.Err != nil {
		return false
	}
	event.Local = event.Local || known.event.Local
	event.SentCode, event.SentReason = known.event.SentCode, known.event.SentReason
	known.event = event
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
	defer e.mu.Unlock()
	known := e.reach(phaseCaused)
	known.peer = &CloseError{Code: code, Reason: reason, Local: known.event.Local}
	known.store(CloseEvent{Code: code, Reason: reason, Err: known.peer})
}

// queueClose queues a close frame behind everything that is queued, unless one is already. If cause is not nil, it is why.
func (e *ending) queueClose(code StatusCode, reason string, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase >= phaseRefusing {
		return
	}
	known := e.reach(phaseRefusing)
	event := &known.event
	event.Local = event.Local || event.Err == nil
	if cause != nil && event.Err == nil {
		event.Code, event.Reason, event.Err = code, reason, cause
	}
	switch {
	case known.peer != nil:
		// The answer to a close frame repeats its code (RFC 6455, section 5.5.1).
		code, reason = known.peer.Code, ""
	case isViolation(event.Err):
		// A handler that returns while the reader waits for its answers does not turn a violation into a normal closure.
		code, reason = event.Code, event.Reason
	}
	event.SentCode, event.SentReason = code, reason
	e.conn.queue.addClose(appendClosePayload(nil, code, reason))
}

// enterRefusing notes that no more messages are taken, and returns the cause.
func (e *ending) enterRefusing() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reach(phaseRefusing).event.Err
}

// closeWritten notes that the close frame has been written. Whatever the peer does now, CloseTimeout runs once.
func (e *ending) closeWritten() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase < phaseCloseWritten {
		known := e.reach(phaseCloseWritten)
		known.closeWrittenAt = clock.Now()
		if known.timer != nil {
			known.due.In(e.within())
			known.timer.Reset(e.within())
		}
	}
}

// writeFailed is called with what made a write fail. The peer may have sent a close frame before it stopped reading: the
// reader gets a moment to find it.
func (e *ending) writeFailed(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase < phaseOver {
		known := e.reach(phaseRefusing)
		until := clock.Now() + writeFailedGrace
		known.lookDue.In(writeFailedGrace)
		known.look = time.AfterFunc(writeFailedGrace, func() { e.endLook(cause, until) })
	}
}

// endLook runs on the timer of writeFailed.
func (e *ending) endLook(cause error, until time.Duration) {
	e.mu.Lock()
	left := time.Duration(0)
	if e.phase < phaseOver {
		left = e.course.lookDue.Left(until, writeFailedGrace)
	}
	if left > 0 {
		e.course.look.Reset(left)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	e.cause(CloseEvent{Code: StatusAbnormalClosure, Err: cause}) // not begun by this side, as abort would have it
	e.abort(cause)
}

// expire runs on the timer of CloseTimeout. While messages are being written, time counts only without progress.
func (e *ending) expire() {
	e.mu.Lock()
	if e.phase == phaseOver {
		e.mu.Unlock()
		return
	}
	known, within := e.course, e.within()
	until := known.closeWrittenAt + within
	if e.phase < phaseCloseWritten {
		until = min(max(e.conn.transport.Progress(), known.beganAt)+within, known.beganAt+closeSpans*within)
	}
	left := known.due.Left(until, within)
	if left > 0 {
		known.timer.Reset(left)
	}
	e.mu.Unlock()
	if left <= 0 {
		e.abort(ErrCloseTimeout)
	}
}

// err returns the error of calls once the end has begun.
func (e *ending) err() error {
	cause := e.closeEvent().Err
	if cause == nil {
		if cause = e.conn.queue.failure(); cause == nil {
			cause = errClosedHere
		}
	}
	return &closedError{cause}
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
	if e.course == nil {
		return CloseEvent{}
	}
	return e.course.event
}

func (e *ending) errorChannel() chan error {
	e.mu.Lock()
	defer e.mu.Unlock()
	rare := e.rarely()
	if rare.failures == nil {
		rare.failures = make(chan error, errorBuffer)
		if e.course != nil && e.course.untold {
			rare.failures <- e.course.event.Err
		}
		if e.phase == phaseOver {
			close(rare.failures)
		}
	}
	return rare.failures
}

func (e *ending) closedChannel() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	rare := e.rarely()
	if rare.closed == nil {
		rare.closed = make(chan struct{})
		if e.phase == phaseOver {
			close(rare.closed)
		}
	}
	return rare.closed
}

func (e *ending) context() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	rare := e.rarely()
	if rare.ctx == nil {
		rare.ctx, rare.cancel = context.WithCancelCause(context.Background())
		if e.phase == phaseOver {
			rare.cancel(e.course.event.Err)
		}
	}
	return rare.ctx
}

// exchanged reports whether both close frames were exchanged. An answer that was read after this side had given up comes
// too late.
func (e *ending) exchanged() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.reach(phaseRefusing)
	return e.phase == phaseCloseWritten && known.peer != nil && known.event.Code != StatusAbnormalClosure
}

// complete completes the CloseEvent, when nothing of the connection runs any more.
func (e *ending) complete(cause error) {
	clean := e.exchanged()
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.course
	known.event.Clean = clean
	switch {
	case clean, isViolation(cause): // a violation was reported when it was found
	case e.rare == nil || e.rare.failures == nil:
		known.untold = true
	case len(e.rare.failures) < errorBuffer:
		e.rare.failures <- cause
	}
	if e.phase < phaseCloseWritten {
		known.event.SentCode, known.event.SentReason = 0, "" // queued, but not written
	}
}

// announce tells of the end.
func (e *ending) announce(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.course
	for _, timer := range []*time.Timer{known.timer, known.look} {
		if timer != nil {
			timer.Stop()
		}
	}
	e.phase = phaseOver
	if e.rare != nil {
		e.rare.announce(cause)
	}
}

// announce tells of the end, Closed last.
func (rare *rareEnd) announce(cause error) {
	if rare.login != nil {
		rare.login.timer.Stop()
	}
	if rare.failures != nil {
		close(rare.failures)
	}
	if rare.ctx != nil {
		rare.cancel(cause)
	}
	if rare.closed != nil {
		close(rare.closed)
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
	answered  uint64                        // those of them that a message of this side has followed; the queue's lock guards it
	waiting   atomic.Pointer[chan struct{}] // set while the reader waits; gets a value when there is nothing to wait for
	told      atomic.Bool                   // the consumer knows of the end
	batchLeft atomic.Bool                   // there are bytes that have not been parsed: more to answer may follow
}

// count counts a message that is queued, and reports whether it answers one that was delivered.
func (a *answers) count() (answer bool) {
	delivered := a.delivered.Load()
	if a.answered >= delivered {
		return false
	}
	if a.answered++; a.answered == delivered {
		a.stopWaiting()
	}
	return true
}

// noteEndTold notes that the consumer knows of the end: it answers nothing more.
func (a *answers) noteEndTold() {
	if !a.told.Load() {
		a.told.Store(true)
	}
	a.stopWaiting()
}

// stopWaiting ends the reader's wait for answers.
func (a *answers) stopWaiting() {
	if enough := a.waiting.Load(); enough != nil {
		select {
		case *enough <- struct{}{}:
		default:
		}
	}
}

// What follows needs no lock.

// delivered returns how many messages went into Messages.
func (q *sendQueue) delivered() uint64 { return q.answers.delivered.Load() }

// noteDelivery counts a message that goes into Messages, and undoDelivery one that did not after all.
func (q *sendQueue) noteDelivery() { q.answers.delivered.Add(1) }
func (q *sendQueue) undoDelivery() { q.answers.delivered.Add(^uint64(0)) }

// noteLeft notes whether bytes are left that have not been parsed. Most of the time that is known.
func (q *sendQueue) noteLeft(left bool) {
	if left != q.answers.batchLeft.Load() {
		q.answers.batchLeft.Store(left)
	}
}

// moreToAnswer reports whether bytes are left that have not been parsed: more to answer may follow.
func (q *sendQueue) moreToAnswer() bool { return q.answers.batchLeft.Load() }

// noteEndTold notes that the consumer knows of the end.
func (q *sendQueue) noteEndTold() { q.answers.noteEndTold() }

// awaitAnswers gives the consumer a moment to answer what was delivered at a time on clock, anew after each answer, and none if
// nothing is unanswered or that was long ago. most bounds it, if it is not 0, and so does the queue when it takes nothing
// more. While a message is on its way into the queue, no tick counts.
func (q *sendQueue) awaitAnswers(deliveredAt, most time.Duration) {
	a := &q.answers
	if clock.Now()-deliveredAt >= graceMost {
		return
	}
	enough := make(chan struct{}, 1)
	a.waiting.Store(&enough)
	defer a.waiting.Store(nil)
	refusal := q.refusalChannel()
	begun := clock.Now()
	answered, due := q.answered()
	tick := time.NewTimer(graceTick)
	defer tick.Stop()
	for ticks := 0; due && !a.told.Load() && ticks < graceTicks && (most == 0 || clock.Now()-begun < most); {
		select {
		case <-enough:
			return
		case <-refusal:
			return
		case <-tick.C:
			// Whoever a timer wakes runs ahead of others. The consumer is one of these: wait for a turn like it.
			runtime.Gosched()
			tick.Reset(graceTick)
		}
		ticks++
		before := answered
		if answered, due = q.answered(); answered != before || q.busy() {
			ticks = 0
		}
	}
}

// carryOutEnd is the reader's last act. It returns the cause. err is what ended the reading, nil for the peer's close
// frame. Nothing more is delivered: a consumer that ranges over Messages reaches its end now, and its answers still leave
// ahead of the close frame.
func (r *reader) carryOutEnd(err error) error {
	c := r.conn
	switch failed, ok := err.(readError); {
	case err == nil:
		r.endOnClose()
	case ok:
		r.endOnReadError(failed.error)
	default:
		r.endOnViolation(err)
	}
	c.transport.Release()
	c.queue.stop()
	cause := c.ending.enterRefusing()
	c.transport.Close()
	go c.ending.finish()
	return cause
}

// endOnClose answers the peer's close frame, unless that is itself the answer, and waits for the peer to end the
// transport if it is up to the peer to do so (RFC 6455, sections 5.5.1 and 7.1.1).
func (r *reader) endOnClose() {
	c := r.conn
	r.endDelivery()
	c.queue.awaitAnswers(r.messageAt, graceMost)
	c.ending.queueClose(StatusNoStatus, "", nil)
	if !c.queue.awaitClosed() {
		return
	}
	if c.settings.role == ClientRole {
		r.drain(func() {})
	} else if sendsOn := c.queue.moreToAnswer(); c.transport.Discard() || sendsOn {
		// The peer may not send behind its close frame, but does: with bytes unread, closing would be a reset, which can
		// overtake the answer.
		c.transport.CloseWrite()
		r.drain(func() {})
	}
}

// endOnViolation fails the connection (RFC 6455, section 7.1.7) with a close frame that says why, and sends nothing after
// it.
func (r *reader) endOnViolation(err error) {
	c := r.conn
	code, reason := StatusTryAgainLater, "messages are not being received"
	if violation, ok := err.(*ProtocolError); ok {
		code, reason = violation.Code, cutReason(violation.Problem)
	}
	c.ending.fail(CloseEvent{Code: code, Reason: reason, Err: err, Local: true})
	r.endDelivery()
	c.queue.awaitAnswers(r.messageAt, graceMost)
	c.ending.queueClose(code, reason, nil)
	if !c.queue.awaitClosed() {
		return
	}
	// With bytes unread, closing now would reset the connection, and the reset can overtake the close frame. Half-closing
	// waits for a pause: proxies take it for the end of both directions, and reset a peer that keeps sending. A transport
	// that cannot half-close is closed after the pause.
	quiet := failQuiet
	if r.parser.frame.opcode == OpClose {
		quiet = 0 // nothing follows a close frame, not even one that breaks the rules
	}
	pause := time.AfterFunc(quiet, func() {
		if c.transport.HalfCloses() && !c.transport.CloseWrite() {
			c.transport.Abort()
		}
	})
	defer pause.Stop()
	r.drain(func() { pause.Reset(failPause) })
}

// endOnReadError ends a connection whose transport can no longer be read. If the peer has only ended its own bytes, it
// still gets what was accepted for it, and the answers to what it sent.
func (r *reader) endOnReadError(err error) {
	c := r.conn
	eof := err == io.EOF
	if failed := c.queue.failure(); failed != nil {
		err = failed
	} else if c.ending.state() != StateOpen {
		err = &causeError{"the connection ended before the peer's close frame", err}
	} else {
		err = &causeError{"the connection ended without a close frame", err}
	}
	event := CloseEvent{Code: StatusAbnormalClosure, Err: err}
	if !eof {
		c.ending.causeAtOnce(event)
		r.endDelivery()
	} else {
		c.ending.cause(event)
		r.endDelivery()
		c.queue.awaitAnswers(r.messageAt, 0)
		c.queue.takeNoMore()
		c.queue.awaitEmpty()
	}
}

// drain reads and discards until the peer ends its bytes, for at most lingerTime. It calls more whenever some have come.
func (r *reader) drain(more func()) {
	timer := time.AfterFunc(lingerTime, r.conn.transport.Abort)
	defer timer.Stop()
	for {
		if _, err := r.conn.transport.Read(nil, true); err == nil {
			more()
		} else if !r.foundQuiet(err) {
			return
		}
	}
}

// finish is started by the reader when it ends, so that no goroutine has to wait for that earlier. It waits for the
// reader and the writer, and announces the end.
func (e *ending) finish() {
	c := e.conn
	cause := c.group.Wait()
	c.keepalive.stop()
	c.parking.stopWatch()
	c.pings.fail()
	c.queue.announceEnd()
	e.complete(cause)
	defer e.over(cause) // even if a hook ends the goroutine
	c.settings.trace.ended(c)
}

// over announces the end.
func (e *ending) over(cause error) {
	c := e.conn
	e.announce(cause)
	if c.settings.inbox != nil {
		c.settings.inbox.ended(c)
	}
	if last := e.last(); last != nil {
		last()
	}
}

// abort ends the connection at once. The reader and the writer find their transport closed.
func (e *ending) abort(cause error) {
	c := e.conn
	e.cause(CloseEvent{Code: StatusAbnormalClosure, Err: cause, Local: true})
	c.queue.stop()
	e.enterRefusing()
	c.transport.Abort()
	c.reader.unpark()
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
	if invalid == nil && c.overBrowser() && code < browserOwn && code != StatusNormalClosure && code != StatusNoStatus {
		invalid = &CloseArgumentError{code, reason, "a browser sends 1000 and 3000 to 4999 only"} // and others for itself: dial_js.go
	}
	if invalid != nil {
		code, reason = StatusInternalError, ""
	}
	c.ending.queueClose(code, cutReason(reason), nil)
	if invalid != nil {
		return invalid
	}
	return nil
}

// browserOwn is what is added to the codes from 1002 to 1014, which a browser sends for nobody, to get one that it does.
const browserOwn = 3000

// overBrowser reports whether a browser carries the connection, and not a transport of the program's own.
func (c *Conn) overBrowser() bool {
	return browser.Present && browser.Carries(c.transport.RemoteAddr())
}

// ExpireAt has the connection closed at a time with StatusUnauthorized, as StartClose does: when a login ends, say. A later
// call moves the time, and the zero time means never, which is how a connection begins. A time that has passed closes it at
// once. It does not block, and has no effect on a connection that is closing.
func (c *Conn) ExpireAt(t time.Time) {
	c.ending.expireAt(t, func() {
		if c.ending.loginOver() {
			_ = c.StartClose(StatusUnauthorized, "the login has expired")
		}
	})
}

// CloseNow ends the connection at once, without a closing handshake, and returns when it has ended. What is queued is
// lost. The cause of the end then matches net.ErrClosed, unless there was another cause before.
func (c *Conn) CloseNow() {
	c.ending.abort(errAborted)
	<-c.Closed()
}

var (
	errAborted    = &causeError{"closed by CloseNow", net.ErrClosed}
	errClosedHere = errors.New("closed by this side")
)
