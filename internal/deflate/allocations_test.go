//go:build !race

// allocations_test.go counts allocations. The race detector causes more of them: its pools forget on purpose.

package deflate

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflatetest"
)

func TestDeflateAllocations(t *testing.T) {
	for _, takeover := range []bool{true, false} {
		d := New(1, MaxWindowBits, takeover)
		message := deflatetest.Trades(1, 1<<10)
		compressed := make([]byte, 0, 2<<10)
		var err error
		perMessage := testing.AllocsPerRun(1000, func() {
			if compressed, err = send(&d, compressed[:0], message); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, perMessage, "takeover %v", takeover)
	}
}
