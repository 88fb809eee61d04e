// reader.go is the reader goroutine: from transport to parser to Messages, and the end of a connection as the reader sees
// it.

package wsd

import (
	"slices"
	"time"

	"github.com/seed62836080/wsd/internal/netio"
)

// readLoop reads until the connection ends, and then returns the cause, or until it is parked. buffered is what has been
// read before.
func (c *Conn) readLoop(buffered []byte) error {
	err := c.readMessages(buffered)
	if err == errParked {
		return nil // and the connection may be another reader's already
	}
	// Nothing more will be delivered. A consumer that ranges over Messages now reaches the end, and its answers still
	// leave ahead of the close frame.
	switch failed, ok := err.(readError); {
	case err == nil:
		c.endOnClose()
	case ok:
		c.endOnReadError(failed.error)
	default:
		c.endOnViolation(err)
	}
	c.transport.Release()
	c.mu.Lock()
	c.refuseSends()
	c.stopWriter()
	cause := c.event.Err
	c.mu.Unlock()
	c.transport.Close()
	go c.finish()
	return cause
}

// readError is the error with which the transport failed. It may be anything, even another connection's violation if the
// transport is a tunnel.
type readError struct{ error }

// isViolation reports whether the cause of an end is a violation on this connection. A violation on another connection,
// with which a transport or a context may fail, has been wrapped with a problem.
func isViolation(err error) bool {
	_, violation := err.(*ProtocolError)
	return violation || err == ErrSlowConsumer
}

// readMessages delivers what arrives. It returns nil when the peer's close frame has arrived, and errParked when nothing
// has arrived for a while.
func (c *Conn) readMessages(buffered []byte) error {
	if closed, err := c.parse(buffered); closed || err != nil {
		return err
	}
	found := len(buffered) > 0
	wait := c.waits()
	for {
		direct := c.parser.direct()
		c.transport.ExpectLong(c.parser.expectsLong())
		b, err := c.transport.Read(direct, wait)
		if err != nil {
			switch {
			case !c.foundQuiet(err):
				return readError{err}
			case !found && err == netio.ErrNothing:
				// A poller may report as readable what gives a read nothing, such as a full queue of errors. If such a
				// socket were parked again at once, readers would come and go endlessly.
				c.startWatch()
			case c.park():
				return errParked
			}
			wait = true
			continue
		}
		found = true
		c.bytesRead.Add(uint64(len(b)))
		c.stamped = false
		if direct != nil {
			event, err := c.parser.filled(len(b))
			if err == nil {
				_, err = c.handle(event)
			}
			if err != nil {
				return err
			}
		} else if closed, err := c.parse(b); closed || err != nil {
			return err
		}
		wait = c.waits()
	}
}

// parse delivers everything in b, and reports whether a close frame was in it.
func (c *Conn) parse(b []byte) (closed bool, err error) {
	for len(b) > 0 {
		event, n, err := c.parser.Parse(b)
		if err != nil {
			return false, err
		}
		b = b[n:]
		// Send looks at this to see whether more answers are about to come.
		if left := len(b) > 0; left != c.batchLeft.Load() {
			c.batchLeft.Store(left)
		}
		if closed, err = c.handle(event); closed || err != nil {
			return closed, err
		}
	}
	return false, nil
}

// handle acts on one event, and reports whether it was a close frame.
func (c *Conn) handle(event Event) (closed bool, err error) {
	switch event.Opcode {
	case OpText, OpBinary:
		return false, c.deliver(event.Message())
	case OpPing:
		c.answerPing(event.Data)
	case OpPong:
		c.matchPong(event.Data)
	case OpClose:
		c.mu.Lock()
		c.peerClose = &CloseError{Code: event.Code, Reason: string(event.Data)}
		c.setCause(c.peerClose, event.Code, c.peerClose.Reason)
		c.mu.Unlock()
		return true, nil
	}
	return false, nil
}

// clock returns the time since a fixed moment. That is smaller, and faster to read, than a time.Time.
func clock() time.Duration { return time.Since(clockStart) }

var clockStart = time.Now()

// deliver puts a message into Messages.
func (c *Conn) deliver(m Message) error {
	c.dataRead.Add(uint64(len(m.Data)))
	if c.discarding {
		c.dropped.Add(1)
		return nil
	}
	if !c.stamped {
		now := clock()
		c.stamped, c.pause, c.deliveredAt = true, now-c.deliveredAt, now
		if c.answered.Load() >= c.delivered.Load() {
			c.settledAt = c.deliveredAt
		}
	}
	// Count it before it is there, as the consumer may answer at once.
	c.delivered.Add(1)
	if len(m.Data) < heavyLeast || c.roomFor(len(m.Data)) {
		select {
		case c.messages <- m:
			c.noteHeavy(len(m.Data))
			return nil
		default:
		}
	}
	delivered, err := c.deliverSlow(m)
	if !delivered {
		c.delivered.Add(^uint64(0))
		c.dropped.Add(1)
	}
	return err
}

// deliverSlow delivers to a consumer that already has messages waiting.
func (c *Conn) deliverSlow(m Message) (delivered bool, err error) {
	var stall <-chan time.Time
	switch c.policy {
	case DropSlow:
		if !c.dropReport {
			c.dropReport = true
			c.mu.Lock()
			c.report(ErrSlowConsumer, 1)
			c.mu.Unlock()
		}
		return false, nil
	case CloseSlow:
		if c.stallAfter > 0 {
			timer := time.NewTimer(c.stallAfter)
			defer timer.Stop()
			stall = timer.C
		}
	}
	c.mu.Lock()
	closing := c.closes()
	c.mu.Unlock()
	c.stalled.Store(true)
	defer c.stalled.Store(false)
	c.stallSeen.Store(true)
	for pause := heavyPause; ; pause = min(2*pause, heavyPauseMost) {
		messages := c.messages
		var again <-chan time.Time // nothing signals that a message has been taken
		if len(m.Data) >= heavyLeast && !c.roomFor(len(m.Data)) {
			messages, again = nil, time.After(pause)
		}
		select {
		case messages <- m:
			c.noteHeavy(len(m.Data))
			c.deliveredAt = clock()
			return true, nil
		case <-again:
		case <-closing:
			// This side closes. A gap would be worse than an end: nothing after this message is delivered either.
			c.discarding = true
			return false, nil
		case <-stall:
			return false, ErrSlowConsumer
		}
	}
}

const (
	// heavyMost is how many bytes of heavy messages may wait in Messages, if there are more than one: a peer that
	// compresses sends a thousandth of that.
	heavyMost = 64 << 20
	// heavyLeast is the size in bytes from which a message is heavy.
	heavyLeast = 1 << 20
	// heavyPause is how long the reader waits at first before it checks again whether there is room for one more, and
	// heavyPauseMost is the maximum.
	heavyPause     = time.Millisecond
	heavyPauseMost = 100 * time.Millisecond
)

// heavyMessage is one that went into Messages and may still wait there.
type heavyMessage struct {
	number uint64 // the value of delivered that counted it
	size   int
}

// roomFor reports whether a heavy message, which delivered already counts, may go into Messages.
func (c *Conn) roomFor(size int) bool {
	if c.heavy == nil {
		c.heavy = new([]heavyMessage)
	}
	taken := c.delivered.Load() - 1 - uint64(len(c.messages))
	waiting := slices.DeleteFunc(*c.heavy, func(message heavyMessage) bool { return message.number <= taken })
	*c.heavy = waiting
	for _, message := range waiting {
		size += message.size
	}
	return len(waiting) == 0 || size <= heavyMost
}

// noteHeavy records the message that has gone into Messages as waiting there, if it is heavy.
func (c *Conn) noteHeavy(size int) {
	if size >= heavyLeast {
		*c.heavy = append(*c.heavy, heavyMessage{c.delivered.Load(), size})
	}
}

// endOnClose answers the peer's close frame, unless that is itself the answer, and waits for the peer to end the
// transport if it is up to the peer to do so (RFC 6455, sections 5.5.1 and 7.1.1).
func (c *Conn) endOnClose() {
	close(c.messages)
	c.awaitAnswers()
	c.mu.Lock()
	c.queueClose(StatusNoStatus, "")
	c.mu.Unlock()
	switch written := c.awaitCloseWritten(); {
	case written && c.role == ClientRole:
		c.drain(func() {})
	case written:
		c.transport.Discard()
	}
}

// endOnViolation fails the connection (RFC 6455, section 7.1.7) with a close frame that says why, and sends nothing after
// it.
func (c *Conn) endOnViolation(err error) {
	code, reason := StatusPolicyViolation, "messages are not being received"
	if violation, ok := err.(*ProtocolError); ok {
		code, reason = violation.Code, violation.Problem
	}
	reason = reason[:min(len(reason), maxCloseReason)]
	c.mu.Lock()
	c.setCause(err, code, reason)
	if c.event.Err == err {
		c.report(err, 0)
	}
	c.mu.Unlock()
	close(c.messages)
	c.awaitAnswers()
	c.mu.Lock()
	c.queueClose(code, reason)
	c.mu.Unlock()
	if c.awaitCloseWritten() && c.transport.HalfCloses() {
		// With bytes unread, closing now would reset the connection, and the reset can overtake the close frame.
		// Half-closing waits for a pause: proxies take it for the end of both directions, and reset a peer that keeps
		// sending.
		quiet := failQuiet
		if c.parser.frame.opcode == OpClose {
			quiet = 0 // nothing follows a close frame, not even one that breaks the rules
		}
		pause := time.AfterFunc(quiet, func() {
			if !c.transport.CloseWrite() {
				c.transport.Abort()
			}
		})
		defer pause.Stop()
		c.drain(func() { pause.Reset(failPause) })
	}
}

// endOnReadError ends a connection whose transport can no longer be read.
func (c *Conn) endOnReadError(err error) {
	c.mu.Lock()
	switch {
	case c.out.failed != nil:
		err = c.out.failed
	case c.out.closeFrame != nil:
		err = &causeError{"the connection ended before the peer's close frame", err}
	default:
		err = &causeError{"the connection ended without a close frame", err}
	}
	c.setCause(err, StatusAbnormalClosure, "")
	c.mu.Unlock()
	close(c.messages)
}

// awaitAnswers gives the consumer a moment to answer what has just been delivered.
func (c *Conn) awaitAnswers() {
	c.mu.Lock()
	if c.out.refused || c.answered.Load() >= c.delivered.Load() {
		c.mu.Unlock()
		return
	}
	over := make(chan struct{}, 1)
	c.graceOver = over
	closing := c.closes()
	c.mu.Unlock()
	until := max(c.deliveredAt+silentGrace, c.settledAt+answerGrace)
	timer := time.NewTimer(until - clock())
	defer timer.Stop()
	select {
	case <-over:
	case <-closing:
	case <-timer.C:
	}
	c.mu.Lock()
	c.graceOver = nil
	c.mu.Unlock()
}

// answersGiven ends awaitAnswers. Called with mu held.
func (c *Conn) answersGiven() {
	if c.graceOver != nil {
		select {
		case c.graceOver <- struct{}{}:
		default:
		}
	}
}

// awaitCloseWritten waits until the close frame has been written, and reports whether it was.
func (c *Conn) awaitCloseWritten() bool {
	c.mu.Lock()
	for !c.out.closeWritten && !c.out.stopped && c.out.failed == nil {
		progress := c.out.progressed()
		c.mu.Unlock()
		<-progress
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	return c.out.closeWritten
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
