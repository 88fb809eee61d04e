package wsd

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// ill-formed sequences by class (RFC 3629, section 3 and 4), each with the number of bytes after which it is known.
var illFormed = []struct {
	class string
	bytes string
	known int
}{
	{"a continuation byte alone", "\x80", 1},
	{"a continuation byte alone, the last", "\xBF", 1},
	{"overlong form of 2 bytes", "\xC0\xAF", 1},
	{"overlong form of 2 bytes, the last", "\xC1\xBF", 1},
	{"overlong form of 3 bytes", "\xE0\x80\xAF", 2},
	{"overlong form of 3 bytes, the last", "\xE0\x9F\xBF", 2},
	{"overlong form of 4 bytes", "\xF0\x80\x80\xAF", 2},
	{"overlong form of 4 bytes, the last", "\xF0\x8F\xBF\xBF", 2},
	{"a surrogate, the first", "\xED\xA0\x80", 2},
	{"a surrogate, the last", "\xED\xBF\xBF", 2},
	{"above U+10FFFF", "\xF4\x90\x80\x80", 2},
	{"a form of 4 bytes far above", "\xF5\x80\x80\x80", 1},
	{"a form of 5 bytes", "\xF8\x88\x80\x80\x80", 1},
	{"a form of 6 bytes", "\xFC\x84\x80\x80\x80\x80", 1},
	{"FE", "\xFE", 1},
	{"FF", "\xFF", 1},
	{"2 bytes, the second a letter", "\xC3a", 2},
	{"3 bytes, the second a letter", "\xE2a", 2},
	{"3 bytes, the third a letter", "\xE2\x82a", 3},
	{"4 bytes, the second a letter", "\xF1a", 2},
	{"4 bytes, the fourth a letter", "\xF1\x80\x80a", 4},
	{"4 bytes, the third a lead byte", "\xF1\x80\xC3\x80", 3},
}

func TestUTF8FailsAtTheFirstBadByte(t *testing.T) {
	for _, row := range illFormed {
		for _, before := range []string{"", "plain ", "κόσμε", "\U0010FFFF", "a long run of letters, more than eight bytes"} {
			whole := before + row.bytes
			bad := len(before) + row.known
			require.Equal(t, utf8Reject, utf8Accept.check([]byte(whole[:bad])), "%s after %q", row.class, before)
			require.NotEqual(t, utf8Reject, utf8Accept.check([]byte(whole[:bad-1])), "%s after %q", row.class, before)
			for cut := range bad {
				state := utf8Accept.check([]byte(whole[:cut]))
				require.NotEqual(t, utf8Reject, state)
				require.Equal(t, utf8Reject, state.check([]byte(whole[cut:bad])), "%s cut at %d", row.class, cut)
			}
		}
	}
	require.Equal(t, utf8Reject, utf8Reject.check([]byte("nothing mends it")))
	require.Equal(t, utf8Reject, utf8Reject.step('a'))
}

func TestUTF8TakesEveryCharacter(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if r >= 0xD800 && r <= 0xDFFF {
			continue
		}
		encoded := utf8.AppendRune(nil, r)
		state := utf8Accept
		for i, b := range encoded {
			state = state.check([]byte{b})
			if accepted := state == utf8Accept; accepted != (i == len(encoded)-1) || state == utf8Reject {
				t.Fatalf("%U: state %d after byte %d", r, state, i)
			}
		}
	}
}

func FuzzUTF8(f *testing.F) {
	for _, row := range illFormed {
		f.Add([]byte("before"+row.bytes+"after"), uint16(7))
	}
	f.Add([]byte("κόσμε \U0001F600"), uint16(3))
	f.Fuzz(func(t *testing.T, text []byte, size uint16) {
		state := utf8Accept
		for rest := text; len(rest) > 0; {
			n := min(len(rest), int(size)%16+1)
			state = state.check(rest[:n])
			rest = rest[n:]
		}
		require.Equal(t, utf8.Valid(text), state == utf8Accept)
		require.Equal(t, state, utf8Accept.check(text), "cuts make no difference")
	})
}

func TestMessageHelpers(t *testing.T) {
	require.Equal(t, Message{Type: TextMessage, Data: []byte("hi")}, Text("hi"))
	data := []byte{1, 2}
	binary := Binary(data)
	require.Same(t, &data[0], &binary.Data[0])
	require.Equal(t, BinaryMessage, binary.Type)
	type point struct{ X, Y int }
	m, err := JSON(point{1, 2})
	require.NoError(t, err)
	require.Equal(t, Text(`{"X":1,"Y":2}`), m)
	var p point
	require.NoError(t, m.Decode(&p))
	require.Equal(t, point{1, 2}, p)
	_, err = JSON(make(chan int))
	require.Error(t, err)
	require.Error(t, Text("{").Decode(&p))
}

func TestAssemblyGrowsWithWhatArrives(t *testing.T) {
	nobodyReleases(t)
	var a assembly
	a.reserve(100, 1<<62, true, 0)
	require.LessOrEqual(t, cap(a.data), minGrown)
	a.data = a.data[:100]
	copies := 0
	for len(a.data) < 8<<20 {
		before := cap(a.data)
		a.reserve(1000, 8<<20+500, true, 0)
		if cap(a.data) != before {
			copies++
		}
		a.data = a.data[:len(a.data)+1000]
		require.LessOrEqual(t, cap(a.data), max(growth*len(a.data), minGrown))
		require.LessOrEqual(t, cap(a.data), 8<<20+500)
	}
	require.Less(t, copies, 10)

	// A peer that has sent a megabyte before gets one at once.
	a = assembly{}
	a.reserve(100, 8<<20, true, 1<<20)
	require.Equal(t, 1<<20, cap(a.data))
	a = assembly{}
	a.reserve(100, 5000, true, 1<<20)
	require.Equal(t, 5000, cap(a.data))

	// In fragments, whose number is not known, copying must stay linear too.
	a, copies = assembly{}, 0
	for range 65536 {
		before := cap(a.data)
		a.reserve(64, uint64(len(a.data)+64), false, 0)
		if cap(a.data) != before {
			copies++
		}
		a.data = append(a.data, bytes.Repeat([]byte{1}, 64)...)
	}
	require.Less(t, copies, 25)
}
