// pieces.go is the parser's way with messages that are not held whole: it returns them in parts.

package wsd

import "github.com/seed62836080/wsd/internal/bufpool"

const (
	// leastPart and mostPart are how many bytes parts have room for. They grow with what comes at a time, so that a
	// message that trickles in does not hold what a fast one needs.
	leastPart = 4 << 10
	mostPart  = 128 << 10
)

// partRoom returns how many bytes may be added to the part that is next.
func (p *Parser) partRoom() int {
	m := &p.message
	if m.data == nil {
		p.partSize = min(max(p.partSize, leastPart), mostPart)
		m.data = bufpool.Get(p.partSize)
	}
	return cap(m.data) - len(m.data)
}

// partComplete reports whether the message goes on, but not the part that is next.
func (p *Parser) partComplete() bool {
	m := &p.message
	if m.inParts {
		return len(m.data) > 0 && len(m.data) == cap(m.data)
	}
	return !m.compressed && uint64(len(m.data)) == p.streamAbove
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
	} else if len(m.data) == cap(m.data) {
		p.partSize = 2 * cap(m.data)
	} else if len(m.data) < cap(m.data)/4 {
		p.partSize = cap(m.data) / 2
	}
	m.passedOn += uint64(len(m.data))
	m.data = nil
	return event
}
