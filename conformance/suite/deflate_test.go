// Tests of the suite's own DEFLATE against compress/flate, and of its hold on windows.

package suite

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var tail = []byte{0, 0, 0xff, 0xff}

func someMessages(n int) []string {
	s := &session{rng: rand.New(rand.NewPCG(1, 2))}
	all := []string{"", "Hello", "Hello", strings.Repeat("Hello ", 100), noise(5000)}
	for i := range n {
		all = append(all, s.prose(i*i*13%5000))
	}
	return all
}

func TestDeflaterIsReadByCompressFlate(t *testing.T) {
	for bits := 8; bits <= 15; bits++ {
		for _, takeover := range []bool{false, true} {
			d := newDeflater(bits, takeover)
			var history []byte
			for i, text := range someMessages(60) {
				packed := d.message([]byte(text))
				require.False(t, bytes.HasSuffix(packed, tail))
				end := append(bytes.Clone(packed), 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff)
				got, err := io.ReadAll(flate.NewReaderDict(bytes.NewReader(end), history))
				require.NoError(t, err, "message %d, window %d", i, bits)
				require.Equal(t, text, string(got), "message %d, window %d", i, bits)
				if takeover {
					history = append(history, text...)
					history = history[max(0, len(history)-1<<bits):]
				}
			}
		}
	}
}

func TestInflaterReadsBothEncoders(t *testing.T) {
	for bits := 8; bits <= 15; bits++ {
		for _, takeover := range []bool{false, true} {
			d, i := newDeflater(bits, takeover), newInflater(bits, takeover)
			for n, text := range someMessages(60) {
				got, err := i.message(d.message([]byte(text)))
				require.NoError(t, err, "message %d, window %d", n, bits)
				require.Equal(t, text, string(got), "message %d, window %d", n, bits)
			}
		}
	}
}

func TestInflaterReadsEveryLevel(t *testing.T) {
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		i := newInflater(15, true)
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, level)
		require.NoError(t, err)
		for _, text := range someMessages(60) {
			b.Reset()
			io.WriteString(w, text)
			require.NoError(t, w.Flush())
			got, err := i.message(bytes.TrimSuffix(b.Bytes(), tail))
			require.NoError(t, err)
			require.Equal(t, text, string(got))
		}
	}
}

// A peer that uses more of the window than was agreed must be found out, or those cases prove nothing.
func TestInflaterHoldsTheWindow(t *testing.T) {
	for bits := 8; bits < 15; bits++ {
		text := noise(1 << bits)
		good := newDeflater(bits, true)
		in := newInflater(bits, true)
		for range 2 { // the second refers to the first, as far back as the window goes
			_, err := in.message(good.message([]byte(text)))
			require.NoError(t, err)
		}
		got, err := in.message(fixedBlock(func(w *bitWriter) { w.match(3, 1<<bits) }))
		require.NoError(t, err)
		require.Equal(t, text[:3], string(got))

		_, err = in.message(fixedBlock(func(w *bitWriter) {
			w.literal('x')
			w.match(3, 1<<bits+1)
		}))
		require.ErrorContains(t, err, "where a window of")
	}
	in := newInflater(15, false)
	_, err := in.message([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"))
	require.NoError(t, err)
	_, err = in.message([]byte("\xf2\x00\x11\x00\x00"))
	require.ErrorContains(t, err, "where only 1 precede", "a reference to a message that no takeover keeps")
}

func TestInflaterRefuses(t *testing.T) {
	for name, payload := range map[string]string{
		"reserved block":    "\x06\x00",
		"bad complement":    "\x00\x05\x00\x05\x00Hello\x00",
		"short stored":      "\x00\xff\x00\x00\xffHello",
		"far distance":      string(farDistance()),
		"nothing at all":    "",
		"tail not taken on": "\xf2\x48\xcd\xc9\xc9\x07",
	} {
		_, err := newInflater(15, true).message([]byte(payload))
		require.Error(t, err, name)
	}
}
