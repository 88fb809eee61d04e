// frames_test.go reads frames that are cut anywhere, and compares them with what a reader of whole frames makes of them.

package tap

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// seen is what comes of a frame.
type seen struct {
	opcode  wsd.Opcode
	fin     bool
	rsv     byte
	masked  bool
	length  uint64
	payload string // or its beginning
	problem string
}

// readAll feeds a reader in parts of the given lengths, the last of which repeats, and puts pieces together.
func readAll(t *testing.T, r *reader, stream []byte, parts ...int) (frames []seen) {
	t.Helper()
	var payload []byte
	r.emit = func(f *frame) {
		require.LessOrEqual(t, len(f.payload), r.keep, "no more is kept than was asked for")
		if r.pieces {
			require.Equal(t, uint64(len(payload)), f.offset, "pieces follow one another")
		}
		if payload = append(payload, f.payload...); f.last {
			frames = append(frames, seen{f.opcode, f.fin, f.rsv, f.masked, f.length, string(payload), f.problem})
			payload = payload[:0]
		}
	}
	for i := 0; len(stream) > 0; i++ {
		n := min(max(parts[min(i, len(parts)-1)], 1), len(stream))
		r.feed(append([]byte(nil), stream[:n]...))
		stream = stream[n:]
	}
	return frames
}

// whole reads the whole frames of a stream, the simplest way, and without judging them.
func whole(stream []byte, keep int) (frames []seen) {
	for len(stream) >= 2 {
		f := seen{opcode: wsd.Opcode(stream[0] & 15), fin: stream[0] > 127, rsv: stream[0] >> 4 & 7, masked: stream[1] > 127, length: uint64(stream[1] & 127)}
		rest := stream[2:]
		for code, size := range map[uint64]int{126: 2, 127: 8} {
			if uint64(stream[1]&127) == code {
				if len(rest) < size {
					return frames
				}
				f.length = binary.BigEndian.Uint64(append(make([]byte, 8-size), rest[:size]...))
				rest = rest[size:]
			}
		}
		key := make([]byte, 4)
		if f.masked {
			if len(rest) < 4 {
				return frames
			}
			key, rest = rest[:4], rest[4:]
		}
		if f.length > uint64(len(rest)) {
			return frames
		}
		payload := bytes.Clone(rest[:f.length])
		for i := range payload {
			payload[i] ^= key[i%4]
		}
		f.payload = string(payload[:min(len(payload), keep)])
		frames = append(frames, f)
		stream = rest[f.length:]
	}
	return frames
}

// FuzzReader checks that frames are the same however the stream is cut, and those that a simple reader finds.
func FuzzReader(f *testing.F) {
	masked := []byte{0x81, 0x85, 1, 2, 3, 4, 'h' ^ 1, 'e' ^ 2, 'l' ^ 3, 'l' ^ 4, 'o' ^ 1}
	long := append([]byte{0x82, 126, 1, 0}, bytes.Repeat([]byte{7}, 256)...)
	for _, seed := range [][]byte{
		{}, masked, long, append(append(append([]byte{}, masked...), long...), masked...), // whole frames
		{0x81, 0}, {0x81, 0x80, 1, 2, 3, 4}, {0x89, 0}, {0x88, 2, 3, 0xe8}, {0x88, 1, 3}, // empty ones and control frames
		{0x01, 1, 'a', 0x89, 1, 'p', 0x80, 1, 'b'},                 // a ping within a fragmented message
		{0xc1, 5, 1, 2, 3, 4, 5}, {0xff, 0xff}, {0x83, 0, 0x8f, 0}, // reserved bits and opcodes
		{0x82, 126, 0, 1, 'x'}, {0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'x'}, // lengths not in their shortest form
		{0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, {0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, // lengths that nothing has
		{0x80}, {0x81, 126, 1}, masked[:9], // cut
	} {
		f.Add(seed, uint8(3), uint8(7), true)
		f.Add(seed, uint8(0), uint8(1), false)
	}
	f.Fuzz(func(t *testing.T, stream []byte, first, then uint8, fromClient bool) {
		const keep = 20
		read := func(pieces bool, parts ...int) ([]seen, string) {
			r := &reader{fromClient: fromClient, keep: keep, pieces: pieces}
			frames := readAll(t, r, stream, parts...)
			return frames, r.cut()
		}
		atOnce, cut := read(false, len(stream))
		inParts, cutInParts := read(false, int(first), int(then))
		require.Equal(t, atOnce, inParts)
		require.Equal(t, cut, cutInParts)
		inPieces, _ := read(true, int(then), int(first))
		all := whole(stream, len(stream))
		require.GreaterOrEqual(t, len(inPieces), len(all))
		for i, w := range all {
			w.problem = inPieces[i].problem
			require.Equal(t, w, inPieces[i])
			w.payload = w.payload[:min(len(w.payload), keep)]
			require.Equal(t, w, atOnce[i])
		}
		if len(atOnce) > len(all) {
			require.Greater(t, atOnce[len(all)].length, uint64(1)<<62, "what cannot be read is the last")
		}
	})
}

func TestReaderSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		stream     []byte
		fromClient bool
		want       string
	}{
		{[]byte{0x81, 1, 'x'}, false, ""},
		{[]byte{0x81, 1, 'x'}, true, "an unmasked frame from the client"},
		{[]byte{0x81, 0x80, 1, 2, 3, 4}, false, "a masked frame from the server"},
		{[]byte{0x83, 0}, false, "a reserved opcode"},
		{[]byte{0x09, 0}, false, "a fragmented control frame"},
		{append([]byte{0x89, 126, 0, 126}, make([]byte, 126)...), false, "a control frame longer than 125 bytes"},
		{[]byte{0x80, 0}, false, "a continuation of nothing"},
		{[]byte{0xc1, 0}, false, "reserved bits"},
		{[]byte{0x82, 126, 0, 1, 'x'}, false, "the length is not in its shortest form"},
		{[]byte{0x88, 1, 3}, false, "a close frame of one byte"},
		{[]byte{0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, false, "a length of 2^63 bytes or more: nothing behind it can be read"},
	} {
		frames := readAll(t, &reader{fromClient: c.fromClient, keep: 200}, c.stream, 1)
		require.Len(t, frames, 1, c.want)
		assert.Equal(t, c.want, frames[0].problem)
	}
	frames := readAll(t, &reader{keep: 200}, []byte{0x01, 0, 0x81, 0}, 1)
	assert.Equal(t, "a new message within a fragmented one", frames[1].problem)
}

// BenchmarkObserve is what tap does to bytes besides passing them on.
func BenchmarkObserve(b *testing.B) {
	for name, s := range map[string]*sinks{
		"lines":    {lines: newSpool(io.Discard, func(error) {})},
		"no lines": {},
	} {
		b.Run(name, func(b *testing.B) {
			response := &head{lines: []string{"HTTP/1.1 101 Switching Protocols\r\n", "\r\n"}}
			o := newObserver(s, 1, "", response, response)
			var stream []byte
			for range 1000 {
				stream = append(append(stream, 0x82, 0x80|64, 1, 2, 3, 4), bytes.Repeat([]byte{0xfe}, 64)...)
			}
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				o.client.feed(stream)
			}
		})
	}
}

// The time of day is the one that time.Format writes.
func TestAppendTime(t *testing.T) {
	for _, at := range []time.Time{time.Unix(0, 0), time.Unix(1234567890, 123456789), time.Date(2026, 1, 1, 23, 59, 59, 999999999, time.Local)} {
		assert.Equal(t, at.Format("15:04:05.000000"), string(appendTime(nil, at)))
	}
}
