// One connection to a peer under test: writing in pieces without ever blocking the suite, and reading strictly.

package suite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// errNotApplicable is wrapped by the error of a case that cannot be judged with this peer, which is no failure.
var errNotApplicable = errors.New("not applicable")

// A session is one connection, after its handshake or ahead of it.
type session struct {
	peer    Role // the peer's role
	conn    net.Conn
	in      *bufio.Reader
	timeout time.Duration // how long the peer may be silent while something is expected of it
	rng     *rand.Rand    // masking keys and message contents: the same in every run of a case

	target, host string    // of the server, where one is judged
	request      *request  // the suite's own, where it judges a server; the peer's, where it judges a client
	response     *response // the peer's, where it judges a server

	agreed *agreement // permessage-deflate, nil where not in use
	note   string     // something that the RFC allows but does not recommend

	partial event // the message whose fragments are coming in
	inside  bool  // whether one is

	out      chan chopped  // closed by shut
	outDone  chan struct{} // closed by writeLoop
	written  atomic.Int64  // bytes written so far
	cut      func() bool   // keeps the context's end from closing conn
	shutOnce sync.Once
}

// maxQueued is how many pieces a session can send to a peer that reads none. The most that a case sends without waiting
// for the peer are the 1,025 of endlessResponse, of which one is being written.
const maxQueued = 1024

// Chopped bytes are written in pieces of size bytes. Without bytes they stand for the end of the suite's direction.
type chopped struct {
	bytes []byte
	size  int
}

// newSession returns a session that is cut when ctx is done. Whoever has it calls shut.
func newSession(ctx context.Context, conn net.Conn, peer Role, timeout time.Duration) *session {
	s := &session{
		peer: peer, conn: conn, timeout: timeout,
		out:     make(chan chopped, maxQueued),
		outDone: make(chan struct{}),
	}
	s.in = bufio.NewReaderSize(patientReader{s}, 64<<10)
	s.cut = context.AfterFunc(ctx, func() { conn.Close() })
	go s.writeLoop()
	return s
}

// seed makes the session's random choices those of a case, the same in every run.
func (s *session) seed(c Case) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s", c.Topic, c.Name)
	s.rng = rand.New(rand.NewPCG(h.Sum64(), 6455))
}

// writeLoop writes what send was given, so that a peer that answers before it has read all cannot lock up the judge.
func (s *session) writeLoop() {
	defer close(s.outDone)
	broken := false
	for c := range s.out {
		if c.bytes == nil {
			if half, ok := s.conn.(interface{ CloseWrite() error }); ok { // TCP and TLS
				half.CloseWrite()
			}
			continue
		}
		for b := c.bytes; len(b) > 0 && !broken; {
			n := min(c.size, len(b))
			// A peer that failed the connection may have closed its end already: what it sent tells, not this error.
			_, err := s.conn.Write(b[:n])
			broken = err != nil
			s.written.Add(int64(n))
			b = b[n:]
		}
	}
}

// shut ends the connection and waits for the session's goroutine.
func (s *session) shut() {
	s.shutOnce.Do(func() {
		s.cut()
		s.conn.Close()
		close(s.out)
		<-s.outDone
	})
}

// A patientReader reads with a deadline that begins anew while the suite's own bytes are still on their way.
type patientReader struct{ s *session }

func (r patientReader) Read(p []byte) (int, error) {
	for {
		before := r.s.written.Load()
		r.s.conn.SetReadDeadline(time.Now().Add(r.s.timeout))
		n, err := r.s.conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || r.s.written.Load() == before {
			return n, err
		}
	}
}

// send queues b for writing in pieces of chop bytes, or in one piece where chop is 0.
func (s *session) send(b []byte, chop int) {
	if len(b) == 0 {
		return
	}
	if chop <= 0 {
		chop = len(b)
	}
	s.out <- chopped{b, chop}
}

// halfClose ends the suite's direction once all that was sent is written.
func (s *session) halfClose() { s.out <- chopped{} }

// encode gives the frames' bytes as the suite's role sends them.
func (s *session) encode(frames ...frame) []byte {
	var b []byte
	for _, f := range frames {
		var key [4]byte
		binary.BigEndian.PutUint32(key[:], s.rng.Uint32())
		b = f.appendTo(b, s.peer == Server, key)
	}
	return b
}

func (s *session) sendFrames(frames ...frame) { s.send(s.encode(frames...), 0) }

// An event is what a peer's frames amount to: a whole message, a pong or a close frame.
type event struct {
	opcode     byte
	payload    []byte
	compressed bool      // RSV1 was set (messages)
	fragments  int       // frames that carried it
	keys       [][4]byte // the masking keys of its frames
}

func (e event) String() string {
	if e.opcode == opClose {
		if code := e.code(); code != noCode {
			return fmt.Sprintf("close %d %q", code, e.payload[2:])
		}
		return "close without a code"
	}
	return fmt.Sprintf("%s of %d bytes %s", opcodeName(e.opcode), len(e.payload), excerpt(e.payload))
}

// code is the status code of a close frame, or noCode.
func (e event) code() int {
	if len(e.payload) < 2 {
		return noCode
	}
	return int(binary.BigEndian.Uint16(e.payload))
}

func excerpt(b []byte) string {
	if len(b) > 24 {
		return fmt.Sprintf("%q…", b[:24])
	}
	return fmt.Sprintf("%q", b)
}

// next reads up to the next event and judges all frames on the way. A ping of the peer's is answered: keepalive is its
// good right. At the end of the stream the error is io.EOF.
func (s *session) next() (event, error) {
	for {
		f, err := readFrame(s.in, s.peer == Client)
		if err != nil {
			return event{}, err
		}
		if err := s.checkReserved(f); err != nil {
			return event{}, err
		}
		switch f.opcode {
		case opPing:
			s.sendFrames(frame{fin: true, opcode: opPong, payload: f.payload})
			continue
		case opPong:
			return event{opcode: opPong, payload: f.payload}, nil
		case opClose:
			return event{opcode: opClose, payload: f.payload}, checkClosePayload(f.payload)
		case opContinuation:
			if !s.inside {
				return event{}, breach("RFC 6455, 5.4", "a continuation frame with nothing to continue")
			}
		default:
			if s.inside {
				return event{}, breach("RFC 6455, 5.4", "a new message inside an unfinished one")
			}
			s.partial = event{opcode: f.opcode, compressed: f.rsv != 0}
			s.inside = true
		}
		s.partial.payload = append(s.partial.payload, f.payload...)
		s.partial.fragments++
		s.partial.keys = append(s.partial.keys, f.key)
		if !f.fin {
			continue
		}
		s.inside = false
		message := s.partial
		if message.compressed {
			if message.payload, err = s.agreed.fromPeer.message(message.payload); err != nil {
				return event{}, err
			}
		}
		if message.opcode == opText && !utf8.Valid(message.payload) {
			return event{}, breach("RFC 6455, 8.1", "a text message that is no UTF-8")
		}
		return message, nil
	}
}

func (s *session) checkReserved(f received) error {
	switch {
	case f.rsv == 0:
		return nil
	case f.rsv&^rsv1 != 0:
		return breach("RFC 6455, 5.2", "a frame has the reserved bits %03b set", f.rsv)
	case s.agreed == nil:
		return breach("RFC 6455, 5.2", "RSV1 is set without an extension")
	case f.opcode >= opClose:
		return breach("RFC 7692, 6", "RSV1 is set on a control frame")
	case f.opcode == opContinuation:
		return breach("RFC 7692, 6.1", "RSV1 is set on a continuation frame")
	}
	return nil
}

// checkClosePayload judges a close frame of the peer's by RFC 6455, 5.5.1 and 7.4.
func checkClosePayload(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if len(p) == 1 {
		return breach("RFC 6455, 5.5.1", "a close frame of one byte")
	}
	code := int(binary.BigEndian.Uint16(p))
	if !sendable(code) {
		return breach("RFC 6455, 7.4", "a close frame with the code %d", code)
	}
	if !utf8.Valid(p[2:]) {
		return breach("RFC 6455, 5.5.1", "a close reason that is no UTF-8")
	}
	return nil
}

// sendable says whether a close frame may carry the code: RFC 6455, 7.4.1 and 7.4.2, and IANA's registry of close codes
// for 1012 to 1014.
func sendable(code int) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1000 && code <= 1014:
		return code != 1004 && code != 1005 && code != 1006
	}
	return false
}

// ended says whether err is the end of the TCP connection, by FIN or RST, which each system calls by another name.
func ended(err error) bool {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Op == "read" && !op.Timeout() && !errors.Is(err, net.ErrClosed)
	}
	return errors.Is(err, io.EOF)
}

// noCode stands for a close frame without a payload.
const noCode = 0

func closeFrame(code int, reason string) frame {
	f := whole(opClose, "")
	if code != noCode {
		f.payload = append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	}
	return f
}

// await reads events until all that is wanted has come, in order, and nothing else: messages in their order, and pongs
// in theirs. A pong may overtake a message and the newest may stand for those before it (RFC 6455, 5.5.3). With
// untilClose it goes on to the peer's close frame and returns it.
func (s *session) await(want []event, untilClose bool) (event, error) {
	var messages, pongs []event
	for _, e := range want {
		if e.opcode == opPong {
			pongs = append(pongs, e)
		} else {
			messages = append(messages, e)
		}
	}
	for len(messages) > 0 || len(pongs) > 0 || untilClose {
		e, err := s.next()
		missing := func() string {
			switch {
			case len(messages) > 0:
				return messages[0].String()
			case len(pongs) > 0:
				return pongs[0].String()
			}
			return "a close frame"
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return e, fmt.Errorf("no answer within %v, expected %s", s.timeout, missing())
		case err != nil && ended(err):
			return e, fmt.Errorf("the connection ended, expected %s", missing())
		case err != nil:
			return e, err
		}
		switch e.opcode {
		case opClose:
			if !untilClose || len(messages) > 0 || len(pongs) > 0 {
				return e, fmt.Errorf("%v came, expected %s", e, missing())
			}
			return e, nil
		case opPong:
			i := 0
			for i < len(pongs) && !bytes.Equal(pongs[i].payload, e.payload) {
				i++
			}
			if i == len(pongs) {
				return e, fmt.Errorf("an unexpected %v came", e)
			}
			if i > 0 {
				s.note = "answered the newest ping in place of those before it (allowed by RFC 6455, 5.5.3)"
			}
			pongs = pongs[i+1:]
		default:
			if len(messages) == 0 {
				return e, fmt.Errorf("an unexpected %v came", e)
			}
			if err := same(messages[0], e); err != nil {
				return e, err
			}
			messages = messages[1:]
		}
	}
	return event{}, nil
}

func same(want, got event) error {
	if want.opcode != got.opcode {
		return fmt.Errorf("%v came, expected %v", got, want)
	}
	if bytes.Equal(want.payload, got.payload) {
		return nil
	}
	if len(want.payload) != len(got.payload) {
		return fmt.Errorf("%v came, expected %v", got, want)
	}
	for i := range want.payload {
		if want.payload[i] != got.payload[i] {
			return fmt.Errorf("%v came, byte %d of which is %#02x, expected %#02x", got, i, got.payload[i], want.payload[i])
		}
	}
	return nil
}

// end waits for the TCP end and takes anything ahead of it for a failure. Where a client is judged, the suite ends its
// direction first, as a server does (RFC 6455, 7.1.1).
func (s *session) end() error {
	if s.peer == Client {
		s.halfClose()
	}
	return s.endOfStream("after the close frame")
}

func (s *session) endOfStream(when string) error {
	b, err := s.in.ReadByte()
	switch {
	case err == nil:
		return fmt.Errorf("more bytes came %s, the first is %#02x", when, b)
	case ended(err):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the TCP connection was not ended within %v %s", s.timeout, when)
	}
	return err
}

// answered expects what is wanted, and finishes.
func (s *session) answered(want ...event) error {
	if _, err := s.await(want, false); err != nil {
		return err
	}
	return s.finish()
}

// finish closes the connection from the suite's side and expects the same code back, the TCP end and nothing else.
func (s *session) finish() error {
	s.sendFrames(closeFrame(1000, ""))
	return s.replied(nil, 1000)
}

// replied expects what is wanted, the answer to a close frame that the suite has sent, the TCP end, and nothing else.
func (s *session) replied(want []event, code int) error {
	e, err := s.await(want, true)
	if err != nil {
		return err
	}
	got := e.code()
	if got != code {
		if code != noCode || got != 1000 {
			return fmt.Errorf("%v came in answer to close %s", e, codeName(code))
		}
		s.note = "answered a close frame without a code by 1000 (RFC 6455, 5.5.1: typically the same)"
	}
	return s.end()
}

func codeName(code int) string {
	if code == noCode {
		return "without a code"
	}
	return fmt.Sprint(code)
}

// failed expects what is wanted, then a close frame with one of the codes, the TCP end, and nothing else. The suite
// answers the close frame, as any peer does; the peer may have gone by then.
func (s *session) failed(want []event, codes ...int) error {
	e, err := s.await(want, true)
	if err != nil {
		return err
	}
	got := e.code()
	for _, c := range codes {
		if c == got {
			s.sendFrames(closeFrame(got, ""))
			return s.end()
		}
	}
	return fmt.Errorf("%v came, expected the code %s", e, orList(codes))
}

func orList(codes []int) string {
	text := ""
	for i, c := range codes {
		if i > 0 {
			text += " or "
		}
		text += fmt.Sprint(c)
	}
	return text
}

// abandoned ends the suite's direction and expects the TCP end. What is ahead of it may be the given answers, which a
// peer need not give to one that has gone, and a close frame.
func (s *session) abandoned(answers ...event) error {
	s.halfClose()
	for {
		e, err := s.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the TCP connection was not ended within %v of the other direction's end", s.timeout)
		case err != nil && ended(err):
			return nil
		case err != nil:
			return err
		case e.opcode == opClose:
			return s.endOfStream("after the close frame")
		case len(answers) == 0:
			return fmt.Errorf("an unexpected %v came", e)
		}
		if err := same(answers[0], e); err != nil {
			return err
		}
		answers = answers[1:]
	}
}
