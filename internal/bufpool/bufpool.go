// Package bufpool lends memory. It has all byte buffers that this module reuses, in one scheme of sizes, so that what one
// purpose gives back serves every other.
//
// What is only needed for a while comes from Get and goes back by Put. What is given away, as the data of a message is,
// comes from Give and goes back by TakeBack if its receiver cares to. Whatever is not reused soon becomes garbage.
//
// The pools are shared by all connections, also with those in testing/synctest bubbles: memory has no channels in it.
package bufpool

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// The sizes of memory that goes round, as powers of two.
const (
	smallest = 9 // 512 bytes
	// largestLent is 256 KiB: up to there, a loan that is rounded up to its size costs little.
	largestLent = 18
	// largest is 64 MiB, for programs that give memory back.
	largest = 26
)

// pools holds idle memory, in pieces of 2^(smallest+i) bytes: pointers to their first bytes, which need no allocation to
// be stored.
var pools [largest - smallest + 1]sync.Pool

// reclaiming is set by the first TakeBack: from then on all memory is allocated in sizes that can go round.
var reclaiming atomic.Bool

// Get lends an empty slice with room for size bytes, or up to twice that many. Its old contents are still there. It goes
// back by Put, or else becomes garbage.
func Get(size int) []byte {
	class := max(bits.Len(uint(max(size, 1)-1)), smallest)
	if !goesRound(class) {
		return make([]byte, 0, size)
	}
	if first, ok := pools[class-smallest].Get().(*byte); ok {
		// Put has checked that this much memory lies behind the pointer.
		return unsafe.Slice(first, 1<<class)[:0]
	}
	return make([]byte, 0, 1<<class)
}

// Put takes back memory of any origin, of which nobody else may have a reference. b may be nil.
func Put(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class < smallest {
		return
	}
	if class = min(class, largest); goesRound(class) {
		pools[class-smallest].Put(unsafe.SliceData(b))
	}
}

// Grow returns b with room for n more bytes. If that needs other memory, it takes b back as Put does.
func Grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	// Doubling keeps the cost of copying linear, also where sizes are not rounded up.
	grown := append(Get(max(len(b)+n, 2*len(b))), b...)
	Put(b)
	return grown
}

// Give returns an empty slice with room for size bytes, for good. It has room for up to twice that many if the program
// gives memory back and this much would be taken.
func Give(size int) []byte {
	if size <= 1<<smallest || !reclaiming.Load() {
		return make([]byte, 0, size)
	}
	return Get(size)
}

// TakeBack takes back memory that was given away, and makes Give reuse it. Up to 512 bytes are not worth it.
func TakeBack(b []byte) {
	if cap(b) <= 1<<smallest {
		return
	}
	if !reclaiming.Load() {
		reclaiming.Store(true)
	}
	Put(b)
}

// SetReclaiming makes Give reuse memory, as TakeBack does, or no longer, and returns whether it did. It is for tests of
// sizes.
func SetReclaiming(on bool) (was bool) { return reclaiming.Swap(on) }

// goesRound reports whether memory of 2^class bytes, class being at least smallest, is pooled.
func goesRound(class int) bool {
	return class <= largestLent || class <= largest && reclaiming.Load()
}
