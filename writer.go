// writer.go writes what the queue hands out, in as few calls as possible: one way of writing, for the writer goroutine and
// for senders.

package wsd

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
)

// writeLoop is the writer goroutine. It lives until the connection ends, or until nothing has been sent for a while; the
// next message then starts it again. It never fails the group, as it is for the reader to say what ended the connection.
func (c *Conn) writeLoop() error {
	for {
		// Goroutines that are ready to run may have more to send, which then goes with the same write.
		runtime.Gosched()
		c.write(true, math.MaxUint64)
		if !c.queue.sleep() {
			return nil
		}
	}
}

// write writes what is due, up to the frame or message with the number upTo. The writer goroutine waits for the transport.
// A sender does not, and leaves to the writer what the transport does not take at once.
func (c *Conn) write(waits bool, upTo uint64) {
	var b batch
	for c.queue.take(&b) {
		var n int
		var err error
		if waits {
			n, err = b.len(), c.writeAll(&b)
		} else {
			n, err = c.transport.TryWrite(b.head, b.body)
		}
		result := c.queue.wrote(&b, n, err, upTo)
		switch {
		case result.closed:
			c.ending.closeWritten()
		case result.failed:
			c.ending.writeFailed(c.queue.failure())
		}
		if !result.more {
			return
		}
	}
}

// writeWatch ends the connection when the transport takes nothing for too long of what the writer goroutine is writing.
type writeWatch struct {
	within time.Duration // WriteTimeout, 0 for none
	timer  *time.Timer   // made by the first write that waits
	waits  atomic.Bool
	since  atomic.Int64 // on clock: when the present write began to wait
}

// writeAll writes all of b, however long that takes, as long as the transport takes some of it within WriteTimeout.
func (c *Conn) writeAll(b *batch) error {
	head, body := b.head, b.body
	if c.transport.CanTry() {
		// Most writes do not wait.
		n, err := c.transport.TryWrite(head, body)
		if err != nil || n == len(head)+len(body) {
			return err
		}
		rest := batch{head: head, body: body}
		rest.advance(n)
		head, body = rest.head, rest.body
	}
	c.watchWrite()
	defer c.unwatchWrite()
	return c.transport.Write(head, body)
}

func (c *Conn) watchWrite() {
	w := &c.writeWatch
	if w.within == 0 {
		return
	}
	w.since.Store(int64(clock.Now()))
	w.waits.Store(true)
	if w.timer == nil {
		w.timer = time.AfterFunc(w.within, c.checkWrite)
	} else {
		w.timer.Reset(w.within)
	}
}

func (c *Conn) unwatchWrite() {
	if w := &c.writeWatch; w.timer != nil {
		w.waits.Store(false)
		w.timer.Stop()
	}
}

// checkWrite runs on the watch's timer.
func (c *Conn) checkWrite() {
	w := &c.writeWatch
	if !w.waits.Load() {
		return
	}
	since := max(time.Duration(w.since.Load()), c.transport.Progress())
	if left := since + w.within - clock.Now(); left > 0 {
		w.timer.Reset(left)
		return
	}
	c.abort(ErrWriteTimeout)
}
