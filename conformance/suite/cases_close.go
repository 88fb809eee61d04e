// Cases of the closing handshake (RFC 6455, 5.5.1, 7.1 and 7.4).

package suite

import (
	"errors"
	"fmt"
	"strings"
)

func closeCases(c *catalogue) {
	c.topic = "close"
	for _, chop := range []int{0, 1} {
		c.script("RFC 6455, 5.5.1", "a close frame without a code in "+chopName(chop), script{send: chops(chop, closeFrame(noCode, "")), end: repliesWith(noCode)})
		c.script("RFC 6455, 5.5.1", "a close frame with 1000 in "+chopName(chop), script{send: chops(chop, closeFrame(1000, "")), end: repliesWith(1000)})
		c.script("RFC 6455, 5.5.1", "a message and a close frame in "+chopName(chop), script{
			send: chops(chop, whole(opText, "good"), closeFrame(1000, "bye")), want: events(echo(opText, "good")), end: repliesWith(1000)})
		for _, after := range []frame{whole(opText, "late"), whole(opBinary, "late"), whole(opPing, "late"), whole(opPong, "late"), closeFrame(1001, ""), {fin: true, opcode: 3}, part(opText, "late")} {
			c.script("RFC 6455, 5.5.1", fmt.Sprintf("a %s after the close frame, FIN %v, in %s", opcodeName(after.opcode), after.fin, chopName(chop)), script{
				send: chops(chop, closeFrame(1000, ""), after), end: repliesWith(1000)})
		}
	}
	c.script("RFC 6455, 5.5.1", "closing after an answered message", script{
		send: []packet{{frames: []frame{whole(opText, "good")}}, {frames: []frame{closeFrame(1000, "done")}, after: 1}},
		want: events(echo(opText, "good")), end: repliesWith(1000)})
	c.script("RFC 6455, 5.5.1", "a message of 256 KiB and a close frame in one write", script{
		send: once(whole(opBinary, noise(256<<10)), closeFrame(1000, "")), want: events(echo(opBinary, noise(256<<10))), end: repliesWith(1000)})
	c.script("RFC 6455, 5.5.1", "a hundred messages and a close frame in one write", script{
		send: once(append(repeated(whole(opText, "m"), 100), closeFrame(1000, ""))...), want: repeated(echo(opText, "m"), 100), end: repliesWith(1000)})
	c.script("RFC 6455, 5.5.1", "a megabyte after the close frame", script{
		send: once(closeFrame(1000, ""), whole(opBinary, noise(1<<20))), end: repliesWith(1000)})

	// In the middle of a fragmented message: the message is lost, the closing handshake is not.
	c.script("RFC 6455, 5.4", "a close frame inside a fragmented message", script{
		send: once(part(opText, "never ended"), closeFrame(1000, "")), end: repliesWith(1000)})
	c.script("RFC 6455, 5.4", "a close frame inside a fragmented message, after a good message", script{
		send: once(whole(opText, "good"), part(opText, "never ended"), closeFrame(1001, "")), want: events(echo(opText, "good")), end: repliesWith(1001)})
	c.script("RFC 6455, 5.4", "a close frame between fragments", script{
		send: once(part(opText, "one"), closeFrame(1000, ""), whole(opContinuation, "two")), end: repliesWith(1000)})
	c.script("RFC 6455, 5.4", "a close frame where a character has been cut", script{
		send: once(part(opText, "\xe2\x82"), closeFrame(1000, "")), end: repliesWith(1000)})

	// Both sides close at once: the peer fails the connection while the suite's close frame is on its way.
	for _, bad := range []struct {
		name  string
		frame frame
		code  int
	}{
		{"a reserved opcode", whole(0xb, ""), 1002},
		{"a stray continuation", whole(opContinuation, "x"), 1002},
		{"bad text", whole(opText, "\xff"), 1007},
	} {
		c.script("RFC 6455, 7.1.5", "close frames cross: "+bad.name+" and a close frame in one write", script{
			send: once(bad.frame, closeFrame(1000, "")), end: failsWith(bad.code)})
		c.script("RFC 6455, 7.1.5", "close frames cross: "+bad.name+", a message and a close frame in one write", script{
			send: once(whole(opText, "good"), bad.frame, whole(opText, "lost"), closeFrame(1000, "")), want: events(echo(opText, "good")), end: failsWith(bad.code)})
		c.script("RFC 6455, 7.1.5", bad.name+" after the close frame", script{
			send: once(closeFrame(4000, "mine"), bad.frame), end: repliesWith(4000)})
	}

	// Codes, one connection each, at every border of a class (RFC 6455, 7.4).
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4998, 4999} {
		c.script("RFC 6455, 7.4", fmt.Sprintf("the code %d", code), script{send: once(closeFrame(code, "")), end: repliesWith(code)})
		c.script("RFC 6455, 7.4", fmt.Sprintf("the code %d with a reason", code), script{send: once(closeFrame(code, "because: ✓")), end: repliesWith(code)})
	}
	for _, code := range []int{1, 2, 500, 998, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2998, 2999, 5000, 5001, 9999, 32768, 65535} {
		c.script("RFC 6455, 7.4", fmt.Sprintf("the code %d", code), script{send: once(closeFrame(code, "")), end: failsWith(1002)})
		c.script("RFC 6455, 7.4", fmt.Sprintf("the code %d with a reason after a message", code), script{
			send: once(whole(opText, "good"), closeFrame(code, "because")), want: events(echo(opText, "good")), end: failsWith(1002)})
	}
	zero := frame{fin: true, opcode: opClose, payload: []byte{0, 0}}
	c.script("RFC 6455, 7.4", "the code 0", script{send: once(zero), end: failsWith(1002)})
	for _, class := range []struct {
		name     string
		from, to int
	}{
		{"0 to 999", 1, 999}, {"1000 to 1015", 1000, 1015}, {"1016 to 1999", 1016, 1999}, {"2000 to 2999", 2000, 2999},
		{"3000 to 3999", 3000, 3999}, {"4000 to 4999", 4000, 4999}, {"5000", 5000, 5000},
	} {
		c.add(Case{Section: "RFC 6455, 7.4", Name: "every code from " + class.name + ", a connection each", role: Server,
			many: func(dial func() (*session, error)) error { return everyCode(dial, class.from, class.to) }})
	}

	// Payloads.
	for _, n := range []int{0, 1, 2, 122, 123} {
		for _, chop := range []int{0, 1} {
			c.script("RFC 6455, 5.5.1", fmt.Sprintf("a reason of %d bytes in %s", n, chopName(chop)), script{
				send: chops(chop, closeFrame(1000, textOf(n))), end: repliesWith(1000)})
		}
	}
	for _, n := range []int{124, 125, 65533} {
		c.script("RFC 6455, 5.5", fmt.Sprintf("a reason of %d bytes", n), script{send: once(closeFrame(1000, textOf(n))), end: failsWith(1002)})
	}
	for _, b := range []byte{0, 3, 0xff} {
		f := frame{fin: true, opcode: opClose, payload: []byte{b}}
		c.script("RFC 6455, 5.5.1", fmt.Sprintf("a payload of the one byte %#02x", b), script{send: once(f), end: failsWith(1002)})
		c.script("RFC 6455, 5.5.1", fmt.Sprintf("a payload of the one byte %#02x after a message", b), script{
			send: once(whole(opText, "good"), f), want: events(echo(opText, "good")), end: failsWith(1002)})
	}
	for _, bad := range illFormed {
		// RFC 6455 has no word on the code: a bad payload is 1007 by 7.4.1, a broken close frame is 1002.
		c.script("RFC 6455, 5.5.1", "a reason with "+bad.name, script{send: once(closeFrame(1000, "why "+bad.bytes)), end: failsWith(1007, 1002)})
	}
	for _, good := range wellFormed {
		if len(good.text) <= 123 {
			c.script("RFC 6455, 5.5.1", "a reason with "+good.name, script{send: once(closeFrame(1000, good.text)), end: repliesWith(1000)})
		}
	}
	c.script("RFC 6455, 5.5", "a fragmented close frame", script{
		send: once(part(opClose, "\x03\xe8"), whole(opContinuation, "why")), end: failsWith(1002)})
	c.script("RFC 6455, 5.5", "a fragmented close frame, empty", script{send: once(part(opClose, "")), end: failsWith(1002)})
	c.script("RFC 6455, 5.2", "a close frame with its length in 16 bits", script{send: once(closeFrame(1000, "").inForm(length16)), end: failsWith(1002)})
	c.script("RFC 6455, 5.2", "a close frame with its length in 64 bits", script{send: once(closeFrame(1000, "").inForm(length64)), end: failsWith(1002)})

	c.add(Case{Section: "RFC 6455, 7.1.4", Name: "the suite's direction ends with its close frame", run: func(s *session) error {
		s.sendFrames(whole(opText, "good"), closeFrame(1000, ""))
		s.halfClose()
		return s.replied(events(echo(opText, "good")), 1000)
	}})
	c.add(Case{Section: "RFC 6455, 7.1.4", Name: "the suite's direction ends with a violation", run: func(s *session) error {
		s.sendFrames(whole(opText, "good"), whole(5, ""))
		s.halfClose()
		return s.failed(events(echo(opText, "good")), 1002)
	}})
}

// everyCode closes a connection with each code in turn.
func everyCode(dial func() (*session, error), from, to int) error {
	var wrong []string
	for code := from; code <= to; code++ {
		err := func() error {
			s, err := dial()
			if err != nil {
				return err
			}
			defer s.shut()
			s.sendFrames(closeFrame(code, "sweep"))
			if sendable(code) {
				return s.replied(nil, code)
			}
			return s.failed(nil, 1002)
		}()
		if errors.Is(err, errUnreachable) && len(wrong) == 0 {
			return err
		}
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%d (%v)", code, err))
			if len(wrong) == 3 { // a peer that waits for ever would make the rest take hours
				wrong = append(wrong, "given up")
				break
			}
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("codes treated wrongly: %s", strings.Join(wrong, ", "))
	}
	return nil
}
