// message.go defines messages and assembles them from frames, within limits.

package wsd

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/parts"
	"github.com/seed62836080/wsd/internal/textcheck"
)

// MessageType says how to interpret a message's bytes (RFC 6455, section 5.6).
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

// CompressMode says whether to compress a message if permessage-deflate (RFC 7692) was negotiated. Otherwise it has no
// effect.
type CompressMode uint8

// The compression modes.
const (
	CompressAuto   CompressMode = iota // compress messages of at least Compression.Threshold bytes
	CompressAlways                     // compress whatever the size
	CompressNever                      // send as it is: random or compressed data, secrets next to text that the peer chooses
)

// Message is a WebSocket message: whole, or streamed, which means that it has no Data and is read from its Body while it
// arrives (Config.StreamAbove).
//
// The Data of a received message belongs to the receiver for good, except in a loop over Each. Small messages that arrived
// together may share one allocation, so keeping one message may keep up to 4 KiB of its neighbours in memory: clone it if
// that matters. The Data of a sent message belongs to the caller again when Send returns.
type Message struct {
	Type     MessageType
	Compress CompressMode // applies to sending; received messages have CompressAuto
	Data     []byte       // nil if the message is streamed

	stream *parts.Pipe // what has come of a streamed message, nil for a whole one
}

// Text returns a text message. s must be UTF-8.
func Text(s string) Message { return Message{Type: TextMessage, Data: []byte(s)} }

// TextBytes returns a text message that holds b itself, not a copy. b must be UTF-8.
func TextBytes(b []byte) Message { return Message{Type: TextMessage, Data: b} }

// Binary returns a binary message that holds b itself, not a copy.
func Binary(b []byte) Message { return Message{Type: BinaryMessage, Data: b} }

// JSON returns a text message that holds v encoded as JSON. The error is that of encoding/json.
func JSON(v any) (Message, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Message{}, err
	}
	return Message{Type: TextMessage, Data: data}, nil
}

// Streamed reports whether the message is not held whole, but read from its Body while it arrives (Config.StreamAbove).
func (m Message) Streamed() bool { return m.stream != nil }

// Release gives back the memory of a received message for reuse by later messages, and closes its Body if it is streamed.
// For a whole message, calling it is optional: it saves garbage if there are many messages of more than 512 bytes, and
// does nothing for smaller ones. m.Data, and anything that shares its memory, must not be used or released again
// afterwards.
func (m Message) Release() {
	if m.stream != nil {
		m.stream.Close()
	}
	bufpool.TakeBack(m.Data)
}

const (
	// maxShared is the size in bytes up to which messages of one read share an allocation. sharedChunk is the maximum
	// size of that allocation: it bounds what a kept message can keep in memory with it.
	maxShared   = 512
	sharedChunk = 4 << 10
	// growth bounds the allocation for a length that a header declares, as a multiple of the bytes that have arrived.
	growth = 4
	// minGrown is the minimum allocation, in bytes, for a message that arrives in pieces.
	minGrown = 512
)

// assembly is the message that is being received.
type assembly struct {
	data       []byte // on loan from bufpool while it is compressed; if the message comes in parts, the part that is next
	fragments  int64  // if the message comes in parts, those that brought nothing since the last one that did
	opcode     Opcode
	compressed bool
	inParts    bool // some of it has been returned: it comes in parts
	utf8       textcheck.State
}

// checkText checks the last bytes of a text, and drops those from the first on that no text can have there.
func (a *assembly) checkText(added []byte) bool {
	before := a.utf8
	if a.utf8 = before.Check(added); a.utf8 != textcheck.Reject {
		return true
	}
	a.data = a.data[:len(a.data)-len(added)+before.Accepted(added)]
	return false
}

// reserve makes room for n more bytes. expected is the message's length in bytes at the end of the present frame, and
// last says that this is its full length. What a header declares is not allocated until a good part of it has arrived,
// or the peer has already sent a message of that length.
func (a *assembly) reserve(n int, expected uint64, last bool, longestSoFar int) {
	need := len(a.data) + n
	if need <= cap(a.data) {
		return
	}
	size := max(growth*uint64(need), minGrown)
	if last {
		size = max(size, uint64(longestSoFar))
	} else {
		// More fragments follow. Doubling keeps the cost of copying linear in the message's length.
		expected = max(expected, 2*uint64(need))
	}
	size = min(size, expected, math.MaxInt)
	var grown []byte
	if a.compressed {
		grown = bufpool.Get(int(size)) // the receiver does not get these bytes
	} else {
		grown = bufpool.Give(int(size))
	}
	grown = append(grown, a.data...)
	bufpool.Put(a.data)
	a.data = grown
}
