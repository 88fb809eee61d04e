// stream_test.go tests messages that are compressed while they are produced, and what else a Writer can be told.

package wsd_test

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// eachTakeover calls f for both ways of compressing.
func eachTakeover(t *testing.T, f func(t *testing.T, agreed *wsd.Compression)) {
	t.Run("takeover", func(t *testing.T) { f(t, &wsd.Compression{}) })
	t.Run("none", func(t *testing.T) {
		f(t, &wsd.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true})
	})
	t.Run("small windows", func(t *testing.T) {
		f(t, &wsd.Compression{ServerMaxWindowBits: 9, ClientMaxWindowBits: 9})
	})
}

// write writes pieces to w and closes it.
func write(t *testing.T, w io.WriteCloser, pieces ...string) {
	t.Helper()
	for _, piece := range pieces {
		n, err := io.WriteString(w, piece)
		require.NoError(t, err)
		require.Equal(t, len(piece), n)
	}
	require.NoError(t, w.Close())
}

// soFar is what the standard library makes of the beginning of a compressed message.
func soFar(payload []byte) string {
	data, _ := io.ReadAll(flate.NewReader(bytes.NewReader(payload)))
	return string(data)
}

// RSV1 is on the first frame alone (RFC 7692, section 6.1), and each Write leaves at once.
func TestWriterCompresses(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		for _, opts := range []*wsd.WriterOptions{nil, {}, {Compress: wsd.CompressAlways}} {
			c, p := pair(t, wsd.Config{Compression: &wsd.Compression{}, MaxFrameSize: 1000})
			ends(t, c, p)
			w := c.Writer(t.Context(), wsd.TextMessage, opts)
			var payload []byte
			var sent string
			first := byte(0x41)
			for _, piece := range []string{"short", string(prose(1, 20_000)), "", "short again, short again"} {
				_, err := io.WriteString(w, piece)
				require.NoError(t, err)
				require.NoError(t, c.Flush(t.Context()))
				sent += piece
				for piece != "" && (len(payload) == 0 || sent != soFar(payload)) {
					f := p.receive()
					require.Equal(t, first, f.first)
					require.LessOrEqual(t, len(f.payload), 1000)
					first = 0x00
					payload = append(payload, f.payload...)
				}
			}
			require.Less(t, len(payload), len(sent))
			require.NoError(t, w.Close())
			require.Equal(t, frame{0x80, []byte{}}, p.receive())
			require.NoError(t, c.Writer(t.Context(), wsd.TextMessage, opts).Close())
			require.Equal(t, text(""), p.receive(), "there is nothing to compress")
		}
	})
}

func TestWriterThatDoesNotCompress(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{Compression: &wsd.Compression{}})
		ends(t, c, p)
		secret := strings.Repeat("secret", 1000)
		write(t, c.Writer(t.Context(), wsd.TextMessage, &wsd.WriterOptions{Compress: wsd.CompressNever}), secret)
		require.Equal(t, frame{0x01, []byte(secret)}, p.receive())
		require.Equal(t, frame{0x80, []byte{}}, p.receive())
	})
}

// Messages of Send, TrySend and Writer take turns with one window.
func TestWriterSharesTheWindow(t *testing.T) {
	eachTakeover(t, func(t *testing.T, agreed *wsd.Compression) {
		eachTransport(t, wsd.Config{Compression: agreed, StreamAbove: 50_000}, func(t *testing.T, client, server *wsd.Conn) {
			random := rand.New(rand.NewPCG(3, 4))
			var sent [][]byte
			for range 40 {
				size := 1 << random.IntN(18)
				start := random.IntN(1 << 10)
				sent = append(sent, prose(1, start+size)[start:])
			}
			kinds := random.Perm(len(sent))
			go func() {
				for i, m := range sent {
					var err error
					switch kinds[i] % 4 {
					case 0:
						err = client.Send(t.Context(), wsd.TextBytes(m))
					case 1:
						err = client.Send(t.Context(), wsd.Message{Type: wsd.TextMessage, Data: m, Compress: wsd.CompressNever})
					default:
						opts := &wsd.WriterOptions{}
						if i%7 == 0 {
							opts.Compress = wsd.CompressNever
						}
						w := client.Writer(t.Context(), wsd.TextMessage, opts)
						for rest := m; len(rest) > 0 && err == nil; {
							n := min(len(rest), 1+len(m)/(1+i%5))
							_, err = w.Write(rest[:n])
							rest = rest[n:]
						}
						err = errors.Join(err, w.Close())
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			}()
			for _, want := range sent {
				m, err := server.Receive(t.Context())
				require.NoError(t, err)
				got, err := io.ReadAll(m.Body())
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
				m.Release()
			}
		})
	})
}

// What has been written can be read, compressed too, while the message goes on.
func TestWhatWasWrittenCanBeRead(t *testing.T) {
	eachTakeover(t, func(t *testing.T, agreed *wsd.Compression) {
		eachTransport(t, wsd.Config{Compression: agreed, StreamAbove: 1}, func(t *testing.T, client, server *wsd.Conn) {
			w := client.Writer(t.Context(), wsd.BinaryMessage, nil)
			var body io.Reader
			for i, piece := range []string{"the first piece", "x", string(prose(2, 100_000)), "y", "the last one"} {
				wrote := make(chan error, 1)
				go func() {
					_, err := io.WriteString(w, piece)
					wrote <- err
				}()
				if i == 0 {
					m, err := server.Receive(t.Context())
					require.NoError(t, err)
					require.True(t, m.Streamed())
					body = m.Body()
				}
				got := make([]byte, len(piece))
				_, err := io.ReadFull(body, got)
				require.NoError(t, err)
				require.Equal(t, piece, string(got))
				require.NoError(t, <-wrote)
			}
			require.NoError(t, w.Close())
			n, err := body.Read(make([]byte, 1))
			require.Zero(t, n)
			require.Equal(t, io.EOF, err)
		})
	})
}

func TestWriterReadsFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{PingInterval: -1})
		ends(t, c, p)
		w := c.Writer(t.Context(), wsd.TextMessage, nil)
		source, to := io.Pipe()
		go func() {
			for _, piece := range []string{"as ", "it ", "comes \xE2", "\x82\xAC"} {
				_, _ = io.WriteString(to, piece)
				time.Sleep(time.Second)
			}
			to.Close()
		}()
		copied := make(chan int64, 1)
		go func() {
			n, err := w.(io.ReaderFrom).ReadFrom(source)
			if err != nil {
				t.Error(err)
			}
			copied <- n
		}()
		start := time.Now()
		require.Equal(t, frame{0x01, []byte("as ")}, p.receive())
		require.Equal(t, frame{0x00, []byte("it ")}, p.receive())
		require.Equal(t, frame{0x00, []byte("comes \xE2")}, p.receive())
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, frame{0x00, []byte("\x82\xAC")}, p.receive())
		require.Equal(t, int64(15), <-copied)
		// An error of the source leaves the message as it is.
		broken := errors.New("broken")
		n, err := w.(io.ReaderFrom).ReadFrom(io.MultiReader(strings.NewReader("more"), iotest.ErrReader(broken)))
		require.Equal(t, broken, err)
		require.Equal(t, int64(4), n)
		require.Equal(t, frame{0x00, []byte("more")}, p.receive())
		n, err = w.(io.ReaderFrom).ReadFrom(iotest.DataErrReader(strings.NewReader("and\xFF")))
		require.ErrorIs(t, err, wsd.ErrInvalidMessage)
		require.Zero(t, n)
		require.NoError(t, w.Close())
		require.Equal(t, frame{0x80, []byte{}}, p.receive())
		_, err = w.(io.ReaderFrom).ReadFrom(strings.NewReader("late"))
		require.ErrorIs(t, err, io.ErrClosedPipe)
	})
}

// A compressed message that is abandoned ends its connection, and harms no other: they share compressors.
func TestAbandonedCompressedMessage(t *testing.T) {
	eachTakeover(t, func(t *testing.T, agreed *wsd.Compression) {
		synctest.Test(t, func(t *testing.T) {
			for range 10 {
				c, p := servedConn(t, wsd.Config{Compression: agreed})
				ctx, cancel := context.WithCancelCause(t.Context())
				w := c.Writer(ctx, wsd.TextMessage, nil)
				_, err := w.Write(prose(1, 5000))
				require.NoError(t, err)
				require.Equal(t, byte(0x41), p.receive().first)
				impatient := errors.New("impatient")
				cancel(impatient)
				for f := p.receive(); f.first != 0x88; f = p.receive() {
					require.Equal(t, byte(0x00), f.first)
				}
				_, err = w.Write([]byte("more"))
				require.ErrorIs(t, err, wsd.ErrClosed)
				require.ErrorIs(t, err, impatient)
				p.send(closeFrame(1011))
				<-c.Closed()
				p.close()

				next, q := servedConn(t, wsd.Config{Compression: agreed})
				ends(t, next, q)
				write(t, next.Writer(t.Context(), wsd.TextMessage, nil), string(prose(2, 5000)))
				var payload []byte
				for f := q.receive(); ; f = q.receive() {
					payload = append(payload, f.payload...)
					if f.first&0x80 != 0 {
						break
					}
				}
				require.Equal(t, string(prose(2, 5000)), string(inflated(t, payload, nil)))
			}
		})
	})
}

// While a Writer has the turn, nothing else waits for it that is not to wait.
func TestTrySendBesideACompressingWriter(t *testing.T) {
	eachTakeover(t, func(t *testing.T, agreed *wsd.Compression) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{Compression: agreed, PingInterval: -1})
			ends(t, c, p)
			w := c.Writer(t.Context(), wsd.TextMessage, nil)
			_, err := w.Write(prose(1, 5000))
			require.NoError(t, err)
			long := wsd.TextBytes(prose(2, 5000))
			require.ErrorIs(t, c.TrySend(long), wsd.ErrQueueFull)
			require.NoError(t, w.Close())
			require.NoError(t, c.Flush(t.Context()))
			require.NoError(t, c.TrySend(long))
		})
	})
}

// A long Write goes in fragments that one write takes, which hold what was written when it was.
func TestWriterSendsLongFragments(t *testing.T) {
	const most = 127 << 10
	eachRole(t, func(t *testing.T, pair newPair) {
		for _, row := range []struct {
			size, longest, queue int
			want                 []int
		}{
			{32<<10 - 1, 0, 0, []int{32<<10 - 1}},
			{32 << 10, 0, 0, []int{32 << 10}},
			{most, 0, 0, []int{most}},
			{most + 1, 0, 0, []int{most / 2, most/2 + 1}}, // not a fragment of a byte
			{100_000, 0, 1000, []int{32 << 10, 32 << 10, 32 << 10, 100_000 - 96<<10}},
			{1 << 20, 0, 0, []int{most, most, most, most, most, most, most, (1<<20 - 7*most) / 2, (1<<20 - 7*most) / 2}},
			{100_000, 40_000, 0, []int{40_000, 30_000, 30_000}},
			{2500, 1000, 0, []int{1000, 1000, 500}},
		} {
			c, p := pair(t, wsd.Config{MaxFrameSize: row.longest, SendQueue: row.queue})
			background := ends(t, c, p)
			data := prose(uint64(row.size), row.size)
			want := bytes.Clone(data)
			background.Go(func() {
				w := c.Writer(t.Context(), wsd.TextMessage, nil)
				n, err := w.Write(data)
				clear(data) // which is the caller's again
				if n != len(data) || err != nil {
					t.Error(n, err)
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
			var got []byte
			first := byte(0x01)
			for _, size := range row.want {
				synctest.Wait() // whatever can be written is
				f := p.receive()
				require.Equal(t, first, f.first)
				require.Len(t, f.payload, size)
				got = append(got, f.payload...)
				first = 0x00
			}
			require.True(t, bytes.Equal(want, got))
			require.Equal(t, frame{0x80, []byte{}}, p.receive())
		}
	})
}

// ReadFrom reads more at a time from a source that fills what it is given, and less from one that does not.
func TestWriterReadsAsMuchAsComes(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		for _, row := range []struct {
			longest int
			sizes   []int // what the source returns at most, one Read after the other
			want    []int
		}{
			{0, []int{1 << 20, 1 << 20, 1 << 20, 1 << 20, 100, 1 << 20, 1 << 20, 10, 10, 10, 1 << 20},
				[]int{31 << 10, 63 << 10, 127 << 10, 127 << 10, 100, 63 << 10, 127 << 10, 10, 10, 10, 31 << 10}},
			{50_000, []int{1 << 20, 1 << 20, 1 << 20}, []int{31 << 10, 50_000, 50_000}},
			{1000, []int{1 << 20, 1 << 20, 10}, []int{1000, 1000, 10}},
		} {
			c, p := pair(t, wsd.Config{MaxFrameSize: row.longest})
			background := ends(t, c, p)
			var want []byte
			for i, size := range row.want {
				want = append(want, prose(uint64(i), size)...)
			}
			background.Go(func() {
				w := c.Writer(t.Context(), wsd.TextMessage, nil)
				n, err := w.(io.ReaderFrom).ReadFrom(&readsOf{bytes.NewReader(want), row.sizes})
				if n != int64(len(want)) || err != nil {
					t.Error(n, err)
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
			var got []byte
			for _, size := range row.want {
				f := p.receive()
				require.Len(t, f.payload, size)
				got = append(got, f.payload...)
			}
			require.True(t, bytes.Equal(want, got))
			require.Equal(t, frame{0x80, []byte{}}, p.receive())
		}
	})
}

// readsOf is a source whose Reads return no more than sizes says.
type readsOf struct {
	io.Reader
	sizes []int
}

func (r *readsOf) Read(b []byte) (int, error) {
	if len(r.sizes) == 0 {
		return 0, io.EOF
	}
	n, err := r.Reader.Read(b[:min(len(b), r.sizes[0])])
	r.sizes = r.sizes[1:]
	return n, err
}

// Connections that end in the middle of long fragments, which they have on loan, harm none of those that lend the same memory.
func TestMessagesThatBreakOffHarmNoOthers(t *testing.T) {
	for _, agreed := range []*wsd.Compression{nil, {}} {
		cfg := wsd.Config{StreamAbove: 1000, Compression: agreed}
		block := prose(7, 200_000)
		var group sync.WaitGroup
		for i := range 4 {
			a, b := tcpPair(t)
			from, to := wsd.NewConn(a, wsd.ClientRole, cfg), wsd.NewConn(b, wsd.ServerRole, cfg)
			if i%2 > 0 {
				from, to = to, from
			}
			whole := i < 2
			group.Go(func() {
				defer from.CloseNow()
				w := from.Writer(t.Context(), wsd.BinaryMessage, nil)
				_, err := w.(io.ReaderFrom).ReadFrom(io.LimitReader(&pattern{block: block}, 1<<20))
				if err == nil {
					_, err = w.Write(block)
				}
				if err == nil {
					err = w.Close()
				}
				if whole && err != nil {
					t.Error(err)
				}
				<-to.Closed()
			})
			group.Go(func() {
				defer to.CloseNow()
				m, err := to.Receive(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				body := m.Body()
				if !whole {
					_, _ = io.CopyN(io.Discard, body, 500_000)
					from.CloseNow()
				}
				got, err := io.ReadAll(body)
				if whole && err != nil {
					t.Error(err)
				}
				want, _ := io.ReadAll(io.LimitReader(&pattern{block: block}, 1<<20))
				want = append(want, block...)
				if !whole {
					want = want[500_000:]
					want = want[:min(len(got), len(want))]
				}
				if !bytes.Equal(want, got) {
					t.Error("other bytes than were written")
				}
			})
		}
		group.Wait()
	}
}
