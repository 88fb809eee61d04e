// Package textcheck checks text for UTF-8 (RFC 3629, section 4), cut anywhere: the standard library's unicode/utf8, whose
// name it leaves alone, wants a text whole.
package textcheck

import "encoding/binary"

// State is the state between two bytes of a text: between characters, which is the zero value, or inside one. Its
// values are the bit positions of the states in the words of steps.
type State uint8

// Accept is the state between characters, and Reject the one after a byte that no UTF-8 text can have there.
const (
	Accept  State = stateBits * iota
	need1         // one continuation byte
	need2         // two
	need3         // three
	afterE0       // two, the first of them A0 to BF: no overlong forms
	afterED       // two, the first of them 80 to 9F: no surrogates
	afterF0       // three, the first of them 90 to BF: no overlong forms
	afterF4       // three, the first of them 80 to 8F: nothing above U+10FFFF
	Reject        // no further byte can make it valid

	stateBits = 6
	stateMask = 1<<stateBits - 1
)

// steps has a word for each byte, which holds the next state for each state. So a step is a load, which does not
// depend on the previous step, and a shift, which does: what kind of characters a text has makes no difference.
var steps = func() (steps [256]uint64) {
	for b := range steps {
		for from := Accept; from <= Reject; from += stateBits {
			steps[b] |= uint64(Reject) << from
		}
	}
	for _, row := range []struct {
		first, last byte
		from, to    State
	}{
		{0x00, 0x7F, Accept, Accept},
		{0xC2, 0xDF, Accept, need1},
		{0xE0, 0xEF, Accept, need2},
		{0xE0, 0xE0, Accept, afterE0},
		{0xED, 0xED, Accept, afterED},
		{0xF0, 0xF3, Accept, need3},
		{0xF0, 0xF0, Accept, afterF0},
		{0xF4, 0xF4, Accept, afterF4},
		{0x80, 0xBF, need1, Accept},
		{0x80, 0xBF, need2, need1},
		{0x80, 0xBF, need3, need2},
		{0xA0, 0xBF, afterE0, need1},
		{0x80, 0x9F, afterED, need1},
		{0x90, 0xBF, afterF0, need2},
		{0x80, 0x8F, afterF4, need2},
	} {
		for b := int(row.first); b <= int(row.last); b++ {
			steps[b] = steps[b]&^(stateMask<<row.from) | uint64(row.to)<<row.from
		}
	}
	return steps
}()

// nonASCII has the bit set, in each of eight bytes, that ASCII leaves clear.
const nonASCII = 0x8080808080808080

// Check continues through b. It rejects a byte that no UTF-8 text can have in that place, even if the character that
// contains it is not complete.
func (s State) Check(b []byte) State {
	state, all := uint64(s), b
	if s == Accept {
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
		if state == uint64(Accept) && binary.LittleEndian.Uint64(w)&nonASCII == 0 {
			continue
		}
		// The mask costs nothing: the processor uses only these bits of a shift count anyway.
		state = steps[w[0]] >> (state & stateMask)
		state = steps[w[1]] >> (state & stateMask)
		state = steps[w[2]] >> (state & stateMask)
		state = steps[w[3]] >> (state & stateMask)
		state = steps[w[4]] >> (state & stateMask)
		state = steps[w[5]] >> (state & stateMask)
		state = steps[w[6]] >> (state & stateMask)
		state = steps[w[7]] >> (state & stateMask) & stateMask
	}
	if state == uint64(Accept) && len(all) >= 8 && binary.LittleEndian.Uint64(all[len(all)-8:])&nonASCII == 0 {
		return Accept // what is left is among these eight bytes
	}
	for _, c := range b {
		state = steps[c] >> (state & stateMask) & stateMask
	}
	return State(state)
}

// Accepted returns how many bytes of b come before the one that Check rejects.
func (s State) Accepted(b []byte) int {
	for i := range b {
		if s = s.Check(b[i : i+1]); s == Reject {
			return i
		}
	}
	return len(b)
}

// Valid reports whether b is UTF-8 from its first byte to its last.
func Valid(b []byte) bool { return Accept.Check(b) == Accept }
