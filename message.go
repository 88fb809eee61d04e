// message.go defines messages and assembles them from frames, whole or in parts, within limits.

package wsd

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/mask"
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

const (
	// leastPart and mostPart bound how many bytes parts have room for, which grows with what comes at a time, so that a
	// message that trickles in does not hold what a fast one needs. One that is full is best written at a time.
	leastPart = 4 << 10
	mostPart  = 127 << 10

	// inflatePiece is how many compressed bytes are decoded at a time.
	inflatePiece = 4 << 10
	// mostWithoutData is how many compressed bytes in a row may bring no data: some hundred are enough for the codes of a
	// block, and four for an empty one, which a peer may send to show that it lives.
	mostWithoutData = 64 << 10
)

// pieces is what a parser knows of messages that come in parts.
type pieces struct {
	above     uint64     // Config.StreamAbove
	size      int        // how many bytes a part has room for if it is not known how many come
	judged    bool       // the part that is next has: how far it is filled says whether that is right
	passedOn  uint64     // bytes of the present message that have been returned in parts
	dropped   uint64     // bytes of the last message that dropMessage has let go of
	inflating *inflating // nil unless the present message is decompressed while it arrives
}

// inflating is what is known of a message that is decompressed while it arrives.
type inflating struct {
	stream  partDecoder
	came    uint64  // compressed bytes
	barren  int     // those of them that came since the last data
	more    bool    // the stream may have data that has not been taken
	arrived bool    // the message has come whole
	behind  [1]byte // what follows a first part
}

// errInParts says that a compressed message turned out to be longer than Config.StreamAbove.
var errInParts = errors.New("wsd: comes in parts")

// isTooBig reports whether an error of an inflater is about the limit.
func isTooBig(err error) bool {
	violated, ok := err.(*ProtocolError)
	return ok && violated.Code == StatusMessageTooBig
}

// streamAbove returns how many bytes a message has at most that does not come in parts.
func (p *Parser) streamAbove() uint64 {
	if p.pieces == nil {
		return unlimited
	}
	return p.pieces.above
}

// setParts has messages of more than above bytes come in parts from the next one on, none if above is not positive.
func (p *Parser) setParts(above int64) {
	switch {
	case p.inPayload || p.rules.inMessage:
	case above <= 0:
		if p.pieces != nil {
			p.pieces.above = unlimited
		}
	case p.pieces == nil:
		p.pieces = &pieces{above: uint64(above)}
	default:
		p.pieces.above = uint64(above)
	}
}

// size returns how many bytes of the message have arrived.
func (p *Parser) size() uint64 {
	size := uint64(len(p.message.data))
	if p.pieces != nil {
		size += p.pieces.passedOn
	}
	return size
}

// wireSize is size before decompression.
func (p *Parser) wireSize() uint64 {
	if p.pieces != nil && p.pieces.inflating != nil {
		return p.pieces.inflating.came
	}
	return p.size()
}

// inflatedWaits reports whether there may be data that has been decompressed and not returned.
func (p *Parser) inflatedWaits() bool {
	return p.pieces != nil && p.pieces.inflating != nil && p.pieces.inflating.more
}

// partRoom returns how many bytes may be added to the part that is next. most is how many there are, unlimited if that is not
// known.
func (p *Parser) partRoom(most uint64) int {
	m := &p.message
	if m.data == nil {
		s := p.pieces
		s.size = min(max(s.size, leastPart), mostPart)
		size := s.size
		if s.judged = most == unlimited; !s.judged {
			size = int(min(max(most, leastPart), mostPart))
		}
		m.data = bufpool.Get(size)
	}
	return m.partSize() - len(m.data)
}

// partSize returns how many bytes the part that is next may have.
func (a *assembly) partSize() int { return min(cap(a.data), mostPart) }

// partComplete reports whether the message goes on, but not the part that is next.
func (p *Parser) partComplete() bool {
	m := &p.message
	if m.inParts {
		return len(m.data) > 0 && len(m.data) == m.partSize()
	}
	return !m.compressed && uint64(len(m.data)) == p.streamAbove()
}

// partSoFar returns what has come of a message that comes in parts, or an event without a part if nothing has.
func (p *Parser) partSoFar() Event {
	if !p.message.inParts || len(p.message.data) == 0 {
		return Event{}
	}
	return p.part()
}

// part returns the part that is next.
func (p *Parser) part() Event {
	m := &p.message
	event := Event{Opcode: m.opcode, Part: MiddlePart, Data: m.data}
	if !m.inParts {
		event.Part, m.inParts, m.fragments = FirstPart, true, 0
	} else if s := p.pieces; s.judged && m.data != nil {
		if len(m.data) == m.partSize() {
			s.size = 2 * cap(m.data)
		} else if len(m.data) < cap(m.data)/4 {
			s.size = cap(m.data) / 2
		}
	}
	p.pieces.passedOn += uint64(len(m.data))
	m.data = nil
	return event
}

// inflatesAlong reports whether the present payload is decompressed while it arrives: it may have to come in parts.
func (p *Parser) inflatesAlong() bool {
	return p.pieces != nil && p.message.compressed && !p.frame.opcode.control()
}

// inflateAlong takes some of the present payload and decompresses it.
func (p *Parser) inflateAlong(src []byte) (n int, _ Event, _ error) {
	if p.pieces.inflating == nil {
		p.pieces.inflating = &inflating{stream: p.inflater.stream(p.limit)}
	}
	m := p.pieces.inflating
	src = src[:min(len(src), inflatePiece)]
	dst := m.stream.Space(len(src))
	if p.frame.masked {
		p.key = mask.XOR(dst, src, p.key)
	} else {
		copy(dst, src)
	}
	m.came += uint64(len(src))
	m.barren += len(src)
	if p.remaining -= uint64(len(src)); p.remaining == 0 {
		p.inPayload = false
		if p.rules.inMessage = !p.frame.fin; p.frame.fin {
			m.stream.End()
			m.arrived = true
		}
	}
	event, err := p.inflateMore()
	return len(src), event, err
}

// inflateMore moves what is decompressed to its place, up to the end of the part that is next.
func (p *Parser) inflateMore() (Event, error) {
	m := p.pieces.inflating
	m.more = true
	for {
		dst := p.inflateSpace()
		n, err := m.stream.Next(dst)
		if n > 0 {
			m.barren = 0
			if event, err := p.inflatedPart(dst[:n]); event.Opcode != OpContinuation || err != nil {
				return event, err
			}
			continue
		}
		switch {
		case err != nil:
			return p.fail(notInflated(err))
		case m.barren > mostWithoutData:
			return p.fail(&ProtocolError{Code: StatusPolicyViolation, Section: "RFC 7692, section 7.2.3", Problem: "compressed message of blocks without data"})
		}
		m.more = false
		if !m.arrived {
			return Event{}, nil
		}
		return p.endInflated()
	}
}

// inflateSpace returns where the next data goes: behind the message so far, or, where a first part may end, to a place of
// its own, since it ends there only if data follows.
func (p *Parser) inflateSpace() []byte {
	m := &p.message
	if !m.inParts {
		left := p.streamAbove() - uint64(len(m.data))
		if left == 0 {
			return p.pieces.inflating.behind[:]
		}
		m.data = bufpool.Grow(m.data, int(min(left, minGrown)))
		return m.data[len(m.data):][:min(left, uint64(cap(m.data)-len(m.data)))]
	}
	room := p.partRoom(unlimited)
	return m.data[len(m.data):][:room]
}

// inflatedPart adds data that has been put into the space for it, and returns the part that is then complete.
func (p *Parser) inflatedPart(data []byte) (event Event, err error) {
	m := &p.message
	if !m.inParts && uint64(len(m.data)) == p.streamAbove() {
		event = p.part()
		p.partRoom(unlimited)
		m.data = append(m.data, data...)
	} else {
		m.data = m.data[:len(m.data)+len(data)]
	}
	if m.opcode == OpText && !m.checkText(data) {
		violated, err := p.fail(notUTF8())
		if event.Part != WholeMessage {
			return event, nil // and the violation follows
		}
		return violated, err
	}
	if event.Part == WholeMessage && m.inParts && len(m.data) == m.partSize() {
		event = p.part()
	}
	return event, nil
}

// endInflated completes a message that was decompressed while it arrived.
func (p *Parser) endInflated() (Event, error) {
	m := &p.message
	if m.utf8 != textcheck.Accept {
		return p.fail(notUTF8())
	}
	event := Event{Opcode: m.opcode}
	if m.inParts {
		event = p.part()
		event.Part = LastPart
	} else {
		event.Data = append(bufpool.Give(len(m.data)), m.data...)
		bufpool.Put(m.data)
	}
	p.dropMessage()
	return event, nil
}

// dropMessage lets go of the message that was being received.
func (p *Parser) dropMessage() {
	if s := p.pieces; s != nil {
		s.dropped = p.size()
		if s.inflating != nil {
			p.wireCame = int(s.inflating.came)
			s.inflating.stream.Close()
		}
		s.passedOn, s.inflating = 0, nil
	}
	p.message = assembly{}
}
