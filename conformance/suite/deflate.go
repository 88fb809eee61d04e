// The suite's own DEFLATE (RFC 1951) and the message framing of RFC 7692 on top: a decoder that holds the peer to the
// window it negotiated, and an encoder that can be held to one.

package suite

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"math/bits"
)

// The symbols of RFC 1951, 3.2.5.
var (
	lengthBase = [29]int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [29]uint{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [30]int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distBits   = [30]uint{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	// codeOrder is the order in which a dynamic block sends the lengths of its code length codes (RFC 1951, 3.2.7).
	codeOrder = [19]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

var errShort = errors.New("the compressed data ends inside a block")

// An inflater decodes the messages of one direction of a connection.
type inflater struct {
	window   int  // the largest distance allowed
	takeover bool // whether the window lives on from message to message
	history  []byte
	in       []byte
	at       int
	hold     uint64
	held     uint
	out      []byte
	start    int // where the message begins in out; history lies ahead of it
	limit    int
}

func newInflater(windowBits int, takeover bool) *inflater {
	return &inflater{window: 1 << windowBits, takeover: takeover, limit: maxReceived}
}

// message decodes one message's payload, which lacks the four bytes that end its last block (RFC 7692, 7.2.2).
func (d *inflater) message(payload []byte) ([]byte, error) {
	d.in = append(append([]byte(nil), payload...), 0, 0, 0xff, 0xff)
	d.at, d.hold, d.held = 0, 0, 0
	d.out = append([]byte(nil), d.history...)
	d.start = len(d.out)
	for d.at < len(d.in) || d.held >= 8 {
		final, err := d.block()
		if err != nil {
			return nil, err
		}
		if final { // a sender that ends its stream begins the next one at a byte (RFC 7692, 7.2.3.4)
			d.align()
		}
	}
	if d.held != 0 { // the four bytes put back are a stored block, which ends at a byte
		return nil, errors.New("the compressed data does not end with an empty stored block, less its last four bytes")
	}
	text := d.out[d.start:]
	d.history = nil
	if d.takeover {
		d.history = append(d.history, d.out[max(0, len(d.out)-d.window):]...)
	}
	return text, nil
}

// need makes sure that n bits are held, n at most 32.
func (d *inflater) need(n uint) error {
	for d.held < n {
		if d.at == len(d.in) {
			return errShort
		}
		d.hold |= uint64(d.in[d.at]) << d.held
		d.at++
		d.held += 8
	}
	return nil
}

func (d *inflater) take(n uint) (int, error) {
	if err := d.need(n); err != nil {
		return 0, err
	}
	v := int(d.hold & (1<<n - 1))
	d.hold >>= n
	d.held -= n
	return v, nil
}

func (d *inflater) align() {
	d.hold >>= d.held % 8
	d.held -= d.held % 8
}

func (d *inflater) block() (final bool, err error) {
	head, err := d.take(3)
	if err != nil {
		return false, err
	}
	final = head&1 != 0
	switch head >> 1 {
	case 0:
		return final, d.stored()
	case 1:
		return final, d.coded(fixedLiterals, fixedDistances)
	case 2:
		literals, distances, err := d.tables()
		if err != nil {
			return false, err
		}
		return final, d.coded(literals, distances)
	}
	return false, errors.New("the compressed data has a block of the reserved type 3")
}

func (d *inflater) stored() error {
	d.align()
	n, err := d.take(16)
	if err != nil {
		return err
	}
	not, err := d.take(16)
	if err != nil {
		return err
	}
	if n != not^0xffff {
		return fmt.Errorf("a stored block's length %#x and its complement %#x do not match", n, not)
	}
	for range n {
		b, err := d.take(8)
		if err != nil {
			return err
		}
		d.out = append(d.out, byte(b))
	}
	return nil
}

// A decoding is a table from the next bits of the input to a symbol: symbol<<4 | number of bits.
type decoding struct {
	table []uint16
	bits  uint
}

// newDecoding builds the table for the canonical code with these lengths (RFC 1951, 3.2.2).
func newDecoding(lengths []uint8) (decoding, error) {
	var count [16]int
	longest := 0
	for _, n := range lengths {
		count[n]++
		longest = max(longest, int(n))
	}
	count[0] = 0
	var next [17]int
	code := 0
	for n := 1; n <= 15; n++ {
		code = (code + count[n-1]) << 1
		next[n] = code
		if code+count[n] > 1<<n {
			return decoding{}, errors.New("the compressed data has an over-subscribed Huffman code")
		}
	}
	t := decoding{table: make([]uint16, 1<<longest), bits: uint(longest)}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		reversed := int(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		for i := reversed; i < len(t.table); i += 1 << n {
			t.table[i] = uint16(symbol)<<4 | uint16(n)
		}
	}
	return t, nil
}

func (d *inflater) symbol(t decoding) (int, error) {
	// The last code of the input may be shorter than the table is wide, so running dry here is no error yet.
	for d.held < t.bits && d.at < len(d.in) {
		d.hold |= uint64(d.in[d.at]) << d.held
		d.at++
		d.held += 8
	}
	entry := t.table[d.hold&(1<<t.bits-1)]
	n := uint(entry & 15)
	if n == 0 {
		return 0, errors.New("the compressed data has bits that are no Huffman code of its block")
	}
	if n > d.held {
		return 0, errShort
	}
	d.hold >>= n
	d.held -= n
	return int(entry >> 4), nil
}

var fixedLiterals, fixedDistances = fixedDecodings()

func fixedDecodings() (literals, distances decoding) {
	lengths := make([]uint8, 288)
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	literals, _ = newDecoding(lengths)
	distances, _ = newDecoding(bytes.Repeat([]uint8{5}, 32))
	return literals, distances
}

func (d *inflater) tables() (literals, distances decoding, err error) {
	head, err := d.take(14)
	if err != nil {
		return literals, distances, err
	}
	nLiterals, nDistances, nCodes := head&31+257, head>>5&31+1, head>>10+4
	var codeLengths [19]uint8
	for _, i := range codeOrder[:nCodes] {
		v, err := d.take(3)
		if err != nil {
			return literals, distances, err
		}
		codeLengths[i] = uint8(v)
	}
	code, err := newDecoding(codeLengths[:])
	if err != nil {
		return literals, distances, err
	}
	var lengths []uint8
	for len(lengths) < nLiterals+nDistances {
		s, err := d.symbol(code)
		if err != nil {
			return literals, distances, err
		}
		if s < 16 {
			lengths = append(lengths, uint8(s))
			continue
		}
		var value uint8
		if s == 16 {
			if len(lengths) == 0 {
				return literals, distances, errors.New("the compressed data repeats a code length before there is one")
			}
			value = lengths[len(lengths)-1]
		}
		extra := map[int]uint{16: 2, 17: 3, 18: 7}[s]
		n, err := d.take(extra)
		if err != nil {
			return literals, distances, err
		}
		n += map[int]int{16: 3, 17: 3, 18: 11}[s]
		lengths = append(lengths, bytes.Repeat([]uint8{value}, n)...)
	}
	if len(lengths) > nLiterals+nDistances {
		return literals, distances, errors.New("the compressed data has more code lengths than codes")
	}
	if literals, err = newDecoding(lengths[:nLiterals]); err != nil {
		return literals, distances, err
	}
	distances, err = newDecoding(lengths[nLiterals:])
	return literals, distances, err
}

func (d *inflater) coded(literals, distances decoding) error {
	for {
		s, err := d.symbol(literals)
		if err != nil {
			return err
		}
		switch {
		case s < 256:
			d.out = append(d.out, byte(s))
		case s == 256:
			return nil
		case s > 285:
			return fmt.Errorf("the compressed data has the reserved length symbol %d", s)
		default:
			extra, err := d.take(lengthBits[s-257])
			if err != nil {
				return err
			}
			n := lengthBase[s-257] + extra
			if s, err = d.symbol(distances); err != nil {
				return err
			}
			if s > 29 {
				return fmt.Errorf("the compressed data has the reserved distance symbol %d", s)
			}
			if extra, err = d.take(distBits[s]); err != nil {
				return err
			}
			distance := distBase[s] + extra
			if distance > d.window {
				return breach("RFC 7692, 7.1.2", "a distance of %d bytes, where a window of %d was agreed", distance, d.window)
			}
			if distance > len(d.out) {
				return breach("RFC 7692, 7.1.1", "a distance of %d bytes, where only %d precede", distance, len(d.out))
			}
			for range n {
				d.out = append(d.out, d.out[len(d.out)-distance])
			}
		}
		if len(d.out)-d.start > d.limit {
			return fmt.Errorf("a message inflates to more than %d bytes", d.limit)
		}
	}
}

// A deflater encodes the messages of one direction. With a window of 32 KiB it is compress/flate, for its dynamic
// blocks; with a smaller one it is the suite's own, which writes one block of fixed codes a message and uses
// distances up to the last byte of the window.
type deflater struct {
	window   int
	takeover bool
	history  []byte
	std      *flate.Writer
	stdOut   bytes.Buffer
}

func newDeflater(windowBits int, takeover bool) *deflater {
	return &deflater{window: 1 << windowBits, takeover: takeover}
}

// message encodes one message's payload, without the four bytes that end its last block (RFC 7692, 7.2.1).
func (c *deflater) message(text []byte) []byte {
	if c.window == 1<<15 {
		return c.standard(text)
	}
	return c.fixed(text)
}

func (c *deflater) standard(text []byte) []byte {
	c.stdOut.Reset()
	if c.std == nil {
		c.std, _ = flate.NewWriter(&c.stdOut, flate.BestSpeed+2) // the level is in range, which is all that can fail
	} else if !c.takeover {
		c.std.Reset(&c.stdOut)
	}
	c.std.Write(text) // a bytes.Buffer takes everything
	c.std.Flush()
	return bytes.Clone(bytes.TrimSuffix(c.stdOut.Bytes(), []byte{0, 0, 0xff, 0xff}))
}

func (c *deflater) fixed(text []byte) []byte {
	all := append(bytes.Clone(c.history), text...)
	last := make(map[[3]byte]int)
	for i := 0; i+3 <= len(c.history); i++ {
		last[[3]byte(all[i:])] = i
	}
	note := func(i int) {
		if i+3 <= len(all) {
			last[[3]byte(all[i:])] = i
		}
	}
	packed := fixedBlock(func(w *bitWriter) {
		for i := len(c.history); i < len(all); {
			n, distance := 0, 0
			if i+3 <= len(all) {
				if j, ok := last[[3]byte(all[i:])]; ok && i-j <= c.window {
					distance = i - j
					for n < 258 && i+n < len(all) && all[j+n] == all[i+n] {
						n++
					}
				}
			}
			if n < 3 {
				w.literal(int(all[i]))
				note(i)
				i++
				continue
			}
			w.match(n, distance)
			for range n {
				note(i)
				i++
			}
		}
	})
	if c.takeover {
		c.history = bytes.Clone(all[max(0, len(all)-c.window):])
	}
	return packed
}

// fixedBlock makes a message's payload of one block of fixed codes, with the literals and matches that write writes.
func fixedBlock(write func(*bitWriter)) []byte {
	var w bitWriter
	w.bits(0, 1) // not the final block
	w.bits(1, 2) // fixed codes
	write(&w)
	w.literal(256)
	w.bits(0, 3) // an empty stored block follows, of which the length and its complement stay unsent
	w.flush()
	return w.out
}

// A bitWriter writes DEFLATE's bits, least significant first.
type bitWriter struct {
	out  []byte
	hold uint64
	held uint
}

func (w *bitWriter) bits(v int, n uint) {
	w.hold |= uint64(v) << w.held
	w.held += n
	for w.held >= 8 {
		w.out = append(w.out, byte(w.hold))
		w.hold >>= 8
		w.held -= 8
	}
}

func (w *bitWriter) flush() {
	if w.held > 0 {
		w.bits(0, 8-w.held)
	}
}

// huffman writes a code, which goes most significant bit first (RFC 1951, 3.1.1).
func (w *bitWriter) huffman(code int, n uint) {
	w.bits(int(bits.Reverse16(uint16(code))>>(16-n)), n)
}

func (w *bitWriter) literal(s int) {
	switch {
	case s < 144:
		w.huffman(0x30+s, 8)
	case s < 256:
		w.huffman(0x190+s-144, 9)
	case s < 280:
		w.huffman(s-256, 7)
	default:
		w.huffman(0xc0+s-280, 8)
	}
}

func (w *bitWriter) match(n, distance int) {
	i := len(lengthBase) - 1
	for lengthBase[i] > n {
		i--
	}
	w.literal(257 + i)
	w.bits(n-lengthBase[i], lengthBits[i])
	i = len(distBase) - 1
	for distBase[i] > distance {
		i--
	}
	w.huffman(i, 5)
	w.bits(distance-distBase[i], distBits[i])
}
