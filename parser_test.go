package wsd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/wiretest"
)

// wire returns one frame as the given role sends it.
func wire(role Role, first byte, payload string) []byte {
	return wiretest.Frame(first, []byte(payload), role == ClientRole)
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// outcome is all that a parser finds in a stream, events as text.
type outcome struct {
	events []string
	err    string
}

// parseAll feeds stream to a parser for what role receives, cut by next, and checks what Parse promises of its counts.
func parseAll(t testing.TB, role Role, cfg Config, stream []byte, next func(left int) int) outcome {
	parser := NewParser(role, cfg)
	var out outcome
	for len(stream) > 0 {
		given := bytes.Clone(stream[:next(len(stream))])
		original, chunk := stream[:len(given)], given
		stream = stream[len(given):]
		for len(chunk) > 0 {
			event, n, err := parser.Parse(chunk)
			require.LessOrEqual(t, n, len(chunk))
			if err != nil {
				_, _, again := parser.Parse([]byte("more"))
				require.Equal(t, err, again, "an error is final")
				require.Zero(t, event)
				out.err = err.Error()
				return out
			}
			if event.Opcode == OpContinuation {
				require.Equal(t, len(chunk), n, "nothing is complete, so all must have been taken")
			} else {
				out.events = append(out.events, fmt.Sprintf("%v %d %q", event.Opcode, event.Code, event.Data))
			}
			chunk = chunk[n:]
		}
		require.Equal(t, original, given, "the bytes are only read")
	}
	return out
}

func whole(left int) int { return left }
func single(int) int     { return 1 }

// inTwo cuts once, behind so many bytes.
func inTwo(at int) func(left int) int {
	return func(left int) (n int) {
		n, at = min(at, left), left
		return n
	}
}

func TestParserEvents(t *testing.T) {
	c, s := ClientRole, ServerRole
	long := string(bytes.Repeat([]byte("0123456789"), 10000))
	for _, row := range []struct {
		name   string
		role   Role // the receiver
		stream []byte
		events []string
		err    string
	}{
		// RFC 6455, section 5.7
		{"unmasked text", c, []byte{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, []string{`text 0 "Hello"`}, ""},
		{"masked text", s, []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, []string{`text 0 "Hello"`}, ""},
		{"fragmented text", c, []byte{0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f}, []string{`text 0 "Hello"`}, ""},
		{"unmasked ping", c, []byte{0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, []string{`ping 0 "Hello"`}, ""},
		{"masked pong", s, []byte{0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, []string{`pong 0 "Hello"`}, ""},
		{"256 bytes", c, wire(s, 0x82, long[:256]), []string{fmt.Sprintf("binary 0 %q", long[:256])}, ""},
		{"64 KiB and more", s, wire(c, 0x82, long), []string{fmt.Sprintf("binary 0 %q", long)}, ""},
		{"empty messages", s, concat(wire(c, 0x81, ""), wire(c, 0x82, "")), []string{`text 0 ""`, `binary 0 ""`}, ""},
		// section 5.4
		{"control frames between fragments", s, concat(wire(c, 0x01, "a"), wire(c, 0x89, "p"), wire(c, 0x00, ""), wire(c, 0x8A, "q"), wire(c, 0x80, "b"), wire(c, 0x82, "c")),
			[]string{`ping 0 "p"`, `pong 0 "q"`, `text 0 "ab"`, `binary 0 "c"`}, ""},
		{"empty fragments", s, concat(wire(c, 0x02, ""), wire(c, 0x00, ""), wire(c, 0x80, "")), []string{`binary 0 ""`}, ""},
		{"a large one in fragments", s, concat(wire(c, 0x02, long), wire(c, 0x00, long), wire(c, 0x80, "end")), []string{fmt.Sprintf("binary 0 %q", long+long+"end")}, ""},
		{"a close frame inside a message", s, concat(wire(c, 0x01, "a"), wire(c, 0x88, "\x03\xE8bye")), []string{`close 1000 "bye"`}, ""},
		{"what follows a close frame", s, concat(wire(c, 0x88, ""), wire(c, 0x81, "never"), []byte{0xFF, 0xFF}), []string{`close 1005 ""`}, ""},
		// section 8.1
		{"a character cut by a frame border", s, concat(wire(c, 0x01, "\xE2\x82"), wire(c, 0x89, ""), wire(c, 0x80, "\xAC")), []string{`ping 0 ""`, `text 0 "€"`}, ""},
		{"a character cut by the end", s, concat(wire(c, 0x81, "ok"), wire(c, 0x81, "\xE2\x82")), []string{`text 0 "ok"`}, "not UTF-8"},
		{"a character cut by the last frame's end", s, concat(wire(c, 0x01, "\xE2"), wire(c, 0x80, "\x82")), nil, "not UTF-8"},
		{"a bad byte in a fragment", s, concat(wire(c, 0x01, "a\xC0")), nil, "not UTF-8"},
		{"bytes that no text can hold, as binary", s, wire(c, 0x82, "\xFF\xFE"), []string{`binary 0 "\xff\xfe"`}, ""},
		// section 5.5.1
		{"a close code that may not be sent", s, wire(c, 0x88, "\x03\xED"), nil, "1005"},
		{"a close reason that is not UTF-8", s, wire(c, 0x88, "\x03\xE8\xFF"), nil, "reason is not UTF-8"},
		{"a close reason that ends inside a character", s, wire(c, 0x88, "\x03\xE8\xE2\x82"), nil, "reason is not UTF-8"},
		// sections 5.1 to 5.5
		{"a violation behind good messages", s, concat(wire(c, 0x81, "good"), wire(c, 0x83, "bad"), wire(c, 0x81, "never")), []string{`text 0 "good"`}, "reserved opcode 0x3"},
		{"a message inside another", s, concat(wire(c, 0x01, "a"), wire(c, 0x81, "whole")), nil, "inside a fragmented message"},
		{"16 bits for a length of 5", s, []byte{0x81, 0xFE, 0, 5, 0, 0, 0, 0, 'H', 'e', 'l', 'l', 'o'}, nil, "5"},
		{"a length and a key that look like a header", s, []byte{0x82, 0x81, 0x80, 0, 0, 0, 0x80, 0x82, 0x82, 0, 0, 0, 0, 1, 2},
			[]string{`binary 0 "\x00"`, `binary 0 "\x01\x02"`}, ""},
		{"nothing to continue", s, concat(wire(c, 0x81, "a"), wire(c, 0x80, "b")), []string{`text 0 "a"`}, "no message to continue"},
		{"unmasked from a client", s, wire(s, 0x81, "a"), nil, "unmasked"},
		{"masked from a server", c, wire(c, 0x81, "a"), nil, "masked"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cuts := map[string]func(int) int{"whole": whole, "byte by byte": single}
			for at := 1; at < min(len(row.stream), 50); at++ {
				cuts[fmt.Sprintf("in two, behind %d bytes", at)] = inTwo(at)
			}
			for cut, next := range cuts {
				got := parseAll(t, row.role, Config{}, row.stream, next)
				require.Equal(t, row.events, got.events, cut)
				if row.err == "" {
					require.Empty(t, got.err, cut)
				} else {
					require.Contains(t, got.err, row.err, cut)
				}
			}
		})
	}
}

// RFC 6455, section 7.4.1: 1009. The limit itself passes; a byte more is refused by the header alone.
func TestParserMessageSize(t *testing.T) {
	const limit = 1000
	cfg := Config{MaxMessageSize: limit}
	message := string(make([]byte, limit+1))
	for name, row := range map[string]struct {
		frames []byte
		fits   bool
	}{
		"one frame, at the limit":       {wire(ClientRole, 0x82, message[:limit]), true},
		"one frame, over it":            {wire(ClientRole, 0x82, message)[:8], false},
		"fragments, at the limit":       {concat(wire(ClientRole, 0x02, message[:400]), wire(ClientRole, 0x80, message[:600])), true},
		"fragments, over it":            {concat(wire(ClientRole, 0x02, message[:400]), wire(ClientRole, 0x80, message[:601])[:8]), false},
		"the first of many, over it":    {wire(ClientRole, 0x02, message)[:8], false},
		"control frames count for none": {concat(wire(ClientRole, 0x02, message[:limit-1]), wire(ClientRole, 0x89, message[:125]), wire(ClientRole, 0x80, message[:1])), true},
		"again, behind one that fits":   {concat(wire(ClientRole, 0x82, message[:limit]), wire(ClientRole, 0x82, message[:limit])), true},
	} {
		for _, next := range []func(int) int{whole, single} {
			got := parseAll(t, ServerRole, cfg, row.frames, next)
			if row.fits {
				require.Empty(t, got.err, name)
				require.NotEmpty(t, got.events, name)
			} else {
				require.Contains(t, got.err, "1009", name)
			}
		}
	}
	got := parseAll(t, ServerRole, Config{MaxMessageSize: -1}, wire(ClientRole, 0x82, string(make([]byte, 1<<20))), whole)
	require.Len(t, got.events, 1)
}

func TestParserFragments(t *testing.T) {
	cfg := Config{MaxFragments: 3}
	first, more, last := wire(ClientRole, 0x02, ""), wire(ClientRole, 0x00, ""), wire(ClientRole, 0x80, "")
	require.Empty(t, parseAll(t, ServerRole, cfg, concat(first, more, last, first, more, last), single).err)
	require.Contains(t, parseAll(t, ServerRole, cfg, concat(first, more, more, last), single).err, "1008")
	ping := wire(ClientRole, 0x89, "")
	require.Empty(t, parseAll(t, ServerRole, cfg, concat(first, ping, ping, more, ping, ping, last), single).err)
}

// A connection's reader puts large payloads into place itself; the outcome must be the same.
func TestParserDirect(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte('a' + i%26)
	}
	for _, role := range []Role{ServerRole, ClientRole} {
		sender := ServerRole
		if role == ServerRole {
			sender = ClientRole
		}
		stream := concat(wire(sender, 0x81, string(big)), wire(sender, 0x89, "p"), wire(sender, 0x02, string(big[:100000])),
			wire(sender, 0x8A, "q"), wire(sender, 0x80, string(big[:5000])), wire(sender, 0x01, string(big[:200000])),
			wire(sender, 0x80, string(big[:300000])+"\xFF"+string(big[:100000])))
		want := parseAll(t, role, Config{}, stream, whole)
		require.Contains(t, want.err, "UTF-8")

		parser := NewParser(role, Config{})
		var got outcome
		record := func(event Event, err error) {
			if event.Opcode != OpContinuation {
				got.events = append(got.events, fmt.Sprintf("%v %d %q", event.Opcode, event.Code, event.Data))
			}
			if err != nil {
				got.err = err.Error()
			}
		}
		placed := 0
		for len(stream) > 0 && got.err == "" {
			if space := parser.direct(); space != nil {
				n := copy(space, stream[:min(len(stream), 1+random.IntN(100000))])
				placed += n
				stream = stream[n:]
				record(parser.filled(n))
				continue
			}
			chunk := stream[:min(len(stream), 1+random.IntN(10000))]
			stream = stream[len(chunk):]
			for len(chunk) > 0 && got.err == "" {
				event, n, err := parser.Parse(chunk)
				record(event, err)
				chunk = chunk[n:]
			}
		}
		require.Equal(t, want, got)
		require.Greater(t, placed, 3<<20)
	}
}

// Of a transport that takes frames as a whole, all that a header declares has come: there is a place for it at once.
func TestParserDirectOfWholeFrames(t *testing.T) {
	payload := strings.Repeat("a", 300<<10)
	for _, test := range []struct {
		name    string
		whole   bool
		payload string
		place   int
	}{
		{"long", true, payload, len(payload)},
		{"short", true, payload[:1000], 0},
		{"of others", false, payload, 0},
	} {
		parser := NewParser(ClientRole, Config{})
		parser.whole = test.whole
		frame := wire(ServerRole, 0x81, test.payload)
		header := frame[:len(frame)-len(test.payload)]
		event, n, err := parser.Parse(header)
		require.NoError(t, err)
		require.Equal(t, OpContinuation, event.Opcode)
		require.Equal(t, len(header), n)
		space := parser.direct()
		require.Len(t, space, test.place, test.name)
		if test.place > 0 {
			event, err = parser.filled(copy(space, test.payload))
		} else {
			event, _, err = parser.Parse(frame[len(header):])
		}
		require.NoError(t, err)
		require.Equal(t, OpText, event.Opcode)
		require.Equal(t, test.payload, string(event.Data))
	}
}

func TestParserExpectsLong(t *testing.T) {
	for _, test := range []struct {
		name   string
		sender Role
		frames [][2]int // opcode with FIN, length
		want   bool
	}{
		{"nothing yet", ServerRole, nil, false},
		{"long", ServerRole, [][2]int{{0x82, longFrame}}, true},
		{"fits a read", ServerRole, [][2]int{{0x82, longFrame - 1}}, false},
		{"masked", ClientRole, [][2]int{{0x82, longFrame}}, false},
		{"long fragment", ServerRole, [][2]int{{0x02, 1}, {0x00, longFrame}}, true},
		{"short one behind", ServerRole, [][2]int{{0x82, longFrame}, {0x82, 9}}, false},
		{"ping behind", ServerRole, [][2]int{{0x82, longFrame}, {0x89, 0}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			parser := NewParser(1-test.sender, Config{})
			for _, f := range test.frames {
				for b := wire(test.sender, byte(f[0]), string(make([]byte, f[1]))); len(b) > 0; {
					_, n, err := parser.Parse(b)
					require.NoError(t, err)
					b = b[n:]
				}
			}
			require.Equal(t, test.want, parser.expectsLong())
		})
	}
}

func TestParserAllocations(t *testing.T) {
	parser := NewParser(ServerRole, Config{})
	one := wire(ClientRole, 0x81, "a small message of some forty bytes or so")
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if _, _, err := parser.Parse(one); err != nil {
			t.Fatal(err)
		}
	}), 1.0, "a small message")

	many := bytes.Repeat(one, 80)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		for left := many; len(left) > 0; {
			_, n, err := parser.Parse(left)
			if err != nil {
				t.Fatal(err)
			}
			left = left[n:]
		}
	}), 2.0, "80 small messages in one read")
	require.Nil(t, parser.shared, "nothing of it is kept until more comes")

	control := concat(wire(ClientRole, 0x89, "ping"), wire(ClientRole, 0x8A, "pong"))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for left := control; len(left) > 0; {
			_, n, err := parser.Parse(left)
			if err != nil {
				t.Fatal(err)
			}
			left = left[n:]
		}
	}), "control frames")
}

// FuzzParser: a stream gives the same events and the same error however it is cut, and what is allocated is bounded by
// what arrives.
func FuzzParser(f *testing.F) {
	c := ClientRole
	f.Add(concat(wire(c, 0x01, "Hel"), wire(c, 0x89, "ping"), wire(c, 0x80, "lo"), wire(c, 0x88, "\x03\xE8bye")), uint64(1), false)
	f.Add(concat(wire(c, 0x82, string(make([]byte, 300))), wire(c, 0x81, "\xE2\x82")), uint64(2), false)
	f.Add(concat(wire(ServerRole, 0x81, "text"), []byte{0x82, 0x7F, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 1, 2, 3}), uint64(3), true)
	f.Add([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xED}, uint64(4), false)
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, client bool) {
		role := ServerRole
		if client {
			role = ClientRole
		}
		cfg := Config{MaxMessageSize: -1, MaxFragments: 50}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		want := parseAll(t, role, cfg, stream, whole)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20+64*len(stream)))
		require.Equal(t, want, parseAll(t, role, cfg, stream, single))
		random := rand.New(rand.NewPCG(seed, 0))
		require.Equal(t, want, parseAll(t, role, cfg, stream, func(left int) int { return 1 + random.IntN(min(left, 40)) }))
	})
}

func BenchmarkParser(b *testing.B) {
	for name, size := range map[string]int{"64B": 64, "1KiB": 1 << 10} {
		b.Run(name, func(b *testing.B) {
			stream := bytes.Repeat(wire(ClientRole, 0x82, string(make([]byte, size))), 64<<10/size)
			parser := NewParser(ServerRole, Config{})
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for left := stream; b.Loop(); {
				_, n, err := parser.Parse(left)
				if err != nil {
					b.Fatal(err)
				}
				if left = left[n:]; len(left) == 0 {
					left = stream
				}
			}
		})
	}
}
