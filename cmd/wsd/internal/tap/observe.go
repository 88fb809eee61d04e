// observe.go makes events of what passes on one connection.

package tap

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
)

const (
	pieceSize  = 64 << 10 // bytes of a payload in one line of a recording
	lineKeep   = 256      // bytes of a payload that a line needs
	pageKeep   = 1 << 20  // bytes of a payload that the page shows
	recordKeep = 16 << 20 // bytes of an inflated message that a recording holds
	mostPings  = 128      // under way, whose pongs are recognized
)

// observer is one connection.
type observer struct {
	sinks          *sinks
	number         int
	client, server *direction

	mu    sync.Mutex // guards all below
	pings []ping
}

// ping is one that has not been answered.
type ping struct {
	from    string
	payload string
	at      time.Time
}

// direction is one way of a connection. The goroutine that passes its bytes on uses it.
type direction struct {
	*observer
	from     string
	reader   *reader
	inflater *inflater

	compressed bool      // a compressed message is under way
	shown      []byte    // the beginning of the frame that is under way
	now        time.Time // when what is being read came
	event      Event     // of the frame that is under way
	lines      []byte    // that are not with sinks yet
	start      []byte    // of the lines of what is being read, empty before the first
}

// newObserver begins with the handshake.
func newObserver(s *sinks, number int, remote string, request, response *head) *observer {
	o := &observer{sinks: s, number: number}
	if s.none() { // how far a frame has come is all that is needed
		o.client = &direction{observer: o, reader: &reader{fromClient: true, emit: func(*frame) {}}}
		o.server = &direction{observer: o, reader: &reader{emit: func(*frame) {}}}
		return o
	}
	keep := s.keep()
	if s.recording() {
		keep = recordKeep
	}
	client, server := negotiated(response.header(), keep)
	o.client = o.direction("client", client)
	o.server = o.direction("server", server)
	s.take(&Event{Conn: number, Time: time.Now(), Event: "open", Remote: remote, Request: request.String(), Response: response.String()}, true)
	return o
}

func (o *observer) direction(from string, i *inflater) *direction {
	d := &direction{observer: o, from: from, inflater: i}
	d.reader = &reader{fromClient: from == "client", deflate: i != nil, keep: o.sinks.keep(), emit: d.frame}
	if i != nil || o.sinks.recording() {
		d.reader.pieces, d.reader.keep = true, pieceSize
	}
	return d
}

// feed takes bytes of this direction, ahead of whoever answers them.
func (d *direction) feed(b []byte) {
	d.now, d.start = time.Now(), d.start[:0]
	d.reader.feed(b)
	d.flush()
}

// flush hands lines on.
func (d *direction) flush() {
	if len(d.lines) > 0 {
		d.sinks.lines.put(d.lines)
		d.lines = d.lines[:0]
	}
}

// end is called when both directions have ended.
func (o *observer) end(problem string) {
	problems := []string{problem}
	for _, d := range []*direction{o.client, o.server} {
		if cut := d.reader.cut(); cut != "" {
			problems = append(problems, "the "+d.from+"'s "+cut)
		}
		if d.inflater != nil {
			d.inflater.end() // so that its goroutine does
		}
	}
	problems = slices.DeleteFunc(problems, func(p string) bool { return p == "" })
	o.sinks.take(&Event{Conn: o.number, Time: time.Now(), Event: "end", Problem: strings.Join(problems, ", ")}, true)
}

// frame makes events of a frame, or of a piece of one.
func (d *direction) frame(f *frame) {
	control := f.opcode&8 != 0
	begins := !control && f.offset == 0 && f.opcode != wsd.OpContinuation
	if begins {
		d.compressed = d.inflater != nil && f.rsv&4 != 0
		if d.compressed {
			d.inflater.begin()
		}
	}
	compressed := d.compressed && !control
	if compressed {
		d.inflater.feed(f.payload)
	}
	shown := f.payload
	if d.reader.pieces {
		if f.offset == 0 {
			d.shown = d.shown[:0]
		}
		d.shown = append(d.shown, f.payload[:min(len(f.payload), max(d.sinks.keep()-len(d.shown), 0))]...)
		shown = d.shown
	}
	if d.sinks.recording() && !compressed && !f.last {
		d.take(f, f.payload)
		d.sinks.take(&d.event, false)
	}
	if !f.last {
		return
	}
	d.take(f, shown)
	e := &d.event
	e.Offset, e.Cut = 0, uint64(len(shown)) < f.length
	if !d.sinks.recording() && !compressed {
		d.judge(e, f)
		d.show(e)
		return
	}
	recorded := *e
	recorded.Offset, recorded.data, recorded.Cut = f.offset, f.payload, false
	if compressed {
		d.complete(e, &recorded, f)
	}
	d.judge(e, f)
	recorded.Problem, recorded.RTT, recorded.Code = e.Problem, e.RTT, e.Code
	if d.sinks.recording() {
		d.sinks.take(&recorded, false)
	}
	d.show(e)
}

// linesAtATime is how many bytes of lines go to the sinks at a time.
const linesAtATime = 64 << 10

// show shows a frame.
func (d *direction) show(e *Event) {
	if d.sinks.lines != nil {
		if len(d.start) == 0 {
			d.start = e.appendStart(d.start, d.sinks.colours)
		}
		d.lines = append(e.appendWhat(append(d.lines, d.start...), d.sinks.colours), '\n')
		if len(d.lines) > linesAtATime {
			d.flush()
		}
	}
	if d.sinks.page != nil {
		d.sinks.page.add(e)
	}
}

// complete adds what a compressed message holds to the event of its last frame; the others have none of it.
func (d *direction) complete(e, recorded *Event, f *frame) {
	e.data, recorded.data, recorded.Offset, e.Cut = nil, nil, 0, false
	if !f.fin {
		return
	}
	data, length, ok := d.inflater.end()
	d.compressed = false
	e.Inflated, recorded.Inflated = length, length
	if !ok {
		e.Problem = strings.TrimPrefix(e.Problem+", it cannot be inflated", ", ")
	}
	e.data = data[:min(len(data), d.sinks.keep())]
	e.Cut = int64(len(e.data)) < length
	recorded.data, recorded.Cut = data, int64(len(data)) < length
}

// take makes an event of a frame.
func (d *direction) take(f *frame, data []byte) {
	d.event = Event{
		Conn: d.number, Time: d.now, Event: "frame", From: d.from, Opcode: int(f.opcode), Fin: f.fin, RSV: int(f.rsv), Masked: f.masked,
		Length: f.length, Offset: f.offset, More: !f.last, Problem: f.problem, data: data,
	}
}

// judge looks into control frames: round trips, and what closes.
func (d *direction) judge(e *Event, f *frame) {
	switch f.opcode {
	case wsd.OpPing:
		d.pinged(ping{d.from, string(e.data), e.Time})
	case wsd.OpPong:
		e.RTT = int64(d.ponged(e))
	case wsd.OpClose:
		if len(e.data) >= 2 {
			e.Code = int(binary.BigEndian.Uint16(e.data))
		}
		if len(e.data) > 2 && !utf8.Valid(e.data[2:]) {
			e.Problem = strings.TrimPrefix(e.Problem+", a close reason that is not UTF-8", ", ")
		}
	case wsd.OpText:
		if f.fin && !e.Cut && f.rsv == 0 && !utf8.Valid(e.data) {
			e.Problem = strings.TrimPrefix(e.Problem+", a text that is not UTF-8", ", ")
		}
	}
}

func (o *observer) pinged(p ping) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pings = append(o.pings, p)
	if len(o.pings) > mostPings {
		o.pings = o.pings[1:]
	}
}

// ponged returns the time since the ping that a pong answers, 0 if there is none.
func (o *observer) ponged(e *Event) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, p := range slices.Backward(o.pings) {
		if p.from != e.From && bytes.Equal([]byte(p.payload), e.data) {
			o.pings = slices.DeleteFunc(o.pings[:i+1:i+1], func(older ping) bool { return older.from == p.from })
			return max(e.Time.Sub(p.at), 1)
		}
	}
	return 0
}
