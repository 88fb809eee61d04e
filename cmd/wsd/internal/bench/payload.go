// payload.go makes the messages: lengths, templates, and the stamps by which a broadcast is timed.

package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
)

// sizes are lengths that take turns, each a range.
type sizes struct{ least, most []int }

// set reads "64", "64,1KiB" or "64-4096".
func (s *sizes) set(text string) error {
	var read sizes
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		least, err := cli.ParseSize(low)
		if err != nil {
			return err
		}
		most, err := cli.ParseSize(high)
		switch {
		case err != nil:
			return err
		case most < least || most > maxSize:
			return fmt.Errorf("expected lengths up to %s, the lower one of a range first, got %q", cli.FormatSize(maxSize), part)
		}
		read.least, read.most = append(read.least, int(least)), append(read.most, int(most))
	}
	*s = read
	return nil
}

const (
	maxSize = 64 << 20
	// stampMark comes ahead of the 16 hexadecimal digits of a stamp, which are nanoseconds of this process's clock.
	stampMark = "wsd:"
	stampSize = len(stampMark) + 16
)

// payload makes messages. It is only read once it is made, and safe for concurrent use.
type payload struct {
	sizes
	filler   []byte   // as long as the longest message
	template []string // what is between the placeholders, and the placeholders
	stamped  bool
}

func newPayload(o *options) (*payload, error) {
	p := &payload{sizes: o.sizes, stamped: o.sub}
	longest := 0
	for _, most := range p.most {
		longest = max(longest, most)
	}
	p.filler = make([]byte, max(longest, stampSize))
	random := rand.New(rand.NewPCG(1, 2)) // the same in every run
	const letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789"
	for i := range p.filler {
		if o.text || o.template != "" {
			p.filler[i] = letters[random.IntN(len(letters))]
		} else {
			p.filler[i] = byte(random.Uint32())
		}
	}
	if o.template == "" {
		return p, nil
	}
	if !utf8.ValidString(o.template) {
		return nil, cli.Usagef("-template: expected text in UTF-8")
	}
	rest := o.template
	for {
		before, after, ok := strings.Cut(rest, "{{")
		p.template = append(p.template, before)
		if !ok {
			return p, nil
		}
		name, next, ok := strings.Cut(after, "}}")
		name = strings.TrimSpace(name)
		if !ok || name != "n" && name != "pad" && name != "stamp" {
			return nil, cli.Usagef("-template: expected {{n}}, {{pad}} or {{stamp}}, got {{%s}}", name)
		}
		p.template = append(p.template, name)
		rest = next
	}
}

// fixed reports whether all messages are the same.
func (p *payload) fixed() bool {
	return p.template == nil && !p.stamped && len(p.least) == 1 && p.least[0] == p.most[0]
}

// size returns the length of a connection's n-th message, but for what a template or a stamp takes.
func (p *payload) size(number, n int) int {
	turn := n % len(p.least)
	least, span := p.least[turn], uint64(p.most[turn]-p.least[turn]+1)
	if span == 1 {
		return least
	}
	// SplitMix64: as good as random, and the same whenever it is asked for.
	x := (uint64(number)<<40 + uint64(n) + 1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return least + int((x^x>>31)%span)
}

// length returns the length of a connection's n-th message.
func (p *payload) length(number, n int) int {
	size := p.size(number, n)
	switch {
	case p.template != nil:
		least, pads := p.unpadded(n)
		if pads == 0 {
			return least
		}
		return max(least, size)
	case p.stamped:
		return max(stampSize, size)
	}
	return size
}

// make returns a connection's n-th message, in buffer if it is not the filler itself. stamp is for broadcasts.
func (p *payload) make(buffer []byte, number, n int, stamp int64) []byte {
	size := p.size(number, n)
	switch {
	case p.template != nil:
		return p.fill(buffer[:0], size, n, stamp)
	case p.stamped:
		buffer = appendStamp(buffer[:0], stamp)
		return append(buffer, p.filler[:max(size-stampSize, 0)]...)
	}
	return p.filler[:size]
}

// unpadded returns how long the template is for the n-th message without what is filled up, and in how many places that is.
func (p *payload) unpadded(n int) (length, pads int) {
	for i, part := range p.template {
		switch {
		case i%2 == 0:
			length += len(part)
		case part == "n":
			length += len(strconv.Itoa(n))
		case part == "stamp":
			length += stampSize
		default:
			pads++
		}
	}
	return length, pads
}

// fill fills in the template.
func (p *payload) fill(b []byte, size, n int, stamp int64) []byte {
	length, pads := p.unpadded(n)
	for i, part := range p.template {
		switch {
		case i%2 == 0:
			b = append(b, part...)
		case part == "n":
			b = strconv.AppendInt(b, int64(n), 10)
		case part == "stamp":
			b = appendStamp(b, stamp)
		case size > length:
			share := (size - length) / pads
			b = append(b, p.filler[:share]...)
			size -= share
			pads--
		}
	}
	return b
}

func appendStamp(b []byte, stamp int64) []byte {
	return fmt.Appendf(b, "%s%016x", stampMark, stamp)
}

// stampOf finds the stamp in a message.
func stampOf(message []byte) (int64, bool) {
	at := bytes.Index(message, []byte(stampMark))
	if at < 0 || len(message) < at+stampSize {
		return 0, false
	}
	stamp, err := strconv.ParseInt(string(message[at+len(stampMark):at+stampSize]), 16, 64)
	return stamp, err == nil
}
