// sendqueue.go is the queue between senders and whoever writes: who may add to it, who waits for whom, and who writes next.

package wsd

import (
	"container/list"
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/backlog"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/netio"
)

// errRefused is returned by a queue that takes nothing more, since the connection ends. The connection knows why.
var errRefused = errors.New("wsd: the queue is closed")

// sendQueue is everything that one connection has to send. Its methods are safe for concurrent use: each takes the lock
// and releases it, and none holds it while anything waits.
type sendQueue struct {
	settings    *settings
	startWriter func() // starts the writer goroutine

	mu           sync.Mutex // guards all below; taken inside the ending's, if both are
	senderTries  bool       // the transport can be written to without waiting, so senders may do it
	refused      bool       // nothing more is taken
	stopped      bool       // nothing more is written
	closeWritten bool       // the close frame has been written
	transient    bool       // the writer goroutine never stays when nothing is left to write: nothing else would end it
	stays        bool       // it does then, since messages come often: one has ended since the keepalive looked
	running      bool       // the writer goroutine exists
	toMany       bool       // what was added last goes to many connections
	handed       bool       // forMany is about to write to it
	asleep       bool       // it waits for wake
	unused       bool       // no message was added since the keepalive looked
	pongsStuck   bool       // the reader has waited for pongs to be written, in vain
	announced    bool       // the end of the connection has been told to those who wait for room
	backlog      backlog.Backlog
	counts       sendCounts
	answers      answers // closing.go
	admission    admission

	written uint64     // every frame and message with a number up to this one has been written
	writing *batch     // what was taken, and somebody writes; nil if nobody does
	wake    chan bool  // has room for the one value that wakes a sleeping writer, which sleep returns
	rare    *rareState // nil before any of it is needed
}

// rareState is what most connections do not need.
type rareState struct {
	progress    chan struct{} // made when somebody waits, closed when something is taken or written, and at the end
	awaited     uint64        // the message whose sender waits until it no longer needs the slice, 0 if there is none
	awaitedDone chan struct{} // has room for the one value that this sender waits for; nil before the first
	refusal     chan struct{} // made when somebody waits for it, closed when refused is set
	onRoom      func()        // called once by the writer goroutine when there is room again, nil if nobody waits for that
	failed      error         // of the write that failed, nil if none has
	onFull      func()        // called when a sender is about to wait, nil for no such call
	onRefusal   func()        // called, with the lock held, when refused is set; nil for no such call
	beforeWrite func(bool)    // see pulled.Conn, nil for none
	coalesced   uint64        // pongs that were not sent
}

// onFull returns what to call, without the lock, when a sender is about to wait; nil for nothing.
func (q *sendQueue) onFull() func() {
	if q.rare == nil {
		return nil
	}
	return q.rare.onFull
}

// longest returns the maximum length in bytes of a fragment that is added. It needs no lock: it never changes.
func (q *sendQueue) longest() int {
	if q.settings.sendQueue < defaultSendQueue {
		return min(q.backlog.Longest, largePayload) // memory is scarce
	}
	return min(q.backlog.Longest, netio.PieceSize)
}

// rarely returns the state that most connections do not need.
func (q *sendQueue) rarely() *rareState {
	if q.rare == nil {
		q.rare = new(rareState)
	}
	return q.rare
}

// sendCounts holds what Stats tells of sending.
type sendCounts struct {
	messages, bytes uint64 // taken
	writes          uint64
}

func (q *sendQueue) init(s *settings, senderTries bool) {
	q.settings = s
	q.backlog.Masked = s.role == ClientRole
	q.backlog.Longest = s.maxFrame
	q.senderTries, q.transient = senderTries, s.pulled
}

// writtenBy has start called to start the writer goroutine. It belongs to init.
func (q *sendQueue) writtenBy(start func()) { q.startWriter = start }

// leaveFrames has a client's frames go as they are, since the transport masks them and takes them as a whole. It belongs to init.
func (q *sendQueue) leaveFrames() { q.backlog.Masked, q.backlog.Whole = false, true }

// sleep waits, in the writer goroutine, for as long as idle or wrote has told it to, and reports whether more than what it is
// woken for may come at once.
func (q *sendQueue) sleep() (expectMore bool) { return <-q.wake }

// admission decides which sender may add to the queue.
type admission struct {
	turn        bool       // a sender has the queue for itself: its message takes several steps
	compressing bool       // and has not added it yet, for which it needs nothing but the processor
	granted     uint32     // senders that have been admitted but have not added since
	size        int        // the bytes that these will add
	waiting     *list.List // of *sender, first come, first served; nil before the first
}

// need is what a sender waits for.
type need uint8

const (
	needRoom           need = iota // for one frame
	needTurn                       // and nobody else's message meanwhile
	needTurnToCompress             // the same, as long as compressing takes
)

// sender is a goroutine that waits for admission.
type sender struct {
	admitted chan struct{} // closed with granted set
	granted  bool
	need     need
	size     int
}

// first returns the sender that has waited longest, nil if none waits.
func (a *admission) first() *list.Element {
	if a.waiting == nil {
		return nil
	}
	return a.waiting.Front()
}

// admits reports whether a sender may be admitted.
func (a *admission) admits(size int, n need, used, limit int) bool {
	if a.turn || n != needRoom && a.granted > 0 {
		return false
	}
	used += a.size
	return used == 0 || used+size <= limit
}

// next admits the waiting senders that may now add.
func (a *admission) next(used, limit int) {
	for first := a.first(); first != nil; first = a.first() {
		s := first.Value.(*sender)
		if !a.admits(s.size, s.need, used, limit) {
			return
		}
		a.waiting.Remove(first)
		a.reserve(s.size, s.need)
		s.granted = true
		close(s.admitted)
	}
}

// reserve keeps for a sender what it is admitted for, and giveBack undoes that.
func (a *admission) reserve(size int, n need) {
	if n == needRoom {
		a.granted++
		a.size += size
	} else {
		a.turn, a.compressing = true, n == needTurnToCompress
	}
}

func (a *admission) giveBack(size int, n need) {
	if n == needRoom {
		a.granted--
		a.size -= size
	} else {
		a.turn, a.compressing = false, false
	}
}

// admitMore admits those who wait, if there is room.
func (q *sendQueue) admitMore() { q.admission.next(q.backlog.DataSize(), q.settings.sendQueue) }

// outgoing is one message or fragment on its way into the queue. It is on the stack of handlers that send, of which a page more
// would be needed if it had eight bytes more (bench's TestAnIdleConnectionTakesSixKiB).
type outgoing struct {
	payload []byte          // as on the wire, not masked
	size    int             // of the message, in bytes, uncompressed
	waiting <-chan Message  // as long as messages wait in it, more is about to be added; may be nil
	shared  *backlog.Shared // payload as a frame, if it is less than shareLeast and never changes
	opcode  byte            // as on the wire, with RSV1 if payload is compressed, without FIN
	share   bool            // payload never changes: it may be kept instead of copied
	loan    bool            // payload is a loan, which the queue may keep and give back instead of copying it
	prompt  bool            // if it is an answer, nothing more is about to be added: the sender may write
}

// room is how many bytes of the queue o takes.
func (o *outgoing) room() int { return len(o.payload) + maxFrameHeader }

// shareLeast is the size in bytes from which a payload that may be kept is written from where it is. Writing a shorter one by
// itself takes longer than copying it to where others follow.
const shareLeast = 8 << 10

const (
	// firstBuffer is the size in bytes of the buffers in which output begins to gather.
	firstBuffer = backlog.FirstBuffer
	// maxControlBacklog is how many bytes of pings may wait to be written, and how many of pongs.
	maxControlBacklog = 64 << 10
)

// add adds a message once there is room for it. If its sender is to write (Conn.write), it returns up to which number.
func (q *sendQueue) add(ctx context.Context, o *outgoing) (writeTo uint64, err error) {
	q.mu.Lock()
	if q.full(o.room(), needRoom) {
		q.mu.Unlock()
		if err := q.enter(ctx, o.room(), needRoom); err != nil {
			return 0, err
		}
		q.mu.Lock()
		q.admission.giveBack(o.room(), needRoom)
		q.signalProgress() // for tryTurn
	}
	if err = errRefused; !q.refused {
		writeTo, err = q.put(o), nil
		q.admitMore()
	}
	q.mu.Unlock()
	return writeTo, err
}

// full reports whether a sender of size bytes has to wait.
func (q *sendQueue) full(size int, n need) bool {
	return q.admission.first() != nil || !q.admission.admits(size, n, q.backlog.DataSize(), q.settings.sendQueue)
}

// put adds a message for which there is room.
func (q *sendQueue) put(o *outgoing) (writeTo uint64) {
	switch {
	case o.share && len(o.payload) >= shareLeast:
		q.backlog.AddMessage(o.opcode, o.payload, nil)
	case o.loan:
		q.backlog.AddMessage(o.opcode, o.payload, o.payload)
	case o.shared != nil && q.backlog.Shares(len(o.payload)):
		q.backlog.AddShared(o.shared, q.writing != nil)
	default:
		q.backlog.AddCopy(o.opcode, o.payload, q.writing != nil)
	}
	// One that is pulled may ask for any message to be written at once.
	answer := q.count(o.size) || q.transient
	prompt := o.prompt && answer && len(o.waiting) == 0
	if q.toMany = o.share; q.toMany {
		return q.hand(prompt)
	}
	return q.kick(prompt)
}

// handOver is what hand returns instead of a number if the caller is to add the connection to forMany.
const handOver uint64 = everything - 1

// hand is kick for a message that goes to many connections: few goroutines write it for all of them.
func (q *sendQueue) hand(prompt bool) (writeTo uint64) {
	switch {
	case prompt, q.stopped, q.writing != nil, !q.senderTries, q.transient, q.running && !q.asleep, q.backlog.MoreThanData(), q.roomy():
		return q.kick(prompt)
	case q.handed:
		return 0
	}
	q.handed = true
	return handOver
}

// takeHanded is called when it is the connection's turn at forMany, and returns up to which number.
func (q *sendQueue) takeHanded() (writeTo uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.handed = false
	return q.backlog.Added()
}

// tryAdd is add without waiting: if there is no room, or others wait for some, it returns ErrQueueFull.
func (q *sendQueue) tryAdd(o *outgoing) (writeTo uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.refused:
		return 0, errRefused
	case q.full(o.room(), needRoom):
		return 0, ErrQueueFull
	}
	return q.put(o), nil
}

// hasRoom returns ErrQueueFull if a message of size bytes would have to wait.
func (q *sendQueue) hasRoom(size int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.refused:
		return errRefused
	case q.full(size, needRoom):
		return ErrQueueFull
	}
	return nil
}

// tryTurn takes the turn to compress a message of size bytes, without waiting for the peer. Behind another sender that
// compresses it waits, as that needs nothing but the processor.
func (q *sendQueue) tryTurn(size int) error {
	for {
		q.mu.Lock()
		switch a := &q.admission; {
		case q.refused:
			q.mu.Unlock()
			return errRefused
		case a.first() == nil && (a.compressing || a.granted > 0):
			progress := q.makeProgress()
			q.mu.Unlock()
			<-progress
		case q.full(size, needTurnToCompress):
			q.mu.Unlock()
			return ErrQueueFull
		default:
			a.reserve(size, needTurnToCompress)
			q.mu.Unlock()
			return nil
		}
	}
}

// tryAddInTurn is tryAdd for the sender whose turn it is.
func (q *sendQueue) tryAddInTurn(o *outgoing) (writeTo uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.refused:
		return 0, errRefused
	case q.backlog.DataSize() > 0 && q.backlog.DataSize()+o.room() > q.settings.sendQueue:
		return 0, ErrQueueFull
	}
	return q.put(o), nil
}

// enter waits until a sender has what it needs to add size bytes. Room is used up by add, and a turn ends with leave.
func (q *sendQueue) enter(ctx context.Context, size int, n need) error {
	q.mu.Lock()
	a := &q.admission
	if q.refused {
		q.mu.Unlock()
		return errRefused
	}
	if !q.full(size, n) {
		a.reserve(size, n)
		q.mu.Unlock()
		return nil
	}
	self := &sender{admitted: make(chan struct{}), need: n, size: size}
	if a.waiting == nil {
		a.waiting = list.New()
	}
	place := a.waiting.PushBack(self)
	refusal := q.makeRefusal()
	full := q.onFull()
	q.mu.Unlock()
	if full != nil {
		full()
	}
	select {
	case <-self.admitted:
	case <-ctx.Done():
	case <-refusal:
	}
	// If several are ready, an ended context counts. It is asked without the lock, as it is foreign code.
	var gaveUp error
	if ctx.Err() != nil {
		gaveUp = canceled("send", ctx)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused {
		gaveUp = errRefused
	}
	if gaveUp == nil {
		return nil
	}
	if self.granted {
		a.giveBack(size, n)
	} else {
		a.waiting.Remove(place)
	}
	q.madeRoom()
	return gaveUp
}

// madeRoom lets those in who wait for what a sender has given back without writing.
func (q *sendQueue) madeRoom() {
	q.admitMore()
	q.signalProgress() // for tryTurn
	if q.roomy() {
		q.kick(false)
	}
}

// leave ends a turn.
func (q *sendQueue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.admission.giveBack(0, needTurn)
	q.madeRoom()
}

// addInTurn is add for the sender whose turn it is.
func (q *sendQueue) addInTurn(o *outgoing) (writeTo uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused {
		return 0, errRefused
	}
	return q.put(o), nil
}

// addAwaited adds a message that is written from its sender's slice. The sender, whose turn it is, must call awaitWritten
// before it lets go of the slice. It returns the message's number and, as add does, up to which number to write.
func (q *sendQueue) addAwaited(o *outgoing) (number, writeTo uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused {
		return 0, 0, errRefused
	}
	number = q.backlog.AddMessage(o.opcode, o.payload, nil)
	rare := q.rarely()
	if rare.awaited = number; rare.awaitedDone == nil {
		rare.awaitedDone = make(chan struct{}, 1)
	}
	q.admission.compressing = false
	q.signalProgress() // for tryTurn
	q.count(o.size)
	return number, q.kick(true), nil // the sender has to wait for the write anyway
}

// awaitWritten waits until the message with a number is written, or its slice is no longer needed. size is what addAwaited
// counted. If ctx is done before any of the message was taken, it is taken back; if later, cut is called, which must stop
// the queue.
func (q *sendQueue) awaitWritten(ctx context.Context, number uint64, size int, cut func()) error {
	done := q.rare.awaitedDone // made by addAwaited
	select {
	case <-done:
	case <-ctx.Done():
		unsent := canceled("send", ctx)
		switch withdrawn, begun := q.withdraw(number, size); {
		case withdrawn:
			return unsent
		case begun:
			// The frame cannot be completed without the slice, which belongs to the caller again now.
			cut()
		}
		<-done
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.written < number {
		return errRefused
	}
	return nil
}

// withdraw takes back the awaited message, if none of it has been taken yet. begun reports that some has been, and not all
// is written.
func (q *sendQueue) withdraw(number uint64, size int) (withdrawn, begun bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rare.awaited != number {
		return false, false
	}
	if !q.backlog.Withdraw(number) {
		return false, true
	}
	q.rare.awaited = 0
	q.counts.messages--
	q.counts.bytes -= uint64(size)
	q.signalProgress() // a Flush may wait for this message
	return true, false
}

// awaitRoom waits until there is room for a frame of size bytes of the message of the sender whose turn it is.
func (q *sendQueue) awaitRoom(size int) error {
	most := max(q.settings.sendQueue, q.longest())
	for waited := false; ; waited = true {
		q.mu.Lock()
		refused, full := q.refused, q.backlog.DataSize() > 0 && q.backlog.DataSize()+size > most
		if refused || !full {
			q.mu.Unlock()
			if refused {
				return errRefused
			}
			return nil
		}
		progress, tell := q.makeProgress(), q.onFull()
		q.mu.Unlock()
		if tell != nil && !waited {
			tell()
		}
		<-progress // the end counts as progress
	}
}

// addFragment adds a frame of the message of the sender whose turn it is, for which there is room. The last frame, with
// the FIN bit in first, is not added to a message that has been abandoned; it counts the message, of size bytes, and ends
// the turn.
func (q *sendQueue) addFragment(first byte, payload []byte, size int, fate *messageFate) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := first&finBit != 0
	if q.refused || last && !fate.complete() {
		return errRefused
	}
	q.backlog.AddFrame(first, payload, q.writing != nil)
	if last {
		q.count(size)
		q.admission.giveBack(0, needTurn)
		q.admitMore()
	}
	q.kick(false)
	return nil
}

// addLoan is addFragment for a frame that is finished, and not the last one. It is part of a loan, which the queue takes over.
// If the sender is to write, it returns up to which number.
func (q *sendQueue) addLoan(frame, loan []byte) (writeTo uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused {
		return 0, errRefused
	}
	q.backlog.AddFinished(frame, loan)
	return q.kick(true), nil
}

// count counts a message that was added, and reports whether it answers one that was delivered.
func (q *sendQueue) count(size int) (answer bool) {
	q.counts.messages++
	q.counts.bytes += uint64(size)
	q.unused = false
	return q.answers.count()
}

// answered returns how many messages have been answered, and whether there are more to answer.
func (q *sendQueue) answered() (answered uint64, due bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answers.answered, q.answers.answered < q.answers.delivered.Load()
}

// addPing adds a ping if there is room for it. Otherwise it returns a channel that is closed when there may be.
func (q *sendQueue) addPing(payload []byte) (full <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.refused:
		return nil, errRefused
	case q.backlog.PingSize() > maxControlBacklog:
		return q.makeProgress(), nil
	}
	q.backlog.AddControl(byte(OpPing), payload)
	q.kick(false)
	return nil, nil
}

// addKeepalivePing adds a ping unless one already waits, and lets the writer end when that is written. It reports whether it
// added it, and whether something else was still to be written.
func (q *sendQueue) addKeepalivePing(payload []byte) (added, late bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused {
		return false, false
	}
	late = q.writing != nil || !q.backlog.Empty()
	if added = q.backlog.PingSize() == 0; added {
		q.backlog.AddControl(byte(OpPing), payload)
	}
	q.unused, q.stays = true, false
	q.kick(false)
	return added, late
}

// pingWaits reports whether a ping has not been taken to be written.
func (q *sendQueue) pingWaits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.backlog.PingSize() > 0
}

// addPong adds the answer to a ping. If so many are waiting that the peer cannot be reading them, only the newest is kept
// (RFC 6455, section 5.5.3).
func (q *sendQueue) addPong(payload []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.backlog.PongSize() > maxControlBacklog && !q.pongsStuck {
		q.mu.Unlock()
		q.awaitPongs()
		q.mu.Lock()
	}
	if q.refused {
		return // a close frame may be on its way, and nothing may follow it
	}
	if q.backlog.PongSize() > maxControlBacklog {
		q.pongsStuck = true
		q.rarely().coalesced += q.backlog.ReplacePongs(payload)
	} else {
		q.backlog.AddPong(payload)
	}
	q.kick(false)
}

// addControl adds a ping or a pong of a connection that is pulled, in the order of such calls. If its sender is to write, it
// returns up to which number.
func (q *sendQueue) addControl(opcode byte, payload []byte) (writeTo uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused {
		return 0, errRefused
	}
	q.backlog.AddControl(opcode, payload)
	return q.kickAll(), nil
}

// awaitTaken waits until no control frame of a connection that is pulled waits to be taken by whoever writes.
func (q *sendQueue) awaitTaken(ctx context.Context) error {
	return q.awaitWithin(ctx, func() bool { return !q.backlog.HasControl() && !q.backlog.Unfinished() })
}

// awaitLast waits until the close frame is written.
func (q *sendQueue) awaitLast(ctx context.Context) error {
	return q.awaitWithin(ctx, func() bool { return q.closeWritten })
}

// awaitWithin waits until reached reports true. Otherwise it returns that ctx is done, or errRefused if nothing more is
// written.
func (q *sendQueue) awaitWithin(ctx context.Context, reached func() bool) error {
	for {
		q.mu.Lock()
		ok, stopped := reached(), q.stopped
		if ok || stopped {
			q.mu.Unlock()
			if ok {
				return nil
			}
			return errRefused
		}
		progress := q.makeProgress()
		q.mu.Unlock()
		if err := waitFor(ctx, progress, "send"); err != nil {
			return err
		}
	}
}

// awaitPongs waits a moment for the waiting pongs to be taken.
func (q *sendQueue) awaitPongs() {
	patience := time.NewTimer(pongPatience)
	defer patience.Stop()
	for {
		q.mu.Lock()
		if q.stopped || q.backlog.PongSize() <= maxControlBacklog {
			q.mu.Unlock()
			return
		}
		progress := q.makeProgress()
		q.mu.Unlock()
		select {
		case <-progress:
		case <-patience.C:
			return
		}
	}
}

// kick gets what was added written. If prompt allows that the sender does it, since waking the writer takes longer than
// writing, it may return up to which number.
func (q *sendQueue) kick(prompt bool) (writeTo uint64) {
	switch {
	case q.stopped, q.writing != nil:
		// Whoever is writing will look again.
	case prompt && q.senderTries && (q.asleep || !q.running) && !q.backlog.MoreThanData():
		return q.backlog.Added()
	case !q.running:
		q.running = true
		q.startWriter()
	case q.asleep:
		q.asleep = false
		q.wake <- !prompt || q.answers.answered < q.answers.delivered.Load()
	}
	return 0
}

// onWrite has f called before each write.
func (q *sendQueue) onWrite(f func(data bool)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rarely().beforeWrite = f
}

// tellOfWrite calls what onWrite was given, if anything.
func (q *sendQueue) tellOfWrite(data bool) {
	q.mu.Lock()
	var f func(bool)
	if q.rare != nil {
		f = q.rare.beforeWrite
	}
	q.mu.Unlock()
	if f != nil {
		f(data)
	}
}

// kickAll gets everything written that waits, by the caller unless somebody is writing: it may return up to which number.
func (q *sendQueue) kickAll() (writeTo uint64) {
	if q.stopped || q.writing != nil || !q.senderTries || q.backlog.Unfinished() || q.running && !q.asleep {
		return q.kick(false)
	}
	return q.backlog.Added() + 1 // frames without a number are to be written too
}

// lull is what the writer goroutine is to do when nothing is left to write.
type lull struct {
	sleep bool   // until something comes from wake
	end   bool   // the goroutine's time is over
	room  func() // to be called, and then to look again
}

// idle is called by the writer goroutine when take has found nothing.
func (q *sendQueue) idle() lull {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lull()
}

func (q *sendQueue) lull() (l lull) {
	switch {
	case !q.stopped && q.writing == nil && !q.backlog.Empty():
		// Something has come meanwhile.
	case q.roomy():
		l.room, q.rare.onRoom = q.rare.onRoom, nil
	case q.stopped, !q.stays && q.writing == nil:
		q.running, l.end = false, true
		q.stays = !q.unused && !q.transient // the next one
		q.backlog.StartSmall()
	default:
		if q.wake == nil {
			q.wake = make(chan bool, 1)
		}
		q.asleep, l.sleep = true, true
	}
	return l
}

// batch is what goes with one write.
type batch struct {
	backlog.Batch
	room func() // to be called while it is written, so that more can gather; usually nil
}

// everything is the number up to which the writer goroutine writes.
const everything = math.MaxUint64

// take takes what to write next into b, and reports false if there is nothing, or another writes. upTo is the number up to
// which the caller writes, everything if that is the writer goroutine. wrote must follow.
func (q *sendQueue) take(b *batch, upTo uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.takeNext(b, upTo)
}

func (q *sendQueue) takeNext(b *batch, upTo uint64) bool {
	// What another has written already is no reason to write what follows it, such as the close frame, whose writer the
	// end waits for.
	if q.stopped || q.writing != nil || q.backlog.Empty() || q.written >= upTo {
		return false
	}
	q.backlog.Take(&b.Batch)
	q.writing = b
	q.admitMore()
	q.signalProgress() // what was taken has left room
	if upTo == everything && q.roomy() {
		b.room, q.rare.onRoom = q.rare.onRoom, nil
	}
	return true
}

// writeResult is what came of a write.
type writeResult struct {
	more         bool // the next batch has been taken: whoever wrote is to go on with it
	closeWritten bool // the close frame has been written
	failed       bool // the write failed, as the first one
	handOver     bool // the connection is to be added to forMany
	lull              // of the writer goroutine, if there is no more
}

// wrote records that n bytes of b were written, and err, with which the write failed if it is not nil. It releases b. If
// the caller, who writes up to the number upTo, has more to write, it takes that into b.
func (q *sendQueue) wrote(b *batch, n int, err error, upTo uint64) (result writeResult) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = nil
	q.counts.writes++
	q.pongsStuck = false
	switch {
	case err != nil || n < b.Len():
		result.failed = q.wroteLess(b, n, err)
	default:
		q.written = max(q.written, b.Last)
		q.closeWritten = q.closeWritten || b.HasClose
		result.closeWritten = b.HasClose
		result.more = true
	}
	b.Release()
	b.room = nil
	q.settle()
	result.more = result.more && q.takeNext(b, upTo)
	switch {
	case result.more:
	case upTo == everything:
		result.lull = q.lull() // here, since each taking of the lock costs what the senders' processor has of it
	case !q.backlog.Empty() || q.roomy():
		if q.toMany {
			result.handOver = q.hand(false) == handOver
		} else {
			q.kick(false)
		}
	}
	return result
}

// wroteLess is wrote for a batch of which something is left, and reports whether the write failed, as the first one.
func (q *sendQueue) wroteLess(b *batch, n int, err error) (failed bool) {
	if err == nil {
		q.backlog.PutBack(&b.Batch, n)
		return false
	}
	if failed = !q.stopped; failed {
		q.rarely().failed = &causeError{"write", err}
	}
	q.halt()
	return failed
}

// settle lets go of what nobody will write, and of the awaited slice once it is not needed.
func (q *sendQueue) settle() {
	if q.stopped && q.writing == nil {
		q.backlog.Clear()
	}
	if r := q.rare; r != nil && r.awaited != 0 && q.writing == nil && (q.stopped || q.written >= r.awaited) {
		r.awaited = 0
		r.awaitedDone <- struct{}{}
	}
	q.signalProgress()
}

// addClose adds the close frame behind all else, and refuses more. It has no effect if more has been refused already.
func (q *sendQueue) addClose(payload []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.refused {
		q.backlog.AddClose(payload)
		q.refuseRest()
		q.kick(false)
	}
}

// addLast is addClose for a connection that is pulled: if the caller is to write, it returns up to which number.
func (q *sendQueue) addLast(payload []byte) (writeTo uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refused {
		return 0, errRefused
	}
	q.backlog.AddClose(payload)
	q.refuseRest()
	return q.kickAll(), nil
}

// takeLast is takeNoMore at the end of a connection that is pulled. It reports whether nothing is being written that its
// sender does not wait for.
func (q *sendQueue) takeLast(senderWaits bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuseRest()
	if q.stopped || senderWaits && q.writing != nil || q.rare != nil && q.rare.awaited != 0 {
		return true
	}
	return q.writing == nil && q.backlog.Empty()
}

// takeNoMore makes the queue take nothing more. What waits is still written.
func (q *sendQueue) takeNoMore() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuseRest()
}

func (q *sendQueue) refuseRest() {
	if q.refused {
		return
	}
	q.refused = true
	if rare := q.rare; rare != nil {
		if rare.refusal != nil {
			close(rare.refusal)
		}
		if rare.onRefusal != nil {
			rare.onRefusal()
		}
	}
	q.signalProgress() // for senders that wait to add more
}

// stop ends the writing, and lets go of what waits.
func (q *sendQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.halt()
	q.settle()
}

func (q *sendQueue) halt() {
	q.refuseRest()
	q.stopped = true
	if q.asleep {
		q.asleep = false
		q.wake <- false
	}
}

// halted stops the queue, and reports whether that cuts something off, or a write has failed.
func (q *sendQueue) halted() (cut bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	cut = q.stopped || q.writing != nil || !q.backlog.Empty()
	q.halt()
	q.settle()
	return cut
}

// isRefused reports whether nothing more is taken.
func (q *sendQueue) isRefused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refused
}

// failure returns the error of the write that failed, nil if none has.
func (q *sendQueue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rare == nil {
		return nil
	}
	return q.rare.failed
}

// busy reports whether a sender waits to add, or has the turn.
func (q *sendQueue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.admission.turn || q.admission.granted > 0 || q.admission.first() != nil
}

// stats puts what Stats tells of sending into s.
func (q *sendQueue) stats(s *Stats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.MessagesSent, s.BytesSent = q.counts.messages, q.counts.bytes
	s.Writes = q.counts.writes
	if q.rare != nil {
		s.PongsCoalesced = q.rare.coalesced
	}
	since, waits := q.backlog.Oldest()
	s.QueuedBytes = q.backlog.TotalSize()
	if q.writing != nil {
		since, waits = q.writing.Since, true
		s.QueuedBytes += q.writing.Len()
	}
	if !waits {
		return
	}
	s.OldestQueued = time.Now()
	if since != 0 {
		s.OldestQueued = s.OldestQueued.Add(since - clock.Now())
	}
}

// noteWait notes that the transport does not take at once what was taken.
func (q *sendQueue) noteWait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing.NoteWait()
}

// notifyRoom has f called once when there is room for more, or at the end.
func (q *sendQueue) notifyRoom(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rarely().onRoom = f
	switch {
	case q.announced && f != nil:
		q.rare.onRoom = nil
		go f()
	case q.roomy():
		q.kick(false) // the writer goroutine calls it, not somebody who may hold locks
	}
}

// notifyFull has f called each time a sender is about to wait.
func (q *sendQueue) notifyFull(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rarely().onFull = f
}

// notifyRefusal has f called when nothing more is taken. It is called with the queue's lock held.
func (q *sendQueue) notifyRefusal(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rarely().onRefusal = f
}

// roomy reports whether somebody is to be told that there is room.
func (q *sendQueue) roomy() bool {
	a := &q.admission
	return q.rare != nil && q.rare.onRoom != nil && !q.stopped && !a.turn && a.first() == nil && q.backlog.DataSize()+a.size <= q.settings.sendQueue/2
}

// announceEnd tells those who wait for room that there will be none.
func (q *sendQueue) announceEnd() {
	q.mu.Lock()
	q.announced = true
	var f func()
	if q.rare != nil {
		f, q.rare.onRoom = q.rare.onRoom, nil
	}
	q.mu.Unlock()
	if f != nil {
		f()
	}
}

// refusalChannel returns a channel that is closed when nothing more is taken.
func (q *sendQueue) refusalChannel() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.makeRefusal()
}

func (q *sendQueue) makeRefusal() <-chan struct{} {
	rare := q.rarely()
	if rare.refusal == nil {
		rare.refusal = make(chan struct{})
		if q.refused {
			close(rare.refusal)
		}
	}
	return rare.refusal
}

// makeProgress returns a channel that is closed the next time something is taken or written, or at the end.
func (q *sendQueue) makeProgress() <-chan struct{} {
	rare := q.rarely()
	if rare.progress == nil {
		rare.progress = make(chan struct{})
	}
	return rare.progress
}

func (q *sendQueue) signalProgress() {
	if rare := q.rare; rare != nil && rare.progress != nil {
		close(rare.progress)
		rare.progress = nil
	}
}

// flush waits until everything that was added before the call is written. An end of ctx counts only if that, or the end
// of the queue, has not happened at the same time: ctx may be the connection's own.
func (q *sendQueue) flush(ctx context.Context) error {
	var gaveUp error
	for upTo, first := uint64(0), true; ; first = false {
		q.mu.Lock()
		if first {
			upTo = q.backlog.Added()
		}
		upTo = min(upTo, q.backlog.Added()) // the last one may have been withdrawn
		done, stopped := q.written >= upTo, q.stopped
		progress := q.makeProgress()
		q.mu.Unlock()
		switch {
		case done:
			return nil
		case stopped:
			return errRefused
		case gaveUp != nil:
			return gaveUp
		}
		gaveUp = waitFor(ctx, progress, "flush")
	}
}

// awaitClosed waits until the close frame is written, and reports whether it was.
func (q *sendQueue) awaitClosed() bool { return q.awaitState(func() bool { return q.closeWritten }) }

// awaitEmpty waits until nothing is left to write.
func (q *sendQueue) awaitEmpty() {
	q.awaitState(func() bool { return q.writing == nil && q.backlog.Empty() })
}

// awaitState waits until reached reports true, and reports that, or until nothing more is written.
func (q *sendQueue) awaitState(reached func() bool) bool {
	for {
		q.mu.Lock()
		ok, stopped := reached(), q.stopped
		progress := q.makeProgress()
		q.mu.Unlock()
		if ok || stopped {
			return ok
		}
		<-progress
	}
}

// waitFor waits for progress, or returns the error of a call whose ctx is done.
func waitFor(ctx context.Context, progress <-chan struct{}, call string) error {
	select {
	case <-progress:
		return nil
	case <-ctx.Done():
		return canceled(call, ctx)
	}
}

// canceled returns the error of a call whose ctx is done. A context is foreign code, which may ask for the connection's
// state: no lock may be held.
func canceled(call string, ctx context.Context) error { return done.Canceled(call, ctx) }
