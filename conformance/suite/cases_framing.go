// Cases of framing, pings and pongs, reserved bits and opcodes, and limits (RFC 6455, 5.1, 5.2, 5.5 and 10.4).

package suite

import (
	"fmt"
	"math"
)

// sizeBorders are the lengths around each change of the header's form, and two large ones.
var sizeBorders = []int{0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 1 << 20, 16 << 20}

func framingCases(c *catalogue) {
	c.topic = "framing"
	for _, opcode := range []byte{opText, opBinary} {
		for _, n := range sizeBorders {
			for _, chop := range []int{0, 1, 3, 126, 1 << 10, 64 << 10, 1 << 20} {
				switch {
				case chop > n || n == 0 && chop == 0: // no different from one write; the empty message follows below
					continue
				case chop > 0 && n/chop > 2000 && (n != 65536 || chop != 1): // one byte-by-byte 64 KiB is enough of that
					continue
				}
				c.lazy("RFC 6455, 5.2", sized(opcode, n, chop), func() script {
					payload := ofType(opcode, n)
					return script{send: chops(chop, whole(opcode, payload)), want: events(echo(opcode, payload))}
				})
			}
		}
		for _, chop := range []int{0, 1} {
			c.script("RFC 6455, 5.2", sized(opcode, 0, chop), script{
				send: chops(chop, whole(opcode, "")),
				want: events(echo(opcode, "")),
			})
		}
		hundred := make([]frame, 100)
		echoes := make([]event, 100)
		for i := range hundred {
			text := fmt.Sprintf("message %d", i)
			hundred[i], echoes[i] = whole(opcode, text), echo(opcode, text)
		}
		for _, chop := range []int{0, 1, 7} {
			c.script("RFC 6455, 5.2", fmt.Sprintf("a hundred %s messages in %s", opcodeName(opcode), chopName(chop)),
				script{send: chops(chop, hundred...), want: echoes})
		}
	}

	// A length in a longer form than it needs. A good message goes ahead in the same bytes.
	for _, long := range []struct {
		n    int
		form lengthForm
		name string
	}{
		{0, length16, "16 bits"}, {1, length16, "16 bits"}, {125, length16, "16 bits"},
		{0, length64, "64 bits"}, {125, length64, "64 bits"}, {126, length64, "64 bits"}, {65535, length64, "64 bits"},
	} {
		bad := whole(opBinary, noise(long.n)).inForm(long.form)
		name := fmt.Sprintf("a length of %d in %s", long.n, long.name)
		c.script("RFC 6455, 5.2", name, script{send: once(bad), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" after a good message", script{
			send: once(whole(opText, "good"), bad), want: events(echo(opText, "good")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+", header only", script{
			send: once(frame{fin: true, opcode: opBinary, length: long.form}.declaring(uint64(long.n))), end: failsWith(1002)})
	}

	for _, n := range []uint64{1 << 63, 1<<63 + 1, math.MaxUint64} {
		bad := whole(opBinary, "").declaring(n)
		c.script("RFC 6455, 5.2", fmt.Sprintf("a length of %#x, the highest bit set", n), script{send: once(bad), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", fmt.Sprintf("a length of %#x after a good message", n), script{
			send: once(whole(opText, "good"), bad), want: events(echo(opText, "good")), end: failsWith(1002)})
	}

	// Masking against the role: not masked to a server, masked to a client (RFC 6455, 5.1).
	for _, opcode := range []byte{opText, opBinary, opPing, opPong, opClose} {
		for _, payload := range []string{"", "\x03\xe8 payload"} {
			bad := whole(opcode, payload).masked(maskAgainst)
			name := fmt.Sprintf("%s of %d bytes masked against the role", opcodeName(opcode), len(payload))
			c.script("RFC 6455, 5.1", name, script{send: once(bad), end: failsWith(1002)})
			c.script("RFC 6455, 5.1", name+" after a good message", script{
				send: once(whole(opText, "good"), bad), want: events(echo(opText, "good")), end: failsWith(1002)})
		}
	}
	c.script("RFC 6455, 5.1", "second fragment masked against the role", script{
		send: once(part(opText, "one"), whole(opContinuation, "two").masked(maskAgainst)), end: failsWith(1002)})
	for _, n := range []int{1, 5, 126, 70000} {
		c.add(Case{Section: "RFC 6455, 5.3", Name: fmt.Sprintf("binary of %d bytes with the masking key 0", n), role: Server, run: script{
			send: once(whole(opBinary, noise(n)).masked(maskZero)), want: events(echo(opBinary, noise(n)))}.run})
		c.add(Case{Section: "RFC 6455, 5.3", Name: fmt.Sprintf("binary of %d bytes with the masking key ffffffff", n), role: Server, run: script{
			send: once(whole(opBinary, noise(n)).masked(maskOnes)), want: events(echo(opBinary, noise(n)))}.run})
	}
	c.add(Case{Section: "RFC 6455, 5.3", Name: "a fresh masking key for each of 64 frames", role: Client, run: freshKeys})

	// The TCP connection ends where no frame ends: nothing may come back but, at most, a close frame.
	good := whole(opText, "half of it").appendTo(nil, true, [4]byte{1, 2, 3, 4})
	for cut := range good {
		c.add(Case{Section: "RFC 6455, 7.1.7", Name: fmt.Sprintf("the connection ends after %d bytes of a frame", cut), run: func(s *session) error {
			b := s.encode(whole(opText, "half of it"))
			s.send(b[:min(cut, len(b)-1)], 0)
			return s.abandoned()
		}})
	}
	c.add(Case{Section: "RFC 6455, 7.1.7", Name: "the connection ends after a message", run: func(s *session) error {
		s.sendFrames(whole(opText, "last words"))
		return s.abandoned(echo(opText, "last words"))
	}})
	c.add(Case{Section: "RFC 6455, 7.1.7", Name: "the connection ends between fragments", run: func(s *session) error {
		s.sendFrames(part(opText, "half"))
		return s.abandoned()
	}})
}

func sized(opcode byte, n, chop int) string {
	return fmt.Sprintf("%s of %d bytes in %s", opcodeName(opcode), n, chopName(chop))
}

func chopName(chop int) string {
	if chop == 0 {
		return "one write"
	}
	return fmt.Sprintf("chops of %d", chop)
}

// freshKeys looks at the masking keys of a client: RFC 6455, 5.3 wants a new one, not to be foreseen, for each frame.
func freshKeys(s *session) error {
	seen := make(map[[4]byte]bool)
	for i := range 64 {
		text := fmt.Sprintf("message %d", i)
		s.sendFrames(whole(opText, text))
		e, err := s.next()
		if err != nil {
			return err
		}
		if err := same(echo(opText, text), e); err != nil {
			return err
		}
		for _, k := range e.keys {
			if seen[k] { // 64 of 2^32 by chance: one case in two million
				return breach("RFC 6455, 5.3", "the masking key %x came twice", k)
			}
			seen[k] = true
		}
	}
	return s.finish()
}

func pingCases(c *catalogue) {
	c.topic = "pings and pongs"
	all := noise(125)
	for _, n := range []int{0, 1, 2, 124, 125} {
		for _, chop := range []int{0, 1} {
			c.script("RFC 6455, 5.5.2", fmt.Sprintf("a ping of %d bytes in %s", n, chopName(chop)), script{
				send: chops(chop, whole(opPing, all[:n])), want: events(pong(all[:n]))})
			c.script("RFC 6455, 5.5.3", fmt.Sprintf("an unsolicited pong of %d bytes in %s, then a message", n, chopName(chop)), script{
				send: chops(chop, whole(opPong, all[:n]), whole(opText, "after")), want: events(echo(opText, "after"))})
		}
	}
	for _, opcode := range []byte{opPing, opPong} {
		for _, n := range []int{126, 127, 65536} {
			bad := whole(opcode, noise(n))
			name := fmt.Sprintf("a %s of %d bytes", opcodeName(opcode), n)
			c.script("RFC 6455, 5.5", name, script{send: once(bad), end: failsWith(1002)})
			c.script("RFC 6455, 5.5", name+", header only", script{
				send: once(whole(opcode, "").declaring(uint64(n))), end: failsWith(1002)})
			c.script("RFC 6455, 5.5", name+" after a good ping", script{
				send: once(whole(opPing, "good"), bad), want: events(pong("good")), end: failsWith(1002)})
		}
		c.script("RFC 6455, 5.5", "a fragmented "+opcodeName(opcode), script{
			send: once(part(opcode, "frag"), whole(opContinuation, "ment")), end: failsWith(1002)})
		c.script("RFC 6455, 5.5", "a fragmented "+opcodeName(opcode)+", empty", script{
			send: once(part(opcode, "")), end: failsWith(1002)})
		c.script("RFC 6455, 5.5", "a fragmented "+opcodeName(opcode)+" inside a fragmented message", script{
			send: once(part(opText, "one"), part(opcode, "frag"), whole(opContinuation, "two")), end: failsWith(1002)})
	}

	var tenPings, tenBoth, tenMixed []frame
	var tenPongs, mixed []event
	for i := range 10 {
		p := fmt.Sprintf("ping %d", i)
		tenPings = append(tenPings, whole(opPing, p))
		tenPongs = append(tenPongs, pong(p))
		tenBoth = append(tenBoth, whole(opPong, p), whole(opPing, p))
		tenMixed = append(tenMixed, whole(opText, p), whole(opPing, p))
		mixed = append(mixed, echo(opText, p), pong(p))
	}
	for _, chop := range []int{0, 1, 5} {
		c.script("RFC 6455, 5.5.2", "ten pings in "+chopName(chop), script{send: chops(chop, tenPings...), want: tenPongs})
		c.script("RFC 6455, 5.5.3", "ten pongs and pings in turn in "+chopName(chop), script{send: chops(chop, tenBoth...), want: tenPongs})
		c.script("RFC 6455, 5.5.2", "ten messages and pings in turn in "+chopName(chop), script{send: chops(chop, tenMixed...), want: mixed})
	}
	var oneByOne []packet
	for i, f := range tenPings {
		oneByOne = append(oneByOne, packet{frames: []frame{f}, after: i})
	}
	c.script("RFC 6455, 5.5.2", "ten pings, each after the last pong", script{send: oneByOne, want: tenPongs})
	c.script("RFC 6455, 5.5.2", "ten equal pings", script{
		send: once(repeated(whole(opPing, "same"), 10)...), want: repeated(pong("same"), 10)})
	c.script("RFC 6455, 5.5.2", "a thousand pings in one write", script{
		send: once(repeated(whole(opPing, ""), 1000)...), want: repeated(pong(""), 1000)})
	c.script("RFC 6455, 5.5.3", "a thousand unsolicited pongs, then a message", script{
		send: once(append(repeated(whole(opPong, "x"), 1000), whole(opText, "after"))...), want: events(echo(opText, "after"))})
	c.script("RFC 6455, 5.5.2", "a ping whose payload looks like a close frame", script{
		send: once(whole(opPing, "\x88\x02\x03\xe8")), want: events(pong("\x88\x02\x03\xe8"))})
	c.script("RFC 6455, 5.5.2", "a ping ahead of a close frame in one write", script{
		send: once(whole(opPing, "p"), closeFrame(1000, "")), want: events(pong("p")), end: repliesWith(1000)})
	c.script("RFC 6455, 5.5.2", "a ping ahead of a violation in one write", script{
		send: once(whole(opPing, "p"), whole(3, "")), want: events(pong("p")), end: failsWith(1002)})
}

func reservedCases(c *catalogue) {
	c.topic = "reserved bits"
	for bits := byte(1); bits < 8; bits++ {
		for _, opcode := range []byte{opText, opBinary, opPing, opPong, opClose} {
			bad := whole(opcode, "\x03\xe8").reserved(bits)
			c.script("RFC 6455, 5.2", fmt.Sprintf("reserved bits %03b on a %s", bits, opcodeName(opcode)), script{send: once(bad), end: failsWith(1002)})
		}
		c.script("RFC 6455, 5.2", fmt.Sprintf("reserved bits %03b on a continuation", bits), script{
			send: once(part(opText, "one"), whole(opContinuation, "two").reserved(bits)), end: failsWith(1002)})
		bad := whole(opText, "bad").reserved(bits)
		c.script("RFC 6455, 5.2", fmt.Sprintf("reserved bits %03b between good messages in one write", bits), script{
			send: once(whole(opText, "good"), bad, whole(opText, "lost")), want: events(echo(opText, "good")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", fmt.Sprintf("reserved bits %03b between a message and a ping in chops of 1", bits), script{
			send: chops(1, whole(opText, "good"), bad, whole(opPing, "lost")), want: events(echo(opText, "good")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", fmt.Sprintf("reserved bits %03b in a lone header", bits), script{
			send: once(whole(opText, "").reserved(bits).declaring(4096)), end: failsWith(1002)})
	}

	c.topic = "reserved opcodes"
	for _, opcode := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		name := fmt.Sprintf("the opcode %#x", opcode)
		c.script("RFC 6455, 5.2", name, script{send: once(whole(opcode, "")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" with a payload", script{send: once(whole(opcode, "payload")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" without FIN", script{send: once(part(opcode, "payload")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" in a lone header", script{
			send: once(whole(opcode, "").declaring(100)), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" between good messages in one write", script{
			send: once(whole(opText, "good"), whole(opcode, ""), whole(opPing, "lost")), want: events(echo(opText, "good")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" between good messages in chops of 1", script{
			send: chops(1, whole(opText, "good"), whole(opcode, "payload"), whole(opPing, "lost")), want: events(echo(opText, "good")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" after an answered message", script{
			send: []packet{{frames: []frame{whole(opText, "good")}}, {frames: []frame{whole(opcode, "bad")}, after: 1}},
			want: events(echo(opText, "good")), end: failsWith(1002)})
		c.script("RFC 6455, 5.2", name+" inside a fragmented message", script{
			send: once(part(opText, "one"), whole(opcode, ""), whole(opContinuation, "two")), end: failsWith(1002)})
	}
}

func limitCases(c *catalogue) {
	c.topic = "limits"
	for _, n := range []uint64{1<<63 - 1, 1 << 62, 1 << 40, 1<<40 + 125} {
		bad := whole(opBinary, "").declaring(n)
		c.script("RFC 6455, 10.4", fmt.Sprintf("a frame that declares %#x bytes", n), script{send: once(bad), end: failsWith(1009)})
		c.script("RFC 6455, 10.4", fmt.Sprintf("a frame that declares %#x bytes after a good message", n), script{
			send: once(whole(opText, "good"), bad), want: events(echo(opText, "good")), end: failsWith(1009)})
		c.script("RFC 6455, 10.4", fmt.Sprintf("a second fragment that declares %#x bytes", n), script{
			send: once(part(opBinary, "one"), whole(opContinuation, "").declaring(n)), end: failsWith(1009)})
	}
	c.script("RFC 6455, 10.4", "a fragment of 100 bytes and one of 2^63 - 1, the sum of which overflows 63 bits", script{
		send: once(part(opBinary, noise(100)), frame{opcode: opContinuation}.declaring(math.MaxInt64)), end: failsWith(1009)})
}
