// park.go lets the reader of a connection end while nothing comes, and begin again when something does: a quiet
// connection has no goroutine of the library's.

package wsd

import (
	"errors"
	"os"
	"time"
)

const (
	// shortPause is how close together messages come for whose next one the reader waits. After a longer pause it takes
	// the next to be as long and ends at once, which costs some microseconds once something comes.
	shortPause = 250 * time.Millisecond
	// quietAfter is how long a reader waits at the least before it is roused to end, and twice that at the most.
	quietAfter = time.Second
)

// errParked is what a reader returns that ends for the time being.
var errParked = errors.New("wsd: parked")

// quietWatch rouses a reader that waits in vain.
type quietWatch struct {
	timer *time.Timer
	seen  uint64 // bytesRead when the timer was set
}

// beginReading has a new connection read. buffered is what has been read before.
func (c *Conn) beginReading(buffered []byte) {
	// In a bubble of testing/synctest the clock is decades slow. The poller is outside, and must start nothing in there.
	c.parks = canPark && c.transport.raw.ok() && clock() >= 0
	c.pause = shortPause
	if len(buffered) > 0 || !c.park() {
		c.startReader(buffered)
	}
}

// startReader has a connection read, from its beginning or after it was parked. buffered is what has been read before.
func (c *Conn) startReader(buffered []byte) {
	c.group.Go(func() error { return c.readLoop(buffered) })
}

// park has the next reader started when there is something to read, where that can be had, and reports whether it does.
// The next one may be running already then.
func (c *Conn) park() bool {
	c.stopWatch()
	// A reader that was roused before it could look for more has its burst buffer still.
	c.transport.release()
	return c.parks && parked.add(c)
}

// unpark has a reader find out that the transport is closed.
func (c *Conn) unpark() {
	if parked.remove(c) {
		c.startReader(nil)
	}
}

// waits reports whether the reader is to wait for what comes next rather than to end. Called by the reader.
func (c *Conn) waits() bool {
	if !c.parks {
		return true
	}
	if c.pause >= shortPause && !c.parser.midMessage() {
		return false
	}
	c.startWatch()
	return true
}

// startWatch has the reader, who waits for itself now, roused when nothing comes. Called by the reader.
func (c *Conn) startWatch() {
	if c.watched {
		return
	}
	c.watched = true
	parked.unregister(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &quietWatch{seen: c.bytesRead.Load()}
	w.timer = time.AfterFunc(quietAfter, func() { c.lookForQuiet(w) })
	c.watch = w
}

func (c *Conn) stopWatch() {
	if !c.watched {
		return
	}
	c.watched = false
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watch != nil {
		c.watch.timer.Stop()
		c.watch = nil
	}
}

// lookForQuiet runs on a watch's timer.
func (c *Conn) lookForQuiet(w *quietWatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watch != w || c.out.refused || c.event.Err != nil {
		return
	}
	if seen := c.bytesRead.Load(); seen != w.seen {
		w.seen = seen
		w.timer.Reset(quietAfter)
		return
	}
	c.watch = nil
	c.roused.Store(true)
	c.transport.rouse(true)
}

// foundQuiet reports whether err, which a read returned, is no failure: there was nothing to read, or the reader was
// roused. Reading can go on then.
func (c *Conn) foundQuiet(err error) bool {
	if err == errNothingThere {
		return true
	}
	if !c.roused.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.roused.Store(false)
	c.transport.rouse(false)
	c.pause = shortPause // or the next reader would wait for more when no more than a ping has come
	return true
}
