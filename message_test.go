package wsd

import (
	"bytes"
	"compress/flate"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/deflatetest"
)

// nobodyReleases makes messages be allocated as before the first Release, which another test may have called.
func nobodyReleases(t *testing.T) {
	was := bufpool.SetReclaiming(false)
	t.Cleanup(func() { bufpool.SetReclaiming(was) })
}

func TestMessageHelpers(t *testing.T) {
	require.Equal(t, Message{Type: TextMessage, Data: []byte("hi")}, Text("hi"))
	data := []byte{1, 2}
	binary := Binary(data)
	require.Same(t, &data[0], &binary.Data[0])
	require.Equal(t, BinaryMessage, binary.Type)
	type point struct{ X, Y int }
	m, err := JSON(point{1, 2})
	require.NoError(t, err)
	require.Equal(t, Text(`{"X":1,"Y":2}`), m)
	var p point
	require.NoError(t, m.Decode(&p))
	require.Equal(t, point{1, 2}, p)
	_, err = JSON(make(chan int))
	require.Error(t, err)
	require.Error(t, Text("{").Decode(&p))
}

func TestAssemblyGrowsWithWhatArrives(t *testing.T) {
	nobodyReleases(t) // memory that goes round has other sizes
	var a assembly
	a.reserve(100, 1<<62, true, 0)
	require.LessOrEqual(t, cap(a.data), minGrown)
	a.data = a.data[:100]
	copies := 0
	for len(a.data) < 8<<20 {
		before := cap(a.data)
		a.reserve(1000, 8<<20+500, true, 0)
		if cap(a.data) != before {
			copies++
		}
		a.data = a.data[:len(a.data)+1000]
		require.LessOrEqual(t, cap(a.data), max(growth*len(a.data), minGrown))
		require.LessOrEqual(t, cap(a.data), 8<<20+500)
	}
	require.Less(t, copies, 10)

	// A peer that has sent a megabyte before gets one at once.
	a = assembly{}
	a.reserve(100, 8<<20, true, 1<<20)
	require.Equal(t, 1<<20, cap(a.data))
	a = assembly{}
	a.reserve(100, 5000, true, 1<<20)
	require.Equal(t, 5000, cap(a.data))

	// In fragments, whose number is not known, copying must stay linear too.
	a, copies = assembly{}, 0
	for range 65536 {
		before := cap(a.data)
		a.reserve(64, uint64(len(a.data)+64), false, 0)
		if cap(a.data) != before {
			copies++
		}
		a.data = append(a.data, bytes.Repeat([]byte{1}, 64)...)
	}
	require.Less(t, copies, 25)
}

// wholeMessage has a parser read a frame that holds a whole message, in pieces of the given size.
func wholeMessage(t *testing.T, p *Parser, frame []byte, piece int) Message {
	t.Helper()
	messages, err := feed(p, frame, piece)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	return messages[0]
}

// Whatever is released is reused by a later message, however that one comes, and old contents are not visible in it.
func TestReleasedMemoryServesLaterMessages(t *testing.T) {
	for _, size := range []int{513, 1 << 10, 8<<10 + 1, 100_000, 1 << 20} {
		for _, piece := range []int{size + maxFrameHeader, size/3 + 1} {
			p := NewParser(ClientRole, Config{})
			data := deflatetest.Sample("text", size)
			frame := frameBytes(finBit|byte(OpBinary), data, ServerRole)
			reused := false
			for range 100 { // a sync.Pool may forget, most of all under the race detector
				m := wholeMessage(t, p, frame, piece)
				require.True(t, bytes.Equal(data, m.Data))
				address := unsafe.SliceData(m.Data)
				for i := range m.Data {
					m.Data[i] = 0xAA
				}
				m.Release()
				if reused = unsafe.SliceData(wholeMessage(t, p, frame, piece).Data) == address; reused {
					break
				}
			}
			require.True(t, reused, "%d bytes in pieces of %d", size, piece)
		}
	}
}

// Released memory serves compressed messages as well: what they inflate to, and what gathers of them before.
func TestReleasedMemoryServesCompressedMessages(t *testing.T) {
	for _, test := range []struct {
		name, kind string
		level      int
		size       int
	}{
		// The first is inflated into memory that is too large to be handed out, the second is not.
		{"inflated, then copied", "text", 6, 200_000},
		{"inflated in place", "text", 6, 240_000},
		{"hardly compressed", "random", flate.HuffmanOnly, 300_000},
	} {
		data := deflatetest.Sample(test.kind, test.size)
		compressed := deflatetest.Compress(t, test.level, data)[0]
		frame := frameBytes(finBit|rsv1Bit|byte(OpBinary), compressed, ServerRole)
		cfg := Config{MaxMessageSize: int64(test.size), Compression: &Compression{ServerNoContextTakeover: true}}
		const rounds = 10
		round := func() {
			p := NewParser(ClientRole, cfg)
			for range rounds {
				m := wholeMessage(t, p, frame, 10_000)
				require.True(t, bytes.Equal(data, m.Data))
				m.Data = m.Data[:cap(m.Data)]
				for i := range m.Data {
					m.Data[i] = 0xAA
				}
				m.Release()
			}
			cfg := cfg
			cfg.MaxMessageSize--
			_, err := feed(NewParser(ClientRole, cfg), frame, 10_000)
			requireCode(t, err, StatusMessageTooBig)
		}
		round()
		if used := allocated(round); !RaceEnabled { // under the race detector a sync.Pool forgets
			require.Less(t, used/rounds, uint64(test.size/2), "bytes a message: %s", test.name)
		}
	}
}
