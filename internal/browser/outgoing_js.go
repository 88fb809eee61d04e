// outgoing_js.go turns frames into messages that the browser is to send, and waits while it holds too many.

package browser

import (
	"bytes"
	"encoding/binary"
	"syscall/js"
	"time"
)

const (
	// pauseLeast and pauseMost bound the pauses between looks at how much the browser holds: it does not tell when that
	// becomes less.
	pauseLeast = time.Millisecond
	pauseMost  = 50 * time.Millisecond
	// mostTurns is how many turns of the event loop are waited for before that.
	mostTurns = 4
	// keptText is how many bytes are kept for the next text that comes in pieces.
	keptText = 64 << 10
)

// outgoing is what has come of a frame that is being written, and of the message that it belongs to.
type outgoing struct {
	header    []byte // what has come of the frame's header
	inPayload bool   // all of it has
	left      int    // bytes of the payload that have not come
	control   []byte // what has come of the payload of a control frame

	opcode byte       // the message's
	text   []byte     // a text's bytes so far
	parts  []js.Value // a Uint8Array for each frame of a binary message
	filled int        // bytes of the last of them
	size   int        // bytes of the message

	held int64 // bytes that the browser holds at most
}

// take takes what belongs to one frame of p. Once a message or a control frame is whole, it returns its opcode, and a text
// or the payload of a control frame with it, which is valid until the next call.
func (o *outgoing) take(p []byte) (n int, whole byte, payload []byte) {
	for ; !o.inPayload; n++ {
		if n == len(p) {
			return n, 0, nil
		}
		o.header = append(o.header, p[n])
		if o.left, o.inPayload = payloadSize(o.header); o.inPayload {
			o.begin()
		}
	}
	if n == len(p) && o.left > 0 {
		return n, 0, nil
	}
	piece := p[n:min(len(p), n+o.left)]
	n += len(piece)
	o.left -= len(piece)
	last, opcode := o.header[0]&fin != 0, o.header[0]&opMost
	payload = o.add(opcode, piece)
	if o.left > 0 {
		return n, 0, nil
	}
	o.header, o.inPayload = o.header[:0], false
	switch {
	case opcode >= opClose:
		return n, opcode, payload
	case last:
		return n, o.opcode, payload
	}
	return n, 0, nil
}

// atClose reports whether a close frame begins with, or continues at, a byte.
func (o *outgoing) atClose(next byte) bool {
	if len(o.header) > 0 {
		next = o.header[0]
	}
	return next&opMost == opClose
}

// payloadSize reads a frame's header, and reports whether it is whole.
func payloadSize(header []byte) (size int, whole bool) {
	if len(header) < 2 {
		return 0, false
	}
	switch size = int(header[1]); {
	case size == 126 && len(header) == 4:
		return int(binary.BigEndian.Uint16(header[2:])), true
	case size == 127 && len(header) == 10:
		return int(binary.BigEndian.Uint64(header[2:])), true
	}
	return size, size < 126
}

// begin begins with a payload.
func (o *outgoing) begin() {
	opcode := o.header[0] & opMost
	switch {
	case opcode >= opClose:
		o.control = o.control[:0]
		return
	case opcode != 0:
		if cap(o.text) > keptText {
			o.text = nil
		}
		o.opcode, o.text, o.parts, o.size = opcode, o.text[:0], nil, 0
	}
	o.size += o.left
	if o.opcode == opBinary {
		o.parts, o.filled = append(o.parts, uint8Array.New(o.left)), 0
	}
}

// add adds a piece of a payload, and returns what has come of a text or of a control frame's payload.
func (o *outgoing) add(opcode byte, piece []byte) []byte {
	switch {
	case opcode >= opClose:
		o.control = append(o.control, piece...)
		return o.control
	case o.opcode == opText:
		if len(piece) == o.size && o.header[0]&fin != 0 {
			return piece // nothing has come before, and nothing is missing
		}
		o.text = append(o.text, piece...)
		return o.text
	}
	into := o.parts[len(o.parts)-1]
	if o.filled > 0 {
		into = into.Call("subarray", o.filled)
	}
	o.filled += js.CopyBytesToJS(into, piece)
	return nil
}

// binary returns a binary message that is whole.
func (o *outgoing) binary() js.Value {
	if len(o.parts) == 1 {
		return o.parts[0]
	}
	whole, behind := uint8Array.New(o.size), 0
	for _, part := range o.parts {
		whole.Call("set", part, behind)
		behind += part.Length()
	}
	return whole
}

// uint8Array is the constructor: to ask for it takes as long as to call it.
var uint8Array = js.Global().Get("Uint8Array")

// Write takes frames, and has the browser send the messages in them, as soon as it does not hold too much. Pings and pongs
// are taken and not sent, which no browser can. After the peer's close frame all messages are: the browser has answered it.
func (s *Socket) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var taken int
		taken, err = s.write(p[n:])
		n += taken
	}
	return n, err
}

// TryWrite is Write as far as that does not have to wait: not of a close frame, and of messages as long as the browser does not
// hold too much. It returns how many bytes it has taken.
func (s *Socket) TryWrite(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if s.out.atClose(p[n]) || s.out.held > s.sendMost && s.held() > s.sendMost {
			break
		}
		var taken int
		taken, err = s.write(p[n:])
		n += taken
	}
	return n, err
}

// write takes what belongs to one frame of p, and sends what is then whole.
func (s *Socket) write(p []byte) (n int, err error) {
	n, opcode, payload := s.out.take(p)
	switch opcode {
	case opText:
		err = s.send(stringOf(payload))
	case opBinary:
		err = s.send(s.out.binary())
	case opClose:
		err = s.close(payload)
	}
	return n, err
}

// stringOf returns a text for the browser. Go's own way takes a byte order mark away.
func stringOf(text []byte) js.Value {
	if !bytes.HasPrefix(text, []byte("\uFEFF")) {
		return js.ValueOf(string(text))
	}
	data := uint8Array.New(len(text))
	js.CopyBytesToJS(data, text)
	decoder := js.Global().Get("TextDecoder").New("utf-8", map[string]any{"ignoreBOM": true})
	return decoder.Call("decode", data)
}

// send has the browser send a message.
func (s *Socket) send(message js.Value) error {
	if s.out.held > s.sendMost && s.awaitHeld(s.sendMost) {
		return s.reason()
	}
	s.ws.Call("send", message)
	spread(perSend)
	s.out.parts = nil
	s.out.held += int64(s.out.size)
	return nil
}

// close has the browser begin the closing handshake, and waits until it has passed on all that it holds.
func (s *Socket) close(payload []byte) error {
	select {
	case <-s.ended:
		return s.reason()
	default:
	}
	if len(payload) < 2 {
		s.ws.Call("close")
	} else {
		code := s.hooks.Closing(binary.BigEndian.Uint16(payload))
		s.ws.Call("close", int(code), string(payload[2:]))
	}
	if s.awaitHeld(0) {
		return s.reason()
	}
	return nil
}

// held asks how many bytes the browser holds.
func (s *Socket) held() int64 {
	held := int64(s.ws.Get("bufferedAmount").Float())
	if held < s.out.held {
		s.hooks.Progress()
	}
	s.out.held = held
	return held
}

// awaitHeld waits until the browser holds no more than some bytes, and reports whether the WebSocket ended before.
func (s *Socket) awaitHeld(most int64) (over bool) {
	var timer *time.Timer
	pause, looked := pauseLeast, time.Now()
	for turned := 0; ; {
		before := s.out.held
		held := s.held()
		passed := before - held
		select {
		case <-s.ended:
			return true
		default:
		}
		if held <= most {
			return false
		}
		if turned < mostTurns {
			if turned++; s.awaitTurn() {
				return true
			}
			continue
		}
		if timer == nil {
			timer = time.NewTimer(pause)
			defer timer.Stop()
		} else {
			now := time.Now()
			pause = nextPause(pause, now.Sub(looked), passed, held-most)
			looked = now
			timer.Reset(pause)
		}
		select {
		case <-timer.C:
		case <-s.ended:
			return true
		}
	}
}

// nextPause returns how long it takes, at the pace of the last pause, until what is too much has been passed on.
func nextPause(pause, took time.Duration, passed, tooMuch int64) time.Duration {
	if passed <= 0 {
		pause *= 2
	} else {
		pause = time.Duration(float64(took) * float64(tooMuch) / float64(passed))
	}
	return min(max(pause, pauseLeast), pauseMost)
}
