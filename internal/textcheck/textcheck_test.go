package textcheck

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
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
			require.Equal(t, Reject, Accept.Check([]byte(whole[:bad])), "%s after %q", row.class, before)
			require.NotEqual(t, Reject, Accept.Check([]byte(whole[:bad-1])), "%s after %q", row.class, before)
			for cut := range bad {
				state := Accept.Check([]byte(whole[:cut]))
				require.NotEqual(t, Reject, state)
				require.Equal(t, Reject, state.Check([]byte(whole[cut:bad])), "%s cut at %d", row.class, cut)
			}
		}
	}
	require.Equal(t, Reject, Reject.Check([]byte("nothing mends it")))
	require.Equal(t, Reject, Reject.Check([]byte("a")))
}

func TestUTF8TakesEveryCharacter(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if r >= 0xD800 && r <= 0xDFFF {
			continue
		}
		encoded := utf8.AppendRune(nil, r)
		state := Accept
		for i, b := range encoded {
			state = state.Check([]byte{b})
			if accepted := state == Accept; accepted != (i == len(encoded)-1) || state == Reject {
				t.Fatalf("%U: state %d after byte %d", r, state, i)
			}
		}
	}
}

// Wherever a byte of a text is changed, and however long the text and whatever its characters, the standard library
// agrees.
func TestUTF8AsTheStandardLibraryHasIt(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, alphabet := range []string{"plain text", "Grüße, mostly plain", "Привет", "你好", "\U0001F600\U0010FFFF", "aé漢\U0001F600"} {
		characters := []rune(alphabet)
		for range 300 {
			var text []byte
			for range random.IntN(150) {
				text = utf8.AppendRune(text, characters[random.IntN(len(characters))])
			}
			require.True(t, Valid(text), "%q", text)
			require.Equal(t, utf8.Valid(text[:len(text)/2]), Valid(text[:len(text)/2]), "%q", text[:len(text)/2])
			for i, was := range text {
				text[i] = byte(random.Uint32())
				require.Equal(t, utf8.Valid(text), Valid(text), "%q", text)
				text[i] = was
			}
		}
	}
}

func BenchmarkUTF8(b *testing.B) {
	for _, row := range []struct{ name, characters string }{
		{"ASCII", "{\"id\":123456,\"ok\":true},"},
		{"Latin", "{\"name\":\"Grüße\",\"ok\":true},"},
		{"Cyrillic", "Привет мир, как дела? "},
		{"Chinese", "你好世界今天天气"},
	} {
		for _, size := range []int{64, 1 << 10, 64 << 10} {
			text := []byte(strings.Repeat(row.characters, size/len(row.characters)+1))
			text = bytes.ToValidUTF8(text[:size], []byte("~"))
			b.Run(fmt.Sprintf("%s/%dB", row.name, size), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if !Valid(text) {
						b.Fatal("valid text was refused")
					}
				}
			})
		}
	}
}

func FuzzUTF8(f *testing.F) {
	for _, row := range illFormed {
		f.Add([]byte("before"+row.bytes+"after"), uint16(7))
	}
	f.Add([]byte("κόσμε \U0001F600"), uint16(3))
	f.Fuzz(func(t *testing.T, text []byte, size uint16) {
		state := Accept
		for rest := text; len(rest) > 0; {
			n := min(len(rest), int(size)%16+1)
			state = state.Check(rest[:n])
			rest = rest[n:]
		}
		require.Equal(t, utf8.Valid(text), state == Accept)
		require.Equal(t, state, Accept.Check(text), "cuts make no difference")
	})
}
