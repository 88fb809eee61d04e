//go:build linux

package main

// This file is the load client's protocol half, without I/O: bytes from the server in, checked answers counted out.

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// sampleEvery is how many answers pass with their lengths alone checked for each whose payload is compared as well.
const sampleEvery = 64

// largeSize is the size from which a message counts as large: these are compared more often, and progress is measured
// by their bytes, because a measurement sees too few whole ones.
const largeSize = 64 << 10

// windowSize is how far back a deflated message may refer, RFC 7692's greatest.
const windowSize = 32 << 10

// peer is one connection's state. Whoever owns it reads into feed and writes what unsent holds.
type peer struct {
	script *script

	// Sending: what is released and not yet written lies in the script's wire between offset and the end of the last
	// released message; left counts messages, the one that is partly written among them.
	next   int // the script's message to write now
	offset int // where in the wire to go on
	left   int // messages released and not yet wholly written

	// Receiving.
	header  [14]byte
	headerN int
	first   byte   // the first byte of the frame being read
	masked  bool   // whether the frame being read is masked, as only the raw server's are
	inBody  bool   // a frame's header has been read
	need    uint64 // payload bytes of the frame still to come
	message uint64 // payload bytes of the message so far
	rsv1    bool   // the message is deflated
	expect  int    // the script's message that the next answer belongs to
	check   bool   // this answer's payload is compared
	gather  []byte // a deflated answer's payload, where it is compared
	piece   uint64 // how long an answer is where several may come in one message of another protocol; 0 where each is a message
	pieces  uint64 // payload bytes of that protocol that have not been counted
	history []byte // with takeover: what the answers said before, inflated
	inflate io.ReadCloser

	answers uint64
	at      uint64 // which of the messages that were released the next answer belongs to
	stride  uint64 // how many there are from one to the next that is answered here; 0 for 1
	bytesIn uint64 // payload bytes of data frames
	written uint64 // wire bytes

	line *timeline
}

// timeline knows when the messages under way were released. An echo's peer has its own; the subscribers of a broadcast
// share the publisher's.
type timeline struct {
	at []int64 // a ring, as long as messages are under way
	n  uint64  // messages released so far
}

func newPeer(s *script, inflight int) *peer {
	return &peer{script: s, line: &timeline{at: make([]int64, inflight)}}
}

// release lets n more messages be written.
func (p *peer) release(n int, now int64) {
	p.left += n
	for range n {
		p.line.at[p.line.n%uint64(len(p.line.at))] = now
		p.line.n++
	}
}

// unsent is what to write now, in one piece; empty where nothing is. Tell wrote how much of it was taken.
func (p *peer) unsent() []byte {
	if p.left == 0 {
		return nil
	}
	last := min(p.next+p.left, len(p.script.ends)) - 1
	return p.script.wire[p.offset:p.script.ends[last]]
}

func (p *peer) wrote(n int) {
	p.written += uint64(n)
	p.offset += n
	for p.left > 0 && p.offset >= p.script.ends[p.next] {
		p.left--
		was := p.next
		if p.next = p.script.after(was); p.next <= was {
			p.offset = p.script.start(p.next)
		}
	}
}

// feed takes bytes from the server and counts the answers that they complete, with their latencies in h.
func (p *peer) feed(b []byte, now int64, h *histogram) (answers int, err error) {
	for len(b) > 0 {
		if !p.inBody {
			if b, err = p.readHeader(b); err != nil {
				return answers, err
			}
			if !p.inBody {
				return answers, nil
			}
		}
		n := min(uint64(len(b)), p.need)
		if p.first&0x08 == 0 {
			if p.check {
				if err := p.compare(b[:n]); err != nil {
					return answers, err
				}
			}
			p.message += n
			p.bytesIn += n
		}
		b, p.need = b[n:], p.need-n
		if p.need > 0 {
			return answers, nil
		}
		p.inBody = false
		if p.first&0x08 != 0 || p.first&0x80 == 0 {
			continue // a control frame, or a fragment that others follow
		}
		counted, err := p.finishMessage(now, h)
		answers += counted
		if err != nil {
			return answers, err
		}
	}
	return answers, nil
}

// finishMessage counts what was in a whole message: one answer, or those of another protocol.
func (p *peer) finishMessage(now int64, h *histogram) (answers int, err error) {
	if p.piece == 0 {
		return 1, p.finish(now, h)
	}
	for p.pieces += p.message; p.pieces >= p.piece; p.pieces -= p.piece {
		if err := p.count(now, h); err != nil {
			return answers, err
		}
		answers++
	}
	return answers, nil
}

// readHeader takes a frame's header off b, which may hold a part of it, and gives back the rest.
func (p *peer) readHeader(b []byte) ([]byte, error) {
	// Most headers lie in b whole and have two bytes.
	if p.headerN == 0 && len(b) >= 2 && b[1] < 126 {
		return b[2:], p.beginFrame(b[0], false, uint64(b[1]))
	}
	for len(b) > 0 {
		p.header[p.headerN], b = b[0], b[1:]
		p.headerN++
		size := 2
		if p.headerN >= 2 {
			switch p.header[1] & 0x7f {
			case 126:
				size = 4
			case 127:
				size = 10
			}
			if p.header[1]&0x80 != 0 {
				size += 4
			}
		}
		if p.headerN < size {
			continue
		}
		length := uint64(p.header[1] & 0x7f)
		switch length {
		case 126:
			length = uint64(binary.BigEndian.Uint16(p.header[2:]))
		case 127:
			length = binary.BigEndian.Uint64(p.header[2:])
		}
		p.headerN = 0
		return b, p.beginFrame(p.header[0], p.header[1]&0x80 != 0, length)
	}
	return b, nil
}

// beginFrame notes a header.
func (p *peer) beginFrame(first byte, masked bool, length uint64) error {
	p.first, p.masked, p.need, p.inBody = first, masked, length, true
	opcode := first & 0x0f
	switch {
	case opcode == opClose:
		return errors.New("bench: expected an answer, the server sent a close frame")
	case opcode&0x08 != 0:
		return nil
	case opcode != 0:
		if opcode != p.script.opcode {
			return fmt.Errorf("bench: expected opcode %#x, got %#x", p.script.opcode, opcode)
		}
		p.message, p.rsv1 = 0, first&0x40 != 0
		if p.rsv1 != p.script.deflated {
			return fmt.Errorf("bench: expected RSV1 %v, got %v", p.script.deflated, p.rsv1)
		}
		every := uint64(sampleEvery)
		if len(p.script.want[p.expect]) >= largeSize {
			every = 8
		}
		p.check = p.answers%every == 0
		if p.script.takeover {
			// Each answer continues the last one's history, so it is all from the start or nothing.
			p.check = p.answers < sampleEvery
		}
		p.check = p.check && p.piece == 0
		p.gather = p.gather[:0]
	}
	return nil
}

// compare checks a piece of the answer's payload, or puts it by where it is deflated.
func (p *peer) compare(piece []byte) error {
	if p.rsv1 {
		p.gather = append(p.gather, piece...)
		return nil
	}
	want := p.script.want[p.expect]
	if uint64(len(want)) < p.message+uint64(len(piece)) || !bytes.Equal(piece, want[p.message:][:len(piece)]) {
		return fmt.Errorf("bench: answer %d differs from what was sent", p.answers)
	}
	return nil
}

// finish checks a whole answer and counts it.
func (p *peer) finish(now int64, h *histogram) error {
	want := p.script.want[p.expect]
	switch {
	case !p.rsv1:
		if p.message != uint64(len(want)) {
			return fmt.Errorf("bench: expected an answer of %d bytes, got %d", len(want), p.message)
		}
	case p.check:
		got, err := p.inflated()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("bench: answer %d, inflated, differs from what was sent", p.answers)
		}
	}
	return p.count(now, h)
}

// count counts an answer.
func (p *peer) count(now int64, h *histogram) error {
	if p.at >= p.line.n {
		return fmt.Errorf("bench: %d messages were sent, the answer to message %d came", p.line.n, p.at+1)
	}
	h.add(time.Duration(now-p.line.at[p.at%uint64(len(p.line.at))]), 1)
	p.answers++
	p.begin(max(p.stride, 1))
	return nil
}

// begin passes over so many messages.
func (p *peer) begin(n uint64) {
	p.at += n
	for range n {
		p.expect = p.script.after(p.expect)
	}
}

// inflated is the payload that gather holds, by RFC 7692, section 7.2.2. A final empty block is appended for the
// inflater to see the end.
func (p *peer) inflated() ([]byte, error) {
	tail := []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}
	src := io.MultiReader(bytes.NewReader(p.gather), bytes.NewReader(tail))
	if p.inflate == nil {
		p.inflate = flate.NewReader(nil)
	}
	if err := p.inflate.(flate.Resetter).Reset(src, p.history); err != nil {
		return nil, fmt.Errorf("bench: an inflater: %w", err)
	}
	got, err := io.ReadAll(p.inflate)
	if err != nil {
		return nil, fmt.Errorf("bench: inflating answer %d: %w", p.answers, err)
	}
	if p.script.takeover {
		p.history = append(p.history, got...)
		p.history = p.history[max(0, len(p.history)-windowSize):]
	}
	return got, nil
}

// progress is how many round trips have been made. Of large messages it counts the parts that have gone and come.
func (p *peer) progress() float64 {
	if size := len(p.script.want[0]); size >= largeSize {
		return (float64(p.written)/float64(p.script.ends[0]) + float64(p.bytesIn)/float64(size)) / 2
	}
	return float64(p.answers)
}
