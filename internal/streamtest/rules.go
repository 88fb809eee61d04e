// rules.go is the rules of a connection's life, in the order of docs/architecture.md.

package streamtest

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// short is a time that is to run out: Config has it where the peer does not do its part.
const short = 50 * time.Millisecond

// opener opens a connection, with a peer at its other end.
type opener func(testing.TB, wsd.Config) (*wsd.Conn, *peer)

// Rules holds the connections of a carrier to the rules, at both ends.
func Rules(t *testing.T, c *Carrier) {
	for role, open := range map[string]opener{"server": c.served, "client": c.dialed} {
		for name, rule := range map[string]func(*testing.T, opener){
			"1 order of the end": orderOfTheEnd, "2 first cause": firstCause, "3 Close ends": closeEnds,
			"5 slow consumers": slowConsumers, "6 pings": pings, "7 lengths": lengths, "8 after the end": afterTheEnd,
			"10 violations": violations,
		} {
			t.Run(role+"/"+name, func(t *testing.T) { rule(t, open) })
		}
		t.Run(role+"/4 no goroutine is left", func(t *testing.T) { c.leavesNothing(t, open) })
	}
	t.Run("9 handshakes", c.handshakes)
	t.Run("11 data belongs to its owner", c.data)
	t.Run("12 masking keys", c.maskingKeys)
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "never: %s", what)
	}
}

// requireGoroutines waits until there are no more goroutines than that.
func requireGoroutines(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > most; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			t.Fatalf("%d goroutines, where %d were before:\n%s", runtime.NumGoroutine(), most, stacks.String())
		}
	}
}

func echo(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
	}
}

func orderOfTheEnd(t *testing.T, open opener) {
	for name, end := range map[string]func(*wsd.Conn, *peer){
		"the peer closes":   func(_ *wsd.Conn, p *peer) { p.send(closeFrame(1000)); p.expectClose(1000); p.end() },
		"the peer violates": func(_ *wsd.Conn, p *peer) { p.send(reserved(3)); p.expectClose(1002); p.end() },
		"the stream ends":   func(_ *wsd.Conn, p *peer) { p.end() },
		"a reset":           func(_ *wsd.Conn, p *peer) { p.reset() },
		"this side closes": func(c *wsd.Conn, p *peer) {
			_ = c.StartClose(1000, "")
			p.expectClose(1000)
			p.send(closeFrame(1000))
			p.end()
		},
		"this side aborts": func(c *wsd.Conn, _ *peer) { c.CloseNow() },
	} {
		t.Run(name, func(t *testing.T) {
			c, p := open(t, wsd.Config{})
			p.send(text("one"), text("two"))
			until(t, "both are there", func() bool { return c.Stats().MessagesReceived == 2 })
			end(c, p)
			<-c.Closed()
			require.Equal(t, wsd.StateClosed, c.State())
			event := c.CloseEvent()
			require.Equal(t, strings.HasSuffix(name, "closes") || name == "the peer violates" && event.Clean, event.Clean)
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
			if event.Clean && !strings.HasSuffix(name, "violates") {
				require.Empty(t, reported)
			} else {
				require.Equal(t, []error{event.Err}, reported)
			}
		})
	}
}

func firstCause(t *testing.T, open opener) {
	c, p := open(t, wsd.Config{})
	p.send(frame{first: 0x88, payload: closePayload(4001, "bye")})
	p.end()
	<-c.Closed()
	require.Equal(t, wsd.StatusCode(4001), c.CloseEvent().Code)
	require.Equal(t, &wsd.CloseError{Code: 4001, Reason: "bye"}, c.CloseEvent().Err)

	c, p = open(t, wsd.Config{})
	p.send(reserved(3))
	p.end()
	<-c.Closed()
	violation := new(wsd.ProtocolError)
	require.ErrorAs(t, c.CloseEvent().Err, &violation)
	require.Equal(t, wsd.StatusProtocolError, c.CloseEvent().Code)

	c, _ = open(t, wsd.Config{})
	c.CloseNow()
	require.ErrorContains(t, c.CloseEvent().Err, "CloseNow")
}

func closeEnds(t *testing.T, open opener) {
	for name, play := range map[string]func(*peer){
		"a peer that never answers":       func(*peer) {},
		"a peer that ends the stream":     func(p *peer) { p.end() },
		"a peer that resets the stream":   func(p *peer) { p.reset() },
		"a peer that violates instead":    func(p *peer) { p.send(reserved(3)) },
		"a peer that stops in the middle": func(p *peer) { p.sendRaw(wiretest.Header(0x81, 100, p.masks)) },
	} {
		t.Run(name, func(t *testing.T) {
			c, p := open(t, wsd.Config{CloseTimeout: short})
			for range 20 {
				p.send(text("nobody receives this"))
			}
			var playing sync.WaitGroup
			playing.Go(func() { play(p) })
			require.ErrorIs(t, c.Close(wsd.StatusNormalClosure, "done"), wsd.ErrClosed)
			require.False(t, c.CloseEvent().Clean)
			playing.Wait()
		})
	}
	t.Run("a peer that reads nothing", func(t *testing.T) {
		c, _ := open(t, wsd.Config{SendQueue: -1, CloseTimeout: short})
		for range 200 {
			require.NoError(t, c.TrySend(wsd.Binary(make([]byte, 128<<10)))) // more than all windows have room for
		}
		require.ErrorIs(t, c.Close(wsd.StatusNormalClosure, ""), wsd.ErrCloseTimeout)
	})
}

// leavesNothing ends connections whose callers and readers wait.
func (c *Carrier) leavesNothing(t *testing.T, open opener) {
	kept, _ := open(t, wsd.Config{PingInterval: -1}) // so that what streams share stays
	before := runtime.NumGoroutine()
	for name, end := range map[string]func(*wsd.Conn, *peer){
		"abort":  func(c *wsd.Conn, _ *peer) { c.CloseNow() },
		"close":  func(c *wsd.Conn, _ *peer) { _ = c.Close(1000, "") },
		"reset":  func(_ *wsd.Conn, p *peer) { p.reset() },
		"an end": func(_ *wsd.Conn, p *peer) { p.end() },
	} {
		conn, p := open(t, wsd.Config{SendQueue: 1000, CloseTimeout: short})
		for range 20 {
			p.send(text("nobody receives this"))
		}
		var callers sync.WaitGroup
		for _, call := range []func() error{
			func() error { return conn.Send(t.Context(), wsd.Binary(make([]byte, 4<<20))) },
			func() error { return conn.Send(t.Context(), wsd.Text("waits its turn")) },
			func() error { return conn.Flush(t.Context()) },
			func() error { _, err := conn.Ping(t.Context(), nil); return err },
			func() error { _, err := conn.Writer(t.Context(), wsd.TextMessage, nil).Write([]byte("x")); return err },
		} {
			callers.Go(func() { _ = call() })
		}
		until(t, "the reader waits", func() bool { return len(conn.Messages()) == cap(conn.Messages()) })
		if end(conn, p); name == "reset" || name == "an end" {
			time.AfterFunc(short, conn.CloseNow) // a reader that its consumer holds up does not see that
		}
		<-conn.Closed()
		callers.Wait()
		p.reset()
	}
	requireGoroutines(t, before)
	require.Equal(t, wsd.StateOpen, kept.State())
}

func slowConsumers(t *testing.T, open opener) {
	const sent = 20
	flood := func(p *peer) {
		for i := range sent {
			p.send(text(fmt.Sprint(i)))
		}
	}
	c, p := open(t, wsd.Config{MessageBuffer: 2})
	flood(p)
	for i := range sent {
		m, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(m.Data))
	}
	require.Zero(t, c.Stats().MessagesDropped)

	c, p = open(t, wsd.Config{MessageBuffer: 2, SlowConsumer: wsd.CloseSlow, StallTimeout: short})
	flood(p)
	p.expectClose(1013)
	p.end()
	<-c.Closed()
	require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrSlowConsumer)
	require.Len(t, c.Messages(), 2)

	c, p = open(t, wsd.Config{MessageBuffer: 2, SlowConsumer: wsd.DropSlow})
	flood(p)
	until(t, "all have come", func() bool { return c.Stats().MessagesReceived == sent })
	require.EqualValues(t, sent-2, c.Stats().MessagesDropped)
	require.ErrorIs(t, <-c.Errors(), wsd.ErrSlowConsumer)
	p.send(ping("still reading"))
	p.expect(pong("still reading"))
}

func pings(t *testing.T, open opener) {
	const many = 2000
	c, p := open(t, wsd.Config{})
	var all []frame
	for i := range many {
		all = append(all, ping(fmt.Sprint(i)))
	}
	var sending sync.WaitGroup
	sending.Go(func() { p.send(all...) })
	for i := range many {
		p.expect(pong(fmt.Sprint(i)))
	}
	sending.Wait()
	require.Zero(t, c.Stats().PongsCoalesced)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Ping(t.Context(), []byte("this side"))
		answered <- err
	}()
	p.expect(ping("this side"))
	p.send(pong("this side"))
	require.NoError(t, <-answered)
}

func lengths(t *testing.T, open opener) {
	c, p := open(t, wsd.Config{})
	p.sendRaw(wiretest.Header(0x82, 1<<62, p.masks))
	p.expectClose(1009)
	p.end()
	<-c.Closed()

	c, p = open(t, wsd.Config{MaxMessageSize: 1 << 30})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.sendRaw(wiretest.Header(0x82, 1<<30, p.masks))
	p.sendRaw(make([]byte, 10))
	p.end()
	<-c.Closed()
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
}

func afterTheEnd(t *testing.T, open opener) {
	for _, end := range []func(*wsd.Conn, *peer){
		func(c *wsd.Conn, _ *peer) { c.CloseNow() },
		func(_ *wsd.Conn, p *peer) { p.reset() },
		func(_ *wsd.Conn, p *peer) { p.send(frame{first: 0x88, payload: closePayload(4002, "")}); p.end() },
	} {
		c, p := open(t, wsd.Config{})
		end(c, p)
		<-c.Closed()
		for what, call := range map[string]func() error{
			"Send":    func() error { return c.Send(t.Context(), wsd.Text("late")) },
			"TrySend": func() error { return c.TrySend(wsd.Text("late")) },
			"Ping":    func() error { _, err := c.Ping(t.Context(), nil); return err },
			"Receive": func() error { _, err := c.Receive(t.Context()); return err },
		} {
			err := call()
			require.ErrorIs(t, err, wsd.ErrClosed, what)
			require.ErrorIs(t, err, c.CloseEvent().Err, what)
		}
	}
}

func violations(t *testing.T, open opener) {
	c, p := open(t, wsd.Config{})
	go echo(c)
	p.send(text("one"), text("two"), reserved(0xF), text("never"))
	p.expect(text("one"))
	p.expect(text("two"))
	p.expectClose(1002)
	_, err := p.in.ReadByte()
	require.Error(t, err, "nothing follows a close frame")
	p.end()
	<-c.Closed()
	require.EqualValues(t, 2, c.Stats().MessagesReceived)

	c, p = open(t, wsd.Config{})
	bad := wiretest.Frame(0x81, []byte("a\xff"+strings.Repeat("a", 200)), p.masks)
	p.sendRaw(bad[:len(bad)-100])
	p.expectClose(1007) // inside a frame whose rest has not come
	p.end()
	<-c.Closed()
}

func (c *Carrier) handshakes(t *testing.T) {
	refused := make(chan error, 1)
	for status, change := range map[int]func(*wsd.DialOptions){
		http.StatusForbidden:  func(o *wsd.DialOptions) { o.Header = http.Header{"Origin": {"https://elsewhere.example"}} },
		http.StatusBadRequest: func(o *wsd.DialOptions) { o.Subprotocols = []string{"other"} },
	} {
		opts := c.dialOptions(wsd.Config{})
		change(opts)
		err := c.open(func(w http.ResponseWriter, r *http.Request) {
			_, err := wsd.Accept(w, r, &wsd.AcceptOptions{Subprotocols: []string{"chat"}, RequireSubprotocol: true})
			refused <- err
		}, func(url string) error {
			_, _, err := wsd.Dial(t.Context(), url, opts)
			return err
		})
		problem := new(wsd.HandshakeError)
		require.ErrorAs(t, err, &problem)
		require.Equal(t, status, problem.StatusCode)
		require.ErrorAs(t, <-refused, &problem)
		require.Equal(t, status, problem.StatusCode)
	}
}

func (c *Carrier) data(t *testing.T) {
	client, server, err := c.pair(t.Context(), wsd.Config{}, wsd.Config{})
	require.NoError(t, err)
	defer client.CloseNow()
	go echo(server)
	const many = 200
	sent := make(chan error, 1)
	go func() {
		buffer := make([]byte, 2000)
		var err error
		for i := 0; i < many && err == nil; i++ {
			for j := range buffer {
				buffer[j] = byte(i)
			}
			err = client.Send(t.Context(), wsd.Binary(buffer[:i*10]))
			clear(buffer)
		}
		sent <- err
	}()
	var got []wsd.Message
	for range many {
		m, err := client.Receive(t.Context())
		require.NoError(t, err)
		got = append(got, m)
	}
	require.NoError(t, <-sent)
	for i, m := range got {
		require.Len(t, m.Data, i*10)
		for _, b := range m.Data {
			require.Equal(t, byte(i), b)
		}
	}
	require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
}

func (c *Carrier) maskingKeys(t *testing.T) {
	conn, p := c.dialed(t, wsd.Config{})
	keys := make(map[[4]byte]bool)
	for range 64 {
		require.NoError(t, conn.Send(t.Context(), wsd.Text("the same")))
		f := p.receive()
		require.Equal(t, "the same", f.payload)
		require.False(t, keys[f.key], "a masking key came again")
		keys[f.key] = true
	}
}
