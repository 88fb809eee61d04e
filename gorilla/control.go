// control.go handles and sends control messages: pings, pongs and close messages.

package websocket

import (
	"errors"
	"net"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/pulled"
)

const (
	// answerWithin is how long the answer to a control message may take to be written.
	answerWithin = time.Second
	// longestControl is the length in bytes of the longest payload of a control message (RFC 6455, section 5.5).
	longestControl = 125
)

// handle has a control message handled. The error ends the reading.
func (c *Conn) handle(event pulled.Event) error {
	switch event.Opcode {
	case PingMessage:
		return c.PingHandler()(string(event.Data))
	case PongMessage:
		if c.pongHandler == nil {
			return nil
		}
		return c.pongHandler(string(event.Data))
	}
	closed := &CloseError{Code: int(event.Code), Text: string(event.Data)}
	if err := c.CloseHandler()(closed.Code, closed.Text); err != nil {
		return err
	}
	return closed
}

// SetCloseHandler sets what is called with the peer's close message, by the reading call that then returns a *CloseError.
// Without a text or a code these are empty and CloseNoStatusReceived. nil means the default, which answers with the same
// code. An error is what the reading call returns instead.
func (c *Conn) SetCloseHandler(h func(code int, text string) error) { c.closeHandler = h }

// CloseHandler returns the handler of close messages.
func (c *Conn) CloseHandler() func(code int, text string) error {
	if c.closeHandler != nil {
		return c.closeHandler
	}
	return func(code int, _ string) error {
		_ = c.WriteControl(CloseMessage, FormatCloseMessage(code, ""), time.Now().Add(answerWithin))
		return nil
	}
}

// SetPingHandler sets what is called with the payload of a ping, by the reading call. nil means the default, which answers
// with a pong. An error ends the reading.
func (c *Conn) SetPingHandler(h func(appData string) error) { c.pingHandler = h }

// PingHandler returns the handler of pings.
func (c *Conn) PingHandler() func(appData string) error {
	if c.pingHandler != nil {
		return c.pingHandler
	}
	return func(appData string) error {
		err := c.WriteControl(PongMessage, []byte(appData), time.Now().Add(answerWithin))
		var network net.Error
		if err == ErrCloseSent || errors.As(err, &network) {
			return nil // what is wrong with the connection, if anything is, the read finds
		}
		return err
	}
}

// SetPongHandler sets what is called with the payload of a pong, by the reading call. nil means the default, which does
// nothing. An error ends the reading.
func (c *Conn) SetPongHandler(h func(appData string) error) { c.pongHandler = h }

// PongHandler returns the handler of pongs.
func (c *Conn) PongHandler() func(appData string) error {
	if c.pongHandler != nil {
		return c.pongHandler
	}
	return func(string) error { return nil }
}

// WriteControl writes a ping, a pong or a close message, between the messages of others and ahead of those that wait, except
// that a close message is the last. It fails if that takes until after the deadline; the zero time means no deadline. A
// close message with a code that no peer may be sent goes out with CloseInternalServerErr.
func (c *Conn) WriteControl(messageType int, data []byte, deadline time.Time) error {
	switch {
	case messageType != CloseMessage && messageType != PingMessage && messageType != PongMessage:
		return errMessageType
	case len(data) > longestControl:
		return errControlFrame
	}
	if err := c.mayWrite(); err != nil {
		return err
	}
	limit := newLimit(deadline)
	defer limit.stop()
	if limit.Err() != nil {
		return errWriteTimeout
	}
	c.mu.Lock()
	c.controlDeadline = deadline
	c.mu.Unlock()
	var err error
	if messageType == CloseMessage {
		code, text := closePayload(data)
		c.closeSent.Store(true)
		err = c.pulled.SendClose(limit, code, text)
	} else {
		err = c.pulled.SendControl(limit, byte(messageType), data)
	}
	switch {
	case err == nil:
		return c.failure()
	case limit.Err() != nil && c.pulled.Failure() == nil && !c.closed.Load():
		return errWriteTimeout // which harms no other write
	}
	return c.writeError(err)
}

// refuse tells the peer which rule it has broken.
func (c *Conn) refuse(violation *wsd.ProtocolError) {
	_ = c.WriteControl(CloseMessage, FormatCloseMessage(int(violation.Code), violation.Problem), time.Now().Add(answerWithin))
}
