// reader.go is the reader goroutine: from transport to parser to Messages, no faster than a ReceiveRate. It ends while nothing
// comes, and starts again when something does ("parked"): a quiet connection has no goroutine of the library.

package wsd

import (
	"errors"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/netio"
	"github.com/seed62836080/wsd/internal/park"
)

// reader is what a connection knows of reading. Only the reader goroutine uses it, except for what is atomic.
type reader struct {
	conn   *Conn   // whose reader it is
	parser *Parser // nil while a quiet connection is between two messages: takeParser

	messageAt  time.Duration // on clock: when the last read that held a message came, or when a message found room
	longest    uint32        // the length of the longest message that has come in pieces, in bytes, as the last parser knew it
	noted      bool          // the present read has been noted in messageAt
	often      bool          // the last messages that did not come together came less than shortPause apart
	discarding bool          // a message was discarded, and all later ones are too
	dropTold   bool          // Errors has been told that messages are dropped
	bounds     *bounds       // nil without a Config.ReceiveRate and before the first big message

	bodies *bodies // nil if no message is streamed

	maxMessage atomic.Int64 // what SetMaxMessageSize has set, 0 before that

	stalled   atomic.Bool   // the reader waits for the consumer
	stallSeen atomic.Bool   // it has waited since the keepalive looked
	dropped   atomic.Uint64 // messages that were not delivered
	dataRead  atomic.Uint64 // bytes of messages
	bytesRead atomic.Uint64 // bytes that came from the transport
}

// readLoop is the reader goroutine. It reads until the connection ends, and then returns the cause, or until it is parked.
// buffered is what has been read before.
func (r *reader) readLoop(buffered []byte) error {
	r.takeParser(r.conn.settings)
	r.parser.whole = r.conn.overBrowser()
	for {
		var err error
		if r.conn.settings.inbox != nil && buffered == nil {
			buffered, err = r.goOn()
		}
		if err == nil {
			err = r.readMessages(buffered)
		}
		switch {
		case err == errStalled && !r.stall():
			buffered = nil // there is room by now
		case err == errStalled, err == errParked:
			return nil // and the connection may be another reader's already
		default:
			return r.carryOutEnd(err)
		}
	}
}

// readError is the error with which the transport failed. It may be anything, even another connection's violation if the
// transport is a tunnel.
type readError struct{ error }

// readMessages delivers what arrives. It returns nil when the peer's close frame has arrived, and errParked when nothing
// has arrived for a while.
func (r *reader) readMessages(buffered []byte) error {
	c := r.conn
	if closed, err := r.parse(buffered, true); closed || err != nil {
		return err
	}
	found := len(buffered) > 0
	wait := r.shouldWait()
	for {
		direct := r.parser.direct()
		c.transport.ExpectLong(r.parser.expectsLong())
		if c.settings.inbox != nil {
			c.transport.ReadLess(c.settings.inbox.readsLess())
		}
		b, err := c.transport.Read(direct, wait)
		if err != nil {
			switch {
			case !r.foundQuiet(err):
				return readError{err}
			case !found && err == netio.ErrNothing:
				// A poller may report as readable what gives a read nothing, such as a full queue of errors. If such a
				// socket were parked again at once, readers would come and go endlessly.
				r.startWatch()
			case r.park():
				return errParked
			}
			wait = true
			continue
		}
		found = true
		r.bytesRead.Add(uint64(len(b)))
		r.noted = false
		if direct != nil {
			r.keepPace(0, len(b))
			event, err := r.parser.filled(len(b))
			if err == nil {
				_, err = r.handle(event)
			}
			if err == nil && event.Part != WholeMessage {
				_, err = r.parse(nil, false) // a violation may be behind the part
			}
			if err != nil {
				return err
			}
		} else if closed, err := r.parse(b, false); closed || err != nil {
			return err
		}
		wait = r.shouldWait()
	}
}

// parse delivers everything in b, and reports whether a close frame was in it. own says that b is not on loan.
func (r *reader) parse(b []byte, own bool) (closed bool, err error) {
	r.parser.setLimit(r.maxMessage.Load())
	for again := b == nil; len(b) > 0 || again; {
		event, n, err := r.parser.Parse(b)
		if err != nil {
			return false, err
		}
		b = b[n:]
		again = event.Part != WholeMessage
		r.keepPace(0, n)
		// Send looks at this to see whether more answers are about to come.
		r.conn.queue.noteLeft(len(b) > 0)
		if closed, err = r.handle(event); closed || err != nil {
			if err == errStalled {
				r.keepRest(b, own)
			}
			return closed, err
		}
	}
	return false, nil
}

// handle acts on one event, and reports whether it was a close frame.
func (r *reader) handle(event Event) (closed bool, err error) {
	c := r.conn
	if event.Part <= FirstPart && event.Opcode != OpContinuation && event.Opcode != OpClose {
		r.keepPace(1, 0)
	}
	if c.settings.trace != nil {
		c.settings.trace.received(c, event)
	}
	switch event.Opcode {
	case OpText, OpBinary:
		if event.Part != WholeMessage {
			return false, r.deliverPart(event)
		}
		_, err := r.deliver(event.Message())
		return false, err
	case OpPing:
		c.queue.addPong(event.Data)
	case OpPong:
		if roundTrip, found := c.pings.match(event.Data); found {
			c.settings.trace.answered(c, roundTrip)
		}
	case OpClose:
		c.ending.peerClosed(event.Code, string(event.Data))
		return true, nil
	}
	return false, nil
}

// deliver puts a message into Messages.
func (r *reader) deliver(m Message) (delivered bool, err error) {
	if err := r.awaitBodyEnd(); err != nil {
		return false, err
	}
	return r.deliverNext(m)
}

// deliverNext is deliver behind the end of the body before.
func (r *reader) deliverNext(m Message) (delivered bool, err error) {
	c := r.conn
	r.dataRead.Add(uint64(len(m.Data)))
	if r.discarding {
		r.dropped.Add(1)
		c.settings.trace.dropped(c, m)
		return false, nil
	}
	if !r.noted {
		now := clock.Now()
		r.noted, r.often, r.messageAt = true, now-r.messageAt < shortPause, now
	}
	// Count it before it is there, as the consumer may answer at once.
	c.queue.noteDelivery()
	if c.settings.inbox != nil {
		if delivered, err = r.deliverToInbox(m); !delivered {
			r.noteDropped(m)
		}
		return delivered, err
	}
	if len(m.Data) < bigLeast || r.roomFor(len(m.Data)) {
		select {
		case c.messages <- m:
			r.noteBig(len(m.Data), c.queue.delivered())
			return true, nil
		default:
		}
	}
	if delivered, err = r.deliverSlow(m); !delivered {
		r.noteDropped(m)
	}
	return delivered, err
}

// noteDropped notes that a message that was counted as delivered is not.
func (r *reader) noteDropped(m Message) {
	c := r.conn
	c.queue.undoDelivery()
	r.dropped.Add(1)
	c.settings.trace.dropped(c, m)
}

// deliverSlow delivers to a consumer that already has messages waiting.
func (r *reader) deliverSlow(m Message) (delivered bool, err error) {
	c := r.conn
	if c.settings.policy == DropSlow {
		if !r.dropTold {
			r.dropTold = true
			c.ending.report(ErrSlowConsumer, 1)
		}
		return false, nil
	}
	patience := r.newPatience()
	defer patience.stop()
	refusal := c.queue.refusalChannel()
	if c.settings.trace != nil {
		defer c.settings.trace.stallEnded(c, c.settings.trace.stallBegun(c))
	}
	r.stalled.Store(true)
	defer r.stalled.Store(false)
	r.stallSeen.Store(true)
	for pause := bigPause; ; pause = min(2*pause, bigPauseMost) {
		messages := c.messages
		var again <-chan time.Time // nothing signals that a message has been taken
		if !r.roomFor(len(m.Data)) {
			messages, again = nil, time.After(pause)
		}
		select {
		case messages <- m:
			r.noteBig(len(m.Data), c.queue.delivered())
			r.messageAt = clock.Now()
			return true, nil
		case <-again:
		case <-refusal:
			// This side closes. A gap would be worse than an end: nothing after this message is delivered either.
			r.discarding = true
			return false, nil
		case <-patience.over:
			if patience.ended(clock.Now()) {
				return false, ErrSlowConsumer
			}
		}
	}
}

// patience is how long the reader waits for the consumer under CloseSlow. Under other policies it never ends.
type patience struct {
	within time.Duration
	timer  *time.Timer // nil if it never ends
	over   <-chan time.Time
	due    clock.Due
}

func (r *reader) newPatience() (p patience) {
	if p.within = r.conn.settings.stallAfter; r.conn.settings.policy == CloseSlow && p.within > 0 {
		p.due.In(p.within)
		p.timer = time.NewTimer(p.within)
		p.over = p.timer.C
	}
	return p
}

// ended is called when something has come from over. It reports whether the wait, which may last until a time, is at its end.
func (p *patience) ended(until time.Duration) bool {
	left := p.due.Left(until, p.within)
	if left > 0 {
		p.timer.Reset(left)
	}
	return left == 0
}

func (p *patience) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

const (
	// bigMost is how many bytes of big messages may wait in Messages, if there are more than one: a peer that
	// compresses sends a thousandth of that.
	bigMost = 64 << 20
	// bigLeast is the size in bytes from which a message is big.
	bigLeast = 1 << 20
	// bigPause is how long the reader waits at first before it checks again whether there is room for one more, and
	// bigPauseMost is the maximum.
	bigPause     = time.Millisecond
	bigPauseMost = 100 * time.Millisecond
)

// bounds are what few connections need: how fast they may be read, and what is big of what waits.
type bounds struct {
	pace *pace // of Config.ReceiveRate, nil for none
	big  bigMessages
}

// bigMessages are those that went into Messages and may still wait there, oldest first.
type bigMessages []bigMessage

type bigMessage struct {
	number uint64 // counted from the first message that went into Messages
	size   int
}

// room reports whether a message of size bytes may go into Messages, of which those up to the number taken have been
// received.
func (b *bigMessages) room(size int, taken uint64) bool {
	*b = slices.DeleteFunc(*b, func(message bigMessage) bool { return message.number <= taken })
	for _, message := range *b {
		size += message.size
	}
	return len(*b) == 0 || size <= bigMost
}

// add records a message that has gone into Messages.
func (b *bigMessages) add(size int, number uint64) { *b = append(*b, bigMessage{number, size}) }

// roomFor reports whether a message, which delivered already counts, may go into Messages as far as its size matters.
func (r *reader) roomFor(size int) bool {
	if size < bigLeast {
		return true
	}
	if r.bounds == nil {
		r.bounds = new(bounds)
	}
	return r.bounds.big.room(size, r.conn.queue.delivered()-1-uint64(len(r.conn.messages)))
}

// noteBig records that the message with a number has gone into Messages, if it is big.
func (r *reader) noteBig(size int, number uint64) {
	if size >= bigLeast {
		r.bounds.big.add(size, number)
	}
}

// paceLeast is the shortest wait worth a timer.
const paceLeast = time.Millisecond

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
// connection without bounds does not pay for a call.
func (r *reader) keepPace(messages, bytes int) {
	if r.bounds != nil {
		r.waitForPace(messages, bytes)
	}
}

// waitForPace is keepPace with a rate. While it waits, the keepalive does not judge the peer.
func (r *reader) waitForPace(messages, bytes int) {
	p := r.bounds.pace
	if p == nil || p.off {
		return
	}
	wait := p.charge(messages, bytes)
	if wait < paceLeast {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	r.stalled.Store(true)
	defer r.stalled.Store(false)
	r.stallSeen.Store(true)
	select {
	case <-timer.C:
	case <-r.conn.queue.refusalChannel():
		p.off = true
	}
}

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
