package wsd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// The twelve rules of a connection's life, in the order of docs/architecture.md.

func TestRule1OrderOfTheEnd(t *testing.T) {
	for name, end := range map[string]func(*wsd.Conn, *peer){
		"the peer closes":       func(_ *wsd.Conn, p *peer) { p.send(closeFrame(1000)) },
		"the peer violates":     func(_ *wsd.Conn, p *peer) { p.send(frame{0x83, nil}) },
		"the transport ends":    func(_ *wsd.Conn, p *peer) { p.close() },
		"this side closes":      func(c *wsd.Conn, p *peer) { go c.Close(1000, ""); p.receive(); p.send(closeFrame(1000)) },
		"this side aborts":      func(c *wsd.Conn, _ *peer) { c.CloseNow() },
		"nobody answers a ping": func(*wsd.Conn, *peer) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{})
				defer p.close()
				p.send(text("one"), text("two"))
				synctest.Wait()
				end(c, p)
				// Messages that had arrived are there after the end, without waiting.
				<-c.Closed()
				require.Equal(t, wsd.StateClosed, c.State())
				event := c.CloseEvent()
				require.Error(t, event.Err)
				require.Equal(t, event.Err, context.Cause(c.Context()))
				for _, want := range []string{"one", "two"} {
					select {
					case m := <-c.Messages():
						require.Equal(t, want, string(m.Data))
					default:
						t.Fatal("a message that had arrived is not there")
					}
				}
				select {
				case _, open := <-c.Messages():
					require.False(t, open)
				default:
					t.Fatal("Messages is open after Closed")
				}
				var reported []error
				for err := range c.Errors() {
					reported = append(reported, err)
				}
				if event.Clean {
					require.Empty(t, reported)
				} else {
					require.Equal(t, []error{event.Err}, reported)
				}
			})
		})
	}
}

func TestRule1MessagesClosedBeforeErrorsBeforeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		defer p.close()
		p.close()
		for range c.Messages() {
			t.Fatal("no message was sent")
		}
		_, err := c.Receive(t.Context())
		require.ErrorIs(t, err, wsd.ErrClosed, "the cause is there when Messages is closed")
		require.ErrorIs(t, err, io.EOF)
		<-c.Errors()
		_, open := <-c.Errors()
		require.False(t, open)
		<-c.Closed()
	})
}

func TestRule2FirstCauseWins(t *testing.T) {
	t.Run("a close frame before the reset", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			p.send(frame{0x88, closePayload(4001, "bye")})
			p.close()
			<-c.Closed()
			event := c.CloseEvent()
			require.Equal(t, wsd.StatusCode(4001), event.Code)
			require.Equal(t, "bye", event.Reason)
			require.Equal(t, &wsd.CloseError{Code: 4001, Reason: "bye"}, event.Err)
		})
	})
	t.Run("a violation before the end of the bytes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			p.send(frame{0x83, nil})
			p.close()
			<-c.Closed()
			var violation *wsd.ProtocolError
			require.ErrorAs(t, c.CloseEvent().Err, &violation)
			require.Equal(t, wsd.StatusProtocolError, c.CloseEvent().Code)
		})
	})
	t.Run("CloseNow before the read error that follows it", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		defer p.close()
		c.CloseNow()
		require.ErrorIs(t, c.CloseEvent().Err, net.ErrClosed)
		require.Contains(t, c.CloseEvent().Err.Error(), "CloseNow")
	})
	t.Run("a close frame that waits to be read when a write fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := wsdtest.Transport()
			c := wsd.NewConn(&brokenWriter{ReadWriteCloser: b}, wsd.ServerRole, wsd.Config{})
			p := &peer{t, a, true}
			require.NoError(t, c.Send(t.Context(), wsd.Text("lost")))
			synctest.Wait() // the write has failed
			p.send(closeFrame(1001))
			<-c.Closed()
			require.Equal(t, wsd.StatusGoingAway, c.CloseEvent().Code)
			p.close()
		})
	})
	t.Run("the write error where no close frame comes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := wsdtest.Transport()
			c := wsd.NewConn(&brokenWriter{ReadWriteCloser: b}, wsd.ServerRole, wsd.Config{})
			require.NoError(t, c.Send(t.Context(), wsd.Text("lost")))
			<-c.Closed()
			require.ErrorIs(t, c.CloseEvent().Err, errBroken)
			a.Close()
		})
	})
}

func TestRule3CloseEnds(t *testing.T) {
	flood := func(p *peer) {
		for range 100 {
			p.send(text("x"))
		}
	}
	for name, play := range map[string]func(*peer){
		"a peer that answers":             func(p *peer) { p.receive(); p.send(closeFrame(1000)) },
		"a peer that never answers":       func(*peer) {},
		"a peer that sends and sends":     func(p *peer) { flood(p); p.receive(); p.send(closeFrame(1000)) },
		"a peer that ends the bytes":      func(p *peer) { p.close() },
		"a peer that violates instead":    func(p *peer) { p.send(frame{0xF1, nil}) },
		"a peer that stops in the middle": func(p *peer) { p.sendRaw(p.encode(text("half a message"))[:8]) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Nobody receives from Messages.
				c, p := servedConn(t, wsd.Config{CloseTimeout: 3 * time.Second})
				defer p.close()
				flood(p)
				synctest.Wait()
				go play(p)
				start := time.Now()
				err := c.Close(wsd.StatusNormalClosure, "done")
				require.LessOrEqual(t, time.Since(start), 3*time.Second)
				require.Equal(t, wsd.StateClosed, c.State())
				if strings.Contains(name, "that answers") || strings.Contains(name, "sends and sends") {
					require.NoError(t, err)
					require.True(t, c.CloseEvent().Clean)
				} else {
					require.ErrorIs(t, err, wsd.ErrClosed)
					require.False(t, c.CloseEvent().Clean)
				}
			})
		})
	}
	t.Run("a peer that reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{SendQueue: -1})
			defer p.close()
			for range 100 {
				require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
			}
			start := time.Now()
			require.ErrorIs(t, c.Close(wsd.StatusNormalClosure, ""), wsd.ErrCloseTimeout)
			require.Equal(t, 5*time.Second, time.Since(start))
		})
	})
}

func TestRule4NoGoroutineOutlivesTheConnection(t *testing.T) {
	for name, end := range map[string]func(*wsd.Conn, *peer){
		"abort":             func(c *wsd.Conn, _ *peer) { c.CloseNow() },
		"close":             func(c *wsd.Conn, _ *peer) { _ = c.Close(1000, "") },
		"end of the bytes":  func(_ *wsd.Conn, p *peer) { p.close() },
		"the peer violates": func(_ *wsd.Conn, p *peer) { go func() { _, _ = p.rwc.Write([]byte{0x83, 0x80}) }() },
	} {
		t.Run(name, func(t *testing.T) {
			// The bubble fails when a goroutine is left: a full Messages, a blocked Send, Flush, Ping and Writer.
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{SendQueue: 1000})
				for range 20 {
					p.send(text("nobody receives this"))
				}
				var callers sync.WaitGroup
				for _, call := range []func() error{
					func() error { return c.Send(t.Context(), wsd.Binary(make([]byte, 100<<10))) },
					func() error { return c.Send(t.Context(), wsd.Binary(make([]byte, 100<<10))) },
					func() error { return c.Send(t.Context(), wsd.Text("waits its turn")) },
					func() error { return c.Flush(t.Context()) },
					func() error { _, err := c.Ping(t.Context(), nil); return err },
					func() error { _, err := c.Writer(t.Context(), wsd.TextMessage, nil).Write([]byte("x")); return err },
				} {
					callers.Go(func() { _ = call() })
				}
				synctest.Wait()
				end(c, p)
				if name == "the peer violates" {
					time.Sleep(time.Minute) // in the bubble: the reader is held up by its consumer, the keepalive is not
					c.CloseNow()
				}
				<-c.Closed()
				callers.Wait()
				p.close()
			})
		})
	}
}

func TestRule5SlowConsumer(t *testing.T) {
	const sent = 20
	flood := func(p *peer) {
		for i := range sent {
			p.send(text(fmt.Sprint(i)))
		}
	}
	t.Run("block", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{MessageBuffer: 2})
			flood(p)
			// Far beyond ping interval and pong timeout: the pongs that the peer may have sent cannot be read.
			time.Sleep(10 * time.Minute)
			require.Equal(t, wsd.StateOpen, c.State())
			for i := range sent {
				require.Equal(t, fmt.Sprint(i), string((<-c.Messages()).Data))
			}
			require.Zero(t, c.Stats().MessagesDropped)
			c.CloseNow()
			p.close()
		})
	})
	t.Run("close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{MessageBuffer: 2, SlowConsumer: wsd.CloseSlow, StallTimeout: 7 * time.Second})
			defer p.close()
			start := time.Now()
			flood(p)
			f := p.receive()
			require.Equal(t, closePayload(1013, "")[:2], f.payload[:2])
			require.GreaterOrEqual(t, time.Since(start), 7*time.Second)
			<-c.Closed()
			require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrSlowConsumer)
			require.Equal(t, wsd.StatusTryAgainLater, c.CloseEvent().Code)
			require.Len(t, c.Messages(), 2)
		})
	})
	t.Run("drop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{MessageBuffer: 2, SlowConsumer: wsd.DropSlow})
			flood(p)
			synctest.Wait()
			require.EqualValues(t, sent-2, c.Stats().MessagesDropped)
			require.EqualValues(t, sent, c.Stats().MessagesReceived)
			require.ErrorIs(t, <-c.Errors(), wsd.ErrSlowConsumer)
			require.Empty(t, c.Errors(), "it is reported once")
			p.send(ping("still reading"))
			require.Equal(t, pong("still reading"), p.receive())
			c.CloseNow()
			p.close()
		})
	})
}

func TestRule6PingsAreAnswered(t *testing.T) {
	t.Run("in order, ahead of data that waits", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		const pings = 20000
		go func() {
			var all []byte
			for i := range pings {
				all = append(all, p.encode(ping(fmt.Sprint(i)))...)
			}
			_, _ = p.rwc.Write(all)
		}()
		for i := range pings {
			require.Equal(t, pong(fmt.Sprint(i)), p.receive())
		}
		require.Zero(t, c.Stats().PongsCoalesced)
		c.CloseNow()
		p.close()
	})
	t.Run("coalesced into the newest where the peer does not read", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		payload := strings.Repeat("p", 120)
		flood := p.encode(ping(payload))
		for len(flood) < 1<<20 {
			flood = append(flood, flood...)
		}
		for range 16 {
			p.sendRaw(flood)
		}
		last := "the last one"
		p.send(ping(last))
		got := 0
		for f := p.receive(); string(f.payload) != last; f = p.receive() {
			require.Equal(t, pong(payload), f)
			got++
		}
		require.Less(t, got*122, 1<<20, "what waited was bounded")
		require.NotZero(t, c.Stats().PongsCoalesced)
		c.CloseNow()
		p.close()
	})
}

// A peer that has not read for a while and then reads again gets an answer to each ping again.
func TestRule6PatienceComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{PingInterval: -1})
		defer p.close()
		defer c.CloseNow()
		const pings = 3000
		payload := func(round string, i int) string { return fmt.Sprintf("%s%0100d", round, i) }
		flood := func(round string) {
			var all []byte
			for i := range pings {
				all = append(all, p.encode(ping(payload(round, i)))...)
			}
			go func() { _, _ = p.rwc.Write(all) }()
			synctest.Wait()
		}
		flood("first")
		time.Sleep(time.Second) // in the bubble
		require.NotZero(t, c.Stats().PongsCoalesced)
		for string(p.receive().payload) != payload("first", pings-1) {
		}
		coalesced := c.Stats().PongsCoalesced
		flood("again")
		for i := range pings {
			require.Equal(t, pong(payload("again", i)), p.receive())
		}
		require.Equal(t, coalesced, c.Stats().PongsCoalesced)
	})
}

// A connection that was dropped with Messages full ends with its peer: nobody reads, but pings find that out.
func TestRule5KeepaliveFindsTheEndOfAStalledConnection(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: interval})
			for range 20 {
				p.send(text("nobody receives this"))
			}
			start := time.Now()
			noPings := time.AfterFunc(10*time.Minute, p.close)
			for range 3 {
				require.Equal(t, byte(0x89), p.receive().first)
			}
			noPings.Stop()
			require.LessOrEqual(t, time.Since(start), 3*max(interval, 20*time.Second))
			require.Equal(t, wsd.StateOpen, c.State())
			p.close()
			select {
			case <-c.Closed():
			case <-time.After(2 * time.Minute):
				c.CloseNow()
				require.Fail(t, "the connection outlived its peer")
			}
			require.ErrorIs(t, c.CloseEvent().Err, io.ErrClosedPipe)
		})
	}
}

// A ping that is handled while the close frame leaves gets no pong after it (RFC 6455, section 5.5.1).
func TestRule6NoPongFollowsTheCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{SendQueue: -1})
		for range 100 {
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
		}
		synctest.Wait() // the writer waits for the peer
		flood := p.encode(ping(strings.Repeat("p", 125)))
		for len(flood) < 1<<20 {
			flood = append(flood, flood...)
		}
		go func() { _, _ = p.rwc.Write(flood) }()
		synctest.Wait() // the reader waits for the pongs to be written
		go func() { _ = c.Close(wsd.StatusNormalClosure, "") }()
		synctest.Wait()
		f := p.receive()
		for f.first != 0x88 {
			f = p.receive()
		}
		synctest.Wait()
		p.send(closeFrame(1000))
		p.expectEOF()
		<-c.Closed()
		require.True(t, c.CloseEvent().Clean)
		p.close()
	})
}

// The keepalive ends with the first sign of the end: nothing follows a close frame (RFC 6455, section 5.5.1), and a peer that
// takes its time to answer one has CloseTimeout for it.
func TestRule3KeepaliveEndsWithTheCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, p := servedConn(t, wsd.Config{PingInterval: time.Second, PongTimeout: time.Second, CloseTimeout: time.Minute})
		closed := make(chan error, 1)
		go func() { closed <- conn.Close(wsd.StatusNormalClosure, "") }()
		require.Equal(t, byte(0x88), p.receive().first)
		time.Sleep(30 * time.Second) // in the bubble
		p.send(closeFrame(1000))
		p.expectEOF()
		require.NoError(t, <-closed)
		p.close()
	})
}

func TestRule7DeclaredLengthsAllocateNothing(t *testing.T) {
	for name, header := range map[string][]byte{
		"2^62 bytes":              {0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		"64 MiB - 1":              {0x82, 0xFF, 0, 0, 0, 0, 0x03, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4},
		"64 MiB - 1 in fragments": {0x02, 0xFF, 0, 0, 0, 0, 0x03, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "2^62 bytes" && strconv.IntSize == 32 {
				t.Skip("no slice could hold that: it is refused by its header")
			}
			synctest.Test(t, func(t *testing.T) {
				cfg := wsd.Config{}
				if name == "2^62 bytes" {
					cfg.MaxMessageSize = -1
				}
				const conns, body = 20, 10000
				attack := append(header[:len(header):len(header)], make([]byte, body)...)
				var open []*wsd.Conn
				var peers []*peer
				for range conns {
					c, p := servedConn(t, cfg)
					defer p.close()
					open, peers = append(open, c), append(peers, p)
					p.sendRaw(attack[:len(header)])
				}
				synctest.Wait()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for _, c := range open {
					require.Equal(t, wsd.StateOpen, c.State())
				}
				for _, p := range peers {
					p.sendRaw(attack[len(header):])
				}
				synctest.Wait()
				runtime.ReadMemStats(&after)
				// Ten kilobytes of each have come: at most a small multiple of that may be held.
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(conns*16*body))
				for _, c := range open {
					c.CloseNow()
				}
			})
		})
	}
}

func TestRule7EveryLimitIsOnByDefault(t *testing.T) {
	type row struct {
		name string
		send func(p *peer)
		code wsd.StatusCode
	}
	for _, row := range []row{
		{"a message of 64 MiB", func(p *peer) {
			p.sendRaw([]byte{0x82, 0xFF, 0, 0, 0, 0, 0x04, 0, 0, 0})
		}, wsd.StatusMessageTooBig},
		{"a frame of 2^63 - 1 bytes", func(p *peer) {
			p.sendRaw([]byte{0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
		}, wsd.StatusMessageTooBig},
		{"a frame of 2^63 bytes", func(p *peer) {
			p.sendRaw([]byte{0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0})
		}, wsd.StatusProtocolError},
		{"a frame of 2^64 - 1 bytes", func(p *peer) {
			p.sendRaw([]byte{0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
		}, wsd.StatusProtocolError},
		{"a million empty fragments", func(p *peer) {
			p.send(frame{0x02, nil})
			piece := p.encode(frame{0x00, nil})
			var pieces []byte
			for range 1000 {
				pieces = append(pieces, piece...)
			}
			for range 1000 {
				if _, err := p.rwc.Write(pieces); err != nil {
					return
				}
			}
		}, wsd.StatusPolicyViolation},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			go row.send(p)
			var violation *wsd.ProtocolError
			require.ErrorAs(t, <-c.Errors(), &violation)
			require.Equal(t, row.code, violation.Code)
			p.expectClose(int(row.code))
			p.close()
			<-c.Closed()
			require.Equal(t, row.code, c.CloseEvent().Code)
		})
	}
}

func TestRule8CallsAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		p.send(frame{0x88, closePayload(4321, "enough")})
		<-c.Closed()
		calls := map[string]func() error{
			"Send":      func() error { return c.Send(t.Context(), wsd.Text("x")) },
			"Send 1MiB": func() error { return c.Send(t.Context(), wsd.Binary(make([]byte, 1<<20))) },
			"Ping":      func() error { _, err := c.Ping(t.Context(), nil); return err },
			"Receive":   func() error { _, err := c.Receive(t.Context()); return err },
			"Writer":    func() error { _, err := c.Writer(t.Context(), wsd.TextMessage, nil).Write([]byte("x")); return err },
		}
		own := c.Context()
		calls["Send with the connection's own context"] = func() error { return c.Send(own, wsd.Text("x")) }
		calls["Receive with the connection's own context"] = func() error { _, err := c.Receive(own); return err }
		for name, call := range calls {
			err := call()
			require.ErrorIs(t, err, wsd.ErrClosed, name)
			var closed *wsd.CloseError
			require.ErrorAs(t, err, &closed, name)
			require.Equal(t, wsd.StatusCode(4321), closed.Code, name)
			require.Contains(t, err.Error(), "enough", name)
		}
		require.NoError(t, c.Flush(t.Context()), "nothing was queued, so nothing is missing")
		require.NoError(t, c.Close(wsd.StatusNormalClosure, ""), "the handshake was completed")
		c.CloseNow()
		p.close()
	})
}

// Between a failed write and the end, the reader looks for the peer's close frame, and calls say what failed.
func TestRule8CallsAfterAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := wsdtest.Transport()
		defer a.Close()
		c := wsd.NewConn(&brokenWriter{ReadWriteCloser: b}, wsd.ServerRole, wsd.Config{})
		require.ErrorIs(t, c.Send(t.Context(), wsd.Binary(make([]byte, 1<<20))), errBroken, "the one that failed")
		require.Equal(t, wsd.StateClosing, c.State())
		_, pingErr := c.Ping(t.Context(), nil)
		for call, err := range map[string]error{
			"Send":  c.Send(t.Context(), wsd.Text("x")),
			"Flush": c.Flush(t.Context()),
			"Ping":  pingErr,
		} {
			require.ErrorIs(t, err, wsd.ErrClosed, call)
			require.ErrorIs(t, err, errBroken, call)
			require.EqualError(t, err, "wsd: connection closed: write: broken", call)
		}
		<-c.Closed()
	})
}

func TestRule9BadHandshakesAreRefusedBeforeTheTakeover(t *testing.T) {
	for name, row := range map[string]struct {
		spoil  func(*http.Request)
		status int
		header string // of the answer
		value  string
	}{
		"RFC 6455, section 4.2.1: not a GET":     {func(r *http.Request) { r.Method = "POST" }, 405, "Allow", "GET"},
		"RFC 6455, section 4.2.1: HTTP/1.0":      {func(r *http.Request) { r.ProtoMinor = 0 }, 400, "", ""},
		"RFC 6455, section 4.2.1: no upgrade":    {func(r *http.Request) { r.Header.Del("Upgrade") }, 426, "Upgrade", "websocket"},
		"RFC 6455, section 4.2.1: no connection": {func(r *http.Request) { r.Header.Set("Connection", "close") }, 426, "", ""},
		"RFC 6455, section 4.2.1: a short key":   {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "AAAA") }, 400, "", ""},
		"RFC 6455, section 4.4: another version": {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }, 426, "Sec-WebSocket-Version", "13"},
		"RFC 6455, section 10.2: a foreign page": {func(r *http.Request) { r.Header.Set("Origin", "https://elsewhere.example") }, 403, "", ""},
		"none of this: it is to be taken over":   {func(*http.Request) {}, 500, "", ""}, // by a ResponseWriter that cannot
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://example.com/", nil)
			for field, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade",
				"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"} {
				r.Header.Set(field, value)
			}
			row.spoil(r)
			w := &hijackRefuser{ResponseRecorder: httptest.NewRecorder()}
			_, err := wsd.Accept(w, r, nil)
			var refused *wsd.HandshakeError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, row.status, refused.StatusCode)
			require.Equal(t, row.status, w.Code)
			require.Equal(t, row.status == 500, w.tried, "taking the connection over")
			require.Equal(t, row.value, strings.Join(w.Header()[row.header], ""), "as it is spelt on the wire")
			require.NotEmpty(t, w.Body.String(), "it says what was wrong")
		})
	}
}

// hijackRefuser is a ResponseWriter that cannot hand its connection over, and knows whether it was asked to.
type hijackRefuser struct {
	*httptest.ResponseRecorder
	tried bool
}

func (w *hijackRefuser) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.tried = true
	return nil, nil, errors.New("not here")
}

func TestRule10ViolationEndsReadingAtOnce(t *testing.T) {
	t.Run("what came whole before it is answered ahead of the close frame", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		go echo(c)
		p.send(text("one"), text("two"), frame{0x8F, nil}, text("never"))
		require.Equal(t, text("one"), p.receive())
		require.Equal(t, text("two"), p.receive())
		p.expectClose(1002)
		p.close()
		<-c.Closed()
	})
	t.Run("a consumer that closes when Messages ends does not change the code", func(t *testing.T) {
		for range 100 {
			c, p := servedConn(t, wsd.Config{})
			go func() {
				echo(c)
				_ = c.Close(wsd.StatusNormalClosure, "")
			}()
			p.send(text("good"), frame{0x83, nil})
			require.Equal(t, text("good"), p.receive())
			p.expectClose(1002)
			p.close()
			<-c.Closed()
			require.Equal(t, wsd.StatusProtocolError, c.CloseEvent().Code)
		}
	})
	t.Run("inside a frame whose rest has not come", func(t *testing.T) {
		for name, cut := range map[string][]byte{
			"bad UTF-8":       {0x81, 0xFE, 0x10, 0x00, 0, 0, 0, 0, 'a', 0xFF},
			"reserved opcode": {0x83},
			"reserved bit":    {0xC1},
			"unmasked":        {0x81, 0x05},
			"long ping":       {0x89, 0xFE},
			"close of 1 byte": {0x88, 0x81},
			"bad close code":  {0x88, 0x85, 0, 0, 0, 0, 0x03, 0xEC},
		} {
			t.Run(name, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{})
				p.sendRaw(cut)
				code := 1002
				if name == "bad UTF-8" {
					code = 1007
				}
				p.expectClose(code)
				p.close()
				<-c.Closed()
			})
		}
	})
	t.Run("a consumer that does not answer holds it up for a bounded time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			start := time.Now()
			p.send(text("one"), frame{0x8F, nil})
			f := p.receive()
			require.Equal(t, byte(0x88), f.first)
			require.LessOrEqual(t, time.Since(start), 25*time.Millisecond)
			p.close()
			<-c.Closed()
		})
	})
	t.Run("one that never answers, for less", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			p.send(text("one"))
			time.Sleep(time.Second)
			p.send(text("two"))
			start := time.Now()
			p.send(frame{0x8F, nil})
			p.receive()
			require.LessOrEqual(t, time.Since(start), 25*time.Millisecond)
			p.close()
			<-c.Closed()
		})
	})
	t.Run("one that has come back for more and found the end, for none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			start := time.Now()
			p.send(text("one"), frame{0x8F, nil})
			_, err := c.Receive(t.Context())
			require.NoError(t, err)
			_, err = c.Receive(t.Context())
			var violation *wsd.ProtocolError
			require.ErrorAs(t, err, &violation)
			require.Equal(t, byte(0x88), p.receive().first)
			require.Zero(t, time.Since(start))
			p.close()
			<-c.Closed()
		})
	})
	t.Run("this side's bytes do not end while the peer goes on, which proxies would reset it for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			p.send(frame{0x8F, nil})
			require.Equal(t, byte(0x88), p.receive().first)
			start, ended := time.Now(), make(chan time.Duration, 1)
			go func() {
				p.expectEOF()
				ended <- time.Since(start)
			}()
			for pause := range 7 {
				time.Sleep(time.Duration(5+pause*10) * time.Millisecond)
				p.send(text("more"))
			}
			require.Equal(t, 345*time.Millisecond, <-ended, "a pause of 100 ms behind the last of them")
			p.close()
			<-c.Closed()
		})
	})
	t.Run("they end soon where the peer does not go on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			start := time.Now()
			p.send(frame{0x8F, nil})
			p.expectClose(1002)
			require.Equal(t, 10*time.Millisecond, time.Since(start))
			p.close()
			<-c.Closed()
		})
	})
	t.Run("and at once behind a close frame that breaks the rules", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			start := time.Now()
			p.send(closeFrame(1005))
			p.expectClose(1002)
			require.Zero(t, time.Since(start))
			p.close()
			<-c.Closed()
		})
	})
	t.Run("and no time where nothing came lately", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			p.send(text("one"))
			time.Sleep(time.Second)
			start := time.Now()
			p.send(closeFrame(1000))
			p.expectClose(1000)
			require.Zero(t, time.Since(start))
			p.close()
			<-c.Closed()
		})
	})
}

func TestRule11DataBelongsToItsOwner(t *testing.T) {
	t.Run("received data does not change, and has no room to grow into a neighbour", func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{MessageBuffer: 200})
		defer p.close()
		defer c.CloseNow()
		var frames []frame
		for i := range 200 {
			frames = append(frames, text(strings.Repeat(fmt.Sprint(i%10), i)))
		}
		p.send(frames...)
		var got []wsd.Message
		for range frames {
			m, err := c.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, len(m.Data), cap(m.Data))
			m.Data = append(m.Data, "overwrites nobody"...)
			got = append(got, m)
		}
		for i, m := range got {
			require.Equal(t, strings.Repeat(fmt.Sprint(i%10), i)+"overwrites nobody", string(m.Data))
		}
	})
	for _, size := range []int{10, 1000, 40 << 10, 3 << 20} {
		t.Run(fmt.Sprintf("sent data of %d bytes may be changed when Send returns", size), func(t *testing.T) {
			for role, pair := range map[string]func(testing.TB, wsd.Config) (*wsd.Conn, *peer){"server": servedConn, "client": clientConn} {
				c, p := pair(t, wsd.Config{})
				data := make([]byte, size)
				go func() {
					for i := range 5 {
						for j := range data {
							data[j] = byte(i)
						}
						if c.Send(t.Context(), wsd.Binary(data)) != nil {
							return
						}
					}
				}()
				for i := range 5 {
					for left := size; left > 0; {
						f := p.receive()
						for _, b := range f.payload {
							if b != byte(i) {
								t.Fatalf("%s: message %d holds a %d", role, i, b)
							}
						}
						left -= len(f.payload)
					}
				}
				c.CloseNow()
				p.close()
			}
		})
	}
}

func TestRule12MaskingKeys(t *testing.T) {
	c, p := clientConn(t, wsd.Config{})
	defer p.close()
	defer c.CloseNow()
	const sent = 2000
	go func() {
		for range sent {
			if c.Send(t.Context(), wsd.Binary([]byte{0, 0, 0, 0})) != nil {
				return
			}
		}
	}()
	keys := map[[4]byte]int{}
	ones := 0
	for range sent {
		var raw [10]byte
		_, err := io.ReadFull(p.rwc, raw[:])
		require.NoError(t, err)
		key := [4]byte(raw[2:6])
		keys[key]++
		for _, b := range key {
			for ; b != 0; b &= b - 1 {
				ones++
			}
		}
	}
	// Among 2,000 random keys two are the same once in 2,000 runs; more than two such pairs never occur.
	require.GreaterOrEqual(t, len(keys), sent-2)
	require.InDelta(t, sent*16, ones, sent, "half of the bits are ones")
}

func TestRule12RedirectsTakeNoCredentialsAlong(t *testing.T) {
	var seen http.Header
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.WriteHeader(http.StatusTeapot)
	}))
	defer elsewhere.Close()
	redirect := http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect)
	opts := &wsd.DialOptions{Header: http.Header{"Authorization": {"Bearer s3cret"}, "Cookie": {"id=1"}, "X-Other": {"stays"}}}

	home := httptest.NewServer(redirect)
	defer home.Close()
	_, resp, err := wsd.Dial(t.Context(), "ws"+strings.TrimPrefix(home.URL, "http"), opts)
	require.Error(t, err)
	require.Equal(t, http.StatusTeapot, resp.StatusCode, "the redirect was followed")
	require.Empty(t, seen.Values("Authorization"))
	require.Empty(t, seen.Values("Cookie"))
	require.Equal(t, "stays", seen.Get("X-Other"))

	// A redirect from wss to ws is not followed at all.
	seen = nil
	secure := httptest.NewTLSServer(redirect)
	defer secure.Close()
	opts.HTTPClient = secure.Client()
	_, _, err = wsd.Dial(t.Context(), "wss"+strings.TrimPrefix(secure.URL, "https"), opts)
	var refused *wsd.HandshakeError
	require.ErrorAs(t, err, &refused)
	require.Nil(t, seen)
}
