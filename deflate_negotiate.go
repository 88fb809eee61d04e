// deflate_negotiate.go is what permessage-deflate says in Sec-WebSocket-Extensions (RFC 7692, section 7.1), on both sides.

package wsd

import (
	"strconv"
	"strings"
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
				return "parameter " + name + " is " + quoted(value) + ", expected 8 to 15"
			}
		case name == clientMaxBits:
			*count = anyBits
		default:
			return "parameter " + name + " has no value, expected 8 to 15"
		}
	default:
		return "unknown parameter " + quoted(name)
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
	if bits := maxBits(c.ServerMaxWindowBits); bits < maxWindowBits {
		offer += "; " + serverMaxBits + "=" + strconv.Itoa(bits)
	}
	// Without this parameter a server has no way to ask for a smaller window.
	offer += "; " + clientMaxBits
	if bits := maxBits(c.ClientMaxWindowBits); bits < maxWindowBits {
		offer += "=" + strconv.Itoa(bits)
	}
	return offer
}

// chooseDeflate accepts the first offer of a client's Sec-WebSocket-Extensions values that a server with the settings
// want can meet. It returns what was agreed on and the value of the answering header, or nil if it accepts none.
// malformed says how the values break the header's grammar, if they do, which fails the connection whether or not want is
// nil (RFC 6455, section 9.1).
func chooseDeflate(offers []string, want *Compression) (agreed *Compression, answer, malformed string) {
	for _, value := range offers {
		for rest, more := value, true; more; {
			var offer string
			offer, rest, more = cutExtension(rest)
			if offer == "" {
				continue // an empty list element is no element (RFC 9110, section 5.6.1.2)
			}
			name, params, broken, problem := parseDeflate(offer)
			switch {
			case broken != "":
				return nil, "", broken
			case want != nil && agreed == nil && name == deflateExtension && problem == "":
				agreed, answer = want.accept(params)
			}
		}
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
	case offer.clientBits == 0 && settled.ClientMaxWindowBits < maxWindowBits:
		// The parameter must not be sent to a client that did not offer it (RFC 7692, section 7.1.2.2). But any client
		// can be told to forget its window, which also bounds the memory kept between messages, the purpose of the
		// setting.
		settled.ClientMaxWindowBits = maxWindowBits
		settled.ClientNoContextTakeover = true
	}
	answer = deflateExtension
	if settled.ServerNoContextTakeover {
		answer += "; " + serverNoTakeover
	}
	if settled.ClientNoContextTakeover {
		answer += "; " + clientNoTakeover
	}
	if offer.serverBits != 0 || settled.ServerMaxWindowBits < maxWindowBits {
		answer += "; " + serverMaxBits + "=" + strconv.Itoa(settled.ServerMaxWindowBits)
	}
	if settled.ClientMaxWindowBits < maxWindowBits {
		answer += "; " + clientMaxBits + "=" + strconv.Itoa(settled.ClientMaxWindowBits)
	}
	return &settled, answer
}

// checkDeflate judges a server's Sec-WebSocket-Extensions values against what was offered, and returns what was agreed
// on, or nil if the server declined.
func checkDeflate(answer []string, offered *Compression) (agreed *Compression, problem *HandshakeError) {
	for _, value := range answer {
		for rest, more := value, true; more; {
			var element string
			element, rest, more = cutExtension(rest)
			if element == "" {
				continue // an empty list element is no element (RFC 9110, section 5.6.1.2)
			}
			name, params, wrong, unfit := parseDeflate(element)
			switch {
			case wrong != "":
			case name != deflateExtension || offered == nil:
				wrong = "extension " + quoted(name) + " was not offered"
			case unfit != "":
				wrong = unfit
			case agreed != nil:
				wrong = deflateExtension + " is answered twice"
			default:
				agreed, wrong = offered.settle(params)
			}
			if wrong != "" {
				return nil, &HandshakeError{Header: wireExtensions, Problem: wrong}
			}
		}
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
	case serverBits < maxWindowBits && answer.serverBits == 0:
		return nil, "parameter " + serverMaxBits + " was offered and is not in the answer"
	case answer.serverBits > serverBits:
		return nil, tooWide(serverMaxBits, answer.serverBits, serverBits)
	case answer.clientBits == anyBits:
		return nil, "parameter " + clientMaxBits + " has no value, expected 8 to 15"
	case answer.clientBits > clientBits:
		return nil, tooWide(clientMaxBits, answer.clientBits, clientBits)
	}
	settled.ServerNoContextTakeover = answer.serverNoTakeover
	settled.ClientNoContextTakeover = c.ClientNoContextTakeover || answer.clientNoTakeover
	settled.ServerMaxWindowBits = maxBits(answer.serverBits)
	settled.ClientMaxWindowBits = clientBits
	if answer.clientBits != 0 {
		settled.ClientMaxWindowBits = answer.clientBits
	}
	return &settled, ""
}

func tooWide(name string, bits, offered int) string {
	return "parameter " + name + " is " + strconv.Itoa(bits) + ", expected at most the " + strconv.Itoa(offered) + " offered"
}

// cutExtension splits a Sec-WebSocket-Extensions value after its first element, at a comma that is not quoted. more says
// whether there was one.
func cutExtension(value string) (element, rest string, more bool) {
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ',' && !quoted:
			return trimSpace(value[:i]), value[i+1:], true
		}
	}
	return trimSpace(value), "", false
}

// parseDeflate reads one element of Sec-WebSocket-Extensions (RFC 6455, section 9.1). malformed says what is wrong with
// its syntax. problem says what is wrong with a parameter, if the name is permessage-deflate. parseDeflate looks at each
// byte a fixed number of times, and at none after what is malformed.
func parseDeflate(element string) (name string, params deflateParams, malformed, problem string) {
	name, rest := cutToken(element)
	if name == "" {
		return "", params, "malformed extension " + quoted(element) + ", expected a name", ""
	}
	for {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			return name, params, "", problem
		}
		if rest[0] != ';' {
			return name, params, "malformed extension, expected a semicolon at " + quoted(rest), ""
		}
		var param, value string
		param, rest = cutToken(strings.TrimLeft(rest[1:], " \t"))
		if param == "" {
			return name, params, "empty parameter of extension " + quoted(name), ""
		}
		rest = strings.TrimLeft(rest, " \t")
		valued := strings.HasPrefix(rest, "=")
		if valued {
			var ok bool
			if value, rest, ok = cutValue(strings.TrimLeft(rest[1:], " \t")); !ok {
				return name, params, "parameter " + quoted(param) + " has a malformed value, expected a token", ""
			}
		}
		if name == deflateExtension && problem == "" {
			problem = params.set(param, value, valued)
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
