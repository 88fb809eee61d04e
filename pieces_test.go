// pieces_test.go compares messages in parts with whole ones, however the bytes are cut.

package wsd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflatetest"
	"github.com/seed62836080/wsd/internal/textcheck"
)

// joined is what a parser found in a stream, with the parts of each message joined.
type joined struct {
	outcome
	open []byte // what came of a message of which the last part did not
}

// add records an event, and checks that parts come in their order.
func (j *joined) add(t testing.TB, event Event, above int) {
	inside := j.open != nil
	switch event.Part {
	case WholeMessage:
		if event.Opcode == OpText || event.Opcode == OpBinary {
			require.False(t, inside, "a message inside another")
			require.LessOrEqual(t, len(event.Data), above, "a message that should have come in parts")
		}
		if event.Opcode != OpContinuation {
			j.events = append(j.events, fmt.Sprintf("%v %d %q", event.Opcode, event.Code, event.Data))
		}
	case FirstPart:
		require.False(t, inside)
		require.Len(t, event.Data, above)
		j.open = bytes.Clone(event.Data)
	case MiddlePart:
		require.True(t, inside)
		require.NotEmpty(t, event.Data)
		j.open = append(j.open, event.Data...)
	case LastPart:
		require.True(t, inside)
		j.events = append(j.events, fmt.Sprintf("%v 0 %q", event.Opcode, append(j.open, event.Data...)))
		j.open = nil
	}
}

// parseParts feeds stream to a parser, cut by next. Payloads go straight to their place if direct says so.
func parseParts(t testing.TB, role Role, cfg Config, stream []byte, next func(left int) int, direct bool) joined {
	parser := NewParser(role, cfg)
	var found joined
	parse := func(b []byte) bool {
		for again := true; len(b) > 0 || again; {
			event, n, err := parser.Parse(b)
			if err != nil {
				require.Zero(t, event)
				found.err = err.Error()
				return false
			}
			b = b[n:]
			again = event.Part != WholeMessage
			found.add(t, event, int(cfg.StreamAbove))
		}
		return true
	}
	for len(stream) > 0 {
		chunk := stream[:next(len(stream))]
		if direct {
			if space := parser.direct(); space != nil {
				n := copy(space, chunk)
				stream = stream[n:]
				event, err := parser.filled(n)
				if err == nil {
					found.add(t, event, int(cfg.StreamAbove))
				}
				if err != nil {
					found.err = err.Error()
					return found
				}
				if !parse(nil) {
					return found
				}
				continue
			}
		}
		stream = stream[len(chunk):]
		if !parse(bytes.Clone(chunk)) {
			return found
		}
	}
	return found
}

// requireSameInParts checks that a stream means the same in parts as whole, however it is cut.
func requireSameInParts(t testing.TB, role Role, cfg Config, stream []byte, above int, seed uint64) {
	cfg.StreamAbove = 0
	want := parseAll(t, role, cfg, stream, whole)
	cfg.StreamAbove = int64(above)
	random := rand.New(rand.NewPCG(seed, 0))
	some := func(most int) func(int) int {
		return func(left int) int { return 1 + random.IntN(min(left, most)) }
	}
	var first joined
	for i, next := range []func(int) int{whole, single, some(40), some(10000)} {
		for _, direct := range []bool{false, true} {
			got := parseParts(t, role, cfg, stream, next, direct)
			if i == 0 && !direct {
				first = got
			}
			require.Equal(t, first, got, "it depends on the cuts: cut %d, direct %v", i, direct)
			if cfg.Compression != nil && got.err != "" {
				// What is wrong with a compressed message is found as soon as it comes, not when the message is complete.
				require.True(t, len(got.events) <= len(want.events) && slices.Equal(got.events, want.events[:len(got.events)]))
				continue
			}
			require.Equal(t, want, got.outcome, "cut %d, direct %v", i, direct)
		}
	}
}

func TestParserParts(t *testing.T) {
	const above = 10
	c := ClientRole
	cfg := Config{StreamAbove: above}
	digits := "0123456789"
	for _, row := range []struct {
		name   string
		stream []byte
		events []string // as they come if all is there at once
	}{
		{"exactly as long", wire(c, 0x82, digits), []string{`whole "0123456789"`}},
		{"a byte more", wire(c, 0x82, digits+"a"), []string{`first "0123456789"`, `last "a"`}},
		{"in frames, as long, and an empty last one", concat(wire(c, 0x02, digits), wire(c, 0x80, "")), []string{`whole "0123456789"`}},
		{"in frames, longer", concat(wire(c, 0x02, digits), wire(c, 0x00, "a"), wire(c, 0x80, "")), []string{`first "0123456789"`, `last "a"`}},
		{"many small frames come together", concat(wire(c, 0x02, digits), bytes.Repeat(wire(c, 0x00, "a"), 5), wire(c, 0x80, "z")),
			[]string{`first "0123456789"`, `last "aaaaaz"`}},
		{"a ping comes behind what came before it", concat(wire(c, 0x02, digits+"a"), wire(c, 0x89, ""), wire(c, 0x80, "b"), wire(c, 0x81, "c")),
			[]string{`first "0123456789"`, `middle "a"`, `ping`, `last "b"`, `whole "c"`}},
		{"a close frame comes behind what came before it", concat(wire(c, 0x02, digits+"a"), wire(c, 0x88, "")),
			[]string{`first "0123456789"`, `middle "a"`, `close`}},
		{"a violation comes behind what came before it", concat(wire(c, 0x02, digits+"a"), wire(c, 0x82, "b")),
			[]string{`first "0123456789"`, `middle "a"`, `1002`}},
		{"text that breaks off", concat(wire(c, 0x01, digits+"a\xE2"), wire(c, 0x80, "\x82")), []string{`first "0123456789"`, `middle "a\xe2\x82"`, `1007`}},
		{"text that goes wrong", concat(wire(c, 0x01, digits+"a\xE2\xFFabc")), []string{`first "0123456789"`, `middle "a\xe2"`, `1007`}},
		{"text that goes wrong before", concat(wire(c, 0x01, "01\xFF"+digits)), []string{`1007`}},
		{"a part that ends with what is there", wire(c, 0x82, digits+digits)[:6+15], []string{`first "0123456789"`, `middle "01234"`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			parser := NewParser(ServerRole, cfg)
			var got []string
			for b, again := row.stream, true; len(b) > 0 || again; {
				event, n, err := parser.Parse(b)
				b = b[n:]
				again = event.Part != WholeMessage
				switch {
				case err != nil:
					got = append(got, fmt.Sprint(uint16(err.(*ProtocolError).Code)))
					b, again = nil, false
				case event.Opcode.control():
					got = append(got, event.Opcode.String())
				case event.Opcode != OpContinuation:
					part := []string{"whole", "first", "middle", "last"}[event.Part]
					got = append(got, fmt.Sprintf("%s %q", part, event.Message().Data))
				}
			}
			require.Equal(t, row.events, got)
			requireSameInParts(t, ServerRole, Config{}, row.stream, above, 1)
		})
	}
}

// While a message comes in parts, frames do not count, but those in a row that bring nothing do.
func TestParserPartsFragments(t *testing.T) {
	cfg := Config{MaxFragments: 3, StreamAbove: 4}
	first, more, empty := wire(ClientRole, 0x02, "abcde"), wire(ClientRole, 0x00, "x"), wire(ClientRole, 0x00, "")
	last := wire(ClientRole, 0x80, "")
	parse := func(frames ...[]byte) string {
		return parseParts(t, ServerRole, cfg, concat(frames...), single, false).err
	}
	require.Empty(t, parse(first, bytes.Repeat(more, 100), last))
	require.Empty(t, parse(first, empty, empty, more, empty, empty, last), "the last one counts as well")
	require.Contains(t, parse(first, empty, empty, empty, empty), "1008")
	require.Empty(t, parse(wire(ClientRole, 0x02, "a"), empty, last))
	require.Contains(t, parse(wire(ClientRole, 0x02, "a"), empty, empty, empty), "1008", "nothing has come in parts yet")
}

// RFC 6455, section 7.4.1: the limit counts what has been passed on.
func TestParserPartsMessageSize(t *testing.T) {
	cfg := Config{MaxMessageSize: 100, StreamAbove: 10}
	data := strings.Repeat("x", 101)
	parse := func(frames ...[]byte) joined {
		return parseParts(t, ServerRole, cfg, concat(frames...), single, false)
	}
	require.Empty(t, parse(wire(ClientRole, 0x82, data[:100])).err)
	require.Empty(t, parse(wire(ClientRole, 0x02, data[:50]), wire(ClientRole, 0x80, data[:50])).err)
	got := parse(wire(ClientRole, 0x02, data[:50]), wire(ClientRole, 0x80, data[:51])[:8])
	require.Contains(t, got.err, "1009")
	require.Len(t, got.open, 50)
	require.Contains(t, parse(wire(ClientRole, 0x82, data)[:8]).err, "1009")
	cfg.MaxMessageSize = -1
	require.Empty(t, parse(wire(ClientRole, 0x82, strings.Repeat(data, 1000))).err)
}

// Parts hold no more than what comes at a time, and no more than mostPart.
func TestParserPartsGrowWithWhatComes(t *testing.T) {
	parser := NewParser(ServerRole, Config{StreamAbove: 1, MaxMessageSize: -1})
	largest := 0
	feed := func(b []byte) {
		for again := true; len(b) > 0 || again; {
			event, n, err := parser.Parse(b)
			require.NoError(t, err)
			b = b[n:]
			if again = event.Part != WholeMessage; again {
				largest = max(largest, cap(event.Data))
				require.LessOrEqual(t, len(event.Data), mostPart)
			}
		}
	}
	feed(wire(ClientRole, 0x02, "0123456789"))
	for range 1000 {
		feed(wire(ClientRole, 0x00, "0123456789"))
	}
	require.LessOrEqual(t, largest, leastPart)
	for range 100 {
		feed(wire(ClientRole, 0x00, string(make([]byte, 1<<20))))
	}
	require.Equal(t, 128<<10, largest)
	largest = 0
	for range 10 {
		feed(wire(ClientRole, 0x00, "0123456789"))
	}
	largest = 0
	feed(wire(ClientRole, 0x00, "0123456789"))
	require.LessOrEqual(t, largest, leastPart)
}

// What is read straight into parts comes in few of them, as their room grows with what comes, however the frames are cut.
func TestParserPartsGrowWithWhatIsRead(t *testing.T) {
	for _, role := range []Role{ServerRole, ClientRole} {
		for _, frame := range []int{20 << 10, mostPart, 1 << 20} {
			from := ClientRole
			if role == ClientRole {
				from = ServerRole
			}
			parser := NewParser(role, Config{StreamAbove: 1000, MaxMessageSize: -1})
			const size = 8 << 20
			stream := wire(from, 0x02, "")
			for range size / frame {
				stream = append(stream, wire(from, 0x00, string(make([]byte, frame)))...)
			}
			parts, reads := 0, 0
			take := func(event Event, err error) (again bool) {
				require.NoError(t, err)
				if event.Part != WholeMessage {
					parts++
				}
				return event.Part != WholeMessage
			}
			for len(stream) > 0 {
				reads++
				if space := parser.direct(); space != nil {
					n := copy(space, stream)
					stream = stream[n:]
					if take(parser.filled(n)) {
						event, _, err := parser.Parse(nil)
						require.False(t, take(event, err))
					}
					continue
				}
				n := 64 << 10 // as a connection reads ahead
				if parser.expectsLong() {
					n = 5 << 10
				}
				b := stream[:min(n, len(stream))]
				stream = stream[len(b):]
				for again := true; again || len(b) > 0; {
					event, n, err := parser.Parse(b)
					b = b[n:]
					again = take(event, err)
				}
			}
			require.LessOrEqual(t, reads, 4*size/mostPart, "frames of %d bytes", frame)
			require.LessOrEqual(t, parts, 4*size/mostPart, "frames of %d bytes", frame)
		}
	}
}

// FuzzParserParts: messages in parts are what they are whole, however the bytes are cut, and so is what ends them.
func FuzzParserParts(f *testing.F) {
	c := ClientRole
	long := string(bytes.Repeat([]byte("0123456789"), 3000))
	f.Add(concat(wire(c, 0x01, "Hel"), wire(c, 0x89, "ping"), wire(c, 0x80, "lo"), wire(c, 0x88, "\x03\xE8bye")), uint64(1), false, uint16(2))
	f.Add(concat(wire(c, 0x82, long), wire(c, 0x02, long), wire(c, 0x89, ""), wire(c, 0x80, long), wire(c, 0x81, "\xE2\x82")), uint64(2), false, uint16(500))
	f.Add(concat(wire(ServerRole, 0x01, "te"), wire(ServerRole, 0x00, "xt\xE2\x82"), wire(ServerRole, 0x80, "\xFF")), uint64(3), true, uint16(3))
	for _, kind := range deflatetest.Kinds {
		messages := deflatetest.Compress(f, 9, deflatetest.Sample(kind, 3000), deflatetest.Sample(kind, 40_000), deflatetest.Sample(kind, 10))
		opcode := OpBinary
		if textcheck.Valid(deflatetest.Sample(kind, 40_000)) {
			opcode = OpText
		}
		var frames []byte
		for _, m := range messages {
			frames = concat(frames, frameBytes(byte(opcode)|rsv1Bit, m[:len(m)/2], ServerRole), frameBytes(byte(OpPing)|finBit, nil, ServerRole),
				frameBytes(byte(OpContinuation)|finBit, m[len(m)/2:], ServerRole), frameBytes(byte(OpBinary)|rsv1Bit|finBit, m, ServerRole))
		}
		f.Add(frames, uint64(4), true, uint16(1000))
		f.Add(frames, uint64(5), true, uint16(0))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, client bool, above uint16) {
		role := ServerRole
		if client {
			role = ClientRole
		}
		cfg := Config{MaxMessageSize: -1, MaxFragments: -1}
		requireSameInParts(t, role, cfg, stream, int(above)+1, seed)
		cfg.Compression = &Compression{}
		requireSameInParts(t, role, cfg, stream, int(above)+1, seed)

		cfg.Compression, cfg.StreamAbove = nil, int64(above)+1
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		parseParts(t, role, cfg, stream, whole, false)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20+80*len(stream)))
	})
}
