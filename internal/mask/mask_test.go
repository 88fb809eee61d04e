package mask

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// maskByByte is RFC 6455, section 5.3, to the letter.
func maskByByte(src []byte, key [4]byte, offset int) []byte {
	out := make([]byte, len(src))
	for i := range src {
		out[i] = src[i] ^ key[(i+offset)%4]
	}
	return out
}

func checkMask(t testing.TB, src []byte, key [4]byte, cut int) {
	want := maskByByte(src, key, 0)
	word := binary.LittleEndian.Uint32(key[:])
	got := make([]byte, len(src)+3)
	next := XOR(got, src[:cut], word)
	XOR(got[cut:], src[cut:], next)
	require.Equal(t, want, got[:len(src)])
	require.Zero(t, [3]byte(got[len(src):]), "nothing behind the payload is touched")
	inPlace := bytes.Clone(src)
	XOR(inPlace, inPlace, word)
	require.Equal(t, want, inPlace)
	XOR(inPlace, inPlace, word)
	require.Equal(t, append([]byte{}, src...), append([]byte{}, inPlace...), "masking twice is no masking")
}

func TestMask(t *testing.T) {
	src := make([]byte, 300)
	for i := range src {
		src[i] = byte(i * 7)
	}
	for size := range 200 {
		for start := range 9 {
			checkMask(t, src[start:start+size], [4]byte{0x37, 0xFA, 0x21, 0x3D}, size*start/9)
		}
	}
}

func TestMaskOfLongPayloads(t *testing.T) {
	src := make([]byte, 3*long)
	for i := range src {
		src[i] = byte(i * 11)
	}
	for _, size := range []int{long - 1, long, long + 1, long + 3, long + 513, 2*long + 255} {
		for start := range 4 {
			for cut := range 6 {
				checkMask(t, src[start:start+size], [4]byte{0x37, 0xFA, 0x21, 0x3D}, cut)
			}
		}
	}
}

// RFC 6455, section 5.7: "Hello" under the key 37 fa 21 3d.
func TestMaskExampleOfTheRFC(t *testing.T) {
	got := make([]byte, 5)
	XOR(got, []byte("Hello"), binary.LittleEndian.Uint32([]byte{0x37, 0xFA, 0x21, 0x3D}))
	require.Equal(t, []byte{0x7F, 0x9F, 0x4D, 0x51, 0x58}, got)
}

func FuzzMask(f *testing.F) {
	f.Add([]byte("Hello"), uint32(0x3D21FA37), uint16(2))
	f.Add(bytes.Repeat([]byte{0xFF}, 1000), uint32(1), uint16(64))
	f.Fuzz(func(t *testing.T, src []byte, key uint32, cut uint16) {
		checkMask(t, src, [4]byte(binary.LittleEndian.AppendUint32(nil, key)), int(cut)%(len(src)+1))
	})
}

func BenchmarkMask(b *testing.B) {
	for name, size := range map[string]int{"64B": 64, "1KiB": 1 << 10, "64KiB": 64 << 10, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				XOR(data, data, 0x01020304)
			}
		})
	}
}
