// origin.go decides which web pages may connect: it checks the origin of a request (RFC 6454) against the server's own
// host and the patterns that the server allows.

package wsd

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/seed62836080/wsd/internal/quote"
	"github.com/seed62836080/wsd/internal/wsurl"
)

// origin is a web origin, or the pattern of one.
type origin struct {
	scheme string
	host   string // without the brackets of an IPv6 address
	port   string // the scheme's default if none is given; empty if it has none
}

// anyOrigin is the pattern that turns the check off.
const anyOrigin = "*"

// SameOrigin reports whether a request comes from a page of the server's own, or from no page at all, having no Origin. That
// is the rule by which Accept goes if AcceptOptions name no Origins, so a CheckOrigin can begin with it:
//
//	CheckOrigin: func(r *http.Request) bool { return wsd.SameOrigin(r) || allowed(r) }
//
// A page is the server's own if its origin has the host and port of the request's Host, under https or wss if the server
// speaks TLS itself, and otherwise also under http or ws. Some clients that are not browsers send ws and wss, or add a path.
func SameOrigin(r *http.Request) bool { return checkOrigin(r.Header, r.Host, r.TLS != nil, nil) == nil }

// checkOrigin judges the origin of a request to a server with the given Host; tls says that it speaks TLS itself (RFC
// 6455, sections 4.2.2 and 10.2).
func checkOrigin(h http.Header, host string, tls bool, patterns []string) *HandshakeError {
	lines := h["Origin"]
	if len(lines) == 0 {
		return nil // not from a web page
	}
	for _, pattern := range patterns {
		if pattern == anyOrigin {
			return nil
		}
	}
	if len(lines) > 1 {
		return refusal(http.StatusForbidden, "Origin", "expected it at most once, got it "+strconv.Itoa(len(lines))+" times")
	}
	// Opaque origins have no parts to compare; a pattern that names one is meant literally.
	for _, pattern := range patterns {
		if equalFold(pattern, lines[0]) {
			return nil
		}
	}
	if own, ok := parseOrigin(withoutPath(lines[0])); ok && sameOrigin(own, host, tls) {
		return nil
	}
	from, ok := parseOrigin(lines[0])
	if !ok {
		return refusal(http.StatusForbidden, "Origin", "expected scheme://host or scheme://host:port, got "+shown(lines))
	}
	for _, pattern := range patterns {
		if !isLiteral(pattern) && matchOrigin(pattern, from, tls) {
			return nil
		}
	}
	own := "the server's own host, "
	if tls {
		own = "the server's own host under https, "
	}
	return refusal(http.StatusForbidden, "Origin", "expected "+own+quote.Short(host)+", or one that is allowed, got "+shown(lines))
}

// parseOrigin reads scheme "://" host [ ":" port ] (RFC 6454, section 6.2).
func parseOrigin(s string) (origin, bool) {
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return origin{}, false
	}
	host, port, ok := wsurl.SplitHostPort(authority)
	if !ok || host == "" || !isHost(host) || port != "" && !wsurl.IsPort(port) {
		return origin{}, false
	}
	if port == "" {
		port = wsurl.DefaultPort(scheme)
	}
	return origin{scheme, host, port}, true
}

// withoutPath returns what is left of an origin to which a client has added the path of a page.
func withoutPath(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		authority, _, _ := strings.Cut(rest, "/")
		return s[:len(scheme)+len("://")+len(authority)]
	}
	return s
}

// sameOrigin reports whether a page of the origin from comes from the server itself.
func sameOrigin(from origin, host string, tls bool) bool {
	switch {
	case equalFold(from.scheme, "ws"):
		from.scheme = "http"
	case equalFold(from.scheme, "wss"):
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
	return equalFold(scheme, "https") || !tls && equalFold(scheme, "http")
}

// isLiteral reports whether a pattern is no pattern, having nothing in it or a path. Such an entry allows what equals it.
func isLiteral(pattern string) bool {
	_, authority, found := strings.Cut(pattern, "://")
	if !found {
		authority = pattern
	}
	return pattern == "" || strings.IndexByte(authority, '/') >= 0
}

// checkOriginPattern finds patterns that could never match, so that a mistake does not look like an attack.
func checkOriginPattern(pattern string) *HandshakeError {
	if pattern == anyOrigin || pattern == "null" || isLiteral(pattern) {
		return nil
	}
	scheme, authority, found := strings.Cut(pattern, "://")
	if !found {
		scheme, authority = "*", pattern
	}
	host, port, ok := wsurl.SplitHostPort(authority)
	if !ok || strings.Trim(scheme, "*") != "" && !isScheme(strings.ReplaceAll(scheme, "*", "a")) || !isHost(host) ||
		host == "" && !found || port != "" && port != "*" && !wsurl.IsPort(port) {
		return &HandshakeError{Header: "Origin", Problem: "expected a pattern such as *.example.com or https://example.com:*, got " +
			quote.Short(pattern)}
	}
	return nil
}

// matchOrigin reports whether pattern allows the origin from.
func matchOrigin(pattern string, from origin, tls bool) bool {
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
		case p < len(pattern) && lower(pattern[p]) == lower(s[i]):
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
	if equalFold(a, b) {
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
		if c := s[i]; !isAlphanumeric(c) && (i == 0 || c != '+' && c != '-' && c != '.') {
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
