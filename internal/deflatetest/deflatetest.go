// Package deflatetest makes DEFLATE streams for tests (RFC 1951), by the standard library, by hand and from a fuzzer's
// bytes, and reads them with the standard library.
package deflatetest

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tail is what ends a flushed message and is not sent (RFC 7692, section 7.2.1).
const tail = "\x00\x00\xff\xff"

// Compress compresses messages with the standard library, each flushed and cut as in RFC 7692, section 7.2.1.
func Compress(t testing.TB, level int, messages ...[]byte) [][]byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	require.NoError(t, err)
	var compressed [][]byte
	for _, message := range messages {
		_, err = w.Write(message)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		require.True(t, bytes.HasSuffix(out.Bytes(), []byte(tail)))
		compressed = append(compressed, bytes.Clone(out.Bytes()[:out.Len()-len(tail)]))
		out.Reset()
	}
	return compressed
}

// Sample returns size bytes that compress as well as the kind says.
func Sample(kind string, size int) []byte {
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

// Kinds are the kinds of samples.
var Kinds = []string{"zeros", "random", "text", "runs", "mixed"}

// Decompress is what the standard library makes of one message that Compress made, or that somebody else did. dict is
// what came before it.
func Decompress(message, dict []byte) ([]byte, error) {
	data, _, err := read(message, dict, "\x01\x00\x00\xff\xff")
	return data, err
}

// Judge is what the standard library says of a message. final is whether a final block in the message made it stop
// reading; nothing is known then about what follows. A message that ends inside a block is an error.
func Judge(message, dict []byte) (data []byte, final bool, err error) {
	// The standard library wants a final block. Two of them tell whether the message has come to its end before: what is
	// still inside a block reads them differently.
	data, final, err = read(message, dict, "\x01\x00\x00\xff\xff")
	if err != nil || final {
		return data, final, err
	}
	again, final, err := read(message, dict, "\x03\x00")
	if err == nil && !bytes.Equal(data, again) {
		err = io.ErrUnexpectedEOF
	}
	return data, final, err
}

// read reads a message and the final block that ends it. early is whether the message had a final block itself.
func read(message, dict []byte, end string) (data []byte, early bool, err error) {
	whole := bytes.NewReader(append(append(bytes.Clone(message), tail...), end...))
	data, err = io.ReadAll(flate.NewReaderDict(whole, dict))
	return data, err == nil && whole.Len() > 0, err
}
