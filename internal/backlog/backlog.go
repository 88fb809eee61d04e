// Package backlog is what waits to be written, in the order in which it is written. It knows no lock and no goroutine.
package backlog

import (
	"slices"
	"time"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/frame"
	"github.com/seed62836080/wsd/internal/mask"
	"github.com/seed62836080/wsd/internal/netio"
)

const (
	// FirstBuffer is the size in bytes of the buffers in which output begins to gather. Frames begin with more, up to
	// largestFirst, if more was written the last time.
	FirstBuffer  = 2 << 10
	largestFirst = 64 << 10
	// shortFrame is the maximum payload, in bytes, of frames of a message that are written several at a time.
	shortFrame = netio.PieceSize / 2
)

// Backlog holds what waits to be written. Control frames go between frames, ahead of the data that waits; the close frame
// goes last. It is not safe for concurrent use, except for AppendFrame and FrameInPlace.
type Backlog struct {
	// What each small message touches comes first, so that a broadcast to thousands finds it in few lines of the cache.
	frames []byte        // the data's last frames, to which more are added; on loan, nil if there are none
	size   int           // of all data, in bytes
	added  uint64        // frames and messages that were added: each has its number
	since  time.Duration // on clock: when the first of frames was added; 0 if that was with nothing ahead of it

	lastTaken uint32         // the length in bytes of the longest frames taken lately: the next begin with as much room
	sharing   uint8          // how many of shared there are
	Masked    bool           // this side masks; set before anything is added
	Whole     bool           // frames are not taken in pieces; set before anything is added
	shared    *sharedFrames  // the data's last frames instead of frames, if any
	Longest   int            // the maximum payload of a data frame, in bytes; set before anything is added
	control   *controlFrames // nil if none wait
	ahead     *segments      // the data ahead of frames; nil before the first message that is not copied
	late      *late          // nil before there is any of it
}

// late is what most connections have at their end, if ever.
type late struct {
	rest Batch  // what a write left of a batch, perhaps in the middle of a frame
	last []byte // the close frame; nil until this side closes, and again once it has been taken
}

// lately returns it, so that it can be added to.
func (l *Backlog) lately() *late {
	if l.late == nil {
		l.late = new(late)
	}
	return l.late
}

// controlFrames holds the pings and pongs that wait.
type controlFrames struct {
	pings     []byte // and what else AddControl was given
	pongs     []byte
	pongCount uint64
}

// Empty reports whether nothing waits.
func (l *Backlog) Empty() bool {
	return l.frames == nil && l.sharing == 0 && l.ahead.first() == nil && !l.MoreThanData()
}

// MoreThanData reports whether something waits that is not data from senders: the rest of a write too.
func (l *Backlog) MoreThanData() bool {
	return l.control != nil || l.late != nil && (l.late.rest.Len() > 0 || l.late.last != nil)
}

// Unfinished reports whether the rest of a write waits.
func (l *Backlog) Unfinished() bool { return l.late != nil && l.late.rest.Len() > 0 }

// HasControl reports whether pings or pongs wait.
func (l *Backlog) HasControl() bool { return l.control != nil }

// Added returns the number of the frame or message that was added last.
func (l *Backlog) Added() uint64 { return l.added }

// DataSize returns how many bytes of data wait that have not been taken.
func (l *Backlog) DataSize() int { return l.size }

// PingSize returns how many bytes of pings wait, and of what goes among them.
func (l *Backlog) PingSize() int {
	if l.control == nil {
		return 0
	}
	return len(l.control.pings)
}

// PongSize returns how many bytes of pongs wait.
func (l *Backlog) PongSize() int {
	if l.control == nil {
		return 0
	}
	return len(l.control.pongs)
}

// TotalSize returns how many bytes wait in all.
func (l *Backlog) TotalSize() int {
	n := l.size + l.PingSize() + l.PongSize()
	if l.late != nil {
		n += l.late.rest.Len() + len(l.late.last)
	}
	return n
}

// Oldest returns when, on clock, the oldest bytes that wait began to, and false if none do.
func (l *Backlog) Oldest() (since time.Duration, waits bool) {
	switch {
	case l.Unfinished():
		return l.late.rest.Since, true
	case l.ahead.first() != nil:
		return l.ahead.first().since, true
	}
	return l.since, !l.Empty()
}

// AppendFrame appends a frame to dst, masked if this side masks. first is the first byte of its header.
func (l *Backlog) AppendFrame(dst []byte, first byte, payload []byte) []byte {
	var key uint32
	if l.Masked {
		key = mask.NewKey()
	}
	dst = frame.AppendHeader(dst, first, len(payload), l.Masked, key)
	if !l.Masked {
		return append(dst, payload...)
	}
	dst, _ = appendMasked(dst, payload, key)
	return dst
}

// FrameInPlace makes a frame of the size bytes that lie in space behind room for a header, and returns it.
func (l *Backlog) FrameInPlace(space []byte, first byte, size int) []byte {
	var key uint32
	if l.Masked {
		key = mask.NewKey()
	}
	var room [frame.MaxHeader]byte
	header := frame.AppendHeader(room[:0], first, size, l.Masked, key)
	whole := space[frame.MaxHeader-len(header) : frame.MaxHeader+size]
	copy(whole, header)
	if l.Masked {
		payload := whole[len(header):]
		mask.XOR(payload, payload, key)
	}
	return whole
}

// appendMasked appends payload to dst, masked, and returns the key rotated to the byte behind it.
func appendMasked(dst, payload []byte, key uint32) ([]byte, uint32) {
	start := len(dst)
	dst = slices.Grow(dst, len(payload))[:start+len(payload)]
	return dst, mask.XOR(dst[start:], payload, key)
}

// AddFrame adds a data frame, and copies its payload. behind says that something is being written: otherwise this frame is
// about to be, and the time is not asked, which takes as long as all else here.
func (l *Backlog) AddFrame(first byte, payload []byte, behind bool) {
	if l.sharing > 0 {
		l.gather()
	}
	if l.frames == nil {
		l.frames = bufpool.Get(max(int(l.lastTaken), FirstBuffer))
		l.begin(behind)
	}
	before := len(l.frames)
	frames := bufpool.Grow(l.frames, frame.MaxHeader+len(payload))
	if l.Masked {
		frames = l.AppendFrame(frames, first, payload)
	} else {
		frames = append(frame.AppendHeader(frames, first, len(payload), false, 0), payload...)
	}
	l.size += len(frames) - before
	l.added++
	l.frames = frames
}

// begin notes since when the data's last frames wait.
func (l *Backlog) begin(behind bool) {
	if l.since = 0; behind {
		l.since = clock.Now()
	}
}

// AddCopy adds a message, and copies its payload. opcode and behind are as for AddMessage and AddFrame.
func (l *Backlog) AddCopy(opcode byte, payload []byte, behind bool) {
	for len(payload) > l.Longest {
		l.AddFrame(opcode, payload[:l.Longest], behind)
		opcode, payload = frame.Continuation, payload[l.Longest:]
	}
	l.AddFrame(frame.FIN|opcode, payload, behind)
}

// AddMessage adds a message, and keeps its payload until all of it has been written. opcode has RSV1 set if payload is
// compressed. lent is the loan that payload is part of, nil for what is another's. It returns the message's number.
func (l *Backlog) AddMessage(opcode byte, payload, lent []byte) uint64 {
	l.endFrames()
	l.added++
	l.ahead.add(segment{message: payload, lent: lent, opcode: opcode, last: l.added, since: clock.Now()})
	l.size += len(payload)
	return l.added
}

// AddFinished adds a frame that is finished, and part of a loan.
func (l *Backlog) AddFinished(finished, lent []byte) {
	l.endFrames()
	l.added++
	l.ahead.add(segment{frames: finished, lent: lent, last: l.added, since: clock.Now()})
	l.size += len(finished)
}

// endFrames makes the last frames a segment, behind which others can follow.
func (l *Backlog) endFrames() {
	l.gather()
	if l.ahead == nil {
		l.ahead = new(segments)
	}
	if l.frames != nil {
		l.ahead.add(segment{frames: l.frames, lent: l.frames, last: l.added, since: l.since})
		l.frames = nil
	}
}

// Withdraw takes out the message with a number, which is the last one added, and reports whether it could: not if some of
// it has been taken.
func (l *Backlog) Withdraw(number uint64) bool {
	if l.frames != nil || l.sharing > 0 || l.ahead.first() == nil {
		return false
	}
	last := &l.ahead.all[len(l.ahead.all)-1]
	if last.last != number || last.opcode == frame.Continuation || last.frame > 0 {
		return false
	}
	l.size -= len(last.message)
	l.ahead.dropLast()
	l.added-- // or a Flush would wait for it
	return true
}

// AddControl adds a ping, or another control frame that keeps its place among them.
func (l *Backlog) AddControl(opcode byte, payload []byte) {
	c := l.controls()
	c.pings = l.AppendFrame(c.pings, frame.FIN|opcode, payload)
}

// AddPong adds a pong.
func (l *Backlog) AddPong(payload []byte) {
	c := l.controls()
	c.pongs = l.AppendFrame(c.pongs, frame.FIN|frame.Pong, payload)
	c.pongCount++
}

// ReplacePongs adds a pong instead of those that wait, and returns how many these were.
func (l *Backlog) ReplacePongs(payload []byte) (dropped uint64) {
	c := l.controls()
	dropped = c.pongCount
	c.pongs, c.pongCount = c.pongs[:0], 0
	l.AddPong(payload)
	return dropped
}

// controls returns the control frames that wait, so that more can be added.
func (l *Backlog) controls() *controlFrames {
	if l.control == nil {
		l.control = new(controlFrames)
	}
	return l.control
}

// AddClose adds the close frame.
func (l *Backlog) AddClose(payload []byte) {
	l.lately().last = l.AppendFrame(nil, frame.FIN|frame.Close, payload)
}

// Take takes what to write next into b. Something must be waiting.
func (l *Backlog) Take(b *Batch) {
	if l.sharing > 0 {
		l.gather()
	}
	if l.frames != nil && l.control == nil && l.ahead.first() == nil && !l.Unfinished() {
		l.takeFrames(b)
		b.Head, b.lent[0] = l.frames, l.frames
		l.frames = nil
		return
	}
	l.takeMixed(b)
}

// takeFrames counts the last frames of the data as taken.
func (l *Backlog) takeFrames(b *Batch) {
	b.Last, b.Since = l.added, l.since
	l.size -= len(l.frames)
	l.lastTaken = max(l.lastTaken, uint32(min(len(l.frames), largestFirst)))
}

// takeMixed is Take if there is more than frames. It is a separate function because of its stack frame, which the senders
// of small messages, waiting by the thousand, do not need.
//
//go:noinline
func (l *Backlog) takeMixed(b *Batch) {
	if l.Unfinished() {
		*b, l.late.rest = l.late.rest, Batch{}
		return
	}
	first := l.ahead.first()
	head := bufpool.Get(FirstBuffer)
	if l.control != nil && (first == nil || first.frame == 0) { // nothing may come between the bytes of a frame
		head = bufpool.Grow(head, len(l.control.pings)+len(l.control.pongs))
		head = append(append(head, l.control.pings...), l.control.pongs...)
		l.control = nil
	}
	switch {
	case first != nil && first.frames == nil:
		b.Since = first.since
		head, b.Body = l.takeMessage(b, first, head)
	case first != nil:
		b.Since = first.since
		b.Body = first.frames
		l.size -= len(first.frames)
		l.finishSegment(b, first)
	case l.frames != nil:
		l.takeFrames(b)
		b.Body, b.lent[1] = l.frames, l.frames
		l.frames = nil
	case l.late != nil && l.late.last != nil:
		head = append(head, l.late.last...)
		l.late.last, b.HasClose = nil, true
	}
	b.Head, b.lent[0] = head, head
}

// finishSegment counts the first segment as taken as a whole.
func (l *Backlog) finishSegment(b *Batch, s *segment) {
	b.Last = s.last
	b.lent[1] = s.lent // frames and the rest of a message are the batch's body, or the latter is copied
	l.ahead.drop()
}

// takeMessage takes the next piece of a message, or several frames if they are short. Headers are appended to head. If
// this side masks, the bytes are appended to head too; otherwise the last ones are returned apart.
func (l *Backlog) takeMessage(b *Batch, s *segment, head []byte) (_, body []byte) {
	head, body = l.takePiece(s, head)
	for l.Longest <= shortFrame && len(s.message) > 0 && len(head)+len(body) < shortFrame {
		head = append(bufpool.Grow(head, len(body)), body...)
		head, body = l.takePiece(s, head)
	}
	if b.midMessage = len(s.message) > 0; !b.midMessage {
		l.finishSegment(b, s)
	}
	return head, body
}

// takePiece takes bytes of one frame of a message for takeMessage.
func (l *Backlog) takePiece(s *segment, head []byte) (_, body []byte) {
	if s.frame == 0 {
		s.frame = min(len(s.message), l.Longest)
		first := s.opcode
		if s.frame == len(s.message) {
			first |= frame.FIN
		}
		s.opcode = frame.Continuation
		if l.Masked {
			s.key = mask.NewKey()
		}
		head = frame.AppendHeader(bufpool.Grow(head, frame.MaxHeader), first, s.frame, l.Masked, s.key)
	}
	piece := s.frame
	if !l.Whole {
		piece = min(piece, netio.PieceSize)
	}
	body = s.message[:piece]
	s.message = s.message[len(body):]
	s.frame -= len(body)
	l.size -= len(body)
	if l.Masked {
		head, s.key = appendMasked(bufpool.Grow(head, len(body)), body, s.key)
		body = nil
	}
	return head, body
}

// PutBack takes back what a write of n bytes has left of b.
func (l *Backlog) PutBack(b *Batch, n int) {
	b.advance(n)
	b.NoteWait()
	l.lately().rest, *b = *b, Batch{}
}

// StartSmall has the next frames begin with as little room as the first ones.
func (l *Backlog) StartSmall() { l.lastTaken = 0 }

// Clear lets go of everything that waits.
func (l *Backlog) Clear() {
	if l.late != nil {
		l.late.rest.Release()
	}
	l.gather()
	bufpool.Put(l.frames)
	for first := l.ahead.first(); first != nil; first = l.ahead.first() {
		bufpool.Put(first.lent)
		l.ahead.drop()
	}
	// Masked and Longest stay as they are: senders read them without the lock.
	l.frames, l.size, l.since, l.lastTaken = nil, 0, 0, 0
	l.control, l.ahead, l.late = nil, nil, nil
}
