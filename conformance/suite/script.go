// What most cases are, a script of frames to send and events to expect, and what is sent in them.

package suite

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"
)

// A packet is what one write carries, or as many writes as chops make of it.
type packet struct {
	frames []frame
	after  int // wait for that many of the wanted events ahead of it
	chop   int // 0: one write
}

// An ending is how a case's connection must end.
type ending struct {
	kind  endingKind
	codes []int
}

type endingKind int

const (
	finishes endingKind = iota // the suite closes with 1000
	replies                    // the suite has sent a close frame and gets codes[0] back
	fails                      // the peer closes with one of the codes
)

var cleanly = ending{}

func repliesWith(code int) ending { return ending{replies, []int{code}} }

func failsWith(codes ...int) ending { return ending{fails, codes} }

// A script is what most cases are: packets, the events wanted in return, and the end.
type script struct {
	send []packet
	want []event
	end  ending
}

func (p script) run(s *session) error {
	seen := 0
	for _, b := range p.send {
		if b.after > seen {
			if _, err := s.await(p.want[seen:b.after], false); err != nil {
				return err
			}
			seen = b.after
		}
		s.send(s.encode(b.frames...), b.chop)
	}
	rest := p.want[seen:]
	switch p.end.kind {
	case replies:
		return s.replied(rest, p.end.codes[0])
	case fails:
		return s.failed(rest, p.end.codes...)
	}
	return s.answered(rest...)
}

// once is a packet of all the frames.
func once(frames ...frame) []packet { return []packet{{frames: frames}} }

// chops is a packet of all the frames, written in pieces of n bytes.
func chops(n int, frames ...frame) []packet { return []packet{{frames: frames, chop: n}} }

func echo(opcode byte, payload string) event {
	return event{opcode: opcode, payload: []byte(payload)}
}

func pong(payload string) event { return event{opcode: opPong, payload: []byte(payload)} }

func events(e ...event) []event { return e }

// repeated is n times the same frame or event.
func repeated[T any](v T, n int) []T { return slices.Repeat([]T{v}, n) }

// A catalogue gathers cases and numbers them by topic.
type catalogue struct {
	cases   []Case
	topic   string
	numbers map[string]int // the last number in each topic
}

func (c *catalogue) add(t Case) {
	c.numbers[c.topic]++
	t.ID, t.Topic = fmt.Sprintf("%s/%d", c.topic, c.numbers[c.topic]), c.topic
	c.cases = append(c.cases, t)
}

// script adds a case for both roles.
func (c *catalogue) script(section, name string, p script) {
	c.add(Case{Section: section, Name: name, run: p.run})
}

// lazy adds a case for both roles whose script is too large to lie about in memory until it is played.
func (c *catalogue) lazy(section, name string, make func() script) {
	c.add(Case{Section: section, Name: name, run: func(s *session) error { return make().run(s) }})
}

// textOf makes n bytes of UTF-8 with characters of one to four bytes.
func textOf(n int) string {
	const alphabet = "wsd: κανάλια — チャネル 🜁 "
	text := strings.Repeat(alphabet, n/len(alphabet))
	for _, r := range alphabet { // then as many of its characters as fit, and dots
		if len(text)+utf8.RuneLen(r) > n {
			break
		}
		text += string(r)
	}
	return text + strings.Repeat(".", n-len(text))
}

// noise makes n bytes in which every value comes up.
func noise(n int) string {
	var block [65521]byte // a prime: no two fragments of a message are alike
	rng := rand.NewChaCha8([32]byte{'w', 's', 'd'})
	rng.Read(block[:min(n, len(block))]) // never fails
	return strings.Repeat(string(block[:]), n/len(block)+1)[:n]
}

// ofType makes a message's payload that fits its opcode.
func ofType(opcode byte, n int) string {
	if opcode == opText {
		return textOf(n)
	}
	return noise(n)
}
