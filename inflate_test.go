// inflate_test.go holds the DEFLATE decoder to RFC 1951, with the standard library's as its judge.
package wsd

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const noLimit = uint64(unlimited)

// deflateStd compresses messages with the standard library, each flushed and cut as RFC 7692, section 7.2.1, has it.
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

// FuzzInflate holds that whatever comes is either inflated as the standard library inflates it or rejected, and that the
// output never passes the limit.
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
		// A final block ends what the standard library reads; ours goes on behind it.
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
