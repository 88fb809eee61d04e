package wsd_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

// eachTransport runs a test with both ends of a connection: in memory, over TCP and over a unix socket.
func eachTransport(t *testing.T, cfg wsd.Config, test func(t *testing.T, client, server *wsd.Conn)) {
	for name, connect := range map[string]func(*testing.T) (io.ReadWriteCloser, io.ReadWriteCloser){
		"memory": func(*testing.T) (io.ReadWriteCloser, io.ReadWriteCloser) { return wsdtest.Transport() },
		"tcp":    func(t *testing.T) (io.ReadWriteCloser, io.ReadWriteCloser) { return tcpPair(t) },
		"unix":   func(t *testing.T) (io.ReadWriteCloser, io.ReadWriteCloser) { return wiretest.Pair(t, "unix") },
		"synchronous": func(*testing.T) (io.ReadWriteCloser, io.ReadWriteCloser) {
			return net.Pipe() // every Write waits for the Read that takes it
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := connect(t)
			client, server := wsd.NewConn(a, wsd.ClientRole, cfg), wsd.NewConn(b, wsd.ServerRole, cfg)
			defer client.CloseNow()
			defer server.CloseNow()
			test(t, client, server)
		})
	}
}

var sizes = []int{0, 1, 125, 126, 127, 511, 512, 513, 4096, 65535, 65536, 65537, 1 << 20, 1<<20 + 1, 5 << 20}

func TestEchoOfEverySize(t *testing.T) {
	eachTransport(t, wsd.Config{}, func(t *testing.T, client, server *wsd.Conn) {
		go echo(server)
		for _, size := range sizes {
			data := make([]byte, size)
			for i := range data {
				data[i] = byte('a' + i%26)
			}
			for _, m := range []wsd.Message{{Type: wsd.BinaryMessage, Data: data}, {Type: wsd.TextMessage, Data: data}} {
				require.NoError(t, client.Send(t.Context(), m))
				got, err := client.Receive(t.Context())
				require.NoError(t, err)
				require.Equal(t, m.Type, got.Type)
				require.True(t, bytes.Equal(m.Data, got.Data), "%d bytes", size)
			}
		}
		require.NoError(t, client.Close(wsd.StatusNormalClosure, "done"))
		<-server.Closed()
		for _, c := range []*wsd.Conn{client, server} {
			event := c.CloseEvent()
			require.True(t, event.Clean)
			require.Equal(t, wsd.StatusNormalClosure, event.Code)
			require.Equal(t, &wsd.CloseError{Code: event.Code, Reason: event.Reason, Local: c == client}, event.Err)
			_, open := <-c.Errors()
			require.False(t, open, "a clean end is no error")
			stats := c.Stats()
			require.EqualValues(t, 2*len(sizes), stats.MessagesSent)
			require.EqualValues(t, 2*len(sizes), stats.MessagesReceived)
			require.Equal(t, stats.BytesSent, stats.BytesReceived)
		}
	})
}

// Many senders and a consumer on both sides: nothing is lost, repeated, mixed up or out of a sender's order.
func TestConcurrentSenders(t *testing.T) {
	eachTransport(t, wsd.Config{SendQueue: 4 << 10}, func(t *testing.T, client, server *wsd.Conn) {
		const senders, each = 16, 200
		var all sync.WaitGroup
		for _, c := range []*wsd.Conn{client, server} {
			for s := range senders {
				all.Go(func() {
					for i := range each {
						head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(s)), uint32(i))
						size := i % 300
						if s == 0 && i%50 == 0 {
							size = 100 << 10
						}
						data := append(head, bytes.Repeat([]byte{byte(s)}, size)...)
						if s == 1 && i%10 == 0 {
							w := c.Writer(t.Context(), wsd.BinaryMessage, nil)
							for piece := range chunks(data, 50) {
								if _, err := w.Write(piece); err != nil {
									t.Error(err)
								}
							}
							if err := w.Close(); err != nil {
								t.Error(err)
							}
							continue
						}
						if err := c.Send(t.Context(), wsd.Binary(data)); err != nil {
							t.Error(err)
							return
						}
						if i%70 == 0 {
							if _, err := c.Ping(t.Context(), nil); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			all.Go(func() {
				var next [senders]uint32
				for range senders * each {
					m, err := c.Receive(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					s, i := binary.BigEndian.Uint32(m.Data), binary.BigEndian.Uint32(m.Data[4:])
					if next[s] != i {
						t.Errorf("sender %d: message %d came for %d", s, i, next[s])
					}
					next[s]++
					if bytes.Count(m.Data[8:], []byte{byte(s)}) != len(m.Data)-8 {
						t.Errorf("sender %d: bytes of another", s)
					}
				}
			})
		}
		all.Wait()
		require.NoError(t, client.Flush(t.Context()))
		require.NoError(t, server.Close(wsd.StatusNormalClosure, ""))
		<-client.Closed()
		require.Zero(t, client.Stats().MessagesDropped)
	})
}

func chunks(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// countingTransport counts write calls.
type countingTransport struct {
	io.ReadWriteCloser
	writes atomic.Int64
}

func (c *countingTransport) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.ReadWriteCloser.Write(p)
}

func TestSendersCoalesce(t *testing.T) {
	a, b := wsdtest.Transport()
	counting := &countingTransport{ReadWriteCloser: b}
	server := wsd.NewConn(counting, wsd.ServerRole, wsd.Config{})
	defer server.CloseNow()
	go func() { _, _ = io.Copy(io.Discard, a) }()
	const senders, each = 100, 100
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range each {
				if err := server.Send(t.Context(), wsd.Text("a message of a few bytes")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, server.Flush(t.Context()))
	require.Less(t, counting.writes.Load(), int64(senders*each/10))
	require.EqualValues(t, counting.writes.Load(), server.Stats().Writes)
	a.Close()
}

func TestSendAllocatesNothing(t *testing.T) {
	for name, size := range map[string]int{"small": 64, "medium": 10 << 10, "large": 256 << 10} {
		for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
			t.Run(fmt.Sprint(name, " ", role), func(t *testing.T) {
				a, b := tcpPair(t)
				defer a.Close()
				go func() { _, _ = io.Copy(io.Discard, a) }()
				c := wsd.NewConn(b, role, wsd.Config{})
				defer c.CloseNow()
				if wsd.RaceEnabled {
					t.Skip("under the race detector sync.Pool forgets what it holds")
				}
				m := wsd.Binary(make([]byte, size))
				ctx := context.Background()
				require.Zero(t, testing.AllocsPerRun(2000, func() {
					if err := c.Send(ctx, m); err != nil {
						t.Fatal(err)
					}
				}))
			})
		}
	}
}

func TestReceiveAllocatesAtMostOnce(t *testing.T) {
	if wsd.RaceEnabled {
		t.Skip("under the race detector sync.Pool forgets what it holds")
	}
	client, server := tcpPair(t)
	c := wsd.NewConn(server, wsd.ServerRole, wsd.Config{})
	defer c.CloseNow()
	go echo(c)
	request := encodeFrame(binaryFrame(make([]byte, 64)), true)
	answer := make([]byte, 66)
	require.LessOrEqual(t, testing.AllocsPerRun(2000, func() {
		if _, err := client.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, answer); err != nil {
			t.Fatal(err)
		}
	}), 1.0)
	client.Close()
}

func TestSendWaitsWhileTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{SendQueue: 10000, PingInterval: -1})
		defer p.close()
		defer c.CloseNow()
		ctx, cancel := context.WithCancel(t.Context())
		accepted := 0
		done := make(chan error)
		go func() {
			for {
				if err := c.Send(ctx, wsd.Binary(bytes.Repeat([]byte{byte(accepted)}, 1000))); err != nil {
					done <- err
					return
				}
				accepted++
			}
		}()
		synctest.Wait()
		require.Less(t, accepted*1000, 64<<10+3*10000, "the pipe's buffer, what is being written, and the queue")
		cancel()
		err := <-done
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, wsd.StateOpen, c.State(), "a Send that waits does no harm")

		// Everything that was accepted arrives, and nothing else.
		require.NoError(t, c.Send(contextReading(t, p, accepted), wsd.Text("next")))
		require.Equal(t, text("next"), p.receive())
	})
}

// contextReading reads the accepted messages in the background, and returns a context for the next Send.
func contextReading(t *testing.T, p *peer, accepted int) context.Context {
	for i := range accepted {
		f := p.receive()
		require.Equal(t, binaryFrame(bytes.Repeat([]byte{byte(i)}, 1000)), f)
	}
	return t.Context()
}

// A sender that leaves the line makes room for those behind it, whether or not anything is written meanwhile.
func TestSenderThatLeavesLetsTheNextOneIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{SendQueue: 1000, PingInterval: -1})
		defer p.close()
		defer c.CloseNow()
		for stuck := false; !stuck; {
			writes := c.Stats().Writes
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 500))))
			synctest.Wait()
			stuck = c.Stats().Writes == writes
		}
		require.NoError(t, c.Send(t.Context(), wsd.Text("queued behind what is being written")))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		long, short := make(chan error, 1), make(chan error, 1)
		go func() { long <- c.Send(ctx, wsd.Binary(make([]byte, 980))) }()
		synctest.Wait()
		go func() { short <- c.Send(t.Context(), wsd.Text("short")) }()
		synctest.Wait()
		require.Empty(t, long)
		require.Empty(t, short, "first come, first served")
		cancel()
		synctest.Wait()
		require.ErrorIs(t, <-long, context.Canceled)
		require.Len(t, short, 1)
		require.NoError(t, <-short)
	})
}

func TestSendersWaitForAMessageInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{SendQueue: 100, PingInterval: -1})
		defer p.close()
		defer c.CloseNow()
		w := c.Writer(t.Context(), wsd.TextMessage, nil)
		_, err := w.Write([]byte("in "))
		require.NoError(t, err)
		var senders sync.WaitGroup
		for i := range 5 {
			senders.Go(func() { _ = c.Send(t.Context(), wsd.Text(fmt.Sprint(i))) })
			synctest.Wait()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Send(impatient, wsd.Text("too late")), context.DeadlineExceeded)
		p.send(ping("control frames do not wait"))
		_, err = w.Write([]byte("pieces"))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		senders.Wait()
		var got []frame
		for range 9 {
			got = append(got, p.receive())
		}
		pongs := 0
		rest := got[:0]
		for _, f := range got {
			if f.first == 0x8A {
				pongs++
				continue
			}
			rest = append(rest, f)
		}
		require.Equal(t, 1, pongs)
		require.Equal(t, []frame{{0x01, []byte("in ")}, {0x00, []byte("pieces")}, {0x80, []byte{}}}, rest[:3])
		require.ElementsMatch(t, []frame{text("0"), text("1"), text("2"), text("3"), text("4")}, rest[3:])
	})
}

func TestWriter(t *testing.T) {
	t.Run("large pieces, slow peer", func(t *testing.T) {
		eachTransport(t, wsd.Config{SendQueue: 1000}, func(t *testing.T, client, server *wsd.Conn) {
			want := strings.Repeat("0123456789", 50000)
			go func() {
				w := server.Writer(t.Context(), wsd.TextMessage, nil)
				if n, err := io.Copy(w, strings.NewReader(want)); err != nil || n != int64(len(want)) {
					t.Error(n, err)
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			}()
			m, err := client.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, wsd.TextMessage, m.Type)
			require.True(t, want == string(m.Data))
		})
	})
	t.Run("fragments are queued while others are being written", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := wsdtest.Transport()
			defer a.Close()
			stuck := make(chan struct{})
			write := func(p []byte) (int, error) { <-stuck; return b.Write(p) }
			c := wsd.NewConn(&strange{read: b.Read, write: write, close: b.Close}, wsd.ServerRole, wsd.Config{PingInterval: -1})
			written := make(chan struct{})
			go func() {
				defer close(written)
				_, err := c.Writer(t.Context(), wsd.BinaryMessage, nil).Write(make([]byte, 64<<10)) // two fragments
				if err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
			select {
			case <-written:
			default:
				t.Error("the second fragment waits for the first to be written, with room in the queue")
			}
			close(stuck)
			<-written
			c.CloseNow()
		})
	})
	t.Run("nothing written is an empty message", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		defer p.close()
		defer c.CloseNow()
		require.NoError(t, c.Writer(t.Context(), wsd.BinaryMessage, nil).Close())
		require.Equal(t, frame{0x82, []byte{}}, p.receive())
	})
	t.Run("text is checked across pieces", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		defer p.close()
		defer c.CloseNow()
		w := c.Writer(t.Context(), wsd.TextMessage, nil)
		_, err := w.Write([]byte("\xE2\x82"))
		require.NoError(t, err)
		_, err = w.Write([]byte("x"))
		require.ErrorIs(t, err, wsd.ErrInvalidMessage, "and nothing of it was sent")
		_, err = w.Write([]byte("\xAC"))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		_, err = w.Write([]byte("late"))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.Error(t, w.Close())
		require.Equal(t, frame{0x01, []byte("\xE2\x82")}, p.receive())
		require.Equal(t, frame{0x00, []byte("\xAC")}, p.receive())
		require.Equal(t, frame{0x80, []byte{}}, p.receive())
	})
	t.Run("text that ends inside a character", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		w := c.Writer(t.Context(), wsd.TextMessage, nil)
		_, err := w.Write([]byte("\xE2\x82"))
		require.NoError(t, err)
		require.ErrorIs(t, w.Close(), wsd.ErrInvalidMessage)
		p.receive()
		require.Equal(t, closePayload(1011, "a message could not be completed"), p.receive().payload)
		p.send(closeFrame(1011))
		<-c.Closed()
		p.close()
	})
	t.Run("a context that ends in the middle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			ctx, cancel := context.WithCancelCause(t.Context())
			w := c.Writer(ctx, wsd.TextMessage, nil)
			_, err := w.Write([]byte("begun"))
			require.NoError(t, err)
			impatient := errors.New("impatient")
			cancel(impatient)
			require.Equal(t, frame{0x01, []byte("begun")}, p.receive())
			require.Equal(t, closePayload(1011, "a message could not be completed"), p.receive().payload)
			_, err = w.Write([]byte("more"))
			require.ErrorIs(t, err, wsd.ErrClosed)
			require.ErrorIs(t, err, impatient)
			p.send(closeFrame(1011))
			<-c.Closed()
			p.close()
		})
	})
	t.Run("a context that ends before anything was written", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		defer p.close()
		defer c.CloseNow()
		ctx, cancel := context.WithCancel(t.Context())
		w := c.Writer(ctx, wsd.TextMessage, nil)
		cancel()
		_, err := w.Write([]byte("x"))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, w.Close(), context.Canceled)
		require.Equal(t, wsd.StateOpen, c.State())
		require.NoError(t, c.Send(t.Context(), wsd.Text("unharmed")))
		require.Equal(t, text("unharmed"), p.receive())
	})
	t.Run("neither text nor binary", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		defer p.close()
		defer c.CloseNow()
		_, err := c.Writer(t.Context(), 9, nil).Write([]byte("x"))
		require.ErrorIs(t, err, wsd.ErrInvalidMessage)
	})
}

func TestCancelledSendOfALargeMessage(t *testing.T) {
	t.Run("that has not begun", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			defer c.CloseNow()
			first := make(chan error)
			go func() { first <- c.Send(t.Context(), wsd.Binary(make([]byte, 200<<10))) }()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, c.Send(ctx, wsd.Binary(make([]byte, 200<<10))), context.DeadlineExceeded)
			require.Equal(t, wsd.StateOpen, c.State())
			require.Len(t, p.receive().payload, 200<<10)
			require.NoError(t, <-first)
			require.NoError(t, c.Send(t.Context(), wsd.Text("unharmed")))
			require.Equal(t, text("unharmed"), p.receive())
			require.EqualValues(t, 2, c.Stats().MessagesSent)
		})
	})
	t.Run("that is cut in the middle", func(t *testing.T) {
		for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
			synctest.Test(t, func(t *testing.T) {
				a, b := wsdtest.Transport()
				c := wsd.NewConn(b, role, wsd.Config{PingInterval: -1})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := c.Send(ctx, wsd.Binary(make([]byte, 5<<20)))
				require.Error(t, err)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				<-c.Closed()
				require.ErrorIs(t, c.CloseEvent().Err, context.DeadlineExceeded)
				a.Close()
			})
		}
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{SendQueue: -1, PingInterval: -1})
		defer p.close()
		require.NoError(t, c.Flush(t.Context()), "nothing to wait for")
		for range 100 {
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Flush(ctx), context.DeadlineExceeded)
		flushed := make(chan error, 1)
		go func() { flushed <- c.Flush(t.Context()) }()
		for range 60 {
			p.receive()
		}
		synctest.Wait()
		require.Empty(t, flushed, "forty messages are more than the pipe holds")
		for range 40 {
			p.receive()
		}
		require.NoError(t, <-flushed)

		for range 100 {
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
		}
		go func() { flushed <- c.Flush(t.Context()) }()
		synctest.Wait()
		c.CloseNow()
		require.ErrorIs(t, <-flushed, wsd.ErrClosed)
	})
}

func TestPing(t *testing.T) {
	eachTransport(t, wsd.Config{}, func(t *testing.T, client, server *wsd.Conn) {
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				var payload []byte
				if i%2 == 0 {
					payload = []byte(fmt.Sprint(i))
				}
				roundTrip, err := client.Ping(t.Context(), payload)
				if err != nil || roundTrip <= 0 {
					t.Error(roundTrip, err)
				}
			})
		}
		all.Wait()
	})
	t.Run("round trips and payloads", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			defer p.close()
			defer c.CloseNow()
			got := make(chan string, 10)
			for i, payload := range []string{"a", "b", "c", "b"} {
				go func() {
					roundTrip, err := c.Ping(t.Context(), []byte(payload))
					got <- fmt.Sprintln(i, payload, roundTrip, err)
				}()
				synctest.Wait()
				require.Equal(t, ping(payload), p.receive())
			}
			p.send(pong("unsolicited"), pong(""))
			time.Sleep(time.Second)
			p.send(pong("a"))
			require.Equal(t, "0 a 1s <nil>\n", <-got)
			time.Sleep(time.Second)
			p.send(pong("c")) // answers b, which is older, too
			synctest.Wait()
			require.ElementsMatch(t, []string{"1 b 2s <nil>\n", "2 c 2s <nil>\n"}, []string{<-got, <-got})
			require.Empty(t, got)
			p.send(pong("b"))
			require.Equal(t, "3 b 2s <nil>\n", <-got)
		})
	})
	t.Run("no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Ping(ctx, nil)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			ended := make(chan error)
			go func() {
				_, err := c.Ping(t.Context(), nil)
				ended <- err
			}()
			synctest.Wait()
			c.CloseNow()
			require.ErrorIs(t, <-ended, wsd.ErrClosed)
		})
	})
	t.Run("too long", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		defer p.close()
		defer c.CloseNow()
		_, err := c.Ping(t.Context(), make([]byte, 126))
		require.ErrorIs(t, err, wsd.ErrMessageTooBig)
		require.Equal(t, wsd.StateOpen, c.State())
	})
	t.Run("a flood of pings of our own, to a peer that reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var all sync.WaitGroup
			for range 3000 {
				all.Go(func() {
					if _, err := c.Ping(ctx, make([]byte, 125)); !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			c.CloseNow()
		})
	})
}

func TestKeepalive(t *testing.T) {
	t.Run("a silent peer is given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			defer p.close()
			start := time.Now()
			<-c.Closed()
			require.Equal(t, 50*time.Second, time.Since(start), "a ping after 30 s, and 20 s for the answer")
			require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrPongTimeout)
			require.ErrorIs(t, <-c.Errors(), wsd.ErrPongTimeout)
			require.Equal(t, byte(0x89), p.receive().first)
		})
	})
	t.Run("a peer that answers stays", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, server := wsdtest.Pipe(wsd.Config{PingInterval: -1}, wsd.Config{PingInterval: time.Second, PongTimeout: time.Minute})
			time.Sleep(time.Hour)
			require.Equal(t, wsd.StateOpen, server.State())
			client.CloseNow()
			server.CloseNow()
		})
	})
	t.Run("bytes of a long frame are a sign of life", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			defer p.close()
			slow := p.encode(binaryFrame(make([]byte, 300)))
			for _, b := range slow {
				p.sendRaw([]byte{b})
				time.Sleep(10 * time.Second)
			}
			require.Len(t, (<-c.Messages()).Data, 300)
			c.CloseNow()
		})
	})
	t.Run("a peer that reads slowly is not silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := wsdtest.Transport()
			slowly := func(p []byte) (int, error) {
				time.Sleep(time.Second)
				return a.Read(p[:min(len(p), 16<<10)])
			}
			client := wsd.NewConn(&strange{read: slowly, write: a.Write, close: a.Close}, wsd.ClientRole, wsd.Config{PingInterval: -1})
			server := wsd.NewConn(b, wsd.ServerRole, wsd.Config{})
			// Three minutes for the message, and a minute for the frame that pings wait behind.
			require.NoError(t, server.Send(t.Context(), wsd.Binary(make([]byte, 3<<20))))
			require.Len(t, (<-client.Messages()).Data, 3<<20)
			require.Equal(t, wsd.StateOpen, server.State())
			server.CloseNow()
			client.CloseNow()
		})
	})
	t.Run("pings come at their interval, however long the answer may take", func(t *testing.T) {
		for _, within := range []time.Duration{time.Second, 10 * time.Second, 20 * time.Second, 25 * time.Second, -1} {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{PingInterval: 10 * time.Second, PongTimeout: within})
				defer p.close()
				start := time.Now()
				for i := range 10 {
					f := p.receive()
					require.Equal(t, byte(0x89), f.first)
					require.Equal(t, time.Duration(i+1)*10*time.Second, time.Since(start), within)
					p.send(frame{0x8A, f.payload})
				}
				require.Equal(t, wsd.StateOpen, c.State())
				c.CloseNow()
			})
		}
	})
	t.Run("a silent peer is given up so long after the first ping without an answer", func(t *testing.T) {
		for _, within := range []time.Duration{time.Second, 10 * time.Second, 20 * time.Second, 25 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{PingInterval: 10 * time.Second, PongTimeout: within})
				defer p.close()
				start := time.Now()
				go func() {
					f, _ := p.tryReceive()
					p.send(frame{0x8A, f.payload}) // and never again
				}()
				<-c.Closed()
				require.Equal(t, 20*time.Second+within, time.Since(start))
				require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrPongTimeout)
			})
		}
	})
	t.Run("a consumer that stalled before the ping is no excuse", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{MessageBuffer: -1})
			defer p.close()
			start := time.Now()
			p.send(text("waits"))
			time.Sleep(time.Second)
			<-c.Messages()
			<-c.Closed()
			require.Equal(t, 50*time.Second, time.Since(start))
			require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrPongTimeout)
		})
	})
	t.Run("pings only, no deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PongTimeout: -1, PingInterval: 10 * time.Second})
			defer p.close()
			start := time.Now()
			for range 5 {
				require.Equal(t, byte(0x89), p.receive().first)
			}
			require.Equal(t, 50*time.Second, time.Since(start))
			c.CloseNow()
		})
	})
	t.Run("off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			time.Sleep(24 * time.Hour)
			require.Equal(t, wsd.StateOpen, c.State())
			c.CloseNow()
			p.expectEOF()
		})
	})
}

func TestReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Receive(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, wsd.StateOpen, c.State(), "only the waiting ends with the context")
		p.send(text("one"), text("two"), closeFrame(1001))
		synctest.Wait()
		for _, want := range []string{"one", "two"} {
			m, err := c.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, string(m.Data))
		}
		_, err = c.Receive(t.Context())
		var closed *wsd.CloseError
		require.ErrorAs(t, err, &closed)
		require.Equal(t, wsd.StatusGoingAway, closed.Code)
		p.close()
		<-c.Closed()
	})
}

func TestNilContext(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	defer p.close()
	defer c.CloseNow()
	var none context.Context
	_, pingErr := c.Ping(none, nil)
	_, receiveErr := c.Receive(none)
	_, writeErr := c.Writer(none, wsd.TextMessage, nil).Write([]byte("x"))
	for _, err := range []error{c.Send(none, wsd.Text("x")), c.Flush(none), pingErr, receiveErr, writeErr} {
		require.ErrorIs(t, err, wsd.ErrNilContext)
	}
	require.Equal(t, wsd.StateOpen, c.State())
}

// The cause of a context may be the end of another connection, and has a prefix of its own.
func TestErrorsAreNotPrefixedTwice(t *testing.T) {
	other, otherPeer := servedConn(t, wsd.Config{})
	defer otherPeer.close()
	other.CloseNow()
	gone := other.Context()

	c, p := servedConn(t, wsd.Config{})
	defer p.close()
	_, pingErr := c.Ping(gone, nil)
	_, receiveErr := c.Receive(gone)
	_, writeErr := c.Writer(gone, wsd.TextMessage, nil).Write([]byte("x"))
	_, _, dialErr := wsd.Dial(gone, "ws://127.0.0.1:1", nil)
	errs := []error{c.Send(gone, wsd.Text("x")), c.Flush(gone), pingErr, receiveErr, writeErr, dialErr}
	for _, err := range errs {
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, net.ErrClosed)
	}
	// A message that is not completed has an error within the cause.
	cut := c.Writer(t.Context(), wsd.TextMessage, nil)
	_, err := cut.Write([]byte("\xC3"))
	require.NoError(t, err)
	errs = append(errs, cut.Close())
	c.CloseNow()
	require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrInvalidMessage)
	errs = append(errs, c.CloseEvent().Err, c.Send(t.Context(), wsd.Text("x")))
	for _, err := range errs {
		require.Equal(t, 0, strings.LastIndex(err.Error(), "wsd: "), err.Error())
	}
}

func TestSendRefusesWhatMayNotBeSent(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	defer p.close()
	defer c.CloseNow()
	for _, m := range []wsd.Message{{}, {Type: 8}, wsd.Text("\xFF"), wsd.Text("cut \xE2\x82")} {
		require.ErrorIs(t, c.Send(t.Context(), m), wsd.ErrInvalidMessage)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Send(gone, wsd.Text("x")), context.Canceled)
	require.NoError(t, c.Send(t.Context(), wsd.Text("fine")))
	require.Equal(t, text("fine"), p.receive(), "nothing of the others was sent")
}

func TestACodeThatMayNotBeSentClosesAll(t *testing.T) {
	for code, reason := range map[wsd.StatusCode]string{1006: "", 1015: "", 0: "", 2000: "", 65535: ""} {
		c, p := servedConn(t, wsd.Config{})
		var argument *wsd.CloseArgumentError
		require.ErrorAs(t, c.StartClose(code, reason), &argument)
		require.Equal(t, code, argument.Code)
		require.Equal(t, closeFrame(1011), p.receive())
		p.send(closeFrame(1011))
		<-c.Closed()
		require.Equal(t, wsd.StatusInternalError, c.CloseEvent().SentCode)
		require.True(t, c.CloseEvent().Clean)
		p.close()
	}
}

func TestCloseFromManyGoroutines(t *testing.T) {
	eachTransport(t, wsd.Config{}, func(t *testing.T, client, server *wsd.Conn) {
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				c := client
				if i%2 == 0 {
					c = server
				}
				if err := c.Close(wsd.StatusCode(4000+i), "together"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.True(t, client.CloseEvent().Clean)
		require.True(t, server.CloseEvent().Clean)
		require.NoError(t, client.Close(wsd.StatusNormalClosure, "again"))
	})
}

func TestCloseCodesTravel(t *testing.T) {
	for _, code := range []wsd.StatusCode{1000, 1001, 1011, 3000, 4999, wsd.StatusNoStatus} {
		eachTransport(t, wsd.Config{}, func(t *testing.T, client, server *wsd.Conn) {
			reason := "why"
			if code == wsd.StatusNoStatus {
				reason = ""
			}
			require.NoError(t, client.Send(t.Context(), wsd.Text("ahead of the close frame")))
			require.NoError(t, client.Close(code, reason))
			m, err := server.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, "ahead of the close frame", string(m.Data))
			<-server.Closed()
			require.Equal(t, code, server.CloseEvent().Code)
			require.Equal(t, reason, server.CloseEvent().Reason)
			require.Equal(t, code, client.CloseEvent().Code, "the answer repeats it")
		})
	}
}

func TestCloseAnswerRepeatsTheCode(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	p.send(text("last words"), frame{0x88, closePayload(4002, "mine")})
	require.Equal(t, "last words", string((<-c.Messages()).Data))
	_, open := <-c.Messages()
	require.False(t, open, "the close frame has come")
	require.NoError(t, c.Close(wsd.StatusNormalClosure, "a handler that is done"))
	p.expectClose(4002)
	p.close()
}

func TestServerEndsTheTransportFirst(t *testing.T) {
	t.Run("a server does not wait for the client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			start := time.Now()
			p.send(closeFrame(1000))
			p.expectClose(1000)
			<-c.Closed()
			require.Zero(t, time.Since(start))
		})
	})
	t.Run("a client waits for the server, but not for long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := clientConn(t, wsd.Config{})
			start := time.Now()
			p.send(closeFrame(1000))
			<-c.Closed()
			require.Equal(t, time.Second, time.Since(start))
			require.True(t, c.CloseEvent().Clean)
			p.close()
		})
	})
}

// docs/decisions.md, "The end of a failed connection's bytes waits for a pause".
func TestViolationIsSeenByAPeerThatStillSends(t *testing.T) {
	client, server := tcpPair(t)
	c := wsd.NewConn(server, wsd.ServerRole, wsd.Config{})
	p := &peer{t, client, true}
	// Megabytes behind the violation are never parsed; a reset for them must not overtake the close frame.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = client.Write(append([]byte{0x83, 0x80}, make([]byte, 8<<20)...))
	}()
	<-sent
	f := p.receive()
	require.Equal(t, byte(0x88), f.first)
	require.Equal(t, uint16(1002), binary.BigEndian.Uint16(f.payload))
	p.close()
	<-c.Closed()
}

func TestFragmentsOfLargeMessagesLetPongsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, pair := range []func(testing.TB, wsd.Config) (*wsd.Conn, *peer){servedConn, clientConn} {
			c, p := pair(t, wsd.Config{})
			const size = 10 << 20
			sent := make(chan error)
			go func() { sent <- c.Send(t.Context(), wsd.Binary(make([]byte, size))) }()
			synctest.Wait()
			p.send(ping("now"))
			synctest.Wait()
			before, total, answered := 0, 0, false
			for total < size {
				f := p.receive()
				if f.first == 0x8A {
					answered = true
					continue
				}
				total += len(f.payload)
				if !answered {
					before = total
				}
			}
			require.True(t, answered)
			require.LessOrEqual(t, before, 2<<20, "what was under way, and one frame more")
			require.NoError(t, <-sent)
			c.CloseNow()
			p.close()
		}
	})
}

func TestContextEndsWithTheConnection(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	require.NoError(t, c.Context().Err())
	require.Zero(t, c.CloseEvent())
	require.Equal(t, "hybi-13", c.Version())
	require.Empty(t, c.Subprotocol())
	require.Empty(t, c.Extensions())
	p.send(closeFrame(3000))
	<-c.Context().Done()
	var closed *wsd.CloseError
	require.ErrorAs(t, context.Cause(c.Context()), &closed)
	<-c.Closed()
	p.close()
}

func TestTransportsThatMisbehave(t *testing.T) {
	for name, row := range map[string]struct {
		rwc  *strange
		says string
	}{
		"a Read without progress":      {&strange{read: func([]byte) (int, error) { return 0, nil }}, io.ErrNoProgress.Error()},
		"a Read of more than there is": {&strange{read: func(p []byte) (int, error) { return len(p) + 1, nil }}, "impossible count"},
		"a Read of less than nothing":  {&strange{read: func([]byte) (int, error) { return -1, nil }}, "impossible count"},
	} {
		t.Run(name, func(t *testing.T) {
			c := wsd.NewConn(row.rwc, wsd.ServerRole, wsd.Config{})
			<-c.Closed()
			require.Contains(t, c.CloseEvent().Err.Error(), row.says)
		})
	}
	for name, count := range map[string]int{"a Write without progress": 0, "a Write of more than there is": 1000, "a Write of less than nothing": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := wsdtest.Transport()
				c := wsd.NewConn(&strange{read: b.Read, write: func([]byte) (int, error) { return count, nil }, close: b.Close}, wsd.ServerRole, wsd.Config{})
				require.NoError(t, c.Send(t.Context(), wsd.Text("x")))
				<-c.Closed()
				require.ErrorIs(t, c.CloseEvent().Err, io.ErrShortWrite)
				a.Close()
			})
		})
	}
	t.Run("a Read that brings bytes and an error", func(t *testing.T) {
		frames := bytes.NewReader(encodeFrame(text("with the error"), true))
		c := wsd.NewConn(&strange{read: func(p []byte) (int, error) { n, _ := frames.Read(p); return n, io.EOF }}, wsd.ServerRole, wsd.Config{})
		require.Equal(t, "with the error", string((<-c.Messages()).Data))
		<-c.Closed()
		require.ErrorIs(t, c.CloseEvent().Err, io.EOF)
	})
	// As in a tunnel that runs over another connection.
	violation := &wsd.ProtocolError{Code: wsd.StatusProtocolError, Section: "5.2", Problem: "not here"}
	for name, failed := range map[string]error{
		"a Read that fails with somebody else's violation":         violation,
		"a Read that fails with something about such":              fmt.Errorf("tunnel: %w", violation),
		"a Read that fails for somebody else who does not receive": wsd.ErrSlowConsumer,
	} {
		t.Run(name, func(t *testing.T) {
			written := 0
			c := wsd.NewConn(&strange{
				read:  func([]byte) (int, error) { return 0, failed },
				write: func(p []byte) (int, error) { written += len(p); return len(p), nil },
			}, wsd.ServerRole, wsd.Config{})
			<-c.Closed()
			require.Equal(t, wsd.StatusAbnormalClosure, c.CloseEvent().Code)
			require.ErrorIs(t, c.CloseEvent().Err, failed)
			require.ErrorIs(t, <-c.Errors(), failed)
			require.Zero(t, written, "the peer did nothing that a close frame would have to answer")
		})
	}
}

// strange is a transport made of functions.
type strange struct {
	read, write func([]byte) (int, error)
	close       func() error
}

func (s *strange) Read(p []byte) (int, error)  { return s.read(p) }
func (s *strange) Write(p []byte) (int, error) { return s.write(p) }
func (s *strange) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

func TestMessageBufferIsBounded(t *testing.T) {
	c, p := servedConn(t, wsd.Config{MessageBuffer: math.MaxInt})
	defer p.close()
	defer c.CloseNow()
	require.Equal(t, 65536, cap(c.Messages()))
}

func TestUnbufferedMessages(t *testing.T) {
	c, p := servedConn(t, wsd.Config{MessageBuffer: -1})
	defer p.close()
	defer c.CloseNow()
	require.Zero(t, cap(c.Messages()))
	go echo(c)
	p.send(text("a"), text("b"))
	require.Equal(t, text("a"), p.receive())
	require.Equal(t, text("b"), p.receive())
}

// A stream cut anywhere, written with pauses that let the connection run, gives the same echo. It has long messages after
// each other and short ones after long ones, because these are read in different ways.
func TestEchoOfAStreamInPieces(t *testing.T) {
	for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
		t.Run(role.String(), func(t *testing.T) {
			far, near := tcpPair(t)
			c := wsd.NewConn(near, role, wsd.Config{})
			go echo(c)
			p := &peer{t, far, role == wsd.ServerRole}
			long := bytes.Repeat([]byte("long "), 20000)
			stream := p.encode(text("one"), frame{0x02, []byte("tw")}, ping("p"), frame{0x80, []byte("o")}, binaryFrame(long),
				binaryFrame(long[1:]), ping("q"), binaryFrame(long[2:]), text("end"), binaryFrame(long[3:]), text(""))
			go func() {
				for i, piece := 0, 1; i < len(stream); i, piece = i+piece, piece*2 {
					if _, err := far.Write(stream[i:min(i+piece, len(stream))]); err != nil {
						return
					}
					runtime.Gosched()
				}
			}()
			answers := &peer{t, readWriteCloser{bufio.NewReader(far), far}, p.masks}
			want := []frame{text("one"), binaryFrame([]byte("two")), binaryFrame(long), binaryFrame(long[1:]), binaryFrame(long[2:]),
				text("end"), binaryFrame(long[3:]), text("")}
			var got []frame
			for pongs := 0; len(got)+pongs < len(want)+2; {
				if f := answers.receive(); f.first == 0x8A {
					pongs++
				} else {
					got = append(got, f)
				}
			}
			require.Equal(t, want, got)
			p.send(closeFrame(1000))
			if role == wsd.ClientRole {
				require.Equal(t, closeFrame(1000), answers.receive())
				far.Close() // as a server does first
			} else {
				p.expectClose(1000)
				far.Close()
			}
			<-c.Closed()
			require.True(t, c.CloseEvent().Clean)
		})
	}
}

type readWriteCloser struct {
	io.Reader
	io.WriteCloser
}

// TestContextsWithACause checks that a call ended by its context says why, and also matches the context's error: an
// errgroup's context has the first error of the group as its cause.
func TestContextsWithACause(t *testing.T) {
	enough := errors.New("enough")
	for _, when := range []string{"before the call", "during the call"} {
		for call, f := range map[string]func(context.Context, *wsd.Conn) error{
			"receive": func(ctx context.Context, c *wsd.Conn) error {
				_, err := c.Receive(ctx)
				return err
			},
			"ping": func(ctx context.Context, c *wsd.Conn) error {
				_, err := c.Ping(ctx, nil)
				return err
			},
			"send": func(ctx context.Context, c *wsd.Conn) error {
				for {
					if err := c.Send(ctx, wsd.Binary(make([]byte, 1000))); err != nil {
						return err
					}
				}
			},
			"flush": func(ctx context.Context, c *wsd.Conn) error {
				if err := c.Send(t.Context(), wsd.Text("stuck")); err != nil {
					return err
				}
				return c.Flush(ctx)
			},
		} {
			t.Run(call+", "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					stuck, _ := wsdtest.Transport()
					c := wsd.NewConn(wsdtest.Faulty(stuck, wsdtest.Faults{Write: wsdtest.Break{Kind: wsdtest.Stall, For: time.Hour}}),
						wsd.ServerRole, wsd.Config{})
					defer c.CloseNow()
					ctx, cancel := context.WithCancelCause(t.Context())
					if when == "before the call" {
						cancel(enough)
					} else {
						time.AfterFunc(time.Second, func() { cancel(enough) })
					}
					err := f(ctx, c)
					require.ErrorIs(t, err, enough)
					require.ErrorIs(t, err, context.Canceled)
					require.EqualError(t, err, "wsd: "+call+": enough")
				})
			})
		}
	}
}

// Over a transport that cannot tell whether there is something to read, the reader waits with a small buffer, also after
// a message that was read straight into its place.
func TestIdleConnectionsKeepNoBurstBuffer(t *testing.T) {
	const conns, burst = 50, 64 << 10 // bytes
	servers, peers := make([]*wsd.Conn, conns), make([]*peer, conns)
	for i := range conns {
		servers[i], peers[i] = servedConn(t, wsd.Config{PingInterval: -1})
		defer servers[i].CloseNow()
		defer peers[i].close()
	}
	large := encodeFrame(binaryFrame(make([]byte, 200<<10)), true)
	before := held()
	for i, p := range peers {
		p.sendRaw(large)
		m, err := servers[i].Receive(t.Context())
		require.NoError(t, err)
		require.Len(t, m.Data, 200<<10)
	}
	require.Less(t, held(), before+conns*burst/2)
}

// layered is a transport that says what is below it, as a tls.Conn does.
type layered struct {
	net.Conn
	below func() net.Conn
}

func (l layered) NetConn() net.Conn { return l.below() }

func TestTransportsThatAreAskedWhatIsBelow(t *testing.T) {
	for name, below := range map[string]func(self net.Conn) net.Conn{
		"nothing": func(net.Conn) net.Conn { return nil },
		"itself":  func(self net.Conn) net.Conn { return self },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			transport := &layered{Conn: server}
			transport.below = func() net.Conn { return below(transport) }
			conn := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{PingInterval: -1})
			conn.CloseNow()
			<-conn.Closed()
			require.ErrorIs(t, conn.CloseEvent().Err, net.ErrClosed)
		})
	}
}
