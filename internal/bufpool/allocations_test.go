//go:build !race

// allocations_test.go counts allocations. The race detector causes more of them: its pools forget on purpose.

package bufpool

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLoansAllocateNothing(t *testing.T) {
	program(t, false)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		b := Get(2 << 10)
		b = Grow(b[:cap(b)], 60<<10)
		Put(b)
	}))
}
