// burst.go lends the buffers for what arrives.

package netio

import "sync"

// burstSize is the size in bytes of the buffers that are lent to a connection while bytes arrive.
const burstSize = 64 << 10

var readBuffers = sync.Pool{New: func() any { return new([burstSize]byte) }}

// burst holds the buffer that a reader has on loan, if it has one.
type burst struct{ buffer *[burstSize]byte }

// borrow returns the buffer, from the pool if none is on loan.
func (b *burst) borrow() []byte {
	if b.buffer == nil {
		b.buffer = readBuffers.Get().(*[burstSize]byte)
	}
	return b.buffer[:]
}

func (b *burst) giveBack() {
	if b.buffer != nil {
		readBuffers.Put(b.buffer)
		b.buffer = nil
	}
}
