// stream.go writes streams bit by bit, as no compressor does.

package deflatetest

const longest = 258 // bytes in a match

// Stream is a DEFLATE stream that is written by hand, the lowest bit of a byte first (RFC 1951, section 3.1.1).
type Stream struct {
	out  []byte
	have uint // bits
}

// Bytes returns the stream so far.
func (w *Stream) Bytes() []byte { return w.out }

// Bits writes the n lowest bits of value.
func (w *Stream) Bits(n uint, value int) *Stream {
	for i := range n {
		if w.have%8 == 0 {
			w.out = append(w.out, 0)
		}
		w.out[len(w.out)-1] |= byte(value>>i&1) << (w.have % 8)
		w.have++
	}
	return w
}

// Code writes a Huffman code, whose highest bit comes first.
func (w *Stream) Code(n uint, value int) *Stream {
	for n > 0 {
		n--
		w.Bits(1, value>>n)
	}
	return w
}

// Tables writes the header of a block that brings its own codes: how many there are, and all lengths of the code for
// code lengths, in the order of RFC 1951, section 3.2.7.
func (w *Stream) Tables(literals, distances int, lengths ...int) *Stream {
	w.Bits(1, 0).Bits(2, 2).Bits(5, literals-257).Bits(5, distances-1).Bits(4, len(lengths)-4)
	for _, n := range lengths {
		w.Bits(3, n)
	}
	return w
}

// End flushes as a compressor does, and cuts the tail.
func (w *Stream) End() []byte {
	w.Bits(3, 0)
	return w.out
}

// LengthsOf01 has codes for the code lengths 0 and 1, 18 for many zeros, and 16: 00 is 0, 01 is 1, 10 is 16, 11 is 18.
var LengthsOf01 = []int{2, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}

// Zeros writes count code lengths of 0 with LengthsOf01.
func (w *Stream) Zeros(count int) *Stream {
	for count > 0 {
		n := min(count, 138)
		if n < 11 {
			w.Code(2, 0)
			count--
			continue
		}
		w.Code(2, 3).Bits(7, n-11)
		count -= n
	}
	return w
}

// Literal writes a literal with the codes that bring no tables (RFC 1951, section 3.2.6).
func (w *Stream) Literal(b byte) *Stream { return w.fixed(int(b)) }

// Match writes a length and a distance with these codes.
func (w *Stream) Match(length, distance int) *Stream {
	symbol, n, extra := lengthSymbol(length)
	w.fixed(symbol).Bits(n, extra)
	symbol, n, extra = distanceSymbol(distance)
	return w.Code(5, symbol).Bits(n, extra)
}

// fixed writes a literal, a length or the end of the block with the codes that bring no tables.
func (w *Stream) fixed(symbol int) *Stream {
	switch {
	case symbol < 144:
		return w.Code(8, 0x30+symbol)
	case symbol < 256:
		return w.Code(9, 0x190+symbol-144)
	case symbol < 280:
		return w.Code(7, symbol-256)
	}
	return w.Code(8, 0xC0+symbol-280)
}

// lengthSymbol returns the symbol for a length, and its extra bits (RFC 1951, section 3.2.5).
func lengthSymbol(length int) (symbol int, n uint, extra int) {
	if length == longest {
		return 285, 0, 0
	}
	symbol, base := 257, 3
	for length >= base+1<<n {
		base += 1 << n
		symbol++
		n = uint(max(0, (symbol-257)/4-1))
	}
	return symbol, n, length - base
}

// distanceSymbol is the same for a distance.
func distanceSymbol(distance int) (symbol int, n uint, extra int) {
	base := 1
	for distance >= base+1<<n {
		base += 1 << n
		symbol++
		n = uint(max(0, symbol/2-1))
	}
	return symbol, n, distance - base
}
