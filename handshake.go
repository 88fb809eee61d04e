// handshake.go is the opening handshake without its sockets: what a request and its answer must say (RFC 6455, section
// 4).

package wsd

import (
	"crypto/sha1"
	"encoding/base64"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed62836080/wsd/internal/ascii"
	"github.com/seed62836080/wsd/internal/origin"
	"github.com/seed62836080/wsd/internal/quote"
)

const (
	protocolVersion = "13"                                   // RFC 6455, section 4.1
	acceptGUID      = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, section 1.3
	keySize         = 16                                     // bytes of a nonce
	keyLength       = 24                                     // characters of a nonce in base64
	acceptLength    = 28                                     // characters of a SHA-1 sum in base64
)

// The header fields of the handshake as keys of net/http's maps, and as RFC 6455 spells them: what is sent is spelled the
// RFC's way, for peers that look for that.
const (
	mapKey        = "Sec-Websocket-Key"
	mapVersion    = "Sec-Websocket-Version"
	mapAccept     = "Sec-Websocket-Accept"
	mapProtocol   = "Sec-Websocket-Protocol"
	mapExtensions = "Sec-Websocket-Extensions"

	wireKey        = "Sec-WebSocket-Key"
	wireVersion    = "Sec-WebSocket-Version"
	wireAccept     = "Sec-WebSocket-Accept"
	wireProtocol   = "Sec-WebSocket-Protocol"
	wireExtensions = "Sec-WebSocket-Extensions"
)

// asksForWebSocket reports whether a header asks, or tells, to change to the WebSocket protocol.
func asksForWebSocket(h http.Header) bool {
	return hasToken(h["Upgrade"], "websocket") && hasToken(h["Connection"], "upgrade")
}

// checkRequestHeader judges the header of a client's handshake except for Host, Origin, and what it offers (RFC 6455,
// section 4.2.1).
func checkRequestHeader(h http.Header) *HandshakeError {
	// Without these two fields the request asks for a plain answer, which this resource does not have (RFC 9110, section
	// 15.5.22).
	if !hasToken(h["Upgrade"], "websocket") {
		return refusal(http.StatusUpgradeRequired, "Upgrade", "expected the token websocket, got "+shown(h["Upgrade"]))
	}
	if !hasToken(h["Connection"], "upgrade") {
		return refusal(http.StatusUpgradeRequired, "Connection", "expected the token Upgrade, got "+shown(h["Connection"]))
	}
	if v := h[mapVersion]; len(v) != 1 || v[0] != protocolVersion {
		return refusal(http.StatusUpgradeRequired, wireVersion, "expected 13, got "+shown(v))
	}
	key := h[mapKey]
	if len(key) != 1 {
		return refusal(http.StatusBadRequest, wireKey, "expected it once, got it "+strconv.Itoa(len(key))+" times")
	}
	if !validKey(key[0]) {
		return refusal(http.StatusBadRequest, wireKey, "expected 16 bytes in base64, got "+shown(key))
	}
	return nil
}

func refusal(status int, header, problem string) *HandshakeError {
	return &HandshakeError{StatusCode: status, Header: header, Problem: problem}
}

// SameOrigin reports whether a request comes from a page of the server's own, or from no page at all, having no Origin. That
// is the rule by which Accept goes if AcceptOptions name no Origins, so a CheckOrigin can begin with it:
//
//	CheckOrigin: func(r *http.Request) bool { return wsd.SameOrigin(r) || allowed(r) }
//
// A page is the server's own if its origin has the host and port of the request's Host, under https or wss if the server
// speaks TLS itself, and otherwise also under http or ws. Some clients that are not browsers send ws and wss, or add a path.
func SameOrigin(r *http.Request) bool { return checkOrigin(r.Header, r.Host, r.TLS != nil, nil) == nil }

// checkOrigin judges the origin of a request to a server with the given Host; tls says that it speaks TLS itself.
func checkOrigin(h http.Header, host string, tls bool, patterns []string) *HandshakeError {
	if problem := origin.Check(h["Origin"], host, tls, patterns); problem != "" {
		return refusal(http.StatusForbidden, "Origin", problem)
	}
	return nil
}

// checkOriginPattern checks a pattern that a caller wants to allow.
func checkOriginPattern(pattern string) *HandshakeError {
	if problem := origin.CheckPattern(pattern); problem != "" {
		return &HandshakeError{Header: "Origin", Problem: problem}
	}
	return nil
}

func validKey(key string) bool {
	if len(key) != keyLength {
		return false
	}
	var in [keyLength]byte
	var nonce [keyLength]byte
	copy(in[:], key)
	n, err := base64.StdEncoding.Decode(nonce[:], in[:])
	return err == nil && n == keySize
}

// appendAccept appends the Sec-WebSocket-Accept value that answers key, which has keyLength characters (RFC 6455,
// section 4.2.2).
func appendAccept(dst []byte, key string) []byte {
	var b [keyLength + len(acceptGUID)]byte
	copy(b[copy(b[:], key):], acceptGUID)
	sum := sha1.Sum(b[:])
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// chooseSubprotocol returns the first of preferred that is in a client's Sec-WebSocket-Protocol lines, or "" if none is
// (RFC 6455, section 4.2.2). may says what a subprotocol may be. The result is the server's own string, so that nothing of
// the request is kept in memory.
func chooseSubprotocol(lines, preferred []string, may func(string) bool) (string, *HandshakeError) {
	chosen := len(preferred)
	for element := range elements(lines) {
		if !may(element) {
			return "", refusal(http.StatusBadRequest, wireProtocol, "expected a list of tokens, got "+shown(lines))
		}
		if i := slices.Index(preferred[:chosen], element); i >= 0 {
			chosen = i
		}
	}
	if chosen == len(preferred) {
		return "", nil
	}
	return preferred[chosen], nil
}

// checkSubprotocols checks what a caller wants to negotiate: tokens, or what else may be, none of them twice (RFC 6455,
// section 4.1).
func checkSubprotocols(subprotocols []string, may func(string) bool) *HandshakeError {
	for i, s := range subprotocols {
		if !may(s) {
			return &HandshakeError{Header: wireProtocol, Problem: "expected a token, got " + quote.Short(s)}
		}
		if slices.Contains(subprotocols[:i], s) {
			return &HandshakeError{Header: wireProtocol, Problem: quote.Short(s) + " is there twice"}
		}
	}
	return nil
}

// isSubprotocol returns the judge of subprotocols' names: they are tokens, but a connection that is pulled may have others,
// as those of Kubernetes' port forwarding are, which have a slash.
func (cfg *Config) isSubprotocol() func(string) bool {
	if !cfg.pulled {
		return isToken
	}
	return func(s string) bool {
		return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == ',' || c >= 0x7F })
	}
}

// checkExtraHeader checks the header fields that a caller adds to a request or an answer: they must be well-formed, and
// not belong to the handshake or to the framing of HTTP.
func checkExtraHeader(h http.Header) *HandshakeError {
	for name, values := range h {
		if !isToken(name) {
			return &HandshakeError{Problem: "expected the name of a header field, got " + quote.Short(name)}
		}
		if isHandshakeField(name) {
			problem := "set by the handshake itself, it cannot be given"
			switch {
			case ascii.EqualFold(name, wireProtocol):
				problem += "; use Subprotocols"
			case ascii.EqualFold(name, wireExtensions):
				problem += "; use Compression"
			}
			return &HandshakeError{Header: name, Problem: problem}
		}
		if i := slices.IndexFunc(values, func(v string) bool { return !isFieldValue(v) }); i >= 0 {
			return &HandshakeError{Header: name, Problem: "control character in the value " + quote.Short(values[i])}
		}
	}
	return nil
}

// isHandshakeField reports whether the handshake itself sets the header field, or the field would announce a body, which
// a handshake does not have.
func isHandshakeField(name string) bool {
	const family = "sec-websocket-"
	if len(name) >= len(family) && ascii.EqualFold(name[:len(family)], family) {
		return true
	}
	return slices.ContainsFunc([]string{"Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Trailer"},
		func(own string) bool { return ascii.EqualFold(name, own) })
}

// appendAnswer appends the answer to a handshake up to the end of its own header fields (RFC 6455, section 4.2.2).
func appendAnswer(dst []byte, key string, agreed *agreement) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+wireAccept+": "...)
	dst = appendAccept(dst, key)
	if agreed.subprotocol != "" {
		dst = append(append(dst, "\r\n"+wireProtocol+": "...), agreed.subprotocol...)
	}
	if agreed.extensions != "" {
		dst = append(append(dst, "\r\n"+wireExtensions+": "...), agreed.extensions...)
	}
	return append(dst, "\r\n"...)
}

// appendHeader appends the fields of h, in the order of their names, except those that do not belong in an answer.
func appendHeader(dst []byte, h http.Header) []byte {
	if len(h) == 0 {
		return dst
	}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if !isToken(name) || isHandshakeField(name) {
			continue
		}
		for _, value := range h[name] {
			if isFieldValue(value) {
				dst = append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
			}
		}
	}
	return dst
}

// checkAnswerHeader judges the header of a server's 101 against what was asked for (RFC 6455, section 4.1), and returns
// what was agreed on. offered is nil if no extension was offered.
func checkAnswerHeader(h http.Header, key string, subprotocols []string, offered *Compression) (agreement, *HandshakeError) {
	wrong := func(header, expected string, got []string) (agreement, *HandshakeError) {
		return agreement{}, &HandshakeError{Header: header, Problem: "expected " + expected + ", got " + shown(got)}
	}
	var agreed agreement
	if v := h["Upgrade"]; len(v) != 1 || !ascii.EqualFold(v[0], "websocket") {
		return wrong("Upgrade", "websocket", v)
	}
	if v := h["Connection"]; !hasToken(v, "upgrade") {
		return wrong("Connection", "the token Upgrade", v)
	}
	var accept [acceptLength]byte
	expected := string(appendAccept(accept[:0], key))
	if v := h[mapAccept]; len(v) != 1 || v[0] != expected {
		return wrong(wireAccept, quote.Short(expected), v)
	}
	if v := h[mapProtocol]; len(v) > 0 {
		i := slices.Index(subprotocols, v[0])
		switch {
		case len(subprotocols) == 0:
			return wrong(wireProtocol, "none, as none was asked for", v)
		case len(v) > 1 || i < 0:
			return wrong(wireProtocol, "one of those asked for, "+shown(subprotocols), v)
		}
		agreed.subprotocol = subprotocols[i]
	}
	v := h[mapExtensions]
	if !slices.ContainsFunc(v, func(line string) bool { return ascii.TrimSpace(line) != "" }) {
		return agreed, nil
	}
	if offered == nil {
		return wrong(wireExtensions, "none, as none was offered", v)
	}
	compression, problem := checkDeflate(v, offered)
	if problem != nil {
		return agreement{}, problem
	}
	if agreed.compression = compression; compression != nil {
		agreed.extensions = strings.Join(v, ", ")
	}
	return agreed, nil
}

// hasToken reports whether a comma-separated list, which may span several lines, has an element that equals token,
// ignoring case (RFC 9110, section 5.6.1).
func hasToken(lines []string, token string) bool {
	for element := range elements(lines) {
		if ascii.EqualFold(element, token) {
			return true
		}
	}
	return false
}

// elements yields the elements of a comma-separated list, which may span several lines, without the empty ones, which
// recipients accept (RFC 9110, section 5.6.1.2).
func elements(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for element := range strings.SplitSeq(line, ",") {
				if element = ascii.TrimSpace(element); element != "" && !yield(element) {
					return
				}
			}
		}
	}
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2), as the names of header fields and subprotocols are.
func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return ascii.IsAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// isFieldValue reports whether s can be a header field's value: no control characters other than tab (RFC 9110, section
// 5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// shown formats the value of a header field for an error message.
func shown(lines []string) string {
	if len(lines) == 0 {
		return "none"
	}
	return quote.Short(strings.Join(lines, ", "))
}
