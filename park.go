// park.go lets the reader of a connection end while nothing arrives, and start again when something does: a quiet
// connection has no goroutine of the library.

package wsd

import (
	"errors"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
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

// parking is what a connection knows of its reader's coming and going.
type parking struct {
	slot park.Slot

	possible bool        // the reader ends while nothing comes
	watched  bool        // the present reader is to be roused; the reader's own
	roused   atomic.Bool // tells the reader to end

	mu    sync.Mutex
	watch *quietWatch // nil while the reader is not to be roused; mu guards it
}

// parkedConn is a connection as the poller sees it.
type parkedConn Conn

func (p *parkedConn) Socket() syscall.RawConn { return p.transport.Socket() }

func (p *parkedConn) Slot() *park.Slot { return &p.parking.slot }

func (p *parkedConn) Wake() { (*Conn)(p).reader.start() }

// quietWatch rouses a reader that waits in vain.
type quietWatch struct {
	timer *time.Timer
	seen  uint64 // bytesRead when the timer was set
}

// beginParked finds out whether the reader of a new connection may end while nothing comes. If so, and nothing is there, the
// connection begins without one, which beginParked reports.
func (r *reader) beginParked(something bool) bool {
	// In a testing/synctest bubble the clock is decades behind. The poller runs outside the bubble, and must not start
	// anything inside it.
	r.conn.parking.possible = park.Supported && r.conn.transport.CanTry() && clock.Now() >= 0
	return !something && r.park()
}

// park arranges, if possible, for the next reader to be started when there is something to read, and reports whether it
// did. The next reader may then be running already.
func (r *reader) park() bool {
	c := r.conn
	c.parking.stopWatch()
	// A reader that was roused before it could look for more still has its burst buffer.
	c.transport.Release()
	if !c.parking.possible {
		return false
	}
	r.returnParser()
	if park.Park((*parkedConn)(c)) {
		return true
	}
	r.takeParser(c.settings)
	return false
}

// parsers are those that no reader needs at present.
var parsers = sync.Pool{New: func() any { return new(Parser) }}

// takeParser sees to it that there is a parser. Called by the reader.
func (r *reader) takeParser(s *settings) {
	if r.parser == nil {
		r.parser = parsers.Get().(*Parser)
		r.parser.restart(s, r.longest)
	}
}

// returnParser lets others have the parser, unless it is in the middle of something. Called by the reader.
func (r *reader) returnParser() {
	if p := r.parser; p != nil && p.atRest() {
		r.longest = uint32(min(uint64(p.longestSoFar), math.MaxUint32))
		r.parser = nil
		parsers.Put(p)
	}
}

// start starts a reader of a connection that has none.
func (r *reader) start() { r.conn.group.Go(func() error { return r.readLoop(nil) }) }

// unpark starts a reader to find out that the transport is closed.
func (r *reader) unpark() {
	if park.Unpark((*parkedConn)(r.conn)) {
		r.start()
	}
}

// shouldWait reports whether the reader should wait for what comes next rather than end. Called by the reader.
func (r *reader) shouldWait() bool {
	if !r.conn.parking.possible {
		return true
	}
	if !r.often && !r.parser.midMessage() {
		return false
	}
	r.startWatch()
	return true
}

// startWatch arranges for the reader, which now waits itself, to be roused when nothing arrives. Called by the reader.
func (r *reader) startWatch() {
	c := r.conn
	if c.parking.watched {
		return
	}
	c.parking.watched = true
	park.Unregister((*parkedConn)(c))
	c.parking.mu.Lock()
	defer c.parking.mu.Unlock()
	w := &quietWatch{seen: r.bytesRead.Load()}
	w.timer = time.AfterFunc(quietAfter, func() { r.lookForQuiet(w) })
	c.parking.watch = w
}

// stopWatch ends the watch over the present reader.
func (p *parking) stopWatch() {
	if !p.watched {
		return
	}
	p.watched = false
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch != nil {
		p.watch.timer.Stop()
		p.watch = nil
	}
}

// lookForQuiet runs on a watch's timer.
func (r *reader) lookForQuiet(w *quietWatch) {
	c := r.conn
	c.parking.mu.Lock()
	defer c.parking.mu.Unlock()
	if c.parking.watch != w || c.ending.state() != StateOpen {
		return
	}
	if seen := r.bytesRead.Load(); seen != w.seen {
		w.seen = seen
		w.timer.Reset(quietAfter)
		return
	}
	c.parking.watch = nil
	c.parking.roused.Store(true)
	c.transport.Rouse(true)
}

// foundQuiet reports whether err, from a read, is not a failure: there was nothing to read, or the reader was roused.
// Reading can then continue.
func (r *reader) foundQuiet(err error) bool {
	c := r.conn
	if err == netio.ErrNothing {
		return true
	}
	if !c.parking.roused.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.parking.roused.Store(false)
	c.transport.Rouse(false)
	r.often = false // or the next reader would wait for more when only a ping has come
	return true
}
