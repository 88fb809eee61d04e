// Package origin decides which web pages may connect: it checks the origin of a request (RFC 6454) against the server's own
// host and the patterns that the server allows. And it tells the origins of URLs apart.
package origin

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/seed62836080/wsd/internal/ascii"
	"github.com/seed62836080/wsd/internal/quote"
	"github.com/seed62836080/wsd/internal/wsurl"
)

// Origin is a web origin. Two can be compared with == if each is that of a URL.
type Origin struct {
	scheme string
	host   string // without the brackets of an IPv6 address
	port   string // the scheme's default if none is given; empty if it has none
}

// Of returns the origin of a URL.
func Of(u *url.URL) Origin {
	port := u.Port()
	if port == "" {
		port = wsurl.DefaultPort(u.Scheme)
	}
	return Origin{u.Scheme, strings.ToLower(u.Hostname()), port}
}

// anyOrigin is the pattern that turns the check off.
const anyOrigin = "*"

// Check judges the Origin lines of a request to a server with the given Host; tls says that it speaks TLS itself (RFC 6455,
// sections 4.2.2 and 10.2). It returns what is wrong with them, and "" if the page may connect.
func Check(lines []string, host string, tls bool, patterns []string) (problem string) {
	if len(lines) == 0 {
		return "" // not from a web page
	}
	for _, pattern := range patterns {
		if pattern == anyOrigin {
			return ""
		}
	}
	if len(lines) > 1 {
		return "expected it at most once, got it " + strconv.Itoa(len(lines)) + " times"
	}
	// Opaque origins have no parts to compare; a pattern that names one is meant literally.
	line := lines[0]
	for _, pattern := range patterns {
		if ascii.EqualFold(pattern, line) {
			return ""
		}
	}
	if own, ok := parse(withoutPath(line)); ok && isOwn(own, host, tls) {
		return ""
	}
	from, ok := parse(line)
	if !ok {
		return "expected scheme://host or scheme://host:port, got " + quote.Short(line)
	}
	for _, pattern := range patterns {
		if !isLiteral(pattern) && matches(pattern, from, tls) {
			return ""
		}
	}
	own := "the server's own host, "
	if tls {
		own = "the server's own host under https, "
	}
	return "expected " + own + quote.Short(host) + ", or one that is allowed, got " + quote.Short(line)
}

// CheckPattern finds patterns that could never match, so that a mistake does not look like an attack. It returns what is wrong
// with one, and "" if nothing is.
func CheckPattern(pattern string) (problem string) {
	if pattern == anyOrigin || pattern == "null" || isLiteral(pattern) {
		return ""
	}
	scheme, authority, found := strings.Cut(pattern, "://")
	if !found {
		scheme, authority = "*", pattern
	}
	host, port, ok := wsurl.SplitHostPort(authority)
	if !ok || strings.Trim(scheme, "*") != "" && !isScheme(strings.ReplaceAll(scheme, "*", "a")) || !isHost(host) ||
		host == "" && !found || port != "" && port != "*" && !wsurl.IsPort(port) {
		return "expected a pattern such as *.example.com or https://example.com:*, got " + quote.Short(pattern)
	}
	return ""
}

// parse reads scheme "://" host [ ":" port ] (RFC 6454, section 6.2).
func parse(s string) (Origin, bool) {
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return Origin{}, false
	}
	host, port, ok := wsurl.SplitHostPort(authority)
	if !ok || host == "" || !isHost(host) || port != "" && !wsurl.IsPort(port) {
		return Origin{}, false
	}
	if port == "" {
		port = wsurl.DefaultPort(scheme)
	}
	return Origin{scheme, host, port}, true
}

// withoutPath returns what is left of an origin to which a client has added the path of a page.
func withoutPath(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		authority, _, _ := strings.Cut(rest, "/")
		return s[:len(scheme)+len("://")+len(authority)]
	}
	return s
}

// isOwn reports whether a page of the origin from comes from the server itself.
func isOwn(from Origin, host string, tls bool) bool {
	switch {
	case ascii.EqualFold(from.scheme, "ws"):
		from.scheme = "http"
	case ascii.EqualFold(from.scheme, "wss"):
		from.scheme = "https"
	}
	if from.port == "" {
		from.port = wsurl.DefaultPort(from.scheme)
	}
	if !webScheme(from.scheme, tls) {
		return false
	}
	host, port, ok := wsurl.SplitHostPort(host)
	if !ok {
		return false
	}
	if port == "" {
		// A client leaves the port out if it is the default port of the scheme it uses.
		port = wsurl.DefaultPort(from.scheme)
	}
	return port == from.port && equalHost(host, from.host)
}

// webScheme reports whether pages under scheme can be this server's own. A server that speaks TLS has only https. One
// that does not may be behind a proxy that does.
func webScheme(scheme string, tls bool) bool {
	return ascii.EqualFold(scheme, "https") || !tls && ascii.EqualFold(scheme, "http")
}

// isLiteral reports whether a pattern is no pattern, having nothing in it or a path. Such an entry allows what equals it.
func isLiteral(pattern string) bool {
	_, authority, found := strings.Cut(pattern, "://")
	if !found {
		authority = pattern
	}
	return pattern == "" || strings.IndexByte(authority, '/') >= 0
}

// matches reports whether pattern allows the origin from.
func matches(pattern string, from Origin, tls bool) bool {
	scheme, authority, found := strings.Cut(pattern, "://")
	if !found {
		authority = pattern
		if !webScheme(from.scheme, tls) {
			return false
		}
	} else if !glob(scheme, from.scheme) {
		return false
	}
	host, port, ok := wsurl.SplitHostPort(authority)
	if !ok || host == "" {
		return false
	}
	if port == "" {
		port = wsurl.DefaultPort(from.scheme)
	}
	return (port == "*" || port == from.port) && (glob(host, from.host) || equalHost(host, from.host))
}

// glob reports whether pattern, in which * stands for any run of characters, matches s, ignoring the case of letters.
func glob(pattern, s string) bool {
	star, retry := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, i
			p++
		case p < len(pattern) && ascii.Lower(pattern[p]) == ascii.Lower(s[i]):
			p++
			i++
		case star >= 0:
			// The last * takes one more character. Earlier ones need no second look.
			retry++
			p, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// equalHost compares host names and addresses. IPv6 has many ways to write one address.
func equalHost(a, b string) bool {
	if ascii.EqualFold(a, b) {
		return true
	}
	if strings.IndexByte(a, ':') < 0 || strings.IndexByte(b, ':') < 0 {
		return false
	}
	first, errFirst := netip.ParseAddr(a)
	second, errSecond := netip.ParseAddr(b)
	return errFirst == nil && errSecond == nil && first == second
}

// isScheme follows RFC 3986, section 3.1.
func isScheme(s string) bool {
	for i := range len(s) {
		if c := s[i]; !ascii.IsAlphanumeric(c) && (i == 0 || c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

// isHost reports whether s is free of characters that end a host in a URL or that a URL cannot have.
func isHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7F || strings.IndexByte(`/?#@\[],<>"`, c) >= 0 {
			return false
		}
	}
	return true
}
