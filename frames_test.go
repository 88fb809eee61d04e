package wsd

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/frame"
)

func TestFrameHeaderRoundTrip(t *testing.T) {
	for _, masked := range []bool{false, true} {
		for _, length := range []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 1<<31 - 1} {
			for _, first := range []byte{finBit | byte(OpText), byte(OpBinary), finBit | rsv1Bit | byte(OpText)} {
				header := frame.AppendHeader(nil, first, length, masked, 0xDDCCBBAA)
				rules := frameRules{masked: masked, rsv1: true, room: unlimited}
				for cut := range len(header) {
					h, size, err := parseFrameHeader(header[:cut], rules)
					require.NoError(t, err)
					require.Zero(t, size, "%d of %d bytes gave %+v", cut, len(header), h)
				}
				h, size, err := parseFrameHeader(append(header, "payload"...), rules)
				require.NoError(t, err)
				require.Equal(t, len(header), size)
				require.EqualValues(t, length, h.length)
				require.Equal(t, masked, h.masked)
				require.Equal(t, first&finBit != 0, h.fin)
				require.Equal(t, first&rsv1Bit != 0, h.rsv1)
				require.Equal(t, Opcode(first&0x0F), h.opcode)
				if masked {
					require.EqualValues(t, uint32(0xDDCCBBAA), h.key)
					require.Equal(t, []byte{0xAA, 0xBB, 0xCC, 0xDD}, header[size-4:])
				}
			}
		}
	}
}

func TestFrameHeaderViolations(t *testing.T) {
	long := func(length uint64) string { return string(binary.BigEndian.AppendUint64([]byte{0x82, 0xFF}, length)) }
	server := frameRules{masked: true, room: 1000}
	for _, row := range []struct {
		section string
		rules   frameRules
		bytes   string
		code    StatusCode
		says    string
	}{
		{"5.2", server, "\xA1", 1002, "RSV2 or RSV3"},
		{"5.2", server, "\x91", 1002, "RSV2 or RSV3"},
		{"5.2", server, "\xC1", 1002, "RSV1"},
		{"RFC 7692, section 6.1", frameRules{rsv1: true, inMessage: true}, "\xC0", 1002, "continuation"},
		{"RFC 7692, section 6.1", frameRules{rsv1: true}, "\xC9", 1002, "ping"},
		{"5.2", frameRules{rsv1: true}, "\xF1", 1002, "RSV2 or RSV3"},
		{"5.2", server, "\x83", 1002, "reserved opcode 0x3"},
		{"5.2", server, "\x87", 1002, "reserved opcode 0x7"},
		{"5.2", server, "\x8B", 1002, "reserved opcode 0xb"},
		{"5.2", server, "\x8F", 1002, "reserved opcode 0xf"},
		{"5.5", server, "\x08", 1002, "fragmented close"},
		{"5.5", server, "\x09", 1002, "fragmented ping"},
		{"5.5", server, "\x0A", 1002, "fragmented pong"},
		{"5.4", server, "\x80", 1002, "no message to continue"},
		{"5.4", frameRules{inMessage: true}, "\x81", 1002, "inside a fragmented message"},
		{"5.4", frameRules{inMessage: true}, "\x02", 1002, "inside a fragmented message"},
		{"5.1", server, "\x81\x05", 1002, "unmasked frame from a client"},
		{"5.1", frameRules{}, "\x81\x85", 1002, "masked frame from a server"},
		{"5.5", server, "\x89\xFE", 1002, "longer than 125"},
		{"5.5", server, "\x88\xFF", 1002, "longer than 125"},
		{"5.5.1", server, "\x88\x81", 1002, "1 byte"},
		{"5.2", server, "\x82\xFE\x00\x7D", 1002, "shortest form"},
		{"5.2", server, long(65535), 1002, "shortest form"},
		{"5.2", server, long(0), 1002, "shortest form"},
		{"5.2", server, "\x82\xFF\x80", 1002, "most significant bit"},
		{"5.2", server, long(1<<64 - 1), 1002, "most significant bit"},
		{"7.4.1", server, "\x82\xFE\x03\xE9", 1009, "MaxMessageSize"},
		{"7.4.1", server, long(1<<63 - 1), 1009, "MaxMessageSize"},
	} {
		_, size, err := parseFrameHeader([]byte(row.bytes), row.rules)
		require.Zero(t, size)
		var violation *ProtocolError
		require.ErrorAs(t, err, &violation, "%q", row.bytes)
		require.Equal(t, row.code, violation.Code, "%q", row.bytes)
		require.Equal(t, row.section, violation.Section, "%q", row.bytes)
		require.Contains(t, err.Error(), row.says)
		require.Contains(t, err.Error(), strings.TrimPrefix(row.section, "RFC 7692, "))
		// The error is reported as early as it can be known: one byte less shows nothing yet.
		_, _, err = parseFrameHeader([]byte(row.bytes[:len(row.bytes)-1]), row.rules)
		if len(row.bytes) <= 4 {
			require.NoError(t, err, "%q", row.bytes)
		}
	}
}

func TestFrameHeaderTakesAllOpcodesInPlace(t *testing.T) {
	for first, inMessage := range map[byte]bool{0x81: false, 0x82: false, 0x01: false, 0x02: false, 0x00: true, 0x80: true,
		0x88: false, 0x89: true, 0x8A: true} {
		_, size, err := parseFrameHeader([]byte{first, 0x02}, frameRules{inMessage: inMessage, room: 2})
		require.NoError(t, err, "%#x", first)
		require.Equal(t, 2, size)
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, "continuation text binary close ping pong opcode 0x3", strings.Join([]string{OpContinuation.String(),
		OpText.String(), OpBinary.String(), OpClose.String(), OpPing.String(), OpPong.String(), Opcode(3).String()}, " "))
	require.Equal(t, "server client", ServerRole.String()+" "+ClientRole.String())
	require.Equal(t, "text binary message type 9", TextMessage.String()+" "+BinaryMessage.String()+" "+MessageType(9).String())
	require.Equal(t, "connecting open closing closed state 9", strings.Join([]string{StateConnecting.String(),
		StateOpen.String(), StateClosing.String(), StateClosed.String(), State(9).String()}, " "))
	require.Equal(t, "1000 (normal closure)", StatusNormalClosure.String())
	require.Equal(t, "1015 (TLS handshake)", StatusTLSHandshake.String())
	require.Equal(t, "4000", StatusCode(4000).String())
	require.Equal(t, "1016", StatusCode(1016).String())
}
