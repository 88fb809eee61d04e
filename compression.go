// compression.go is permessage-deflate (RFC 7692): its options, how messages are compressed and decompressed by what was
// agreed on, and what both sides say of that in Sec-WebSocket-Extensions (section 7.1).

package wsd

import (
	"errors"
	"strconv"
	"strings"

	"github.com/seed62836080/wsd/internal/deflate"
	"github.com/seed62836080/wsd/internal/inflate"
	"github.com/seed62836080/wsd/internal/quote"
)

// Compression holds the parameters for negotiating permessage-deflate (RFC 7692); nil leaves it off. The zero value asks
// for context takeover and 32 KiB windows in both directions, at the fastest level. With takeover, a connection keeps up
// to 32 KiB of what it received, and 4 to 32 KiB of what it sent; docs/compression.md has figures.
//
// In a Config for NewConn or NewParser, it holds what was negotiated.
//
// The size of compressed data tells an observer how alike its parts are: do not compress secrets together with text that
// others choose (CompressNever).
type Compression struct {
	// Level is the effort, from 1, the fastest, to 9, the smallest. 0 means 1, and other values mean the nearest of
	// these. With takeover, level 5 takes up to two thirds longer than level 1 and makes messages an eighth smaller;
	// level 9 takes eight to eighteen times as long and makes them a fifth smaller. Windows smaller than 32 KiB have a
	// single level, which is like 5.
	Level int
	// ServerNoContextTakeover makes the server compress each message on its own, without reference to earlier ones. A
	// server also does so if the client asks. A client's handshake fails if the server does not agree to it.
	ServerNoContextTakeover bool
	// ClientNoContextTakeover makes the client compress each message on its own, whether client or server asks for it.
	ClientNoContextTakeover bool
	// ServerMaxWindowBits bounds how far back the server's compressor looks: 8 to 15 stand for 2^8 to 2^15 bytes. 0 means
	// 15, and other values mean the nearest of these. A client's handshake fails if the server does not agree to it.
	ServerMaxWindowBits int
	// ClientMaxWindowBits is the same for the client's compressor, except that a client keeps to its own setting if the
	// server's answer allows more (RFC 7692, section 7.1.2.2). A server cannot ask this of a client that did not offer to
	// be asked, and asks such a client for no context takeover instead.
	ClientMaxWindowBits int
	// Threshold is the size in bytes from which messages with CompressAuto are compressed (Message.Compress). Default
	// 512: shorter ones fit in a packet either way. Negative means all messages.
	Threshold int
}

const defaultThreshold = 512 // bytes

// maxBits returns the number of window bits that an option means.
func maxBits(bits int) int {
	if bits == 0 {
		return deflate.MaxWindowBits
	}
	return min(max(bits, deflate.MinWindowBits), deflate.MaxWindowBits)
}

// sentBy returns whether what a role sends is compressed without context takeover, and the window bits for it.
func (c *Compression) sentBy(role Role) (alone bool, bits int) {
	if role == ClientRole {
		return c.ClientNoContextTakeover, maxBits(c.ClientMaxWindowBits)
	}
	return c.ServerNoContextTakeover, maxBits(c.ServerMaxWindowBits)
}

// decoder is what is used of an inflater, and partDecoder of an inflate.Stream. No more is linked into a program whose
// connections decompress nothing.
type decoder interface {
	inflate(data []byte, limit uint64) ([]byte, error)
	stream(limit uint64) partDecoder
}

type partDecoder interface {
	Space(n int) []byte
	End()
	Next(dst []byte) (int, error)
	Close()
}

// inflater decompresses the messages of one connection. It belongs to the connection's reader.
type inflater struct {
	maxDistance int             // that the peer may use, in bytes
	history     *inflate.Window // nil without context takeover
}

// newInflater returns what decompresses the messages that a connection of the given role receives, or nil if agreed is
// nil, as nothing was negotiated.
func newInflater(role Role, agreed *Compression) *inflater {
	if agreed == nil {
		return nil
	}
	peer := ClientRole
	if role == ClientRole {
		peer = ServerRole
	}
	alone, bits := agreed.sentBy(peer)
	i := &inflater{maxDistance: 1 << bits}
	if !alone {
		i.history = inflate.NewWindow(i.maxDistance)
	}
	return i
}

// compressedLimit returns the maximum length, in bytes, of a compressed message that inflates to limit bytes. DEFLATE can
// make data longer by any amount, but a compressor does so by less than a seventh, plus some bytes for each flush.
// Anything longer has blocks without data in it.
func compressedLimit(limit uint64) uint64 {
	const flushes = 4 << 10 // bytes
	if longer := limit + limit/4 + flushes; longer > limit && longer <= unlimited {
		return longer
	}
	return unlimited
}

// inflate decompresses data and returns the message in a slice of its own. A message longer than limit bytes is a
// *ProtocolError with StatusMessageTooBig, found while it is inflated; one that is not DEFLATE has StatusInvalidPayload.
func (i *inflater) inflate(data []byte, limit uint64) ([]byte, error) {
	message, err := inflate.Message(data, limit, i.history, i.maxDistance)
	if err != nil {
		return nil, notInflated(err)
	}
	if i.history != nil {
		i.history.Add(message)
	}
	return message, nil
}

// stream returns what decompresses a message piece by piece.
func (i *inflater) stream(limit uint64) partDecoder {
	return inflate.NewStream(limit, i.history, i.maxDistance)
}

// notInflated is the violation that an error of the decoder means. RFC 7692 says to fail the connection without naming a
// code; 1007 is for "data within a message that was not consistent with the type of the message" (RFC 6455, section
// 7.4.1), while the frames, which are what 1002 is about, are in order.
func notInflated(err error) error {
	var corrupt inflate.CorruptError
	if !errors.As(err, &corrupt) {
		return tooBig()
	}
	return &ProtocolError{
		Code: StatusInvalidPayload, Section: "RFC 7692, section 7.2.2", Problem: "compressed message is not DEFLATE: " + string(corrupt),
	}
}

// deflater compresses the messages that a connection sends, and tells which are to be.
type deflater struct {
	deflate.Deflater
	threshold int // the size in bytes from which messages with CompressAuto are compressed
}

// newDeflater returns what compresses the messages that a connection of the given role sends, or nil if agreed is nil, as
// nothing was negotiated.
func newDeflater(role Role, agreed *Compression) *deflater {
	if agreed == nil {
		return nil
	}
	alone, bits := agreed.sentBy(role)
	d := &deflater{deflate.New(agreed.Level, bits, !alone), agreed.Threshold}
	if d.threshold == 0 {
		d.threshold = defaultThreshold
	}
	return d
}

// wants reports whether a message is to be compressed.
func (d *deflater) wants(m *Message) bool {
	switch m.Compress {
	case CompressAlways:
		return true
	case CompressNever:
		return false
	}
	return len(m.Data) >= d.threshold
}

// Compress is that of deflate.Deflater, with errors as callers get them.
func (d *deflater) Compress(dst, data []byte) ([]byte, error) {
	dst, err := d.Deflater.Compress(dst, data)
	return dst, notDeflated(err)
}

// notDeflated is an error of the compressor, or nil, as callers get it.
func notDeflated(err error) error {
	if err == nil {
		return nil
	}
	return &causeError{"compressing a message", err}
}

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
