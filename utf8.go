// utf8.go checks text for UTF-8 (RFC 3629, section 4), cut anywhere.

package wsd

import "encoding/binary"

// utf8State is the state between two bytes of a text: between characters, which is the zero value, or inside one. Its
// values are the bit positions of the states in the words of utf8Steps.
type utf8State uint8

const (
	utf8Accept  utf8State = utf8StateBits * iota
	utf8Need1             // one continuation byte
	utf8Need2             // two
	utf8Need3             // three
	utf8AfterE0           // two, the first of them A0 to BF: no overlong forms
	utf8AfterED           // two, the first of them 80 to 9F: no surrogates
	utf8AfterF0           // three, the first of them 90 to BF: no overlong forms
	utf8AfterF4           // three, the first of them 80 to 8F: nothing above U+10FFFF
	utf8Reject            // no further byte can make it valid

	utf8StateBits = 6
	utf8StateMask = 1<<utf8StateBits - 1
)

// utf8Steps has a word for each byte, which holds the next state for each state. So a step is a load, which does not
// depend on the previous step, and a shift, which does: what kind of characters a text has makes no difference.
var utf8Steps = func() (steps [256]uint64) {
	for b := range steps {
		for from := utf8Accept; from <= utf8Reject; from += utf8StateBits {
			steps[b] |= uint64(utf8Reject) << from
		}
	}
	for _, row := range []struct {
		first, last byte
		from, to    utf8State
	}{
		{0x00, 0x7F, utf8Accept, utf8Accept},
		{0xC2, 0xDF, utf8Accept, utf8Need1},
		{0xE0, 0xEF, utf8Accept, utf8Need2},
		{0xE0, 0xE0, utf8Accept, utf8AfterE0},
		{0xED, 0xED, utf8Accept, utf8AfterED},
		{0xF0, 0xF3, utf8Accept, utf8Need3},
		{0xF0, 0xF0, utf8Accept, utf8AfterF0},
		{0xF4, 0xF4, utf8Accept, utf8AfterF4},
		{0x80, 0xBF, utf8Need1, utf8Accept},
		{0x80, 0xBF, utf8Need2, utf8Need1},
		{0x80, 0xBF, utf8Need3, utf8Need2},
		{0xA0, 0xBF, utf8AfterE0, utf8Need1},
		{0x80, 0x9F, utf8AfterED, utf8Need1},
		{0x90, 0xBF, utf8AfterF0, utf8Need2},
		{0x80, 0x8F, utf8AfterF4, utf8Need2},
	} {
		for b := int(row.first); b <= int(row.last); b++ {
			steps[b] = steps[b]&^(utf8StateMask<<row.from) | uint64(row.to)<<row.from
		}
	}
	return steps
}()

// nonASCII has the bit set, in each of eight bytes, that ASCII leaves clear.
const nonASCII = 0x8080808080808080

// check continues through b. It rejects a byte that no UTF-8 text can have in that place, even if the character that
// contains it is not complete.
func (s utf8State) check(b []byte) utf8State {
	state, all := uint64(s), b
	if s == utf8Accept {
		for len(b) >= 64 {
			w := b[:64:64]
			if (binary.LittleEndian.Uint64(w)|binary.LittleEndian.Uint64(w[8:])|binary.LittleEndian.Uint64(w[16:])|
				binary.LittleEndian.Uint64(w[24:])|binary.LittleEndian.Uint64(w[32:])|binary.LittleEndian.Uint64(w[40:])|
				binary.LittleEndian.Uint64(w[48:])|binary.LittleEndian.Uint64(w[56:]))&nonASCII != 0 {
				break
			}
			b = b[64:]
		}
	}
	for len(b) >= 8 {
		w := b[:8:8]
		b = b[8:]
		if state == uint64(utf8Accept) && binary.LittleEndian.Uint64(w)&nonASCII == 0 {
			continue
		}
		// The mask costs nothing: the processor uses only these bits of a shift count anyway.
		state = utf8Steps[w[0]] >> (state & utf8StateMask)
		state = utf8Steps[w[1]] >> (state & utf8StateMask)
		state = utf8Steps[w[2]] >> (state & utf8StateMask)
		state = utf8Steps[w[3]] >> (state & utf8StateMask)
		state = utf8Steps[w[4]] >> (state & utf8StateMask)
		state = utf8Steps[w[5]] >> (state & utf8StateMask)
		state = utf8Steps[w[6]] >> (state & utf8StateMask)
		state = utf8Steps[w[7]] >> (state & utf8StateMask) & utf8StateMask
	}
	if state == uint64(utf8Accept) && len(all) >= 8 && binary.LittleEndian.Uint64(all[len(all)-8:])&nonASCII == 0 {
		return utf8Accept // what is left is among these eight bytes
	}
	for _, c := range b {
		state = utf8Steps[c] >> (state & utf8StateMask) & utf8StateMask
	}
	return utf8State(state)
}

// validUTF8 reports whether b is UTF-8 from its first byte to its last.
func validUTF8(b []byte) bool { return utf8Accept.check(b) == utf8Accept }
