// mask.go masks and unmasks payloads (RFC 6455, section 5.3), by words.
package wsd

import (
	"encoding/binary"
	"math/bits"
)

// maskBytes writes src XORed with the masking key to dst, which is at least as long and may be src itself. key is the
// four bytes of the wire read little-endian. It returns the key rotated so that it fits the byte that follows src.
func maskBytes(dst, src []byte, key uint32) uint32 {
	n := len(src)
	dst = dst[:n]
	if n >= 8 {
		wide := uint64(key)<<32 | uint64(key)
		for len(src) >= 64 {
			s, d := src[:64:64], dst[:64:64]
			binary.LittleEndian.PutUint64(d[0:], binary.LittleEndian.Uint64(s[0:])^wide)
			binary.LittleEndian.PutUint64(d[8:], binary.LittleEndian.Uint64(s[8:])^wide)
			binary.LittleEndian.PutUint64(d[16:], binary.LittleEndian.Uint64(s[16:])^wide)
			binary.LittleEndian.PutUint64(d[24:], binary.LittleEndian.Uint64(s[24:])^wide)
			binary.LittleEndian.PutUint64(d[32:], binary.LittleEndian.Uint64(s[32:])^wide)
			binary.LittleEndian.PutUint64(d[40:], binary.LittleEndian.Uint64(s[40:])^wide)
			binary.LittleEndian.PutUint64(d[48:], binary.LittleEndian.Uint64(s[48:])^wide)
			binary.LittleEndian.PutUint64(d[56:], binary.LittleEndian.Uint64(s[56:])^wide)
			src, dst = src[64:], dst[64:]
		}
		for len(src) >= 8 {
			binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^wide)
			src, dst = src[8:], dst[8:]
		}
	}
	rest := key
	for i := range src {
		dst[i] = src[i] ^ byte(rest)
		rest = bits.RotateLeft32(rest, -8)
	}
	return bits.RotateLeft32(key, -8*(n&3))
}
