// segments.go is the data that waits, in parts.

package backlog

import (
	"slices"
	"time"
)

// segmentsKept is how many segments an empty backlog keeps room for.
const segmentsKept = 16

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
