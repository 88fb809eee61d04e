// reader.go is the reader goroutine: transport to parser to Messages, and the end of a connection as the reader sees it.

package wsd

import (
	"slices"
	"time"
)

// readLoop reads until the connection ends, and returns the cause, or until it is parked. buffered is what had been read
// before.
func (c *Conn) readLoop(buffered []byte) error {
	err := c.readMessages(buffered)
	if err == errParked {
		return nil // and the connection may be another reader's already
	}
	// Nothing more will be delivered. A consumer that ranges over Messages gets to its end now, and its answers still
	// leave ahead of the close frame.
	switch failed, ok := err.(readError); {
	case err == nil:
		c.endOnClose()
	case ok:
		c.endOnReadError(failed.error)
	default:
		c.endOnViolation(err)
	}
	c.transport.release()
	c.mu.Lock()
	c.refuseSends()
	c.stopWriter()
	cause := c.event.Err
	c.mu.Unlock()
	c.transport.close()
	go c.finish()
	return cause
}

// readError is what the transport failed with. That may be anything: in a tunnel, the violation of another connection.
type readError struct{ error }

// isViolation reports whether the cause of an end is a violation of this connection's own. Those of others, which a
// transport or a context may fail with, have been given a problem.
func isViolation(err error) bool {
	_, violation := err.(*ProtocolError)
	return violation || err == ErrSlowConsumer
}

// readMessages delivers what comes. It returns nil when the peer's close frame has come, and errParked when nothing has
// come for a while.
func (c *Conn) readMessages(buffered []byte) error {
	if closed, err := c.parse(buffered); closed || err != nil {
		return err
	}
	found := len(buffered) > 0
	wait := c.waits()
	for {
		direct := c.parser.direct()
		c.transport.brief = c.parser.expectsLong()
		b, err := c.transport.read(direct, wait)
		if err != nil {
			switch {
			case !c.foundQuiet(err):
				return readError{err}
			case !found && err == errNothingThere:
				// A poller may take for readable what gives a read nothing, such as a full queue of errors. Parked again
				// at once, such a socket would have readers come and go without end.
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

// parse delivers all that is in b, and reports whether a close frame was there.
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

// handle does what one event asks for, and reports whether it was a close frame.
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

// clock tells the time since some moment: less to keep, and sooner read, than a time.Time.
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
	// Counted before it is there, for the consumer may answer at once.
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

// deliverSlow delivers to a consumer for whom messages wait already.
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
		var again <-chan time.Time // nobody tells that a message has been taken
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
			// This side closes. A gap would be worse than an end: nothing behind this message is delivered either.
			c.discarding = true
			return false, nil
		case <-stall:
			return false, ErrSlowConsumer
		}
	}
}

const (
	// heavyMost is how many bytes of heavy messages may wait in Messages, where they are more than one: a peer that
	// compresses sends a thousandth of them.
	heavyMost = 64 << 20
	// heavyLeast is from how many bytes on a message counts for that.
	heavyLeast = 1 << 20
	// heavyPause is how long the reader waits at first before it looks again whether there is room for one more, and
	// heavyPauseMost how long at the most.
	heavyPause     = time.Millisecond
	heavyPauseMost = 100 * time.Millisecond
)

// heavyMessage is one that went into Messages and may wait there still.
type heavyMessage struct {
	number uint64 // as delivered counts
	size   int
}

// roomFor reports whether a heavy message, which delivered counts already, may go into Messages.
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

// noteHeavy counts the message that has gone into Messages for those that wait there, where it is heavy.
func (c *Conn) noteHeavy(size int) {
	if size >= heavyLeast {
		*c.heavy = append(*c.heavy, heavyMessage{c.delivered.Load(), size})
	}
}

// endOnClose answers the peer's close frame, unless it is itself the answer, and waits for the peer to end the
// transport where that is the peer's to do (RFC 6455, sections 5.5.1 and 7.1.1).
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
		c.transport.discard()
	}
}

// endOnViolation fails the connection (RFC 6455, section 7.1.7): a close frame that says why, and no more.
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
	if c.awaitCloseWritten() && c.transport.halfCloses() {
		// With bytes unread, closing now would reset the connection, and the reset can overtake the close frame. The end
		// of this side's bytes waits for a pause: proxies take it for the end of both, and reset a peer that goes on.
		quiet := failQuiet
		if c.parser.frame.opcode == OpClose {
			quiet = 0 // nothing follows a close frame, not even one that breaks the rules
		}
		pause := time.AfterFunc(quiet, func() {
			if !c.transport.closeWrite() {
				c.transport.abort()
			}
		})
		defer pause.Stop()
		c.drain(func() { pause.Reset(failPause) })
	}
}

// endOnReadError ends a connection whose transport gives no more.
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

// awaitAnswers gives the consumer a moment to answer what was delivered just now.
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

// drain reads and forgets until the peer ends its bytes, for at most lingerTime. more is called when some have come.
func (c *Conn) drain(more func()) {
	timer := time.AfterFunc(lingerTime, c.transport.abort)
	defer timer.Stop()
	for {
		if _, err := c.transport.read(nil, true); err == nil {
			more()
		} else if !c.foundQuiet(err) {
			return
		}
	}
}
