// Cases of permessage-deflate (RFC 7692): what is agreed to, and what is then sent.

package suite

import (
	"fmt"
	"strings"
)

func compressionHandshakeCases(c *catalogue) {
	c.topic = "compression handshake"

	// Offers that a server may accept; it is held to what RFC 7692, 7.1 says about the response. A declined one is not
	// applicable: nobody has to compress.
	for _, offer := range []string{
		"permessage-deflate",
		"permessage-deflate; server_no_context_takeover",
		"permessage-deflate; client_no_context_takeover",
		"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
		"permessage-deflate; client_max_window_bits",
		"permessage-deflate; client_max_window_bits; server_no_context_takeover",
		`permessage-deflate; server_max_window_bits="10"`,
		`permessage-deflate; client_max_window_bits="10"`,
		"permessage-deflate;client_max_window_bits;server_max_window_bits=15",
		"  permessage-deflate ;\tclient_max_window_bits = 12 ; server_no_context_takeover",
	} {
		if strings.Contains(offer, " = ") { // blanks around an equals sign are no part of the grammar (RFC 6455, 9.1)
			offer = strings.ReplaceAll(offer, " = ", "=")
		}
		c.add(Case{Section: "RFC 7692, 7.1", Name: fmt.Sprintf("the offer %q", offer), role: Server, ownHandshake: true, run: func(s *session) error {
			if err := s.connect(offer); err != nil {
				return err
			}
			return s.compressedHello()
		}})
	}

	// Offers that a server must decline: the connection comes about without compression (RFC 7692, 7.1).
	for _, offer := range []string{
		"permessage-deflate; server_no_context_takeover=1",
		"permessage-deflate; client_no_context_takeover=true",
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
		"permessage-deflate; client_no_context_takeover; client_no_context_takeover",
		"permessage-deflate; server_max_window_bits",
		"permessage-deflate; server_max_window_bits=7",
		"permessage-deflate; server_max_window_bits=16",
		"permessage-deflate; server_max_window_bits=0",
		"permessage-deflate; server_max_window_bits=08",
		"permessage-deflate; server_max_window_bits=-9",
		"permessage-deflate; server_max_window_bits=1000000000000000000000",
		"permessage-deflate; server_max_window_bits=x",
		`permessage-deflate; server_max_window_bits=""`,
		"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
		"permessage-deflate; client_max_window_bits=7",
		"permessage-deflate; client_max_window_bits=16",
		"permessage-deflate; client_max_window_bits=010",
		"permessage-deflate; client_max_window_bits=x",
		"permessage-deflate; client_max_window_bits; client_max_window_bits=10",
		"permessage-deflate; unknown",
		"permessage-deflate; unknown=1",
		"permessage-deflate; client_max_window_bits; unknown",
		"permessage-deflate; Server_No_Context_Takeover",
		"x-webkit-deflate-frame",
		"permessage-deflated",
	} {
		c.add(Case{Section: "RFC 7692, 7.1", Name: fmt.Sprintf("declined: %q", offer), role: Server, ownHandshake: true, run: func(s *session) error {
			r := s.soundRequest()
			r.fields = r.fields.with("Sec-WebSocket-Extensions", offer)
			if err := s.request101(r, 0, nil); err != nil {
				return err
			}
			if got := s.response.fields.get("Sec-WebSocket-Extensions"); len(got) > 0 {
				return breach("RFC 7692, 7.1", "the server accepted %q by %q", offer, got)
			}
			return hello(s)
		}})
		// A sound offer after it, in one list or on a line of its own, is for the server to take.
		for _, lines := range []bool{false, true} {
			name := "in one list"
			if lines {
				name = "on two lines"
			}
			c.add(Case{Section: "RFC 7692, 5.1", Name: fmt.Sprintf("declined, and the next offer considered, %s: %q", name, offer), role: Server, ownHandshake: true, run: func(s *session) error {
				const second = "permessage-deflate"
				r := s.soundRequest()
				if lines {
					r.fields = r.fields.with("Sec-WebSocket-Extensions", offer).with("Sec-WebSocket-Extensions", second)
				} else {
					r.fields = r.fields.with("Sec-WebSocket-Extensions", offer+", "+second)
				}
				if err := s.request101(r, 0, nil); err != nil {
					return err
				}
				if err := s.agree(second); err != nil {
					return err
				}
				return s.compressedHello()
			}})
		}
	}
	c.add(Case{Section: "RFC 7692, 7.1", Name: "two offers, the first of which asks for more", role: Server, ownHandshake: true, run: func(s *session) error {
		const first, second = "permessage-deflate; server_max_window_bits=9; client_max_window_bits", "permessage-deflate"
		r := s.soundRequest()
		r.fields = r.fields.with("Sec-WebSocket-Extensions", first+", "+second)
		if err := s.request101(r, 0, nil); err != nil {
			return err
		}
		chosen := second
		if strings.Contains(strings.Join(s.response.fields.get("Sec-WebSocket-Extensions"), ","), "window_bits") {
			chosen = first
		}
		if err := s.agree(chosen); err != nil {
			return err
		}
		return s.compressedHello()
	}})

	// Answers that a client must refuse (RFC 7692, 7.1).
	for _, response := range []string{
		"permessage-deflate; server_no_context_takeover=1",
		"permessage-deflate; client_no_context_takeover=",
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
		"permessage-deflate; server_max_window_bits",
		"permessage-deflate; server_max_window_bits=7",
		"permessage-deflate; server_max_window_bits=16",
		"permessage-deflate; server_max_window_bits=0",
		"permessage-deflate; server_max_window_bits=08",
		"permessage-deflate; server_max_window_bits=99999999999999999999",
		"permessage-deflate; server_max_window_bits=-15",
		"permessage-deflate; server_max_window_bits=x",
		`permessage-deflate; server_max_window_bits=""`,
		"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
		"permessage-deflate; client_max_window_bits",
		"permessage-deflate; client_max_window_bits=7",
		"permessage-deflate; client_max_window_bits=16",
		"permessage-deflate; client_max_window_bits=x",
		"permessage-deflate; unknown",
		"permessage-deflate; unknown=1",
		"permessage-deflate, permessage-deflate",
		"permessage-deflate, x-unknown",
		"permessage-deflate; server_no_context_takeover, permessage-deflate; client_no_context_takeover",
	} {
		c.add(Case{Section: "RFC 7692, 7.1", Name: fmt.Sprintf("refused: the response %q", response), role: Client, ownHandshake: true, run: func(s *session) error {
			s.respond(soundResponse(s.request).with("Sec-WebSocket-Extensions", response))
			return s.drained()
		}})
	}
	c.add(Case{Section: "RFC 7692, 7.1.2.2", Name: "refused: client_max_window_bits where it was not offered", role: Client, ownHandshake: true, run: func(s *session) error {
		for _, o := range s.request.offers() {
			if o.hasClientMaxWindowBits {
				return fmt.Errorf("client_max_window_bits was offered: %w", errNotApplicable)
			}
		}
		s.respond(soundResponse(s.request).with("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits=10"))
		return s.drained()
	}})
	c.add(Case{Section: "RFC 7692, 5.1", Name: "refused: compression where it was not offered", role: Client, ownHandshake: true, run: func(s *session) error {
		if len(s.request.offers()) > 0 {
			return fmt.Errorf("permessage-deflate was offered: %w", errNotApplicable)
		}
		s.respond(soundResponse(s.request).with("Sec-WebSocket-Extensions", "permessage-deflate"))
		return s.drained()
	}})
	c.add(Case{Section: "RFC 7692, 7.1", Name: "the client's offers", role: Client, ownHandshake: true, run: func(s *session) error {
		offered := s.request.fields.tokens("Sec-WebSocket-Extensions")
		s.respond(soundResponse(s.request))
		if len(offered) == 0 {
			hello(s)
			return fmt.Errorf("no extension was offered: %w", errNotApplicable)
		}
		for _, o := range offered {
			if _, err := parseExtension(o, false); err != nil {
				return fmt.Errorf("the client offered %q: %w", o, err)
			}
		}
		return hello(s)
	}})
}

// compressedHello sends three messages, one of them not compressed, and looks at the echoes.
func (s *session) compressedHello() error {
	for i, text := range []string{"Hello", "not compressed", strings.Repeat("Hello ", 100)} {
		f := whole(opText, text)
		if i != 1 { // what goes uncompressed does not enter the window (RFC 7692, 7.2.1)
			f = s.packed(opText, text)
		}
		s.sendFrames(f)
		if _, err := s.await(events(echo(opText, text)), false); err != nil {
			return err
		}
	}
	return s.finish()
}

// packed makes a compressed message of one frame.
func (s *session) packed(opcode byte, text string) frame {
	return frame{fin: true, rsv: rsv1, opcode: opcode, payload: s.agreed.toPeer.message([]byte(text))}
}

// compressed adds a case for both roles on a connection with permessage-deflate as agreed.
func (c *catalogue) compressed(section, name string, a agreement, run func(*session) error) {
	c.add(Case{Section: section, Name: name, offer: a.String(), accept: &a, run: run})
}

func compressionCases(c *catalogue, l Load) {
	c.topic = "compression"
	plain := agreement{}

	// The examples of RFC 7692, 7.2.3.
	for _, v := range []struct {
		section, name string
		payloads      []string
		text          string
	}{
		{"7.2.3.1", "one block", []string{"\xf2\x48\xcd\xc9\xc9\x07\x00"}, "Hello"},
		{"7.2.3.1", "one block in two fragments", []string{"\xf2\x48\xcd", "\xc9\xc9\x07\x00"}, "Hello"},
		{"7.2.3.1", "one block in fragments of 1", []string{"\xf2", "\x48", "\xcd", "\xc9", "\xc9", "\x07", "\x00"}, "Hello"},
		{"7.2.3.1", "one block with empty fragments", []string{"", "\xf2\x48\xcd\xc9", "", "\xc9\x07\x00", ""}, "Hello"},
		{"7.2.3.3", "a stored block", []string{"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"}, "Hello"},
		{"7.2.3.4", "a final block", []string{"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"}, "Hello"},
		{"7.2.3.5", "two blocks", []string{"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"}, "Hello"},
		{"7.2.3.6", "an empty message", []string{"\x00"}, ""},
		{"7.2.3.6", "an empty message in two fragments", []string{"", "\x00"}, ""},
		{"7.2.3.6", "an empty message by a fixed block", []string{"\x02\x00"}, ""},
	} {
		c.compressed("RFC 7692, "+v.section, v.name, plain, func(s *session) error {
			var all []frame
			for i, p := range v.payloads {
				f := part(opContinuation, p)
				if i == 0 {
					f = part(opText, p).reserved(rsv1)
				}
				f.fin = i == len(v.payloads)-1
				all = append(all, f)
			}
			// Twice, because what ends a stream must not spoil the next message.
			s.sendFrames(append(all[:len(all):len(all)], all...)...)
			return s.answered(echo(opText, v.text), echo(opText, v.text))
		})
	}
	c.compressed("RFC 7692, 7.2.3.2", "the second message by reference to the first", plain, func(s *session) error {
		if s.peer == Server && s.agreed.clientNoContextTakeover || s.peer == Client && s.agreed.serverNoContextTakeover {
			return fmt.Errorf("the suite's window does not live on: %w", errNotApplicable)
		}
		s.sendFrames(whole(opText, "\xf2\x48\xcd\xc9\xc9\x07\x00").reserved(rsv1), whole(opText, "\xf2\x00\x11\x00\x00").reserved(rsv1))
		return s.answered(echo(opText, "Hello"), echo(opText, "Hello"))
	})
	c.compressed("RFC 7692, 6.1", "pings between compressed fragments", plain, func(s *session) error {
		s.sendFrames(part(opText, "\xf2\x48\xcd").reserved(rsv1), whole(opPing, "p"), whole(opContinuation, "\xc9\xc9\x07\x00"))
		return s.answered(pong("p"), echo(opText, "Hello"))
	})
	c.compressed("RFC 7692, 6", "compressed and uncompressed messages in turn", plain, func(s *session) error {
		for i := range 20 {
			text := fmt.Sprintf("message %d, message %d", i, i)
			f := whole(opText, text)
			if i%2 == 0 {
				f = s.packed(opText, text)
			}
			s.sendFrames(f)
			if _, err := s.await(events(echo(opText, text)), false); err != nil {
				return err
			}
		}
		return s.finish()
	})

	// Violations. A good compressed message goes ahead in the same bytes.
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"
	for _, v := range []struct {
		section, name string
		bad           []frame
		codes         []int
	}{
		{"RFC 7692, 6.1", "RSV1 on a continuation", []frame{part(opText, hello[:3]).reserved(rsv1), whole(opContinuation, hello[3:]).reserved(rsv1)}, []int{1002}},
		{"RFC 7692, 6.1", "RSV1 on the continuation of an uncompressed message", []frame{part(opText, "a"), whole(opContinuation, "b").reserved(rsv1)}, []int{1002}},
		{"RFC 7692, 6", "RSV1 on a ping", []frame{whole(opPing, "p").reserved(rsv1)}, []int{1002}},
		{"RFC 7692, 6", "RSV1 on a pong", []frame{whole(opPong, "p").reserved(rsv1)}, []int{1002}},
		{"RFC 7692, 6", "RSV1 on a close frame", []frame{closeFrame(1000, "").reserved(rsv1)}, []int{1002}},
		{"RFC 6455, 5.2", "RSV2 on a compressed message", []frame{whole(opText, hello).reserved(rsv1 | rsv2)}, []int{1002}},
		{"RFC 6455, 5.2", "RSV3 on a compressed message", []frame{whole(opText, hello).reserved(rsv1 | rsv3)}, []int{1002}},
		{"RFC 6455, 5.2", "RSV2 on an uncompressed message", []frame{whole(opText, "x").reserved(rsv2)}, []int{1002}},
		// RFC 7692 leaves the code open: what is no DEFLATE breaks the protocol (1002) or the payload's type (1007).
		{"RFC 7692, 6.2", "a block of the reserved type", []frame{whole(opText, "\x06\x00").reserved(rsv1)}, []int{1002, 1007}},
		{"RFC 7692, 6.2", "bytes that are no DEFLATE", []frame{whole(opBinary, strings.Repeat("\xff", 16)).reserved(rsv1)}, []int{1002, 1007}},
		{"RFC 7692, 6.2", "a stored block whose length does not match its complement", []frame{whole(opBinary, "\x00\x05\x00\x05\x00Hello\x00").reserved(rsv1)}, []int{1002, 1007}},
		{"RFC 7692, 6.2", "a stored block with fewer bytes than it declares", []frame{whole(opBinary, "\x00\xff\x00\x00\xffHello").reserved(rsv1)}, []int{1002, 1007}},
		{"RFC 7692, 6.2", "a distance beyond all that came", []frame{whole(opBinary, string(farDistance())).reserved(rsv1)}, []int{1002, 1007}},
		{"RFC 6455, 8.1", "compressed bad text", []frame{{fin: true, opcode: opText, rsv: rsv1, payload: newDeflater(9, false).message([]byte("bad \xff text"))}}, []int{1007}},
		{"RFC 6455, 8.1", "compressed text cut inside a character", []frame{{fin: true, opcode: opText, rsv: rsv1, payload: newDeflater(9, false).message([]byte("bad \xe2\x82"))}}, []int{1007}},
	} {
		for _, ahead := range []bool{false, true} {
			name := v.name
			if ahead {
				name += ", after a good message in one write"
			}
			c.compressed(v.section, name, plain, func(s *session) error {
				all := v.bad
				var want []event
				if ahead {
					all = append([]frame{whole(opText, hello).reserved(rsv1)}, v.bad...)
					want = events(echo(opText, "Hello"))
				}
				s.sendFrames(all...)
				return s.failed(want, v.codes...)
			})
		}
	}
	c.compressed("RFC 6455, 8.1", "compressed bad text in a binary message", plain, func(s *session) error {
		s.sendFrames(s.packed(opBinary, "bad \xff text"))
		return s.answered(echo(opBinary, "bad \xff text"))
	})

	// Takeover each way, by message size, whole and fragmented.
	takeovers := []agreement{{}, {serverNoContextTakeover: true}, {clientNoContextTakeover: true}, {serverNoContextTakeover: true, clientNoContextTakeover: true}}
	for _, a := range takeovers {
		for size := 16; size <= 128<<10; size *= 2 {
			for _, fragment := range []int{0, max(1, size/8)} {
				n := min(l.Messages, max(4, l.Bytes/size))
				name := fmt.Sprintf("%v: %d messages of %d bytes", &a, n, size)
				if fragment > 0 {
					name += fmt.Sprintf(" in fragments of %d", fragment)
				}
				c.compressed("RFC 7692, 7.2", name, a, func(s *session) error {
					return s.stream(n, func(int) int { return size }, fragment)
				})
			}
		}
	}
	// Windows each way, by takeover. Sizes vary, so that references reach back over many messages and to the window's end.
	for _, a := range takeovers {
		for bits := 8; bits <= 15; bits++ {
			for _, which := range []string{"server", "client", "both"} {
				w := a
				if which != "client" {
					w.serverMaxWindowBits, w.hasServerMaxWindowBits = bits, true
				}
				if which != "server" {
					w.clientMaxWindowBits, w.hasClientMaxWindowBits = bits, true
				}
				n := min(l.Messages, max(16, l.Bytes/700))
				c.compressed("RFC 7692, 7.1.2", fmt.Sprintf("%v: %d messages of mixed sizes", &w, n), w, func(s *session) error {
					return s.stream(n, func(i int) int { return 1 + (i*i*37)%1400 }, 0)
				})
			}
		}
	}
	// Messages shorter than the window, and many times as long, in turn: what a peer keeps of them must still be enough.
	for bits := 8; bits <= 15; bits++ {
		w := agreement{serverMaxWindowBits: bits, hasServerMaxWindowBits: true, clientMaxWindowBits: bits, hasClientMaxWindowBits: true}
		const lengths = 18 // the longest has 128 KiB
		n := min(l.Messages, 2*lengths)
		c.compressed("RFC 7692, 7.1.2", fmt.Sprintf("%v: %d messages of 1 byte to 128 KiB", &w, n), w, func(s *session) error {
			return s.stream(n, func(i int) int { return 1 << (i * 7 % lengths) }, 0)
		})
	}
}

// farDistance is a fixed block that refers to a byte 30,000 back, where there are none.
func farDistance() []byte {
	return fixedBlock(func(w *bitWriter) { w.match(10, 30000) })
}

// inFlight bounds the messages that stream sends ahead of their echoes.
const inFlight = 16

// stream sends n compressed messages and expects their echoes.
func (s *session) stream(n int, size func(i int) int, fragment int) error {
	pending := make([]event, 0, inFlight)
	compressed := 0
	take := func() error {
		e, err := s.next()
		if err != nil {
			return err
		}
		if e.opcode == opClose {
			return fmt.Errorf("%v came, expected %v", e, pending[0])
		}
		if e.compressed {
			compressed++
		}
		if err := same(pending[0], e); err != nil {
			return err
		}
		pending = append(pending[:0], pending[1:]...)
		return nil
	}
	for i := range n {
		opcode := byte(opText)
		text := s.prose(size(i))
		if i%3 == 2 {
			opcode = opBinary
		}
		packed := s.agreed.toPeer.message([]byte(text))
		if fragment == 0 {
			s.sendFrames(frame{fin: true, rsv: rsv1, opcode: opcode, payload: packed})
		} else {
			all := fragments(opcode, string(packed), fragment)
			all[0].rsv = rsv1
			s.sendFrames(all...)
		}
		pending = append(pending, echo(opcode, text))
		if len(pending) == inFlight {
			if err := take(); err != nil {
				return fmt.Errorf("echo %d: %w", i-inFlight+1, err)
			}
		}
	}
	for len(pending) > 0 {
		if err := take(); err != nil {
			return fmt.Errorf("echo %d: %w", n-len(pending), err)
		}
	}
	if compressed == 0 {
		s.note = "no echo was compressed (allowed by RFC 7692, 6)"
	}
	return s.finish()
}

var words = strings.Fields(`frame opcode payload masking key fragment control continuation closing handshake status code ` +
	`subprotocol extension context takeover window deflate server client origin upgrade accept message channel`)

// prose makes n bytes of text that compresses as real text does, with names that come back after long stretches.
func (s *session) prose(n int) string {
	var b strings.Builder
	for b.Len() < n {
		switch s.rng.IntN(8) {
		case 0:
			fmt.Fprintf(&b, "%x ", s.rng.Uint64())
		case 1:
			b.WriteString("{\"κλειδί\": ")
		default:
			b.WriteString(words[s.rng.IntN(len(words))])
			b.WriteByte(' ')
		}
	}
	text := strings.ToValidUTF8(b.String()[:n], "")
	return text + strings.Repeat(".", n-len(text))
}
