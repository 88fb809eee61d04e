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
)

// backlog holds what waits to be written. Control frames go between frames, ahead of the data that waits; the close frame
// goes last. It is not safe for concurrent use: the lock of its sendQueue guards it.
type backlog struct {
	masked     bool           // this side masks
	rest       *batch         // what a write left of a batch, perhaps in the middle of a frame; nil before the first
	control    *controlFrames // nil if none wait
	segments   []segment      // the data; those before next have been taken
	next       int
	size       int    // of segments, in bytes
	lastTaken  int    // the length in bytes of the frames that were taken last: the next ones begin with as much room
	closeFrame []byte // nil until this side closes, and again once it has been taken

	added uint64 // frames and messages that were added: each has its number
}

// segment is a part of the data that waits: finished frames, or one message whose frames are made as it is written.
type segment struct {
	frames  []byte // on loan, nil for a message
	message []byte // what has not been taken of it; the slice is another's, and only read
	frame   int    // how many bytes of it belong to a frame whose header has been taken
	key     uint32 // the masking key of that frame, rotated
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
	since      time.Duration // on clock: when its oldest bytes began to wait
	closing    bool          // the close frame is in it
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
func (l *backlog) empty() bool { return !l.behind() && l.next == len(l.segments) }

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

// addFrame adds a data frame, and copies its payload.
func (l *backlog) addFrame(first byte, payload []byte) {
	if l.next == len(l.segments) || l.segments[len(l.segments)-1].frames == nil {
		l.addSegment(segment{frames: bufpool.Get(min(max(l.lastTaken, firstBuffer), largestFirst))})
	}
	s := &l.segments[len(l.segments)-1]
	before := len(s.frames)
	s.frames = l.appendFrame(bufpool.Grow(s.frames, maxFrameHeader+len(payload)), first, payload)
	l.size += len(s.frames) - before
	l.added++
	s.last = l.added
}

// addMessage adds a message, and keeps its payload until all of it has been written. opcode has RSV1 set if payload is
// compressed. It returns the message's number.
func (l *backlog) addMessage(opcode byte, payload []byte) uint64 {
	l.added++
	l.addSegment(segment{message: payload, opcode: opcode, last: l.added})
	l.size += len(payload)
	return l.added
}

func (l *backlog) addSegment(s segment) {
	if l.next > 0 && len(l.segments) == cap(l.segments) {
		l.segments = slices.Delete(l.segments, 0, l.next)
		l.next = 0
	}
	s.since = clock.Now()
	l.segments = append(l.segments, s)
}

// withdraw takes out the message with a number, which is the last one added, and reports whether it could: not if some of
// it has been taken.
func (l *backlog) withdraw(number uint64) bool {
	end := len(l.segments) - 1
	if l.next > end || l.segments[end].last != number || l.segments[end].opcode == byte(OpContinuation) ||
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
	if l.next == len(l.segments) {
		l.segments, l.next = l.segments[:0], 0
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
	var first *segment
	if l.next < len(l.segments) {
		first = &l.segments[l.next]
	}
	inFrame := first != nil && first.frame > 0 // nothing may come between the bytes of a frame
	var b batch
	if first != nil {
		b.since = first.since
	} else {
		b.since = clock.Now() // control frames do not wait for long, or the connection ends
	}
	switch control := l.control != nil && !inFrame; {
	case first != nil && first.frames != nil && !control:
		b.head, b.lent[0] = first.frames, first.frames
		l.takeFrames(&b, first)
		return b
	default:
		head := bufpool.Get(firstBuffer)
		if control {
			head = bufpool.Grow(head, len(l.control.pings)+len(l.control.pongs))
			head = append(append(head, l.control.pings...), l.control.pongs...)
			l.control = nil
		}
		switch {
		case first == nil:
			if l.closeFrame != nil {
				head = append(head, l.closeFrame...)
				l.closeFrame, b.closing = nil, true
			}
		case first.frames != nil:
			b.body, b.lent[1] = first.frames, first.frames
			l.takeFrames(&b, first)
		default:
			head, b.body = l.takeMessage(&b, first, head)
		}
		b.head, b.lent[0] = head, head
		return b
	}
}

// takeFrames counts a segment of finished frames as taken.
func (l *backlog) takeFrames(b *batch, s *segment) {
	l.size -= len(s.frames)
	l.lastTaken = len(s.frames)
	l.taken(b, s)
}

// taken counts the first segment as taken as a whole.
func (l *backlog) taken(b *batch, s *segment) {
	b.last = s.last
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

// clear lets go of everything that waits.
func (l *backlog) clear() {
	if l.rest != nil {
		l.rest.release()
	}
	for i := l.next; i < len(l.segments); i++ {
		bufpool.Put(l.segments[i].frames)
	}
	l.rest, l.control, l.closeFrame, l.segments, l.next, l.size = nil, nil, nil, nil, 0, 0
}
