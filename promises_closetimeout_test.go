// promises_closetimeout_test.go checks what CloseTimeout counts: time in which nothing moves, not the time that a peer
// needs to take what was sent.

package wsd_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

const (
	closeTimeout = 5 * time.Second
	// closeTimeoutMost is how long messages may be written at the end, in all.
	closeTimeoutMost = 12 * closeTimeout
)

// beginnings are the ways in which a closing handshake begins with much still to be written. Each returns a channel of
// what Close returned.
var beginnings = map[string]func(c *wsd.Conn, p *peer) <-chan error{
	"by this side": func(c *wsd.Conn, _ *peer) <-chan error {
		closed := make(chan error, 1)
		go func() { closed <- c.Close(wsd.StatusNormalClosure, "") }()
		return closed
	},
	"by the peer": func(c *wsd.Conn, p *peer) <-chan error {
		p.send(closeFrame(1000))
		closed := make(chan error, 1)
		go func() {
			<-c.Closed()
			closed <- c.Close(wsd.StatusNormalClosure, "")
		}()
		return closed
	},
}

// requireCut checks that the handshake was not completed, and what Close said about it.
func requireCut(t *testing.T, c *wsd.Conn, err error) {
	require.ErrorIs(t, err, wsd.ErrClosed)
	require.False(t, c.CloseEvent().Clean)
	if _, byPeer := c.CloseEvent().Err.(*wsd.CloseError); !byPeer { // that would be the first cause
		require.ErrorIs(t, err, wsd.ErrCloseTimeout)
	}
}

func TestCloseTimeoutSparesAPeerThatTakesData(t *testing.T) {
	for name, begin := range beginnings {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				ends(t, c, p)
				const size, rate = 20 << 20, 1 << 20
				queueMany(t, c, size)
				start := time.Now()
				closed := begin(c, p)
				under := p.rwc
				p.rwc = throttled{under, rate}
				_, before, err := p.reads(0x88)
				require.NoError(t, err)
				require.Equal(t, size, before)
				require.Greater(t, time.Since(start), 3*closeTimeout)
				p.rwc = under
				if name == "by this side" {
					p.send(closeFrame(1000))
				}
				p.close()
				require.NoError(t, <-closed)
				require.True(t, c.CloseEvent().Clean)
			})
		})
	}
}

func TestCloseTimeoutCountsTimeWithoutProgress(t *testing.T) {
	for name, begin := range beginnings {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				ends(t, c, p)
				const rate = 1 << 20
				queueMany(t, c, 20<<20)
				closed := begin(c, p)
				under := p.rwc
				p.rwc = throttled{under, rate}
				for start := time.Now(); time.Since(start) < 2*closeTimeout; {
					_, err := p.tryReceive()
					require.NoError(t, err)
				}
				stopped := time.Now() // reading
				requireCut(t, c, <-closed)
				require.LessOrEqual(t, time.Since(stopped), 2*closeTimeout)
			})
		})
	}
}

func TestCloseTimeoutBoundsAPeerThatTakesDataForEver(t *testing.T) {
	for name, begin := range beginnings {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				background := ends(t, c, p)
				queueMany(t, c, 4<<20)
				start, ended := time.Now(), make(chan time.Duration, 1)
				background.Go(func() {
					<-c.Closed()
					ended <- time.Since(start)
				})
				closed := begin(c, p)
				p.rwc = throttled{p.rwc, 32 << 10} // which would need two minutes
				for time.Since(start) < 2*closeTimeout {
					_, err := p.tryReceive()
					require.NoError(t, err, "after %v", time.Since(start))
				}
				_, _, err := p.reads(0x88)
				require.Error(t, err)
				requireCut(t, c, <-closed)
				require.LessOrEqual(t, <-ended, closeTimeoutMost)
			})
		})
	}
}

// Once the close frame is written, the answer is due within CloseTimeout, whatever else the peer sends.
func TestCloseTimeoutRunsOnceBehindTheCloseFrame(t *testing.T) {
	for sent, f := range map[string]frame{"messages": text("on and on"), "pings": ping("on and on"), "nothing": {}} {
		t.Run(sent, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{SendQueue: -1, CloseTimeout: closeTimeout, PingInterval: -1})
				background := ends(t, c, p)
				queueMany(t, c, 10<<20)
				closed := beginnings["by this side"](c, p)
				background.Go(func() { swallow(c) })
				if sent != "nothing" {
					background.Go(func() { p.sendsEvery(time.Millisecond, f) })
				}
				under := p.rwc
				slow := &peer{t, throttled{under, 1 << 20}, p.masks}
				_, before, err := slow.reads(0x88)
				require.NoError(t, err)
				require.Equal(t, 10<<20, before)
				read := time.Now()
				require.ErrorIs(t, <-closed, wsd.ErrCloseTimeout)
				require.LessOrEqual(t, time.Since(read), closeTimeout)
				require.Greater(t, time.Since(read), closeTimeout-time.Second, "it was written less than a second before")
			})
		})
	}
}
