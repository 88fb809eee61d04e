// pinned_test.go checks the bound of what a peer can make a connection hold: docs/performance.md has the formula.

package wsd_test

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/bufpool"
)

// pinnedMost is the formula. tried is the length of the longest message that TrySend was given.
func pinnedMost(cfg wsd.Config, tried int) int64 {
	const small, big, mib = 2 << 10, 64 << 20, 1 << 20
	m, n := max(cfg.MaxMessageSize, small), int64(cfg.MessageBuffer)
	assembled := 3 * m
	if cfg.Compression != nil {
		assembled = 9 * m / 2
	}
	waiting := 2*min(n*m, n*mib+max(big, m)) + 32*n
	return waiting + assembled + 4*int64(max(cfg.SendQueue, tried, 32<<10)) + mib
}

// doubled returns the frames of a message of size bytes for which twice as much memory is needed: when its last byte but
// one has come, the end might be far away.
func doubled(size int) []frame {
	payload := make([]byte, size)
	return []frame{{0x02, payload[1:]}, {0x00, payload[:1]}, {0x80, nil}}
}

// docs/performance.md, "What one connection can pin".
func TestWhatAPeerCanPin(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	pongs := slices.Repeat([]frame{pong(strings.Repeat("x", 125))}, 33) // more than an allocation that is shared
	for name, row := range map[string]struct {
		cfg      wsd.Config
		messages [][]frame // in turns; the first one is what the handler holds
		held     int64     // what that takes
		last     []frame   // sent instead when Messages is full
	}{
		"messages below a megabyte": {
			cfg:      wsd.Config{MaxMessageSize: mib - 1, MessageBuffer: 16, SendQueue: 64 * kib},
			messages: [][]frame{doubled(mib - 1)},
			held:     2 * mib,
		},
		"messages of megabytes": {
			cfg:      wsd.Config{MaxMessageSize: 24 * mib, MessageBuffer: 16, SendQueue: 64 * kib},
			messages: [][]frame{doubled(24 * mib), doubled(4 * mib)},
			held:     48 * mib,
			last:     doubled(24 * mib),
		},
		"messages of megabytes where compression was agreed on": {
			cfg: wsd.Config{MaxMessageSize: 4 * mib, MessageBuffer: 16, SendQueue: 64 * kib,
				Compression: &wsd.Compression{ClientNoContextTakeover: true}},
			messages: [][]frame{{{0xC2, zeros(t, 4*mib)}}, doubled(4 * mib)},
			held:     4 * mib,
		},
		"small messages, each with an allocation that it could have shared": {
			cfg:      wsd.Config{MaxMessageSize: 512, MessageBuffer: 4 * kib, SendQueue: kib},
			messages: [][]frame{slices.Concat(pongs, []frame{text("x")}, pongs)},
			held:     4 * kib,
		},
	} {
		t.Run(name, func(t *testing.T) {
			was := bufpool.SetReclaiming(false) // by another test's Release, after which sizes are rounded otherwise
			defer bufpool.SetReclaiming(was)
			synctest.Test(t, func(t *testing.T) {
				cfg := row.cfg
				cfg.PingInterval, cfg.WriteTimeout = -1, -1
				var encoded [][]byte
				p := &peer{t, nil, true}
				for _, frames := range append(row.messages, row.last) {
					encoded = append(encoded, p.encode(frames...))
				}
				before := held()
				c, p := servedConn(t, cfg)
				background := ends(t, c, p)
				background.Go(func() { echo(c) })
				// This fills the transport, so that the handler's first answer waits.
				background.Go(func() { _ = c.Send(context.Background(), wsd.Binary(make([]byte, 256*kib))) })
				synctest.Wait()
				turns := encoded[:len(row.messages)]
				for sent := 0; ; sent++ {
					next := turns[min(sent, len(turns)-1)]
					if row.last != nil && len(c.Messages()) == cfg.MessageBuffer {
						next = encoded[len(turns)]
					}
					arrived := make(chan error, 1)
					background.Go(func() {
						_, err := p.rwc.Write(next)
						arrived <- err
					})
					synctest.Wait()
					select {
					case err := <-arrived:
						require.NoError(t, err)
						continue
					default:
					}
					break
				}
				time.Sleep(time.Second) // pauses of the reader
				synctest.Wait()
				pinned, most := held()-before-row.held-256*kib, pinnedMost(cfg, 0)
				t.Logf("%d KiB, at most %d", pinned>>10, most>>10)
				require.LessOrEqual(t, pinned, most)
				require.Greater(t, pinned, most/2)
				runtime.KeepAlive(encoded)
			})
		})
	}
}

// A peer that stops reading when as much as possible has been taken to be written.
func TestWhatASlowPeerCanPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := wsd.Config{MaxMessageSize: 1 << 10, MessageBuffer: 16, SendQueue: 9 << 20, PingInterval: -1}
		before := held()
		c, p := servedConn(t, cfg)
		ends(t, c, p)
		const size = 10 << 10
		fill := func() {
			for m := wsd.Binary(make([]byte, size)); c.TrySend(m) == nil; {
			}
			synctest.Wait()
		}
		for fill(); c.Stats().QueuedBytes < cfg.SendQueue*19/10; fill() {
			require.Len(t, p.receive().payload, size)
			synctest.Wait()
		}
		pinned, most := held()-before, pinnedMost(cfg, size)
		t.Logf("%d KiB, at most %d", pinned>>10, most>>10)
		require.LessOrEqual(t, pinned, most)
		require.Greater(t, pinned, most/2)
	})
}
