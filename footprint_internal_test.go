package wsd

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A connection that grows past 1,024 bytes takes 1,152: that is the allocator's next class of sizes, for every one of a
// million. What few connections need belongs behind a pointer.
func TestAConnectionFitsItsClassOfSizes(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(1024))
}
