// Package limiter decides, ahead of any handshake, whether a client's address may have one more connection, at the rate at
// which it asks, and which address that is behind proxies.
package limiter

import (
	"net/netip"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/clock"
)

// Limits are what one address may have. Zero means no limit.
type Limits struct {
	Connections int     // with the handshakes under way
	Handshakes  float64 // that begin in a second, on average
	Burst       int     // how many at once; 0 for those of one second, at least 1
}

// Limiter counts by address. The zero value is ready for use. Its methods are safe for concurrent use.
type Limiter struct {
	mu    sync.Mutex         // guards all below
	conns map[addressKey]int // connections and handshakes under way
	// Until when, on clock, the handshakes of an address are paid for. Addresses that ask move from old to young. When young
	// is full it becomes old, so that only those are forgotten that have not asked for so many others.
	young, old map[addressKey]time.Duration
}

// remembered is how many addresses a generation of the limiter has: two take some 4 MiB, however many ask.
const remembered = 32 << 10

// forever is a time in nanoseconds that never comes, and that can be added to others.
const forever = float64(1 << 60)

// Admit admits one more connection of a valid address. It returns what is to be called, once, when that has ended, or when to
// come again.
func (l *Limiter) Admit(addr netip.Addr, limits Limits) (leave func(), retryAfter time.Duration) {
	key := keyOf(addr.Unmap())
	if wait := l.admit(key, limits); wait > 0 {
		return nil, wait
	}
	return func() { l.leave(key) }, 0
}

// addressKey is an address as far as it is counted.
type addressKey [16]byte

func keyOf(addr netip.Addr) addressKey {
	key := addressKey(addr.As16())
	if addr.Is6() {
		clear(key[8:]) // a /64
	}
	return key
}

// admit counts one more connection of an address, or says when to come again.
func (l *Limiter) admit(key addressKey, limits Limits) (retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limits.Connections > 0 && l.conns[key] >= limits.Connections {
		return time.Second
	}
	if limits.Handshakes > 0 {
		if wait := l.pay(key, limits.Handshakes, limits.Burst); wait > 0 {
			return wait
		}
	}
	if l.conns == nil {
		l.conns = make(map[addressKey]int)
	}
	l.conns[key]++
	return 0
}

// pay counts a handshake of an address, or says when there is one for it.
func (l *Limiter) pay(key addressKey, rate float64, burst int) (wait time.Duration) {
	cost := time.Duration(min(float64(time.Second)/rate, forever))
	if burst <= 0 {
		burst = max(int(rate), 1)
	}
	now := clock.Now()
	until, isYoung := l.young[key]
	if !isYoung {
		var isOld bool
		if until, isOld = l.old[key]; !isOld {
			until = now
		}
	}
	until = max(until, now)
	if wait = until + cost - now - time.Duration(min(float64(burst)*float64(cost), forever)); wait <= 0 {
		until += cost
	}
	if !isYoung && len(l.young) >= remembered || l.young == nil {
		l.old, l.young = l.young, make(map[addressKey]time.Duration)
	}
	l.young[key] = until
	return wait
}

// leave counts one connection less.
func (l *Limiter) leave(key addressKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[key]--; l.conns[key] <= 0 {
		delete(l.conns, key)
	}
}
