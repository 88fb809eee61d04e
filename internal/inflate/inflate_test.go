// inflate_test.go checks the DEFLATE decoder against RFC 1951, with the standard library's decoder as the reference.

package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflatetest"
)

const (
	noLimit  = uint64(math.MaxInt64)
	farthest = 32 << 10 // as far as a distance can reach (RFC 1951, section 3.2.5)
)

func TestInflateWhatOthersDeflate(t *testing.T) {
	for _, kind := range deflatetest.Kinds {
		for _, size := range []int{0, 1, 2, 12, 257, 258, 259, 1000, 32767, 32768, 32769, keptOutput - 1, keptOutput, keptOutput + 1, 150000} {
			data := deflatetest.Sample(kind, size)
			for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 6} {
				compressed := deflatetest.Compress(t, level, data)[0]
				inflated, err := Message(compressed, uint64(size), nil, farthest)
				require.NoError(t, err, "%s, %d bytes, level %d", kind, size, level)
				require.True(t, bytes.Equal(data, inflated), "%s, %d bytes, level %d", kind, size, level)
				require.LessOrEqual(t, cap(inflated), size+size/8+8, "memory that the receiver did not ask for")
				if size > 0 {
					_, err = Message(compressed, uint64(size-1), nil, farthest)
					require.ErrorIs(t, err, ErrTooLong)
				}
			}
		}
	}
}

// TestInflateByHand tries streams that no compressor makes, by the sections of RFC 1951 that allow or forbid them.
func TestInflateByHand(t *testing.T) {
	block := func() *deflatetest.Stream { return new(deflatetest.Stream) }
	for _, test := range []struct {
		name     string
		data     []byte
		expected string
		valid    bool
	}{
		{"3.2.3: a block of the reserved type", block().Bits(3, 6).End(), "", false},
		{"3.2.4: a stored block", append(block().Bits(3, 0).Bytes(), "\x02\x00\xfd\xffHi\x00"...), "Hi", true},
		{"3.2.4: a stored block without its complement", append(block().Bits(3, 0).Bytes(), "\x02\x00\xfd\xfeHi\x00"...), "", false},
		{"3.2.4: a stored block that is cut in its length", append(block().Bits(3, 0).Bytes(), "\x02"...), "", false},
		{"3.2.4: a stored block that is cut in its data", append(block().Bits(3, 0).Bytes(), "\x09\x00\xf6\xffHi"...), "", false},
		{"3.2.4: a stored block whose last bytes were the tail's", append(block().Bits(3, 0).Bytes(), "\x06\x00\xf9\xffHi"...), "Hi\x00\x00\xff\xff", true},
		{"3.2.6: a literal of the codes that are not used", block().Bits(3, 2).Code(8, 0xC6).End(), "", false},
		{"3.2.6: a distance of the codes that are not used", block().Bits(3, 2).Code(8, 0x30+'a').Code(7, 1).Code(5, 30).Code(7, 0).End(), "", false},
		{"3.2.6: distance before the start", block().Bits(3, 2).Code(8, 0x30+'a').Code(7, 1).Code(5, 1).Code(7, 0).End(), "", false},
		{"3.2.6: a match of one byte four times over", block().Bits(3, 2).Code(8, 0x30+'a').Code(7, 2).Code(5, 0).Code(7, 0).End(), "aaaaa", true},
		{"3.2.6: a match of the longest length, 285", block().Bits(3, 2).Code(8, 0x30+'a').Code(8, 0xC5).Code(5, 0).Code(7, 0).End(), strings.Repeat("a", 259), true},
		{"3.2.6: a match of the longest length, 284 and its extra bits", block().Bits(3, 2).Code(8, 0x30+'a').Code(8, 0xC4).Bits(5, 31).Code(5, 0).Code(7, 0).End(), strings.Repeat("a", 259), true},
		{"3.2.7: more than 286 literals", block().Tables(287, 1, deflatetest.LengthsOf01...).End(), "", false},
		{"3.2.7: more than 30 distances", block().Tables(257, 31, deflatetest.LengthsOf01...).End(), "", false},
		{"3.2.7: code lengths that are over-subscribed", block().Tables(257, 1, 1, 1, 1, 1).End(), "", false},
		{"3.2.7: code lengths that are incomplete", block().Tables(257, 1, 2, 2, 2, 0).End(), "", false},
		{"3.2.7: no code lengths", block().Tables(257, 1, 0, 0, 0, 0).Bits(7, 0).End(), "", false},
		{"3.2.7: cut in the counts", block().Bits(3, 4).Bytes(), "", false},
		{"3.2.7: cut in the code lengths", block().Tables(257, 1, deflatetest.LengthsOf01...).Code(2, 0).Code(2, 1).Bytes(), "", false},
		{"3.2.7: repetition with nothing to repeat", block().Tables(257, 1, deflatetest.LengthsOf01...).Code(2, 2).Bits(2, 0).End(), "", false},
		{"3.2.7: repetition beyond the last code", block().Tables(257, 1, deflatetest.LengthsOf01...).Zeros(256).Code(2, 1).Code(2, 3).Bits(7, 0).End(), "", false},
		{"3.2.7: no end of block", block().Tables(257, 1, deflatetest.LengthsOf01...).Zeros('a').Code(2, 1).Code(2, 1).Zeros(257 - 'a' - 2 + 1).End(), "", false},
		{"3.2.7: literals that are over-subscribed", block().Tables(257, 1, deflatetest.LengthsOf01...).Zeros('a').Code(2, 1).Code(2, 1).Zeros(256-'a'-2).Code(2, 1).Zeros(1).End(), "", false},
		{"3.2.7: a literal and the end, no distance", block().Tables(257, 1, deflatetest.LengthsOf01...).Zeros('a').Code(2, 1).Zeros(256-'a'-1).Code(2, 1).Zeros(1).
			Code(1, 0).Code(1, 0).Code(1, 1).End(), "aa", true},
		{"3.2.7: an end alone", block().Tables(257, 1, deflatetest.LengthsOf01...).Zeros(256).Code(2, 1).Zeros(1).Code(1, 0).End(), "", true},
		{"3.2.7: an end alone, and the code that is none", block().Tables(257, 1, deflatetest.LengthsOf01...).Zeros(256).Code(2, 1).Zeros(1).Code(1, 1).End(), "", false},
		{"3.2.7: a match with the one distance", block().Tables(258, 1, deflatetest.LengthsOf01...).Zeros(256).Code(2, 1).Code(2, 1).Code(2, 1).Code(1, 1).Code(1, 0).Code(1, 0).End(), "", false},
		{"3.2.7: a match where there is no distance", block().Tables(258, 1, deflatetest.LengthsOf01...).Zeros(256).Code(2, 1).Code(2, 1).Zeros(1).Code(1, 1).Code(1, 0).Code(1, 0).End(), "", false},
	} {
		inflated, err := Message(test.data, 1000, nil, farthest)
		if !test.valid {
			require.Error(t, err, test.name)
			require.ErrorAs(t, err, new(CorruptError))
			continue
		}
		require.NoError(t, err, test.name)
		require.Equal(t, test.expected, string(inflated), test.name)
		if expected, err := deflatetest.Decompress(test.data, nil); err == nil {
			require.Equal(t, string(expected), string(inflated), test.name)
		}
	}
}

// TestInflateMatches checks that every length is copied correctly from every distance that matters: shorter than a word,
// than a length that is worth a call, and than the match itself.
func TestInflateMatches(t *testing.T) {
	for distance := 1; distance <= 2*longestMatch; distance++ {
		var expected []byte
		w := new(deflatetest.Stream).Bits(3, 2)
		literal := func() {
			b := byte(len(expected)*7) % 144 // those that have codes of 8 bits
			w.Literal(b)
			expected = append(expected, b)
		}
		for range distance {
			literal()
		}
		for length := 3; length <= longestMatch; length++ {
			w.Match(length, distance)
			for range length {
				expected = append(expected, expected[len(expected)-distance])
			}
			literal()
		}
		data := w.Code(7, 0).End()
		inflated, err := Message(data, noLimit, nil, farthest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(expected, inflated), "distance %d", distance)
		judged, err := deflatetest.Decompress(data, nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(judged, inflated), "distance %d", distance)
	}
}

// TestInflateCut checks that a message that ends too early, anywhere, is refused, unless the tail happens to complete
// what was cut: then the standard library accepts it too.
func TestInflateCut(t *testing.T) {
	for _, kind := range deflatetest.Kinds {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 9} {
			compressed := deflatetest.Compress(t, level, deflatetest.Sample(kind, 2000))[0]
			refused := 0
			for cut := range compressed {
				inflated, err := Message(compressed[:cut], noLimit, nil, farthest)
				if err != nil {
					require.ErrorAs(t, err, new(CorruptError))
					refused++
					continue
				}
				expected, err := deflatetest.Decompress(compressed[:cut], nil)
				require.NoError(t, err, "%s, level %d, cut at %d", kind, level, cut)
				require.True(t, bytes.Equal(expected, inflated), "%s, level %d, cut at %d", kind, level, cut)
			}
			require.Greater(t, refused, len(compressed)/2)
		}
	}
}

// FuzzInflate checks that a stream that a fuzzer made up, of blocks of all kinds, is inflated as the standard library
// inflates it, or rejected if that rejects it, and that the output never exceeds the limit.
func FuzzInflate(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(deflatetest.Sample("random", 40+int(seed)*20), []byte("what came before"), uint16(1<<16-1))
	}
	f.Add([]byte("zeros"), []byte{}, uint16(10))
	f.Fuzz(func(t *testing.T, choices, dict []byte, limit uint16) {
		check(t, deflatetest.Generate(choices), dict, int(limit))
	})
}

// FuzzInflateBytes does the same for streams that a fuzzer makes from those of a compressor.
func FuzzInflateBytes(f *testing.F) {
	for _, kind := range deflatetest.Kinds {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			f.Add(deflatetest.Compress(f, level, deflatetest.Sample(kind, 500))[0], []byte("dictionary"))
		}
	}
	f.Add([]byte{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}, []byte{})
	f.Add([]byte{0xf2, 0x00, 0x11, 0x00, 0x00}, []byte("Hello"))
	f.Fuzz(func(t *testing.T, data, dict []byte) {
		// More than 1032 bytes for one are not possible.
		check(t, data[:min(len(data), 1<<10)], dict, 1<<20)
	})
}

// check inflates a message and compares the outcome with the standard library's.
func check(t *testing.T, data, dict []byte, limit int) {
	history := NewWindow(farthest)
	history.Add(dict)
	inflated, err := Message(data, uint64(limit), history, farthest)
	expected, final, judged := deflatetest.Judge(data, dict)
	switch {
	case errors.Is(err, ErrTooLong):
		// What is wrong behind the limit does not matter; what is wrong before it may come first.
		if judged == nil && !final {
			require.Greater(t, len(expected), limit)
		}
	case err != nil:
		require.ErrorAs(t, err, new(CorruptError))
		if judged == nil {
			require.True(t, final, "rejected: %v", err)
		}
	case final:
		// What follows a final block is one more block here (RFC 7692, section 7.2.3.4).
		require.True(t, bytes.HasPrefix(inflated, expected))
	default:
		require.NoError(t, judged)
		require.True(t, bytes.Equal(expected, inflated))
	}
	require.LessOrEqual(t, len(inflated), limit)
	requireSameStream(t, data, dict, uint64(limit))
}
