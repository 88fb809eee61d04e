//go:build !js

// writer.go is a message that is written piece by piece: gathered while it is short, sent in fragments once it is long.

package websocket

import (
	"io"
	"math"
	"sync/atomic"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/bufpool"
)

const (
	// gathered is how many bytes of a message are gathered before fragments of it are sent, unless the WriteBufferSize is
	// larger, and gatheredToCompress the same for one that is to be compressed, since fragments keep a compressor until the
	// message ends.
	gathered           = 32 << 10
	gatheredToCompress = 1 << 20
)

// messageWriter writes one message.
type messageWriter struct {
	conn        *Conn
	messageType int
	data        []byte         // what is gathered, on loan
	fragments   io.WriteCloser // nil while the message is gathered
	limit       *limit         // of fragments
	whole       bool           // all of it is gathered
	err         error          // returned by every further call
	closed      atomic.Bool
}

// Write adds p to the message.
func (w *messageWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.fragments != nil {
		return w.sendFragments(p)
	}
	if len(p) > w.most()-len(w.data) {
		if w.messageType != TextMessage && w.messageType != BinaryMessage {
			w.end(errControlFrame)
			return 0, errControlFrame
		}
		if err := w.begin(); err != nil {
			return 0, err
		}
		return w.sendFragments(p)
	}
	w.data = append(bufpool.Grow(w.data, len(p)), p...)
	return len(p), nil
}

// WriteString is Write for a string.
func (w *messageWriter) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// most is how many bytes are gathered.
func (w *messageWriter) most() int {
	switch {
	case w.whole:
		return math.MaxInt
	case w.messageType != TextMessage && w.messageType != BinaryMessage:
		return longestControl
	case w.conn.pulled.Compresses() && w.conn.compress() != wsd.CompressNever:
		return max(gatheredToCompress, w.conn.gathers)
	}
	return w.conn.gathers
}

// begin begins to send the message in fragments.
func (w *messageWriter) begin() error {
	w.limit = newLimit(w.conn.deadline())
	w.fragments = w.conn.conn.Writer(w.limit, wsd.MessageType(w.messageType), &wsd.WriterOptions{Compress: w.conn.compress()})
	_, err := w.sendFragments(w.data)
	bufpool.Put(w.data)
	w.data = nil
	return err
}

// sendFragments sends p as fragments. A text may be cut anywhere.
func (w *messageWriter) sendFragments(p []byte) (int, error) {
	n, err := w.fragments.Write(p)
	if err == nil {
		err = w.conn.failure()
	}
	if err != nil {
		err = w.conn.writeError(err)
		w.end(err)
	}
	return n, err
}

// ReadFrom writes what r has.
func (w *messageWriter) ReadFrom(r io.Reader) (total int64, err error) {
	buffer := bufpool.Get(gathered)[:gathered]
	defer bufpool.Put(buffer)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Close sends the message, or the last of it.
func (w *messageWriter) Close() error {
	if !w.closed.CompareAndSwap(false, true) {
		return errWriteClosed // perhaps by a NextWriter of another goroutine
	}
	if w.err != nil {
		return w.err
	}
	c := w.conn
	c.forget(w)
	var err error
	switch {
	case w.fragments == nil:
		err = c.WriteMessage(w.messageType, w.data)
	default:
		if err = w.fragments.Close(); err != nil {
			err = c.writeError(err)
		}
		w.limit.stop()
	}
	w.end(errWriteClosed)
	return err
}

// end makes all further calls fail.
func (w *messageWriter) end(err error) {
	w.err = err
	bufpool.Put(w.data)
	w.data = nil
}

// forget lets go of a writer that is closed.
func (c *Conn) forget(w *messageWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == w {
		c.open = nil
	}
}
