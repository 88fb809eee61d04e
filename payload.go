// payload.go recycles the memory of messages, for programs that release it.

package wsd

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	minPooled = 10 // 1 KiB, as a power of two: messages half that size share an allocation
	maxPooled = 26 // 64 MiB
)

// payloads holds released memory in pieces of 2^(minPooled+i) bytes. Whatever is not reused soon becomes garbage.
var payloads [maxPooled - minPooled + 1]sync.Pool

// releasing is set by the first Release: from then on payloads are allocated in sizes that can be recycled.
var releasing atomic.Bool

// Release gives back the memory of a received message for reuse by later messages. Calling it is optional: it saves
// garbage if there are many messages of more than 512 bytes, and does nothing for smaller ones. m.Data, and anything
// that shares its memory, must not be used or released again afterwards.
func (m Message) Release() {
	if cap(m.Data) <= maxShared {
		return
	}
	if !releasing.Load() {
		releasing.Store(true)
	}
	releasePayload(m.Data)
}

// releasePayload keeps the memory of data for reuse, if Release has ever been called.
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
		// releasePayload has checked that this much memory lies behind the pointer.
		return unsafe.Slice(data, 1<<class)[:0]
	}
	return make([]byte, 0, 1<<class)
}
