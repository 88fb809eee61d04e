// parser.go is the sans-I/O core: bytes in, messages and control frames out.

package wsd

import (
	"encoding/binary"
	"math"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/mask"
	"github.com/seed62836080/wsd/internal/textcheck"
)

// Event is what a Parser found in its input.
type Event struct {
	// Opcode is OpText or OpBinary for a whole message, OpPing, OpPong or OpClose for a control frame, and
	// OpContinuation, the zero value, if nothing is complete yet.
	Opcode Opcode
	// Part says whether that message is whole, or which part of it Data is (Config.StreamAbove).
	Part Part
	// Code is a close frame's status code, StatusNoStatus if it had none; 0 for anything else.
	Code StatusCode
	// Data is the message or a part of it, the payload of a ping or pong, or a close frame's reason. A message's Data
	// belongs to the caller for good, as Message describes; other Data is valid until the next call to Parse.
	Data []byte
}

// Part says which part of a message an Event holds.
type Part uint8

// The parts. A message of more than Config.StreamAbove bytes comes as one FirstPart of exactly that many, any number of
// MiddlePart, each of at least a byte, and one LastPart, which may be empty. The Opcode of all of them is the message's.
const (
	WholeMessage Part = iota
	FirstPart
	MiddlePart
	LastPart
)

// Message returns the message, or part of one, of an event whose Opcode is OpText or OpBinary.
func (e Event) Message() Message { return Message{Type: MessageType(e.Opcode), Data: e.Data} }

// Parser turns the bytes that one side of a connection receives after the opening handshake into messages and control
// frames (RFC 6455, sections 5 to 8). It does no I/O: the bytes may come from anywhere, cut anywhere. Connections use it
// to read. It is not safe for concurrent use.
type Parser struct {
	err   error // the violation that ended the parsing
	limit uint64
	// maxFragments bounds the frames of a message.
	maxFragments int64
	pieces       *pieces // nil if no message comes in parts
	inflater     decoder // nil if permessage-deflate was not negotiated
	wireCame     int     // the length in bytes of the last message as it came, if it was inflated; 0 once another has begun

	rules     frameRules
	frame     frameHeader // the frame whose payload is arriving
	remaining uint64      // bytes of that payload that have not arrived
	key       uint32      // the masking key, rotated to the next byte
	inPayload bool
	whole     bool // what a header declares has come, since the transport takes frames as a whole
	ended     bool // a close frame came: whatever follows it is ignored (RFC 6455, section 5.5.1)

	message      assembly
	shared       []byte // what is left of the allocation that small messages share
	longestSoFar int    // the length of the longest message that has come in pieces: that much is allocated at once for the next

	control    []byte               // what has arrived of the payload of a control frame
	headerSize uint8                // how much of header has arrived
	header     [maxFrameHeader]byte // a header cut by the end of the bytes
}

// NewParser returns a parser for what a connection of the given role receives: a server's expects masked frames, a
// client's unmasked ones. Of cfg it uses only MaxMessageSize, MaxFragments, StreamAbove and Compression. A non-nil
// Compression is taken as negotiated exactly as given.
func NewParser(role Role, cfg Config) *Parser {
	p := newParser(role, &cfg)
	p.decompress(role, cfg.Compression)
	return p
}

// newParser returns a parser of messages that are not compressed. It is not inlined, as most connections need neither it nor the
// stack for it.
//
//go:noinline
func newParser(role Role, cfg *Config) *Parser {
	p := &Parser{maxFragments: limitOr(cfg.MaxFragments, defaultMaxFragments)}
	p.setLimit(messageLimit(cfg.MaxMessageSize))
	if cfg.StreamAbove > 0 {
		p.pieces = &pieces{above: uint64(cfg.StreamAbove)}
	}
	p.rules.masked = role == ServerRole
	return p
}

// decompress has the parser of a connection that has parsed nothing take messages that are compressed as was agreed on, if
// anything was.
func (p *Parser) decompress(role Role, agreed *Compression) {
	if agreed != nil {
		p.inflater = newInflater(role, agreed)
		p.rules.rsv1 = true
	}
}

// restart makes a parser that is at rest one for another connection, without compression and messages in parts. longest is
// the length of the longest message that has come in pieces.
func (p *Parser) restart(s *settings, longest uint32) {
	*p = Parser{
		limit: uint64(s.maxMessage), maxFragments: s.maxFragments, longestSoFar: int(longest), control: p.control[:0],
	}
	p.rules.masked = s.role == ServerRole
}

// atRest reports whether nothing is lost if the parser restarts.
func (p *Parser) atRest() bool {
	return p.err == nil && !p.ended && !p.midMessage() && p.inflater == nil && p.pieces == nil
}

// messageLimit returns the limit in bytes that a MaxMessageSize stands for. A slice cannot be longer than the maximum int,
// which is less than unlimited if int has 32 bits.
func messageLimit(size int64) int64 {
	return min(limitOr(size, int64(defaultMaxMessageSize)), math.MaxInt)
}

// setLimit bounds messages, for all frames whose headers have not been parsed. A limit of 0 changes nothing.
func (p *Parser) setLimit(limit int64) {
	if limit != 0 {
		p.limit = uint64(limit)
	}
}

// left returns how many of limit bytes a message of some size leaves: none if the limit has been lowered below what has
// arrived.
func left(limit, size uint64) uint64 { return limit - min(limit, size) }

// Parse reads b up to the end of the next message or control frame and returns it with the number of bytes it took, which
// the next call must leave out. An event with the zero Opcode means that all of b was taken and nothing is complete. After a
// part of a message, call Parse again even with nothing left: it may have taken more. The error is a *ProtocolError with the
// code to close with; it is final. After a close frame all bytes are taken and ignored. Parse only reads b, and does not
// keep it.
func (p *Parser) Parse(b []byte) (event Event, n int, err error) {
	if p.err != nil || p.ended {
		return Event{}, len(b), p.err
	}
	if p.inflatedWaits() {
		if event, err = p.inflateMore(); event.Opcode != OpContinuation || err != nil {
			return event, 0, err
		}
	}
	if event, n = p.plainMessage(b); n > 0 {
		return event, n, nil
	}
	for {
		if !p.inPayload {
			size, err := p.parseHeader(b[n:])
			if err != nil {
				event, err = p.fail(err)
				return event, n, err
			}
			if !p.inPayload {
				p.shared = nil
				return p.partSoFar(), len(b), nil
			}
			n += size
			if p.frame.fin && !p.rules.inMessage && !p.frame.opcode.control() && p.remaining <= uint64(len(b)-n) &&
				p.remaining <= p.streamAbove() {
				// The whole message is there, as for most messages, and needs no more bookkeeping.
				end := n + int(p.remaining)
				if p.frame.rsv1 {
					event, err = p.wholeCompressed(b[n:end])
				} else {
					event, err = p.wholeMessage(b[n:end], len(b)-n)
				}
				if err != errInParts {
					return event, end, err
				}
				p.inPayload = true
			}
		}
		size := len(b) - n
		if uint64(size) > p.remaining {
			size = int(p.remaining)
		}
		if p.inflatesAlong() {
			taken, event, err := p.inflateAlong(b[n : n+size])
			n += taken
			if event.Opcode != OpContinuation || err != nil {
				return event, n, err
			}
			if p.inPayload && n == len(b) {
				return p.partSoFar(), n, nil
			}
			continue
		}
		if size == 0 && p.remaining > 0 {
			p.shared = nil
			return p.partSoFar(), n, nil
		}
		var dst []byte
		if p.frame.opcode.control() {
			if event = p.partSoFar(); event.Part != WholeMessage {
				return event, n, nil
			}
			p.control = p.control[:len(p.control)+size]
			dst = p.control[len(p.control)-size:]
		} else {
			dst = p.extend(size, len(b)-n)
		}
		event, err = p.accept(dst, b[n:n+len(dst)])
		if n += len(dst); n == len(b) {
			p.shared = nil // as allocate does: what came last need not have been a message
		}
		if event.Opcode != OpContinuation || err != nil {
			return event, n, err
		}
		if p.inPayload {
			return p.partSoFar(), n, nil
		}
	}
}

// parseHeader reads a frame header from b, which may continue one that was cut, and returns how much of b it took.
// inPayload tells whether it was complete.
func (p *Parser) parseHeader(b []byte) (n int, err error) {
	p.rules.room = left(p.limit, p.size())
	if p.rules.rsv1 {
		p.rules.room = left(compressedLimit(p.limit), p.wireSize())
	}
	if p.headerSize > 0 {
		added := copy(p.header[p.headerSize:], b)
		b = p.header[:int(p.headerSize)+added]
	}
	frame, length, err := parseFrameHeader(b, p.rules)
	if err != nil {
		return 0, err
	}
	if length == 0 {
		p.headerSize = uint8(copy(p.header[:], b))
		return 0, nil
	}
	n = length - int(p.headerSize)
	p.headerSize = 0
	p.frame, p.remaining, p.key = frame, frame.length, frame.key
	p.inPayload = true
	switch frame.opcode {
	case OpText, OpBinary:
		if frame.length > p.limit && !frame.rsv1 {
			return 0, tooBig()
		}
		p.message.opcode, p.message.compressed = frame.opcode, frame.rsv1
		p.wireCame = 0
		p.message.fragments = 1
	case OpContinuation:
		if !p.message.compressed && frame.length > left(p.limit, p.size()) {
			return 0, tooBig()
		}
		p.message.fragments++
		if p.message.inParts && frame.length > 0 {
			p.message.fragments = 0 // only those that bring nothing count
		}
		if p.message.fragments > p.maxFragments {
			return 0, &ProtocolError{Code: StatusPolicyViolation, Section: "5.4", Problem: "message of more than MaxFragments frames"}
		}
	default:
		if uint64(cap(p.control)) < frame.length {
			p.control = make([]byte, 0, frame.length)
		}
		p.control = p.control[:0]
	}
	return n, nil
}

// plainMessage is Parse for most messages of most connections: whole, in one frame of less than 64 KiB, not compressed, and
// without a fault. It returns 0 for anything else, which Parse has to look at.
func (p *Parser) plainMessage(b []byte) (event Event, n int) {
	if p.inPayload || p.headerSize > 0 || p.rules.inMessage || len(b) < 4 {
		return Event{}, 0
	}
	opcode, length, start := Opcode(b[0]^finBit), int(b[1]), 2
	if p.rules.masked {
		length ^= maskBit
	}
	if length == len16 {
		length, start = int(binary.BigEndian.Uint16(b[2:])), 4
		if length < len16 {
			return Event{}, 0
		}
	} else if length > len16 {
		return Event{}, 0
	}
	if p.rules.masked {
		start += 4
	}
	end := start + length
	if opcode != OpText && opcode != OpBinary || end > len(b) || uint64(length) > min(p.limit, p.streamAbove()) {
		return Event{}, 0
	}
	p.wireCame = 0
	p.frame = frameHeader{fin: true, masked: p.rules.masked, opcode: opcode, length: uint64(length)}
	data := p.allocate(length, len(b)-start)
	if p.rules.masked {
		mask.XOR(data, b[start:end], binary.LittleEndian.Uint32(b[start-4:]))
	} else {
		copy(data, b[start:end])
	}
	if opcode == OpText && !textcheck.Valid(data) {
		return Event{}, 0
	}
	return Event{Opcode: opcode, Data: data}, end
}

// wholeMessage copies an unfragmented message out of the bytes being parsed. rest is how many of them are left, including
// the message.
func (p *Parser) wholeMessage(src []byte, rest int) (Event, error) {
	data := p.allocate(len(src), rest)
	if p.frame.masked {
		mask.XOR(data, src, p.key)
	} else {
		copy(data, src)
	}
	p.inPayload = false
	if p.frame.opcode == OpText && !textcheck.Valid(data) {
		p.err = notUTF8()
		return Event{}, p.err
	}
	return Event{Opcode: p.frame.opcode, Data: data}, nil
}

// wholeCompressed decompresses an unfragmented message out of the bytes being parsed.
func (p *Parser) wholeCompressed(src []byte) (Event, error) {
	p.inPayload = false
	if !p.frame.masked {
		return p.inflated(src)
	}
	unmasked := bufpool.Get(len(src))[:len(src)]
	mask.XOR(unmasked, src, p.key)
	event, err := p.inflated(unmasked)
	bufpool.Put(unmasked)
	return event, err
}

// inflated completes a message that came compressed.
func (p *Parser) inflated(compressed []byte) (Event, error) {
	limit := min(p.limit, p.streamAbove())
	p.wireCame = len(compressed)
	data, err := p.inflater.inflate(compressed, limit)
	if limit < p.limit && isTooBig(err) {
		return Event{}, errInParts
	}
	if err == nil && p.message.opcode == OpText && !textcheck.Valid(data) {
		err = notUTF8()
	}
	if err != nil {
		return p.fail(err)
	}
	event := Event{Opcode: p.message.opcode, Data: data}
	p.message = assembly{}
	return event, nil
}

// allocate returns size bytes for a message. Small messages in the same rest of the input share an allocation.
func (p *Parser) allocate(size, rest int) []byte {
	if size > maxShared {
		return bufpool.Give(size)[:size]
	}
	if len(p.shared) < size {
		p.shared = make([]byte, max(size, min(rest, sharedChunk)))
	}
	data := p.shared[:size:size]
	if p.shared = p.shared[size:]; size == rest {
		p.shared = nil // the connection may be idle for a long time now
	}
	return data
}

// extend lengthens the message by up to size bytes and returns them: fewer if a part of it is then complete. rest is how many
// bytes of input there are.
func (p *Parser) extend(size, rest int) []byte {
	m := &p.message
	have := len(m.data)
	size = min(size, p.reserve(size, uint64(rest)))
	m.data = m.data[:have+size]
	return m.data[have:]
}

// lastMessage returns the size of the message that an event has completed, and how many bytes it took as it came.
func (p *Parser) lastMessage(event Event) (size, wireSize int) {
	size = len(event.Data)
	if event.Part == LastPart {
		size = int(p.pieces.dropped)
	}
	if p.wireCame > 0 {
		return size, p.wireCame
	}
	return size, size
}

// reserve makes room for size more bytes of the message, and returns how many may be added: fewer if a part of it is then
// complete. most is how many there may be, unlimited if that is not known.
func (p *Parser) reserve(size int, most uint64) (room int) {
	m := &p.message
	have := uint64(len(m.data))
	expected := have + p.remaining
	switch {
	case m.inParts:
		return p.partRoom(most)
	case expected > p.streamAbove() && !m.compressed:
		expected = p.streamAbove()
		room = int(expected - have)
		m.reserve(min(size, room), expected, true, p.longestSoFar)
		return room
	}
	m.reserve(size, expected, p.frame.fin, p.longestSoFar)
	return math.MaxInt
}

// midMessage reports whether a message or frame has begun and is not complete.
func (p *Parser) midMessage() bool { return p.inPayload || p.rules.inMessage || p.headerSize > 0 }

// direct returns the space for the payload's next bytes, for a reader that puts them there itself and then calls filled.
// It returns nil if reading ahead into a buffer is better: in headers, in control frames, while little of a payload is left,
// and while little has arrived, unless the rest has too.
func (p *Parser) direct() []byte {
	m := &p.message
	const least = 4 << 10
	if !p.inPayload || p.frame.opcode.control() || p.remaining < least || p.inflatesAlong() ||
		len(m.data) < least && !m.inParts && !p.whole {
		return nil
	}
	most := uint64(unlimited)
	if m.inParts && p.remaining < uint64(p.pieces.size) {
		most = p.remaining
	}
	came := 1
	if p.whole {
		came = int(p.remaining)
	}
	room := p.reserve(came, most)
	space := m.data[len(m.data):cap(m.data)]
	return space[:min(uint64(len(space)), p.remaining, uint64(room))]
}

// expectsLong reports whether the last frame was long and not masked. If so, it is best to read only the beginning of the
// next one through a buffer, since the rest would only be copied. Unmasking moves a payload to its place in passing, and
// is faster from a buffer that is in the cache.
func (p *Parser) expectsLong() bool { return p.frame.length >= longFrame && !p.frame.masked }

// longFrame is the length in bytes from which a frame does not fit in one read ahead.
const longFrame = 64 << 10

// filled accepts the n bytes that were put into the space that direct returned.
func (p *Parser) filled(n int) (Event, error) {
	m := &p.message
	have := len(m.data)
	m.data = m.data[:have+n]
	event, err := p.accept(m.data[have:], m.data[have:])
	if event.Opcode == OpContinuation && err == nil {
		event = p.partSoFar()
	}
	return event, err
}

// accept moves the next bytes of the current payload, src, to their place, dst, which may be src itself.
func (p *Parser) accept(dst, src []byte) (Event, error) {
	if p.frame.masked {
		p.key = mask.XOR(dst, src, p.key)
	} else if len(src) > 0 && &dst[0] != &src[0] {
		copy(dst, src)
	}
	p.remaining -= uint64(len(src))
	m := &p.message
	control := p.frame.opcode.control()
	if !control && m.opcode == OpText && !m.compressed {
		if !m.checkText(dst) {
			return p.fail(notUTF8())
		}
	}
	if p.frame.opcode == OpClose {
		if err := checkCloseStart(p.control); err != nil {
			return p.fail(err)
		}
	}
	if p.remaining > 0 {
		if !control && p.partComplete() {
			return p.part(), nil
		}
		return Event{}, nil
	}
	p.inPayload = false
	if control {
		return p.endControl()
	}
	p.rules.inMessage = !p.frame.fin
	if p.rules.inMessage {
		return Event{}, nil
	}
	return p.endMessage()
}

func (p *Parser) endControl() (Event, error) {
	payload := p.control
	if p.frame.opcode != OpClose {
		return Event{Opcode: p.frame.opcode, Data: payload}, nil
	}
	code, _, err := parseClosePayload(payload)
	if err != nil {
		return p.fail(err)
	}
	p.ended = true
	p.dropMessage()
	return Event{Opcode: OpClose, Code: code, Data: payload[min(2, len(payload)):]}, nil
}

func (p *Parser) endMessage() (Event, error) {
	message := p.message
	if message.inParts {
		if message.utf8 != textcheck.Accept {
			return p.fail(notUTF8())
		}
		event := p.part()
		event.Part = LastPart
		p.dropMessage()
		return event, nil
	}
	p.longestSoFar = max(p.longestSoFar, len(message.data))
	if message.compressed {
		event, err := p.inflated(message.data)
		bufpool.Put(message.data)
		return event, err
	}
	p.message = assembly{}
	if message.utf8 != textcheck.Accept {
		return p.fail(notUTF8())
	}
	return Event{Opcode: message.opcode, Data: message.data}, nil
}

// fail ends the parsing, and drops what had arrived of a message. If that is a part, it comes ahead of the error.
func (p *Parser) fail(err error) (Event, error) {
	p.err = err
	event := p.partSoFar()
	p.dropMessage()
	if event.Part != WholeMessage {
		return event, nil
	}
	return Event{}, err
}

func notUTF8() error {
	return &ProtocolError{Code: StatusInvalidPayload, Section: "8.1", Problem: "text message is not UTF-8"}
}
