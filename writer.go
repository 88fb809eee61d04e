// writer.go writes what the queue hands out, in as few calls as possible: one way of writing, for the writer goroutine, for
// senders, and for the few goroutines that write what goes to many.

package wsd

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/netio"
)

// writeLoop is the writer goroutine. It lives until the connection ends, or until nothing has been sent for a while; the
// next message then starts it again. It never fails the group, as it is for the reader to say what ended the connection.
func (c *Conn) writeLoop() error {
	for expectMore := true; ; {
		if expectMore {
			// Goroutines that are ready to run may have more to send, which then goes with the same write.
			runtime.Gosched()
		}
		expectMore = true
		switch lull := c.write(everything); {
		case lull.end:
			return nil
		case lull.sleep:
			expectMore = c.queue.sleep()
		case lull.room != nil:
			lull.room()
		}
	}
}

// batches holds idle ones: a batch on the stack would double that of senders who write.
var batches = sync.Pool{New: func() any { return new(batch) }}

// write writes what is due, up to the frame or message with the number upTo. The writer goroutine, which writes everything,
// waits for the transport. A sender does not, and leaves to the writer what the transport does not take at once: if that cannot
// be asked, only the senders of a connection that is pulled write, and wait.
func (c *Conn) write(upTo uint64) lull {
	b := batches.Get().(*batch)
	defer batches.Put(b)
	if !c.queue.take(b, upTo) {
		if upTo == everything {
			return c.queue.idle()
		}
		return lull{}
	}
	for {
		var n int
		var err error
		if upTo != everything && c.transport.CanTryWrite() {
			n, err = c.transport.TryWrite(b.Head, b.Body)
		} else {
			if b.room != nil {
				b.room()
			}
			if c.settings.pulled && !c.transport.CanTryWrite() {
				c.queue.tellOfWrite(b.HasData())
			}
			n, err = b.Len(), c.writeAll(b)
		}
		result := c.queue.wrote(b, n, err, upTo)
		switch {
		case result.closeWritten:
			c.ending.closeWritten()
		case result.failed && !c.settings.pulled: // its reader finds out by itself
			c.ending.writeFailed(c.queue.failure())
		}
		if result.handOver {
			forMany.add(c)
		}
		if !result.more {
			return result.lull
		}
	}
}

// writeAll writes all of b, however long that takes, as long as the transport takes some of it within WriteTimeout.
func (c *Conn) writeAll(b *batch) error {
	head, body := b.Head, b.Body
	if c.transport.CanTryWrite() {
		// Most writes do not wait.
		n, err := c.transport.TryWrite(head, body)
		if err != nil || n == len(head)+len(body) {
			return err
		}
		ofHead := min(n, len(head))
		head, body = head[ofHead:], body[n-ofHead:]
	}
	c.queue.noteWait()
	if within := c.settings.writeTimeout; within > 0 {
		if c.writeWatch == nil {
			c.writeWatch = newWriteWatch(&c.transport, within, c.ending.abort)
		}
		c.writeWatch.arm()
		defer c.writeWatch.disarm()
	}
	return c.transport.Write(head, body)
}

// writeWatch ends the connection when the transport takes nothing for too long of what the writer goroutine is writing.
type writeWatch struct {
	transport *netio.Transport
	within    time.Duration
	abort     func(cause error)

	mu    sync.Mutex // guards all below
	timer *time.Timer
	due   clock.Due // when it is to run
	armed bool
	since time.Duration // on clock: when the present write began to wait
}

func newWriteWatch(transport *netio.Transport, within time.Duration, abort func(error)) *writeWatch {
	w := &writeWatch{transport: transport, within: within, abort: abort}
	w.timer = time.AfterFunc(within, w.look)
	return w
}

func (w *writeWatch) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed, w.since = true, clock.Now()
	w.due.In(w.within)
	w.timer.Reset(w.within)
}

func (w *writeWatch) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	w.timer.Stop()
}

// look runs on the timer.
func (w *writeWatch) look() {
	if w.overdue() {
		w.abort(ErrWriteTimeout)
	}
}

// overdue reports whether the present write has waited for too long, and sets the timer if it may wait on.
func (w *writeWatch) overdue() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.armed {
		return false
	}
	left := w.due.Left(max(w.since, w.transport.Progress())+w.within, w.within)
	if left > 0 {
		w.timer.Reset(left)
	}
	return left == 0
}

// writers are the goroutines that write what was sent to many connections, which they take in turn. With a goroutine for each
// connection, hundreds would be ready to run ahead of whoever has more to send, and nobody would look at the network meanwhile.
type writers struct {
	mu      sync.Mutex // guards all below
	due     []*Conn    // those that something is to be written to, each once
	next    int        // those before it have been taken
	running int        // goroutines: they end when nobody is due
	most    int        // of them
}

var forMany writers

// add adds a connection, for which its queue has returned handOver.
func (w *writers) add(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.due) == cap(w.due) && w.next > len(w.due)/2 {
		w.due = slices.Delete(w.due, 0, w.next)
		w.next = 0
	}
	if w.due = append(w.due, c); w.running == 0 {
		w.most = max(1, runtime.GOMAXPROCS(0)-1) // a processor is left for all else
	}
	if w.running < w.most {
		w.running++
		go w.run()
	}
}

const (
	// inTurn is how many connections one of writers takes at a time.
	inTurn = 32
	// dueKept is for how many connections there is room while none is due.
	dueKept = 16 << 10
)

func (w *writers) run() {
	var room [inTurn]*Conn
	for {
		runtime.Gosched() // whoever is ready to run may have more for the same connections
		turn := w.take(room[:0])
		if len(turn) == 0 {
			return
		}
		for _, c := range turn {
			c.write(c.queue.takeHanded())
		}
		clear(room[:])
	}
}

// take appends those whose turn it is. If there are none, the goroutine ends.
func (w *writers) take(turn []*Conn) []*Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to := w.next, min(w.next+inTurn, len(w.due))
	turn = append(turn, w.due[from:to]...)
	clear(w.due[from:to])
	if w.next = to; to == len(w.due) {
		w.due, w.next = w.due[:0], 0
	}
	if cap(w.due) > dueKept && len(w.due) == 0 {
		w.due = nil
	}
	if from == to {
		w.running--
	}
	return turn
}
