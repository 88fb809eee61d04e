// burst.go borrows the memory for what arrives in bursts.

package netio

import "github.com/seed62836080/wsd/internal/bufpool"

// burstSize is the size in bytes of the buffers that are borrowed while bytes arrive.
const burstSize = 64 << 10

// burst is the buffer that a Transport has borrowed, nil if it has none.
type burst struct{ buffer *[burstSize]byte }

// borrow returns the buffer, taking one from the pool if none is borrowed.
func (b *burst) borrow() []byte {
	if b.buffer == nil {
		b.buffer = (*[burstSize]byte)(bufpool.Get(burstSize)[:burstSize])
	}
	return b.buffer[:]
}

// giveBack returns the buffer to the pool. What was read into it is then gone.
func (b *burst) giveBack() {
	if b.buffer != nil {
		bufpool.Put(b.buffer[:])
		b.buffer = nil
	}
}
