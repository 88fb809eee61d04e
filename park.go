// park.go lets the reader of a connection end while nothing arrives, and start again when something does: a quiet
// connection has no goroutine of the library.

package wsd

import (
	"errors"
	"os"
	"time"

	"github.com/seed62836080/wsd/internal/netio"
	"github.com/seed62836080/wsd/internal/park"
)

const (
	// shortPause is the pause between messages below which the reader waits for the next one. After a longer pause it
	// expects the next to be as long and ends at once, which costs some microseconds when something arrives.
	shortPause = 250 * time.Millisecond
	// quietAfter is the minimum time that a reader waits before it is roused to end; the maximum is twice that.
	quietAfter = time.Second
)

// errParked is returned by a reader that ends for the time being.
var errParked = errors.New("wsd: parked")

// quietWatch rouses a reader that waits in vain.
type quietWatch struct {
	timer *time.Timer
	seen  uint64 // bytesRead when the timer was set
}

// beginReading begins to read from a new connection. buffered is what has been read before.
func (c *Conn) beginReading(buffered []byte) {
	// In a testing/synctest bubble the clock is decades behind. The poller runs outside the bubble, and must not start
	// anything inside it.
	c.parks = park.Supported && c.transport.CanTry() && clock() >= 0
	if c.parks {
		c.slot.Init(c.transport.Socket(), func() { c.startReader(nil) })
	}
	c.pause = shortPause
	if len(buffered) > 0 || !c.park() {
		c.startReader(buffered)
	}
}

// startReader starts the reader of a connection, at its beginning or after it was parked. buffered is what has been read
// before.
func (c *Conn) startReader(buffered []byte) {
	c.group.Go(func() error { return c.readLoop(buffered) })
}

// park arranges, if possible, for the next reader to be started when there is something to read, and reports whether it
// did. The next reader may then be running already.
func (c *Conn) park() bool {
	c.stopWatch()
	// A reader that was roused before it could look for more still has its burst buffer.
	c.transport.Release()
	return c.parks && c.slot.Park()
}

// unpark starts a reader to find out that the transport is closed.
func (c *Conn) unpark() {
	if c.slot.Unpark() {
		c.startReader(nil)
	}
}

// waits reports whether the reader should wait for what comes next rather than end. Called by the reader.
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

// startWatch arranges for the reader, which now waits itself, to be roused when nothing arrives. Called by the reader.
func (c *Conn) startWatch() {
	if c.watched {
		return
	}
	c.watched = true
	c.slot.Unregister()
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
	c.transport.Rouse(true)
}

// foundQuiet reports whether err, from a read, is not a failure: there was nothing to read, or the reader was roused.
// Reading can then continue.
func (c *Conn) foundQuiet(err error) bool {
	if err == netio.ErrNothing {
		return true
	}
	if !c.roused.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.roused.Store(false)
	c.transport.Rouse(false)
	c.pause = shortPause // or the next reader would wait for more when only a ping has come
	return true
}
