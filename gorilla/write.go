// write.go is writing: whole messages, and messages made piece by piece.

package websocket

import (
	"io"
	"time"

	"github.com/seed62836080/wsd"
)

// WriteMessage writes a message. Any number of goroutines may write at a time. It returns when the network has taken the
// message, or waits for the peer to read what is ahead of a short one. Text has to be UTF-8. A message that NextWriter has
// begun is not ended by it.
func (c *Conn) WriteMessage(messageType int, data []byte) error {
	if messageType != TextMessage && messageType != BinaryMessage {
		return c.writeControlMessage(messageType, data)
	}
	if err := c.mayWrite(); err != nil {
		return err
	}
	return c.send(wsd.Message{Type: wsd.MessageType(messageType), Data: data, Compress: c.compress()})
}

// writeControlMessage writes a control message as messages are written, by the deadline for these.
func (c *Conn) writeControlMessage(messageType int, data []byte) error {
	return c.WriteControl(messageType, data, c.deadline())
}

// send sends a message by the deadline for messages.
func (c *Conn) send(m wsd.Message) error {
	limit := newLimit(c.deadline())
	defer limit.stop()
	if err := c.conn.Send(limit, m); err != nil {
		return c.writeError(err)
	}
	return c.failure()
}

// mayWrite returns why nothing can be written any more, if that is so.
func (c *Conn) mayWrite() error {
	if failed := c.failed.Load(); failed != nil {
		return *failed
	}
	if c.closeSent.Load() {
		return ErrCloseSent
	}
	return nil
}

// failure returns the error of the write that has just been done, or of one before it.
func (c *Conn) failure() error {
	if failure := c.pulled.Failure(); failure != nil {
		return c.writeError(failure)
	}
	return nil
}

// compress says whether messages are to be compressed.
func (c *Conn) compress() wsd.CompressMode {
	if c.plain.Load() || c.stored.Load() {
		return wsd.CompressNever
	}
	return wsd.CompressAuto
}

// EnableWriteCompression says whether messages are compressed from now on, as they are at first, if the handshake agreed on
// that.
func (c *Conn) EnableWriteCompression(enable bool) { c.plain.Store(!enable) }

// The levels of compress/flate.
const (
	lowestLevel  = -2
	defaultLevel = -1
	highestLevel = 9

	defaultMeans = 6 // what compress/flate takes defaultLevel for
)

// SetCompressionLevel sets the effort of compressing, in compress/flate's levels. A level of 0 means not to compress.
func (c *Conn) SetCompressionLevel(level int) error {
	if level < lowestLevel || level > highestLevel {
		return errLevel
	}
	c.stored.Store(level == 0)
	if level == defaultLevel {
		level = defaultMeans
	}
	c.pulled.SetLevel(level)
	return nil
}

// SetWriteDeadline bounds how long the writes that follow may take. One that is late fails for good. The zero time means no
// bound. WriteControl has a deadline of its own.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeDeadline = t
	return nil
}

func (c *Conn) deadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeDeadline
}

// bound sets the network connection's deadline for a write that waits.
func (c *Conn) bound(data bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline := c.controlDeadline
	if data {
		deadline = c.writeDeadline
	}
	if c.bounded || !deadline.IsZero() {
		c.bounded = !deadline.IsZero()
		_ = c.netConn.SetWriteDeadline(deadline)
	}
}

// NextWriter returns a writer for one message, whose Close sends it. Of a long one, pieces are sent before; from then on
// until Close other messages wait, also those of the same goroutine. Another NextWriter closes the one before.
func (c *Conn) NextWriter(messageType int) (io.WriteCloser, error) {
	switch messageType {
	case TextMessage, BinaryMessage, CloseMessage, PingMessage, PongMessage:
	default:
		return nil, errMessageType
	}
	w := &messageWriter{conn: c, messageType: messageType}
	if before := c.replace(w); before != nil {
		_ = before.Close()
	}
	if err := c.mayWrite(); err != nil {
		return nil, err
	}
	return w, nil
}

// replace makes w the open writer, and returns the one before.
func (c *Conn) replace(w *messageWriter) (before *messageWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.open = c.open, w
	return before
}
