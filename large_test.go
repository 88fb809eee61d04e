// large_test.go sends messages that are larger than all memory that a connection may take, both ways at once.

package wsd_test

import (
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// largeSize is the size in bytes of the messages: WSD_LARGE sets it, as 4294967296 for 4 GiB.
func largeSize(t *testing.T) int64 {
	t.Helper()
	set := os.Getenv("WSD_LARGE")
	if set == "" {
		return 48 << 20
	}
	size, err := strconv.ParseInt(set, 10, 64)
	require.NoError(t, err)
	return size
}

// pattern reads as text that is not the same for long, and compresses.
type pattern struct {
	block []byte
	at    int64
}

func (p *pattern) Read(b []byte) (int, error) {
	n := copy(b, p.block[p.at%int64(len(p.block)):])
	p.at += int64(n)
	return n, nil
}

// heapLimit is how many bytes of heap a transfer may take, beyond what documentation says that its connections hold: 64 KiB of
// SendQueue and StreamAbove, 512 KiB for a message under way, and 0.8 MB for a compressor, at each end.
const heapLimit = 8 << 20

func TestMessagesLargerThanMemory(t *testing.T) {
	size := largeSize(t)
	block := prose(1, 1<<20-7)
	cfg := wsd.Config{StreamAbove: 64 << 10, MaxMessageSize: -1}
	for name, agreed := range map[string]*wsd.Compression{"plain": nil, "compressed": {}} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.Compression = agreed
			a, b := tcpPair(t)
			client, server := wsd.NewConn(a, wsd.ClientRole, cfg), wsd.NewConn(b, wsd.ServerRole, cfg)
			defer client.CloseNow()
			defer server.CloseNow()
			var before, now runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			begun := time.Now()
			failed := make(chan error, 4)
			sums := make(chan uint32, 4)
			send := func(from *wsd.Conn) {
				sum := crc32.NewIEEE()
				w := from.Writer(t.Context(), wsd.BinaryMessage, nil)
				_, err := w.(io.ReaderFrom).ReadFrom(io.TeeReader(io.LimitReader(&pattern{block: block}, size), sum))
				if err == nil {
					err = w.Close()
				}
				sums <- sum.Sum32()
				failed <- err
			}
			receive := func(to *wsd.Conn) {
				sum := crc32.NewIEEE()
				m, err := to.Receive(t.Context())
				if err == nil {
					_, err = io.Copy(sum, m.Body())
				}
				sums <- sum.Sum32()
				failed <- err
			}
			for _, sides := range [][2]*wsd.Conn{{client, server}, {server, client}} {
				go send(sides[0])
				go receive(sides[1])
			}
			var most int64
			look := time.NewTicker(200 * time.Millisecond)
			defer look.Stop()
			for done := 0; done < 4; {
				select {
				case err := <-failed:
					require.NoError(t, err)
					done++
				case <-look.C:
				}
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, int64(now.HeapAlloc)-int64(before.HeapAlloc))
				if !wsd.RaceEnabled { // with which pools lose some of what they are given
					require.Less(t, most, int64(heapLimit))
				}
			}
			first := <-sums
			for range 3 {
				require.Equal(t, first, <-sums)
			}
			took := time.Since(begun)
			t.Logf("%d MiB each way, %.0f MiB/s together, %d KiB of heap at most", size>>20, float64(2*size>>20)/took.Seconds(), most>>10)
		})
	}
}
