//go:build !js

// read.go is reading, which is done by whoever calls: messages are returned, control messages handled on the way.

package websocket

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/pulled"
)

// mostFailedReads is the read that panics, of those that fail for good: the loop around it does not look at errors.
const mostFailedReads = 1000

// heldWhole is the length in bytes up to which a message is held whole even if it is read as a stream.
const heldWhole = 64 << 10

// ReadMessage returns the next text or binary message, which is the caller's for good. Handlers of control messages are
// called meanwhile. An error is permanent: further reads return it too.
func (c *Conn) ReadMessage() (messageType int, p []byte, err error) {
	event, err := c.next(0)
	if err != nil {
		return noMessage, nil, err
	}
	if event.Data == nil {
		event.Data = []byte{}
	}
	return int(event.Opcode), event.Data, nil
}

// noMessage is the type that comes with an error.
const noMessage = -1

// NextReader returns the next text or binary message as a stream of bytes, of which not more than 256 KiB are held at a
// time. What is left of the message before is skipped. An error is permanent: further reads return it too.
func (c *Conn) NextReader() (messageType int, r io.Reader, err error) {
	event, err := c.next(heldWhole)
	if err != nil {
		return noMessage, nil, err
	}
	c.message = &messageReader{conn: c}
	c.message.take(event)
	return int(event.Opcode), c.message, nil
}

// next returns the next message, or the first part of one that is longer than above, if that is positive.
func (c *Conn) next(above int64) (pulled.Event, error) {
	if c.message != nil {
		c.message.skip()
		c.message = nil
	}
	event, err := c.nextData(above)
	if err != nil {
		if c.failedReads++; c.failedReads >= mostFailedReads {
			panic("websocket: repeated read of a connection that has failed: " + err.Error())
		}
	}
	return event, err
}

// nextData returns the next message or part of one, and handles what control messages come before it.
func (c *Conn) nextData(above int64) (pulled.Event, error) {
	limit := c.readLimit
	if limit <= 0 {
		limit = -1
	}
	for c.readErr == nil {
		event, err := c.pulled.Next(limit, above)
		switch {
		case err != nil:
			c.readErr = c.readError(err)
		case event.Opcode == TextMessage || event.Opcode == BinaryMessage:
			return event, nil
		default:
			c.readErr = c.handle(event)
		}
	}
	return pulled.Event{}, c.readErr
}

// messageReader reads one message.
type messageReader struct {
	conn     *Conn
	data     []byte // what has come and not been read
	part     []byte // the memory that data is part of, nil if that is the message's own
	complete bool   // nothing follows data
}

// take makes what has come what is read next.
func (r *messageReader) take(event pulled.Event) {
	r.data, r.part = event.Data, nil
	if event.Part != pulled.Whole {
		r.part = event.Data
	}
	r.complete = event.Part == pulled.Whole || event.Part == pulled.Last
}

// some waits until there is something to read.
func (r *messageReader) some() error {
	for r.conn.message == r {
		if len(r.data) > 0 {
			return nil
		}
		bufpool.Put(r.part)
		if r.part = nil; r.complete {
			break
		}
		event, err := r.conn.nextData(heldWhole)
		if err != nil {
			return err
		}
		r.take(event)
	}
	return io.EOF
}

// Read reads what comes next of the message. At its end, and when another message has been begun, the error is io.EOF.
func (r *messageReader) Read(b []byte) (int, error) {
	if err := r.some(); err != nil {
		return 0, err
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

// WriteTo writes what is left of the message, as it comes.
func (r *messageReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err = r.some(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(r.data)
		total += int64(n)
		if err == nil && n < len(r.data) {
			err = io.ErrShortWrite
		}
		r.data = r.data[n:]
		if err != nil {
			return total, err
		}
	}
}

// skip reads up to the end of the message. An error is found by the next read, too.
func (r *messageReader) skip() {
	for r.data = nil; r.some() == nil; {
		r.data = nil
	}
}

// SetReadLimit bounds the messages that are read from now on, in bytes. A longer one is refused with a close message, and
// its read returns ErrReadLimit. Zero means no limit, which is how a connection begins.
func (c *Conn) SetReadLimit(limit int64) { c.readLimit = limit }

// SetReadDeadline bounds how long reads may wait, also those that wait already. A read that is late fails for good. The zero
// time means no bound.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return c.netError("set", net.ErrClosed)
	}
	if c.netConn == nil {
		return errors.ErrUnsupported
	}
	return c.netConn.SetReadDeadline(t)
}
