// sendqueue_test.go checks what happens to what waits to be written: who is let in when others leave room, what Flush waits
// for, calls whose context ends in line, and what follows a failed write.

package wsd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// Every write that takes something from the queue lets senders in, with nothing else happening on the connection.
func TestEveryWriteLetsSendersIn(t *testing.T) {
	for name, send := range map[string]func(ctx context.Context, c *wsd.Conn, data []byte) error{
		"Send": func(ctx context.Context, c *wsd.Conn, data []byte) error { return c.Send(ctx, wsd.Binary(data)) },
		"SendPrepared": func(ctx context.Context, c *wsd.Conn, data []byte) error {
			return c.SendPrepared(ctx, prepared(wsd.Binary(data)))
		},
		"Writer": func(ctx context.Context, c *wsd.Conn, data []byte) error {
			w := c.Writer(ctx, wsd.BinaryMessage, nil)
			if _, err := w.Write(data); err != nil {
				return err
			}
			return w.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				const senders, each, size = 10, 20, 900
				c, p := pair(t, wsd.Config{SendQueue: 1000, PingInterval: -1})
				background := ends(t, c, p)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				errs := make(chan error, senders)
				for range senders {
					background.Go(func() {
						for range each {
							if err := send(ctx, c, make([]byte, size)); err != nil {
								errs <- err
								return
							}
						}
						errs <- nil
					})
				}
				synctest.Wait()
				require.Less(t, len(errs), senders, "the others wait for room")
				background.Go(func() {
					for received := 0; received < senders*each*size; {
						f, err := p.tryReceive()
						if err != nil {
							return
						}
						received += len(f.payload)
					}
				})
				for range senders {
					require.NoError(t, <-errs)
				}
			})
		})
	}
}

// failing is a transport whose first Write waits and then fails, while its Reads go on waiting. Later ones would succeed.
type failing struct {
	io.ReadWriteCloser
	release chan struct{}
	writes  atomic.Int64
}

func (f *failing) Write(p []byte) (int, error) {
	if f.writes.Add(1) > 1 {
		return len(p), nil
	}
	<-f.release
	return len(p) / 2, errBroken
}

// After a write that has failed, the peer cannot know where a frame begins: nothing more may be written.
func TestNothingIsWrittenAfterAFailedWrite(t *testing.T) {
	for name, more := range map[string]func(ctx context.Context, c *wsd.Conn){
		"messages": func(ctx context.Context, c *wsd.Conn) {
			for range 100 {
				_ = c.Send(ctx, wsd.Binary(make([]byte, 1000)))
			}
		},
		"a large message": func(ctx context.Context, c *wsd.Conn) { _ = c.Send(ctx, wsd.Binary(make([]byte, 1<<20))) },
		"a message in pieces": func(ctx context.Context, c *wsd.Conn) {
			_, _ = c.Writer(ctx, wsd.TextMessage, nil).Write([]byte("piece"))
		},
		"a ping":        func(ctx context.Context, c *wsd.Conn) { _, _ = c.Ping(ctx, nil) },
		"a close frame": func(_ context.Context, c *wsd.Conn) { _ = c.Close(wsd.StatusNormalClosure, "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := wsdtest.Transport()
				transport := &failing{ReadWriteCloser: b, release: make(chan struct{})}
				c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{SendQueue: -1, PingInterval: -1})
				p := &peer{t, a, true}
				background := ends(t, c, p)
				require.NoError(t, c.Send(t.Context(), wsd.Text("lost")))
				synctest.Wait() // it is being written
				background.Go(func() { more(t.Context(), c) })
				synctest.Wait() // this waits behind it
				p.send(ping("a pong waits, too"))
				synctest.Wait()
				close(transport.release)
				<-c.Closed()
				require.ErrorIs(t, c.CloseEvent().Err, errBroken)
				require.EqualValues(t, 1, transport.writes.Load())
			})
		})
	}
}

// A sender that writes its large message itself may find, after a write that the socket took in part, that the
// connection has ended meanwhile.
func TestEndBesideASenderThatWritesALargeMessage(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 1000
	}
	for range rounds {
		far, near := tcpPair(t)
		require.NoError(t, near.SetWriteBuffer(32<<10))
		c := wsd.NewConn(near, wsd.ServerRole, wsd.Config{PingInterval: -1})
		require.NoError(t, c.Send(t.Context(), wsd.Text("starts the writer")))
		require.NoError(t, c.Flush(t.Context()))
		for range 3 {
			runtime.Gosched() // and lets it sleep
		}
		var calls sync.WaitGroup
		sent := make(chan error, 1)
		calls.Go(func() { sent <- c.Send(context.Background(), wsd.Binary(large)) })
		for c.Stats().MessagesSent < 2 {
		}
		c.CloseNow()
		calls.Wait()
		require.ErrorIs(t, <-sent, wsd.ErrClosed)
		_ = far.Close()
	}
}

var large = make([]byte, 8<<20)

// waitInLine has many calls wait for room, ends their context, and only then makes room, which some of them get before
// they have noticed. It checks that none of them did anything.
func waitInLine(t *testing.T, cfg wsd.Config, call func(ctx context.Context, c *wsd.Conn) error) {
	const callers, bystanders = 20, 200
	cfg.SendQueue, cfg.PingInterval = 1000, -1
	c, p := servedConn(t, cfg)
	background := ends(t, c, p)
	blocked := make(chan error, 1)
	background.Go(func() { blocked <- c.Send(t.Context(), wsd.Binary(noise(100<<10))) })
	synctest.Wait() // it has the turn, and waits for the peer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Those who wait longest are woken first, which keeps the callers from running at once.
	for range bystanders {
		background.Go(func() { <-ctx.Done() })
	}
	synctest.Wait()
	errs := make(chan error, callers)
	for range callers {
		background.Go(func() { errs <- call(ctx, c) })
		synctest.Wait()
	}
	require.Empty(t, errs)
	sent := c.Stats().MessagesSent
	cancel()
	require.GreaterOrEqual(t, len(p.receive().payload), 100<<10) // which makes room
	for range callers {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	require.NoError(t, <-blocked)
	synctest.Wait()
	require.Equal(t, wsd.StateOpen, c.State())
	require.Equal(t, sent, c.Stats().MessagesSent)
	require.NoError(t, c.Send(t.Context(), wsd.Text("next")))
	require.Equal(t, byte(0x81), p.receive().first&^0x40)
	c.CloseNow()
	p.expectEOF() // nothing came of the calls, and the line goes on
}

// The package comment: a context that is done leaves the connection unharmed; docs/decisions.md, "Senders are admitted, not locked out".
func TestCallsWhoseContextEndedInLineDoNothing(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, c *wsd.Conn) error{
		"Send": func(ctx context.Context, c *wsd.Conn) error { return c.Send(ctx, wsd.Text("short")) },
		"Send of 16 MiB": func(ctx context.Context, c *wsd.Conn) error {
			return c.Send(ctx, wsd.Binary(sixteenMiB()))
		},
		"SendPrepared": func(ctx context.Context, c *wsd.Conn) error {
			return c.SendPrepared(ctx, prepared(wsd.Text("short")))
		},
		"Writer": func(ctx context.Context, c *wsd.Conn) error {
			_, err := io.WriteString(c.Writer(ctx, wsd.TextMessage, nil), "first piece")
			return err
		},
		"Writer of an empty message": func(ctx context.Context, c *wsd.Conn) error {
			return c.Writer(ctx, wsd.TextMessage, nil).Close()
		},
	} {
		for compression, agreed := range map[string]*wsd.Compression{"": nil, ", compressed": {Threshold: -1}} {
			t.Run(name+compression, func(t *testing.T) {
				for round := 0; round < 200 && !t.Failed(); round++ {
					synctest.Test(t, func(t *testing.T) { waitInLine(t, wsd.Config{Compression: agreed}, call) })
				}
			})
		}
	}
}

var sixteenMiB = sync.OnceValue(func() []byte { return make([]byte, 16<<20) })

// The documentation of Conn.Flush.
func TestFlushWaitsForTheFragmentsQueuedSoFar(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{SendQueue: -1, PingInterval: -1})
		background := ends(t, c, p)
		const pieces, size = 10, 20 << 10 // more than the transport takes
		w := c.Writer(t.Context(), wsd.BinaryMessage, nil)
		for range pieces {
			_, err := w.Write(make([]byte, size))
			require.NoError(t, err)
		}
		synctest.Wait() // the writer waits for the peer
		flushed := make(chan error, 1)
		background.Go(func() { flushed <- c.Flush(t.Context()) })
		synctest.Wait()
		require.Empty(t, flushed, "fragments wait to be written")
		for range pieces - 4 {
			require.Len(t, p.receive().payload, size)
		}
		synctest.Wait()
		// What follows does not count.
		_, err := w.Write(make([]byte, 10*size))
		require.NoError(t, err)
		for range 4 {
			require.Len(t, p.receive().payload, size)
		}
		require.NoError(t, <-flushed)
		background.Go(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
		received := 0
		for f := p.receive(); f.first != 0x80; f = p.receive() {
			received += len(f.payload)
		}
		require.Equal(t, 10*size, received, "the message was complete")
		require.NoError(t, c.Flush(t.Context()))
	})
}

// A Flush in the middle of a message, whose writer has nothing to do, does not wait for its end.
func TestFlushDoesNotWaitForTheRestOfAMessage(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1})
		ends(t, c, p)
		w := c.Writer(t.Context(), wsd.TextMessage, nil)
		_, err := w.Write([]byte("begun"))
		require.NoError(t, err)
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, frame{0x01, []byte("begun")}, p.receive())
		require.NoError(t, w.Close())
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, frame{0x80, []byte{}}, p.receive())
	})
}

// holding is a transport whose Write looks at what it writes for a while even after Close.
type holding struct {
	writing, closed chan struct{}
	holds           atomic.Bool
}

func (h *holding) Read([]byte) (int, error) {
	<-h.closed
	return 0, net.ErrClosed
}

func (h *holding) Write([]byte) (int, error) {
	h.holds.Store(true)
	defer h.holds.Store(false)
	close(h.writing)
	<-h.closed
	time.Sleep(time.Second)
	return 0, net.ErrClosed
}

func (h *holding) Close() error {
	close(h.closed)
	return nil
}

// The slice of a large message belongs to its sender again when Send returns, and not before the transport lets go of it.
func TestCancelledSendWaitsForTheTransportToLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &holding{writing: make(chan struct{}), closed: make(chan struct{})}
		c := wsd.NewConn(struct{ io.ReadWriteCloser }{h}, wsd.ServerRole, wsd.Config{PingInterval: -1})
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan error, 1)
		go func() {
			err := c.Send(ctx, wsd.Binary(make([]byte, 100<<10)))
			if h.holds.Load() {
				err = errors.New("it is still being written")
			}
			sent <- err
		}()
		<-h.writing
		cancel()
		require.ErrorIs(t, <-sent, context.Canceled)
		<-c.Closed()
	})
}
