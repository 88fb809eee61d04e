// stream.go sends a message that is produced piece by piece.

package wsd

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/textcheck"
)

// Writer returns a writer for one message. Each Write sends its bytes in fragments of up to 32 KiB or Config.MaxFrameSize,
// uncompressed, and Close sends the last, empty one (RFC 6455, section 5.4). Both block while the queue is full.
//
// From the first Write to Close, other senders wait, even the same goroutine. If ctx is done meanwhile, the connection is
// closed with StatusInternalError, as the message is cut: that is how to abandon it. A Write that makes a
// text invalid UTF-8 sends nothing; a Close inside a character closes the connection too. Only one goroutine may use it.
func (c *Conn) Writer(ctx context.Context, t MessageType) io.WriteCloser {
	w := &messageWriter{conn: c, ctx: ctx, opcode: byte(t), text: t == TextMessage}
	if ctx == nil {
		w.err = ErrNilContext
	} else if t != TextMessage && t != BinaryMessage {
		w.err = fmt.Errorf("%w: type %d, expected text or binary", ErrInvalidMessage, t)
	}
	return w
}

// messageWriter writes one fragmented message.
type messageWriter struct {
	conn    *Conn
	ctx     context.Context
	unwatch func() bool // ends the watch over ctx, nil before the first frame
	err     error       // returned by every further call
	opcode  byte        // of the next frame
	utf8    textcheck.State
	size    int
	text    bool
	fate    messageFate
}

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
	for len(p) > 0 {
		piece := p[:min(len(p), w.conn.queue.longest())]
		if w.err = w.frame(0, piece); w.err != nil {
			w.release()
			return n, w.err
		}
		n += len(piece)
		p = p[len(piece):]
	}
	return n, nil
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
	if w.err = w.frame(finBit, nil); w.err != nil {
		return w.err
	}
	t := BinaryMessage
	if w.text {
		t = TextMessage
	}
	w.conn.traceSent(MessageInfo{t, w.size, w.size})
	w.err = &causeError{"write to a message that is complete", io.ErrClosedPipe}
	return nil
}

// release lets go of the context, which may live on for a long time.
func (w *messageWriter) release() {
	if w.unwatch != nil {
		w.unwatch()
	}
}

// frame queues one frame of the message.
func (w *messageWriter) frame(fin byte, payload []byte) error {
	c := w.conn
	if w.unwatch == nil {
		if err := c.checkCall("writer", w.ctx); err != nil {
			return err
		}
		// Wait for room for the frame here: once ctx is watched, its end during a wait would end the connection.
		if err := c.queue.enter(w.ctx, len(payload)+maxFrameHeader, needTurn); err != nil {
			return c.callError(err)
		}
		w.unwatch = context.AfterFunc(w.ctx, func() { w.abandon(done.Why(w.ctx)) })
	}
	size := w.size + len(payload)
	if c.queue.addFragment(fin|w.opcode, payload, size, &w.fate) != nil {
		<-c.queue.refusalChannel() // an abandoned message closes the connection
		return c.ending.err()
	}
	w.opcode, w.size = byte(OpContinuation), size
	if fin != 0 {
		c.answers.countAnswer()
	}
	return nil
}

// abandon closes the connection if the message is not complete, since the peer would wait for the rest of it.
func (w *messageWriter) abandon(cause error) {
	const reason = "a message could not be completed"
	if w.fate.abandon() {
		w.conn.ending.queueClose(StatusInternalError, reason, &causeError{reason, cause})
	}
}
