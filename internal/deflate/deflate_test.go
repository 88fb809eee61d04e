// deflate_test.go tests compressed messages with the standard library's DEFLATE, and this module's, as their receivers.

package deflate

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflatetest"
	"github.com/seed62836080/wsd/internal/inflate"
)

const noLimit = uint64(math.MaxInt)

// send compresses data as a message that is sent.
func send(d *Deflater, dst, data []byte) ([]byte, error) {
	dst, err := d.Compress(dst, data)
	return dst, d.Settle(data, err)
}

// receiver inflates the messages of one Deflater.
type receiver struct {
	maxDistance int             // in bytes
	history     *inflate.Window // nil without context takeover
}

// newReceiver returns what inflates what a Deflater with the same window and takeover sends.
func newReceiver(windowBits int, takeover bool) *receiver {
	r := &receiver{maxDistance: 1 << windowBits}
	if takeover {
		r.history = inflate.NewWindow(r.maxDistance)
	}
	return r
}

func (r *receiver) inflate(compressed []byte, limit uint64) ([]byte, error) {
	message, err := inflate.Message(compressed, limit, r.history, r.maxDistance)
	if err == nil && r.history != nil {
		r.history.Add(message)
	}
	return message, err
}

// TestDeflateReadByOthers checks that the standard library reads what is compressed here, given no more of the earlier
// messages than the window that was negotiated, and that no distance is longer than that window.
func TestDeflateReadByOthers(t *testing.T) {
	for bits := MinWindowBits; bits <= MaxWindowBits; bits++ {
		for _, takeover := range []bool{true, false} {
			for _, level := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10} {
				if level > 2 && bits < MaxWindowBits {
					continue // smaller windows have one level
				}
				name := fmt.Sprintf("level %d, %d bits, takeover %v", level, bits, takeover)
				d := New(level, bits, takeover)
				var before []byte
				for n, message := range deflatetest.Talk(uint64(bits)) {
					compressed, err := send(&d, []byte("ahead"), message)
					require.NoError(t, err)
					require.Equal(t, "ahead", string(compressed[:5]))
					compressed = compressed[5:]

					dict := before[max(0, len(before)-1<<bits):]
					inflated, err := deflatetest.Decompress(compressed, dict)
					require.NoError(t, err, "%s, message %d", name, n)
					require.True(t, bytes.Equal(message, inflated), "%s, message %d", name, n)

					history := inflate.NewWindow(1 << bits)
					history.Add(dict)
					_, err = inflate.Message(compressed, noLimit, history, 1<<bits)
					require.NoError(t, err, "%s, message %d: distances", name, n)
					if takeover {
						before = append(before, message...)
					}
				}
			}
		}
	}
}

// TestDeflateConnectionsShare checks that connections that share compressors, concurrently and in turn, each keep their
// own stream.
func TestDeflateConnectionsShare(t *testing.T) {
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			const connections = 10
			var deflaters [connections]Deflater
			var receivers [connections]*receiver
			for n := range connections {
				bits, takeover := MaxWindowBits-n%2, n%3 != 0
				deflaters[n], receivers[n] = New(1, bits, takeover), newReceiver(bits, takeover)
			}
			random := rand.New(rand.NewPCG(uint64(g), 2))
			for round := range 200 {
				n := random.IntN(connections)
				message := fmt.Appendf(nil, "%d of %d: %s", round, g, deflatetest.Sample("text", random.IntN(2000)))
				compressed, err := send(&deflaters[n], nil, message)
				if err != nil {
					t.Error(err)
					return
				}
				inflated, err := receivers[n].inflate(compressed, noLimit)
				if err != nil || !bytes.Equal(message, inflated) {
					t.Errorf("connection %d, round %d: %v", n, round, err)
					return
				}
			}
		})
	}
	group.Wait()
}

// TestDeflateCompressorLeftBehind checks that a compressor is not taken for up to date once another has replaced it and
// it has missed messages.
func TestDeflateCompressorLeftBehind(t *testing.T) {
	const level = 4 // no other test uses so many of these that they are not found again
	d, r := New(level, MaxWindowBits, true), newReceiver(MaxWindowBits, true)
	say := func(message []byte) {
		compressed, err := send(&d, nil, message)
		require.NoError(t, err)
		inflated, err := r.inflate(compressed, noLimit)
		require.NoError(t, err)
		require.True(t, bytes.Equal(message, inflated))
	}
	for n := range 20 {
		say(deflatetest.Trades(uint64(n), 1000))
		var hidden []any
		for {
			c := d.pool.Get()
			if c == nil {
				break
			}
			hidden = append(hidden, c)
		}
		say(deflatetest.Sample("random", 100+n))
		for d.pool.Get() != nil {
			// The one that took over is gone, and those that it took over from are back.
		}
		for _, c := range hidden {
			d.pool.Put(c)
		}
		say(deflatetest.Trades(uint64(n), 1000))
	}
}

// TestWithLevel checks that messages at another level go on from those before them, and that a window with a single level
// keeps that.
func TestWithLevel(t *testing.T) {
	for _, bits := range []int{10, MaxWindowBits} {
		d, r := New(1, bits, true), newReceiver(bits, true)
		for n, level := range []int{9, 2, 0, 10, 5} {
			d = d.WithLevel(level)
			want := New(level, bits, true)
			require.Equal(t, want.Level(), d.Level(), "%d bits, level %d", bits, level)
			require.Same(t, want.pool, d.pool, "%d bits, level %d", bits, level)
			message := deflatetest.Sample("random", 500) // repeats itself only from one message to the next
			compressed, err := send(&d, nil, message)
			require.NoError(t, err)
			require.True(t, n == 0 || len(compressed) < 50, "%d bits, level %d: %d bytes", bits, level, len(compressed))
			inflated, err := r.inflate(compressed, noLimit)
			require.NoError(t, err)
			require.True(t, bytes.Equal(message, inflated), "%d bits, level %d", bits, level)
		}
	}
}

// failing is a flateWriter that writes nothing, or fails to.
type failing struct{ err error }

func (f failing) Write(data []byte) (int, error) { return len(data), f.err }
func (f failing) Flush() error                   { return f.err }
func (f failing) restart([]byte)                 {}

// TestFailingCompressorIsNotUsedAgain checks that an error comes as it is, and ends the use of the compressor.
func TestFailingCompressorIsNotUsedAgain(t *testing.T) {
	broken := errors.New("broken")
	made := 0
	d := New(1, MaxWindowBits, true)
	d.pool = new(sync.Pool)
	d.make = func(int) *compressor {
		made++
		return &compressor{flate: failing{broken}}
	}
	_, err := send(&d, nil, []byte("message"))
	require.Equal(t, broken, err)
	_, err = d.Compress(nil, []byte("message"))
	require.Equal(t, broken, d.Settle(nil, err))
	_, err = d.Begin(1).Add(nil, []byte("message"))
	require.Equal(t, broken, err)
	_, err = d.Begin(1).Flush(nil)
	require.Equal(t, broken, err)
	require.Equal(t, 4, made)
}

// FuzzDeflate checks that inflating undoes deflating, over some messages, at any settings, and that the standard library
// agrees. Each message is what a stream that the fuzzer made up inflates to, as far as it does: random bytes repeat little.
func FuzzDeflate(f *testing.F) {
	for level := range 10 {
		f.Add(uint8(level), uint8(level), level%2 == 0, deflatetest.Sample("random", 100+10*level))
	}
	f.Fuzz(func(t *testing.T, level, bits uint8, alone bool, choices []byte) {
		windowBits := MinWindowBits + int(bits)%8
		d, r := New(int(level)%10, windowBits, !alone), newReceiver(windowBits, !alone)
		var before []byte
		for range 3 {
			part := choices[:len(choices)/2]
			choices = choices[len(part):]
			message, _, _ := deflatetest.Judge(deflatetest.Generate(part), before)
			message = message[:min(len(message), 8<<10)]
			compressed, err := send(&d, nil, message)
			require.NoError(t, err)
			inflated, err := r.inflate(compressed, uint64(len(message)))
			require.NoError(t, err)
			require.True(t, bytes.Equal(message, inflated))
			judged, final, err := deflatetest.Judge(compressed, before[max(0, len(before)-1<<windowBits):])
			require.NoError(t, err)
			require.False(t, final)
			require.True(t, bytes.Equal(message, judged))
			if !alone {
				before = append(before, message...)
			}
		}
	})
}

// BenchmarkDeflate is what compression adds to a message's way there and back: deflated once, inflated once. Connections
// take turns, so that with takeover and many of them none finds its compressor again.
func BenchmarkDeflate(b *testing.B) {
	var feed, prose [64][]byte
	for n := range feed {
		feed[n], prose[n] = deflatetest.Trades(uint64(n), 1<<10), deflatetest.Sample("text", 32<<10+n)
	}
	for _, load := range []struct {
		name     string
		messages [64][]byte
	}{{"1KiB-JSON", feed}, {"32KiB-text", prose}} {
		for _, alone := range []bool{false, true} {
			for _, connections := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/alone=%v/connections=%d", load.name, alone, connections), func(b *testing.B) {
					var deflaters []Deflater
					var receivers []*receiver
					for range connections {
						deflaters, receivers = append(deflaters, New(1, MaxWindowBits, !alone)), append(receivers, newReceiver(MaxWindowBits, !alone))
					}
					var compressed []byte
					var in, out, n int
					b.ReportAllocs()
					for b.Loop() {
						message := load.messages[n/connections%64]
						compressed, _ = send(&deflaters[n%connections], compressed[:0], message)
						if _, err := receivers[n%connections].inflate(compressed, noLimit); err != nil {
							b.Fatal(err)
						}
						in, out = in+len(message), out+len(compressed)
						n++
					}
					b.ReportMetric(100*float64(out)/float64(in), "%size")
				})
			}
		}
	}
}
