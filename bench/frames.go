//go:build linux

package main

// This file composes what the load client sends, once and before anything is timed: masked frames ready for the wire.

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/klauspost/compress/flate"
)

// The opcodes of RFC 6455, section 11.8, that the client meets.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
)

// maskingKey is the same for every frame: the work of unmasking does not depend on the key, and a server cannot know.
var maskingKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// script is an endless sequence of messages: the wire's bytes, and what the answer to each must hold. After the last
// message comes the one with the index loop.
type script struct {
	opcode   byte
	deflated bool
	takeover bool
	wire     []byte
	ends     []int    // ends[i] is where message i ends within wire
	want     [][]byte // want[i] is the payload that answers message i, inflated
	loop     int
}

// start is where a message begins within wire.
func (s *script) start(i int) int {
	if i == 0 {
		return 0
	}
	return s.ends[i-1]
}

// after is the index of the message that follows.
func (s *script) after(i int) int {
	if i++; i < len(s.ends) {
		return i
	}
	return s.loop
}

// appendFrame appends one unfragmented, masked frame (RFC 6455, section 5.2).
func appendFrame(dst []byte, first byte, payload []byte) []byte {
	dst = append(dst, first)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = append(dst, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, maskingKey[:]...)
	from := len(dst)
	dst = append(dst, payload...)
	for i := range dst[from:] {
		dst[from+i] ^= maskingKey[i&3]
	}
	return dst
}

// noise is n bytes that look random and are the same in every run.
func noise(n int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 62836080))
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	for i := n &^ 7; i < n; i++ {
		b[i] = byte(random.Uint32())
	}
	return b
}

// binaryScript is made of different binary messages of one size, so many of them that a batch seldom meets the
// sequence's end, and so few that the client's sending does not push the server's data out of the processor's caches.
func binaryScript(size int) *script {
	s := &script{opcode: opBinary}
	for i := range min(max(128<<10/(size+8), 1), 512) {
		payload := noise(size, uint64(i))
		s.want = append(s.want, payload)
		s.wire = appendFrame(s.wire, 0x80|opBinary, payload)
		s.ends = append(s.ends, len(s.wire))
	}
	return s
}

// unspoken makes the script fit for a server that gives back the bytes it got, masks included.
func (s *script) unspoken() *script {
	for i, payload := range s.want {
		s.want[i] = s.wire[s.ends[i]-len(payload) : s.ends[i]]
	}
	return s
}

// jsonScript is made of JSON texts of about 1 KiB, deflated as RFC 7692 says.
//
// With context takeover a message refers back to the 32 KiB before it. The texts are more than that together and come
// round and round, so that from the second round on each is deflated with the same history, thus to the same bytes: the
// first round and the second are composed, and the second repeats for ever. Where window is not 0, it is how many bits the
// distances have at the most.
func jsonScript(takeover bool, window int) (*script, error) {
	const texts = 64
	s := &script{opcode: opText, deflated: true, takeover: takeover}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if window > 0 {
		w, err = flate.NewWriterWindow(&out, 1<<window)
	}
	if err != nil {
		return nil, fmt.Errorf("bench: a deflater: %w", err)
	}
	rounds := 1
	if takeover {
		rounds, s.loop = 2, texts
	}
	for range rounds {
		for i := range texts {
			text, err := jsonText(uint64(i))
			if err != nil {
				return nil, err
			}
			out.Reset()
			if !takeover {
				w.Reset(&out)
			}
			if _, err := w.Write(text); err != nil {
				return nil, fmt.Errorf("bench: deflating a text: %w", err)
			}
			if err := w.Flush(); err != nil {
				return nil, fmt.Errorf("bench: flushing the deflater: %w", err)
			}
			deflated := bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
			s.want = append(s.want, text)
			s.wire = appendFrame(s.wire, 0x80|0x40|opText, deflated)
			s.ends = append(s.ends, len(s.wire))
		}
	}
	return s, nil
}

// jsonText is a JSON object of 1,024 bytes like those that feeds are made of: names that recur, values that do not.
func jsonText(seed uint64) ([]byte, error) {
	random := rand.New(rand.NewPCG(seed, 7692))
	words := strings.Fields("alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november")
	type order struct {
		ID     uint64  `json:"id"`
		Symbol string  `json:"symbol"`
		Price  float64 `json:"price"`
		Amount int     `json:"amount"`
		Side   string  `json:"side"`
	}
	var feed struct {
		Sequence uint64  `json:"sequence"`
		Channel  string  `json:"channel"`
		Orders   []order `json:"orders"`
		Note     string  `json:"note"`
	}
	feed.Sequence, feed.Channel = seed, words[random.IntN(len(words))]
	for range 10 {
		feed.Orders = append(feed.Orders, order{
			ID:     random.Uint64N(1e12),
			Symbol: words[random.IntN(len(words))],
			Price:  float64(random.IntN(1e6)) / 100,
			Amount: random.IntN(1e4),
			Side:   []string{"buy", "sell"}[random.IntN(2)],
		})
	}
	const size = 1 << 10
	text, err := json.Marshal(feed)
	if err != nil {
		return nil, fmt.Errorf("bench: a JSON text: %w", err)
	}
	for n := size - len(text); n > 0; n = size - len(text) {
		word := words[random.IntN(len(words))] + " "
		feed.Note += word[:min(n, len(word))]
		if text, err = json.Marshal(feed); err != nil {
			return nil, fmt.Errorf("bench: a JSON text: %w", err)
		}
	}
	return text, nil
}
