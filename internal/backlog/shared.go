// shared.go is frames that many backlogs have in common: each refers to them until it is written. A broadcast touches a few
// bytes for each connection then, and not a copy, for which there is no room in a processor's cache.

package backlog

import (
	"sync"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/frame"
)

// Shared is a frame for many backlogs. It never changes.
type Shared struct {
	frame  []byte
	header int
}

// NewShared returns the frame of a whole message, whose payload it copies. opcode is as for AddMessage.
func NewShared(opcode byte, payload []byte) *Shared {
	var room [frame.MaxHeader]byte
	header := frame.AppendHeader(room[:0], frame.FIN|opcode, len(payload), false, 0)
	whole := make([]byte, 0, len(header)+len(payload))
	return &Shared{append(append(whole, header...), payload...), len(header)}
}

// Payload returns its payload, which must not be changed.
func (s *Shared) Payload() []byte { return s.frame[s.header:] }

// sharedFrames are references to frames, in order. Taken together they are as long as memory is allocated.
type sharedFrames [128]*Shared

var idleShared = sync.Pool{New: func() any { return new(sharedFrames) }}

// Shares reports whether a shared frame of size bytes of payload can be added as it is.
func (l *Backlog) Shares(size int) bool { return !l.Masked && size <= l.Longest }

// AddShared adds a frame without copying it, if there is nothing that it has to be copied behind. behind is as for AddFrame.
func (l *Backlog) AddShared(s *Shared, behind bool) {
	l.added++
	l.size += len(s.frame)
	if int(l.sharing) == len(l.shared) {
		l.gather()
	}
	if l.frames != nil {
		l.frames = append(bufpool.Grow(l.frames, len(s.frame)), s.frame...)
		return
	}
	if l.sharing == 0 {
		l.shared = idleShared.Get().(*sharedFrames)
		l.begin(behind)
	}
	l.shared[l.sharing] = s
	l.sharing++
}

// gather copies the shared frames to where others can follow.
func (l *Backlog) gather() {
	if l.sharing == 0 {
		return
	}
	frames := bufpool.Get(max(int(l.lastTaken), FirstBuffer))
	shared := l.shared[:l.sharing]
	for _, s := range shared {
		frames = append(bufpool.Grow(frames, len(s.frame)), s.frame...)
	}
	clear(shared)
	idleShared.Put(l.shared)
	l.frames, l.shared, l.sharing = frames, nil, 0
}
