// write_timeout_test.go checks that a peer that does not read is given up, whatever it sends meanwhile, and one
// that reads slowly is not.

package wsd_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// waysToSend are all calls that write. Each goes on until it gets an error, and returns that.
var waysToSend = map[string]func(ctx context.Context, c *wsd.Conn) error{
	"small messages": func(ctx context.Context, c *wsd.Conn) (err error) {
		for err == nil {
			err = c.Send(ctx, wsd.Binary(noise(1000)))
		}
		return err
	},
	"large messages": func(ctx context.Context, c *wsd.Conn) (err error) {
		for m := wsd.Binary(noise(1 << 20)); err == nil; err = c.Send(ctx, m) {
		}
		return err
	},
	"messages of 32 KiB": func(ctx context.Context, c *wsd.Conn) (err error) {
		for m := wsd.Binary(noise(32 << 10)); err == nil; err = c.Send(ctx, m) {
		}
		return err
	},
	"small prepared messages": func(ctx context.Context, c *wsd.Conn) (err error) {
		all := make([]*wsd.Prepared, 100) // more than a window of compression holds
		for i := range all {
			all[i] = prepared(wsd.Binary(noise(1000)))
		}
		for i := 0; err == nil; i = (i + 1) % len(all) {
			err = c.SendPrepared(ctx, all[i])
		}
		return err
	},
	"large prepared messages": func(ctx context.Context, c *wsd.Conn) (err error) {
		for m := prepared(wsd.Binary(noise(1 << 20))); err == nil; err = c.SendPrepared(ctx, m) {
		}
		return err
	},
	"a message in pieces": func(ctx context.Context, c *wsd.Conn) (err error) {
		w := c.Writer(ctx, wsd.BinaryMessage, nil)
		for err == nil {
			_, err = w.Write(noise(1000))
		}
		return err
	},
	"pings": func(ctx context.Context, c *wsd.Conn) error {
		var pings sync.WaitGroup
		var err error
		var first sync.Once
		for range 2000 { // more than the transport takes
			pings.Go(func() {
				if _, failed := c.Ping(ctx, make([]byte, 125)); failed != nil {
					first.Do(func() { err = failed })
				}
			})
		}
		pings.Wait()
		return err
	},
	"a message and Flush": func(ctx context.Context, c *wsd.Conn) error {
		for range 5 {
			if err := c.Send(ctx, wsd.Binary(noise(30<<10))); err != nil {
				return err
			}
		}
		return c.Flush(ctx)
	},
}

// whatPeersSend are peers that do not read.
var whatPeersSend = map[string]func(p *peer){
	"nothing":        func(*peer) {},
	"messages":       func(p *peer) { p.sendsEvery(time.Second, text("and never reads")) },
	"pings":          func(p *peer) { p.sendsEvery(time.Second, ping("and never reads")) },
	"pongs":          func(p *peer) { p.sendsEvery(time.Second, pong("and never reads")) },
	"half a message": func(p *peer) { p.sendsEvery(time.Second, frame{0x01, []byte("never ends")}) },
}

// The package comment: every connection ends; docs/decisions.md, "Time without progress counts".
func TestWriteTimeoutEndsAPeerThatNeverReads(t *testing.T) {
	const timeout = 10 * time.Second
	for compression, agreed := range map[string]*wsd.Compression{
		"not compressed":                   nil,
		"compressed":                       {ServerNoContextTakeover: true, ClientNoContextTakeover: true},
		"compressed with context takeover": {},
	} {
		for sending, send := range waysToSend {
			for sent, play := range whatPeersSend {
				t.Run(sending+", "+compression+", a peer that sends "+sent, func(t *testing.T) {
					eachRole(t, func(t *testing.T, pair newPair) {
						c, p := pair(t, wsd.Config{WriteTimeout: timeout, PingInterval: -1, Compression: agreed})
						background := ends(t, c, p)
						background.Go(func() { play(p) })
						background.Go(func() { swallow(c) })
						start := time.Now()
						guard := time.AfterFunc(time.Minute, c.CloseNow)
						defer guard.Stop()
						err := send(t.Context(), c)
						require.ErrorIs(t, err, wsd.ErrClosed)
						require.ErrorIs(t, err, wsd.ErrWriteTimeout)
						<-c.Closed()
						require.GreaterOrEqual(t, time.Since(start), timeout)
						require.LessOrEqual(t, time.Since(start), 2*timeout)
						require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrWriteTimeout)
						require.Equal(t, wsd.StatusAbnormalClosure, c.CloseEvent().Code)
						require.ErrorIs(t, <-c.Errors(), wsd.ErrWriteTimeout)
						require.ErrorIs(t, context.Cause(c.Context()), wsd.ErrWriteTimeout)
					})
				})
			}
		}
	}
}

// The server that everybody writes first, and a client that never reads what it asked for.
func TestWriteTimeoutEndsAnEchoThatNobodyReads(t *testing.T) {
	for name, cfg := range map[string]wsd.Config{"by default": {}, "without keepalive": {PingInterval: -1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, cfg)
				background := ends(t, c, p)
				background.Go(func() { p.sendsEvery(10*time.Millisecond, binaryFrame(make([]byte, 1000))) })
				background.Go(func() { echo(c) })
				start := time.Now()
				select {
				case <-c.Closed():
				case <-time.After(time.Hour):
				}
				require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrWriteTimeout)
				require.GreaterOrEqual(t, time.Since(start), 2*time.Minute)
				require.LessOrEqual(t, time.Since(start), 5*time.Minute)
			})
		})
	}
}

// The time begins with the write that finds no room, not with what was written last.
func TestWriteTimeoutBeginsWithTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		c, p := servedConn(t, wsd.Config{WriteTimeout: timeout, PingInterval: -1})
		ends(t, c, p)
		for range 2 {
			require.NoError(t, c.Send(t.Context(), wsd.Text("once in an hour")))
			require.Equal(t, text("once in an hour"), p.receive())
			time.Sleep(time.Hour)
		}
		start := time.Now()
		guard := time.AfterFunc(time.Minute, c.CloseNow)
		defer guard.Stop()
		require.ErrorIs(t, waysToSend["small messages"](t.Context(), c), wsd.ErrWriteTimeout)
		require.GreaterOrEqual(t, time.Since(start), timeout)
		require.LessOrEqual(t, time.Since(start), 2*timeout)
	})
}

func TestWriteTimeoutIsOffIfNegative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{WriteTimeout: -1, PingInterval: -1})
		background := ends(t, c, p)
		sent := make(chan error, 1)
		background.Go(func() { sent <- c.Send(t.Context(), wsd.Binary(make([]byte, 1<<20))) })
		time.Sleep(24 * time.Hour)
		require.Equal(t, wsd.StateOpen, c.State())
		require.Len(t, p.receive().payload, 1<<20)
		require.NoError(t, <-sent)
	})
}

// A peer that reads slowly is not ended, however long it takes in all.
func TestWriteTimeoutSparesAPeerThatReadsSlowly(t *testing.T) {
	const timeout, size = 10 * time.Second, 4 << 20
	for compression, agreed := range map[string]*wsd.Compression{"not compressed": nil, "compressed": {}} {
		for name, send := range map[string]func(c *wsd.Conn) error{
			"small messages": func(c *wsd.Conn) error {
				for range size / 4096 {
					if err := c.Send(context.Background(), wsd.Binary(noise(4096))); err != nil {
						return err
					}
				}
				return nil
			},
			"a large message": func(c *wsd.Conn) error { return c.Send(context.Background(), wsd.Binary(noise(size))) },
			"a prepared message": func(c *wsd.Conn) error {
				return c.SendPrepared(context.Background(), prepared(wsd.Binary(noise(size))))
			},
			"a message in pieces": func(c *wsd.Conn) error {
				w := c.Writer(context.Background(), wsd.BinaryMessage, nil)
				if _, err := w.Write(noise(size)); err != nil {
					return err
				}
				return w.Close()
			},
		} {
			for queue, limit := range map[string]int{"queue": 0, "endless queue": -1} {
				t.Run(name+", "+compression+", "+queue, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						a, b := wsdtest.Transport()
						c := wsd.NewConn(b, wsd.ServerRole, wsd.Config{WriteTimeout: timeout, PingInterval: -1, SendQueue: limit,
							Compression: agreed})
						p := &peer{t, throttled{a, 32 << 10}, true}
						background := ends(t, c, p)
						start, sent := time.Now(), make(chan error, 1)
						background.Go(func() { sent <- send(c) })
						for received := 0; received < size; {
							f := p.receive()
							received += len(f.payload)
						}
						require.NoError(t, <-sent)
						require.Greater(t, time.Since(start), 10*timeout)
						require.Equal(t, wsd.StateOpen, c.State())
						require.NoError(t, c.Flush(t.Context()))
					})
				})
			}
		}
	}
}

// What a socket accepts is progress, even where a write that is under way needs longer than WriteTimeout as a whole.
func TestWriteTimeoutCountsWhatASocketTakes(t *testing.T) {
	for name, row := range map[string]struct{ size, count int }{"one large message": {4 << 20, 1}, "small ones": {4 << 10, 1 << 10}} {
		t.Run(name, func(t *testing.T) {
			far, near := tcpPair(t)
			require.NoError(t, far.SetReadBuffer(256<<10))
			require.NoError(t, near.SetWriteBuffer(256<<10))
			c := wsd.NewConn(near, wsd.ServerRole, wsd.Config{WriteTimeout: time.Second, SendQueue: -1, PingInterval: -1})
			p := &peer{t, far, true}
			background := ends(t, c, p)
			sent := make(chan error, 1)
			background.Go(func() {
				for range row.count {
					if err := c.Send(context.Background(), wsd.Binary(make([]byte, row.size))); err != nil {
						sent <- err
						return
					}
				}
				sent <- c.Flush(context.Background())
			})
			// Some seconds in all, of which the socket needs a fraction to take more.
			pace := time.NewTicker(50 * time.Millisecond)
			defer pace.Stop()
			for left := row.size * row.count; left > 0; left -= 128 << 10 {
				<-pace.C
				_, err := io.CopyN(io.Discard, far, 128<<10)
				require.NoError(t, err)
			}
			background.Go(func() { _, _ = io.Copy(io.Discard, far) })
			require.NoError(t, <-sent)
			require.Equal(t, wsd.StateOpen, c.State())
		})
	}
}

// A socket whose buffers are full takes nothing more: the kernel's own retries do not count.
func TestWriteTimeoutEndsASocketThatNobodyReads(t *testing.T) {
	for sending, send := range waysToSend {
		if sending == "pings" || sending == "a message and Flush" {
			continue // too little to fill a socket's buffers
		}
		t.Run(sending, func(t *testing.T) {
			far, near := tcpPair(t)
			c := wsd.NewConn(near, wsd.ServerRole, wsd.Config{WriteTimeout: 100 * time.Millisecond, PingInterval: -1})
			p := &peer{t, far, true}
			background := ends(t, c, p)
			background.Go(func() { p.sendsEvery(10*time.Millisecond, text("and never reads")) })
			background.Go(func() { swallow(c) })
			guard := time.AfterFunc(10*time.Second, c.CloseNow)
			defer guard.Stop()
			require.ErrorIs(t, send(context.Background(), c), wsd.ErrWriteTimeout)
			<-c.Closed()
		})
	}
}
