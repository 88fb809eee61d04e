// stream.go sends a message that is produced piece by piece.

package wsd

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/netio"
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
	unwatch   func() bool // ends the watch over ctx, nil before the first frame
	err       error       // returned by every further call
	deflating *deflating  // nil before the first piece that is compressed
	opcode    byte        // of the next frame
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
		w.deflating.end() // before others may send, who look for it
		w.deflating = nil
	}
	if w.err = w.frame(finBit, nil); w.err != nil {
		return w.err
	}
	t := BinaryMessage
	if w.text {
		t = TextMessage
	}
	w.conn.traceSent(MessageInfo{t, w.size, w.wireSize})
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
		w.deflating = w.conn.deflater.begin(len(piece))
		w.opcode |= rsv1Bit
	}
	compressed, err := w.deflating.add(bufpool.Get(firstBuffer), piece)
	if err == nil && last {
		compressed, err = w.deflating.flush(compressed)
	}
	defer func() { bufpool.Put(compressed) }()
	if err != nil {
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
