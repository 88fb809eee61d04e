//go:build !race

// compression_allocs_test.go counts allocations. The race detector causes more of them: its pools forget on purpose.

package wsd

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflatetest"
)

func TestInflaterAllocations(t *testing.T) {
	first := deflatetest.Compress(t, 6, deflatetest.Trades(1, 1<<10))[0]
	for _, alone := range []bool{false, true} {
		i := newInflater(ClientRole, &Compression{ServerNoContextTakeover: alone})
		perMessage := testing.AllocsPerRun(1000, func() {
			if _, err := i.inflate(first, noLimit); err != nil {
				t.Fatal(err)
			}
		})
		require.EqualValues(t, 1, perMessage, "alone %v: the message itself", alone)
	}

	// A message in two frames: the bytes received before it was inflated do not become garbage.
	p := NewParser(ServerRole, Config{Compression: &Compression{ClientNoContextTakeover: true}})
	compressed := deflatetest.Compress(t, 6, deflatetest.Trades(2, 20<<10))[0]
	wire := frameBytes(byte(OpText)|rsv1Bit, compressed[:1000], ClientRole)
	wire = append(wire, frameBytes(finBit, compressed[1000:], ClientRole)...)
	perMessage := testing.AllocsPerRun(200, func() {
		for rest := wire; len(rest) > 0; {
			_, n, err := p.Parse(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	})
	require.EqualValues(t, 1, perMessage, "the message itself")
}
