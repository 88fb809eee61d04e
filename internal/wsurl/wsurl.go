// Package wsurl checks the URLs of WebSockets (RFC 6455, section 3), for Dial, and for pools, which dial later.
package wsurl

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Parse returns the URL of a WebSocket as it was given, http and https URLs included, which mean the same. An error says
// what was expected, without quoting the URL, which it comes with: what of that may be shown is up to the caller. If raw
// is no URL at all, there is none to come with, and the error quotes from raw.
func Parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The outer error contains the whole URL.
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return nil, err
	}
	switch {
	case u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "https":
		return u, errors.New("expected the scheme ws, wss, http or https")
	case u.Opaque != "" || u.Hostname() == "":
		return u, errors.New("expected a host")
	case !IsAuthority(u.Host):
		return u, errors.New("expected a host name or address")
	case u.Port() != "" && !IsPort(strings.TrimLeft(u.Port(), "0")): // url.Parse takes any number
		return u, errors.New("expected a port from 1 to 65535")
	case strings.Contains(raw, "#"):
		return u, errors.New("expected no fragment")
	}
	return u, nil
}

// IsAuthority reports whether s is host [ ":" port ]. Neither url.Parse nor net/http checks that: net/http sends an empty
// Host instead of a bad one. Letters beyond ASCII are left for net/http to encode.
func IsAuthority(s string) bool {
	host, _, ok := SplitHostPort(s)
	return ok && host != "" && !strings.ContainsAny(host, " \t/?#@\\<>[]\"")
}

// SplitHostPort takes host [ ":" port ] apart (RFC 3986, section 3.2). The host comes without the brackets that IPv6
// addresses have, and the port is empty if there is none.
func SplitHostPort(s string) (host, port string, ok bool) {
	if strings.HasPrefix(s, "[") {
		host, port, ok = strings.Cut(s[1:], "]")
		if ip, err := netip.ParseAddr(host); !ok || err != nil || !ip.Is6() {
			return "", "", false
		}
		if port == "" {
			return host, "", true
		}
		if port[0] != ':' {
			return "", "", false
		}
		return host, port[1:], true
	}
	host, port, _ = strings.Cut(s, ":")
	return host, port, strings.IndexByte(port, ':') < 0
}

// IsPort reports whether s is a port as browsers write them, without leading zeros.
func IsPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '0'
}

// DefaultPort returns the port that a URL of HTTP means without one, or "" for another scheme.
func DefaultPort(scheme string) string {
	switch strings.ToLower(scheme) {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}
