// messages.go is what is read and written in other forms than bytes: values as JSON, and all messages as one stream.

package websocket

import (
	"encoding/json"
	"io"
	"strings"
)

// ReadJSON reads the next message and decodes the first JSON value in it into v, a pointer. An empty message is an
// io.ErrUnexpectedEOF. If it is encoding/json that fails, the connection is unharmed.
func (c *Conn) ReadJSON(v any) error {
	_, r, err := c.NextReader()
	if err != nil {
		return err
	}
	if err = json.NewDecoder(r).Decode(v); err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteJSON writes v as JSON, with a line feed behind it, in a text message.
func (c *Conn) WriteJSON(v any) error {
	w := &messageWriter{conn: c, messageType: TextMessage, whole: true}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		w.end(err)
		return err
	}
	return w.Close()
}

// ReadJSON is c.ReadJSON.
//
// Deprecated: use c.ReadJSON.
func ReadJSON(c *Conn, v any) error { return c.ReadJSON(v) }

// WriteJSON is c.WriteJSON.
//
// Deprecated: use c.WriteJSON.
func WriteJSON(c *Conn, v any) error { return c.WriteJSON(v) }

// JoinMessages returns all messages that come as one stream, each with term behind it. The stream ends with the error that
// ends the reading. One goroutine at a time may read it.
func JoinMessages(c *Conn, term string) io.Reader { return &joined{conn: c, term: term} }

// joined reads one message after another.
type joined struct {
	conn *Conn
	term string
	next io.Reader // the present message and what follows it, nil between messages
}

// Read reads what comes next.
func (j *joined) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if j.next == nil {
			_, message, err := j.conn.NextReader()
			if err != nil {
				return 0, err
			}
			j.next = io.MultiReader(message, strings.NewReader(j.term))
		}
		n, err := j.next.Read(p)
		if err == io.EOF {
			j.next, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}
