// The suite's own frame encoder and decoder: it can write what no sound endpoint writes, and trusts nothing it reads.

package suite

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
)

// Opcodes (RFC 6455, 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

func opcodeName(opcode byte) string {
	switch opcode {
	case opContinuation:
		return "continuation"
	case opText:
		return "text"
	case opBinary:
		return "binary"
	case opClose:
		return "close"
	case opPing:
		return "ping"
	case opPong:
		return "pong"
	}
	return fmt.Sprintf("frame with the opcode %#x", opcode)
}

// Reserved bits as they stand in a frame's first byte, shifted down to three bits (RFC 6455, 5.2).
const (
	rsv1 = 4
	rsv2 = 2
	rsv3 = 1
)

// A lengthForm chooses how many bytes a frame's length takes.
type lengthForm int

const (
	shortest lengthForm = iota // what RFC 6455, 5.2 demands
	length16                   // 126 and two bytes, needed or not
	length64                   // 127 and eight bytes, needed or not
)

// A maskForm chooses the masking of a frame.
type maskForm int

const (
	maskByRole  maskForm = iota // what RFC 6455, 5.1 demands: from clients only
	maskAgainst                 // the opposite of what it demands
	maskZero                    // masked with the key 00000000 (where the role masks)
	maskOnes                    // masked with the key ffffffff (where the role masks)
)

// A frame is one frame to be sent, sound or not.
type frame struct {
	fin     bool
	rsv     byte // three bits: rsv1, rsv2, rsv3
	opcode  byte
	payload []byte

	length   lengthForm
	declares bool   // the header carries declared instead of the payload's length
	declared uint64 // the length in the header where declares is set
	mask     maskForm
}

func whole(opcode byte, payload string) frame {
	return frame{fin: true, opcode: opcode, payload: []byte(payload)}
}

func part(opcode byte, payload string) frame {
	return frame{opcode: opcode, payload: []byte(payload)}
}

// declaring returns f with a header that announces n bytes of payload, whatever really follows.
func (f frame) declaring(n uint64) frame {
	f.declares, f.declared = true, n
	return f
}

func (f frame) reserved(bits byte) frame { f.rsv = bits; return f }

func (f frame) inForm(l lengthForm) frame { f.length = l; return f }

func (f frame) masked(m maskForm) frame { f.mask = m; return f }

// appendTo appends the frame's bytes to dst. fromClient says whose rule of masking holds, key is the key for it.
func (f frame) appendTo(dst []byte, fromClient bool, key [4]byte) []byte {
	first := f.rsv<<4 | f.opcode
	if f.fin {
		first |= 0x80
	}
	masks := fromClient
	switch f.mask {
	case maskAgainst:
		masks = !fromClient
	case maskZero:
		key = [4]byte{}
	case maskOnes:
		key = [4]byte{0xff, 0xff, 0xff, 0xff}
	}
	var maskBit byte
	if masks {
		maskBit = 0x80
	}
	n := uint64(len(f.payload))
	if f.declares {
		n = f.declared
	}
	dst = append(dst, first)
	switch {
	case f.length == length64 || f.length == shortest && n > 0xffff:
		dst = append(dst, maskBit|127)
		dst = binary.BigEndian.AppendUint64(dst, n)
	case f.length == length16 || n > 125:
		dst = append(dst, maskBit|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, maskBit|byte(n))
	}
	if !masks {
		return append(dst, f.payload...)
	}
	dst = append(dst, key[:]...)
	dst = append(dst, f.payload...)
	applyKey(dst[len(dst)-len(f.payload):], key)
	return dst
}

// applyKey masks or unmasks a payload in place (RFC 6455, 5.3), a few thousand bytes at a time.
func applyKey(payload []byte, key [4]byte) {
	pattern := bytes.Repeat(key[:], min(1024, len(payload)/4+1))
	for len(payload) > 0 {
		n := subtle.XORBytes(payload, payload, pattern)
		payload = payload[n:]
	}
}

// A received frame, unmasked.
type received struct {
	fin     bool
	rsv     byte
	opcode  byte
	key     [4]byte
	payload []byte
}

// maxReceived bounds what the suite reads into memory for one frame: the largest message it sends is 16 MiB.
const maxReceived = 32 << 20

// readFrame reads one frame and judges all of it that can be judged without knowing the frames before it. fromClient
// says who sends it. At the end of the stream ahead of a frame's first byte the error is io.EOF alone.
func readFrame(r io.Reader, fromClient bool) (received, error) {
	var h [14]byte
	if _, err := io.ReadFull(r, h[:1]); err != nil {
		return received{}, err
	}
	if _, err := io.ReadFull(r, h[1:2]); err != nil {
		return received{}, fmt.Errorf("the connection ended in the middle of a frame's header: %w", noEOF(err))
	}
	f := received{fin: h[0]&0x80 != 0, rsv: h[0] >> 4 & 7, opcode: h[0] & 0xf}
	masks := h[1]&0x80 != 0
	n := uint64(h[1] & 0x7f)
	extra := 0
	switch n {
	case 126:
		extra = 2
	case 127:
		extra = 8
	}
	rest := extra
	if masks {
		rest += 4
	}
	if _, err := io.ReadFull(r, h[2:2+rest]); err != nil {
		return received{}, fmt.Errorf("the connection ended in the middle of a frame's header: %w", noEOF(err))
	}
	switch extra {
	case 2:
		if n = uint64(binary.BigEndian.Uint16(h[2:])); n < 126 {
			return received{}, breach("RFC 6455, 5.2", "a length of %d in 16 bits: not the shortest form", n)
		}
	case 8:
		if n = binary.BigEndian.Uint64(h[2:]); n <= 0xffff {
			return received{}, breach("RFC 6455, 5.2", "a length of %d in 64 bits: not the shortest form", n)
		}
	}
	switch {
	case masks && !fromClient:
		return received{}, breach("RFC 6455, 5.1", "a server's frame was masked")
	case !masks && fromClient:
		return received{}, breach("RFC 6455, 5.1", "a client's frame was not masked")
	case f.opcode > opBinary && f.opcode < opClose || f.opcode > opPong:
		return received{}, breach("RFC 6455, 5.2", "the reserved opcode %#x", f.opcode)
	case f.opcode >= opClose && !f.fin:
		return received{}, breach("RFC 6455, 5.5", "a fragmented control frame, opcode %#x", f.opcode)
	case f.opcode >= opClose && n > 125:
		return received{}, breach("RFC 6455, 5.5", "a control frame of %d bytes, opcode %#x", n, f.opcode)
	case n > maxReceived:
		return received{}, fmt.Errorf("a frame declares %d bytes, more than anything it may answer", n)
	}
	f.payload = make([]byte, n)
	if _, err := io.ReadFull(r, f.payload); err != nil {
		return received{}, fmt.Errorf("the connection ended in the middle of a frame's payload: %w", noEOF(err))
	}
	if masks {
		copy(f.key[:], h[2+extra:])
		applyKey(f.payload, f.key)
	}
	return f, nil
}

// noEOF keeps an end inside a frame from being taken for an end between frames.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// breach is the error for a rule that the peer broke.
func breach(section, format string, args ...any) error {
	return fmt.Errorf("%s (%s)", fmt.Sprintf(format, args...), section)
}
