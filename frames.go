// frames.go reads frame headers (RFC 6455, section 5.2), reads and makes close payloads (section 5.5.1), and holds the rules that a
// single frame can break. internal/frame writes headers.

package wsd

import (
	"encoding/binary"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed62836080/wsd/internal/frame"
	"github.com/seed62836080/wsd/internal/textcheck"
)

// Opcode says what a frame carries (RFC 6455, section 5.2).
type Opcode uint8

// The opcodes of RFC 6455; all others are reserved.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// String returns the opcode's name in the words of RFC 6455.
func (o Opcode) String() string {
	switch o {
	case OpContinuation:
		return "continuation"
	case OpText:
		return "text"
	case OpBinary:
		return "binary"
	case OpClose:
		return "close"
	case OpPing:
		return "ping"
	case OpPong:
		return "pong"
	}
	return "opcode 0x" + strconv.FormatUint(uint64(o), 16)
}

func (o Opcode) control() bool { return o&0x8 != 0 }

// Role is a side of a connection: clients mask what they send, servers do not (RFC 6455, section 5.1).
type Role uint8

// The two roles.
const (
	ServerRole Role = iota
	ClientRole
)

// String returns "server" or "client".
func (r Role) String() string {
	if r == ClientRole {
		return "client"
	}
	return "server"
}

const (
	finBit  = frame.FIN
	rsv1Bit = 0x40
	rsvBits = 0x70
	maskBit = frame.MASK

	maxControlPayload = 125 // bytes, RFC 6455, section 5.5
	maxFrameHeader    = frame.MaxHeader
	len16             = frame.Len16
	len64             = frame.Len64
	maxLen16          = frame.MaxLen16
)

// frameHeader is a frame without its payload.
type frameHeader struct {
	length uint64 // of the payload, in bytes; below 2^63
	key    uint32 // the masking key as on the wire, read little-endian; meaningful if masked
	opcode Opcode
	fin    bool
	rsv1   bool
	masked bool
}

// frameRules holds what decides, besides the frame itself, whether a frame is allowed.
type frameRules struct {
	masked    bool   // frames must be masked: they come from a client
	rsv1      bool   // an extension that gives RSV1 a meaning is in use (RFC 7692, section 6)
	inMessage bool   // a fragmented message has begun and not ended
	room      uint64 // the longest payload, in bytes, that a data frame may have
}

// parseFrameHeader reads the frame header at the start of b and returns it with its size in bytes, or a size of 0 if b
// ends inside the header. An error is reported as soon as the bytes at hand show it.
func parseFrameHeader(b []byte, rules frameRules) (h frameHeader, size int, err error) {
	if len(b) == 0 {
		return h, 0, nil
	}
	h.opcode = Opcode(b[0] & 0x0F)
	h.fin = b[0]&finBit != 0
	h.rsv1 = b[0]&rsv1Bit != 0
	if err := checkFirstByte(b[0], rules); err != nil {
		return h, 0, err
	}
	if len(b) == 1 {
		return h, 0, nil
	}
	h.masked = b[1]&maskBit != 0
	if h.masked != rules.masked {
		return h, 0, maskViolation(h.masked)
	}
	h.length = uint64(b[1] &^ maskBit)
	if h.opcode.control() && h.length > maxControlPayload {
		return h, 0, violation("5.5", h.opcode.String()+" frame longer than 125 bytes")
	}
	if h.opcode == OpClose && h.length == 1 {
		return h, 0, violation("5.5.1", "close payload of 1 byte, expected none or a 2-byte status code")
	}
	size = 2
	switch h.length {
	case len16:
		size += 2
		if len(b) < size {
			return h, 0, nil
		}
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
		if h.length < len16 {
			return h, 0, notMinimal(h.length)
		}
	case len64:
		size += 8
		if len(b) > 2 && b[2]&0x80 != 0 {
			return h, 0, violation("5.2", "64-bit length with its most significant bit set")
		}
		if len(b) < size {
			return h, 0, nil
		}
		h.length = binary.BigEndian.Uint64(b[2:])
		if h.length <= maxLen16 {
			return h, 0, notMinimal(h.length)
		}
	}
	if h.length > rules.room && !h.opcode.control() {
		return h, 0, tooBig()
	}
	if h.masked {
		if len(b) < size+4 {
			return h, 0, nil
		}
		h.key = binary.LittleEndian.Uint32(b[size:])
		size += 4
	}
	return h, size, nil
}

// checkFirstByte judges FIN, the reserved bits and the opcode (RFC 6455, sections 5.2, 5.4 and 5.5).
func checkFirstByte(b byte, rules frameRules) error {
	opcode := Opcode(b & 0x0F)
	switch opcode {
	case OpContinuation:
		if !rules.inMessage {
			return violation("5.4", "continuation frame with no message to continue")
		}
	case OpText, OpBinary:
		if rules.inMessage {
			return violation("5.4", opcode.String()+" frame inside a fragmented message, expected a continuation")
		}
	case OpClose, OpPing, OpPong:
		if b&finBit == 0 {
			return violation("5.5", "fragmented "+opcode.String()+" frame")
		}
	default:
		return violation("5.2", "reserved "+opcode.String())
	}
	if reserved := b & rsvBits; reserved != 0 {
		switch {
		case reserved != rsv1Bit:
			return violation("5.2", "reserved bit RSV2 or RSV3 set, no extension in use gives it a meaning")
		case !rules.rsv1:
			return violation("5.2", "reserved bit RSV1 set, no extension in use gives it a meaning")
		case opcode != OpText && opcode != OpBinary:
			return violation("RFC 7692, section 6.1", "RSV1 set on a "+opcode.String()+" frame")
		}
	}
	return nil
}

func maskViolation(masked bool) error {
	if masked {
		return violation("5.1", "masked frame from a server")
	}
	return violation("5.1", "unmasked frame from a client")
}

func tooBig() error {
	return &ProtocolError{Code: StatusMessageTooBig, Section: "7.4.1", Problem: "message longer than MaxMessageSize"}
}

func notMinimal(length uint64) error {
	return violation("5.2", "length "+strconv.FormatUint(length, 10)+" not in its shortest form")
}

// maxCloseReason is how many of a control frame's 125 bytes are left for the reason after the two of the code (RFC 6455,
// section 5.5.1).
const maxCloseReason = maxControlPayload - 2

// appendClosePayload appends the payload of a close frame to dst. StatusNoStatus stands for an empty payload.
func appendClosePayload(dst []byte, code StatusCode, reason string) []byte {
	if code == StatusNoStatus {
		return dst
	}
	return append(append(dst, byte(code>>8), byte(code)), reason...)
}

// parseClosePayload parses a close frame's payload (RFC 6455, section 5.5.1). An empty one yields StatusNoStatus.
func parseClosePayload(payload []byte) (StatusCode, string, error) {
	switch len(payload) {
	case 0:
		return StatusNoStatus, "", nil
	case 1:
		return 0, "", violation("5.5.1", "close payload of 1 byte, expected none or a 2-byte status code")
	}
	if err := checkCloseStart(payload); err != nil {
		return 0, "", err
	}
	if !utf8.Valid(payload[2:]) {
		return 0, "", reasonNotUTF8()
	}
	return StatusCode(payload[0])<<8 | StatusCode(payload[1]), string(payload[2:]), nil
}

// checkCloseStart judges as much of a close frame's payload as has arrived.
func checkCloseStart(payload []byte) error {
	if len(payload) < 2 {
		return nil
	}
	if code := StatusCode(payload[0])<<8 | StatusCode(payload[1]); !code.sendable() {
		return violation("7.4", "close code "+strconv.Itoa(int(code))+" may not be sent")
	}
	if textcheck.Accept.Check(payload[2:]) == textcheck.Reject {
		return reasonNotUTF8()
	}
	return nil
}

func reasonNotUTF8() error {
	return &ProtocolError{Code: StatusInvalidPayload, Section: "5.5.1", Problem: "close reason is not UTF-8"}
}

// cutReason returns as much of reason as fits into a close frame, in UTF-8.
func cutReason(reason string) string {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) <= maxCloseReason {
		return reason
	}
	end := maxCloseReason
	for !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}
