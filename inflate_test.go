// inflate_test.go checks the DEFLATE decoder against RFC 1951, with the standard library's decoder as the reference.

package wsd

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const noLimit = uint64(unlimited)

// deflateStd compresses messages with the standard library, each flushed and cut as in RFC 7692, section 7.2.1.
func deflateStd(t testing.TB, level int, messages ...[]byte) [][]byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	require.NoError(t, err)
	var compressed [][]byte
	for _, message := range messages {
		_, err = w.Write(message)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		require.True(t, bytes.HasSuffix(out.Bytes(), []byte(deflateTail)))
		compressed = append(compressed, bytes.Clone(out.Bytes()[:out.Len()-len(deflateTail)]))
		out.Reset()
	}
	return compressed
}

// inflateStd is what the standard library makes of one message.
func inflateStd(message, dict []byte) ([]byte, error) {
	whole := append(append(bytes.Clone(message), deflateTail...), 1, 0, 0, 0xFF, 0xFF)
	return io.ReadAll(flate.NewReaderDict(bytes.NewReader(whole), dict))
}

// sample returns size bytes that compress as well as the kind says.
func sample(kind string, size int) []byte {
	random := rand.New(rand.NewPCG(uint64(size), uint64(len(kind))))
	data := make([]byte, 0, size+64)
	words := strings.Fields("the quick brown fox jumps over a lazy dog while seven boxing wizards vex my jocund quartz sphinx of black and white")
	for len(data) < size {
		switch kind {
		case "zeros":
			data = append(data, 0)
		case "random":
			data = append(data, byte(random.Uint32()))
		case "text":
			data = append(data, words[random.IntN(len(words))]...)
			data = append(data, ' ')
		case "runs":
			data = append(data, bytes.Repeat([]byte{byte(random.IntN(4))}, 1+random.IntN(300))...)
		case "mixed":
			if random.IntN(2) == 0 || len(data) < 10 {
				data = append(data, byte(random.Uint32()))
			} else {
				from := random.IntN(len(data))
				data = append(data, data[from:min(len(data), from+random.IntN(600))]...)
			}
		}
	}
	return data[:size]
}

var sampleKinds = []string{"zeros", "random", "text", "runs", "mixed"}

func TestInflateWhatOthersDeflate(t *testing.T) {
	nobodyReleases(t)
	for _, kind := range sampleKinds {
		for _, size := range []int{0, 1, 2, 12, 257, 258, 259, 1000, 32767, 32768, 32769, keptOutput - 1, keptOutput, keptOutput + 1, 150000} {
			data := sample(kind, size)
			for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 6} {
				compressed := deflateStd(t, level, data)[0]
				inflated, err := inflate(compressed, uint64(size), nil, 1<<maxWindowBits)
				require.NoError(t, err, "%s, %d bytes, level %d", kind, size, level)
				require.True(t, bytes.Equal(data, inflated), "%s, %d bytes, level %d", kind, size, level)
				require.LessOrEqual(t, cap(inflated), size+size/8+8, "memory that the receiver did not ask for")
				if size > 0 {
					_, err = inflate(compressed, uint64(size-1), nil, 1<<maxWindowBits)
					requireCode(t, err, StatusMessageTooBig)
				}
			}
		}
	}
}

func requireCode(t testing.TB, err error, code StatusCode) {
	t.Helper()
	var violated *ProtocolError
	require.ErrorAs(t, err, &violated)
	require.Equal(t, code, violated.Code, "%v", err)
}

// FuzzInflate checks that any input is either inflated as the standard library inflates it or rejected, and that the
// output never exceeds the limit.
func FuzzInflate(f *testing.F) {
	for _, kind := range sampleKinds {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			f.Add(deflateStd(f, level, sample(kind, 3000))[0], []byte("dictionary"))
		}
	}
	f.Add([]byte{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}, []byte{})
	f.Add([]byte{0xf2, 0x00, 0x11, 0x00, 0x00}, []byte("Hello"))
	f.Fuzz(func(t *testing.T, data, dict []byte) {
		const limit = 1 << 20
		history := &window{size: 1 << maxWindowBits}
		history.add(dict)
		inflated, err := inflate(data, limit, history, 1<<maxWindowBits)
		require.LessOrEqual(t, len(inflated), limit)
		// A final block ends what the standard library reads; our decoder continues after it.
		expected, stdErr := inflateStd(data, dict)
		if err == nil {
			require.True(t, bytes.HasPrefix(inflated, expected))
			if stdErr == nil && len(expected) < len(inflated) {
				require.NotEmpty(t, data)
			}
			return
		}
		var violated *ProtocolError
		require.True(t, errors.As(err, &violated))
		if violated.Code == StatusMessageTooBig {
			return
		}
		require.Equal(t, StatusInvalidPayload, violated.Code)
	})
}

// TestWindow checks that a window has the last bytes of what was added, as many as its size allowed at the time.
func TestWindow(t *testing.T) {
	random := rand.New(rand.NewPCG(1951, 1))
	for range 200 {
		w := &window{size: 1 + random.IntN(64)}
		var want []byte
		for range 30 {
			w.widen(random.IntN(200))
			b := sample("random", 200)[random.IntN(100):][:random.IntN(100)]
			w.add(b)
			want = append(want, b...)
			want = want[max(0, len(want)-w.size):]
			n := random.IntN(250)
			require.Equal(t, append([]byte("ahead"), want[max(0, len(want)-n):]...), w.appendLast([]byte("ahead"), n))
			require.LessOrEqual(t, len(w.data), w.size)
			require.LessOrEqual(t, cap(w.data), cap(slices.Grow([]byte(nil), w.size)), "there is room that is never used")
		}
	}
}

// bitWriter writes a DEFLATE stream by hand, the lowest bit of a byte first (RFC 1951, section 3.1.1).
type bitWriter struct {
	out  []byte
	have uint
}

func (w *bitWriter) bits(n uint, value int) *bitWriter {
	for i := range n {
		if w.have%8 == 0 {
			w.out = append(w.out, 0)
		}
		w.out[len(w.out)-1] |= byte(value>>i&1) << (w.have % 8)
		w.have++
	}
	return w
}

// code writes a Huffman code, whose highest bit comes first.
func (w *bitWriter) code(n uint, value int) *bitWriter {
	for n > 0 {
		n--
		w.bits(1, value>>n)
	}
	return w
}

// tables writes the header of a block that brings its own codes: how many there are, and all lengths of the code for
// code lengths, in the order of codeOrder.
func (w *bitWriter) tables(literals, distances int, lengths ...int) *bitWriter {
	w.bits(1, 0).bits(2, 2).bits(5, literals-257).bits(5, distances-1).bits(4, len(lengths)-4)
	for _, n := range lengths {
		w.bits(3, n)
	}
	return w
}

// end flushes as a compressor does, and cuts the tail.
func (w *bitWriter) end() []byte {
	w.bits(3, 0)
	return w.out
}

// lengthsOf01 has codes for the code lengths 0 and 1, 18 for many zeros, and 16: 00 is 0, 01 is 1, 10 is 16, 11 is 18.
var lengthsOf01 = []int{2, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}

// zeros writes count code lengths of 0 with lengthsOf01.
func (w *bitWriter) zeros(count int) *bitWriter {
	for count > 0 {
		n := min(count, 138)
		if n < 11 {
			w.code(2, 0)
			count--
			continue
		}
		w.code(2, 3).bits(7, n-11)
		count -= n
	}
	return w
}

// TestInflateByHand tries streams that no compressor makes, by the sections of RFC 1951 that allow or forbid them.
func TestInflateByHand(t *testing.T) {
	block := func() *bitWriter { return new(bitWriter) }
	for _, test := range []struct {
		name     string
		data     []byte
		expected string
		valid    bool
	}{
		{"3.2.3: a block of the reserved type", block().bits(3, 6).end(), "", false},
		{"3.2.4: a stored block", append(block().bits(3, 0).out, "\x02\x00\xfd\xffHi\x00"...), "Hi", true},
		{"3.2.4: a stored block without its complement", append(block().bits(3, 0).out, "\x02\x00\xfd\xfeHi\x00"...), "", false},
		{"3.2.4: a stored block that is cut in its length", append(block().bits(3, 0).out, "\x02"...), "", false},
		{"3.2.4: a stored block that is cut in its data", append(block().bits(3, 0).out, "\x09\x00\xf6\xffHi"...), "", false},
		{"3.2.4: a stored block whose last bytes were the tail's", append(block().bits(3, 0).out, "\x06\x00\xf9\xffHi"...), "Hi\x00\x00\xff\xff", true},
		{"3.2.6: a literal of the codes that are not used", block().bits(3, 2).code(8, 0xC6).end(), "", false},
		{"3.2.6: a distance of the codes that are not used", block().bits(3, 2).code(8, 0x30+'a').code(7, 1).code(5, 30).code(7, 0).end(), "", false},
		{"3.2.6: distance before the start", block().bits(3, 2).code(8, 0x30+'a').code(7, 1).code(5, 1).code(7, 0).end(), "", false},
		{"3.2.6: a match of one byte four times over", block().bits(3, 2).code(8, 0x30+'a').code(7, 2).code(5, 0).code(7, 0).end(), "aaaaa", true},
		{"3.2.6: a match of the longest length, 285", block().bits(3, 2).code(8, 0x30+'a').code(8, 0xC5).code(5, 0).code(7, 0).end(), strings.Repeat("a", 259), true},
		{"3.2.6: a match of the longest length, 284 and its extra bits", block().bits(3, 2).code(8, 0x30+'a').code(8, 0xC4).bits(5, 31).code(5, 0).code(7, 0).end(), strings.Repeat("a", 259), true},
		{"3.2.7: more than 286 literals", block().tables(287, 1, lengthsOf01...).end(), "", false},
		{"3.2.7: more than 30 distances", block().tables(257, 31, lengthsOf01...).end(), "", false},
		{"3.2.7: code lengths that are over-subscribed", block().tables(257, 1, 1, 1, 1, 1).end(), "", false},
		{"3.2.7: code lengths that are incomplete", block().tables(257, 1, 2, 2, 2, 0).end(), "", false},
		{"3.2.7: no code lengths", block().tables(257, 1, 0, 0, 0, 0).bits(7, 0).end(), "", false},
		{"3.2.7: cut in the counts", block().bits(3, 4).out, "", false},
		{"3.2.7: cut in the code lengths", block().tables(257, 1, lengthsOf01...).code(2, 0).code(2, 1).out, "", false},
		{"3.2.7: repetition with nothing to repeat", block().tables(257, 1, lengthsOf01...).code(2, 2).bits(2, 0).end(), "", false},
		{"3.2.7: repetition beyond the last code", block().tables(257, 1, lengthsOf01...).zeros(256).code(2, 1).code(2, 3).bits(7, 0).end(), "", false},
		{"3.2.7: no end of block", block().tables(257, 1, lengthsOf01...).zeros('a').code(2, 1).code(2, 1).zeros(257 - 'a' - 2 + 1).end(), "", false},
		{"3.2.7: literals that are over-subscribed", block().tables(257, 1, lengthsOf01...).zeros('a').code(2, 1).code(2, 1).zeros(256-'a'-2).code(2, 1).zeros(1).end(), "", false},
		{"3.2.7: a literal and the end, no distance", block().tables(257, 1, lengthsOf01...).zeros('a').code(2, 1).zeros(256-'a'-1).code(2, 1).zeros(1).
			code(1, 0).code(1, 0).code(1, 1).end(), "aa", true},
		{"3.2.7: an end alone", block().tables(257, 1, lengthsOf01...).zeros(256).code(2, 1).zeros(1).code(1, 0).end(), "", true},
		{"3.2.7: an end alone, and the code that is none", block().tables(257, 1, lengthsOf01...).zeros(256).code(2, 1).zeros(1).code(1, 1).end(), "", false},
		{"3.2.7: a match with the one distance", block().tables(258, 1, lengthsOf01...).zeros(256).code(2, 1).code(2, 1).code(2, 1).code(1, 1).code(1, 0).code(1, 0).end(), "", false},
		{"3.2.7: a match where there is no distance", block().tables(258, 1, lengthsOf01...).zeros(256).code(2, 1).code(2, 1).zeros(1).code(1, 1).code(1, 0).code(1, 0).end(), "", false},
	} {
		inflated, err := inflate(test.data, 1000, nil, 1<<maxWindowBits)
		if !test.valid {
			require.Error(t, err, test.name)
			requireCode(t, err, StatusInvalidPayload)
			continue
		}
		require.NoError(t, err, test.name)
		require.Equal(t, test.expected, string(inflated), test.name)
		if expected, err := inflateStd(test.data, nil); err == nil {
			require.Equal(t, string(expected), string(inflated), test.name)
		}
	}
}

// match writes a length and a distance with the codes that bring no tables (RFC 1951, sections 3.2.5 and 3.2.6).
func (w *bitWriter) match(length, distance int) *bitWriter {
	symbol, base, extra := 257, 3, 0
	for n := 0; length < longestMatch && length >= base+1<<extra; n++ {
		base += 1 << extra
		symbol++
		extra = max(0, (n+1)/4-1)
	}
	if length == longestMatch {
		symbol, base, extra = 285, longestMatch, 0
	}
	if symbol < 280 {
		w.code(7, symbol-256)
	} else {
		w.code(8, 0xC0+symbol-280)
	}
	w.bits(uint(extra), length-base)
	symbol, base, extra = 0, 1, 0
	for distance >= base+1<<extra {
		base += 1 << extra
		symbol++
		extra = max(0, symbol/2-1)
	}
	return w.code(5, symbol).bits(uint(extra), distance-base)
}

// TestInflateMatches checks that every length is copied correctly from every distance that matters: shorter than a word,
// than a length that is worth a call, and than the match itself.
func TestInflateMatches(t *testing.T) {
	for distance := 1; distance <= 2*longestMatch; distance++ {
		var expected []byte
		w := new(bitWriter).bits(3, 2)
		literal := func() {
			b := byte(len(expected)*7) % 144 // those that have codes of 8 bits
			w.code(8, 0x30+int(b))
			expected = append(expected, b)
		}
		for range distance {
			literal()
		}
		for length := 3; length <= longestMatch; length++ {
			w.match(length, distance)
			for range length {
				expected = append(expected, expected[len(expected)-distance])
			}
			literal()
		}
		data := w.code(7, 0).end()
		inflated, err := inflate(data, noLimit, nil, 1<<maxWindowBits)
		require.NoError(t, err)
		require.True(t, bytes.Equal(expected, inflated), "distance %d", distance)
		judged, err := inflateStd(data, nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(judged, inflated), "distance %d", distance)
	}
}

// TestInflateCut checks that a message that ends too early, anywhere, is refused, unless the tail happens to complete
// what was cut: then the standard library accepts it too.
func TestInflateCut(t *testing.T) {
	for _, kind := range sampleKinds {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 9} {
			compressed := deflateStd(t, level, sample(kind, 2000))[0]
			refused := 0
			for cut := range compressed {
				inflated, err := inflate(compressed[:cut], noLimit, nil, 1<<maxWindowBits)
				if err != nil {
					requireCode(t, err, StatusInvalidPayload)
					refused++
					continue
				}
				expected, err := inflateStd(compressed[:cut], nil)
				require.NoError(t, err, "%s, level %d, cut at %d", kind, level, cut)
				require.True(t, bytes.Equal(expected, inflated), "%s, level %d, cut at %d", kind, level, cut)
			}
			require.Greater(t, refused, len(compressed)/2)
		}
	}
}
