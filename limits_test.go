// limits_test.go checks limits that programs set: the frames that a message is cut into, and a message size that changes
// while the connection is open.

package wsd_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

// waysToSendOne are all calls that send one message.
var waysToSendOne = map[string]func(ctx context.Context, c *wsd.Conn, m wsd.Message) error{
	"Send":         func(ctx context.Context, c *wsd.Conn, m wsd.Message) error { return c.Send(ctx, m) },
	"SendPrepared": func(ctx context.Context, c *wsd.Conn, m wsd.Message) error { return c.SendPrepared(ctx, prepared(m)) },
	"TrySend":      func(_ context.Context, c *wsd.Conn, m wsd.Message) error { return c.TrySend(m) },
	"TrySendPrepared": func(_ context.Context, c *wsd.Conn, m wsd.Message) error {
		return c.TrySendPrepared(prepared(m))
	},
	"Writer": func(ctx context.Context, c *wsd.Conn, m wsd.Message) error {
		w := c.Writer(ctx, m.Type, nil)
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
		return w.Close()
	},
}

// framesOf reads the frames of one message.
func framesOf(p *peer) (frames []frame) {
	for last := false; !last; {
		f := p.receive()
		frames = append(frames, f)
		last = f.first&0x80 != 0
	}
	return frames
}

func TestFramesAreCutAtMaxFrameSize(t *testing.T) {
	for _, limit := range []int{1, 100, 1000, 63 << 10, 64 << 10, 100 << 10, 127<<10 + 1, 0} {
		for _, size := range []int{0, 1, 99, 100, 101, 5000, 40 << 10, 300 << 10, 3<<20 + 1} {
			most := limit
			if limit == 0 {
				most = 1 << 20
			}
			if size/most > 300 || size > 1<<20 && limit > 0 {
				continue
			}
			for way, send := range waysToSendOne {
				t.Run(fmt.Sprintf("%s, %d bytes in frames of %d", way, size, limit), func(t *testing.T) {
					eachRole(t, func(t *testing.T, pair newPair) {
						c, p := pair(t, wsd.Config{MaxFrameSize: limit})
						background := ends(t, c, p)
						data := noise(size)
						background.Go(func() {
							if err := send(t.Context(), c, wsd.Binary(data)); err != nil {
								t.Error(err)
							}
						})
						frames := framesOf(p)
						var got []byte
						for i, f := range frames {
							require.Equal(t, i == 0, f.first&0x0F == 2)
							require.Zero(t, f.first&0x70)
							require.LessOrEqual(t, len(f.payload), most)
							got = append(got, f.payload...)
						}
						require.True(t, bytes.Equal(data, got))
						if way != "Writer" {
							require.Len(t, frames, max(1, (size+most-1)/most))
						}
					})
				})
			}
		}
	}
}

func TestFramesAreNeverCut(t *testing.T) {
	for _, size := range []int{5000, 1<<20 + 1, 5 << 20} {
		for way, send := range waysToSendOne {
			if way == "Writer" {
				continue // its messages have no known length
			}
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{MaxFrameSize: -1})
				background := ends(t, c, p)
				data := noise(size)
				background.Go(func() { _ = send(t.Context(), c, wsd.Binary(data)) })
				f := p.receive()
				require.Equal(t, byte(0x82), f.first, way)
				require.True(t, bytes.Equal(data, f.payload), way)
			})
		}
	}
}

// Compressed messages are cut behind the compression, and RSV1 is on the first frame alone (RFC 7692, section 6.1).
func TestCompressedFramesAreCutAtMaxFrameSize(t *testing.T) {
	for compression, agreed := range compressions {
		for way, send := range waysToSendOne {
			for _, limit := range []int{1, 100, 50 << 10, -1} {
				t.Run(fmt.Sprintf("%s, %s, frames of %d", way, compression, limit), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						near, far := pipeOf(wsd.ServerRole, wsd.Config{Compression: agreed, MaxFrameSize: limit, MaxFragments: -1})
						defer far.CloseNow()
						defer near.CloseNow()
						var sending sync.WaitGroup
						sending.Go(func() {
							for i := range 3 {
								text := wsd.Text(strings.Repeat(fmt.Sprint("text ", i), 200+i*5000))
								if err := send(t.Context(), near, text); err != nil {
									t.Error(err)
								}
								if err := near.Flush(t.Context()); err != nil {
									t.Error(err)
								}
							}
						})
						for i := range 3 {
							m, err := far.Receive(t.Context())
							require.NoError(t, err)
							require.Equal(t, strings.Repeat(fmt.Sprint("text ", i), 200+i*5000), m.String())
						}
						sending.Wait()
					})
				})
			}
		}
	}
}

// Short frames of a long message are written many at a time.
func TestShortFramesShareWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := wsdtest.Pipe(wsd.Config{MaxFrameSize: 100, MaxFragments: -1})
		defer near.CloseNow()
		defer far.CloseNow()
		var receiving sync.WaitGroup
		receiving.Go(func() { swallow(far) })
		require.NoError(t, near.Send(t.Context(), wsd.Binary(noise(1<<20))))
		require.NoError(t, near.Flush(t.Context()))
		require.Less(t, near.Stats().Writes, uint64(40), "of 10,486 frames")
		near.CloseNow()
		receiving.Wait()
	})
}

func TestSetMaxMessageSize(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{MaxMessageSize: 10})
		ends(t, c, p)
		p.send(text("the login!"))
		m, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "the login!", m.String())
		c.SetMaxMessageSize(1000)
		p.send(binaryFrame(make([]byte, 1000)))
		m, err = c.Receive(t.Context())
		require.NoError(t, err)
		require.Len(t, m.Data, 1000)
		c.SetMaxMessageSize(999)
		p.send(binaryFrame(make([]byte, 1000)))
		requireTooBig(t, c, p)
	})
}

func requireTooBig(t *testing.T, c *wsd.Conn, p *peer) {
	t.Helper()
	_, err := c.Receive(t.Context())
	var violation *wsd.ProtocolError
	require.ErrorAs(t, err, &violation)
	require.Equal(t, wsd.StatusMessageTooBig, violation.Code)
	require.Equal(t, closePayload(1009, violation.Problem)[:2], p.receive().payload[:2])
}

// Zero and negative values mean what they mean in Config.
func TestSetMaxMessageSizeToTheDefaultAndToNone(t *testing.T) {
	const standard = 64<<20 - 1
	for _, row := range []struct {
		set      int64
		size     int
		accepted bool
	}{{0, standard, true}, {0, standard + 1, false}, {-1, standard + 1, true}} {
		synctest.Test(t, func(t *testing.T) {
			c, p := clientConn(t, wsd.Config{MaxMessageSize: 10})
			ends(t, c, p)
			c.SetMaxMessageSize(row.set)
			p.sendRaw(wiretest.Header(0x82, uint64(row.size), false))
			synctest.Wait()
			require.Equal(t, row.accepted, c.State() == wsd.StateOpen, "%+v", row)
		})
	}
}

// The limit holds for the frames that are read from then on, also those of a message that has begun.
func TestSetMaxMessageSizeWithinAMessage(t *testing.T) {
	const before = 600 // bytes that have come when the limit changes
	for name, row := range map[string]struct {
		from, to int64
		next     int // bytes of the last frame
		accepted bool
	}{
		"raised, and used":                      {1000, 2000, 1400, true},
		"raised, and exceeded":                  {1000, 2000, 1401, false},
		"lowered, and kept":                     {2000, 1000, 400, true},
		"lowered, and exceeded":                 {2000, 1000, 401, false},
		"lowered below what has come":           {2000, 500, 1, false},
		"lowered below, and nothing more comes": {2000, 500, 0, true},
	} {
		for _, compressed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", compressed ", compressed), func(t *testing.T) {
				eachRole(t, func(t *testing.T, pair newPair) {
					cfg := wsd.Config{MaxMessageSize: row.from, Compression: &wsd.Compression{}}
					c, p := pair(t, cfg)
					ends(t, c, p)
					whole := noise(before + row.next)
					first, last := frame{0x02, whole[:before]}, frame{0x80, whole[before:]}
					if compressed {
						if !row.accepted && row.next <= 1 || row.accepted && row.next == 0 {
							return // what has come is bounded by what it may inflate to
						}
						packed := deflated(t, whole)
						first, last = frame{0x42, packed[:before]}, frame{0x80, packed[before:]}
					}
					p.send(first)
					synctest.Wait()
					c.SetMaxMessageSize(row.to)
					p.send(last)
					if !row.accepted {
						requireTooBig(t, c, p)
						return
					}
					m, err := c.Receive(t.Context())
					require.NoError(t, err)
					require.True(t, bytes.Equal(whole, m.Data))
				})
			})
		}
	}
}

func TestSetMaxMessageSizeWhileMessagesCome(t *testing.T) {
	eachTransport(t, wsd.Config{}, func(t *testing.T, client, server *wsd.Conn) {
		var background sync.WaitGroup
		background.Go(func() { echoByEach(server) })
		background.Go(func() {
			for i := range 1000 {
				server.SetMaxMessageSize(int64(100 + i%100))
			}
		})
		for range 1000 {
			require.NoError(t, client.Send(t.Context(), wsd.Binary(make([]byte, 100))))
			_, err := client.Receive(t.Context())
			require.NoError(t, err)
		}
		require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
		background.Wait()
		server.SetMaxMessageSize(1)
	})
}
