// Package mask masks and unmasks payloads (RFC 6455, section 5.3), by words, and long ones by the standard library's
// vectors, and makes the keys for that.
package mask

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// long is the size in bytes from which vectors beat words although the key must first be laid out for them.
const long = 4 << 10

// XOR writes src XORed with the masking key to dst, which is at least as long and may be src itself. key is the
// four bytes on the wire read little-endian. XOR returns the key rotated to fit the byte that follows src.
func XOR(dst, src []byte, key uint32) uint32 {
	n := len(src)
	dst = dst[:n]
	if n >= long {
		xorLong(dst, src, key)
		return bits.RotateLeft32(key, -8*(n&3))
	}
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
	rest := key
	for i := range src {
		dst[i] = src[i] ^ byte(rest)
		rest = bits.RotateLeft32(rest, -8)
	}
	return bits.RotateLeft32(key, -8*(n&3))
}

// xorLong is XOR for long payloads. It is a separate function because of its stack frame, which other calls do not
// need.
//
//go:noinline
func xorLong(dst, src []byte, key uint32) {
	var repeated [512]byte
	for i := 0; i < len(repeated); i += 4 {
		binary.LittleEndian.PutUint32(repeated[i:], key)
	}
	for len(src) > 0 {
		n := subtle.XORBytes(dst, src, repeated[:])
		src, dst = src[n:], dst[n:]
	}
}
