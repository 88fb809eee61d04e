// Cases of text as UTF-8 (RFC 6455, 5.6 and 8.1; RFC 3629): each class of ill-formed sequence, each boundary of
// well-formed ones.

package suite

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// illFormed has each class of sequence that is no UTF-8. bad is the number of bytes after which that is certain: with
// fewer, the sequence could still have become sound; 0 where only the message's end makes it ill-formed.
var illFormed = []struct {
	name, bytes string
	bad         int
}{
	{"a lone continuation byte, first", "\x80", 1},
	{"a lone continuation byte, last", "\xbf", 1},
	{"two lone continuation bytes", "\x80\xbf", 1},
	{"a continuation byte too many after 2 bytes", "\xce\xba\x80", 3},
	{"a continuation byte too many after 3 bytes", "\xe2\x82\xac\x80", 4},
	{"a continuation byte too many after 4 bytes", "\xf0\x9f\x9c\x81\x80", 5},
	{"a slash in 2 bytes", "\xc0\xaf", 1},
	{"overlong 2 bytes, U+0000", "\xc0\x80", 1},
	{"overlong 2 bytes, U+007F", "\xc1\xbf", 1},
	{"overlong 3 bytes, U+0000", "\xe0\x80\x80", 2},
	{"overlong 3 bytes, U+07FF", "\xe0\x9f\xbf", 2},
	{"overlong 4 bytes, U+0000", "\xf0\x80\x80\x80", 2},
	{"overlong 4 bytes, U+FFFF", "\xf0\x8f\xbf\xbf", 2},
	{"the surrogate U+D800", "\xed\xa0\x80", 2},
	{"the surrogate U+DB7F", "\xed\xad\xbf", 2},
	{"the surrogate U+DC00", "\xed\xb0\x80", 2},
	{"the surrogate U+DFFF", "\xed\xbf\xbf", 2},
	{"a pair of surrogates", "\xed\xa0\xbd\xed\xb8\x80", 2},
	{"beyond U+10FFFF, U+110000", "\xf4\x90\x80\x80", 2},
	{"beyond U+10FFFF, U+13FFFF", "\xf4\xbf\xbf\xbf", 2},
	{"beyond U+10FFFF, lead f5", "\xf5\x80\x80\x80", 1},
	{"beyond U+10FFFF, lead f7", "\xf7\xbf\xbf\xbf", 1},
	{"5 bytes, lowest", "\xf8\x88\x80\x80\x80", 1},
	{"5 bytes, highest", "\xfb\xbf\xbf\xbf\xbf", 1},
	{"6 bytes, lowest", "\xfc\x84\x80\x80\x80\x80", 1},
	{"6 bytes, highest", "\xfd\xbf\xbf\xbf\xbf\xbf", 1},
	{"the byte fe", "\xfe", 1},
	{"the byte ff", "\xff", 1},
	{"a byte order mark of UTF-16", "\xff\xfe", 1},
	{"2 bytes cut after 1, then ASCII", "\xceA", 2},
	{"3 bytes cut after 1, then ASCII", "\xe2A", 2},
	{"3 bytes cut after 2, then ASCII", "\xe2\x82A", 3},
	{"4 bytes cut after 1, then ASCII", "\xf0A", 2},
	{"4 bytes cut after 2, then ASCII", "\xf0\x9fA", 3},
	{"4 bytes cut after 3, then ASCII", "\xf0\x9f\x9cA", 4},
	{"2 bytes cut after 1, then another lead", "\xce\xce\xba", 2},
	{"3 bytes cut after 2, then another lead", "\xe2\x82\xe2\x82\xac", 3},
	{"4 bytes cut after 3, then another lead", "\xf0\x9f\x9c\xf0\x9f\x9c\x81", 4},
	{"2 bytes cut after 1 at the message's end", "\xce", 0},
	{"3 bytes cut after 1 at the message's end", "\xe2", 0},
	{"3 bytes cut after 2 at the message's end", "\xe2\x82", 0},
	{"4 bytes cut after 1 at the message's end", "\xf0", 0},
	{"4 bytes cut after 2 at the message's end", "\xf0\x9f", 0},
	{"4 bytes cut after 3 at the message's end", "\xf0\x9f\x9c", 0},
}

// wellFormed has the borders of what is sound.
var wellFormed = []struct{ name, text string }{
	{"U+0000 and U+007F", "\x00\x7f"},
	{"U+0080 and U+07FF", "\u0080\u07ff"},
	{"U+0800 and U+FFFF", "\u0800\uffff"},
	{"U+10000 and U+10FFFF", "\U00010000\U0010ffff"},
	{"the borders of the surrogates, U+D7FF and U+E000", "\ud7ff\ue000"},
	{"the non-characters U+FDD0 to U+FDEF", runes(0xfdd0, 0xfdef)},
	{"the byte order mark U+FEFF and U+FFFD", "\ufeff\ufffd"},
	{"each lead byte with its lowest continuation", leads(func(lo, hi rune) rune { return lo })},
	{"each lead byte with its highest continuation", leads(func(lo, hi rune) rune { return hi })},
	{"κόσμε", "κόσμε"},
	{"combining marks and emoji with joiners", "e\u0301 👩\u200d👩\u200d👧 🇪🇺"},
}

func runes(from, to rune) string {
	var b strings.Builder
	for r := from; r <= to; r++ {
		b.WriteRune(r)
	}
	return b.String()
}

// leads makes one character for each lead byte from c2 to f4.
func leads(pick func(lo, hi rune) rune) string {
	var b strings.Builder
	for from := rune(0x80); from <= utf8.MaxRune; {
		var last rune // of the characters with the same lead byte
		switch {
		case from < 0x800:
			last = from | 0x3f
		case from < 0x10000:
			last = from | 0xfff
		default:
			last = min(from|0x3ffff, utf8.MaxRune)
		}
		next := last + 1
		if last == 0xdfff { // the lead byte ed ends with the last character ahead of the surrogates
			last = 0xd7ff
		}
		b.WriteRune(pick(from, last))
		from = next
	}
	return b.String()
}

func utf8Cases(c *catalogue) {
	c.topic = "utf-8"
	for _, bad := range illFormed {
		const before, after = "before ", " after"
		tail := after
		if bad.bad == 0 {
			tail = ""
		}
		text := before + bad.bytes + tail
		c.script("RFC 6455, 8.1", bad.name, script{send: once(whole(opText, text)), end: failsWith(1007)})
		c.script("RFC 6455, 8.1", bad.name+", alone", script{send: once(whole(opText, bad.bytes)), end: failsWith(1007)})
		c.script("RFC 6455, 8.1", bad.name+", in chops of 1", script{send: chops(1, whole(opText, text)), end: failsWith(1007)})
		c.script("RFC 6455, 8.1", bad.name+", after a good message in one write", script{
			send: once(whole(opText, "good ✓"), whole(opText, text)), want: events(echo(opText, "good ✓")), end: failsWith(1007)})
		for cut := range len(bad.bytes) + 1 {
			at := len(before) + cut
			c.script("RFC 6455, 8.1", fmt.Sprintf("%s, cut into fragments after %d bytes", bad.name, cut), script{
				send: once(part(opText, text[:at]), whole(opContinuation, text[at:])), end: failsWith(1007)})
		}
		// The same bytes are nobody's business in a binary message.
		c.script("RFC 6455, 5.6", bad.name+", in a binary message", script{
			send: once(whole(opBinary, text)), want: events(echo(opBinary, text))})
		if bad.bad == 0 {
			continue
		}
		// What comes is certain to be no UTF-8, and the frame's rest never comes: RFC 6455, 8.1 has the connection fail, and
		// nothing lets it wait.
		certain := before + bad.bytes[:bad.bad]
		for _, declared := range []uint64{uint64(len(certain)) + 1, 4096, 1 << 20} {
			f := frame{fin: true, opcode: opText, payload: []byte(certain)}.declaring(declared)
			c.script("RFC 6455, 8.1", fmt.Sprintf("%s, in a frame of %d bytes whose rest does not come", bad.name, declared), script{
				send: once(f), end: failsWith(1007)})
		}
		f := frame{fin: true, opcode: opText, payload: []byte(certain)}.declaring(4096)
		c.script("RFC 6455, 8.1", bad.name+", fails fast after a good message in one write", script{
			send: once(whole(opText, "good"), f), want: events(echo(opText, "good")), end: failsWith(1007)})
		c.script("RFC 6455, 8.1", bad.name+", in a fragment to which no other comes", script{
			send: once(part(opText, certain)), end: failsWith(1007)})
		if bad.bad > 1 {
			at := len(certain) - 1
			rest := frame{fin: true, opcode: opContinuation, payload: []byte(certain[at:])}.declaring(4096)
			c.script("RFC 6455, 8.1", bad.name+", fails fast in a second fragment", script{
				send: once(part(opText, certain[:at]), rest), end: failsWith(1007)})
		}
	}

	// Not yet certain: a peer that fails here is too fast.
	for _, open := range []string{"\xce", "\xe2", "\xe2\x82", "\xf0", "\xf0\x9f", "\xf0\x9f\x9c", "\xed\x9f", "\xf4\x8f"} {
		rest := map[string]string{"\xce": "\xba", "\xe2": "\x82\xac", "\xe2\x82": "\xac", "\xf0": "\x9f\x9c\x81", "\xf0\x9f": "\x9c\x81", "\xf0\x9f\x9c": "\x81", "\xed\x9f": "\xbf", "\xf4\x8f": "\xbf\xbf"}[open]
		c.script("RFC 6455, 8.1", fmt.Sprintf("%x, then a ping, then the %x that makes it sound", open, rest), script{
			send: []packet{
				{frames: []frame{part(opText, open), whole(opPing, "still there?")}},
				{frames: []frame{whole(opContinuation, rest)}, after: 1},
			},
			want: events(pong("still there?"), echo(opText, open+rest))})
	}

	for _, good := range wellFormed {
		c.script("RFC 6455, 5.6", good.name, script{send: once(whole(opText, good.text)), want: events(echo(opText, good.text))})
		c.script("RFC 6455, 5.6", good.name+", in chops of 1", script{send: chops(1, whole(opText, good.text)), want: events(echo(opText, good.text))})
		c.script("RFC 6455, 5.6", good.name+", in fragments of 1", script{
			send: once(fragments(opText, good.text, 1)...), want: events(echo(opText, good.text))})
		if len(good.text) > 20 {
			continue
		}
		for cut := 1; cut < len(good.text); cut++ {
			c.script("RFC 6455, 5.6", fmt.Sprintf("%s, cut into fragments after %d bytes", good.name, cut), script{
				send: once(part(opText, good.text[:cut]), whole(opContinuation, good.text[cut:])), want: events(echo(opText, good.text))})
		}
	}
	for plane := rune(0); plane <= 16; plane++ {
		text := string([]rune{plane<<16 + 1, plane<<16 + 0xfffd, plane<<16 + 0xfffe, plane<<16 + 0xffff})
		c.script("RFC 6455, 5.6", fmt.Sprintf("plane %d: first, last and its two non-characters", plane), script{
			send: once(whole(opText, text)), want: events(echo(opText, text))})
	}
	c.lazy("RFC 6455, 5.6", "every character there is, in fragments of 65,537 bytes", func() script {
		all := runes(0, 0xd7ff) + runes(0xe000, 0x10ffff)
		return script{send: once(fragments(opText, all, 65537)...), want: events(echo(opText, all))}
	})
}
