// limits.go decides, ahead of any handshake, whether a server has room for one more: in all, for the client's address, and
// at the rate at which that address asks.

package wsd

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed62836080/wsd/internal/ascii"
	"github.com/seed62836080/wsd/internal/clock"
)

// Limits bound what clients can have of a Server. Zero means no limit. A request beyond one is answered ahead of anything
// else, with a Retry-After: with 503 if the server is full, with 429 if the address has too much.
//
// An address is an IPv4 address, or the 64 bits of an IPv6 address that a customer usually has. Behind a proxy, all clients
// have the proxy's: set ClientAddr before you limit by address there.
type Limits struct {
	// Connections is how many connections, with the handshakes under way, there may be in all.
	Connections int
	// AddressConnections is how many of them one address may have.
	AddressConnections int
	// AddressHandshakes is how many handshakes a second one address may begin, on average, and AddressBurst how many at
	// once. Default for AddressBurst: those of one second, at least 1.
	AddressHandshakes float64
	AddressBurst      int
	// ClientAddr says which address has sent a request; the zero Addr means an address that is not limited, such as that
	// of a unix socket. Default: that of the connection, from Request.RemoteAddr. TrustedProxies makes one.
	ClientAddr func(*http.Request) netip.Addr
}

// TrustedProxies returns a ClientAddr for servers behind proxies, whose addresses are in prefixes; whoever comes over a unix
// socket is trusted too. It believes one header field, Forwarded (RFC 7239) or a list of addresses such as X-Forwarded-For,
// and of that only what trusted proxies have added: from the last entry to the first, as long as the address that has added
// it is trusted. What a client claims is ignored. An entry that is no address counts as the proxy that added it.
func TrustedProxies(header string, prefixes ...netip.Prefix) func(*http.Request) netip.Addr {
	trusts := make([]netip.Prefix, len(prefixes))
	for i, prefix := range prefixes {
		if mapped := prefix.Addr(); mapped.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(mapped.Unmap(), prefix.Bits()-96)
		}
		trusts[i] = prefix
	}
	trusted := func(addr netip.Addr) bool {
		return !addr.IsValid() || slices.ContainsFunc(trusts, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	parse := lastAddress
	if ascii.EqualFold(header, "Forwarded") {
		parse = lastForwarded
	}
	name := http.CanonicalHeaderKey(header)
	return func(r *http.Request) netip.Addr {
		addr := remoteAddr(r)
		lines := r.Header[name]
		for i := len(lines) - 1; i >= 0; i-- {
			for rest := lines[i]; ascii.TrimSpace(rest) != ""; {
				if !trusted(addr) {
					return addr
				}
				var said netip.Addr
				if said, rest = parse(rest); !said.IsValid() {
					return addr
				}
				addr = said
			}
		}
		return addr
	}
}

// remoteAddr returns the address from which a request's connection comes.
func remoteAddr(r *http.Request) netip.Addr { return parseAddr(r.RemoteAddr) }

// parseAddr parses an address with or without a port. It returns the zero Addr for anything else.
func parseAddr(s string) netip.Addr {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// lastAddress returns the last address of a list, and what is ahead of it.
func lastAddress(list string) (addr netip.Addr, rest string) {
	comma := strings.LastIndexByte(list, ',')
	return parseAddr(ascii.TrimSpace(list[comma+1:])), list[:max(comma, 0)]
}

// lastForwarded returns the address that the last element of a Forwarded line names, and what is ahead of it (RFC 7239,
// section 4). It reads from the end, since what it looks at was added by a proxy that is trusted: quotes there are in order,
// and what is in them, such as a host, may be the client's. Further to the front, a quote may be one that the client opened.
func lastForwarded(line string) (addr netip.Addr, rest string) {
	for named := 0; ; {
		at := lastSeparator(line)
		if name, value, _ := strings.Cut(line[at+1:], "="); ascii.EqualFold(ascii.TrimSpace(name), "for") {
			named++
			addr = parseAddr(strings.Trim(ascii.TrimSpace(value), `"`))
		}
		if at >= 0 && line[at] == ';' {
			line = line[:at]
			continue
		}
		if named > 1 {
			addr = netip.Addr{} // a proxy that quotes nothing has passed one of them on
		}
		return addr, line[:max(at, 0)]
	}
}

// lastSeparator returns where the last comma or semicolon is that is not in quotes, or -1.
func lastSeparator(line string) int {
	for i := len(line) - 1; i >= 0; i-- {
		switch line[i] {
		case ',', ';':
			return i
		case '"':
			for i--; i >= 0 && (line[i] != '"' || isEscaped(line[:i])); i-- {
			}
		}
	}
	return -1
}

// isEscaped reports whether what follows s in a quoted string stands for itself (RFC 9110, section 5.6.4).
func isEscaped(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
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

// rememberedAddresses is how many addresses a generation of the limiter has: two take some 4 MiB, however many ask.
const rememberedAddresses = 32 << 10

// forever is a time in nanoseconds that never comes, and that can be added to others.
const forever = float64(1 << 60)

// limiter counts by address. Its methods are safe for concurrent use.
type limiter struct {
	mu    sync.Mutex
	conns map[addressKey]int // connections and handshakes under way
	// Until when, on clock, the handshakes of an address are paid for. Addresses that ask move from old to young. When young
	// is full it becomes old, so that only those are forgotten that have not asked for so many others.
	young, old map[addressKey]time.Duration
}

// admit counts one more connection of an address, or says when to come again.
func (l *limiter) admit(key addressKey, limits *Limits) (retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limits.AddressConnections > 0 && l.conns[key] >= limits.AddressConnections {
		return time.Second
	}
	if limits.AddressHandshakes > 0 {
		if wait := l.pay(key, limits.AddressHandshakes, limits.AddressBurst); wait > 0 {
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
func (l *limiter) pay(key addressKey, rate float64, burst int) (wait time.Duration) {
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
	if !isYoung && len(l.young) >= rememberedAddresses || l.young == nil {
		l.old, l.young = l.young, make(map[addressKey]time.Duration)
	}
	l.young[key] = until
	return wait
}

// leave counts one connection less.
func (l *limiter) leave(key addressKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[key]--; l.conns[key] <= 0 {
		delete(l.conns, key)
	}
}

// admitAddress admits a request as far as its address matters. It returns what is to be called when its connection has
// ended, or when to come again.
func (s *Server) admitAddress(r *http.Request) (leave func(), retryAfter time.Duration) {
	if s.Limits.AddressConnections <= 0 && s.Limits.AddressHandshakes <= 0 {
		return func() {}, 0
	}
	find := s.Limits.ClientAddr
	if find == nil {
		find = remoteAddr
	}
	addr := find(r)
	if !addr.IsValid() {
		return func() {}, 0
	}
	key := keyOf(addr.Unmap())
	if wait := s.limiter.admit(key, &s.Limits); wait > 0 {
		return nil, wait
	}
	return func() { s.limiter.leave(key) }, 0
}

// refuseFor refuses a request for some time.
func (s *Server) refuseFor(w http.ResponseWriter, r *http.Request, opts *AcceptOptions, refused *HandshakeError,
	retryAfter time.Duration) error {
	seconds := max((retryAfter+time.Second-1)/time.Second, 1)
	w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	if r.ProtoMajor < 2 { // beyond that it would be the end of all the client's streams
		w.Header().Set("Connection", "close")
	}
	refuse(w, r, refused)
	s.logRefusal(r, refused)
	s.count(&s.totals.Limited)
	opts.tellRefused(r, refused)
	return refused
}
