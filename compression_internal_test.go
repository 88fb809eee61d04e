// compression_internal_test.go tests permessage-deflate against RFC 7692, with the standard library's DEFLATE as the peer.

package wsd

import (
	"bytes"
	"compress/flate"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflate"
	"github.com/seed62836080/wsd/internal/deflatetest"
	"github.com/seed62836080/wsd/internal/frame"
	"github.com/seed62836080/wsd/internal/inflate"
	"github.com/seed62836080/wsd/internal/mask"
)

const noLimit = uint64(unlimited)

func requireCode(t testing.TB, err error, code StatusCode) {
	t.Helper()
	var violated *ProtocolError
	require.ErrorAs(t, err, &violated)
	require.Equal(t, code, violated.Code, "%v", err)
}

// frameBytes is one frame as a server sends it, or a client's with a masking key.
func frameBytes(first byte, payload []byte, role Role) []byte {
	masked := role == ClientRole
	const key = 0x6A5B4C3D
	b := frame.AppendHeader(nil, first, len(payload), masked, key)
	at := len(b)
	b = append(b, payload...)
	if masked {
		mask.XOR(b[at:], b[at:], key)
	}
	return b
}

// feed gives b to a parser, cut into pieces of the given size, and returns the messages it finds and the error that
// ends it.
func feed(p *Parser, b []byte, piece int) (messages []Message, err error) {
	for len(b) > 0 {
		part := b[:min(piece, len(b))]
		b = b[len(part):]
		for len(part) > 0 {
			event, n, err := p.Parse(part)
			if err != nil {
				return messages, err
			}
			if event.Opcode == OpText || event.Opcode == OpBinary {
				messages = append(messages, event.Message())
			}
			part = part[n:]
		}
	}
	return messages, nil
}

func texts(messages []Message) []string {
	all := []string{}
	for _, m := range messages {
		all = append(all, string(m.Data))
	}
	return all
}

func TestDeflateExamplesOfTheRFC(t *testing.T) {
	for _, test := range []struct {
		section, name, wire string
		expected            []string
	}{
		{"7.2.3.1", "one block", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", []string{"Hello"}},
		{"7.2.3.1", "two frames", "\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", []string{"Hello"}},
		{"7.2.3.2", "without takeover", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", []string{"Hello", "Hello"}},
		{"7.2.3.2", "with takeover", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00", []string{"Hello", "Hello"}},
		{"7.2.3.3", "a block without compression", "\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", []string{"Hello"}},
		{"7.2.3.4", "a final block", "\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", []string{"Hello"}},
		{"7.2.3.5", "two blocks", "\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", []string{"Hello"}},
		{"7.2.3.6", "an empty message", "\xc1\x01\x00", []string{""}},
		{"6.1", "a message that was not compressed between two that were",
			"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x81\x02no\xc1\x05\xf2\x00\x11\x00\x00", []string{"Hello", "no", "Hello"}},
		{"6.1", "an empty last fragment", "\x41\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x80\x00", []string{"Hello"}},
		{"6.1", "an empty first fragment", "\x41\x00\x80\x07\xf2\x48\xcd\xc9\xc9\x07\x00", []string{"Hello"}},
	} {
		for piece := 1; piece <= len(test.wire); piece++ {
			p := NewParser(ClientRole, Config{Compression: &Compression{}})
			messages, err := feed(p, []byte(test.wire), piece)
			require.NoError(t, err, "RFC 7692, section %s: %s, cut at %d", test.section, test.name, piece)
			require.Equal(t, test.expected, texts(messages), "RFC 7692, section %s: %s, cut at %d", test.section, test.name, piece)
		}
	}
}

func TestDeflateViolations(t *testing.T) {
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"
	for _, test := range []struct {
		name, wire string
		off        bool // not negotiated
		code       StatusCode
	}{
		{"RFC 7692, section 6: RSV1 where nothing was negotiated", "\xc1\x07" + hello, true, StatusProtocolError},
		{"RFC 7692, section 6.1: RSV1 on a continuation", "\x41\x03\xf2\x48\xcd\xc0\x04\xc9\xc9\x07\x00", false, StatusProtocolError},
		{"RFC 7692, section 6.1: RSV1 on a ping", "\xc9\x00", false, StatusProtocolError},
		{"RFC 7692, section 6.1: RSV1 on a close frame", "\xc8\x02\x03\xe8", false, StatusProtocolError},
		{"RFC 6455, section 5.2: RSV2 is not ours", "\xa1\x00", false, StatusProtocolError},
		{"RFC 7692, section 7.2.2: no DEFLATE at all", "\xc1\x02\xff\xff", false, StatusInvalidPayload},
		{"RFC 7692, section 7.2.3.6: an empty message is a byte", "\xc1\x00", false, StatusInvalidPayload},
		{"RFC 7692, section 7.2.2: a block that goes on", "\xc1\x05\xf2\x48\xcd\xc9\xc9", false, StatusInvalidPayload},
		{"RFC 7692, section 7.1.1: a distance into a window that is empty", "\xc1\x05\xf2\x00\x11\x00\x00", false, StatusInvalidPayload},
		{"RFC 1951, section 3.2.4: a length without its complement", "\xc1\x0b\x00\x05\x00\xfb\xff\x48\x65\x6c\x6c\x6f\x00", false, StatusInvalidPayload},
		{"RFC 6455, section 8.1: text that is not UTF-8 once inflated", "\xc1\x07\x00\x01\x00\xfe\xff\xff\x00", false, StatusInvalidPayload},
		{"RFC 6455, section 8.1: text that ends inside a character", "\xc1\x07\x00\x01\x00\xfe\xff\xc3\x00", false, StatusInvalidPayload},
	} {
		for piece := 1; piece <= len(test.wire); piece++ {
			cfg := Config{Compression: &Compression{}}
			if test.off {
				cfg.Compression = nil
			}
			_, err := feed(NewParser(ClientRole, cfg), []byte(test.wire), piece)
			require.Error(t, err, "%s, cut at %d", test.name, piece)
			requireCode(t, err, test.code)
		}
	}
}

// TestDeflateTrailingData checks that what follows a final block is one more block (RFC 7692, section 7.2.3.4), with the
// same window, and that a final block may end a message without the byte that makes the tail a block.
func TestDeflateTrailingData(t *testing.T) {
	final := "\xf3\x48\xcd\xc9\xc9\x07\x00"
	for _, test := range []struct {
		name, data, expected string
		code                 StatusCode // 0: none
	}{
		{"one final block and the tail's header", final + "\x00", "Hello", 0},
		{"one final block", final, "Hello", 0},
		{"two final blocks", final + final, "HelloHello", 0},
		{"a final block and one that is not", final + "\xf2\x48\xcd\xc9\xc9\x07\x00", "HelloHello", 0},
		{"a final block and one that refers to it", final + "\xf2\x00\x11\x00\x00", "HelloHello", 0},
		{"a final block and what is no DEFLATE", final + "\xff\xff", "", StatusInvalidPayload},
	} {
		i := newInflater(ServerRole, &Compression{})
		data, err := i.inflate([]byte(test.data), 10)
		if test.code != 0 {
			requireCode(t, err, test.code)
			continue
		}
		require.NoError(t, err, test.name)
		require.Equal(t, test.expected, string(data), test.name)

		again, err := i.inflate([]byte("\xf2\x00\x11\x00\x00"), 10)
		require.NoError(t, err, "%s: the window goes on", test.name)
		require.Equal(t, "Hello", string(again), test.name)
	}
}

func TestDeflateWants(t *testing.T) {
	for _, test := range []struct {
		threshold, size int
		mode            CompressMode
		expected        bool
	}{
		{0, defaultThreshold - 1, CompressAuto, false},
		{0, defaultThreshold, CompressAuto, true},
		{0, 0, CompressAlways, true},
		{0, 1 << 20, CompressNever, false},
		{100, 99, CompressAuto, false},
		{100, 100, CompressAuto, true},
		{-1, 0, CompressAuto, true},
		{-1, 0, CompressNever, false},
	} {
		d := newDeflater(ServerRole, &Compression{Threshold: test.threshold})
		require.Equal(t, test.expected, d.wants(&Message{Type: BinaryMessage, Compress: test.mode, Data: make([]byte, test.size)}), "%+v", test)
	}
	require.Nil(t, newDeflater(ServerRole, nil))
	require.Nil(t, newInflater(ServerRole, nil))
}

// TestDeflaterOfEachRole checks that each side compresses as was agreed for it, and not for the other.
func TestDeflaterOfEachRole(t *testing.T) {
	agreed := &Compression{Level: 3, ServerNoContextTakeover: true, ClientMaxWindowBits: 9}
	server, client := newDeflater(ServerRole, agreed), newDeflater(ClientRole, agreed)
	require.False(t, server.Takeover())
	require.True(t, client.Takeover())
	require.Equal(t, 3, server.Level())
	require.Equal(t, -1<<9, client.Level(), "a window of 512 bytes")
}

func TestDeflaterErrors(t *testing.T) {
	require.NoError(t, notDeflated(nil))
	cause := errors.New("broken")
	err := notDeflated(cause)
	require.EqualError(t, err, "wsd: compressing a message: broken")
	require.ErrorIs(t, err, cause)
}

// TestDeflateReadsOthers checks that what the standard library compresses is read here, with and without takeover. Its
// compressor has one window, so for smaller ones it is given no more than the window may hold.
func TestDeflateReadsOthers(t *testing.T) {
	for bits := deflate.MinWindowBits; bits <= deflate.MaxWindowBits; bits++ {
		for _, level := range []int{1, 9} {
			for _, alone := range []bool{false, true} {
				i := newInflater(ClientRole, &Compression{ServerNoContextTakeover: alone, ServerMaxWindowBits: bits})
				var before []byte
				for n, message := range deflatetest.Talk(uint64(bits) + 100) {
					if bits < deflate.MaxWindowBits {
						message = message[:min(len(message), 1<<bits)]
					}
					var out bytes.Buffer
					dict := before[max(0, len(before)-max(0, 1<<bits-len(message))):]
					w, err := flate.NewWriter(&out, level)
					require.NoError(t, err)
					_, err = w.Write(dict)
					require.NoError(t, err)
					require.NoError(t, w.Flush())
					out.Reset()
					_, err = w.Write(message)
					require.NoError(t, err)
					require.NoError(t, w.Flush())
					inflated, err := i.inflate(bytes.TrimSuffix(out.Bytes(), []byte(inflate.Tail)), uint64(len(message)))
					require.NoError(t, err, "%d bits, level %d, alone %v, message %d", bits, level, alone, n)
					require.True(t, bytes.Equal(message, inflated), "%d bits, level %d, alone %v, message %d", bits, level, alone, n)
					if !alone {
						before = append(before, message...)
					}
				}
			}
		}
	}
}

// TestDeflateKeepsTheWindow checks that a distance beyond the negotiated window is refused even within the same message,
// and that without takeover one message does not refer to the previous one.
func TestDeflateKeepsTheWindow(t *testing.T) {
	far := append(append(deflatetest.Sample("random", 300), make([]byte, 300)...), deflatetest.Sample("random", 300)...)
	compressed := deflatetest.Compress(t, 9, far)[0]
	for bits, code := range map[int]StatusCode{8: StatusInvalidPayload, 9: StatusInvalidPayload, 10: 0, 15: 0} {
		i := newInflater(ServerRole, &Compression{ClientMaxWindowBits: bits})
		_, err := i.inflate(compressed, noLimit)
		if code == 0 {
			require.NoError(t, err, "%d bits", bits)
		} else {
			requireCode(t, err, code)
		}
	}
	message := deflatetest.Sample("random", 1000)
	twice := deflatetest.Compress(t, 9, message, message)
	require.Less(t, len(twice[1]), 100)
	alone := newInflater(ServerRole, &Compression{ClientNoContextTakeover: true})
	_, err := alone.inflate(twice[0], noLimit)
	require.NoError(t, err)
	_, err = alone.inflate(twice[1], noLimit)
	requireCode(t, err, StatusInvalidPayload)
}

// TestDeflateLimit checks that a message of exactly MaxMessageSize passes and one that is a byte longer does not, however
// it compresses, is cut, and refers to the one before.
func TestDeflateLimit(t *testing.T) {
	const limit = 100_000
	for _, kind := range deflatetest.Kinds {
		for _, frames := range []int{1, 7} {
			for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 9} {
				for excess, code := range []StatusCode{0, StatusMessageTooBig} {
					data := deflatetest.Sample(kind, limit+excess)
					p := NewParser(ServerRole, Config{MaxMessageSize: limit, Compression: &Compression{}})
					var wire []byte
					for n, compressed := range deflatetest.Compress(t, level, data[:limit], data) {
						if n == 0 && excess == 0 {
							continue // the same message twice says no more than once
						}
						first := byte(OpBinary) | rsv1Bit
						for part := range frames {
							from, to := len(compressed)*part/frames, len(compressed)*(part+1)/frames
							if part == frames-1 {
								first |= finBit
							}
							wire = append(wire, frameBytes(first, compressed[from:to], ClientRole)...)
							first = 0
						}
						if excess == 0 {
							// The window is not there: compress on its own.
							wire = nil
							compressed = deflatetest.Compress(t, level, data)[0]
							wire = append(wire, frameBytes(byte(OpBinary)|rsv1Bit|finBit, compressed, ClientRole)...)
						}
					}
					messages, err := feed(p, wire, 16<<10)
					if code == 0 {
						require.NoError(t, err, "%s, %d frames, level %d", kind, frames, level)
						require.Len(t, messages, 1)
						continue
					}
					require.Len(t, messages, 1, "the first message has no byte too many")
					requireCode(t, err, code)
				}
			}
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// zeroBomb inflates to count MiB of zeros. A flushed MiB of zeros refers to nothing before it, so it can be repeated.
func zeroBomb(t testing.TB, count int) []byte {
	t.Helper()
	return bytes.Repeat(append(deflatetest.Compress(t, flate.BestCompression, make([]byte, 1<<20))[0], inflate.Tail...), count)
}

func TestDeflateBomb(t *testing.T) {
	bomb := zeroBomb(t, 1<<10)
	require.Less(t, len(bomb), 1100<<10)
	for _, limit := range []int64{1, 1000, 1 << 20, 8 << 20} {
		p := NewParser(ServerRole, Config{MaxMessageSize: limit, Compression: &Compression{}})
		var err error
		used := allocated(func() {
			for _, first := range []byte{byte(OpBinary) | rsv1Bit, finBit} {
				half := bomb[:len(bomb)/2]
				if first&finBit != 0 {
					half = bomb[len(bomb)/2:]
				}
				if _, err = feed(p, frameBytes(first, half, ClientRole), 32<<10); err != nil {
					break
				}
			}
		})
		requireCode(t, err, StatusMessageTooBig)
		// The allocation includes the bomb itself, with its frames, which are made here; of the inflated data there is no
		// more than the limit, plus the outgrown buffers, each a quarter of the next one's size.
		require.Less(t, used, uint64(8*len(bomb)+2*int(limit)+1<<20), "limit %d", limit)
	}
}

// TestDeflateEmptyBlocks checks that blocks without data cannot go on for ever: neither in one message's bytes, nor in
// its fragments.
func TestDeflateEmptyBlocks(t *testing.T) {
	const limit = 1000
	for name, block := range map[string]string{
		"stored":       "\x00\x00\x00\xff\xff",
		"fixed":        "\x02\x00\x00\x00\xff\xff",
		"final, fixed": "\x03\x00",
	} {
		i := newInflater(ServerRole, &Compression{})
		many := strings.Repeat(block, 100_000)
		data, err := i.inflate([]byte(many+"\x00"), limit)
		require.NoError(t, err, name)
		require.Empty(t, data, name)

		p := NewParser(ServerRole, Config{MaxMessageSize: limit, Compression: &Compression{}})
		wire := frameBytes(byte(OpBinary)|rsv1Bit, []byte(block), ClientRole)
		for range 100_000 {
			wire = append(wire, frameBytes(0, []byte(block), ClientRole)...)
		}
		_, err = feed(p, wire, 4096)
		requireCode(t, err, StatusMessageTooBig)
	}
}

func TestDeflateCompressedLimit(t *testing.T) {
	for _, limit := range []uint64{0, 1, 1 << 20, unlimited / 2, unlimited - 1, unlimited} {
		require.GreaterOrEqual(t, compressedLimit(limit), limit)
		require.LessOrEqual(t, compressedLimit(limit), uint64(unlimited))
	}
	p := NewParser(ServerRole, Config{MaxMessageSize: -1, Compression: &Compression{}})
	messages, err := feed(p, frameBytes(byte(OpText)|rsv1Bit|finBit, deflatetest.Compress(t, 9, []byte("Hello"))[0], ClientRole), 3)
	require.NoError(t, err)
	require.Equal(t, []string{"Hello"}, texts(messages))
}

// FuzzParserInflates checks that compressed messages that a fuzzer made up arrive as the standard library inflates them,
// however they are cut into frames and reads, up to the first that it rejects or that is too long.
func FuzzParserInflates(f *testing.F) {
	for seed := range 10 {
		f.Add(deflatetest.Sample("random", 100+40*seed), uint8(seed), uint16(100*seed))
	}
	f.Fuzz(func(t *testing.T, choices []byte, frames uint8, piece uint16) {
		const limit = 10_000
		var wire, before []byte
		want := []string{}
		var code StatusCode // with which it ends, 0 if it need not
		for range 4 {
			part := choices[:len(choices)/2]
			choices = choices[len(part):]
			compressed := deflatetest.Generate(part)
			first := byte(OpBinary) | rsv1Bit
			pieces := 1 + int(frames)%5
			for n := range pieces {
				from, to := len(compressed)*n/pieces, len(compressed)*(n+1)/pieces
				if n == pieces-1 {
					first |= finBit
				}
				wire = append(wire, frameBytes(first, compressed[from:to], ServerRole)...)
				first = 0
			}
			message, final, err := deflatetest.Judge(compressed, before[max(0, len(before)-32<<10):])
			if final {
				break // what follows a final block is only known to this decoder
			}
			if err != nil {
				code = StatusInvalidPayload
				break
			}
			if len(message) > limit || len(compressed) > limit {
				code = StatusMessageTooBig
				break
			}
			want = append(want, string(message))
			before = append(before, message...)
		}
		p := NewParser(ClientRole, Config{MaxMessageSize: limit, Compression: &Compression{}})
		messages, err := feed(p, wire, int(piece)+1)
		got := texts(messages)
		require.GreaterOrEqual(t, len(got), len(want), "%v", err)
		require.Equal(t, want, got[:len(want)])
		switch {
		case code == StatusInvalidPayload:
			var violated *ProtocolError
			require.ErrorAs(t, err, &violated)
			require.Contains(t, []StatusCode{StatusInvalidPayload, StatusMessageTooBig}, violated.Code, "both may be wrong with it")
		case code == StatusMessageTooBig && len(got) == len(want):
			requireCode(t, err, code)
		}
		for _, m := range messages {
			require.LessOrEqual(t, len(m.Data), limit)
		}
	})
}

// FuzzParserCompressed checks that whatever frames come, messages are within the limit and errors are typed.
func FuzzParserCompressed(f *testing.F) {
	for _, kind := range deflatetest.Kinds {
		f.Add(frameBytes(byte(OpBinary)|rsv1Bit|finBit, deflatetest.Compress(f, 9, deflatetest.Sample(kind, 3000))[0], ServerRole), uint16(100))
	}
	f.Fuzz(func(t *testing.T, wire []byte, piece uint16) {
		const limit = 10_000
		var results [2][]string
		for n, piece := range []int{int(piece) + 1, len(wire) + 1} {
			p := NewParser(ClientRole, Config{MaxMessageSize: limit, Compression: &Compression{}})
			messages, err := feed(p, wire, piece)
			if err != nil {
				var violated *ProtocolError
				require.ErrorAs(t, err, &violated)
			}
			for _, m := range messages {
				require.LessOrEqual(t, len(m.Data), limit)
			}
			results[n] = texts(messages)
		}
		require.Equal(t, results[0], results[1], "the same messages however the bytes are cut")
	})
}

func TestDeflateOffer(t *testing.T) {
	require.Empty(t, deflateOffer(nil))
	for offer, c := range map[string]Compression{
		"permessage-deflate; client_max_window_bits":                                                                                      {},
		"permessage-deflate; server_no_context_takeover; client_max_window_bits":                                                          {ServerNoContextTakeover: true},
		"permessage-deflate; client_no_context_takeover; client_max_window_bits":                                                          {ClientNoContextTakeover: true},
		"permessage-deflate; server_max_window_bits=10; client_max_window_bits":                                                           {ServerMaxWindowBits: 10},
		"permessage-deflate; client_max_window_bits=8":                                                                                    {ClientMaxWindowBits: 3},
		"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=14": {ServerNoContextTakeover: true, ClientNoContextTakeover: true, ServerMaxWindowBits: 9, ClientMaxWindowBits: 14},
	} {
		require.Equal(t, offer, deflateOffer(&c))
	}
}

// settled is an agreement with its windows.
func settled(serverAlone, clientAlone bool, serverBits, clientBits int) *Compression {
	return &Compression{ServerNoContextTakeover: serverAlone, ClientNoContextTakeover: clientAlone, ServerMaxWindowBits: serverBits, ClientMaxWindowBits: clientBits}
}

func TestDeflateChoose(t *testing.T) {
	const x = "permessage-deflate"
	small := Compression{ServerMaxWindowBits: 10, ClientMaxWindowBits: 11}
	alone := Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true}
	for _, test := range []struct {
		want   Compression
		offers []string
		answer string // empty: declined
		agreed *Compression
	}{
		// Nothing to choose.
		{Compression{}, nil, "", nil},
		{Compression{}, []string{""}, "", nil},
		{Compression{}, []string{"x-webkit-deflate-frame, permessage-bzip2"}, "", nil},
		{Compression{}, []string{"permessage-deflate2"}, "", nil},
		// RFC 7692, section 7.1.3, and what browsers send.
		{Compression{}, []string{x}, x, settled(false, false, 15, 15)},
		{Compression{}, []string{x + "; client_max_window_bits"}, x, settled(false, false, 15, 15)},
		{Compression{}, []string{x + ";client_max_window_bits;server_max_window_bits=10"}, x + "; server_max_window_bits=10", settled(false, false, 10, 15)},
		{Compression{}, []string{x + "; client_max_window_bits; server_max_window_bits=10, " + x + "; client_max_window_bits"}, x + "; server_max_window_bits=10", settled(false, false, 10, 15)},
		// Section 7.1.1.
		{Compression{}, []string{x + "; server_no_context_takeover"}, x + "; server_no_context_takeover", settled(true, false, 15, 15)},
		{Compression{}, []string{x + "; client_no_context_takeover"}, x + "; client_no_context_takeover", settled(false, true, 15, 15)},
		{alone, []string{x}, x + "; server_no_context_takeover; client_no_context_takeover", settled(true, true, 15, 15)},
		// Section 7.1.2.
		{Compression{}, []string{x + "; server_max_window_bits=8"}, x + "; server_max_window_bits=8", settled(false, false, 8, 15)},
		{Compression{}, []string{x + "; server_max_window_bits=15"}, x + "; server_max_window_bits=15", settled(false, false, 15, 15)},
		{small, []string{x + "; server_max_window_bits=15"}, x + "; client_no_context_takeover; server_max_window_bits=10", settled(false, true, 10, 15)},
		{small, []string{x + "; client_max_window_bits"}, x + "; server_max_window_bits=10; client_max_window_bits=11", settled(false, false, 10, 11)},
		{small, []string{x + "; client_max_window_bits=9"}, x + "; server_max_window_bits=10; client_max_window_bits=9", settled(false, false, 10, 9)},
		{small, []string{x + "; client_max_window_bits=15"}, x + "; server_max_window_bits=10; client_max_window_bits=11", settled(false, false, 10, 11)},
		{Compression{}, []string{x + "; client_max_window_bits=15"}, x, settled(false, false, 15, 15)},
		{Compression{ClientMaxWindowBits: 11}, []string{x}, x + "; client_no_context_takeover", settled(false, true, 15, 15)},
		// Quoted values, white space, empty elements, several lines (RFC 6455, section 9.1).
		{Compression{}, []string{x + `; server_max_window_bits="10"`}, x + "; server_max_window_bits=10", settled(false, false, 10, 15)},
		{Compression{}, []string{x + `; server_max_window_bits="\1\0"`}, x + "; server_max_window_bits=10", settled(false, false, 10, 15)},
		{Compression{}, []string{" ,\t" + x + " ;\tserver_max_window_bits = 10 ,,"}, x + "; server_max_window_bits=10", settled(false, false, 10, 15)},
		{Compression{}, []string{"foo; a=\"x,y\"", "bar", x}, x, settled(false, false, 15, 15)},
		{Compression{}, []string{`foo; bar="permessage-deflate, permessage-deflate"`}, "", nil},
		{Compression{}, []string{`foo; bar="1\", ` + x + `"`}, "", nil},
		// Section 7.1: declined, and the next one is tried.
		{Compression{}, []string{x + "; unknown"}, "", nil},
		{Compression{}, []string{x + "; unknown, " + x + "; server_max_window_bits=9"}, x + "; server_max_window_bits=9", settled(false, false, 9, 15)},
		{Compression{}, []string{x + "; unknown", x}, x, settled(false, false, 15, 15)},
		{Compression{}, []string{x + "; server_max_window_bits"}, "", nil},
		{Compression{}, []string{x + `; server_max_window_bits=""`}, "", nil},
		{Compression{}, []string{x + "; server_max_window_bits=7"}, "", nil},
		{Compression{}, []string{x + "; server_max_window_bits=16"}, "", nil},
		{Compression{}, []string{x + "; server_max_window_bits=08"}, "", nil},
		{Compression{}, []string{x + "; server_max_window_bits=+9"}, "", nil},
		{Compression{}, []string{x + "; server_max_window_bits=10000000000000000000000"}, "", nil},
		{Compression{}, []string{x + "; client_max_window_bits=7"}, "", nil},
		{Compression{}, []string{x + "; client_max_window_bits=16"}, "", nil},
		{Compression{}, []string{x + "; server_no_context_takeover=1"}, "", nil},
		{Compression{}, []string{x + `; client_no_context_takeover=""`}, "", nil},
		{Compression{}, []string{x + "; server_no_context_takeover; server_no_context_takeover"}, "", nil},
		{Compression{}, []string{x + "; client_no_context_takeover; client_no_context_takeover"}, "", nil},
		{Compression{}, []string{x + "; server_max_window_bits=9; server_max_window_bits=9"}, "", nil},
		{Compression{}, []string{x + "; client_max_window_bits; client_max_window_bits"}, "", nil},
	} {
		agreed, answer, malformed := chooseDeflate(test.offers, &test.want)
		require.Empty(t, malformed, "%q", test.offers)
		require.Equal(t, test.answer, answer, "%q", test.offers)
		require.Equal(t, test.agreed, agreed, "%q", test.offers)
		if agreed != nil {
			// A client that made the offer accepts what the server answers.
			offered := test.want
			offered.ServerNoContextTakeover, offered.ServerMaxWindowBits = false, 0
			if !strings.Contains(answer, clientMaxBits) {
				offered.ClientMaxWindowBits = 0
			}
			same, problem := checkDeflate([]string{answer}, &offered)
			require.Nil(t, problem)
			require.Equal(t, agreed, same, "%q", test.offers)
		}
	}
	agreed, answer, malformed := chooseDeflate([]string{x}, nil)
	require.Nil(t, agreed)
	require.Empty(t, answer)
	require.Empty(t, malformed)
}

// RFC 6455, section 9.1: what breaks the grammar fails the connection, wherever it is and even if the extension is not
// wanted.
func TestDeflateChooseFailsOnBrokenGrammar(t *testing.T) {
	const x = "permessage-deflate"
	for _, broken := range []string{
		";", "=", `"` + x + `"`, "foo bar", "foo;", "foo; a=", "foo; a b", `foo; a="b`, `foo; a="b"c`, "foo/1", x + ";", x + "; ; client_max_window_bits",
		x + "; =9", x + " client_max_window_bits", x + "; server_max_window_bits=", x + "; server_max_window_bits=1 0", x + `; server_max_window_bits="10`,
		x + `; server_max_window_bits="10"1`, x + "; unknown;", x + "; server_max_window_bits=7; =",
	} {
		for _, want := range []*Compression{nil, {}} {
			for _, offers := range [][]string{{broken}, {x, broken}, {x + ", " + broken}} {
				agreed, answer, malformed := chooseDeflate(offers, want)
				require.NotEmpty(t, malformed, "%q", offers)
				require.Nil(t, agreed)
				require.Empty(t, answer)
			}
		}
		_, problem := checkDeflate([]string{broken}, &Compression{})
		require.NotNil(t, problem, "%q", broken)
	}
}

func TestDeflateCheck(t *testing.T) {
	const x = "permessage-deflate"
	for _, test := range []struct {
		offered *Compression
		answer  []string
		problem string // what the error names, empty: none
		agreed  *Compression
	}{
		{nil, nil, "", nil},
		{nil, []string{""}, "", nil},
		{nil, []string{x}, "permessage-deflate", nil},
		{&Compression{}, nil, "", nil},
		{&Compression{}, []string{x}, "", settled(false, false, 15, 15)},
		{&Compression{}, []string{"foo"}, "foo", nil},
		{&Compression{}, []string{x + ", foo"}, "foo", nil},
		{&Compression{}, []string{x, x}, "twice", nil},
		{&Compression{}, []string{x + "," + x}, "twice", nil},
		{&Compression{}, []string{x + "; server_no_context_takeover; client_no_context_takeover"}, "", settled(true, true, 15, 15)},
		{&Compression{}, []string{x + `; server_max_window_bits="8"; client_max_window_bits=9`}, "", settled(false, false, 8, 9)},
		{&Compression{ClientNoContextTakeover: true}, []string{x}, "", settled(false, true, 15, 15)},
		{&Compression{ServerNoContextTakeover: true}, []string{x}, "server_no_context_takeover", nil},
		{&Compression{ServerNoContextTakeover: true}, []string{x + "; server_no_context_takeover"}, "", settled(true, false, 15, 15)},
		{&Compression{ServerMaxWindowBits: 10}, []string{x}, "server_max_window_bits", nil},
		{&Compression{ServerMaxWindowBits: 10}, []string{x + "; server_max_window_bits=11"}, "server_max_window_bits", nil},
		{&Compression{ServerMaxWindowBits: 10}, []string{x + "; server_max_window_bits=9"}, "", settled(false, false, 9, 15)},
		{&Compression{ClientMaxWindowBits: 10}, []string{x}, "", settled(false, false, 15, 10)},
		{&Compression{ClientMaxWindowBits: 10}, []string{x + "; client_max_window_bits=9"}, "", settled(false, false, 15, 9)},
		// Section 7.1.2.2: what a client offers is a hint, and an answer that allows more does not make it use more.
		{&Compression{ClientMaxWindowBits: 10}, []string{x + "; client_max_window_bits=11"}, "", settled(false, false, 15, 10)},
		{&Compression{ClientMaxWindowBits: 10}, []string{x + "; client_max_window_bits=15"}, "", settled(false, false, 15, 10)},
		{&Compression{}, []string{x + "; client_max_window_bits"}, "client_max_window_bits", nil},
		{&Compression{}, []string{x + "; client_max_window_bits=16"}, "client_max_window_bits", nil},
		{&Compression{}, []string{x + "; server_max_window_bits=7"}, "server_max_window_bits", nil},
		{&Compression{}, []string{x + "; server_max_window_bits"}, "server_max_window_bits", nil},
		{&Compression{}, []string{x + "; server_no_context_takeover; server_no_context_takeover"}, "server_no_context_takeover", nil},
		{&Compression{}, []string{x + "; client_no_context_takeover=x"}, "client_no_context_takeover", nil},
		{&Compression{}, []string{x + "; unknown_one=2"}, "unknown_one", nil},
		{&Compression{}, []string{x + "; "}, "empty parameter", nil},
		{&Compression{}, []string{"=;"}, "malformed", nil},
	} {
		agreed, failed := checkDeflate(test.answer, test.offered)
		require.Equal(t, test.agreed, agreed, "%q", test.answer)
		if test.problem == "" {
			require.Nil(t, failed, "%q", test.answer)
			continue
		}
		require.NotNil(t, failed, "%q", test.answer)
		require.Equal(t, "Sec-WebSocket-Extensions", failed.Header)
		require.Contains(t, failed.Problem, test.problem, "%q", test.answer)
	}
}

// TestDeflateHeaderIsReadInOnePass feeds a server and a client what would take minutes to read more than a few times, or
// to turn into a list.
func TestDeflateHeaderIsReadInOnePass(t *testing.T) {
	const size = 1 << 20
	for _, unit := range []string{",", ";", `"`, `\`, "=", " ", "\t", "a", "a,", "a;", `"a`, `",`, `"\`, `a="`, `a="a",`, `a;b="\"`, "a;a=a,", " ,\t", "permessage-deflate;",
		"permessage-deflate; server_max_window_bits=7,", "permessage-deflate; unknown,", `permessage-deflate; a="`} {
		for _, start := range []string{"", "a", `a;b="`, "permessage-deflate;", "permessage-deflate; server_max_window_bits=", `permessage-deflate; server_max_window_bits="`} {
			header := start + strings.Repeat(unit, size/len(unit))
			used := allocated(func() {
				agreed, _, _ := chooseDeflate([]string{header}, &Compression{})
				require.Nil(t, agreed, "%q...", header[:50])
				if _, problem := checkDeflate([]string{header}, &Compression{}); problem != nil {
					require.Less(t, len(problem.Error()), 500)
				}
			})
			require.Less(t, used, uint64(32*size), "%q...", header[:50])
		}
	}
}

func FuzzDeflateHeader(f *testing.F) {
	f.Add(`permessage-deflate; server_max_window_bits="10"; client_max_window_bits, permessage-deflate`)
	f.Add(`foo; a="b,\"c", permessage-deflate;;`)
	f.Fuzz(func(t *testing.T, header string) {
		agreed, answer, _ := chooseDeflate([]string{header}, &Compression{})
		if agreed != nil {
			_, problem := checkDeflate([]string{answer}, &Compression{})
			require.Nil(t, problem)
		}
		if _, problem := checkDeflate([]string{header}, &Compression{}); problem != nil {
			require.NotEmpty(t, problem.Problem)
		}
	})
}
