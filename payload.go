// payload.go has the memory of messages go round, for those who give it back.

package wsd

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	minPooled = 10 // 1 KiB, as powers of two: what is half as large shares an allocation with others
	maxPooled = 26 // 64 MiB
)

// payloads holds released memory in pieces of 2^(minPooled+i) bytes. What is not used again soon is garbage.
var payloads [maxPooled - minPooled + 1]sync.Pool

// releasing is set once somebody releases: from then on payloads are allocated in sizes that can go round.
var releasing atomic.Bool

// Release gives the memory of a received message that is not needed any more back, for messages to come. Nobody has to:
// it saves garbage where messages of more than 512 bytes are many, and does nothing for smaller ones. m.Data, and all
// that shares its memory, must not be used afterwards, nor released again.
func (m Message) Release() {
	if cap(m.Data) <= maxShared {
		return
	}
	if !releasing.Load() {
		releasing.Store(true)
	}
	releasePayload(m.Data)
}

// releasePayload keeps the memory of data, where somebody has said that memory is to go round.
func releasePayload(data []byte) {
	if cap(data) < 1<<minPooled || !releasing.Load() {
		return
	}
	class := min(bits.Len(uint(cap(data)))-1, maxPooled)
	payloads[class-minPooled].Put(unsafe.SliceData(data))
}

// newPayload returns an empty slice with room for size bytes, or up to twice that many.
func newPayload(size int) []byte {
	if size <= maxShared || size > 1<<maxPooled || !releasing.Load() {
		return make([]byte, 0, size)
	}
	class := max(bits.Len(uint(size-1)), minPooled)
	if data, ok := payloads[class-minPooled].Get().(*byte); ok {
		// releasePayload has seen that there is so much behind the pointer.
		return unsafe.Slice(data, 1<<class)[:0]
	}
	return make([]byte, 0, 1<<class)
}
