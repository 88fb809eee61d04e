// frames.go reads frames out of the bytes of one direction (RFC 6455, section 5.2), whatever they break: what is wrong with
// one is noted, and the next is read behind it. It keeps the beginning of a payload only.

package tap

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/seed62836080/wsd"
)

// frame is a frame, or with pieces the next part of one.
type frame struct {
	opcode  wsd.Opcode
	fin     bool
	rsv     byte // the reserved bits, RSV1 the highest of three
	masked  bool
	length  uint64 // of the payload
	payload []byte // unmasked: its beginning, or all of it from offset on. Valid until the reader is fed again.
	offset  uint64
	last    bool // no further piece follows
	problem string
}

// reader reads one direction. One goroutine uses it.
type reader struct {
	fromClient bool
	deflate    bool // RSV1 has a meaning
	keep       int  // bytes of a payload that are kept
	pieces     bool // a payload that is longer comes in pieces of keep bytes
	emit       func(*frame)

	head      []byte // of a header that has not come whole
	current   frame
	key       [4]byte
	at        uint64 // of the payload, how much has come
	inPayload bool
	inMessage bool // a fragmented message has begun
	lost      bool // what comes is no frames any more
}

// feed reads b.
func (r *reader) feed(b []byte) {
	for len(b) > 0 && !r.lost {
		if !r.inPayload {
			b = r.header(b)
			continue
		}
		n := int(min(r.current.length-r.at, uint64(len(b))))
		r.take(b[:n])
		b = b[n:]
		if r.at == r.current.length {
			r.complete()
		}
	}
}

// mostHeader is the length of the longest header.
const mostHeader = 14

// header reads what of a header has come and returns the rest.
func (r *reader) header(b []byte) []byte {
	if len(r.head) == 0 && len(b) >= mostHeader {
		size := headerSize(b[1])
		r.begin(b[:size])
		return b[size:]
	}
	for len(b) > 0 {
		r.head = append(r.head, b[0])
		b = b[1:]
		if len(r.head) >= 2 && len(r.head) == headerSize(r.head[1]) {
			r.begin(r.head)
			r.head = r.head[:0]
			return b
		}
	}
	return b
}

// headerSize returns how long a header is, by its second byte.
func headerSize(second byte) int {
	size := 2
	switch second & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if second&0x80 != 0 {
		size += 4
	}
	return size
}

// begin is called with a whole header.
func (r *reader) begin(h []byte) {
	f := frame{opcode: wsd.Opcode(h[0] & 0x0f), fin: h[0]&0x80 != 0, rsv: h[0] >> 4 & 7, masked: h[1]&0x80 != 0, length: uint64(h[1] & 0x7f)}
	f.payload = r.current.payload[:0]
	var problems []string
	rest := h[2:]
	switch f.length {
	case 126:
		if f.length = uint64(binary.BigEndian.Uint16(rest)); f.length < 126 {
			problems = append(problems, "the length is not in its shortest form")
		}
		rest = rest[2:]
	case 127:
		f.length = binary.BigEndian.Uint64(rest)
		switch {
		case f.length>>63 != 0:
			problems = append(problems, "a length of 2^63 bytes or more: nothing behind it can be read")
			r.lost = true
		case f.length <= 0xffff:
			problems = append(problems, "the length is not in its shortest form")
		}
		rest = rest[8:]
	}
	copy(r.key[:], rest)
	if problems = r.judge(&f, problems); len(problems) > 0 {
		f.problem = strings.Join(problems, ", ")
	}
	r.at, r.inPayload, r.current = 0, true, f
	if f.length == 0 || r.lost {
		r.complete()
	}
}

// judge adds what a header breaks to problems.
func (r *reader) judge(f *frame, problems []string) []string {
	switch {
	case r.fromClient && !f.masked:
		problems = append(problems, "an unmasked frame from the client")
	case !r.fromClient && f.masked:
		problems = append(problems, "a masked frame from the server")
	}
	control := f.opcode&8 != 0
	switch {
	case f.opcode > wsd.OpPong || f.opcode > wsd.OpBinary && !control:
		problems = append(problems, "a reserved opcode")
	case control && !f.fin:
		problems = append(problems, "a fragmented control frame")
	case control && f.length > 125:
		problems = append(problems, "a control frame longer than 125 bytes")
	case f.opcode == wsd.OpContinuation && !r.inMessage:
		problems = append(problems, "a continuation of nothing")
	case !control && f.opcode != wsd.OpContinuation && r.inMessage:
		problems = append(problems, "a new message within a fragmented one")
	}
	if rsv := f.rsv; rsv != 0 && (rsv != 4 || !r.deflate || control || f.opcode == wsd.OpContinuation) {
		problems = append(problems, "reserved bits")
	}
	if !control {
		r.inMessage = !f.fin
	}
	return problems
}

// take unmasks and keeps what is to be kept of a part of the payload.
func (r *reader) take(b []byte) {
	for len(b) > 0 {
		room := r.keep - len(r.current.payload)
		n := min(len(b), room)
		from := len(r.current.payload)
		r.current.payload = append(r.current.payload, b[:n]...)
		if r.current.masked {
			unmask(r.current.payload[from:], r.key, r.at)
		}
		r.at += uint64(n)
		b = b[n:]
		switch {
		case len(b) == 0:
		case r.pieces:
			r.emit(&r.current)
			r.current.offset = r.at
			r.current.payload = r.current.payload[:0]
		default:
			r.at += uint64(len(b))
			return
		}
	}
}

// unmask unmasks bytes that begin at a position of the payload.
func unmask(b []byte, key [4]byte, at uint64) {
	var turned [8]byte
	for i := range turned {
		turned[i] = key[(at+uint64(i))&3]
	}
	word := binary.LittleEndian.Uint64(turned[:])
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
	}
	for i := range b {
		b[i] ^= turned[i]
	}
}

// complete hands out a frame that has come whole.
func (r *reader) complete() {
	r.inPayload = false
	f := &r.current
	f.last = true
	if f.opcode == wsd.OpClose && f.length == 1 {
		f.problem = strings.TrimPrefix(f.problem+", a close frame of one byte", ", ")
	}
	r.emit(f)
	f.payload = f.payload[:0]
}

// cut returns what of a frame has come, where the bytes ended in its middle.
func (r *reader) cut() string {
	switch {
	case r.inPayload:
		return fmt.Sprintf("the bytes ended in a %v frame, %d of %d bytes had come", r.current.opcode, r.at, r.current.length)
	case len(r.head) > 0:
		return "the bytes ended in the header of a frame"
	}
	return ""
}
