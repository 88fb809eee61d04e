// message.go holds messages and puts them together from frames: limits, fragments, incremental UTF-8.

package wsd

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// MessageType says how a message's bytes are meant (RFC 6455, section 5.6).
type MessageType uint8

// The two types of data messages.
const (
	TextMessage   MessageType = MessageType(OpText)   // UTF-8
	BinaryMessage MessageType = MessageType(OpBinary) // any bytes
)

// String returns "text" or "binary".
func (t MessageType) String() string {
	switch t {
	case TextMessage:
		return "text"
	case BinaryMessage:
		return "binary"
	}
	return "message type " + strconv.Itoa(int(t))
}

// CompressMode is a message's own wish where permessage-deflate (RFC 7692) was negotiated; elsewhere it says nothing.
type CompressMode uint8

// The wishes.
const (
	CompressAuto   CompressMode = iota // compress from Compression.Threshold on
	CompressAlways                     // compress whatever the size
	CompressNever                      // send as it is: random or compressed data, secrets beside text of the peer's choice
)

// Message is one WebSocket message, whole.
//
// The Data of a received message belongs to the receiver for good. Small messages that arrived together may share one
// allocation, so that keeping one keeps up to 4 KiB of its neighbours in memory: clone it where that matters. The Data
// of a sent message belongs to the caller again when Send returns.
type Message struct {
	Type     MessageType
	Compress CompressMode // a wish for sending; received messages have CompressAuto
	Data     []byte
}

// Text returns a text message. s must be UTF-8.
func Text(s string) Message { return Message{Type: TextMessage, Data: []byte(s)} }

// Binary returns a binary message that holds b itself, not a copy.
func Binary(b []byte) Message { return Message{Type: BinaryMessage, Data: b} }

// JSON returns a text message with v in JSON. The error is encoding/json's.
func JSON(v any) (Message, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Message{}, err
	}
	return Message{Type: TextMessage, Data: data}, nil
}

// Decode reads the message as JSON into v. The error is encoding/json's.
func (m Message) Decode(v any) error { return json.Unmarshal(m.Data, v) }

const (
	// maxShared is the size in bytes up to which messages of one read share an allocation, and sharedChunk the size of
	// that allocation at the most: it is what a kept message can keep with it.
	maxShared   = 512
	sharedChunk = 4 << 10
	// growth is how many times the bytes that have arrived may be allocated for those that a header declares.
	growth = 4
	// minGrown is what is allocated at the least, in bytes, for a message that arrives in pieces.
	minGrown = 512
)

// assembly is the message that is being received.
type assembly struct {
	data       []byte
	scratch    *scratch // where data is while it is compressed, else nil
	fragments  int64
	opcode     Opcode
	compressed bool
	utf8       utf8State
}

// reserve makes room for n more bytes. expected is the length in bytes that the message has at the end of the present
// frame, and last says that it has its full length then. What a header declares is not allocated before a good part of
// it has arrived, or the peer has proven before that it sends that much.
func (a *assembly) reserve(n int, expected uint64, last bool, proven int) {
	need := len(a.data) + n
	if need <= cap(a.data) {
		return
	}
	size := max(growth*uint64(need), minGrown)
	if last {
		size = max(size, uint64(proven))
	} else {
		// More fragments follow. Doubling keeps the cost of copying linear in the message's length.
		expected = max(expected, 2*uint64(need))
	}
	size = min(size, expected, math.MaxInt)
	var grown []byte
	if a.compressed {
		// The compressed bytes are not what the receiver gets, and their memory serves the next message.
		previous := a.scratch
		a.scratch = newScratch(int(size))
		grown = append(a.scratch.data, a.data...)
		previous.free()
	} else {
		grown = append(newPayload(int(size)), a.data...)
		releasePayload(a.data)
	}
	a.data = grown
}

// utf8State is where a text message stands between two of its bytes: 0 between characters, else inside one.
type utf8State uint8

const (
	utf8Accept  utf8State = iota
	utf8Need1             // one continuation byte
	utf8Need2             // two
	utf8Need3             // three
	utf8AfterE0           // two, the first of them A0 to BF: no overlong forms
	utf8AfterED           // two, the first of them 80 to 9F: no surrogates
	utf8AfterF0           // three, the first of them 90 to BF: no overlong forms
	utf8AfterF4           // three, the first of them 80 to 8F: nothing above U+10FFFF
	utf8Reject
)

// step takes one byte of a character (RFC 3629, section 4).
func (s utf8State) step(b byte) utf8State {
	low, high, next := byte(0x80), byte(0xBF), utf8Accept
	switch s {
	case utf8Accept:
		switch {
		case b < 0x80:
			return utf8Accept
		case b >= 0xC2 && b <= 0xDF:
			return utf8Need1
		case b == 0xE0:
			return utf8AfterE0
		case b == 0xED:
			return utf8AfterED
		case b >= 0xE1 && b <= 0xEF:
			return utf8Need2
		case b == 0xF0:
			return utf8AfterF0
		case b >= 0xF1 && b <= 0xF3:
			return utf8Need3
		case b == 0xF4:
			return utf8AfterF4
		}
		return utf8Reject
	case utf8Need1:
	case utf8Need2:
		next = utf8Need1
	case utf8Need3:
		next = utf8Need2
	case utf8AfterE0:
		low, next = 0xA0, utf8Need1
	case utf8AfterED:
		high, next = 0x9F, utf8Need1
	case utf8AfterF0:
		low, next = 0x90, utf8Need2
	case utf8AfterF4:
		high, next = 0x8F, utf8Need2
	default:
		return utf8Reject
	}
	if b < low || b > high {
		return utf8Reject
	}
	return next
}

// check goes on through b. A byte that no UTF-8 text can have in its place rejects at once, even where the character
// it stands in is not complete.
func (s utf8State) check(b []byte) utf8State {
	for s != utf8Accept && s != utf8Reject && len(b) > 0 {
		s = s.step(b[0])
		b = b[1:]
	}
	if s == utf8Reject || len(b) == 0 {
		return s
	}
	// All but a character cut off by the end of b goes through the standard library's fast check.
	whole := len(b)
	for back := 1; back <= min(utf8.UTFMax-1, len(b)); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf {
				whole -= back
			}
			break
		}
	}
	if !utf8.Valid(b[:whole]) {
		return utf8Reject
	}
	for _, c := range b[whole:] {
		s = s.step(c)
	}
	return s
}
