// backlog.go is what waits to be written, in the order in which it is written. It knows no lock and no goroutine.

package wsd

import (
	"slices"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/mask"
	"github.com/seed62836080/wsd/internal/netio"
)

const (
	// shortFrame is the maximum payload, in bytes, of frames of a message that are written several at a time.
	shortFrame = netio.PieceSize / 2
	// firstBuffer is the size in bytes of the buffers in which output begins to gather. Frames begin with more, up to
	// largestFirst, if more was written the last time.
	firstBuffer  = 2 << 10
	largestFirst = 64 << 10
	// maxControlBacklog is how many bytes of pings may wait to be written, and how many of pongs.
	maxControlBacklog = 64 << 10
	// segmentsKept is how many segments an empty backlog keeps room for.
	segmentsKept = 16
)

// backlog holds what waits to be written. Control frames go between frames, ahead of the data that waits; the close frame
// goes last. It is not safe for concurrent use: the lock of its sendQueue guards it.
type backlog struct {
	// What each small message touches comes first, so that a broadcast to thousands finds it in few lines of the cache.
	frames []byte        // the data's last frames, to which more are added; on loan, nil if there are none
	size   int           // of all data, in bytes
	added  uint64        // frames and messages that were added: each has its number
	since  time.Duration // on clock: when the first of frames was added; 0 if that was with nothing ahead of it

	lastTaken uint32         // the length in bytes of the longest frames taken lately: the next begin with as much room
	masked    bool           // this side masks
	longest   int            // the maximum payload of a data frame, in bytes
	control   *controlFrames // nil if none wait
	ahead     *segments      // the data ahead of frames; nil before the first message that is not copied
	rest      *batch         // what a write left of a batch, perhaps in the middle of a frame; nil before the first
	last      *[]byte        // the close frame; nil until this side closes, and again once it has been taken
}

// segments are parts of the data, in order.
type segments struct {
	all  []segment
	next int // those before it have been taken
}

// first returns the part to be written next, nil if there is none. s may be nil.
func (s *segments) first() *segment {
	if s == nil || s.next == len(s.all) {
		return nil
	}
	return &s.all[s.next]
}

func (s *segments) add(part segment) {
	if s.next > 0 && len(s.all) == cap(s.all) {
		s.all = slices.Delete(s.all, 0, s.next)
		s.next = 0
	}
	s.all = append(s.all, part)
}

// drop takes out the first part.
func (s *segments) drop() {
	s.all[s.next] = segment{}
	s.next++
	s.rewind()
}

// dropLast takes out the last part.
func (s *segments) dropLast() {
	end := len(s.all) - 1
	s.all[end] = segment{}
	s.all = s.all[:end]
	s.rewind()
}

// rewind reuses the room of the parts that have been taken, once none are left.
func (s *segments) rewind() {
	if s.next < len(s.all) {
		return
	}
	s.all, s.next = s.all[:0], 0
	if cap(s.all) > segmentsKept {
		s.all = nil // a queue that was long once need not be again
	}
}

// segment is a part of the data that waits: finished frames, or one message whose frames are made as it is written.
type segment struct {
	frames  []byte // nil for a message
	message []byte // what has not been taken of it; the slice is another's, and only read
	frame   int    // how many bytes of it belong to a frame whose header has been taken
	key     uint32 // the masking key of that frame, rotated
	lent    []byte // the loan that they are part of, nil for what is another's
	opcode  byte   // of its next frame, with RSV1 if it is set
	last    uint64 // the number of the last frame in it, or of the message
	since   time.Duration
}

// controlFrames holds the pings and pongs that wait.
type controlFrames struct {
	pings, pongs []byte
	pongCount    uint64
}

// batch is what goes with one write: head followed by body.
type batch struct {
	head, body []byte
	lent       [2][]byte     // the loans that they are part of, nil for what is another's
	last       uint64        // the number up to which everything is written once this is
	since      time.Duration // on clock: when its oldest bytes began to wait; 0 if they did not
	hasClose   bool          // the close frame is in it
	midMessage bool          // it has a part of a message that is not the last
	room       func()        // to be called while it is written, so that more can gather; usually nil
}

// batches holds idle ones: a batch on the stack would double that of senders who write.
var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) len() int { return len(b.head) + len(b.body) }

// advance takes the first n bytes out.
func (b *batch) advance(n int) {
	ofHead := min(n, len(b.head))
	b.head, b.body = b.head[ofHead:], b.body[n-ofHead:]
}

// release gives back the buffers, and leaves b empty.
func (b *batch) release() {
	bufpool.Put(b.lent[0])
	bufpool.Put(b.lent[1])
	*b = batch{}
}

// empty reports whether nothing waits.
func (l *backlog) empty() bool { return l.frames == nil && l.ahead.first() == nil && !l.behind() }

// behind reports whether something waits that is not data from senders.
func (l *backlog) behind() bool {
	return l.unfinished() || l.control != nil || l.last != nil
}

// appendFrame appends a frame to dst, masked if this side masks. first is the first byte of its header.
func (l *backlog) appendFrame(dst []byte, first byte, payload []byte) []byte {
	var key uint32
	if l.masked {
		key = mask.NewKey()
	}
	dst = appendFrameHeader(dst, first, len(payload), l.masked, key)
	if !l.masked {
		return append(dst, payload...)
	}
	dst, _ = appendMasked(dst, payload, key)
	return dst
}

// frameInPlace makes a frame of the size bytes that lie in space behind room for a header, and returns it.
func (l *backlog) frameInPlace(space []byte, first byte, size int) []byte {
	var key uint32
	if l.masked {
		key = mask.NewKey()
	}
	var room [maxFrameHeader]byte
	header := appendFrameHeader(room[:0], first, size, l.masked, key)
	frame := space[maxFrameHeader-len(header) : maxFrameHeader+size]
	copy(frame, header)
	if l.masked {
		payload := frame[len(header):]
		mask.XOR(payload, payload, key)
	}
	return frame
}

// appendMasked appends payload to dst, masked, and returns the key rotated to the byte behind it.
func appendMasked(dst, payload []byte, key uint32) ([]byte, uint32) {
	start := len(dst)
	dst = slices.Grow(dst, len(payload))[:start+len(payload)]
	return dst, mask.XOR(dst[start:], payload, key)
}

// addFrame adds a data frame, and copies its payload. behind says that something is being written: otherwise this frame is
// about to be, and the time is not asked, which takes as long as all else here.
func (l *backlog) addFrame(first byte, payload []byte, behind bool) {
	if l.frames == nil {
		l.frames = bufpool.Get(max(int(l.lastTaken), firstBuffer))
		if l.since = 0; behind {
			l.since = clock.Now()
		}
	}
	before := len(l.frames)
	frames := bufpool.Grow(l.frames, maxFrameHeader+len(payload))
	if l.masked {
		frames = l.appendFrame(frames, first, payload)
	} else {
		frames = append(appendFrameHeader(frames, first, len(payload), false, 0), payload...)
	}
	l.size += len(frames) - before
	l.added++
	l.frames = frames
}

// addCopy adds a message, and copies its payload. opcode and behind are as for addMessage and addFrame.
func (l *backlog) addCopy(opcode byte, payload []byte, behind bool) {
	for len(payload) > l.longest {
		l.addFrame(opcode, payload[:l.longest], behind)
		opcode, payload = byte(OpContinuation), payload[l.longest:]
	}
	l.addFrame(finBit|opcode, payload, behind)
}

// addMessage adds a message, and keeps its payload until all of it has been written. opcode has RSV1 set if payload is
// compressed. lent is the loan that payload is part of, nil for what is another's. It returns the message's number.
func (l *backlog) addMessage(opcode byte, payload, lent []byte) uint64 {
	l.endFrames()
	l.added++
	l.ahead.add(segment{message: payload, lent: lent, opcode: opcode, last: l.added, since: clock.Now()})
	l.size += len(payload)
	return l.added
}

// addFinished adds a frame that is finished, and part of a loan.
func (l *backlog) addFinished(frame, lent []byte) {
	l.endFrames()
	l.added++
	l.ahead.add(segment{frames: frame, lent: lent, last: l.added, since: clock.Now()})
	l.size += len(frame)
}

// endFrames makes the last frames a segment, behind which others can follow.
func (l *backlog) endFrames() {
	if l.ahead == nil {
		l.ahead = new(segments)
	}
	if l.frames != nil {
		l.ahead.add(segment{frames: l.frames, lent: l.frames, last: l.added, since: l.since})
		l.frames = nil
	}
}

// withdraw takes out the message with a number, which is the last one added, and reports whether it could: not if some of
// it has been taken.
func (l *backlog) withdraw(number uint64) bool {
	if l.frames != nil || l.ahead.first() == nil {
		return false
	}
	last := &l.ahead.all[len(l.ahead.all)-1]
	if last.last != number || last.opcode == byte(OpContinuation) || last.frame > 0 {
		return false
	}
	l.size -= len(last.message)
	l.ahead.dropLast()
	l.added-- // or a Flush would wait for it
	return true
}

// addControl returns the control frames that wait, so that more can be added.
func (l *backlog) addControl() *controlFrames {
	if l.control == nil {
		l.control = new(controlFrames)
	}
	return l.control
}

// pingBytes and pongBytes are the lengths in bytes of the pings and pongs that wait.
func (l *backlog) pingBytes() int {
	if l.control == nil {
		return 0
	}
	return len(l.control.pings)
}

func (l *backlog) pongBytes() int {
	if l.control == nil {
		return 0
	}
	return len(l.control.pongs)
}

// take takes what to write next into b. Something must be waiting.
func (l *backlog) take(b *batch) {
	if l.frames != nil && l.control == nil && l.ahead.first() == nil && !l.unfinished() {
		l.takeFrames(b)
		b.head, b.lent[0] = l.frames, l.frames
		l.frames = nil
		return
	}
	l.takeMixed(b)
}

// takeFrames counts the last frames of the data as taken.
func (l *backlog) takeFrames(b *batch) {
	b.last, b.since = l.added, l.since
	l.size -= len(l.frames)
	l.lastTaken = max(l.lastTaken, uint32(min(len(l.frames), largestFirst)))
}

// takeMixed is take if there is more than frames. It is a separate function because of its stack frame, which the senders
// of small messages, waiting by the thousand, do not need.
//
//go:noinline
func (l *backlog) takeMixed(b *batch) {
	if l.unfinished() {
		*b = *l.rest
		*l.rest = batch{}
		return
	}
	first := l.ahead.first()
	head := bufpool.Get(firstBuffer)
	if l.control != nil && (first == nil || first.frame == 0) { // nothing may come between the bytes of a frame
		head = bufpool.Grow(head, len(l.control.pings)+len(l.control.pongs))
		head = append(append(head, l.control.pings...), l.control.pongs...)
		l.control = nil
	}
	switch {
	case first != nil && first.frames == nil:
		b.since = first.since
		head, b.body = l.takeMessage(b, first, head)
	case first != nil:
		b.since = first.since
		b.body = first.frames
		l.size -= len(first.frames)
		l.finishSegment(b, first)
	case l.frames != nil:
		l.takeFrames(b)
		b.body, b.lent[1] = l.frames, l.frames
		l.frames = nil
	case l.last != nil:
		head = append(head, *l.last...)
		l.last, b.hasClose = nil, true
	}
	b.head, b.lent[0] = head, head
}

// finishSegment counts the first segment as taken as a whole.
func (l *backlog) finishSegment(b *batch, s *segment) {
	b.last = s.last
	b.lent[1] = s.lent // frames and the rest of a message are the batch's body, or the latter is copied
	l.ahead.drop()
}

// takeMessage takes the next piece of a message, or several frames if they are short. Headers are appended to head. If
// this side masks, the bytes are appended to head too; otherwise the last ones are returned apart.
func (l *backlog) takeMessage(b *batch, s *segment, head []byte) (_, body []byte) {
	head, body = l.takePiece(s, head)
	for l.longest <= shortFrame && len(s.message) > 0 && len(head)+len(body) < shortFrame {
		head = append(bufpool.Grow(head, len(body)), body...)
		head, body = l.takePiece(s, head)
	}
	if b.midMessage = len(s.message) > 0; !b.midMessage {
		l.finishSegment(b, s)
	}
	return head, body
}

// takePiece takes bytes of one frame of a message for takeMessage.
func (l *backlog) takePiece(s *segment, head []byte) (_, body []byte) {
	if s.frame == 0 {
		s.frame = min(len(s.message), l.longest)
		first := s.opcode
		if s.frame == len(s.message) {
			first |= finBit
		}
		s.opcode = byte(OpContinuation)
		if l.masked {
			s.key = mask.NewKey()
		}
		head = appendFrameHeader(bufpool.Grow(head, maxFrameHeader), first, s.frame, l.masked, s.key)
	}
	body = s.message[:min(s.frame, netio.PieceSize)]
	s.message = s.message[len(body):]
	s.frame -= len(body)
	l.size -= len(body)
	if l.masked {
		head, s.key = appendMasked(bufpool.Grow(head, len(body)), body, s.key)
		body = nil
	}
	return head, body
}

// putBack takes back what a write left of b.
func (l *backlog) putBack(b *batch) {
	if l.rest == nil {
		l.rest = new(batch)
	}
	*l.rest, *b = *b, batch{}
}

// unfinished reports whether something was put back.
func (l *backlog) unfinished() bool { return l.rest != nil && l.rest.len() > 0 }

// oldest returns when, on clock, the oldest bytes that wait began to, and false if none do.
func (l *backlog) oldest() (since time.Duration, waits bool) {
	switch {
	case l.unfinished():
		return l.rest.since, true
	case l.ahead.first() != nil:
		return l.ahead.first().since, true
	}
	return l.since, !l.empty()
}

// bytes returns how many bytes wait.
func (l *backlog) bytes() int {
	n := l.size + l.pingBytes() + l.pongBytes()
	if l.rest != nil {
		n += l.rest.len()
	}
	if l.last != nil {
		n += len(*l.last)
	}
	return n
}

// clear lets go of everything that waits.
func (l *backlog) clear() {
	if l.rest != nil {
		l.rest.release()
	}
	bufpool.Put(l.frames)
	for first := l.ahead.first(); first != nil; first = l.ahead.first() {
		bufpool.Put(first.lent)
		l.ahead.drop()
	}
	// masked and longest stay as they are: senders read longest without the lock.
	l.frames, l.size, l.since, l.lastTaken = nil, 0, 0, 0
	l.control, l.ahead, l.rest, l.last = nil, nil, nil, nil
}
