// interleavings_test.go checks that calls that overlap with each other, or with the end, do what they promise.

package wsd_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// watchedContext is a context that tells when somebody stops watching it, so that a test can step in between.
type watchedContext struct {
	context.Context
	done     chan struct{}
	onStop   func(watch func())
	watching int
	err      error // what Err says
}

func watched(t *testing.T, onStop func(watch func())) *watchedContext {
	return &watchedContext{Context: t.Context(), done: make(chan struct{}), onStop: onStop}
}

// Done returns a separate channel, without which the context package would look through to the context below.
func (w *watchedContext) Done() <-chan struct{} { return w.done }

func (w *watchedContext) Err() error { return w.err }

// AfterFunc is what context.AfterFunc uses where a context has it.
func (w *watchedContext) AfterFunc(watch func()) func() bool {
	w.watching++
	return func() bool {
		w.watching--
		if w.onStop != nil {
			w.onStop(watch)
		}
		return false
	}
}

// endingContext is done from the moment somebody waits for it, and something else has happened by then.
type endingContext struct {
	context.Context
	meanwhile func()
}

func (e endingContext) Done() <-chan struct{} {
	e.meanwhile()
	done := make(chan struct{})
	close(done)
	return done
}

func (e endingContext) Err() error { return nil }

// The connection's own context ends with it: Receive returns the message, or the cause, whichever case select picks.
func TestReceiveWhoseContextEndsBesideIt(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{})
			defer p.close()
			m, err := c.Receive(endingContext{t.Context(), func() { p.send(text("last")); synctest.Wait() }})
			require.NoError(t, err)
			require.Equal(t, "last", string(m.Data))
			_, err = c.Receive(endingContext{t.Context(), c.CloseNow})
			require.ErrorIs(t, err, wsd.ErrClosed)
		})
	}
}

// Likewise, Ping and Flush return their answer, or the end.
func TestPingAndFlushWhoseContextEndsBesideThem(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			answer := func() {
				p.send(frame{0x8A, p.receive().payload})
				synctest.Wait()
			}
			_, err := c.Ping(endingContext{t.Context(), answer}, nil)
			require.NoError(t, err)
			_, err = c.Ping(endingContext{t.Context(), c.CloseNow}, nil)
			require.ErrorIs(t, err, wsd.ErrClosed)
		})
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			fill := func() {
				for range 4 { // two that fit the pipe, one that does not, and one in the queue
					require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 30<<10))))
					synctest.Wait()
				}
			}
			fill()
			drain := func() {
				for range 4 {
					p.receive()
				}
				synctest.Wait()
			}
			require.NoError(t, c.Flush(endingContext{t.Context(), drain}))
			fill()
			require.ErrorIs(t, c.Flush(endingContext{t.Context(), c.CloseNow}), wsd.ErrClosed)
		})
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 30<<10))))
			go func() { _ = c.Send(t.Context(), wsd.Binary(make([]byte, 60<<10))) }() // more than the pipe takes
			synctest.Wait()
			var pings sync.WaitGroup
			for range 520 { // more than may wait to be written
				pings.Go(func() { _, _ = c.Ping(t.Context(), make([]byte, 125)) })
			}
			synctest.Wait()
			_, err := c.Ping(endingContext{t.Context(), c.CloseNow}, nil)
			require.ErrorIs(t, err, wsd.ErrClosed)
			pings.Wait()
		})
	}
}

func TestFlushAfterAWriterWhoseEndIsWrittenBeforeCloseReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{PingInterval: -1})
		defer p.close()
		defer c.CloseNow()
		// While Close is on its way out, the writer goroutine has all the time it needs.
		w := c.Writer(watched(t, func(func()) { synctest.Wait() }), wsd.TextMessage, nil)
		_, err := w.Write([]byte("whole"))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.Equal(t, frame{0x01, []byte("whole")}, p.receive())
		require.Equal(t, frame{0x80, []byte{}}, p.receive())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, c.Flush(ctx))
	})
}

func TestContextThatEndsBesideTheLastFragment(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			defer c.CloseNow()
			ctx, cancel := context.WithCancel(t.Context())
			w := c.Writer(ctx, wsd.TextMessage, nil)
			_, err := w.Write([]byte("whole"))
			require.NoError(t, err)
			// The function that watches the context runs in its own goroutine, which Close may overtake.
			cancel()
			err = w.Close()
			synctest.Wait()
			if err != nil {
				require.ErrorIs(t, err, context.Canceled)
				return
			}
			require.NoError(t, c.Send(t.Context(), wsd.Text("next")), "the message was complete")
		})
	}
}

func TestWriterClosedTwice(t *testing.T) {
	c, p := servedConn(t, wsd.Config{})
	defer p.close()
	defer c.CloseNow()
	w := c.Writer(t.Context(), wsd.TextMessage, nil)
	_, err := w.Write([]byte("whole"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Error(t, w.Close())
	require.Equal(t, wsd.StateOpen, c.State())
	require.NoError(t, c.CloseEvent().Err)
	require.NoError(t, c.Send(t.Context(), wsd.Text("unharmed")))
}

func TestWriterLeavesNothingInItsContext(t *testing.T) {
	for name, end := range map[string]func(c *wsd.Conn, p *peer){
		"complete":                func(*wsd.Conn, *peer) {},
		"the connection ended":    func(c *wsd.Conn, _ *peer) { c.CloseNow() },
		"the connection is ended": func(_ *wsd.Conn, p *peer) { p.close(); synctest.Wait() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{PingInterval: -1})
				defer p.close()
				defer c.CloseNow()
				ctx := watched(t, nil)
				w := c.Writer(ctx, wsd.TextMessage, nil)
				_, err := w.Write([]byte("begun"))
				require.NoError(t, err)
				require.Equal(t, 1, ctx.watching)
				end(c, p)
				_ = w.Close()
				require.Zero(t, ctx.watching)
			})
		})
	}
	t.Run("ends inside a character", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{PingInterval: -1})
			defer p.close()
			defer c.CloseNow()
			ctx := watched(t, nil)
			w := c.Writer(ctx, wsd.TextMessage, nil)
			_, err := w.Write([]byte("\xE2\x82"))
			require.NoError(t, err)
			require.ErrorIs(t, w.Close(), wsd.ErrInvalidMessage)
			require.Zero(t, ctx.watching)
			require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrInvalidMessage, "the cause says what was wrong")
			require.NotContains(t, c.CloseEvent().Err.Error(), "%!")
		})
	})
}

func TestContextEndsAWriteThatWaitsForTheQueue(t *testing.T) {
	for _, closeTimeout := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{SendQueue: 1000, PingInterval: -1, CloseTimeout: closeTimeout})
			defer p.close()
			defer c.CloseNow()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			w := c.Writer(ctx, wsd.BinaryMessage, nil)
			start := time.Now()
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 1000))
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Second, time.Since(start))
		})
	}
}

// A message of which nothing has been queued has not begun: giving it up does no harm, as with Send.
func TestContextEndsAWriterThatHasNotBegun(t *testing.T) {
	for name, begin := range map[string]func(w io.WriteCloser) error{
		"Write": func(w io.WriteCloser) error { _, err := w.Write(make([]byte, 1000)); return err },
		"Close": func(w io.WriteCloser) error { return w.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{SendQueue: 1014, PingInterval: -1})
				defer p.close()
				defer c.CloseNow()
				full := make([]byte, 1000)
				for sent := 0; ; sent++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					err := c.Send(ctx, wsd.Binary(full))
					if cancel(); err == nil {
						continue
					}
					require.ErrorIs(t, err, context.DeadlineExceeded)
					ctx, cancel = context.WithTimeout(t.Context(), time.Second)
					w := c.Writer(ctx, wsd.BinaryMessage, nil)
					require.ErrorIs(t, begin(w), context.DeadlineExceeded)
					cancel()
					require.Error(t, w.Close())
					synctest.Wait()
					require.Equal(t, wsd.StateOpen, c.State())
					for range sent {
						require.Equal(t, binaryFrame(full), p.receive())
					}
					break
				}
				require.NoError(t, c.Send(t.Context(), wsd.Text("next")), "the queue is others' again")
				require.Equal(t, text("next"), p.receive())
			})
		})
	}
}

func TestFlushAcrossACancelledSend(t *testing.T) {
	for name, last := range map[string]bool{"nothing behind it": false, "a message behind it": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{SendQueue: -1, PingInterval: -1})
				defer p.close()
				defer c.CloseNow()
				const before = 40
				for range before {
					require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
				}
				synctest.Wait() // the writer waits for the peer
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				var calls sync.WaitGroup
				calls.Go(func() {
					err := c.Send(ctx, wsd.Binary(make([]byte, 100<<10)))
					require.ErrorIs(t, err, context.DeadlineExceeded)
				})
				synctest.Wait()
				flushed := make(chan error, 1)
				calls.Go(func() { flushed <- c.Flush(t.Context()) })
				time.Sleep(2 * time.Second) // in the bubble
				if last {
					require.NoError(t, c.Send(t.Context(), wsd.Text("behind")))
				}
				require.Empty(t, flushed, "what was queued before is not written yet")
				for range before {
					require.Len(t, p.receive().payload, 4096)
				}
				if last {
					require.Equal(t, text("behind"), p.receive())
				}
				synctest.Wait()
				require.Len(t, flushed, 1, "Flush waits for a message that nobody sends any more")
				require.NoError(t, <-flushed)
				c.CloseNow()
				calls.Wait()
			})
		})
	}
}

// pingsThatWait begins pings until the writer waits for a peer that does not read, and returns their group.
func pingsThatWait(ctx context.Context, t *testing.T, c *wsd.Conn, count int) *sync.WaitGroup {
	t.Helper()
	var calls sync.WaitGroup
	for range count {
		calls.Go(func() { _, _ = c.Ping(ctx, make([]byte, 125)) })
	}
	synctest.Wait()
	return &calls
}

// Only pings are ahead of the message that is given up: Flush waits for none of their writes.
func TestFlushAcrossACancelledSendBehindPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{PingInterval: -1})
		defer p.close()
		calls := pingsThatWait(t.Context(), t, c, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		calls.Go(func() { require.ErrorIs(t, c.Send(ctx, wsd.Binary(make([]byte, 100<<10))), context.Canceled) })
		synctest.Wait()
		flushed := make(chan error, 1)
		calls.Go(func() { flushed <- c.Flush(t.Context()) })
		synctest.Wait()
		require.Empty(t, flushed)
		cancel()
		synctest.Wait()
		require.Len(t, flushed, 1, "Flush waits for a message that nobody sends any more")
		require.NoError(t, <-flushed)
		c.CloseNow()
		calls.Wait()
	})
}

// What waits to be written is bounded for pings too, however many there are and whoever sends them.
func TestPingsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{PingInterval: -1})
		ctx, cancel := context.WithCancel(t.Context())
		const begun = 5000
		calls := pingsThatWait(ctx, t, c, begun)
		cancel() // those that wait for room have not been taken
		calls.Wait()
		go func() { _ = c.Close(wsd.StatusNormalClosure, "") }()
		taken := 0
		for p.receive().first == 0x89 {
			taken++
		}
		// 64 KiB each in the transport, with the writer, and waiting behind it.
		require.LessOrEqual(t, taken, 3*(64<<10)/127+3, "of %d", begun)
		p.close()
		<-c.Closed()
	})
}

// nosyContext asks for the state of the connection whenever anybody asks anything of it, and tells when somebody waits.
type nosyContext struct {
	context.Context
	conn   *wsd.Conn
	waited func()
}

func (n *nosyContext) Done() <-chan struct{} {
	n.conn.State()
	n.waited()
	return n.Context.Done()
}

func (n *nosyContext) Err() error {
	n.conn.State()
	return n.Context.Err()
}

func (n *nosyContext) Value(key any) any {
	n.conn.State()
	return n.Context.Value(key)
}

// AfterFunc is what context.AfterFunc uses where a context has it.
func (n *nosyContext) AfterFunc(watch func()) func() bool {
	n.conn.State()
	stop := context.AfterFunc(n.Context, watch)
	n.waited()
	return func() bool {
		n.conn.State()
		return stop()
	}
}

// A context is foreign code, and may use the very connection that it is passed to.
func TestContextThatAsksForTheConnection(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, c *wsd.Conn) error{
		"Send":    func(ctx context.Context, c *wsd.Conn) error { return c.Send(ctx, wsd.Binary(make([]byte, 100<<10))) },
		"Flush":   func(ctx context.Context, c *wsd.Conn) error { return c.Flush(ctx) },
		"Ping":    func(ctx context.Context, c *wsd.Conn) error { _, err := c.Ping(ctx, nil); return err },
		"Receive": func(ctx context.Context, c *wsd.Conn) error { _, err := c.Receive(ctx); return err },
		"Writer": func(ctx context.Context, c *wsd.Conn) error {
			w := c.Writer(ctx, wsd.TextMessage, nil)
			if _, err := w.Write([]byte("a part")); err != nil {
				return err
			}
			<-c.Context().Done()
			return w.Close()
		},
	} {
		for _, beforehand := range []bool{false, true} {
			c, p := servedConn(t, wsd.Config{SendQueue: -1, PingInterval: -1, CloseTimeout: time.Millisecond})
			for range 40 { // more than there is room for while the peer does not read
				require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
			}
			ctx, cancel := context.WithCancel(t.Context())
			if beforehand {
				cancel()
			}
			returned := make(chan error, 1)
			go func() { returned <- call(&nosyContext{ctx, c, cancel}, c) }()
			select {
			case err := <-returned:
				require.True(t, errors.Is(err, context.Canceled) || errors.Is(err, wsd.ErrClosed), "%s: %v", name, err)
			case <-time.After(10 * time.Second):
				require.FailNow(t, name+" waits for itself")
			}
			cancel()
			c.CloseNow()
			p.close()
		}
	}
}

func TestEndIsNotCleanWhereTheCloseFrameWasNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{SendQueue: -1, PingInterval: -1})
		defer p.close()
		for range 40 {
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
		}
		// The peer closes and reads nothing, so what was queued is lost, and so is the answer.
		p.send(closeFrame(1000))
		err := c.Close(wsd.StatusNormalClosure, "")
		require.ErrorIs(t, err, wsd.ErrClosed, "half of what was sent has not been written")
		require.False(t, c.CloseEvent().Clean)
		require.Error(t, <-c.Errors())
	})
}

// In TestAbortBetweenASenderThatWritesAndALargeMessage, when the connection ends, one sender is in the middle of writing
// from its own goroutine, and another waits for a writer goroutine that does not exist yet.
func TestAbortBetweenASenderThatWritesAndALargeMessage(t *testing.T) {
	a, b := tcpPair(t)
	defer a.Close()
	c := wsd.NewConn(b, wsd.ServerRole, wsd.Config{PingInterval: -1})
	p := &peer{t, a, true}
	p.send(text("question"))
	<-c.Messages()
	// Holding the descriptor for writing holds up the sender.
	raw, err := b.SyscallConn()
	require.NoError(t, err)
	held, release := make(chan struct{}), make(chan struct{})
	var calls sync.WaitGroup
	calls.Go(func() {
		_ = raw.Write(func(uintptr) bool {
			close(held)
			<-release
			return true
		})
	})
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := make(chan error, 2)
	for i, size := range []int{10, 100 << 10} {
		calls.Go(func() { sent <- c.Send(ctx, wsd.Binary(make([]byte, size))) })
		for c.Stats().MessagesSent <= uint64(i) {
			runtime.Gosched()
		}
	}
	calls.Go(c.CloseNow)
	for c.State() == wsd.StateOpen {
		runtime.Gosched()
	}
	close(release)
	guard := time.AfterFunc(10*time.Second, func() {
		t.Error("a Send hangs on a connection that has ended")
		cancel()
	})
	calls.Wait()
	guard.Stop()
}

// TestKeepaliveOfAPeerThatReadsSlowly has a queue that takes longer to write than the keepalive waits.
func TestKeepaliveOfAPeerThatReadsSlowly(t *testing.T) {
	for name, send := range map[string]func(t *testing.T, c *wsd.Conn){
		"small messages": func(t *testing.T, c *wsd.Conn) {
			for range 1024 {
				require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
			}
		},
		"a message in pieces": func(t *testing.T, c *wsd.Conn) {
			w := c.Writer(t.Context(), wsd.BinaryMessage, nil)
			_, err := w.Write(make([]byte, 4<<20))
			require.NoError(t, err)
			require.NoError(t, w.Close())
		},
		"a large message": func(t *testing.T, c *wsd.Conn) {
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4<<20))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := wsdtest.Transport()
				defer a.Close()
				c := wsd.NewConn(b, wsd.ServerRole, wsd.Config{SendQueue: -1})
				defer c.CloseNow()
				var sender sync.WaitGroup
				sender.Go(func() { send(t, c) })
				p := &peer{t, slowReader{a}, true}
				for received := 0; received < 4<<20; {
					f := p.receive()
					if f.first == 0x89 {
						p.send(frame{0x8A, f.payload})
						continue
					}
					received += len(f.payload)
				}
				require.Equal(t, wsd.StateOpen, c.State())
				sender.Wait()
			})
		})
	}
}

// slowReader reads 32 KiB a second, of the bubble's time.
type slowReader struct{ io.ReadWriteCloser }

func (s slowReader) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	time.Sleep(time.Duration(n) * time.Second / (32 << 10))
	return n, err
}

func TestLongMessageDoesNotMakeShortOnesLong(t *testing.T) {
	p := wsd.NewParser(wsd.ClientRole, wsd.Config{})
	parse := func(b []byte) (messages int) {
		for len(b) > 0 {
			event, n, err := p.Parse(b)
			require.NoError(t, err)
			if event.Opcode == wsd.OpBinary {
				messages++
			}
			b = b[n:]
		}
		return messages
	}
	long := encodeFrame(binaryFrame(make([]byte, 1<<20)), false)
	require.Zero(t, parse(long[:100]))
	require.Equal(t, 1, parse(long[100:]))
	const messages = 100
	var short []byte
	for range messages {
		short = append(short, encodeFrame(frame{0x02, []byte("in ")}, false)...)
		short = append(short, encodeFrame(frame{0x80, []byte("pieces")}, false)...)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.Equal(t, messages, parse(short))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "a hundred messages of nine bytes")
}

// TestAWriterWritesWhileTheConnectionIsCutOff is for the race detector: what a Writer looks at without a lock must not be
// written to when the queue is emptied.
func TestAWriterWritesWhileTheConnectionIsCutOff(t *testing.T) {
	for range 50 {
		client, _ := wsdtest.Pipe()
		written := make(chan struct{})
		go func() {
			defer close(written)
			w := client.Writer(context.Background(), wsd.BinaryMessage, nil)
			for {
				if _, err := w.Write(make([]byte, 100)); err != nil {
					return
				}
			}
		}()
		client.CloseNow()
		<-written
	}
}
