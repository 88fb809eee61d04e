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
