// proxies.go finds the address of a client behind proxies.

package limiter

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed62836080/wsd/internal/ascii"
)

// Proxies are those that are trusted to say from which address a request has come to them. It is safe for concurrent use.
type Proxies struct {
	prefixes []netip.Prefix
	last     func(line string) (addr netip.Addr, rest string) // the last address of a line, and what is ahead of it
}

// NewProxies returns those whose addresses are in prefixes, and whoever comes over a unix socket. They say it in a header
// field of that name, which is Forwarded (RFC 7239) or a list of addresses.
func NewProxies(header string, prefixes []netip.Prefix) *Proxies {
	p := &Proxies{prefixes: make([]netip.Prefix, len(prefixes)), last: lastAddress}
	for i, prefix := range prefixes {
		if mapped := prefix.Addr(); mapped.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(mapped.Unmap(), prefix.Bits()-96)
		}
		p.prefixes[i] = prefix
	}
	if ascii.EqualFold(header, "Forwarded") {
		p.last = lastForwarded
	}
	return p
}

func (p *Proxies) trust(addr netip.Addr) bool {
	return !addr.IsValid() || slices.ContainsFunc(p.prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// Client returns the address of who has sent a request: remote, from which it came here, or what the lines of the header field
// say of that.
func (p *Proxies) Client(remote string, lines []string) netip.Addr {
	addr := ParseAddr(remote)
	for i := len(lines) - 1; i >= 0; i-- {
		for rest := lines[i]; ascii.TrimSpace(rest) != ""; {
			if !p.trust(addr) {
				return addr
			}
			var said netip.Addr
			if said, rest = p.last(rest); !said.IsValid() {
				return addr
			}
			addr = said
		}
	}
	return addr
}

// ParseAddr parses an address with or without a port. It returns the zero Addr for anything else.
func ParseAddr(s string) netip.Addr {
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
	return ParseAddr(ascii.TrimSpace(list[comma+1:])), list[:max(comma, 0)]
}

// lastForwarded returns the address that the last element of a Forwarded line names, and what is ahead of it (RFC 7239,
// section 4). It reads from the end, since what it looks at was added by a proxy that is trusted: quotes there are in order,
// and what is in them, such as a host, may be the client's. Further to the front, a quote may be one that the client opened.
func lastForwarded(line string) (addr netip.Addr, rest string) {
	for named := 0; ; {
		at := lastSeparator(line)
		if name, value, _ := strings.Cut(line[at+1:], "="); ascii.EqualFold(ascii.TrimSpace(name), "for") {
			named++
			addr = ParseAddr(strings.Trim(ascii.TrimSpace(value), `"`))
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
