// ping.go holds the uses of pings and pongs: answers, round trips, the keepalive.

package wsd

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
)

// pongPatience is how long the reader waits for pongs to be written when too many wait.
const pongPatience = 50 * time.Millisecond

// pings holds the Pings that wait for their pongs, oldest first.
type pings struct {
	mu      sync.Mutex // the queue's lock may be taken inside it, so that the order here is that on the wire
	waiting *list.List // of *pingWait; nil before the first
	made    uint64     // payloads made
}

// pingWait is a Ping that waits for its pong.
type pingWait struct {
	payload string
	sentAt  time.Time
	answer  chan time.Duration // has room for the one value; closed without a value at the end; nil for the keepalive's
}

// Ping sends a ping with payload, at most 125 bytes, and returns the time until its pong arrived (RFC 6455, section
// 5.5.2). If payload is nil, Ping makes one of its own. Several pings may be under way: a pong answers the oldest one with
// its payload, and all older ones with it (section 5.5.3). Ping blocks until the pong arrives, ctx is done, or the
// connection ends. For a payload that is too long the error matches ErrMessageTooBig. While Messages is full nothing is
// read, including pongs.
func (c *Conn) Ping(ctx context.Context, payload []byte) (time.Duration, error) {
	if err := c.checkCall("ping", ctx); err != nil {
		return 0, err
	}
	if c.overBrowser() {
		return 0, fmt.Errorf("wsd: ping: a browser sends none: %w", errors.ErrUnsupported)
	}
	if len(payload) > maxControlPayload {
		return 0, fmt.Errorf("%w: ping of %d bytes, at most %d fit", ErrMessageTooBig, len(payload), maxControlPayload)
	}
	place, err := c.pings.send(ctx, &c.queue, payload)
	if err != nil {
		return 0, c.callError(err)
	}
	wait := place.Value.(*pingWait)
	var roundTrip time.Duration
	var answered bool
	select {
	case roundTrip, answered = <-wait.answer:
	case <-ctx.Done():
		if c.pings.forget(place) {
			return 0, canceled("ping", ctx)
		}
		// Both were ready. ctx may be the connection's own: the answer, or how the connection ended, says more.
		roundTrip, answered = <-wait.answer
	}
	if !answered {
		return 0, c.ending.err()
	}
	return roundTrip, nil
}

// send queues a ping once there is room for it.
func (p *pings) send(ctx context.Context, queue *sendQueue, payload []byte) (*list.Element, error) {
	var gaveUp error
	for {
		place, full, err := p.trySend(queue, payload)
		switch {
		case err != nil || place != nil:
			return place, err
		case gaveUp != nil:
			return nil, gaveUp
		}
		gaveUp = waitFor(ctx, full, "ping")
	}
}

// trySend queues a ping if there is room for it. Otherwise it returns a channel that is closed when there may be.
func (p *pings) trySend(queue *sendQueue, payload []byte) (*list.Element, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if payload == nil {
		payload = p.makePayload()
	}
	if full, err := queue.addPing(payload); full != nil || err != nil {
		return nil, full, err
	}
	wait := &pingWait{payload: string(payload), sentAt: time.Now(), answer: make(chan time.Duration, 1)}
	return p.await(wait), nil, nil
}

// await adds a Ping that waits for its pong.
func (p *pings) await(wait *pingWait) *list.Element {
	if p.waiting == nil {
		p.waiting = list.New()
	}
	return p.waiting.PushBack(wait)
}

// makePayload returns a payload that it has not made before.
func (p *pings) makePayload() []byte {
	p.made++
	return binary.BigEndian.AppendUint64(nil, p.made)
}

// sendKeepalive queues a ping of the keepalive, and reports whether something else was still to be written. If it is timed,
// its pong is awaited, by nobody but match.
func (p *pings) sendKeepalive(queue *sendQueue, timed bool) (late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	payload := p.makePayload()
	added, late := queue.addKeepalivePing(payload)
	if timed && added {
		// A peer that does not answer must not make this grow.
		for place := p.oldest(); place != nil; place = place.Next() {
			if place.Value.(*pingWait).answer == nil {
				p.waiting.Remove(place)
				break
			}
		}
		p.await(&pingWait{payload: string(payload), sentAt: time.Now()})
	}
	return late
}

// forget ends the wait for a pong, and reports false if something else already has.
func (p *pings) forget(place *list.Element) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.waiting.Len()
	p.waiting.Remove(place)
	return p.waiting.Len() < before
}

// match gives a pong to the Ping that waits for it, and returns the time between the two. An unsolicited pong is fine (RFC
// 6455, section 5.5.3).
func (p *pings) match(payload []byte) (roundTrip time.Duration, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for place := p.oldest(); place != nil; place = place.Next() {
		if place.Value.(*pingWait).payload == string(payload) {
			p.settle(place, func(w *pingWait) {
				if roundTrip = time.Since(w.sentAt); w.answer != nil {
					w.answer <- roundTrip
				}
			})
			return roundTrip, true
		}
	}
	return 0, false
}

// oldest returns the place of the Ping that has waited longest, nil if none waits.
func (p *pings) oldest() *list.Element {
	if p.waiting == nil {
		return nil
	}
	return p.waiting.Front()
}

// settle ends the waits up to a place, all for nil, in the way that answer says.
func (p *pings) settle(last *list.Element, answer func(*pingWait)) {
	for place := p.oldest(); place != nil; place = p.oldest() {
		answer(p.waiting.Remove(place).(*pingWait))
		if place == last {
			return
		}
	}
}

// fail tells the Pings still waiting, at the end, that no pong will come.
func (p *pings) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle(nil, func(w *pingWait) {
		if w.answer != nil {
			close(w.answer)
		}
	})
}

// keepalive finds peers that are gone: it sends pings, and judges a peer that stays silent.
type keepalive struct {
	mu          sync.Mutex // guards all below; other locks of the connection may be taken inside it
	timer       *time.Timer
	due         time.Duration // on clock: when the timer was to run
	unanswered  uint32        // pings that the peer has been silent after
	pingLate    bool          // the first of them had to wait to be written
	lookedAgain bool          // the timer ran late when the peer was to be judged, and it was given more time
	stopped     bool
	// What signs showed at the first of them.
	bytesSeen    uint64
	progressSeen time.Duration
}

// signs are what shows whether a peer lives.
type signs struct {
	bytes     uint64        // that have come from the transport
	progress  time.Duration // on clock: when the transport last took bytes
	pingWaits bool          // to be written
	stalled   bool          // the reader waits for the consumer
}

// note keeps what signs show.
func (k *keepalive) note(now signs) { k.bytesSeen, k.progressSeen = now.bytes, now.progress }

// startKeepalive begins to send pings.
func (c *Conn) startKeepalive() {
	k, every := &c.keepalive, c.settings.pingEvery
	if every == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.due = clock.Now() + every
	k.timer = time.AfterFunc(every, func() {
		if c.tendPeer() == peerGone {
			c.ending.abort(ErrPongTimeout)
		}
	})
}

// stop ends the keepalive.
func (k *keepalive) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	if k.timer != nil {
		k.timer.Stop()
	}
}

// reset sets the timer.
func (k *keepalive) reset(after time.Duration) {
	k.due = clock.Now() + after
	k.timer.Reset(after)
}

// tendPeer runs on the keepalive's timer. It judges the peer if the time for an answer is up, sends a ping if one is due, and
// sets the timer.
func (c *Conn) tendPeer() verdict {
	k, every, within := &c.keepalive, c.settings.pingEvery, c.settings.pongWithin
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped || c.ending.state() != StateOpen {
		return peerUnjudged
	}
	now := signs{c.reader.bytesRead.Load(), c.transport.Progress(), c.queue.pingWaits(), c.reader.stalled.Load()}
	// due is how long after the first unanswered ping the next one is due. If the answer is due no later than that, the
	// timer ran for the answer.
	due := time.Duration(k.unanswered) * every
	if k.unanswered > 0 && due >= within {
		switch v := k.judge(now, c.reader.stallSeen.Load()); v {
		case peerGone:
			return v
		case peerUnjudged:
			k.note(now)
			c.reader.stallSeen.Store(now.stalled)
			k.reset(within)
			return v
		case peerUnread:
			k.lookedAgain = true
			k.reset(within) // the ping, too, may have left late
			return v
		}
		k.unanswered, k.lookedAgain = 0, false
		if due -= within; due > 0 {
			k.reset(due)
			return peerAlive
		}
	}
	next := every
	first := within > 0 && (k.unanswered == 0 || now.bytes != k.bytesSeen)
	if first {
		// Something has arrived since the last ping. The time for which the peer may be silent starts again with this one.
		k.unanswered, due = 0, 0
		k.note(now)
		c.reader.stallSeen.Store(now.stalled)
	}
	if within > 0 {
		k.unanswered++
		next = min(next, within-due)
	}
	k.reset(next)
	if late := c.pings.sendKeepalive(&c.queue, c.settings.trace.timesPings()); first {
		k.pingLate = late
	}
	return peerUnjudged
}

// What the keepalive concludes about the peer when the time for a pong is up.
type verdict int

const (
	peerAlive verdict = iota
	peerGone
	peerUnjudged // it has not had that much time yet
	peerUnread   // this side may not have had the time to read what it sent
)

// onTime is how late a timer may run on a machine that is not busy.
const onTime = time.Millisecond

// judge concludes about the peer from what shows of it now and what was seen at the first unanswered ping. stalled says
// that the reader has waited for the consumer since.
func (k *keepalive) judge(now signs, stalled bool) verdict {
	if now.pingWaits && now.progress != k.progressSeen {
		// The peer is slowly reading what is ahead of the ping.
		k.pingLate = true
		return peerUnjudged
	}
	// A consumer that does not receive keeps pongs from being read. Pings continue while nothing is read, since only a
	// failed write can then tell that the peer is gone.
	if now.bytes != k.bytesSeen || now.stalled || stalled {
		return peerAlive
	}
	if k.pingLate && !now.pingWaits {
		// The ping has been written since, but it is not known when.
		k.pingLate = false
		return peerUnjudged
	}
	if clock.Now()-k.due > onTime && !k.lookedAgain {
		// The process was stopped, or had no processor: what the peer has sent may be there, unread.
		return peerUnread
	}
	return peerGone
}
