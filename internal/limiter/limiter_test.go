// limiter_test.go tests from inside that a server's memory of addresses is bounded, and what it forgets.

package limiter

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func addressOf(n uint32) addressKey {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return keyOf(netip.AddrFrom4(b))
}

// A million addresses that ask once take no more memory than two generations of them, and an address that goes on asking
// among them is not forgotten.
func TestLimiterUnderAttack(t *testing.T) {
	limits := Limits{Handshakes: 0.001, Burst: 10, Connections: 100}
	l := new(Limiter)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	persistent, admitted := addressOf(0), 0
	for n := range uint32(1_000_000) {
		key := addressOf(n + 1)
		if l.admit(key, limits) != 0 {
			t.Fatal("a new address was refused")
		}
		l.leave(key)
		if n%10_000 == 0 && l.admit(persistent, limits) == 0 {
			l.leave(persistent)
			admitted++
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Equal(t, 10, admitted, "its burst")
	require.LessOrEqual(t, len(l.young)+len(l.old), 2*remembered)
	require.Empty(t, l.conns)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(8<<20))
	runtime.KeepAlive(l)
}

// Handshakes are admitted at the rate, behind a burst, and the wait that a client is told is enough.
func TestLimiterRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct {
			rate         float64
			burst, least int // admitted at once
		}{{5, 0, 5}, {0.5, 0, 1}, {2, 7, 7}, {1e-300, 0, 1}} {
			limits := Limits{Handshakes: row.rate, Burst: row.burst}
			l := new(Limiter)
			key := addressOf(1)
			for range row.least {
				require.Zero(t, l.admit(key, limits))
			}
			wait := l.admit(key, limits)
			require.Positive(t, wait)
			require.Zero(t, l.admit(addressOf(2), limits), "another address")
			if row.rate < 0.1 {
				continue
			}
			require.LessOrEqual(t, wait, time.Duration(float64(time.Second)/row.rate))
			time.Sleep(wait - time.Nanosecond)
			require.Positive(t, l.admit(key, limits))
			time.Sleep(time.Nanosecond)
			require.Zero(t, l.admit(key, limits))
			require.Positive(t, l.admit(key, limits))
			time.Sleep(time.Hour)
			for range row.least {
				require.Zero(t, l.admit(key, limits))
			}
			require.Positive(t, l.admit(key, limits), "what was not used is not saved beyond the burst")
		}
	})
}

// An IPv6 customer has a /64, and an IPv4 address is one however it is written.
func TestAddressKeys(t *testing.T) {
	key := func(s string) addressKey { return keyOf(netip.MustParseAddr(s).Unmap()) }
	require.Equal(t, key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"))
	require.NotEqual(t, key("2001:db8:1:2::1"), key("2001:db8:1:3::1"))
	require.NotEqual(t, key("192.0.2.1"), key("192.0.2.2"))
	require.Equal(t, key("192.0.2.1"), key("::ffff:192.0.2.1"))
}
