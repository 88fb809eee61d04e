// Package inflate decodes DEFLATE (RFC 1951) from memory to memory, and never far past a limit: messages that a compressor
// flushed one by one, in the form that RFC 7692 gives them.
//
// It exists because of what it need not do: call a reader for each byte, copy a window in before a message, copy output
// out of a window, or make more than one pass however a sender cuts its blocks. All streams share its tables; a stream
// keeps nothing but its Window.
package inflate

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"sync"

	"github.com/seed62836080/wsd/internal/bufpool"
)

const (
	literalBits  = 10 // a literal or length code is first looked up by this many bits
	distanceBits = 8  // and a distance code by this many
	maxCodeBits  = 15 // RFC 1951, section 3.2.7

	maxLiterals  = 286 // codes for literals, the end of a block, and lengths
	maxDistances = 30
	endOfBlock   = 256
	longestMatch = 258 // bytes

	// Longer codes that share their first bits share a second table: there are no more of those than there are pairs of
	// codes, since no code stands alone at the end of a complete tree.
	literalTable  = 1<<literalBits + (maxLiterals+2)/2<<(maxCodeBits-literalBits)
	distanceTable = 1<<distanceBits + (maxDistances+2)/2<<(maxCodeBits-distanceBits)

	// outSlack is how much room, in bytes, there is after the output while a match is copied: for the match itself and
	// for what copying by words writes past it.
	outSlack = longestMatch + 8

	// keptOutput is the size in bytes of the output buffer that is kept with the tables. Longer messages get their own.
	keptOutput = 64 << 10
)

// Tail ends the compressed form of each message and is not sent (RFC 7692, section 7.2.1): the length of an empty stored
// block.
const Tail = "\x00\x00\xff\xff"

// ErrTooLong is the error for a message that inflates to more than its limit.
var ErrTooLong = errors.New("inflate: the message is longer than the limit")

// CorruptError is the error for what is not DEFLATE. It says why, in words that continue "is not DEFLATE: ".
type CorruptError string

// Error returns what is wrong with the message.
func (e CorruptError) Error() string { return "inflate: the message is not DEFLATE: " + string(e) }

const (
	errTruncated CorruptError = "it ends inside a block"
	errNoCode    CorruptError = "bits that are no code"
	errNoTree    CorruptError = "code lengths that make no tree"
	errTooFar    CorruptError = "distance that reaches beyond the window"

	errBlockType    CorruptError = "block of the reserved type"
	errStoredLength CorruptError = "stored block whose length and its complement differ"
)

// An entry of a table is, from the low bits up: 4 bits for how many bits of input it takes, 4 for its kind, 8 for how
// many extra bits follow or for the width of the second table, and 16 for a literal, a base, or the second table's place.
const (
	entryTakes   = 0x0F
	entryLiteral = 0x10
	entryEnd     = 0x20
	entrySecond  = 0x40
)

func tableEntry(kind uint32, extra, value int) uint32 {
	return kind | uint32(extra)<<8 | uint32(value)<<16
}

// literalEntries and distanceEntries are what the codes stand for, without their widths; 0 stands for nothing (RFC 1951,
// section 3.2.5).
var literalEntries, distanceEntries = func() (literals [maxLiterals + 2]uint32, distances [maxDistances + 2]uint32) {
	for i := range endOfBlock {
		literals[i] = tableEntry(entryLiteral, 0, i)
	}
	literals[endOfBlock] = tableEntry(entryEnd, 0, 0)
	length := 3
	for i := range 28 {
		extra := max(0, i/4-1)
		literals[endOfBlock+1+i] = tableEntry(0, extra, length)
		length += 1 << extra
	}
	literals[maxLiterals-1] = tableEntry(0, 0, longestMatch)
	distance := 1
	for i := range maxDistances {
		extra := max(0, i/2-1)
		distances[i] = tableEntry(0, extra, distance)
		distance += 1 << extra
	}
	return literals, distances
}()

// huffman is a table that codes are looked up in.
type huffman struct {
	entries []uint32
	width   uint // the first part of the table is indexed by this many bits
}

// countLengths returns how many codes there are of each length.
func countLengths(lengths []uint8) (count [maxCodeBits + 1]int) {
	// Neighbours are counted separately: most lengths are equal, and adding to one count waits for the previous addition.
	var counts [4][maxCodeBits + 1]uint16
	rest := lengths
	for ; len(rest) >= 4; rest = rest[4:] {
		counts[0][rest[0]&maxCodeBits]++
		counts[1][rest[1]&maxCodeBits]++
		counts[2][rest[2]&maxCodeBits]++
		counts[3][rest[3]&maxCodeBits]++
	}
	for _, n := range rest {
		counts[0][n]++
	}
	for n := 1; n <= maxCodeBits; n++ {
		count[n] = int(counts[0][n] + counts[1][n] + counts[2][n] + counts[3][n])
	}
	return count
}

// build makes the table for codes of the given lengths, 0 for none, that stand for entries. It reports false for a set
// of lengths that is no tree: over-subscribed, or incomplete other than by having a single code of one bit.
func (h *huffman) build(lengths []uint8, meaning []uint32, width uint) bool {
	count := countLengths(lengths)
	longest := maxCodeBits
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	width = min(width, uint(longest))
	h.width = width
	first := h.entries[:1<<width]
	if longest == 0 {
		first[0] = 0
		return true // allowed for distances: a block of literals alone
	}
	var next [maxCodeBits + 1]int
	code := 0
	for n := 1; n <= longest; n++ {
		code = (code + count[n-1]) << 1
		next[n] = code
	}
	if total := code + count[longest]; total != 1<<longest {
		if longest != 1 || total != 1 {
			return false
		}
		clear(first)
	}
	second := uint(longest) - width
	if second > 0 {
		clear(first) // so that a place without a second table yet can be recognized
	}
	free := 1 << width
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		entry := meaning[symbol]
		reversed := uint(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		if uint(n) <= width {
			if entry != 0 {
				entry |= uint32(n)
			}
			for i := reversed; i < uint(len(first)); i += 1 << n {
				first[i] = entry
			}
			continue
		}
		at := reversed & (1<<width - 1)
		if first[at] == 0 {
			first[at] = tableEntry(entrySecond, int(second), free) | uint32(width)
			clear(h.entries[free : free+1<<second])
			free += 1 << second
		}
		if entry != 0 {
			entry |= uint32(n) - uint32(width)
		}
		table := h.entries[first[at]>>16:][:1<<second]
		for i := reversed >> width; i < uint(len(table)); i += 1 << (uint(n) - width) {
			table[i] = entry
		}
	}
	return true
}

// fixedLiterals and fixedDistances are the tables for blocks that bring none of their own (RFC 1951, section 3.2.6).
var fixedLiterals, fixedDistances = sync.OnceValue(func() *huffman {
	var lengths [maxLiterals + 2]uint8
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
	h := &huffman{entries: make([]uint32, 1<<9)}
	h.build(lengths[:], literalEntries[:], literalBits)
	return h
}), sync.OnceValue(func() *huffman {
	var lengths [maxDistances + 2]uint8
	for i := range lengths {
		lengths[i] = 5
	}
	h := &huffman{entries: make([]uint32, 1<<5)}
	h.build(lengths[:], distanceEntries[:], distanceBits)
	return h
})

// decoder is the state for decoding one message.
type decoder struct {
	in   []byte // the message as it came
	next int    // the next byte to take from it, or from tail behind it
	tail string // Tail, or nothing if more of the message may come
	buf  uint64 // bits taken but not yet used, the next one lowest
	have uint   // how many bits buf holds

	out   []byte // output so far is out[:n]; all of out may be written
	n     int
	limit uint64

	history     *Window // what came before the message, nil if there is none
	maxDistance int     // in bytes

	literals, distances huffman
	literalSpace        [literalTable]uint32
	distanceSpace       [distanceTable]uint32
	lengths             [maxLiterals + maxDistances]uint8
	outSpace            [keptOutput]byte
}

var decoders = sync.Pool{New: func() any {
	d := new(decoder)
	d.literals.entries, d.distances.entries = d.literalSpace[:], d.distanceSpace[:]
	return d
}}

// Message decodes a message that Tail was cut from, into a slice that the caller owns, which is memory given away by
// bufpool. Distances may reach back maxDistance bytes, into history if that is not nil. The error is ErrTooLong once there
// are more than limit bytes, whatever follows, or a CorruptError.
func Message(in []byte, limit uint64, history *Window, maxDistance int) ([]byte, error) {
	d := decoders.Get().(*decoder)
	d.in, d.next, d.buf, d.have, d.tail = in, 0, 0, 0, Tail
	d.out, d.n, d.limit = d.outSpace[:], 0, limit
	d.history, d.maxDistance = history, maxDistance
	err := d.message()
	var data []byte
	if err == nil {
		data = d.result()
	}
	d.dropOut()
	d.in, d.history = nil, nil
	decoders.Put(d)
	return data, err
}

// result returns the output in a slice with little spare capacity.
func (d *decoder) result() []byte {
	if spare := len(d.out) - d.n; &d.out[0] != &d.outSpace[0] && spare <= d.n/8 {
		data := d.out[:d.n]
		d.out = nil
		return data
	}
	data := bufpool.Give(d.n)[:d.n]
	copy(data, d.out)
	return data
}

// dropOut releases the output.
func (d *decoder) dropOut() {
	if len(d.out) > 0 && &d.out[0] != &d.outSpace[0] {
		bufpool.Put(d.out)
	}
	d.out = nil
}

// message decodes blocks to the end of the input.
func (d *decoder) message() error {
	total := len(d.in) + len(Tail)
	for {
		d.refill()
		if d.have == 0 && d.next == total {
			return nil
		}
		if d.have < 3 {
			return errTruncated
		}
		final, kind := d.buf&1 != 0, d.buf>>1&3
		d.take(3)
		var err error
		switch kind {
		case 0:
			err = d.stored()
		case 1:
			err = d.compressed(fixedLiterals(), fixedDistances())
		case 2:
			if err = d.readTables(); err == nil {
				err = d.compressed(&d.literals, &d.distances)
			}
		default:
			err = errBlockType
		}
		if err != nil {
			return err
		}
		if uint64(d.n) > d.limit {
			return ErrTooLong
		}
		if final {
			// A sender may flush with final blocks (RFC 7692, section 7.2.3.4). What follows one begins with a new byte,
			// and is another block of the message. If nothing follows, the sender left out the byte that would make the
			// tail a block, and its message is complete all the same.
			d.take(d.have & 7)
			if d.next-int(d.have>>3) >= len(d.in) {
				return nil
			}
		}
	}
}

// refill takes whole bytes of input until there are at least 56 bits, or no more input.
func (d *decoder) refill() {
	if len(d.in)-d.next >= 8 {
		// Bytes that do not fit completely are read again, to the same place, by the next refill.
		d.buf |= binary.LittleEndian.Uint64(d.in[d.next:]) << d.have
		d.next += int(63-d.have) >> 3
		d.have |= 56
		return
	}
	d.refillSlowly()
}

func (d *decoder) refillSlowly() {
	for d.have < 56 {
		var b byte
		switch at := d.next - len(d.in); {
		case at < 0:
			b = d.in[d.next]
		case at < len(d.tail):
			b = d.tail[at]
		default:
			return
		}
		d.buf |= uint64(b) << d.have
		d.have += 8
		d.next++
	}
}

// take drops n bits, which must be there.
func (d *decoder) take(n uint) {
	d.buf >>= n
	d.have -= n
}

// stored copies a block without compression (RFC 1951, section 3.2.4).
func (d *decoder) stored() error {
	d.take(d.have & 7)
	d.refill()
	if d.have < 32 {
		return errTruncated
	}
	size, check := int(d.buf&0xFFFF), int(d.buf>>16&0xFFFF)
	d.take(32)
	if size != check^0xFFFF {
		return errStoredLength
	}
	d.next -= int(d.have >> 3)
	d.buf, d.have = 0, 0
	if err := d.room(size); err != nil {
		return err
	}
	if d.next < len(d.in) {
		n := copy(d.out[d.n:d.n+size], d.in[d.next:])
		d.n, d.next, size = d.n+n, d.next+n, size-n
	}
	if size > 0 {
		// A block that was cut with the tail has the tail's bytes as its last ones.
		n := copy(d.out[d.n:d.n+size], Tail[d.next-len(d.in):])
		d.n, d.next, size = d.n+n, d.next+n, size-n
	}
	if size > 0 {
		return errTruncated
	}
	return nil
}

// room makes room in the output for n more bytes, and for what copying by words writes after them. It returns an error if
// that many would exceed the limit.
func (d *decoder) room(n int) error {
	if uint64(d.n)+uint64(n) > d.limit {
		return ErrTooLong
	}
	d.grow(n + outSlack)
	return nil
}

// grow ensures that out has n writable bytes after the output.
func (d *decoder) grow(n int) {
	if len(d.out)-d.n >= n {
		return
	}
	// The rest of the message is expected to inflate like the part that is done, but the allocation for that is never
	// more than four times the output so far.
	done := uint64(max(1, min(d.next, len(d.in))))
	size := uint64(d.n) * uint64(len(d.in)) / done
	size = min(size+size/16, 4*uint64(d.n), d.limit) + outSlack
	size = max(size, uint64(d.n)+uint64(n))
	out := bufpool.Give(int(size))
	out = out[:cap(out)]
	copy(out, d.out[:d.n])
	d.dropOut()
	d.out = out
}

// codeOrder is the order of the lengths of the codes for code lengths (RFC 1951, section 3.2.7).
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// lengthEntries is what the codes for code lengths stand for: themselves.
var lengthEntries = func() (entries [len(codeOrder)]uint32) {
	for i := range entries {
		entries[i] = tableEntry(entryLiteral, 0, i)
	}
	return entries
}()

// readTables reads the codes of a block that brings its own (RFC 1951, section 3.2.7).
func (d *decoder) readTables() error {
	d.refill()
	if d.have < 14 {
		return errTruncated
	}
	literals, distances, codes := int(d.buf&31)+257, int(d.buf>>5&31)+1, int(d.buf>>10&15)+4
	d.take(14)
	if literals > maxLiterals || distances > maxDistances {
		return CorruptError("block with too many codes")
	}
	var lengths [len(codeOrder)]uint8
	for _, symbol := range codeOrder[:codes] {
		if d.have < 3 {
			if d.refill(); d.have < 3 {
				return errTruncated
			}
		}
		lengths[symbol] = uint8(d.buf & 7)
		d.take(3)
	}
	// The distances' table is not in use yet.
	table := huffman{entries: d.distanceSpace[:]}
	if !table.build(lengths[:], lengthEntries[:], 7) {
		return errNoTree
	}
	all := d.lengths[:literals+distances]
	for i := 0; i < len(all); {
		d.refill()
		entry := table.entries[d.buf&(1<<table.width-1)]
		n := uint(entry & entryTakes)
		symbol := entry >> 16
		if entry == 0 {
			return errNoCode
		}
		var extra uint
		repeat, value := 1, uint8(symbol)
		switch symbol {
		case 16:
			if i == 0 {
				return CorruptError("repetition of a code length with none before it")
			}
			repeat, extra, value = 3, 2, all[i-1]
		case 17:
			repeat, extra, value = 3, 3, 0
		case 18:
			repeat, extra, value = 11, 7, 0
		}
		if d.have < n+extra {
			return errTruncated
		}
		repeat += int(d.buf >> n & (1<<extra - 1))
		d.take(n + extra)
		if repeat > len(all)-i {
			return CorruptError("more code lengths than codes")
		}
		for range repeat {
			all[i] = value
			i++
		}
	}
	if all[endOfBlock] == 0 {
		return CorruptError("block without a code for its end")
	}
	if !d.literals.build(all[:literals], literalEntries[:], literalBits) ||
		!d.distances.build(all[literals:], distanceEntries[:], distanceBits) {
		return errNoTree
	}
	return nil
}

// compressed decodes the codes of a block (RFC 1951, section 3.2.3).
func (d *decoder) compressed(literals, distances *huffman) error {
	// The fields are copied to local variables: nothing here may wait for memory.
	in, next, buf, have := d.in, d.next, d.buf, d.have
	out, n := d.out, d.n
	literalMask, distanceMask := uint64(1)<<literals.width-1, uint64(1)<<distances.width-1
	literalEntries, distanceEntries := literals.entries, distances.entries
	for {
		if have < 48 { // the most that the codes of a match can take, with their extra bits
			if len(in)-next >= 8 {
				buf |= binary.LittleEndian.Uint64(in[next:]) << have
				next += int(63-have) >> 3
				have |= 56
			} else {
				d.next, d.buf, d.have = next, buf, have
				d.refillSlowly()
				next, buf, have = d.next, d.buf, d.have
			}
		}
		if len(out)-n < outSlack {
			if uint64(n) > d.limit {
				d.next, d.buf, d.have = next, buf, have // a stream goes on from here
				return d.stop(n, ErrTooLong)
			}
			d.n, d.next = n, next
			d.grow(outSlack)
			out = d.out
		}
		entry := literalEntries[buf&literalMask]
		takes := uint(entry & entryTakes)
		if entry&entrySecond != 0 {
			entry = inSecond(literalEntries, entry, buf)
			takes += uint(entry & entryTakes)
		}
		if have < takes || entry&entryTakes == 0 {
			return d.stop(n, wrongCode(have < takes))
		}
		buf, have = buf>>takes, have-takes
		if entry&entryLiteral != 0 {
			out[n] = byte(entry >> 16)
			n++
			continue
		}
		if entry&entryEnd != 0 {
			d.next, d.buf, d.have, d.n = next, buf, have, n
			return nil
		}
		extra := uint(entry >> 8 & 0xFF)
		if have < extra {
			return d.stop(n, errTruncated)
		}
		length := int(entry>>16) + int(buf&(1<<extra-1))
		buf, have = buf>>extra, have-extra

		entry = distanceEntries[buf&distanceMask]
		takes = uint(entry & entryTakes)
		if entry&entrySecond != 0 {
			entry = inSecond(distanceEntries, entry, buf)
			takes += uint(entry & entryTakes)
		}
		extra = uint(entry >> 8 & 0xFF)
		if have < takes+extra || entry&entryTakes == 0 {
			return d.stop(n, wrongCode(have < takes+extra))
		}
		distance := int(entry>>16) + int(buf>>takes&(1<<extra-1))
		buf, have = buf>>(takes+extra), have-takes-extra
		if !d.copyMatch(out, n, distance, length) {
			return d.stop(n, errTooFar)
		}
		n += length
	}
}

// stop keeps the output so far, and returns err. d still has the bits from where the present code began if there were too few
// to be sure of it: they were taken for that code.
func (d *decoder) stop(n int, err error) error {
	d.n = n
	return err
}

// inSecond looks up a code whose first bits, at the beginning of buf, lead to a second table.
func inSecond(entries []uint32, first uint32, buf uint64) uint32 {
	return entries[uint64(first>>16)+buf>>(first&entryTakes)&(1<<(first>>8&0xFF)-1)]
}

// wrongCode is the error for bits that are no code, perhaps because there are too few of them.
func wrongCode(truncated bool) error {
	if truncated {
		return errTruncated
	}
	return errNoCode
}

// copyMatch appends length bytes to the n bytes in out, from distance bytes before. It reports false if nothing is that far
// back.
func (d *decoder) copyMatch(out []byte, n, distance, length int) bool {
	if distance > d.maxDistance {
		return false
	}
	if distance > n {
		back := distance - n
		if d.history == nil || back > len(d.history.data) {
			return false
		}
		copied := d.history.copyFrom(back, out[n:n+length])
		n += copied
		if length -= copied; length == 0 {
			return true
		}
		// The match continues at the start of the message.
	}
	from := n - distance
	switch {
	case distance == 1:
		// By words, which writes up to 7 bytes too many: there is room for them, and they are overwritten.
		run := uint64(out[from]) * 0x0101010101010101
		for i := 0; i < length; i += 8 {
			binary.LittleEndian.PutUint64(out[n+i:], run)
		}
	case length >= 64:
		// Each copy doubles what repeats. Copying by words would wait for the words written just before.
		for end := n + length; n < end; {
			n += copy(out[n:end], out[from:n])
		}
	case distance >= 8:
		for i := 0; i < length; i += 8 {
			binary.LittleEndian.PutUint64(out[n+i:], binary.LittleEndian.Uint64(out[from+i:]))
		}
	default:
		for i := range length {
			out[n+i] = out[from+i]
		}
	}
	return true
}
