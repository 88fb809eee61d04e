package wsd

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A connection that grows past 760 bytes takes 896: with the allocator's own 8 it is past a class of 768, for every one of a
// million. What few connections need belongs behind a pointer.
func TestAConnectionFitsItsClassOfSizes(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(768-8))
}
