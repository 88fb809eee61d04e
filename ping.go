// ping.go is what pings and pongs are for: answers, round trips, the keepalive.

package wsd

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

const (
	// maxWaiting is how many bytes of pings, and how many of pongs, may wait to be written.
	maxWaiting = 64 << 10
	// pongPatience is how long the reader waits for pongs to be written when too many wait.
	pongPatience = 50 * time.Millisecond
)

// pingWait is a Ping that waits for its pong.
type pingWait struct {
	payload string
	sent    time.Time
	answer  chan time.Duration // has room for the one value; closed without one at the end
}

// Ping sends a ping with payload, at most 125 bytes, and returns the time until its pong came (RFC 6455, section
// 5.5.2). With a nil payload it makes one of its own. Pings may be under way at the same time: a pong answers the
// oldest with its payload, and with it all older ones, for a peer need answer the latest only (section 5.5.3).
// It blocks until the pong comes, ctx is done, or the connection ends: the error matches ctx's and its cause, or
// ErrClosed. A payload that is too long gives ErrMessageTooBig at once. While Messages is full nothing is read, pongs
// neither.
func (c *Conn) Ping(ctx context.Context, payload []byte) (time.Duration, error) {
	if err := c.checkCall("ping", ctx); err != nil {
		return 0, err
	}
	if len(payload) > maxControlPayload {
		return 0, fmt.Errorf("%w: ping of %d bytes, at most %d fit", ErrMessageTooBig, len(payload), maxControlPayload)
	}
	wait, err := c.queuePing(ctx, payload)
	if err != nil {
		return 0, err
	}
	var roundTrip time.Duration
	var answered bool
	select {
	case roundTrip, answered = <-wait.answer:
	case <-ctx.Done():
		if c.forgetPing(wait) {
			return 0, canceled("ping", ctx)
		}
		// Both were ready. ctx may be the connection's own: the answer, or how it ended, says more.
		roundTrip, answered = <-wait.answer
	}
	if !answered {
		return 0, c.endError()
	}
	return roundTrip, nil
}

// queuePing queues a ping once there is room for it.
func (c *Conn) queuePing(ctx context.Context, payload []byte) (*pingWait, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	var over error
	for ; !o.refused && o.pingBytes() > maxWaiting; over = c.awaitProgress("ping", ctx) {
		if over != nil {
			return nil, over
		}
	}
	if o.refused {
		return nil, c.endErrorLocked()
	}
	if payload == nil {
		payload = c.nextPing()
	}
	wait := &pingWait{payload: string(payload), sent: time.Now(), answer: make(chan time.Duration, 1)}
	c.pings = append(c.pings, wait)
	o.controls().pings = o.appendFrame(o.controls().pings, finBit|byte(OpPing), payload)
	c.wakeWriter()
	return wait, nil
}

// forgetPing ends the waiting for a pong, and reports false where something else has.
func (c *Conn) forgetPing(wait *pingWait) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.pings, wait)
	if i < 0 {
		return false
	}
	c.pings = slices.Delete(c.pings, i, i+1)
	return true
}

// nextPing returns a payload that no ping of this connection has had. Called with mu held.
func (c *Conn) nextPing() []byte {
	c.pingID++
	return binary.BigEndian.AppendUint64(nil, c.pingID)
}

// matchPong gives a pong to the Ping that waits for it. A pong that nobody waits for is fine (RFC 6455, section 5.5.3).
func (c *Conn) matchPong(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, wait := range c.pings {
		if wait.payload != string(payload) {
			continue
		}
		for _, answered := range c.pings[:i+1] {
			answered.answer <- time.Since(answered.sent)
		}
		c.pings = c.pings[i+1:]
		return
	}
}

// failPings tells those who still wait that no pong will come. Called with mu held, at the end.
func (c *Conn) failPings() {
	for _, wait := range c.pings {
		close(wait.answer)
	}
	c.pings = nil
}

// answerPing queues a pong. Where so many wait that the peer cannot be reading them, only the newest is kept
// (RFC 6455, section 5.5.3).
func (c *Conn) answerPing(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	if o.pongBytes() > maxWaiting && !o.refused {
		c.relievePongs()
	}
	if o.refused {
		return // a close frame may be on its way, and nothing follows that
	}
	control := o.controls()
	control.pongs = o.appendFrame(control.pongs, finBit|byte(OpPong), payload)
	control.pongCount++
	c.wakeWriter()
}

// relievePongs waits for the writer to take the pongs that wait, and forgets them where it does not for a while: the
// peer does not read. Called with mu held, which it gives up meanwhile.
func (c *Conn) relievePongs() {
	o := &c.out
	if !c.pongsStuck {
		patience := time.NewTimer(pongPatience)
		defer patience.Stop()
		for expired := false; !expired && !o.stopped && o.pongBytes() > maxWaiting; {
			progress := o.progressed()
			c.mu.Unlock()
			select {
			case <-progress:
			case <-patience.C:
				expired = true
			}
			c.mu.Lock()
		}
	}
	if o.pongBytes() > maxWaiting && !o.refused {
		c.pongsStuck = true
		o.coalesced += o.control.pongCount
		o.control.pongs, o.control.pongCount = o.control.pongs[:0], 0 // answerPing appends to it at once
	}
}

// keepAlive runs on the keepalive's timer, when a ping is due or the time for an answer is over.
func (c *Conn) keepAlive() {
	c.mu.Lock()
	if c.out.refused || c.event.Err != nil {
		c.mu.Unlock()
		return
	}
	// How long after the first ping without an answer the next one is due. Where the answer is not due later, the timer
	// has run for the answer.
	due := time.Duration(c.pinged) * c.pingEvery
	if c.pinged > 0 && due >= c.pongWithin {
		switch c.judgePeer() {
		case peerGone:
			c.mu.Unlock()
			c.abort(ErrPongTimeout)
			return
		case peerUnjudged:
			c.lookAtPeer()
			c.keepalive.Reset(c.pongWithin)
			c.mu.Unlock()
			return
		}
		c.pinged = 0
		if due -= c.pongWithin; due > 0 {
			c.keepalive.Reset(due)
			c.mu.Unlock()
			return
		}
	}
	defer c.mu.Unlock()
	next := c.pingEvery
	if c.pongWithin > 0 {
		if c.pinged == 0 || c.bytesRead.Load() != c.bytesSeen {
			// Something has come since the last one. From this one on the peer may be silent for so long.
			c.pinged, due = 0, 0
			c.lookAtPeer()
			c.pingLate = !c.out.idle() || c.out.writing
		}
		c.pinged++
		next = min(next, c.pongWithin-due)
	}
	c.keepalive.Reset(next)
	c.sendKeepalive()
}

// lookAtPeer notes how things stand with the peer, for judgePeer to see what has changed. Called with mu held.
func (c *Conn) lookAtPeer() {
	c.bytesSeen, c.writesSeen = c.bytesRead.Load(), c.transport.progress.Load()
	c.stallSeen.Store(c.stalled.Load())
}

// sendKeepalive queues a ping, unless there is one that waits to be written. Called with mu held.
func (c *Conn) sendKeepalive() {
	o := &c.out
	if o.pingBytes() == 0 {
		o.controls().pings = o.appendFrame(nil, finBit|byte(OpPing), c.nextPing())
	}
	// A writer that has had no message since the last time ends when it has written this ping.
	o.unused = true
	c.wakeWriter()
}

// What the keepalive thinks of the peer when the time for a pong is over.
type verdict int

const (
	peerAlive verdict = iota
	peerGone
	peerUnjudged // it has not had that time yet
)

// judgePeer is called with mu held.
func (c *Conn) judgePeer() verdict {
	// A consumer that does not receive keeps pongs from being read. Pings go on while nothing is read, for only a write
	// that fails tells then that the peer is gone.
	stalled := c.stallSeen.Load() || c.stalled.Load()
	if unsent := c.out.pingBytes() > 0; unsent && c.transport.progress.Load() != c.writesSeen {
		// The peer reads slowly what is ahead of the ping.
		c.pingLate = true
		return peerUnjudged
	}
	if c.bytesRead.Load() != c.bytesSeen || stalled {
		return peerAlive
	}
	if c.pingLate && c.out.pingBytes() == 0 {
		// The ping has been written since, and who knows when.
		c.pingLate = false
		return peerUnjudged
	}
	return peerGone
}
