//go:build !race

// deflate_memory_test.go measures memory, of which the race detector takes more: its pools forget on purpose.
package wsd

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeflateAllocations(t *testing.T) {
	for _, alone := range []bool{false, true} {
		agreed := &Compression{ServerNoContextTakeover: alone, ServerMaxWindowBits: 15}
		d := newDeflater(ServerRole, agreed)
		message := trades(1, 1<<10)
		compressed := make([]byte, 0, 2<<10)
		var err error
		perMessage := testing.AllocsPerRun(1000, func() {
			if compressed, err = d.deflate(compressed[:0], message); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, perMessage, "deflate, alone %v", alone)
	}
	first := deflateStd(t, 6, trades(1, 1<<10))[0]
	for _, alone := range []bool{false, true} {
		i := newInflater(ClientRole, &Compression{ServerNoContextTakeover: alone})
		perMessage := testing.AllocsPerRun(1000, func() {
			if _, err := i.inflate(first, noLimit); err != nil {
				t.Fatal(err)
			}
		})
		require.EqualValues(t, 1, perMessage, "inflate, alone %v: the message itself", alone)
	}

	// A message in two frames: what was received of it before it was inflated is nobody's garbage.
	p := NewParser(ServerRole, Config{Compression: &Compression{ClientNoContextTakeover: true}})
	compressed := deflateStd(t, 6, trades(2, 20<<10))[0]
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

// live returns the bytes in use after everything that can be freed has been, the pools' contents too.
func live() uint64 {
	for range 3 {
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestDeflateIdleMemory holds what an idle connection keeps for compression: its windows and at most 1 KiB each way.
func TestDeflateIdleMemory(t *testing.T) {
	const connections = 1000
	// What the tables and the first use of everything take is not a connection's.
	message := sample("text", 40_000)
	for _, test := range []struct {
		name    string
		agreed  Compression
		windows uint64 // bytes, both ways
	}{
		{"takeover, 15 bits", Compression{}, 64 << 10},
		{"takeover, 12 bits", Compression{ServerMaxWindowBits: 12, ClientMaxWindowBits: 12}, 8 << 10},
		{"takeover, 9 bits", Compression{ServerMaxWindowBits: 9, ClientMaxWindowBits: 9}, 1 << 10},
		{"takeover of the server's", Compression{ClientNoContextTakeover: true}, 32 << 10},
		{"no takeover", Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true}, 0},
	} {
		deflaters, inflaters := make([]*deflater, connections), make([]*inflater, connections)
		used := func() {
			for n := range connections {
				deflaters[n], inflaters[n] = newDeflater(ServerRole, &test.agreed), newInflater(ServerRole, &test.agreed)
				for _, size := range []int{1000, 2000, len(message)} {
					compressed, err := deflaters[n].deflate(nil, message[:size])
					require.NoError(t, err)
					if test.agreed.ServerMaxWindowBits == test.agreed.ClientMaxWindowBits && test.agreed.ServerNoContextTakeover == test.agreed.ClientNoContextTakeover {
						_, err = inflaters[n].inflate(compressed, noLimit)
						require.NoError(t, err)
					}
				}
			}
		}
		before := live()
		used()
		each := int64(live()-before) / connections
		t.Logf("%s: %d bytes a connection", test.name, each)
		require.LessOrEqual(t, each, int64(test.windows)+2<<10, test.name)
		require.GreaterOrEqual(t, each+1, int64(test.windows), "%s: measured nothing", test.name)
		runtime.KeepAlive(deflaters)
		runtime.KeepAlive(inflaters)
	}
}
