// rate.go bounds how fast a peer is read.

package wsd

import (
	"time"

	"github.com/seed62836080/wsd/internal/clock"
)

// ReceiveRate bounds what is received from a peer, by reading no faster: what the peer sends beyond it waits in the network,
// which slows the peer down. Zero means no bound.
type ReceiveRate struct {
	// Messages is how many messages a second are received on average. Pings and pongs count.
	Messages int
	// Bytes is how many bytes a second are read on average, as they come from the network: frame headers included, and
	// compressed where that was agreed on.
	Bytes int
	// Burst is how long a peer may have been silent to send more later: it may send at once what the two rates allow for so
	// long a time. Default 1 s.
	Burst time.Duration
}

const (
	defaultBurst = time.Second
	// paceLeast is the shortest wait worth a timer.
	paceLeast = time.Millisecond
)

// pace keeps a ReceiveRate. Only the reader uses it.
type pace struct {
	rate            ReceiveRate
	messages, bytes time.Duration // on clock: until when what has come is paid for
	off             bool          // this side closes, and reads to the end
}

// newPace returns nil for no bound.
func newPace(rate ReceiveRate) *pace {
	if rate.Messages <= 0 && rate.Bytes <= 0 {
		return nil
	}
	rate.Burst = durationOr(rate.Burst, defaultBurst)
	begin := clock.Now() - rate.Burst
	return &pace{rate: rate, messages: begin, bytes: begin}
}

// charge counts what has come, and returns for how long nothing more is to be read.
func (p *pace) charge(messages, bytes int) time.Duration {
	now := clock.Now()
	pay := func(paid *time.Duration, count, rate int) time.Duration {
		if rate <= 0 {
			return 0
		}
		*paid = max(*paid, now-p.rate.Burst) + time.Duration(count)*time.Second/time.Duration(rate)
		return *paid - now
	}
	return max(pay(&p.messages, messages, p.rate.Messages), pay(&p.bytes, bytes, p.rate.Bytes))
}

// keepPace waits for as long as a ReceiveRate asks for behind what has come. It is small enough to be inlined, so that a
// connection without a rate does not pay for a call.
func (c *Conn) keepPace(messages, bytes int) {
	if c.reader.pace != nil {
		c.waitForPace(messages, bytes)
	}
}

// waitForPace is keepPace with a rate. While it waits, the keepalive does not judge the peer.
func (c *Conn) waitForPace(messages, bytes int) {
	p := c.reader.pace
	if p.off {
		return
	}
	wait := p.charge(messages, bytes)
	if wait < paceLeast {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	c.reader.stalled.Store(true)
	defer c.reader.stalled.Store(false)
	c.reader.stallSeen.Store(true)
	select {
	case <-timer.C:
	case <-c.queue.refusalChannel():
		p.off = true
	}
}
