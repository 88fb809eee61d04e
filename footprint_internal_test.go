package wsd

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A connection that grows past 696 bytes takes 768: with the allocator's own 8 it is past a class of 704, for every one of a
// million. What few connections need belongs behind a pointer.
func TestAConnectionFitsItsClassOfSizes(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(704-8))
}
