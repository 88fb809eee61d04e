// key.go makes masking keys, which must not be predictable (RFC 6455, section 10.3).

package mask

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
)

// keySource is a stock of random bytes: asking the system for four at a time is slow.
type keySource struct {
	random [1 << 10]byte
	used   int
}

var keySources = sync.Pool{New: func() any { return &keySource{used: len(keySource{}.random)} }}

// NewKey returns an unpredictable key, to be used for one frame only.
func NewKey() uint32 {
	source := keySources.Get().(*keySource)
	if source.used == len(source.random) {
		rand.Read(source.random[:]) // never fails: it ends the program if the system has no randomness
		source.used = 0
	}
	taken := source.random[source.used : source.used+4]
	source.used += 4
	key := binary.LittleEndian.Uint32(taken)
	clear(taken)
	keySources.Put(source)
	return key
}
