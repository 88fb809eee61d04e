// What a case is: a row of the suite's table, and the script that plays most rows.

package main

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// Topics, in the order of the report.
var topics = []string{
	"handshake", "framing", "pings and pongs", "reserved bits", "reserved opcodes", "fragmentation", "utf-8", "close", "limits",
	"compression handshake", "compression",
}

// A testCase is one row: something sent to a peer, and what RFC 6455 or RFC 7692 demands in return.
type testCase struct {
	topic, name, section string

	judges role       // server or client where only one of them can be judged so
	offer  string     // the extension to offer to a server
	accept *agreement // the extension to accept from a client
	bare   bool       // run does the handshake too

	run  func(*session) error
	many func(dial func() (*session, error)) error // instead of run, servers only: over many connections
}

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
	if _, err := s.await(rest, false); err != nil {
		return err
	}
	return s.finish(1000, "")
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

// A catalogue gathers cases and gives them numbers by topic.
type catalogue struct {
	cases []testCase
	topic string
}

func (c *catalogue) add(t testCase) {
	if t.topic == "" {
		t.topic = c.topic
	}
	c.cases = append(c.cases, t)
}

// script adds a case for both roles.
func (c *catalogue) script(section, name string, p script) {
	c.add(testCase{section: section, name: name, run: p.run})
}

// lazy adds a case for both roles whose script is too large to lie about in memory until it is played.
func (c *catalogue) lazy(section, name string, make func() script) {
	c.add(testCase{section: section, name: name, run: func(s *session) error { return make().run(s) }})
}

// allCases is the suite's whole table. messages and bytes bound what one compression case sends each way: the smaller
// bound holds.
func allCases(messages, bytes int) []testCase {
	c := &catalogue{}
	handshakeCases(c)
	framingCases(c)
	pingCases(c)
	reservedCases(c)
	fragmentationCases(c)
	utf8Cases(c)
	closeCases(c)
	limitCases(c)
	compressionHandshakeCases(c)
	compressionCases(c, messages, bytes)
	return c.cases
}

// forRole leaves the cases that can judge a peer of this role.
func forRole(cases []testCase, r role) []testCase {
	var fit []testCase
	for _, t := range cases {
		if t.judges == either || t.judges == r {
			fit = append(fit, t)
		}
	}
	return fit
}

// seed makes a case's random choices its own, and the same in every run.
func (t testCase) seed() uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s", t.topic, t.name)
	return h.Sum64()
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

func typeName(opcode byte) string {
	return map[byte]string{opContinuation: "continuation", opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"}[opcode]
}
