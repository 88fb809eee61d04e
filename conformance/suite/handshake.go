// The opening handshake of both roles, written and read as text, and what it agrees on (RFC 6455, 4; RFC 7692, 5 and 7.1).

package suite

import (
	"bufio"
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
)

// A field is one header line.
type field struct{ name, value string }

type fields []field

// get returns the values of all lines of that name.
func (f fields) get(name string) []string {
	var values []string
	for _, h := range f {
		if strings.EqualFold(h.name, name) {
			values = append(values, h.value)
		}
	}
	return values
}

// with returns f with one more line; without returns it less all lines of a name; replace is both.
func (f fields) with(name, value string) fields {
	return append(f[:len(f):len(f)], field{name, value})
}

func (f fields) without(name string) fields {
	var rest fields
	for _, h := range f {
		if !strings.EqualFold(h.name, name) {
			rest = append(rest, h)
		}
	}
	return rest
}

func (f fields) replace(name, value string) fields { return f.without(name).with(name, value) }

// tokens splits all lines of a name into their comma-separated parts.
func (f fields) tokens(name string) []string {
	var all []string
	for _, v := range f.get(name) {
		for t := range strings.SplitSeq(v, ",") {
			if t = strings.TrimSpace(t); t != "" {
				all = append(all, t)
			}
		}
	}
	return all
}

func (f fields) hasToken(name, token string) bool {
	for _, t := range f.tokens(name) {
		if strings.EqualFold(t, token) {
			return true
		}
	}
	return false
}

// A request is an opening handshake's request.
type request struct {
	method, target, version string
	fields                  fields
}

// soundRequest returns one that every server must take.
func (s *session) soundRequest() *request {
	return &request{"GET", s.target, "HTTP/1.1", fields{
		{"Host", s.host},
		{"Upgrade", "websocket"},
		{"Connection", "Upgrade"},
		{"Sec-WebSocket-Key", s.newKey()},
		{"Sec-WebSocket-Version", "13"},
	}}
}

func (r *request) bytes() []byte {
	return headBytes(r.method+" "+r.target+" "+r.version, r.fields)
}

func headBytes(first string, f fields) []byte {
	var b strings.Builder
	b.WriteString(first + "\r\n")
	for _, h := range f {
		b.WriteString(h.name + ": " + h.value + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// A response is what a server answers to an opening handshake.
type response struct {
	status int
	fields fields
}

// readHead reads a start line and the header lines after it.
func readHead(in *bufio.Reader) (string, fields, error) {
	r := textproto.NewReader(in)
	first, err := r.ReadLine()
	if err != nil {
		return "", nil, err
	}
	var f fields
	for {
		line, err := r.ReadLine()
		if err != nil {
			return first, f, noEOF(err)
		}
		if line == "" {
			return first, f, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.TrimSpace(name) != name {
			return first, f, fmt.Errorf("the header line %q has no name", line)
		}
		f = append(f, field{name, strings.Trim(value, " \t")})
	}
}

func readResponse(in *bufio.Reader) (*response, error) {
	first, f, err := readHead(in)
	if err != nil {
		return nil, err
	}
	version, rest, _ := strings.Cut(first, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || !strings.HasPrefix(version, "HTTP/1.") {
		return nil, fmt.Errorf("the status line %q is none of HTTP/1", first)
	}
	return &response{status, f}, nil
}

func readRequest(in *bufio.Reader) (*request, error) {
	first, f, err := readHead(in)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(first, " ")
	if len(parts) != 3 {
		return nil, fmt.Errorf("the request line %q has not three parts", first)
	}
	return &request{parts[0], parts[1], parts[2], f}, nil
}

// acceptFor is the Sec-WebSocket-Accept that a key demands (RFC 6455, 4.2.2).
func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (s *session) newKey() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.rng.Uint64())
	binary.BigEndian.PutUint64(b[8:], s.rng.Uint64())
	return base64.StdEncoding.EncodeToString(b[:])
}

// checkResponse judges the response of a server that agrees (RFC 6455, 4.2.2).
func checkResponse(r *request, a *response) error {
	if a.status != 101 {
		return fmt.Errorf("the handshake was answered by %d, expected 101", a.status)
	}
	if u := a.fields.get("Upgrade"); len(u) != 1 || !strings.EqualFold(u[0], "websocket") {
		return breach("RFC 6455, 4.2.2", "the response's Upgrade is %q, expected one websocket", u)
	}
	if !a.fields.hasToken("Connection", "Upgrade") {
		return breach("RFC 6455, 4.2.2", "the response's Connection %q lacks Upgrade", a.fields.get("Connection"))
	}
	key := strings.Trim(r.fields.get("Sec-WebSocket-Key")[0], " \t")
	if got := a.fields.get("Sec-WebSocket-Accept"); len(got) != 1 || got[0] != acceptFor(key) {
		return breach("RFC 6455, 4.2.2", "the response's Sec-WebSocket-Accept is %q, expected %q", got, acceptFor(key))
	}
	chosen := a.fields.get("Sec-WebSocket-Protocol")
	if len(chosen) > 1 {
		return breach("RFC 6455, 11.3.4", "the response has %d Sec-WebSocket-Protocol lines", len(chosen))
	}
	if len(chosen) == 1 {
		found := false
		for _, t := range r.fields.tokens("Sec-WebSocket-Protocol") {
			found = found || t == chosen[0] // case matters: RFC 6455, 4.1
		}
		if !found {
			return breach("RFC 6455, 4.2.2", "the response's subprotocol %q was not offered", chosen[0])
		}
	}
	return nil
}

// checkRequest judges a client's request (RFC 6455, 4.1).
func checkRequest(r *request) error {
	one := func(name string) (string, error) {
		v := r.fields.get(name)
		if len(v) != 1 {
			return "", breach("RFC 6455, 4.1", "the request has %d lines %s, expected one", len(v), name)
		}
		return v[0], nil
	}
	if r.method != "GET" || r.version != "HTTP/1.1" {
		return breach("RFC 6455, 4.1", "the request is %s %s, expected GET HTTP/1.1", r.method, r.version)
	}
	if !strings.HasPrefix(r.target, "/") {
		return breach("RFC 6455, 4.1", "the request's target is %q, expected a path", r.target)
	}
	if host, err := one("Host"); err != nil || host == "" {
		return breach("RFC 6455, 4.1", "the request has no Host")
	}
	if !r.fields.hasToken("Upgrade", "websocket") {
		return breach("RFC 6455, 4.1", "the request's Upgrade %q lacks websocket", r.fields.get("Upgrade"))
	}
	if !r.fields.hasToken("Connection", "Upgrade") {
		return breach("RFC 6455, 4.1", "the request's Connection %q lacks Upgrade", r.fields.get("Connection"))
	}
	key, err := one("Sec-WebSocket-Key")
	if err != nil {
		return err
	}
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return breach("RFC 6455, 4.1", "the key %q is not 16 bytes in base64", key)
	}
	v, err := one("Sec-WebSocket-Version")
	if err != nil {
		return err
	}
	if v != "13" {
		return breach("RFC 6455, 4.1", "the version is %q, expected 13", v)
	}
	return nil
}

// An agreement is permessage-deflate as negotiated (RFC 7692, 7.1).
type agreement struct {
	serverNoContextTakeover, clientNoContextTakeover bool
	serverMaxWindowBits, clientMaxWindowBits         int // 0: not named, so 15
	hasServerMaxWindowBits, hasClientMaxWindowBits   bool

	toPeer   *deflater
	fromPeer *inflater
}

func (a *agreement) String() string {
	text := "permessage-deflate"
	if a.serverNoContextTakeover {
		text += "; server_no_context_takeover"
	}
	if a.clientNoContextTakeover {
		text += "; client_no_context_takeover"
	}
	if a.serverMaxWindowBits != 0 {
		text += fmt.Sprintf("; server_max_window_bits=%d", a.serverMaxWindowBits)
	}
	if a.clientMaxWindowBits != 0 {
		text += fmt.Sprintf("; client_max_window_bits=%d", a.clientMaxWindowBits)
	} else if a.hasClientMaxWindowBits {
		text += "; client_max_window_bits"
	}
	return text
}

// start makes the codecs for the suite's side of a session with a peer of this role.
func (a *agreement) start(peer Role) {
	serverBits, clientBits := cmp.Or(a.serverMaxWindowBits, 15), cmp.Or(a.clientMaxWindowBits, 15)
	if peer == Server {
		a.toPeer = newDeflater(clientBits, !a.clientNoContextTakeover)
		a.fromPeer = newInflater(serverBits, !a.serverNoContextTakeover)
		return
	}
	a.toPeer = newDeflater(serverBits, !a.serverNoContextTakeover)
	a.fromPeer = newInflater(clientBits, !a.clientNoContextTakeover)
}

// parseExtension reads one extension with its parameters. Anything but a sound permessage-deflate is an error.
func parseExtension(text string, inResponse bool) (*agreement, error) {
	parts := strings.Split(text, ";")
	if strings.TrimSpace(parts[0]) != "permessage-deflate" {
		return nil, fmt.Errorf("the extension %q", text)
	}
	a := &agreement{}
	for _, p := range parts[1:] {
		name, value, valued := strings.Cut(strings.TrimSpace(p), "=")
		if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		var twice bool
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if valued {
				return nil, breach("RFC 7692, 7.1.1", "%s has a value", name)
			}
			which := &a.serverNoContextTakeover
			if name[0] == 'c' {
				which = &a.clientNoContextTakeover
			}
			twice, *which = *which, true
		case "server_max_window_bits", "client_max_window_bits":
			bits := 0
			if valued || inResponse || name[0] == 's' {
				n, err := strconv.Atoi(value)
				if err != nil || n < 8 || n > 15 || strconv.Itoa(n) != value {
					return nil, breach("RFC 7692, 7.1.2", "%s is %q, expected 8 to 15", name, value)
				}
				bits = n
			}
			if name[0] == 's' {
				twice, a.hasServerMaxWindowBits, a.serverMaxWindowBits = a.hasServerMaxWindowBits, true, bits
			} else {
				twice, a.hasClientMaxWindowBits, a.clientMaxWindowBits = a.hasClientMaxWindowBits, true, bits
			}
		default:
			return nil, breach("RFC 7692, 7.1", "the parameter %q", name)
		}
		if twice {
			return nil, breach("RFC 7692, 7.1", "%s comes twice", name)
		}
	}
	return a, nil
}

// agree judges the extensions a server accepted against one offer and puts them to use. Where the server declined, the
// error is errNotApplicable.
func (s *session) agree(offer string) error {
	accepted := s.response.fields.tokens("Sec-WebSocket-Extensions")
	if len(accepted) == 0 {
		return fmt.Errorf("%q was not agreed to: %w", offer, errNotApplicable)
	}
	if offer == "" || len(accepted) > 1 {
		return breach("RFC 6455, 9.1", "the server accepted %q, where %q was offered", accepted, offer)
	}
	got, err := parseExtension(accepted[0], true)
	if err != nil {
		return fmt.Errorf("the server accepted %q: %w", accepted[0], err)
	}
	asked, err := parseExtension(offer, false)
	if err != nil {
		return fmt.Errorf("the server accepted an offer that it had to decline, %q: %w", offer, err)
	}
	switch {
	case asked.serverNoContextTakeover && !got.serverNoContextTakeover:
		return breach("RFC 7692, 7.1.1.1", "the server accepted %q by %q, without server_no_context_takeover", offer, accepted[0])
	case asked.hasServerMaxWindowBits && !got.hasServerMaxWindowBits:
		return breach("RFC 7692, 7.1.2.1", "the server accepted %q by %q, without server_max_window_bits", offer, accepted[0])
	case asked.hasServerMaxWindowBits && got.serverMaxWindowBits > asked.serverMaxWindowBits:
		return breach("RFC 7692, 7.1.2.1", "the server accepted %q by %q, a larger window", offer, accepted[0])
	case got.hasClientMaxWindowBits && !asked.hasClientMaxWindowBits:
		return breach("RFC 7692, 7.1.2.2", "the server accepted %q by %q, though client_max_window_bits was not offered", offer, accepted[0])
	case got.hasClientMaxWindowBits && asked.clientMaxWindowBits != 0 && got.clientMaxWindowBits > asked.clientMaxWindowBits:
		return breach("RFC 7692, 7.1.2.2", "the server accepted %q by %q, a larger window", offer, accepted[0])
	}
	// What the client promised by itself binds it even where the response does not repeat it.
	got.clientNoContextTakeover = got.clientNoContextTakeover || asked.clientNoContextTakeover
	if asked.clientMaxWindowBits != 0 && got.clientMaxWindowBits == 0 {
		got.clientMaxWindowBits = asked.clientMaxWindowBits
	}
	got.start(Server)
	s.agreed = got
	return nil
}

// connect does a sound handshake with a server that is judged, offering one extension or none.
func (s *session) connect(offer string) error {
	r := s.soundRequest()
	if offer != "" {
		r.fields = r.fields.with("Sec-WebSocket-Extensions", offer)
	}
	if err := s.request101(r, 0, nil); err != nil {
		return err
	}
	if offer == "" {
		if got := s.response.fields.get("Sec-WebSocket-Extensions"); len(got) > 0 {
			return breach("RFC 6455, 4.2.2", "the server accepted %q, where nothing was offered", got)
		}
		return nil
	}
	return s.agree(offer)
}

// request101 sends a request in chops, and whatever shall follow it in the same bytes, and expects it to be accepted.
func (s *session) request101(r *request, chop int, follow []byte) error {
	s.request = r
	s.send(append(r.bytes(), follow...), chop)
	a, err := readResponse(s.in)
	if err != nil {
		return fmt.Errorf("no response to the handshake: %w", err)
	}
	s.response = a
	return checkResponse(r, a)
}

// refused sends a request and expects one of the statuses and no upgrade.
func (s *session) refused(r *request, statuses ...int) (*response, error) {
	s.send(r.bytes(), 0)
	a, err := readResponse(s.in)
	if err != nil {
		return nil, fmt.Errorf("no response to the handshake, expected a refusal: %w", err)
	}
	for _, want := range statuses {
		if a.status == want {
			return a, nil
		}
	}
	return a, fmt.Errorf("the handshake was answered by %d, expected %s", a.status, orList(statuses))
}

// awaitRequest reads a client's request.
func (s *session) awaitRequest() error {
	r, err := readRequest(s.in)
	if err != nil {
		return fmt.Errorf("no handshake came: %w", err)
	}
	s.request = r
	return nil
}

// soundResponse is one that every client must take, without extensions.
func soundResponse(r *request) fields {
	key := ""
	if k := r.fields.get("Sec-WebSocket-Key"); len(k) > 0 {
		key = k[0]
	}
	return fields{
		{"Upgrade", "websocket"},
		{"Connection", "Upgrade"},
		{"Sec-WebSocket-Accept", acceptFor(key)},
	}
}

const switchingProtocols = "HTTP/1.1 101 Switching Protocols"

// offers returns the client's sound offers of permessage-deflate, in its order.
func (r *request) offers() []*agreement {
	var all []*agreement
	for _, t := range r.fields.tokens("Sec-WebSocket-Extensions") {
		if a, err := parseExtension(t, false); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// acceptWith answers a judged client with permessage-deflate as wanted, or says that this client cannot have it so.
func (s *session) acceptWith(wanted *agreement) error {
	f := soundResponse(s.request)
	if wanted != nil {
		fits := false
		for _, o := range s.request.offers() {
			fits = fits || (!o.serverNoContextTakeover || wanted.serverNoContextTakeover) &&
				(!o.hasServerMaxWindowBits || wanted.serverMaxWindowBits != 0 && wanted.serverMaxWindowBits <= o.serverMaxWindowBits) &&
				(wanted.clientMaxWindowBits == 0 || o.hasClientMaxWindowBits && (o.clientMaxWindowBits == 0 || wanted.clientMaxWindowBits <= o.clientMaxWindowBits))
		}
		if !fits {
			s.respond(f)
			return fmt.Errorf("%q fits no offer among %q: %w", wanted, s.request.fields.get("Sec-WebSocket-Extensions"), errNotApplicable)
		}
		f = f.with("Sec-WebSocket-Extensions", wanted.String())
		own := *wanted
		own.start(Client)
		s.agreed = &own
	}
	s.respond(f)
	return nil
}

// respond accepts a client's request with the fields.
func (s *session) respond(f fields) { s.send(headBytes(switchingProtocols, f), 0) }

// drained reads what a client sends after a handshake that it had to refuse, until the TCP end: nothing, or at most a
// close frame (RFC 6455, 7.1.7).
func (s *session) drained() error {
	e, err := s.next()
	if err == nil {
		if e.opcode != opClose {
			return fmt.Errorf("the client took the handshake and sent %v", e)
		}
		_, err = s.in.ReadByte()
		if err == nil {
			return fmt.Errorf("more bytes came after the close frame")
		}
	}
	if ended(err) || err == io.ErrUnexpectedEOF {
		return nil
	}
	return fmt.Errorf("the client did not end the connection after a handshake that it had to refuse: %w", err)
}
