// deflate_negotiate.go is what permessage-deflate says in Sec-WebSocket-Extensions (RFC 7692, section 7.1), on both sides.

package wsd

import (
	"strconv"
	"strings"

	"github.com/seed62836080/wsd/internal/deflate"
	"github.com/seed62836080/wsd/internal/quote"
)

const (
	deflateExtension = "permessage-deflate"

	serverNoTakeover = "server_no_context_takeover"
	clientNoTakeover = "client_no_context_takeover"
	serverMaxBits    = "server_max_window_bits"
	clientMaxBits    = "client_max_window_bits"
)

// deflateParams is one permessage-deflate offer or answer, as received.
type deflateParams struct {
	serverNoTakeover, clientNoTakeover bool
	// serverBits and clientBits are 8 to 15, or 0 if the parameter is absent. clientBits is anyBits if the parameter came
	// without a value, which is allowed in an offer.
	serverBits, clientBits int
}

const anyBits = -1

// set records one parameter and returns what is wrong with it, or "".
func (p *deflateParams) set(name, value string, valued bool) (problem string) {
	var seen bool
	switch name {
	case serverNoTakeover, clientNoTakeover:
		flag := &p.serverNoTakeover
		if name == clientNoTakeover {
			flag = &p.clientNoTakeover
		}
		seen = *flag
		*flag = true
		if valued {
			return "parameter " + name + " has a value, expected none"
		}
	case serverMaxBits, clientMaxBits:
		count := &p.serverBits
		if name == clientMaxBits {
			count = &p.clientBits
		}
		seen = *count != 0
		switch {
		case valued:
			if *count = windowBits(value); *count == 0 {
				return "parameter " + name + " is " + quote.Short(value) + ", expected 8 to 15"
			}
		case name == clientMaxBits:
			*count = anyBits
		default:
			return "parameter " + name + " has no value, expected 8 to 15"
		}
	default:
		return "unknown parameter " + quote.Short(name)
	}
	if seen {
		return "parameter " + name + " comes twice"
	}
	return ""
}

// windowBits reads 8 to 15 in decimal without leading zeros, and returns 0 for anything else (RFC 7692, section 7.1.2).
func windowBits(value string) int {
	switch value {
	case "8", "9":
		return int(value[0] - '0')
	case "10", "11", "12", "13", "14", "15":
		return 10 + int(value[1]-'0')
	}
	return 0
}

// deflateOffer returns the Sec-WebSocket-Extensions value of a client that wants c.
func deflateOffer(c *Compression) string {
	if c == nil {
		return ""
	}
	offer := deflateExtension
	if c.ServerNoContextTakeover {
		offer += "; " + serverNoTakeover
	}
	if c.ClientNoContextTakeover {
		offer += "; " + clientNoTakeover
	}
	if bits := maxBits(c.ServerMaxWindowBits); bits < deflate.MaxWindowBits {
		offer += "; " + serverMaxBits + "=" + strconv.Itoa(bits)
	}
	// Without this parameter a server has no way to ask for a smaller window.
	offer += "; " + clientMaxBits
	if bits := maxBits(c.ClientMaxWindowBits); bits < deflate.MaxWindowBits {
		offer += "=" + strconv.Itoa(bits)
	}
	return offer
}

// chooseDeflate accepts the first offer of a client's Sec-WebSocket-Extensions values that a server with the settings
// want can meet. It returns what was agreed on and the value of the answering header, or nil if it accepts none.
// malformed says how the values break the header's grammar, if they do, which fails the connection whether or not want is
// nil (RFC 6455, section 9.1).
func chooseDeflate(offers []string, want *Compression) (agreed *Compression, answer, malformed string) {
	malformed = eachExtension(offers, func(offer extension) string {
		if want != nil && agreed == nil && offer.name == deflateExtension && offer.problem == "" {
			agreed, answer = want.accept(offer.params)
		}
		return ""
	})
	if malformed != "" {
		return nil, "", malformed
	}
	return agreed, answer, ""
}

// accept answers a well-formed offer. It can meet every offer, since the compressor can keep to any window.
func (c *Compression) accept(offer deflateParams) (agreed *Compression, answer string) {
	settled := *c
	settled.ServerNoContextTakeover = c.ServerNoContextTakeover || offer.serverNoTakeover
	settled.ClientNoContextTakeover = c.ClientNoContextTakeover || offer.clientNoTakeover
	settled.ServerMaxWindowBits = maxBits(c.ServerMaxWindowBits)
	if offer.serverBits != 0 {
		settled.ServerMaxWindowBits = min(settled.ServerMaxWindowBits, offer.serverBits)
	}
	settled.ClientMaxWindowBits = maxBits(c.ClientMaxWindowBits)
	switch {
	case offer.clientBits > 0:
		settled.ClientMaxWindowBits = min(settled.ClientMaxWindowBits, offer.clientBits)
	case offer.clientBits == 0 && settled.ClientMaxWindowBits < deflate.MaxWindowBits:
		// The parameter must not be sent to a client that did not offer it (RFC 7692, section 7.1.2.2). But any client
		// can be told to forget its window, which also bounds the memory kept between messages, the purpose of the
		// setting.
		settled.ClientMaxWindowBits = deflate.MaxWindowBits
		settled.ClientNoContextTakeover = true
	}
	answer = deflateExtension
	if settled.ServerNoContextTakeover {
		answer += "; " + serverNoTakeover
	}
	if settled.ClientNoContextTakeover {
		answer += "; " + clientNoTakeover
	}
	if offer.serverBits != 0 || settled.ServerMaxWindowBits < deflate.MaxWindowBits {
		answer += "; " + serverMaxBits + "=" + strconv.Itoa(settled.ServerMaxWindowBits)
	}
	if settled.ClientMaxWindowBits < deflate.MaxWindowBits {
		answer += "; " + clientMaxBits + "=" + strconv.Itoa(settled.ClientMaxWindowBits)
	}
	return &settled, answer
}

// checkDeflate judges a server's Sec-WebSocket-Extensions values against what was offered, and returns what was agreed
// on, or nil if the server declined.
func checkDeflate(answer []string, offered *Compression) (agreed *Compression, problem *HandshakeError) {
	wrong := eachExtension(answer, func(element extension) (wrong string) {
		switch {
		case element.name != deflateExtension || offered == nil:
			return "extension " + quote.Short(element.name) + " was not offered"
		case element.problem != "":
			return element.problem
		case agreed != nil:
			return deflateExtension + " is answered twice"
		}
		agreed, wrong = offered.settle(element.params)
		return wrong
	})
	if wrong != "" {
		return nil, &HandshakeError{Header: wireExtensions, Problem: wrong}
	}
	return agreed, nil
}

// settle judges a well-formed answer to the offer that deflateOffer makes of c (RFC 7692, section 7.1).
func (c *Compression) settle(answer deflateParams) (agreed *Compression, problem string) {
	settled := *c
	serverBits, clientBits := maxBits(c.ServerMaxWindowBits), maxBits(c.ClientMaxWindowBits)
	switch {
	case c.ServerNoContextTakeover && !answer.serverNoTakeover:
		return nil, "parameter " + serverNoTakeover + " was offered and is not in the answer"
	case serverBits < deflate.MaxWindowBits && answer.serverBits == 0:
		return nil, "parameter " + serverMaxBits + " was offered and is not in the answer"
	case answer.serverBits > serverBits:
		return nil, "parameter " + serverMaxBits + " is " + strconv.Itoa(answer.serverBits) + ", expected at most the " +
			strconv.Itoa(serverBits) + " offered"
	case answer.clientBits == anyBits:
		return nil, "parameter " + clientMaxBits + " has no value, expected 8 to 15"
	}
	settled.ServerNoContextTakeover = answer.serverNoTakeover
	settled.ClientNoContextTakeover = c.ClientNoContextTakeover || answer.clientNoTakeover
	settled.ServerMaxWindowBits = maxBits(answer.serverBits)
	settled.ClientMaxWindowBits = clientBits
	if answer.clientBits != 0 {
		// What was offered is a hint, so an answer may allow more (RFC 7692, section 7.1.2.2). Nobody has to use it.
		settled.ClientMaxWindowBits = min(clientBits, answer.clientBits)
	}
	return &settled, ""
}

// extension is one element of Sec-WebSocket-Extensions (RFC 6455, section 9.1).
type extension struct {
	name    string
	params  deflateParams // if the name is permessage-deflate
	problem string        // with the first parameter that is wrong then, empty if none is
}

// eachExtension calls f with the elements of Sec-WebSocket-Extensions values, in order, until f returns that one is wrong
// or one is malformed, and returns what is wrong. It looks at each byte a fixed number of times, and at none after what is
// wrong.
func eachExtension(values []string, f func(extension) (wrong string)) (wrong string) {
	for _, rest := range values {
		for {
			// An empty list element is no element (RFC 9110, section 5.6.1.2).
			if rest = strings.TrimLeft(rest, " \t,"); rest == "" {
				break
			}
			element, after, wrong := cutExtension(rest)
			if wrong == "" {
				wrong = f(element)
			}
			if wrong != "" {
				return wrong
			}
			rest = after
		}
	}
	return ""
}

// cutExtension splits value after its first element, up to a comma or the end. malformed says what is wrong with the
// element's syntax, if something is.
func cutExtension(value string) (element extension, rest, malformed string) {
	element.name, rest = cutToken(value)
	if element.name == "" {
		return element, "", "malformed extension " + quote.Short(value) + ", expected a name"
	}
	for {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" || rest[0] == ',' {
			return element, rest, ""
		}
		if rest[0] != ';' {
			return element, "", "malformed extension, expected a semicolon at " + quote.Short(rest)
		}
		var param, value string
		param, rest = cutToken(strings.TrimLeft(rest[1:], " \t"))
		if param == "" {
			return element, "", "empty parameter of extension " + quote.Short(element.name)
		}
		rest = strings.TrimLeft(rest, " \t")
		valued := strings.HasPrefix(rest, "=")
		if valued {
			var ok bool
			if value, rest, ok = cutValue(strings.TrimLeft(rest[1:], " \t")); !ok {
				return element, "", "parameter " + quote.Short(param) + " has a malformed value, expected a token"
			}
		}
		if element.name == deflateExtension && element.problem == "" {
			element.problem = element.params.set(param, value, valued)
		}
	}
}

// cutToken splits s after the token it begins with, which is empty if there is none.
func cutToken(s string) (token, rest string) {
	n := 0
	for n < len(s) && isTokenByte(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

// cutValue splits s after the parameter value it begins with, a token or a quoted string (RFC 6455, section 9.1). That a
// quoted value must also be a token is left for the caller to check.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest = cutToken(s)
		return value, rest, value != ""
	}
	var plain []byte
	for i := 1; i < len(s); i++ {
		c := s[i]
		if c == '"' {
			return string(plain), s[i+1:], true
		}
		if c == '\\' && i+1 < len(s) {
			i++
			c = s[i]
		}
		plain = append(plain, c)
	}
	return "", s, false
}
