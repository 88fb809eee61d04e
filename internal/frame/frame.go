// Package frame encodes the headers of frames (RFC 6455, section 5.2).
package frame

import "encoding/binary"

const (
	FIN  = 0x80 // in the first byte
	MASK = 0x80 // in the second byte

	Len16     = 126    // the length byte that announces a 16-bit length
	Len64     = 127    // the length byte that announces a 64-bit length
	MaxLen16  = 0xFFFF // the longest payload whose length fits 16 bits
	MaxHeader = 14     // bytes: 2, an 8-byte length, a 4-byte masking key
)

// The opcodes that are not a caller's to choose.
const (
	Continuation = 0x0
	Close        = 0x8
	Pong         = 0xA
)

// AppendHeader appends a frame header to dst. first holds FIN, RSV1 and the opcode as on the wire; key is used only if masked.
func AppendHeader(dst []byte, first byte, length int, masked bool, key uint32) []byte {
	var mask byte
	if masked {
		mask = MASK
	}
	switch {
	case length < Len16:
		dst = append(dst, first, mask|byte(length))
	case length <= MaxLen16:
		dst = append(dst, first, mask|Len16, byte(length>>8), byte(length))
	default:
		dst = append(dst, first, mask|Len64)
		dst = binary.BigEndian.AppendUint64(dst, uint64(length))
	}
	if masked {
		dst = binary.LittleEndian.AppendUint32(dst, key)
	}
	return dst
}
