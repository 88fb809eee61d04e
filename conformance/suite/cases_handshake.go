// Cases of the opening handshake (RFC 6455, 4), of a server and of a client.

package suite

import (
	"fmt"
	"strings"
)

func handshakeCases(c *catalogue) {
	c.topic = "handshake"
	serverHandshakes(c)
	clientHandshakes(c)
}

// hello proves that a connection works: one echo and a clean end.
func hello(s *session) error {
	s.sendFrames(whole(opText, "hello"))
	return s.answered(echo(opText, "hello"))
}

func serverHandshakes(c *catalogue) {
	taken := func(section, name string, change func(*request)) {
		c.add(Case{Section: section, Name: name, role: Server, ownHandshake: true, run: func(s *session) error {
			r := s.soundRequest()
			change(r)
			if err := s.request101(r, 0, nil); err != nil {
				return err
			}
			if got := s.response.fields.get("Sec-WebSocket-Extensions"); len(got) > 0 {
				return breach("RFC 6455, 9.1", "the server accepted the extensions %q", got)
			}
			return hello(s)
		}})
	}
	set := func(name, value string) func(*request) {
		return func(r *request) { r.fields = r.fields.replace(name, value) }
	}
	taken("RFC 6455, 4.2.1", "a plain request", func(*request) {})
	taken("RFC 6455, 4.2.1", "header names in lower case", func(r *request) {
		for i := range r.fields {
			r.fields[i].name = strings.ToLower(r.fields[i].name)
		}
	})
	taken("RFC 6455, 4.2.1", "header names in upper case", func(r *request) {
		for i := range r.fields {
			r.fields[i].name = strings.ToUpper(r.fields[i].name)
		}
	})
	taken("RFC 6455, 4.2.1", "header lines in the reverse order", func(r *request) {
		for i, j := 0, len(r.fields)-1; i < j; i, j = i+1, j-1 {
			r.fields[i], r.fields[j] = r.fields[j], r.fields[i]
		}
	})
	for _, v := range []string{"WebSocket", "WEBSOCKET", "websocket, foo", "foo, websocket", "foo/1, WebSocket", "websocket,,", "\twebsocket  "} {
		taken("RFC 6455, 4.2.1", fmt.Sprintf("Upgrade: %q", v), set("Upgrade", v))
	}
	for _, v := range []string{"upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade, keep-alive", "keep-alive ,  upgrade", ",Upgrade", "keep-alive,\tUpgrade\t"} {
		taken("RFC 6455, 4.2.1", fmt.Sprintf("Connection: %q", v), set("Connection", v))
	}
	taken("RFC 6455, 4.2.1", "Connection over two lines", func(r *request) {
		r.fields = r.fields.replace("Connection", "keep-alive").with("Connection", "Upgrade")
	})
	taken("RFC 6455, 4.2.1", "Upgrade over two lines", func(r *request) {
		r.fields = r.fields.replace("Upgrade", "foo").with("Upgrade", "websocket")
	})
	taken("RFC 6455, 4.2.1", "a header that nobody knows", set("X-Nobody-Knows", "this"))
	taken("RFC 6455, 4.2.1", "4,000 bytes of cookies", set("Cookie", "c="+strings.Repeat("x", 4000)))
	taken("RFC 6455, 4.2.1", "a hundred header lines", func(r *request) {
		for i := range 100 {
			r.fields = r.fields.with(fmt.Sprint("X-Line-", i), fmt.Sprint(i))
		}
	})
	taken("RFC 6455, 4.2.1", "a query in the target", func(r *request) {
		if !strings.Contains(r.target, "?") {
			r.target += "?a=b&c=%20"
		}
	})
	taken("RFC 9112, 3.2.2", "a target in absolute form", func(r *request) { r.target = "http://" + r.fields.get("Host")[0] + r.target })
	taken("RFC 6455, 4.2.1", "spaces around the key", func(r *request) {
		r.fields = r.fields.replace("Sec-WebSocket-Key", "  "+r.fields.get("Sec-WebSocket-Key")[0]+" \t")
	})
	for _, key := range []string{"AAAAAAAAAAAAAAAAAAAAAA==", "/////////////////////w==", "dGhlIHNhbXBsZSBub25jZQ=="} {
		taken("RFC 6455, 1.3", "the key "+key, set("Sec-WebSocket-Key", key))
	}
	for _, v := range []string{"conformance-suite", "a, b, c", "a,b , c", "chat, superchat"} {
		taken("RFC 6455, 4.2.2", fmt.Sprintf("the subprotocols %q: one of them or none", v), set("Sec-WebSocket-Protocol", v))
	}
	taken("RFC 6455, 4.2.2", "subprotocols over two lines", func(r *request) {
		r.fields = r.fields.with("Sec-WebSocket-Protocol", "a").with("Sec-WebSocket-Protocol", "b, c")
	})
	for _, v := range []string{"foo", "foo; bar=1", "x-unknown, y-unknown; p=\"q\"", "permessage-foo"} {
		taken("RFC 6455, 9.1", fmt.Sprintf("the unknown extension %q is not accepted", v), set("Sec-WebSocket-Extensions", v))
	}
	for _, chop := range []int{1, 7, 100} {
		c.add(Case{Section: "RFC 6455, 4.2.1", Name: "a request in " + chopName(chop), role: Server, ownHandshake: true, run: func(s *session) error {
			if err := s.request101(s.soundRequest(), chop, nil); err != nil {
				return err
			}
			return hello(s)
		}})
	}
	// A client must wait for the response (RFC 6455, 4.1), so that a server may refuse one that does not. One that agrees has
	// to take what came in the same packet for frames: it is no longer HTTP.
	early := func(name string, run func(*session) error) {
		c.add(Case{Section: "RFC 6455, 4.2.2", Name: name, role: Server, ownHandshake: true, run: func(s *session) error {
			err := run(s)
			if s.response == nil || s.response.status != 101 {
				return fmt.Errorf("bytes ahead of the response are refused: %w", errNotApplicable)
			}
			return err
		}})
	}
	for _, n := range []int{1, 10, 1000} {
		early(fmt.Sprintf("%d messages in the packet of the request", n), func(s *session) error {
			if err := s.request101(s.soundRequest(), 0, s.encode(repeated(whole(opText, "early"), n)...)); err != nil {
				return err
			}
			return s.answered(repeated(echo(opText, "early"), n)...)
		})
	}
	early("half a message in the packet of the request", func(s *session) error {
		b := s.encode(whole(opText, "early and late"))
		if err := s.request101(s.soundRequest(), 0, b[:9]); err != nil {
			return err
		}
		s.send(b[9:], 0)
		return s.answered(echo(opText, "early and late"))
	})

	refused := func(section, name string, change func(*request), statuses ...int) {
		c.add(Case{Section: section, Name: "refused: " + name, role: Server, ownHandshake: true, run: func(s *session) error {
			r := s.soundRequest()
			change(r)
			_, err := s.refused(r, statuses...)
			return err
		}})
	}
	drop := func(name string) func(*request) {
		return func(r *request) { r.fields = r.fields.without(name) }
	}
	// RFC 6455, 4.2.1 wants "an appropriate HTTP error code (such as 400)"; a request to upgrade that is none may also be
	// told that this place needs one (426, RFC 9110, 15.5.22).
	refused("RFC 6455, 4.2.1", "no Upgrade", drop("Upgrade"), 400, 426)
	refused("RFC 6455, 4.2.1", "no Connection", drop("Connection"), 400, 426)
	refused("RFC 6455, 4.2.1", "no key", drop("Sec-WebSocket-Key"), 400)
	refused("RFC 6455, 4.2.1", "no Host", drop("Host"), 400)
	for _, v := range []string{"", "foo", "websocketx", "web socket", "h2c"} {
		refused("RFC 6455, 4.2.1", fmt.Sprintf("Upgrade: %q", v), set("Upgrade", v), 400, 426)
	}
	for _, v := range []string{"", "keep-alive", "close", "Upgraded", "keep-alive Upgrade"} {
		refused("RFC 6455, 4.2.1", fmt.Sprintf("Connection: %q", v), set("Connection", v), 400, 426)
	}
	for _, v := range []string{"", "x", "AAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA", "****************==", "AAAAAAAAAAAAAAAAAAAAAA== AAAA", "AAAAAAAAAAAAAAAAAAAAAA==, AAAAAAAAAAAAAAAAAAAAAA=="} {
		refused("RFC 6455, 4.2.1", fmt.Sprintf("the key %q", v), set("Sec-WebSocket-Key", v), 400)
	}
	refused("RFC 6455, 11.3.1", "two keys", func(r *request) {
		r.fields = r.fields.with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	}, 400)
	for _, m := range []string{"POST", "HEAD", "PUT", "OPTIONS", "get"} {
		refused("RFC 6455, 4.2.1", "the method "+m, func(r *request) {
			r.method = m
			if m == "POST" || m == "PUT" {
				r.fields = r.fields.with("Content-Length", "0")
			}
		}, 400, 405, 426, 501)
	}
	refused("RFC 6455, 4.2.1", "HTTP/1.0", func(r *request) { r.version = "HTTP/1.0" }, 400, 426, 505)

	for _, v := range []string{"", "0", "7", "8", "12", "14", "25", "255", "-13", "+13", "013", "13.0", "0x0d", "thirteen", "13 13"} {
		c.add(versionRefused(fmt.Sprintf("the version %q", v), func(r *request) { r.fields = r.fields.replace("Sec-WebSocket-Version", v) }))
	}
	refused("RFC 6455, 4.2.1", "no version", drop("Sec-WebSocket-Version"), 400, 426)
}

// versionRefused wants a refusal that names the version understood (RFC 6455, 4.2.2 and 4.4).
func versionRefused(name string, change func(*request)) Case {
	return Case{Section: "RFC 6455, 4.4", Name: "refused: " + name, role: Server, ownHandshake: true, run: func(s *session) error {
		r := s.soundRequest()
		change(r)
		a, err := s.refused(r, 400, 426)
		if err != nil {
			return err
		}
		if !a.fields.hasToken("Sec-WebSocket-Version", "13") {
			return breach("RFC 6455, 4.4", "the refusal %d does not say Sec-WebSocket-Version: 13", a.status)
		}
		return nil
	}}
}

func clientHandshakes(c *catalogue) {
	c.add(Case{Section: "RFC 6455, 4.1", Name: "the request", role: Client, ownHandshake: true, run: func(s *session) error {
		if err := checkRequest(s.request); err != nil {
			return err
		}
		s.respond(soundResponse(s.request))
		return hello(s)
	}})
	taken := func(section, name string, chop int, first string, change func(*session, fields) fields) {
		c.add(Case{Section: section, Name: name, role: Client, ownHandshake: true, run: func(s *session) error {
			s.send(headBytes(first, change(s, soundResponse(s.request))), chop)
			return hello(s)
		}})
	}
	refused := func(section, name, first string, change func(*session, fields) fields) {
		c.add(Case{Section: section, Name: "refused: " + name, role: Client, ownHandshake: true, run: func(s *session) error {
			s.send(headBytes(first, change(s, soundResponse(s.request))), 0)
			return s.drained()
		}})
	}
	same := func(_ *session, f fields) fields { return f }
	set := func(name, value string) func(*session, fields) fields {
		return func(_ *session, f fields) fields { return f.replace(name, value) }
	}
	add := func(name, value string) func(*session, fields) fields {
		return func(_ *session, f fields) fields { return f.with(name, value) }
	}
	drop := func(name string) func(*session, fields) fields {
		return func(_ *session, f fields) fields { return f.without(name) }
	}
	for _, chop := range []int{0, 1, 7} {
		taken("RFC 6455, 4.1", "a plain response in "+chopName(chop), chop, switchingProtocols, same)
	}
	taken("RFC 6455, 4.1", "another reason phrase", 0, "HTTP/1.1 101 Now For Something Different", same)
	taken("RFC 9112, 4", "no reason phrase", 0, "HTTP/1.1 101 ", same)
	taken("RFC 6455, 4.1", "header names in lower case", 0, switchingProtocols, func(_ *session, f fields) fields {
		for i := range f {
			f[i].name = strings.ToLower(f[i].name)
		}
		return f
	})
	for _, v := range []string{"WebSocket", "WEBSOCKET"} {
		taken("RFC 6455, 4.1", fmt.Sprintf("Upgrade: %q", v), 0, switchingProtocols, set("Upgrade", v))
	}
	for _, v := range []string{"upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade ,\tfoo"} {
		taken("RFC 6455, 4.1", fmt.Sprintf("Connection: %q", v), 0, switchingProtocols, set("Connection", v))
	}
	taken("RFC 6455, 4.1", "a header that nobody knows", 0, switchingProtocols, add("X-Nobody-Knows", "this"))
	taken("RFC 6455, 4.1", "a cookie, a date and a server's name", 0, switchingProtocols, func(_ *session, f fields) fields {
		return f.with("Set-Cookie", "a=b; Path=/").with("Date", "Thu, 01 Jan 2026 00:00:00 GMT").with("Server", "suite")
	})
	taken("RFC 6455, 4.1", "spaces around the accepted key", 0, switchingProtocols, func(_ *session, f fields) fields {
		return f.replace("Sec-WebSocket-Accept", "  "+f.get("Sec-WebSocket-Accept")[0]+" ")
	})
	for _, first := range []string{"HTTP/1.1 100 Continue", "HTTP/1.1 103 Early Hints"} {
		c.add(Case{Section: "RFC 9110, 15.2", Name: "ahead of the response, " + first, role: Client, ownHandshake: true, run: func(s *session) error {
			s.send(append(headBytes(first, nil), headBytes(switchingProtocols, soundResponse(s.request))...), 0)
			return hello(s)
		}})
	}
	for _, n := range []int{1, 10, 1000} {
		c.add(Case{Section: "RFC 6455, 4.1", Name: fmt.Sprintf("%d messages in the packet of the response", n), role: Client, ownHandshake: true, run: func(s *session) error {
			b := headBytes(switchingProtocols, soundResponse(s.request))
			s.send(append(b, s.encode(repeated(whole(opText, "early"), n)...)...), 0)
			return s.answered(repeated(echo(opText, "early"), n)...)
		}})
	}
	c.add(Case{Section: "RFC 6455, 4.1", Name: "half a message in the packet of the response", role: Client, ownHandshake: true, run: func(s *session) error {
		b := headBytes(switchingProtocols, soundResponse(s.request))
		m := s.encode(whole(opText, "early and late"))
		s.send(append(b, m[:5]...), 0)
		s.send(m[5:], 0)
		return s.answered(echo(opText, "early and late"))
	}})
	c.add(Case{Section: "RFC 6455, 4.1", Name: "a close frame in the packet of the response", role: Client, ownHandshake: true, run: func(s *session) error {
		b := headBytes(switchingProtocols, soundResponse(s.request))
		s.send(append(b, s.encode(closeFrame(1001, "going"))...), 0)
		return s.replied(nil, 1001)
	}})

	for _, first := range []string{"HTTP/1.1 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 400 Bad Request", "HTTP/1.1 403 Forbidden", "HTTP/1.1 404 Not Found", "HTTP/1.1 426 Upgrade Required", "HTTP/1.1 500 Internal Server Error", "HTTP/1.1 503 Service Unavailable"} {
		refused("RFC 6455, 4.1", "the response "+first, first, func(_ *session, f fields) fields {
			f = f.replace("Connection", "close") // or the client's HTTP keeps it for its next request
			if strings.Contains(first, "204") {
				return f
			}
			return f.with("Content-Length", "0")
		})
	}
	for _, first := range []string{"HTTP/1.1 1010 Much", "HTTP/1.1 x01 Odd", "101 Switching Protocols", "HTTP/9 101 Switching Protocols", "ICY 101 Switching Protocols", ""} {
		refused("RFC 9112, 4", fmt.Sprintf("the status line %q", first), first, same)
	}
	refused("RFC 6455, 4.1", "no Upgrade", switchingProtocols, drop("Upgrade"))
	refused("RFC 6455, 4.1", "no Connection", switchingProtocols, drop("Connection"))
	refused("RFC 6455, 4.1", "no accepted key", switchingProtocols, drop("Sec-WebSocket-Accept"))
	for _, v := range []string{"", "foo", "websocketx", "h2c"} {
		refused("RFC 6455, 4.1", fmt.Sprintf("Upgrade: %q", v), switchingProtocols, set("Upgrade", v))
	}
	for _, v := range []string{"", "close", "keep-alive", "Upgraded"} {
		refused("RFC 6455, 4.1", fmt.Sprintf("Connection: %q", v), switchingProtocols, set("Connection", v))
	}
	refused("RFC 6455, 4.1", "the accepted key of another request", switchingProtocols, set("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
	refused("RFC 6455, 4.1", "an empty accepted key", switchingProtocols, set("Sec-WebSocket-Accept", ""))
	refused("RFC 6455, 4.1", "the request's own key as the accepted one", switchingProtocols, func(s *session, f fields) fields {
		return f.replace("Sec-WebSocket-Accept", s.request.fields.get("Sec-WebSocket-Key")[0])
	})
	refused("RFC 6455, 4.1", "the accepted key in lower case", switchingProtocols, func(_ *session, f fields) fields {
		return f.replace("Sec-WebSocket-Accept", strings.ToLower(f.get("Sec-WebSocket-Accept")[0]))
	})
	refused("RFC 6455, 11.3.3", "the accepted key, and that of another request", switchingProtocols, add("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
	refused("RFC 6455, 4.1", "a subprotocol that was not offered", switchingProtocols, add("Sec-WebSocket-Protocol", "nobody-offered-this"))
	for _, v := range []string{"foo", "x-unknown; a=b", "permessage-foo", "permessage-bzip2"} {
		refused("RFC 6455, 4.1", fmt.Sprintf("the extension %q, which was not offered", v), switchingProtocols, add("Sec-WebSocket-Extensions", v))
	}
	c.add(Case{Section: "RFC 6455, 4.1", Name: "refused: the connection ends in the middle of the response", role: Client, ownHandshake: true, run: func(s *session) error {
		b := headBytes(switchingProtocols, soundResponse(s.request))
		s.send(b[:len(b)-3], 0)
		s.halfClose()
		return s.drained()
	}})
	c.add(Case{Section: "RFC 6455, 10.7", Name: "refused: a response whose header never ends", role: Client, ownHandshake: true, run: endlessResponse})
}

// endlessResponse feeds a client 64 MiB of header lines, amid which it must have ended the connection.
func endlessResponse(s *session) error {
	lines := strings.Repeat("X-Endless: "+strings.Repeat("x", 4000)+"\r\n", 16)
	s.send([]byte(switchingProtocols+"\r\n"), 0)
	for sent := 0; sent < 64<<20; sent += len(lines) {
		s.send([]byte(lines), 0)
	}
	_, err := s.in.ReadByte()
	if ended(err) {
		return nil
	}
	return fmt.Errorf("the client was sent 64 MiB of header lines and did not end the connection: %v", err)
}
