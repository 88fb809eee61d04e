// generate.go makes streams of what a fuzzer comes up with.

package deflatetest

import "slices"

const (
	mostBlocks  = 20
	mostSymbols = 60 // in a block, so that no stream takes long
)

// choices are the bytes that a fuzzer has come up with. Each decides something; behind the last one there are zeros.
type choices []byte

func (c *choices) next() int {
	if len(*c) == 0 {
		return 0
	}
	first := (*c)[0]
	*c = (*c)[1:]
	return int(first)
}

// Generate makes a message of what a fuzzer has come up with: blocks of all kinds, with codes, lengths and distances of
// all sizes. Most are valid but for the distances. Some are cut.
func Generate(decisions []byte) []byte {
	c := choices(decisions)
	w := new(Stream)
	for range mostBlocks {
		if len(c) == 0 {
			break
		}
		kind := c.next()
		final := 0
		if kind >= 0xF8 && c.next() >= 0xC0 {
			final = 1
		}
		w.Bits(1, final)
		switch kind & 7 {
		case 0, 1:
			w.stored(&c)
		case 2, 3, 4:
			w.Bits(2, 1)
			w.symbols(&c, fixedCodes(), fixedDistances())
		case 5, 6:
			w.dynamic(&c)
		case 7:
			// A block that goes wrong somewhere: its bits are the fuzzer's own.
			w.Bits(2, 1+c.next()%3)
			for range c.next() % 32 {
				w.Bits(8, c.next())
			}
		}
		if final == 1 {
			w.align()
		}
	}
	out := w.End()
	if c.next()%4 == 3 {
		out = out[:len(out)-min(len(out), c.next())]
	}
	return out
}

// align fills a byte.
func (w *Stream) align() {
	for w.have%8 != 0 {
		w.Bits(1, 0)
	}
}

// stored writes a stored block behind its first bit: some bytes, and some of them often.
func (w *Stream) stored(c *choices) {
	w.Bits(2, 0)
	w.align()
	var data []byte
	for range c.next() % 32 {
		data = append(data, byte(c.next()))
	}
	if repeat := c.next(); repeat >= 0x80 {
		data = slices.Repeat(data, repeat-0x80)
	}
	declared := len(data)
	if wrong := c.next(); wrong >= 0xF8 {
		declared += wrong - 0xF8
	}
	w.Bits(16, declared).Bits(16, ^declared)
	w.out = append(w.out, data...)
	w.have += 8 * uint(len(data))
}

// codes are the lengths of codes in bits, 0 for none, and the codes themselves.
type codes struct{ lengths, codes []int }

// newCodes gives out the codes of these lengths (RFC 1951, section 3.2.2).
func newCodes(lengths []int) codes {
	c := codes{lengths, make([]int, len(lengths))}
	code := 0
	for n := 1; n <= 15; n++ {
		for symbol, length := range lengths {
			if length == n {
				c.codes[symbol] = code
				code++
			}
		}
		code <<= 1
	}
	return c
}

func fixedCodes() codes {
	return newCodes(slices.Concat(slices.Repeat([]int{8}, 144), slices.Repeat([]int{9}, 112), slices.Repeat([]int{7}, 24), slices.Repeat([]int{8}, 8)))
}

func fixedDistances() codes { return newCodes(slices.Repeat([]int{5}, 32)) }

// write writes the code of a symbol, or reports that it has none.
func (c codes) write(w *Stream, symbol int) bool {
	if symbol >= len(c.lengths) || c.lengths[symbol] == 0 {
		return false
	}
	w.Code(uint(c.lengths[symbol]), c.codes[symbol])
	return true
}

// symbols writes what a block has in it, and its end. What the codes do not have is left out.
func (w *Stream) symbols(c *choices, literals, distances codes) {
	for range c.next() % mostSymbols {
		what := c.next()
		if what < 0x80 {
			literals.write(w, c.next())
			continue
		}
		length := 3 + c.next()
		if what&1 != 0 {
			length = 3 + length%16
		}
		distance := 1 + c.next()
		switch {
		case what&0x70 == 0x70:
			distance = 1 + (distance<<8|c.next())%(32<<10)
		case what&2 != 0:
			distance = 1 + distance%12
		}
		symbol, n, extra := distanceSymbol(distance)
		if symbol >= len(distances.lengths) || distances.lengths[symbol] == 0 {
			continue
		}
		of, ofBits, ofExtra := lengthSymbol(min(length, longest))
		if literals.write(w, of) {
			w.Bits(ofBits, ofExtra)
			distances.write(w, symbol)
			w.Bits(n, extra)
		}
	}
	literals.write(w, 256)
}

// tree makes lengths of codes for the given symbols, which fill a tree. Splitting the same leaf again makes long codes.
func tree(c *choices, symbols []int, size int) []int {
	lengths := make([]int, size)
	leaves := []int{0}
	for len(leaves) < len(symbols) {
		at := len(leaves) - 1
		if choice := c.next(); choice < 0xC0 {
			at = choice % len(leaves)
		}
		for leaves[at] == 15 {
			at = (at + 1) % len(leaves)
		}
		leaves[at]++
		leaves = append(leaves, leaves[at])
	}
	for i, symbol := range symbols {
		lengths[symbol] = max(leaves[i], 1)
	}
	return lengths
}

// some chooses symbols out of size, among them those that must be there.
func some(c *choices, size, most int, must ...int) []int {
	chosen := map[int]bool{}
	for _, symbol := range must {
		chosen[symbol] = true
	}
	for range c.next() % most {
		from := c.next() * size / 256
		for symbol := from; symbol <= min(from+c.next()%8, size-1); symbol++ {
			chosen[symbol] = true
		}
	}
	symbols := make([]int, 0, len(chosen))
	for symbol := range size {
		if chosen[symbol] {
			symbols = append(symbols, symbol)
		}
	}
	return symbols
}

// dynamic writes a block with codes of its own behind its first bit.
func (w *Stream) dynamic(c *choices) {
	literals := tree(c, some(c, 286, 24, 256), 257+29)
	distances := make([]int, 1)
	if symbols := some(c, 30, 8); len(symbols) > 0 {
		distances = tree(c, symbols, 1+symbols[len(symbols)-1])
	}
	used := 286
	for used > 257 && literals[used-1] == 0 {
		used--
	}
	literals = literals[:used]
	// 13 codes of 4 bits and 6 of 5 fill a tree.
	ofLengths := newCodes(slices.Concat(slices.Repeat([]int{4}, 13), slices.Repeat([]int{5}, 6)))
	w.Bits(2, 2).Bits(5, len(literals)-257).Bits(5, len(distances)-1).Bits(4, 15)
	for _, symbol := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		w.Bits(3, ofLengths.lengths[symbol])
	}
	all := slices.Concat(literals, distances)
	repeats := c.next()%4 != 0
	for i := 0; i < len(all); {
		run := 1
		for i+run < len(all) && all[i+run] == all[i] {
			run++
		}
		switch {
		case repeats && all[i] == 0 && run >= 11:
			run = min(run, 138)
			ofLengths.write(w, 18)
			w.Bits(7, run-11)
		case repeats && all[i] == 0 && run >= 3:
			ofLengths.write(w, 17)
			w.Bits(3, run-3)
		case repeats && i > 0 && all[i] == all[i-1] && run >= 3:
			run = min(run, 6)
			ofLengths.write(w, 16)
			w.Bits(2, run-3)
		default:
			run = 1
			ofLengths.write(w, all[i])
		}
		i += run
	}
	w.symbols(c, newCodes(literals), newCodes(distances))
}
