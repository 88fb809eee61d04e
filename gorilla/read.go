// read.go is reading, which is done by whoever calls: messages are returned, control messages handled on the way.

package websocket

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/seed62836080/wsd/internal/pulled"
)

// mostFailedReads is how many reads may fail for good before one panics: the loop around it does not look at errors.
const mostFailedReads = 1000

// ReadMessage returns the next text or binary message, which is the caller's for good. Handlers of control messages are
// called meanwhile. An error is permanent: further reads return it too.
func (c *Conn) ReadMessage() (messageType int, p []byte, err error) {
	event, err := c.next()
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

// NextReader returns the next text or binary message as a stream of bytes. What is left of the message before is skipped.
// An error is permanent: further reads return it too.
func (c *Conn) NextReader() (messageType int, r io.Reader, err error) {
	event, err := c.next()
	if err != nil {
		return noMessage, nil, err
	}
	c.message = &messageReader{conn: c, data: event.Data}
	return int(event.Opcode), c.message, nil
}

// messageReader reads one message.
type messageReader struct {
	conn *Conn
	data []byte // what has not been read
}

// Read reads what comes next of the message. At its end, and when another message has been begun, the error is io.EOF.
func (r *messageReader) Read(b []byte) (int, error) {
	if r.conn.message != r || len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

// next returns the next message, and handles what control messages come before it.
func (c *Conn) next() (pulled.Event, error) {
	c.message = nil
	for c.readErr == nil {
		event, err := c.pulled.Next(c.readLimit)
		switch {
		case err != nil:
			c.readErr = c.readError(err)
		case event.Opcode == TextMessage || event.Opcode == BinaryMessage:
			return event, nil
		default:
			c.readErr = c.handle(event)
		}
	}
	if c.failedReads++; c.failedReads > mostFailedReads {
		panic("websocket: repeated read of a connection that has failed: " + c.readErr.Error())
	}
	return pulled.Event{}, c.readErr
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
