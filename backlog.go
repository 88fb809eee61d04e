// backlog.go is what waits to be written, in the order in which it is written. It knows no lock and no goroutine.

package wsd

import (
	"slices"
	"time"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/mask"
	"github.com/seed62836080/wsd/internal/netio"
)

const (
	// maxFramePayload is the maximum payload of a data frame, in bytes, so that control frames never wait behind
	// megabytes.
	maxFramePayload = 1 << 20
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

	lastTaken  int       // the length in bytes of the longest frames taken lately: the next begin with as much room
	masked     bool      // this side masks
	segments   []segment // the data ahead of frames; those before next have been taken
	next       int
	control    *controlFrames // nil if none wait
	rest       *batch         // what a write left of a batch, perhaps in the middle of a frame; nil before the first
	closeFrame []byte         // nil until this side closes, and again once it has been taken
}

// segment is a part of the data that waits: finished frames, or one message whose frames are made as it is written.
type segment struct {
	frames  []byte // on loan, nil for a message
	message []byte // what has not been taken of it; the slice is another's, and only read
	frame   int    // how many bytes of it belong to a frame whose header has been taken
	key     uint32 // the masking key of that frame, rotated
	lent    []byte // the loan that message is part of, nil for what is another's
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
	closing    bool          // the close frame is in it
	room       func()        // to be called while it is written, so that more can gather; usually nil
}

func (b *batch) len() int { return len(b.head) + len(b.body) }

// advance takes the first n bytes out.
func (b *batch) advance(n int) {
	ofHead := min(n, len(b.head))
	b.head, b.body = b.head[ofHead:], b.body[n-ofHead:]
}

// release gives back the buffers.
func (b *batch) release() {
	bufpool.Put(b.lent[0])
	bufpool.Put(b.lent[1])
	*b = batch{}
}

// empty reports whether nothing waits.
func (l *backlog) empty() bool { return l.frames == nil && l.next == len(l.segments) && !l.behind() }

// behind reports whether something waits that is not data from senders.
func (l *backlog) behind() bool {
	return l.unfinished() || l.control != nil || l.closeFrame != nil
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
		l.frames = bufpool.Get(min(max(l.lastTaken, firstBuffer), largestFirst))
		if l.since = 0; behind {
			l.since = clock.Now()
		}
	}
	before := len(l.frames)
	l.frames = l.appendFrame(bufpool.Grow(l.frames, maxFrameHeader+len(payload)), first, payload)
	l.size += len(l.frames) - before
	l.added++
}

// addMessage adds a message, and keeps its payload until all of it has been written. opcode has RSV1 set if payload is
// compressed. lent is the loan that payload is part of, nil for what is another's. It returns the message's number.
func (l *backlog) addMessage(opcode byte, payload, lent []byte) uint64 {
	if l.frames != nil {
		l.addSegment(segment{frames: l.frames, last: l.added, since: l.since})
		l.frames = nil
	}
	l.added++
	l.addSegment(segment{message: payload, lent: lent, opcode: opcode, last: l.added, since: clock.Now()})
	l.size += len(payload)
	return l.added
}

func (l *backlog) addSegment(s segment) {
	if l.next > 0 && len(l.segments) == cap(l.segments) {
		l.segments = slices.Delete(l.segments, 0, l.next)
		l.next = 0
	}
	l.segments = append(l.segments, s)
}

// withdraw takes out the message with a number, which is the last one added, and reports whether it could: not if some of
// it has been taken.
func (l *backlog) withdraw(number uint64) bool {
	end := len(l.segments) - 1
	if l.frames != nil || l.next > end || l.segments[end].last != number || l.segments[end].opcode == byte(OpContinuation) ||
		l.segments[end].frame > 0 {
		return false
	}
	l.size -= len(l.segments[end].message)
	l.segments[end] = segment{}
	l.segments = l.segments[:end]
	l.added-- // or a Flush would wait for it
	l.rewind()
	return true
}

// rewind reuses the room of the segments that have been taken, once none are left.
func (l *backlog) rewind() {
	if l.next < len(l.segments) {
		return
	}
	l.segments, l.next = l.segments[:0], 0
	if cap(l.segments) > segmentsKept {
		l.segments = nil // a queue that was long once need not be again
	}
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

// take takes what to write next. Something must be waiting.
func (l *backlog) take() batch {
	if l.unfinished() {
		b := *l.rest
		*l.rest = batch{}
		return b
	}
	if l.control == nil && l.next == len(l.segments) && l.frames != nil {
		return l.takeFrames()
	}
	var b batch
	var first *segment
	if l.next < len(l.segments) {
		first = &l.segments[l.next]
	}
	head := bufpool.Get(firstBuffer)
	if l.control != nil && (first == nil || first.frame == 0) { // nothing may come between the bytes of a frame
		head = bufpool.Grow(head, len(l.control.pings)+len(l.control.pongs))
		head = append(append(head, l.control.pings...), l.control.pongs...)
		l.control = nil
	}
	switch {
	case first != nil && first.frames == nil:
		b.since = first.since
		head, b.body = l.takeMessage(&b, first, head)
	case first != nil:
		b.since = first.since
		b.body, b.lent[1] = first.frames, first.frames
		l.size -= len(first.frames)
		l.taken(&b, first)
	case l.frames != nil:
		frames := l.takeFrames()
		b = batch{body: frames.head, lent: [2][]byte{1: frames.head}, last: frames.last, since: frames.since}
	default:
		if l.closeFrame != nil {
			head = append(head, l.closeFrame...)
			l.closeFrame, b.closing = nil, true
		}
	}
	b.head, b.lent[0] = head, head
	return b
}

// takeFrames takes the last frames of the data.
func (l *backlog) takeFrames() batch {
	b := batch{head: l.frames, lent: [2][]byte{l.frames}, last: l.added, since: l.since}
	l.size -= len(l.frames)
	l.lastTaken = max(len(l.frames), l.lastTaken)
	l.frames = nil
	return b
}

// taken counts the first segment as taken as a whole.
func (l *backlog) taken(b *batch, s *segment) {
	b.last = s.last
	if s.lent != nil {
		b.lent[1] = s.lent // the rest of the message is the batch's body, or copied
	}
	*s = segment{}
	l.next++
	l.rewind()
}

// takeMessage takes the next piece of a message. If a frame begins, its header is appended to head. If this side masks,
// the bytes are appended to head too; otherwise they are returned apart.
func (l *backlog) takeMessage(b *batch, s *segment, head []byte) (_, body []byte) {
	if s.frame == 0 {
		s.frame = min(len(s.message), maxFramePayload)
		first := s.opcode
		if s.frame == len(s.message) {
			first |= finBit
		}
		s.opcode = byte(OpContinuation)
		if l.masked {
			s.key = mask.NewKey()
		}
		head = appendFrameHeader(head, first, s.frame, l.masked, s.key)
	}
	body = s.message[:min(s.frame, netio.PieceSize)]
	s.message = s.message[len(body):]
	s.frame -= len(body)
	l.size -= len(body)
	if l.masked {
		head, s.key = appendMasked(bufpool.Grow(head, len(body)), body, s.key)
		body = nil
	}
	if len(s.message) == 0 {
		l.taken(b, s)
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
	case l.next < len(l.segments):
		return l.segments[l.next].since, true
	case l.frames != nil:
		return l.since, true
	}
	return 0, !l.empty()
}

// bytes returns how many bytes wait.
func (l *backlog) bytes() int {
	n := l.size + l.pingBytes() + l.pongBytes() + len(l.closeFrame)
	if l.rest != nil {
		n += l.rest.len()
	}
	return n
}

// clear lets go of everything that waits.
func (l *backlog) clear() {
	if l.rest != nil {
		l.rest.release()
	}
	bufpool.Put(l.frames)
	for i := l.next; i < len(l.segments); i++ {
		bufpool.Put(l.segments[i].frames)
		bufpool.Put(l.segments[i].lent)
	}
	*l = backlog{masked: l.masked, added: l.added}
}
