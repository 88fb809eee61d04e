// inbox.go delivers the messages of many connections on one channel: what waits of each, whose turn it is, and how a
// connection waits without a goroutine when its share is full.

package wsd

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/seed62836080/wsd/internal/clock"
)

// Delivery is a message of one of the connections of an Inbox, or tells of the end of one.
type Delivery struct {
	Conn    *Conn
	Message Message // zero if Ended
	// Ended says that this is the connection's last Delivery: Closed is closed, and CloseEvent complete.
	Ended bool
}

// Inbox is a channel on which the messages of all connections arrive that have it in their Config, servers' and clients', so
// that one goroutine can serve thousands. The messages of a connection come in order, and after the last of them exactly one
// Delivery with Ended. All methods are safe for concurrent use.
//
// Each connection has a share of its own of what may wait, Config.MessageBuffer, by which SlowConsumer judges it. Connections
// whose messages wait take turns. What waits is lost if the program lets go of an Inbox whose connections have ended.
type Inbox struct {
	c       chan Delivery // never closed
	sent    atomic.Uint64 // what has gone into c, counted just behind
	waiting atomic.Int64  // boxes that are in line
	helped  atomic.Bool   // a sender has found the channel half empty lately
	held    atomic.Int64  // bytes that stalled connections have read and not parsed

	mu          sync.Mutex  // guards all below; taken inside the queue's of a connection, if both are
	first, last *box        // those in line, in the order of their turns
	live        int         // connections that have not ended
	pumping     bool        // a goroutine moves what waits into c
	resting     bool        // it waits for a moment, and others may do so
	rested      *time.Timer // ends that; nil before the first
	polling     bool        // a timer does, as no connection is left
	pause       time.Duration
	alone       chan struct{} // closed when no connection is left; nil unless the goroutine waits for that
	big         bigMessages   // those that may still be in c
}

const (
	// heldMost is how many bytes stalled connections of an Inbox may have read ahead, before connections read less at a time.
	heldMost = 8 << 20
	// pollFirst and pollMost are the shortest and the longest pause between two attempts to move what waits into the channel
	// of an Inbox that has no connections any more.
	pollFirst = time.Millisecond
	pollMost  = time.Second
	// turn is how many messages of a connection are delivered before it is another's turn: its answers then leave together.
	turn = 8
	// restFor is how long the goroutine of an Inbox leaves its work to senders, and helpedLeast the capacity of a channel from
	// which on it does.
	restFor     = 100 * time.Microsecond
	helpedLeast = 8
	// atOnce is how many deliveries are moved before the lock is given to others.
	atOnce = 64
)

// box is what waits of one connection. There is one only while something does, or while the connection is stalled.
type box struct {
	conn   *Conn
	next   *box // in line
	inLine bool
	had    int  // deliveries of its present turn
	ended  bool // the Delivery with Ended is to follow

	messages []Message // what waits, from the index taken on
	taken    int
	big      int // bytes of the big ones among them

	stalled  bool          // the reader has ended because the share is full
	expired  bool          // for longer than StallTimeout
	begun    time.Time     // when, for a Trace
	rest     []byte        // what the reader has read and not parsed
	patience *time.Timer   // of CloseSlow, nil for none
	movedAt  time.Duration // on clock: when something last left
}

// NewInbox returns an Inbox whose channel holds up to n deliveries ahead of whoever receives them; none if n is negative.
// They wait on top of the connections' shares, first come, first served: a peer that floods can fill them, so n is how many
// of its messages may be ahead of another's. Where peers send without waiting for answers, a loop is fastest if n is as many
// as they have under way together; a place takes 56 bytes.
func NewInbox(n int) *Inbox { return &Inbox{c: make(chan Delivery, min(max(n, 0), maxMessageBuffer))} }

// C returns the channel. It is the same at each call, and never closed. It need not be received from for connections to end:
// Close, CloseNow and a Server's Shutdown do not wait for it.
func (in *Inbox) C() <-chan Delivery { return in.c }

// errStalled is returned by a reader that ends until there is room in its connection's share.
var errStalled = errors.New("wsd: stalled")

// noMessages is the Messages of a connection with an Inbox that has begun to end.
var noMessages = func() chan Message {
	none := make(chan Message)
	close(none)
	return none
}()

func (b *box) len() int { return len(b.messages) - b.taken }

// full reports whether the share of the connection is used up.
func (b *box) full() bool {
	return b.len() > b.conn.settings.messageBuffer || b.big > bigMost && b.len() > 1
}

// add adds a message.
func (b *box) add(m Message) {
	if b.taken > 0 && len(b.messages) == cap(b.messages) {
		b.messages = append(b.messages[:0], b.messages[b.taken:]...)
		b.taken = 0
	}
	b.messages = append(b.messages, m)
	if len(m.Data) >= bigLeast {
		b.big += len(m.Data)
	}
}

// dropLast undoes an add.
func (b *box) dropLast() {
	last := len(b.messages) - 1
	if size := len(b.messages[last].Data); size >= bigLeast {
		b.big -= size
	}
	b.messages[last] = Message{}
	b.messages = b.messages[:last]
}

// nextDelivery returns what is to be delivered next.
func (b *box) nextDelivery() Delivery {
	if b.len() == 0 {
		return Delivery{Conn: b.conn, Ended: true}
	}
	return Delivery{Conn: b.conn, Message: b.messages[b.taken]}
}

// take takes out what nextDelivery has returned.
func (b *box) take() {
	b.movedAt = clock.Now()
	if b.len() == 0 {
		b.ended = false
		return
	}
	if size := len(b.messages[b.taken].Data); size >= bigLeast {
		b.big -= size
	}
	b.messages[b.taken] = Message{}
	if b.taken++; b.taken == len(b.messages) {
		b.messages, b.taken = b.messages[:0], 0
	}
}

// join counts a connection.
func (in *Inbox) join() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.live++
}

// idle reports whether nothing waits for whoever receives.
func (in *Inbox) idle() bool { return len(in.c) == 0 && in.waiting.Load() == 0 }

// readsLess reports whether connections are to read little at a time.
func (in *Inbox) readsLess() bool { return in.held.Load() > heldMost }

// offer puts a message straight into the channel, if nothing waits and there is room.
func (in *Inbox) offer(d Delivery) bool {
	if in.waiting.Load() > 0 {
		return false
	}
	select {
	case in.c <- d:
		d.note(in.sent.Add(1))
		return true
	default:
		return false
	}
}

// note notes the number with which a delivery has gone into the channel, if it has a body: then the time for that begins once
// all before it have been received.
func (d *Delivery) note(number uint64) {
	if d.Message.stream != nil {
		d.Conn.reader.bodies.number.Store(number)
	}
}

// boxOf returns the box of a connection.
func (in *Inbox) boxOf(c *Conn) *box {
	if c.box == nil {
		c.box = &box{conn: c}
	}
	return c.box
}

// put adds a message to a connection's box, unless its share is used up and it is to be dropped then. It reports whether it
// was added, and whether the share is now exceeded.
func (in *Inbox) put(c *Conn, m Message, drop bool) (added, full bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.boxOf(c)
	b.add(m)
	if drop && b.full() {
		b.dropLast()
		in.letGo(b)
		return false, true
	}
	in.enter(b)
	in.move()
	return true, b.full()
}

// ended has a connection's last Delivery follow what waits of it.
func (in *Inbox) ended(c *Conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.boxOf(c)
	b.ended = true
	in.enter(b)
	if in.live--; in.live == 0 && in.alone != nil {
		close(in.alone)
		in.alone = nil
	}
	in.move()
}

// enter puts a box in line.
func (in *Inbox) enter(b *box) {
	if b.inLine {
		return
	}
	b.inLine = true
	in.waiting.Add(1)
	in.append(b)
}

// append puts a box at the end of the line.
func (in *Inbox) append(b *box) {
	if in.last == nil {
		in.first = b
	} else {
		in.last.next = b
	}
	in.last = b
}

// dropFirst takes the first box out of the line.
func (in *Inbox) dropFirst() {
	b := in.first
	b.had = 0
	if in.first, b.next = b.next, nil; in.first == nil {
		in.last = nil
	}
}

// letGo lets go of a box in which nothing is left.
func (in *Inbox) letGo(b *box) {
	if b.len() == 0 && !b.inLine && !b.stalled && b.rest == nil && b.patience == nil {
		b.conn.box = nil
	}
}

// advance counts the first delivery of the first box as sent: the next is another's, if others are in line.
func (in *Inbox) advance() {
	b := in.first
	d, number := b.nextDelivery(), in.sent.Add(1)
	if d.note(number); len(d.Message.Data) >= bigLeast {
		in.big.add(len(d.Message.Data), number)
	}
	b.take()
	switch b.had++; {
	case b.len() == 0 && !b.ended:
		in.dropFirst()
		b.inLine = false
		in.waiting.Add(-1)
	case b.had == turn:
		in.dropFirst()
		in.append(b)
	}
	if b.stalled && b.len() <= b.conn.settings.messageBuffer/2 && (b.big <= bigMost/2 || b.len() <= 1) {
		b.stalled = false
		b.conn.reader.start()
	}
	in.letGo(b)
}

// bigFits reports whether the next delivery may go into the channel as far as its size matters.
func (in *Inbox) bigFits() bool {
	size := len(in.first.nextDelivery().Message.Data)
	return size < bigLeast || in.big.room(size, in.received())
}

// moveSome moves what waits into the channel, up to a number of deliveries, as long as there is room.
func (in *Inbox) moveSome(most int) {
	for ; most > 0 && in.first != nil && in.bigFits(); most-- {
		select {
		case in.c <- in.first.nextDelivery():
			in.advance()
		default:
			return
		}
	}
}

// move moves what waits into the channel, and sees to it that somebody moves the rest.
func (in *Inbox) move() {
	if in.pumping && !in.resting {
		return
	}
	in.moveSome(atOnce)
	switch {
	case in.first == nil, in.pumping:
	case in.live > 0:
		in.pumping = true
		go in.pump()
	case !in.polling:
		in.pause = pollFirst
		in.poll()
	}
}

// help is called by senders. Whoever receives and sends answers then fills the channel itself, half of it at a time: to wake
// the goroutine for each delivery would take longer than all else.
func (in *Inbox) help() {
	if in.waiting.Load() == 0 || 2*len(in.c) > cap(in.c) || cap(in.c) < helpedLeast {
		return
	}
	in.helped.Store(true)
	if !in.mu.TryLock() {
		return
	}
	defer in.mu.Unlock()
	if in.resting {
		in.moveSome(cap(in.c))
	}
}

// rest waits for a moment in which others may help, if they have lately. The goroutine does not hold a delivery meanwhile.
func (in *Inbox) rest() {
	if !in.helped.Swap(false) {
		return
	}
	if alone := in.beginRest(); alone != nil {
		select {
		case <-in.rested.C:
		case <-alone:
			in.rested.Stop()
		}
		in.endRest()
	}
}

// beginRest returns what is closed when no connection is left, nil if none is.
func (in *Inbox) beginRest() (alone <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.live == 0 {
		return nil
	}
	in.resting = true
	if in.rested == nil {
		in.rested = time.NewTimer(restFor)
	} else {
		in.rested.Reset(restFor)
	}
	return in.aloneChannel()
}

func (in *Inbox) endRest() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.resting = false
}

// aloneChannel returns a channel that is closed when no connection is left.
func (in *Inbox) aloneChannel() <-chan struct{} {
	if in.alone == nil {
		in.alone = make(chan struct{})
	}
	return in.alone
}

// pump is the goroutine that moves what waits into the channel. It ends when nothing waits, or no connection is left: nobody
// may receive any more.
func (in *Inbox) pump() {
	for {
		in.rest()
		d, big, alone := in.nextForPump()
		switch {
		case alone == nil:
			return
		case big:
			// Nothing tells when those in the channel have been taken.
			select {
			case <-time.After(bigPause):
			case <-alone:
			}
		default:
			select {
			case in.c <- d:
				in.sentByPump()
			case <-alone:
			}
		}
	}
}

// nextForPump returns what the goroutine is to send next, and whether it has to wait with that because it is big. alone is
// nil if the goroutine is to end.
func (in *Inbox) nextForPump() (d Delivery, big bool, alone <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.moveSome(atOnce)
	if in.first == nil || in.live == 0 {
		in.pumping = false
		in.move()
		return d, false, nil
	}
	return in.first.nextDelivery(), !in.bigFits(), in.aloneChannel()
}

// sentByPump counts what the goroutine has sent.
func (in *Inbox) sentByPump() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.advance()
}

// poll has what waits moved in a moment, unless the Inbox has been let go of by then.
func (in *Inbox) poll() {
	in.polling = true
	abandoned := weak.Make(in)
	time.AfterFunc(in.pause, func() {
		if in := abandoned.Value(); in != nil {
			in.polled()
		}
	})
}

// polled runs on the timer of poll.
func (in *Inbox) polled() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.polling = false
	before := in.sent.Load()
	if in.pause = min(2*in.pause, pollMost); !in.pumping {
		in.moveSome(atOnce)
	}
	if in.sent.Load() != before {
		in.pause = pollFirst
	}
	switch {
	case in.pumping || in.first == nil:
	case in.live > 0:
		in.move()
	default:
		in.poll()
	}
}

// received returns how many deliveries have been received.
func (in *Inbox) received() uint64 {
	sent := in.sent.Load() // first: what is sent meanwhile has not been received
	return sent - min(sent, uint64(len(in.c)))
}

// deliverToInbox is what deliver does on a connection with an Inbox, once the message is counted as delivered.
func (r *reader) deliverToInbox(m Message) (delivered bool, err error) {
	c := r.conn
	in := c.settings.inbox
	if len(m.Data) < bigLeast && in.offer(Delivery{Conn: c, Message: m}) {
		return true, nil
	}
	added, full := in.put(c, m, c.settings.policy == DropSlow)
	switch {
	case !added:
		if !r.dropTold {
			r.dropTold = true
			c.ending.report(ErrSlowConsumer, 1)
		}
		return false, nil
	case full && c.queue.isRefused():
		// This side closes. What comes now is discarded, as a gap would be worse than an end.
		r.discarding = true
	case full:
		return true, errStalled
	}
	return true, nil
}

// keepRest keeps what has been read and not parsed of a connection that stalls. own says that b is not on loan.
func (r *reader) keepRest(b []byte, own bool) {
	if len(b) == 0 {
		return
	}
	if !own {
		b = bytes.Clone(b)
	}
	in := r.conn.settings.inbox
	in.mu.Lock()
	defer in.mu.Unlock()
	in.boxOf(r.conn).rest = b
	in.held.Add(int64(cap(b)))
}

// stall ends the reader until there is room in its share again, and reports false if there is by now.
func (r *reader) stall() bool {
	c := r.conn
	c.transport.Release()
	c.parking.stopWatch()
	r.stalled.Store(true)
	r.stallSeen.Store(true)
	begun := c.settings.trace.stallBegun(c)
	c.queue.notifyRefusal(r.unstall)
	if !c.settings.inbox.stall(c, begun) {
		return false
	}
	if c.queue.isRefused() {
		r.unstall() // it may have been refused before there was anything to be roused
	}
	return true
}

// stall notes that a connection has no reader until there is room in its share, and reports false if there is.
func (in *Inbox) stall(c *Conn, begun time.Time) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.boxOf(c)
	b.begun, b.movedAt = begun, clock.Now()
	if !b.full() {
		return false
	}
	b.stalled = true
	if after := c.settings.stallAfter; c.settings.policy == CloseSlow && after > 0 {
		b.patience = time.AfterFunc(after, func() { in.lookAtStall(c, b) })
	}
	return true
}

// lookAtStall runs on the timer of CloseSlow.
func (in *Inbox) lookAtStall(c *Conn, b *box) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !b.stalled {
		return
	}
	if left := b.movedAt + c.settings.stallAfter - clock.Now(); left > 0 {
		b.patience.Reset(left)
		return
	}
	b.stalled, b.expired = false, true
	c.reader.start()
}

// unstall starts the reader of a connection that is stalled.
func (r *reader) unstall() {
	in := r.conn.settings.inbox
	in.mu.Lock()
	defer in.mu.Unlock()
	if b := r.conn.box; b != nil && b.stalled {
		b.stalled = false
		r.start()
	}
}

// goOn is the beginning of a reader: it returns what the one before has read and not parsed, and ErrSlowConsumer if that has
// stalled for too long.
func (r *reader) goOn() (rest []byte, err error) {
	c := r.conn
	if !r.stalled.Load() {
		return nil, nil
	}
	r.stalled.Store(false)
	rest, begun, expired := c.settings.inbox.takeRest(c)
	c.settings.trace.stallEnded(c, begun)
	if expired {
		err = ErrSlowConsumer
	}
	return rest, err
}

// takeRest takes out what a stalled connection has kept.
func (in *Inbox) takeRest(c *Conn) (rest []byte, begun time.Time, expired bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.boxOf(c)
	rest, begun, expired = b.rest, b.begun, b.expired
	in.held.Add(-int64(cap(rest)))
	if b.patience != nil {
		b.patience.Stop()
	}
	b.rest, b.patience, b.expired = nil, nil, false
	in.letGo(b)
	return rest, begun, expired
}

// emptyMessages returns the Messages of a connection that has an Inbox.
func (c *Conn) emptyMessages() <-chan Message {
	e := &c.ending
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case c.messages != nil:
	case e.phase > phaseOpen:
		return noMessages
	default:
		c.messages = make(chan Message)
	}
	return c.messages
}

// closeMessages closes Messages.
func (r *reader) closeMessages() {
	c := r.conn
	if c.settings.inbox == nil {
		close(c.messages)
		return
	}
	c.ending.mu.Lock()
	defer c.ending.mu.Unlock()
	if c.messages != nil {
		close(c.messages)
	}
}
