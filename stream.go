// stream.go sends bytes as they come: a message that is produced piece by piece, and a connection as a net.Conn, for protocols
// that know nothing of messages.

package wsd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/deadline"
	"github.com/seed62836080/wsd/internal/deflate"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/netio"
	"github.com/seed62836080/wsd/internal/parts"
	"github.com/seed62836080/wsd/internal/textcheck"
)

// WriterOptions holds what a Writer can be told. The zero value is the default.
type WriterOptions struct {
	// Compress is CompressNever for a message that is sent as it is: secrets, data that is compressed already. Otherwise it
	// is compressed if permessage-deflate was agreed on, whatever its size, which is not known. A Writer then keeps a
	// compressor, some 0.8 MB, until its Close.
	Compress CompressMode
}

// Writer returns a writer for one message, an io.ReaderFrom too; opts may be nil. Each Write queues all, in fragments of up to
// 127 KiB, and Close the last, empty one. Both block while the queue is full.
//
// From the first Write to Close, other senders wait, even the same goroutine. If ctx is done meanwhile, the connection is
// closed with StatusInternalError, as the message is cut: that is how to abandon it. A Write that makes a text invalid
// UTF-8 sends nothing; a Close inside a character closes the connection too. Only one goroutine may use it.
func (c *Conn) Writer(ctx context.Context, t MessageType, opts *WriterOptions) io.WriteCloser {
	w := &messageWriter{conn: c, ctx: ctx, opcode: byte(t), text: t == TextMessage}
	w.compress = c.deflater != nil && (opts == nil || opts.Compress != CompressNever)
	if ctx == nil {
		w.err = ErrNilContext
	} else if t != TextMessage && t != BinaryMessage {
		w.err = fmt.Errorf("%w: type %d, expected text or binary", ErrInvalidMessage, t)
	}
	return w
}

// messageWriter writes one fragmented message.
type messageWriter struct {
	conn      *Conn
	ctx       context.Context
	unwatch   func() bool     // ends the watch over ctx, nil before the first frame
	err       error           // returned by every further call
	deflating *deflate.Stream // nil before the first piece that is compressed
	opcode    byte            // of the next frame
	utf8      textcheck.State
	size      int // of the message so far, uncompressed
	wireSize  int // of that, as it was sent
	text      bool
	compress  bool
	space     []byte // on loan: what ReadFrom reads into, behind room for a frame's header; nil if that is elsewhere
	fate      messageFate
}

// loanLeast is the size in bytes from which a fragment is written by itself. Shorter ones gather in the queue, up to as many
// bytes as are best written at a time.
const loanLeast = 48 << 10

// ReadFrom reads into leastSpace to mostSpace bytes, of which spaceMargin are not read into: room for a header, and what
// makes the most of it a piece that is best written at a time.
const (
	leastSpace  = 32 << 10
	mostSpace   = 128 << 10
	spaceMargin = mostSpace - netio.PieceSize
)

// messageFate decides between the last frame of a message and the end of its context: the first one wins.
type messageFate struct{ decided atomic.Bool }

// complete reports whether the last frame may be queued, and abandon whether there will be none.
func (f *messageFate) complete() bool { return f.decided.CompareAndSwap(false, true) }
func (f *messageFate) abandon() bool  { return f.decided.CompareAndSwap(false, true) }

// Write sends p as a fragment.
func (w *messageWriter) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.text {
		state := w.utf8.Check(p)
		if state == textcheck.Reject {
			return 0, fmt.Errorf("%w: text is not UTF-8 at byte %d or later", ErrInvalidMessage, w.size)
		}
		w.utf8 = state
	}
	longest := w.conn.queue.longest()
	for len(p) > 0 && w.err == nil {
		piece := p[:pieceOf(len(p), longest)]
		p = p[len(piece):]
		if w.err = w.begin(len(piece)); w.err != nil {
			break
		}
		w.size += len(piece)
		if !w.compress {
			w.err = w.frame(0, piece)
		} else {
			w.err = w.deflate(piece, len(p) == 0)
		}
		if w.err == nil {
			n += len(piece)
		}
	}
	if w.err != nil {
		w.release()
	}
	return n, w.err
}

// pieceOf returns how many of size bytes go into the next fragment, of at most longest: if little would be left, the last two
// are of one length.
func pieceOf(size, longest int) int {
	if rest := size - longest; longest > largePayload && 0 < rest && rest < largePayload {
		return size / 2
	}
	return min(size, longest)
}

// ReadFrom sends what r returns, each Read at once, up to its end.
func (w *messageWriter) ReadFrom(r io.Reader) (total int64, err error) {
	longest := w.conn.queue.longest()
	size := leastSpace
	defer func() {
		bufpool.Put(w.space)
		w.space = nil
	}()
	for w.err == nil {
		if w.space == nil {
			w.space = bufpool.Get(size)
		}
		payload := w.space[maxFrameHeader : maxFrameHeader+min(size-spaceMargin, longest)]
		n, err := r.Read(payload)
		if n > 0 {
			written, err := w.Write(payload[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		}
		// A fast source is read in large pieces, and one that trickles does not hold what they need.
		switch {
		case n == len(payload) && size < mostSpace && n < longest:
			size *= 2
		case n < len(payload)/4 && size > leastSpace:
			size /= 2
		default:
			continue
		}
		bufpool.Put(w.space)
		w.space = nil
	}
	return total, w.err
}

// Close sends the last fragment and lets other senders continue.
func (w *messageWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	defer w.release()
	if w.utf8 != textcheck.Accept {
		w.err = fmt.Errorf("%w: text ends inside a character", ErrInvalidMessage)
		w.abandon(w.err)
		return w.err
	}
	if w.err = w.begin(0); w.err != nil {
		return w.err
	}
	if w.deflating != nil {
		w.deflating.End() // before others may send, who look for it
		w.deflating = nil
	}
	if w.err = w.frame(finBit, nil); w.err != nil {
		return w.err
	}
	t := BinaryMessage
	if w.text {
		t = TextMessage
	}
	w.conn.settings.trace.sent(w.conn, MessageInfo{t, w.size, w.wireSize})
	w.err = &causeError{"write to a message that is complete", io.ErrClosedPipe}
	return nil
}

// release lets go of the context, which may live on for a long time.
func (w *messageWriter) release() {
	if w.unwatch != nil {
		w.unwatch()
	}
}

// begin takes the turn, before the first frame, of a payload of size bytes.
func (w *messageWriter) begin(size int) error {
	if w.unwatch != nil {
		return nil
	}
	c := w.conn
	if err := c.checkCall("writer", w.ctx); err != nil {
		return err
	}
	// Wait for room for the frame here: once ctx is watched, its end during a wait would end the connection.
	if err := c.queue.enter(w.ctx, size+maxFrameHeader, needTurn); err != nil {
		return c.callError(err)
	}
	w.unwatch = context.AfterFunc(w.ctx, func() { w.abandon(done.Why(w.ctx)) })
	return nil
}

// deflate compresses a piece and queues what has come of it: all, if it is the last one of a Write.
func (w *messageWriter) deflate(piece []byte, last bool) error {
	if w.deflating == nil {
		w.deflating = w.conn.deflater.Begin(len(piece))
		w.opcode |= rsv1Bit
	}
	compressed, err := w.deflating.Add(bufpool.Get(firstBuffer), piece)
	if err == nil && last {
		compressed, err = w.deflating.Flush(compressed)
	}
	defer func() { bufpool.Put(compressed) }()
	if err = notDeflated(err); err != nil {
		w.abandon(err)
		return err
	}
	longest := w.conn.queue.longest()
	for rest := compressed; len(rest) > 0 && err == nil; {
		n := min(len(rest), longest)
		err = w.frame(0, rest[:n])
		rest = rest[n:]
	}
	return err
}

// frame queues one frame of the message.
func (w *messageWriter) frame(fin byte, payload []byte) error {
	q := &w.conn.queue
	err := q.awaitRoom(len(payload) + maxFrameHeader)
	switch {
	case err != nil:
	case fin != 0 || len(payload) < loanLeast:
		err = q.addFragment(fin|w.opcode, payload, w.size, &w.fate)
	case w.inSpace(payload):
		frame, space := q.backlog.FrameInPlace(w.space, w.opcode, len(payload)), w.space
		w.space = nil
		err = w.addLoan(frame, space)
	default:
		// It is not copied under the queue's lock, nor once more to be written.
		frame := q.backlog.AppendFrame(bufpool.Get(maxFrameHeader+len(payload)), w.opcode, payload)
		err = w.addLoan(frame, frame)
	}
	return w.queued(len(payload), err)
}

// inSpace reports whether a payload, which is not empty, lies where ReadFrom has read it.
func (w *messageWriter) inSpace(payload []byte) bool {
	return w.space != nil && &payload[0] == &w.space[:maxFrameHeader+1][maxFrameHeader]
}

// addLoan queues a frame that is part of a loan, which it lets go of.
func (w *messageWriter) addLoan(frame, loan []byte) error {
	writeTo, err := w.conn.queue.addLoan(frame, loan)
	if err != nil {
		bufpool.Put(loan)
	}
	if writeTo > 0 {
		w.conn.write(writeTo)
	}
	return err
}

// queued notes that a frame with a payload of size bytes is queued, or was refused.
func (w *messageWriter) queued(size int, err error) error {
	c := w.conn
	if err != nil {
		<-c.queue.refusalChannel() // an abandoned message closes the connection
		return c.ending.err()
	}
	w.opcode = byte(OpContinuation)
	w.wireSize += size
	return nil
}

// abandon closes the connection if the message is not complete, since the peer would wait for the rest of it.
func (w *messageWriter) abandon(cause error) {
	const reason = "a message could not be completed"
	if w.fate.abandon() {
		w.conn.ending.queueClose(StatusInternalError, reason, &causeError{reason, cause})
	}
}

// netPiece is how many bytes of a Write go into one message: fewer than a Send may need more than a step for, so that a deadline
// always comes between messages.
const netPiece = largePayload - 1<<10

// NetConn returns c as a stream of bytes in messages of type t, usually BinaryMessage. It takes over what c receives, whole or
// streamed; one of the other type closes c with StatusUnsupportedData.
//
// A Write sends one message for each 31 KiB, and returns when they are queued. A deadline ends calls, and harms neither stream.
// Close begins the closing handshake behind what was written, and returns. Read returns io.EOF if the peer has closed with
// StatusNormalClosure or StatusGoingAway, and c's error after any other end. Written text must be UTF-8; a Write may cut a
// character.
func NetConn(c *Conn, t MessageType) net.Conn {
	return &byteStream{conn: c, messageType: t, reads: deadline.NewCalls(), writes: deadline.NewCalls()}
}

// byteStream is a Conn as a net.Conn.
type byteStream struct {
	conn        *Conn
	messageType MessageType
	reads       *deadline.Calls
	writes      *deadline.Calls

	// The Read whose turn it is owns these.
	message Message // being read, zero if none is
	unread  []byte  // of its Data
	failed  error   // returned by every further Read

	cut []byte // the beginning of a character, which the next Write completes; the Write whose turn it is owns it
}

// Read reads what has come, up to the end of a message, or waits for some.
func (s *byteStream) Read(b []byte) (n int, err error) {
	err = s.reads.Do(func(ctx context.Context) error {
		n, err = s.read(ctx, b)
		return err
	})
	return n, s.opError("read", err)
}

// read is Read for the one whose turn it is.
func (s *byteStream) read(ctx context.Context, b []byte) (int, error) {
	for len(b) > 0 && s.failed == nil {
		switch stream := s.message.stream; {
		case len(s.unread) > 0:
			n := copy(b, s.unread)
			if s.unread = s.unread[n:]; len(s.unread) == 0 {
				s.message.Release()
				s.message = Message{}
			}
			return n, nil
		case stream != nil:
			n, err := stream.Read(b, ctx.Done())
			switch err {
			case nil:
				return n, nil
			case parts.ErrEnd:
				s.message = Message{}
			case parts.ErrStopped:
				return 0, ctx.Err()
			default:
				s.failed = bodyError(err)
			}
		default:
			if err := s.receive(ctx); err != nil {
				return 0, err
			}
		}
	}
	return 0, s.failed
}

// receive takes the next message. What ends the stream goes into failed.
func (s *byteStream) receive(ctx context.Context) error {
	m, err := s.conn.Receive(ctx)
	var closed *CloseError
	switch {
	case err == nil && m.Type == s.messageType:
		s.message, s.unread = m, m.Data // if there is none, Read looks for the next message
	case err == nil:
		m.Release()
		reason := fmt.Sprintf("expected %v messages, got %v", s.messageType, m.Type)
		_ = s.conn.StartClose(StatusUnsupportedData, reason)
		s.failed = errors.New("wsd: " + reason)
	case err == ErrInbox:
		s.failed = err
	case !errors.Is(err, ErrClosed):
		return ctx.Err()
	case errors.As(err, &closed) && (closed.Code == StatusNormalClosure || closed.Code == StatusGoingAway):
		s.failed = io.EOF
	default:
		s.failed = err
	}
	return nil
}

// Write sends b. If a deadline or the end comes first, n says how much of it was sent.
func (s *byteStream) Write(b []byte) (n int, err error) {
	err = s.writes.Do(func(ctx context.Context) error {
		n, err = s.write(ctx, b)
		return err
	})
	return n, s.opError("write", err)
}

// write is Write for the one whose turn it is.
func (s *byteStream) write(ctx context.Context, b []byte) (n int, err error) {
	for n < len(b) {
		piece := b[n:min(len(b), n+netPiece)]
		taken := len(piece)
		var cut []byte
		if s.messageType == TextMessage {
			whole := wholeCharacters(piece)
			if n+taken < len(b) {
				taken = whole // the rest goes with the next piece
			}
			piece, cut = piece[:whole], piece[whole:taken]
			if len(s.cut) > 0 {
				joined := append(append([]byte(nil), s.cut...), b[n:n+taken]...)
				whole = wholeCharacters(joined)
				piece, cut = joined[:whole], joined[whole:]
			}
		}
		if len(piece) > 0 {
			if err := s.conn.Send(ctx, Message{Type: s.messageType, Data: piece}); err != nil {
				if ctx.Err() != nil && !errors.Is(err, ErrClosed) {
					err = ctx.Err()
				}
				return n, err
			}
		}
		s.cut = append(s.cut[:0], cut...)
		n += taken
	}
	return n, nil
}

// wholeCharacters returns how many bytes of text come before a character that it ends inside of.
func wholeCharacters(text []byte) int {
	for i := len(text) - 1; i >= max(0, len(text)-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}

// Close begins the closing handshake, and ends the calls that wait.
func (s *byteStream) Close() error {
	s.reads.Close()
	s.writes.Close()
	_ = s.conn.StartClose(StatusNormalClosure, "")
	return nil
}

// opError returns the error of a call as those of package net are.
func (s *byteStream) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "websocket", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

func (s *byteStream) LocalAddr() net.Addr  { return knownAddr(s.conn.LocalAddr()) }
func (s *byteStream) RemoteAddr() net.Addr { return knownAddr(s.conn.RemoteAddr()) }

func (s *byteStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

func (s *byteStream) SetReadDeadline(t time.Time) error  { return s.opError("set", s.reads.EndAt(t)) }
func (s *byteStream) SetWriteDeadline(t time.Time) error { return s.opError("set", s.writes.EndAt(t)) }

// noAddr is the address of a transport that has none: programs call the methods of addresses unasked.
type noAddr struct{}

func (noAddr) Network() string { return "websocket" }
func (noAddr) String() string  { return "websocket" }

func knownAddr(addr net.Addr) net.Addr {
	if addr == nil {
		return noAddr{}
	}
	return addr
}
