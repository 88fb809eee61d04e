// keepalive_test.go checks what the keepalive makes of consumers that stall and of peers that do not read.

package wsd_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// While a consumer stalled, nothing was read, and the peer may not have been able to send: it gets the whole time again.
func TestStallThatIsOverExcusesThePeer(t *testing.T) {
	for _, over := range []time.Duration{31 * time.Second, 40 * time.Second, 50*time.Second - 1} {
		synctest.Test(t, func(t *testing.T) {
			// A ping comes every 30 s, and 20 s later its answer is due.
			c, p := servedConn(t, wsd.Config{MessageBuffer: -1})
			ends(t, c, p)
			p.send(text("nobody receives this yet"))
			start := time.Now()
			require.Equal(t, byte(0x89), p.receive().first)
			require.Equal(t, 30*time.Second, time.Since(start))
			time.Sleep(over - 30*time.Second)
			<-c.Messages()
			time.Sleep(55*time.Second - over)
			require.Equal(t, wsd.StateOpen, c.State(), "a stall that ended after %v", over)
			p.send(pong("which took a while to get through"))
			require.Equal(t, byte(0x89), p.receive().first)
			require.Equal(t, wsd.StateOpen, c.State())
		})
	}
}

// The excuse does not last: a peer that is gone is found out with the next ping.
func TestStallThatIsOverDoesNotExcuseForEver(t *testing.T) {
	for _, over := range []time.Duration{time.Second, 31 * time.Second, 50*time.Second - 1} {
		synctest.Test(t, func(t *testing.T) {
			c, p := servedConn(t, wsd.Config{MessageBuffer: -1})
			ends(t, c, p)
			p.send(text("nobody receives this yet"))
			start := time.Now()
			time.Sleep(over)
			<-c.Messages()
			select {
			case <-c.Closed():
			case <-time.After(time.Hour):
			}
			require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrPongTimeout)
			require.LessOrEqual(t, time.Since(start), over+50*time.Second)
		})
	}
}

// However many pings come due while the peer does not read, no more than one waits for it.
func TestPingsDoNotPileUp(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		const interval, pings = 100 * time.Millisecond, 900
		c, p := pair(t, wsd.Config{SendQueue: -1, PingInterval: interval, PongTimeout: -1})
		ends(t, c, p)
		queueMany(t, c, 40*4096) // more than the transport takes
		time.Sleep(pings * interval)
		require.Equal(t, wsd.StateOpen, c.State())
		// With the way free again, they come at their interval again.
		const more = 10
		got := 0
		for start := time.Now(); time.Since(start) < more*interval; {
			if p.receive().first == 0x89 {
				got++
			}
		}
		require.GreaterOrEqual(t, got, more)
		require.LessOrEqual(t, got, more+2, "of %d that came due before", pings)
	})
}
