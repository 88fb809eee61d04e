// body_test.go tests messages that are read while they arrive, up to every way in which they end.

package wsd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/deflatetest"
	"github.com/seed62836080/wsd/wsdtest"
)

// streamed is a Config under which messages of more than ten bytes are streamed.
var streamed = wsd.Config{StreamAbove: 10}

// begin sends a frame with the first bytes of a message.
func begin(s string) frame { return frame{0x02, []byte(s)} }
func more(s string) frame  { return frame{0x00, []byte(s)} }
func last(s string) frame  { return frame{0x80, []byte(s)} }

// receiveStreamed receives a message that has to be streamed.
func receiveStreamed(t *testing.T, c *wsd.Conn) (wsd.Message, io.ReadCloser) {
	t.Helper()
	m, err := c.Receive(t.Context())
	require.NoError(t, err)
	require.True(t, m.Streamed())
	require.Nil(t, m.Data)
	return m, m.Body()
}

func TestStreamedMessageIsDeliveredWhenSoMuchHasCome(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, streamed)
		ends(t, c, p)
		p.send(binaryFrame([]byte("0123456789")))
		require.Equal(t, "0123456789", string((<-c.Messages()).Data), "no longer than StreamAbove")
		p.send(begin("012345678"))
		synctest.Wait()
		require.Empty(t, c.Messages())
		p.send(more("9"))
		synctest.Wait()
		require.Empty(t, c.Messages(), "it may end here")
		p.send(more("a"))
		m, body := receiveStreamed(t, c)
		require.Equal(t, wsd.BinaryMessage, m.Type)
		got := make([]byte, 20)
		n, err := io.ReadFull(body, got[:11])
		require.NoError(t, err)
		require.Equal(t, "0123456789a", string(got[:n]))
		go func() {
			time.Sleep(time.Second)
			p.send(more("bcd"), ping("answered"), last(""), text("behind"))
		}()
		start := time.Now()
		n, err = body.Read(got)
		require.NoError(t, err)
		require.Equal(t, "bcd", string(got[:n]))
		require.Equal(t, time.Second, time.Since(start))
		for range 2 {
			n, err = body.Read(got)
			require.Zero(t, n)
			require.Equal(t, io.EOF, err)
		}
		require.Equal(t, pong("answered"), p.receive())
		require.Equal(t, "behind", string((<-c.Messages()).Data))
		require.Equal(t, uint64(3), c.Stats().MessagesReceived)
		require.Equal(t, uint64(10+14+6), c.Stats().BytesReceived)
	})
}

// A single frame need not have come whole either, and each transport cuts it differently.
func TestStreamedMessageOverEachTransport(t *testing.T) {
	eachTransport(t, wsd.Config{StreamAbove: 100_000, MaxMessageSize: -1}, func(t *testing.T, client, server *wsd.Conn) {
		data := []byte(strings.Repeat("0123456789", 500_000))
		for _, sides := range [][2]*wsd.Conn{{client, server}, {server, client}} {
			from, to := sides[0], sides[1]
			sent := make(chan error, 1)
			go func() {
				for range 3 {
					if err := from.Send(t.Context(), wsd.Binary(data)); err != nil {
						sent <- err
						return
					}
				}
				sent <- from.Send(t.Context(), wsd.Text("the end"))
			}()
			_, body := receiveStreamed(t, to)
			require.NoError(t, iotest.TestReader(iotest.OneByteReader(io.LimitReader(body, 1000)), data[:1000]))
			got, err := io.ReadAll(body)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data[1000:], got))
			_, body = receiveStreamed(t, to)
			var all bytes.Buffer
			n, err := body.(io.WriterTo).WriteTo(&all)
			require.NoError(t, err)
			require.Equal(t, int64(len(data)), n)
			require.True(t, bytes.Equal(data, all.Bytes()))
			_, body = receiveStreamed(t, to)
			require.NoError(t, body.Close())
			m, err := to.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, "the end", string(m.Data))
			require.NoError(t, <-sent)
		}
	})
}

func TestNothingIsDeliveredBehindABodyThatIsNotRead(t *testing.T) {
	for name, finish := range map[string]func(wsd.Message) error{
		"read":        func(m wsd.Message) error { _, err := io.ReadAll(m.Body()); return err },
		"all bytes":   func(m wsd.Message) error { _, err := io.ReadFull(m.Body(), make([]byte, 26)); return err },
		"written":     func(m wsd.Message) error { _, err := io.Copy(io.Discard, m.Body()); return err },
		"closed":      func(m wsd.Message) error { return m.Body().Close() },
		"released":    func(m wsd.Message) error { m.Release(); return nil },
		"half closed": func(m wsd.Message) error { _, _ = m.Body().Read(make([]byte, 12)); return m.Body().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, streamed)
				ends(t, c, p)
				p.send(begin("0123456789abc"), ping("1"), last("defghijklmnop"), ping("2"), text("behind"))
				m, _ := receiveStreamed(t, c)
				require.Equal(t, pong("1"), p.receive())
				require.Equal(t, pong("2"), p.receive(), "the message has come, so the reader can go on up to the next")
				time.Sleep(10 * time.Second)
				require.Empty(t, c.Messages())
				require.True(t, c.Stats().BodyUnread)
				require.NoError(t, finish(m))
				require.False(t, c.Stats().BodyUnread)
				require.Equal(t, "behind", string((<-c.Messages()).Data))
			})
		})
	}
}

// Whoever has received a message is told at once that its body is unread, as a pool asks. The reader goroutine is not done with
// it then.
func TestABodyIsUnreadFromTheFirst(t *testing.T) {
	for _, buffer := range []int{-1, 0} {
		for range 300 {
			c, p := servedConn(t, wsd.Config{StreamAbove: 10, PingInterval: -1, MessageBuffer: buffer})
			ends(t, c, p)
			received := make(chan bool, 1)
			go func() {
				<-c.Messages()
				received <- c.Stats().BodyUnread
			}()
			p.send(begin("0123456789abc"))
			require.True(t, <-received)
			c.CloseNow()
		}
	}
}

// While nobody reads, the reader stops, so that TCP slows the peer down, and little is held.
func TestBodyThatIsNotReadHoldsThePeerBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, BodyTimeout: -1, PingInterval: -1})
		background := ends(t, c, p)
		p.send(begin("0123456789abc"))
		var sent atomic.Int64
		background.Go(func() {
			piece := p.encode(more(strings.Repeat("x", 1000)))
			for {
				if _, err := p.rwc.Write(piece); err != nil {
					return
				}
				sent.Add(1000)
			}
		})
		time.Sleep(time.Hour)
		require.Less(t, sent.Load(), int64(400_000))
		_, body := receiveStreamed(t, c)
		_, err := io.ReadFull(body, make([]byte, 1_000_000))
		require.NoError(t, err)
		require.NoError(t, body.Close())
		synctest.Wait()
		c.CloseNow()
	})
}

func TestBodyTimeout(t *testing.T) {
	type row struct {
		name  string
		after time.Duration // from when the message has come
		use   func(t *testing.T, c *wsd.Conn, p *peer)
	}
	const timeout = time.Minute
	for _, row := range []row{
		{"nobody receives the message", timeout, func(*testing.T, *wsd.Conn, *peer) {}},
		{"nobody reads it", timeout, func(t *testing.T, c *wsd.Conn, _ *peer) { receiveStreamed(t, c) }},
		{"it is read for a while", 90 * time.Second, func(t *testing.T, c *wsd.Conn, _ *peer) {
			_, body := receiveStreamed(t, c)
			for range 3 {
				time.Sleep(30 * time.Second)
				_, err := body.Read(make([]byte, 1))
				require.NoError(t, err)
			}
		}},
		{"a Read waited for the peer", 2 * timeout, func(t *testing.T, c *wsd.Conn, p *peer) {
			_, body := receiveStreamed(t, c)
			_, err := io.ReadFull(body, make([]byte, 13))
			require.NoError(t, err)
			go func() { time.Sleep(2 * timeout); p.send(more("and more")) }()
			_, err = body.Read(make([]byte, 1))
			require.NoError(t, err)
		}},
	} {
		if row.after >= 90*time.Second {
			row.after += timeout
		}
		for _, policy := range []wsd.SlowConsumerPolicy{wsd.BlockSlow, wsd.CloseSlow, wsd.DropSlow} {
			for _, complete := range []bool{false, true} {
				if complete && strings.HasPrefix(row.name, "a Read") {
					continue
				}
				if row.name == "it is read for a while" {
					row.after = 90*time.Second + timeout
				}
				synctest.Test(t, func(t *testing.T) {
					c, p := servedConn(t, wsd.Config{StreamAbove: 10, SlowConsumer: policy, PingInterval: -1})
					ends(t, c, p)
					start := time.Now()
					p.send(begin("0123456789abc"))
					if complete {
						p.send(last(""), text("behind"))
					}
					synctest.Wait()
					row.use(t, c, p)
					err := <-c.Errors()
					require.ErrorIs(t, err, wsd.ErrBodyTimeout, row.name)
					require.ErrorContains(t, err, "every Body has to be read to its end or closed")
					require.Equal(t, row.after, time.Since(start), row.name)
					require.Equal(t, wsd.ErrBodyTimeout, c.CloseEvent().Err)
					require.Equal(t, frame{0x88, closePayload(1013, "a message is not being read")}, p.receive())
					p.send(closeFrame(1013))
					<-c.Closed()
					require.Equal(t, wsd.StatusTryAgainLater, c.CloseEvent().Code)
					require.True(t, c.CloseEvent().Local)
				})
			}
		}
	}
}

// The time is counted from when the messages ahead have been received.
func TestBodyTimeoutBeginsWhenNothingIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, PingInterval: -1})
		ends(t, c, p)
		p.send(text("first"), text("second"), begin("0123456789abc"))
		time.Sleep(10 * time.Minute)
		require.Equal(t, wsd.StateOpen, c.State())
		<-c.Messages()
		time.Sleep(10 * time.Minute)
		require.Equal(t, wsd.StateOpen, c.State())
		<-c.Messages()
		time.Sleep(50 * time.Second)
		require.Equal(t, wsd.StateOpen, c.State())
		time.Sleep(15 * time.Second) // it looks every sixteenth of a minute whether something is ahead
		require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrBodyTimeout)
	})
}

// A body behind a message that nobody receives is no reason to wait for ever: CloseSlow judges the consumer by that message.
func TestCloseSlowBehindABody(t *testing.T) {
	for name, size := range map[string]int{"that has come": 200, "under way": 1 << 20} {
		for _, viaInbox := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", with an inbox: ", viaInbox), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := wsd.Config{StreamAbove: 100, SlowConsumer: wsd.CloseSlow, StallTimeout: 3 * time.Second, PingInterval: -1}
					inbox := wsd.NewInbox(8)
					if viaInbox {
						cfg.Inbox = inbox
					}
					client, server := wsdtest.Pipe(wsd.Config{PingInterval: -1}, cfg)
					defer client.CloseNow()
					defer server.CloseNow()
					go func() {
						for _, m := range []wsd.Message{wsd.Text("first"), wsd.Text("second"), wsd.Binary(make([]byte, size)), wsd.Text("behind")} {
							if client.Send(t.Context(), m) != nil {
								return
							}
						}
					}()
					time.Sleep(2 * time.Second)
					select { // which counts as progress
					case <-server.Messages():
					case <-inbox.C():
					}
					time.Sleep(3900 * time.Millisecond)
					require.Equal(t, wsd.StateOpen, server.State())
					time.Sleep(2200 * time.Millisecond)
					require.NotEqual(t, wsd.StateOpen, server.State())
					<-server.Closed()
					require.ErrorIs(t, server.CloseEvent().Err, wsd.ErrSlowConsumer)
					<-client.Closed()
					require.Equal(t, wsd.StatusTryAgainLater, client.CloseEvent().Code)
				})
			})
		}
	}
}

// The cause is stored before the body's error can be seen.
func TestBodyErrorComesBehindTheCause(t *testing.T) {
	for name, end := range map[string]struct {
		by    func(c *wsd.Conn, p *peer)
		check func(t *testing.T, err error, event wsd.CloseEvent)
	}{
		"BodyTimeout": {func(*wsd.Conn, *peer) { time.Sleep(2 * time.Minute) }, func(t *testing.T, err error, event wsd.CloseEvent) {
			require.ErrorIs(t, err, wsd.ErrBodyTimeout)
		}},
		"a violation": {func(_ *wsd.Conn, p *peer) { p.send(frame{0x83, nil}) }, func(t *testing.T, err error, event wsd.CloseEvent) {
			var violation *wsd.ProtocolError
			require.ErrorAs(t, err, &violation)
			require.Equal(t, wsd.StatusProtocolError, event.Code)
		}},
		"a close frame": {func(_ *wsd.Conn, p *peer) { p.send(closeFrame(1001)) }, func(t *testing.T, err error, event wsd.CloseEvent) {
			var closed *wsd.CloseError
			require.ErrorAs(t, err, &closed)
			require.Equal(t, wsd.StatusGoingAway, closed.Code)
		}},
		"the end of the bytes": {func(_ *wsd.Conn, p *peer) { p.close() }, func(t *testing.T, err error, event wsd.CloseEvent) {
			require.False(t, errors.Is(err, io.EOF), "the message has not been read to its end")
			require.ErrorIs(t, event.Err, io.EOF)
		}},
		"CloseNow": {func(c *wsd.Conn, _ *peer) { c.CloseNow() }, func(t *testing.T, err error, event wsd.CloseEvent) {
			require.Equal(t, wsd.StatusAbnormalClosure, event.Code)
		}},
	} {
		for _, waits := range []bool{false, true} {
			if waits && name == "BodyTimeout" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := servedConn(t, wsd.Config{StreamAbove: 10, PingInterval: -1})
					ends(t, c, p)
					p.send(begin("0123456789abc"))
					_, body := receiveStreamed(t, c)
					synctest.Wait()
					if !waits {
						end.by(c, p)
						synctest.Wait()
					} else {
						go func() { time.Sleep(time.Second); end.by(c, p) }()
					}
					got, err := io.ReadAll(body)
					event := c.CloseEvent()
					require.Equal(t, "0123456789abc", string(got), "what has come can be read")
					require.Error(t, event.Err, "the cause has to be known before the body's error")
					require.ErrorIs(t, err, wsd.ErrClosed)
					require.ErrorIs(t, err, io.ErrUnexpectedEOF)
					end.check(t, err, event)
					if name != "the end of the bytes" {
						require.ErrorIs(t, err, event.Err)
					}
					_, again := body.Read(make([]byte, 1))
					require.Equal(t, err, again)
					require.NoError(t, body.Close())
					_, after := body.Read(make([]byte, 1))
					require.ErrorIs(t, after, io.ErrClosedPipe)
				})
			})
		}
	}
}

// A violation is the body's error, and everything before it was delivered.
func TestBodyViolations(t *testing.T) {
	for name, row := range map[string]struct {
		cfg    wsd.Config
		frames []frame
		before string
		code   wsd.StatusCode
	}{
		"text that goes wrong": {streamed, []frame{{0x01, []byte("0123456789abc\xE2\x82")}, {0x00, []byte("\xAC ok\xE2x")}}, "0123456789abc\xE2\x82\xAC ok\xE2", 1007},
		"text that breaks off": {streamed, []frame{{0x01, []byte("0123456789abc\xE2\x82")}, {0x80, nil}}, "0123456789abc\xE2\x82", 1007},
		"another message":      {streamed, []frame{begin("0123456789abc"), binaryFrame([]byte("x"))}, "0123456789abc", 1002},
		"more than MaxMessageSize": {wsd.Config{StreamAbove: 10, MaxMessageSize: 15},
			[]frame{begin("0123456789abc"), more("de"), last("f")}, "0123456789abcde", 1009},
		"empty frames": {wsd.Config{StreamAbove: 10, MaxFragments: 2},
			[]frame{begin("0123456789abc"), more(""), more(""), more("d"), more(""), more(""), more("")}, "0123456789abcd", 1008},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, row.cfg)
				ends(t, c, p)
				p.send(row.frames...)
				_, body := receiveStreamed(t, c)
				got, err := io.ReadAll(body)
				require.Equal(t, row.before, string(got))
				var violation *wsd.ProtocolError
				require.ErrorAs(t, err, &violation)
				require.Equal(t, row.code, violation.Code)
				require.Equal(t, error(violation), <-c.Errors())
				require.Equal(t, byte(0x88), p.receive().first)
			})
		})
	}
}

// Close, CloseNow and a Server's Shutdown, which closes like them, end in time in the middle of a body, and what has come
// can still be read.
func TestLocalEndInTheMiddleOfABody(t *testing.T) {
	for name, end := range map[string]func(c *wsd.Conn){
		"Close":    func(c *wsd.Conn) { _ = c.Close(wsd.StatusNormalClosure, "") },
		"CloseNow": func(c *wsd.Conn) { c.CloseNow() },
	} {
		for _, reads := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := servedConn(t, streamed)
					background := ends(t, c, p)
					background.Go(func() { // a peer that sends on, whatever comes
						p.send(begin("0123456789abc"))
						for {
							if _, err := p.rwc.Write(p.encode(more(strings.Repeat("x", 1000)))); err != nil {
								return
							}
							time.Sleep(time.Millisecond)
						}
					})
					_, body := receiveStreamed(t, c)
					var came int
					if reads {
						n, err := io.ReadFull(body, make([]byte, 5000))
						require.NoError(t, err)
						came += n
					}
					time.Sleep(time.Second)
					start := time.Now()
					end(c)
					require.LessOrEqual(t, time.Since(start), 7*time.Second)
					got, err := io.ReadAll(body)
					require.ErrorIs(t, err, wsd.ErrClosed)
					require.NotEmpty(t, got)
					require.Less(t, came+len(got), 2_000_000)
				})
			})
		}
	}
}

// A Shutdown ends within its time while a handler is in the middle of a body, which then fails behind what had come.
func TestShutdownInTheMiddleOfABody(t *testing.T) {
	for _, reads := range []bool{false, true} {
		t.Run(fmt.Sprint(reads), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inBody, readEnd := make(chan struct{}), make(chan error, 1)
				server := wsd.Server{AcceptOptions: wsd.AcceptOptions{Config: streamed}, Handler: func(c *wsd.Conn) {
					_, body := receiveStreamed(t, c)
					close(inBody)
					if !reads {
						<-c.Closed()
					}
					got, err := io.ReadAll(body)
					require.NotEmpty(t, got)
					readEnd <- err
				}}
				network := wsdtest.Serve(&server)
				defer network.Close()
				client, _, err := network.Dial(t.Context(), "/", nil)
				require.NoError(t, err)
				var sending sync.WaitGroup
				sending.Go(func() {
					w := client.Writer(context.Background(), wsd.BinaryMessage, nil)
					for err := error(nil); err == nil; { // it sends on, whatever comes
						_, err = w.Write(make([]byte, 1000))
						time.Sleep(time.Millisecond)
					}
				})
				<-inBody
				time.Sleep(time.Second)
				start := time.Now()
				require.NoError(t, server.Shutdown(t.Context()))
				require.LessOrEqual(t, time.Since(start), 7*time.Second)
				require.ErrorIs(t, <-readEnd, wsd.ErrClosed)
				client.CloseNow()
				sending.Wait()
			})
		})
	}
}

// A close handshake works in the middle of a body that nobody reads, and of one that is being read.
func TestCloseHandshakeInTheMiddleOfABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, streamed)
		ends(t, c, p)
		p.send(begin("0123456789abc"))
		_, body := receiveStreamed(t, c)
		require.NoError(t, c.StartClose(wsd.StatusNormalClosure, ""))
		require.Equal(t, closeFrame(1000), p.receive())
		p.send(more("def"), last("ghi"), closeFrame(1000))
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, "0123456789abcdefghi", string(got), "what came behind a local Close is delivered while it is read")
		<-c.Closed()
		require.True(t, c.CloseEvent().Clean)
	})
}

// A message that has come whole is read after the end as those in Messages are.
func TestBodyIsReadAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, streamed)
		p.send(begin("0123456789abc"), last("def"), closeFrame(1000))
		<-c.Closed()
		_, body := receiveStreamed(t, c)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, "0123456789abcdef", string(got))
		p.close()
	})
}

// The answer to a streamed message leaves ahead of the close frame, as to any other.
func TestAnswerToABodyLeavesAheadOfTheCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, streamed)
		ends(t, c, p)
		p.send(begin("0123456789abc"))
		_, body := receiveStreamed(t, c)
		time.Sleep(10 * time.Second) // grace counts from the last part
		p.send(last("def"), closeFrame(1000))
		_, err := io.Copy(io.Discard, body)
		require.NoError(t, err)
		require.NoError(t, c.Send(t.Context(), wsd.Text("answer")))
		require.Equal(t, text("answer"), p.receive())
		require.Equal(t, closeFrame(1000), p.receive())
	})
}

// While nobody reads a body, the keepalive does not blame the peer, whose pongs are behind it.
func TestKeepaliveTakesAnUnreadBodyForAStalledConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, BodyTimeout: -1})
		ends(t, c, p)
		p.send(begin("0123456789abc"), last(""), text("behind"))
		_, body := receiveStreamed(t, c)
		time.Sleep(time.Hour)
		require.Equal(t, wsd.StateOpen, c.State())
		require.NoError(t, body.Close())
		<-c.Messages()
		time.Sleep(2 * time.Minute)
		require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrPongTimeout, "and then it does")
	})
}

// A Ping by the goroutine that should read waits for itself, until BodyTimeout.
func TestPingBeforeABodyIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, PingInterval: -1})
		ends(t, c, p)
		p.send(begin("0123456789abc"), last(""), text("behind"))
		receiveStreamed(t, c)
		go func() { p.send(frame{0x8A, p.receive().payload}) }()
		start := time.Now()
		_, _ = c.Ping(t.Context(), nil) // its pong is read once what is ahead of it is discarded
		require.Equal(t, time.Minute, time.Since(start))
		require.Equal(t, wsd.ErrBodyTimeout, c.CloseEvent().Err)
	})
}

// Of several goroutines that read, each gets what the others do not.
func TestBodyReadByTwoGoroutines(t *testing.T) {
	client, server := wsdtest.Pipe(wsd.Config{StreamAbove: 1000})
	defer client.CloseNow()
	defer server.CloseNow()
	data := []byte(strings.Repeat("0123456789", 100_000))
	go func() { _ = client.Send(t.Context(), wsd.Binary(data)) }()
	_, body := receiveStreamed(t, server)
	var group sync.WaitGroup
	var count [256]int
	var mu sync.Mutex
	for i := range 3 {
		group.Go(func() {
			var got []byte
			var err error
			if i == 0 {
				var all bytes.Buffer
				_, err = body.(io.WriterTo).WriteTo(&all)
				got = all.Bytes()
			} else {
				got, err = io.ReadAll(body)
			}
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, b := range got {
				count[b]++
			}
		})
	}
	group.Wait()
	for digit := '0'; digit <= '9'; digit++ {
		require.Equal(t, 100_000, count[digit])
	}
}

// A Close ends a Read that waits.
func TestCloseEndsAReadOfABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, streamed)
		ends(t, c, p)
		p.send(begin("0123456789abc"))
		_, body := receiveStreamed(t, c)
		time.AfterFunc(time.Second, func() { body.Close() })
		got, err := io.ReadAll(body)
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.Equal(t, "0123456789abc", string(got))
		p.send(last("never read"), text("behind"))
		require.Equal(t, "behind", string((<-c.Messages()).Data))
	})
}

func TestBodyOfAWholeMessage(t *testing.T) {
	m := wsd.Text(`{"a":1}`)
	require.False(t, m.Streamed())
	require.NoError(t, iotest.TestReader(m.Body(), m.Data))
	var all strings.Builder
	n, err := m.Body().(io.WriterTo).WriteTo(&all)
	require.NoError(t, err)
	require.Equal(t, int64(7), n)
	require.Equal(t, `{"a":1}`, all.String())
	body := m.Body()
	n, err = io.Copy(io.Discard, body)
	require.NoError(t, err)
	require.Equal(t, int64(7), n)
	n, err = body.(io.WriterTo).WriteTo(&all)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, body.Close())
	_, err = body.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	_, err = wsd.Message{}.Body().Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
}

func TestDecodeReadsABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, streamed)
		ends(t, c, p)
		p.send(frame{0x01, []byte("streamed text")}, last(" as a string"))
		m, body := receiveStreamed(t, c)
		require.Equal(t, "streamed text as a string", m.String())
		_, err := body.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		p.send(frame{0x01, []byte(`{"numbers":`)}, last(`[1,2,3]}`), begin("left unread"), last(""), text("behind"), begin("to be closed"), last(""), frame{0x01, []byte(`{"numbers":[1]}`)}, last("}"),
			frame{0x01, []byte(`{"numbers":[1]`)})
		var v struct{ Numbers []int }
		require.NoError(t, c.ReceiveJSON(t.Context(), &v))
		require.Equal(t, []int{1, 2, 3}, v.Numbers)
		for m, err := range c.Each(t.Context()) {
			require.NoError(t, err)
			require.True(t, m.Streamed() || string(m.Data) == "behind")
			if !m.Streamed() {
				break // the streamed one that was ahead was left unread, and so closed
			}
		}
		m, body = receiveStreamed(t, c)
		require.NoError(t, body.Close())
		require.ErrorIs(t, m.Decode(&v), io.ErrClosedPipe)
		m, _ = receiveStreamed(t, c)
		require.ErrorContains(t, m.Decode(&v), "invalid character")
		m, _ = receiveStreamed(t, c)
		p.close()
		require.ErrorIs(t, m.Decode(&v), wsd.ErrClosed)
	})
}

// Under DropSlow, a streamed message for which there is no room is dropped whole.
func TestStreamedMessageIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, MessageBuffer: 1, SlowConsumer: wsd.DropSlow})
		ends(t, c, p)
		p.send(text("first"), begin("0123456789abc"), more("d"), last("e"))
		synctest.Wait()
		require.Equal(t, "first", string((<-c.Messages()).Data))
		p.send(text("behind"))
		require.Equal(t, "behind", string((<-c.Messages()).Data))
		require.Equal(t, uint64(1), c.Stats().MessagesDropped)
		require.Equal(t, wsd.ErrSlowConsumer, <-c.Errors())
	})
}

// Sizes and times below zero turn off what they are for.
func TestStreamingIsOffBelowZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, above := range []int64{0, -1, -1 << 63} {
			c, p := servedConn(t, wsd.Config{StreamAbove: above})
			p.send(begin(strings.Repeat("x", 100_000)), last(""))
			m := <-c.Messages()
			require.False(t, m.Streamed())
			require.Len(t, m.Data, 100_000)
			c.CloseNow()
			p.close()
		}
	})
}

func TestSendPassesABodyOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, source := servedConn(t, streamed)
		ends(t, from, source)
		to, sink := clientConn(t, wsd.Config{})
		ends(t, to, sink)
		source.send(frame{0x01, []byte("0123456789abc")})
		m, _ := receiveStreamed(t, from)
		require.ErrorIs(t, to.TrySend(m), wsd.ErrInvalidMessage)
		_, err := wsd.Prepare(m)
		require.ErrorIs(t, err, wsd.ErrInvalidMessage)
		sent := make(chan error, 1)
		go func() { sent <- to.Send(t.Context(), m) }()
		require.Equal(t, frame{0x01, []byte("0123456789")}, sink.receive())
		require.Equal(t, frame{0x00, []byte("abc")}, sink.receive())
		source.send(more("def"))
		require.Equal(t, frame{0x00, []byte("def")}, sink.receive(), "as it comes")
		source.send(last("ghi"), text("behind"))
		require.Equal(t, frame{0x00, []byte("ghi")}, sink.receive())
		require.Equal(t, frame{0x80, []byte{}}, sink.receive())
		require.NoError(t, <-sent)
		require.Equal(t, "behind", string((<-from.Messages()).Data))
		require.ErrorIs(t, to.Send(t.Context(), m), io.ErrClosedPipe)
		require.Equal(t, wsd.StateOpen, to.State(), "nothing of it was sent")
	})
}

// A message that cannot be completed ends the connection on which it was begun; nothing waits for the peer that sent it.
func TestSendOfABodyFails(t *testing.T) {
	for name, row := range map[string]struct {
		by   func(cancel func(), from, to *wsd.Conn, source *peer)
		want func(from, to *wsd.Conn) error
	}{
		"the source ends":  {func(_ func(), _, _ *wsd.Conn, source *peer) { source.close() }, func(from, _ *wsd.Conn) error { return io.ErrUnexpectedEOF }},
		"ctx ends":         {func(cancel func(), _, _ *wsd.Conn, _ *peer) { cancel() }, func(_, _ *wsd.Conn) error { return context.Canceled }},
		"the other closes": {func(_ func(), _, to *wsd.Conn, _ *peer) { to.CloseNow() }, func(_, to *wsd.Conn) error { return to.CloseEvent().Err }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, source := servedConn(t, streamed)
				ends(t, from, source)
				to, sink := clientConn(t, wsd.Config{})
				ends(t, to, sink)
				source.send(begin("0123456789abc"))
				m, _ := receiveStreamed(t, from)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				sent := make(chan error, 1)
				go func() { sent <- to.Send(ctx, m) }()
				synctest.Wait()
				start := time.Now()
				row.by(cancel, from, to, source)
				require.ErrorIs(t, <-sent, row.want(from, to))
				require.Zero(t, time.Since(start))
				synctest.Wait()
				require.NotEqual(t, wsd.StateOpen, to.State())
			})
		})
	}
}

// Compressed messages are inflated as they come. Takeover continues behind one that was read, and behind one that was not.
func TestCompressedMessagesAreStreamed(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, body io.ReadCloser, want []byte){
		"read": func(t *testing.T, body io.ReadCloser, want []byte) {
			got, err := io.ReadAll(body)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		},
		"closed": func(t *testing.T, body io.ReadCloser, _ []byte) { require.NoError(t, body.Close()) },
		"half read": func(t *testing.T, body io.ReadCloser, want []byte) {
			got := make([]byte, len(want)/2)
			_, err := io.ReadFull(body, got)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want[:len(got)], got))
			require.NoError(t, body.Close())
		},
	} {
		for _, alone := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				eachTransport(t, wsd.Config{StreamAbove: 10_000, Compression: &wsd.Compression{ServerNoContextTakeover: alone}}, func(t *testing.T, client, server *wsd.Conn) {
					random := rand.New(rand.NewPCG(1, 2))
					message := func(size int) []byte {
						var b []byte
						for len(b) < size {
							b = strconv.AppendInt(b, int64(random.IntN(1000)), 10)
						}
						return b
					}
					var sent [][]byte
					for _, size := range []int{100, 12_000, 9_000, 200_000, 200, 40_000, 600_000, 100} {
						sent = append(sent, message(size))
					}
					go func() {
						for _, m := range sent {
							if err := server.Send(t.Context(), wsd.Text(string(m))); err != nil {
								t.Error(err)
							}
						}
					}()
					for _, want := range sent {
						m, err := client.Receive(t.Context())
						require.NoError(t, err)
						require.Equal(t, len(want) > 10_000, m.Streamed())
						if m.Streamed() {
							use(t, m.Body(), want)
						} else {
							require.True(t, bytes.Equal(want, m.Data))
						}
					}
				})
			})
		}
	}
}

// Whatever a message inflates to, little of it is held, and it is held back like any other.
func TestCompressedBodyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, MaxMessageSize: -1, BodyTimeout: -1, PingInterval: -1, Compression: &wsd.Compression{}})
		background := ends(t, c, p)
		const size = 64 << 20
		compressed := deflatetest.Compress(t, 1, make([]byte, size))[0]
		background.Go(func() { _, _ = p.rwc.Write(p.encode(frame{0xC2, compressed})) })
		_, body := receiveStreamed(t, c)
		time.Sleep(time.Hour)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		buffer := make([]byte, 64<<10)
		for total := 0; total < size; {
			n, err := body.Read(buffer)
			require.NoError(t, err)
			total += n
			if total%(16<<20) < n {
				synctest.Wait()
				runtime.GC()
				runtime.ReadMemStats(&after)
				require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(4<<20))
			}
		}
	})
}

// A peer may not keep a reader busy with compressed bytes that hold nothing.
func TestCompressedBodyWithoutData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{StreamAbove: 10, MaxMessageSize: -1, Compression: &wsd.Compression{}})
		background := ends(t, c, p)
		start := deflatetest.Compress(t, 1, []byte("more than ten bytes"))[0]
		empty := []byte(strings.Repeat("\x00\x00\x00\xff\xff", 1000))
		background.Go(func() {
			p.send(frame{0x42, append(start, "\x00\x00\xff\xff"...)})
			for {
				if _, err := p.rwc.Write(p.encode(more(string(empty)))); err != nil {
					return
				}
			}
		})
		_, body := receiveStreamed(t, c)
		got, err := io.ReadAll(body)
		require.Equal(t, "more than ten bytes", string(got))
		var violation *wsd.ProtocolError
		require.ErrorAs(t, err, &violation)
		require.Equal(t, wsd.StatusPolicyViolation, violation.Code)
		c.CloseNow()
	})
}
