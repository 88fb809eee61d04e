// ping.go holds the uses of pings and pongs: answers, round trips, the keepalive.

package wsd

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

const (
	// maxWaiting is how many bytes of pings may wait to be written, and how many of pongs.
	maxWaiting = 64 << 10
	// pongPatience is how long the reader waits for pongs to be written when too many wait.
	pongPatience = 50 * time.Millisecond
)

// pingWait is a Ping that waits for its pong.
type pingWait struct {
	payload string
	sent    time.Time
	answer  chan time.Duration // has room for the one value; closed without a value at the end
}

// Ping sends a ping with payload, at most 125 bytes, and returns the time until its pong arrived (RFC 6455, section
// 5.5.2). If payload is nil, Ping makes one of its own. Several pings may be under way at the same time: a pong answers
// the oldest one with its payload, and all older ones with it, because a peer need only answer the latest (section
// 5.5.3). Ping blocks until the pong arrives, ctx is done, or the connection ends; the error matches ctx's error and its
// cause, or ErrClosed. For a payload that is too long, Ping returns an error matching ErrMessageTooBig at once. While
// Messages is full nothing is read, including pongs.
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
		// Both were ready. ctx may be the connection's own: the answer, or how the connection ended, says more.
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

// forgetPing ends the wait for a pong, and reports false if something else already has.
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

// nextPing returns a payload that nextPing has not used on this connection. Called with mu held.
func (c *Conn) nextPing() []byte {
	c.pingID++
	return binary.BigEndian.AppendUint64(nil, c.pingID)
}

// matchPong gives a pong to the Ping that waits for it. An unsolicited pong is fine (RFC 6455, section 5.5.3).
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

// failPings tells the Pings still waiting that no pong will come. Called with mu held, at the end.
func (c *Conn) failPings() {
	for _, wait := range c.pings {
		close(wait.answer)
	}
	c.pings = nil
}

// answerPing queues a pong. If so many are waiting that the peer cannot be reading them, only the newest is kept (RFC
// 6455, section 5.5.3).
func (c *Conn) answerPing(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	if o.pongBytes() > maxWaiting && !o.refused {
		c.relievePongs()
	}
	if o.refused {
		return // a close frame may be on its way, and nothing may follow it
	}
	control := o.controls()
	control.pongs = o.appendFrame(control.pongs, finBit|byte(OpPong), payload)
	control.pongCount++
	c.wakeWriter()
}

// relievePongs waits for the writer to take the waiting pongs. If the writer does not take them for a while, the peer is
// not reading, and relievePongs discards them. Called with mu held, which it releases meanwhile.
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

// keepAlive runs on the keepalive's timer, when a ping is due or the time for an answer is up.
func (c *Conn) keepAlive() {
	c.mu.Lock()
	if c.out.refused || c.event.Err != nil {
		c.mu.Unlock()
		return
	}
	// due is how long after the first unanswered ping the next one is due. If the answer is due no later than that, the
	// timer ran for the answer.
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
			// Something has arrived since the last ping. The time for which the peer may be silent starts again with this
			// one.
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

// lookAtPeer notes the state of the peer, so that judgePeer can see what has changed. Called with mu held.
func (c *Conn) lookAtPeer() {
	c.bytesSeen, c.writesSeen = c.bytesRead.Load(), c.transport.Progress()
	c.stallSeen.Store(c.stalled.Load())
}

// sendKeepalive queues a ping, unless one is already waiting to be written. Called with mu held.
func (c *Conn) sendKeepalive() {
	o := &c.out
	if o.pingBytes() == 0 {
		o.controls().pings = o.appendFrame(nil, finBit|byte(OpPing), c.nextPing())
	}
	// A writer that has had no message since the last ping ends when it has written this one.
	o.unused = true
	c.wakeWriter()
}

// What the keepalive concludes about the peer when the time for a pong is up.
type verdict int

const (
	peerAlive verdict = iota
	peerGone
	peerUnjudged // it has not had that much time yet
)

// judgePeer is called with mu held.
func (c *Conn) judgePeer() verdict {
	// A consumer that does not receive keeps pongs from being read. Pings continue while nothing is read, since only a
	// failed write can then tell that the peer is gone.
	stalled := c.stallSeen.Load() || c.stalled.Load()
	if unsent := c.out.pingBytes() > 0; unsent && c.transport.Progress() != c.writesSeen {
		// The peer is slowly reading what is ahead of the ping.
		c.pingLate = true
		return peerUnjudged
	}
	if c.bytesRead.Load() != c.bytesSeen || stalled {
		return peerAlive
	}
	if c.pingLate && c.out.pingBytes() == 0 {
		// The ping has been written since, but it is not known when.
		c.pingLate = false
		return peerUnjudged
	}
	return peerGone
}
