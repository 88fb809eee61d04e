// prepared.go is a message that is written to many connections, and made ready for that once.

package websocket

import (
	"slices"
	"sync"

	"github.com/seed62836080/wsd"
)

// PreparedMessage is a message for many connections. It is safe for concurrent use.
type PreparedMessage struct {
	messageType int
	data        []byte
	compressed  *wsd.Prepared // nil for a control message

	mu    sync.Mutex
	plain *wsd.Prepared // for connections that do not compress at present, nil before the first; mu guards it
}

// NewPreparedMessage returns a message that is ready to be written to many connections. It copies data. Text has to be
// UTF-8.
func NewPreparedMessage(messageType int, data []byte) (*PreparedMessage, error) {
	pm := &PreparedMessage{messageType: messageType}
	switch messageType {
	case TextMessage, BinaryMessage:
		prepared, err := wsd.Prepare(wsd.Message{Type: wsd.MessageType(messageType), Data: data})
		if err != nil {
			return nil, errNotUTF8
		}
		pm.compressed, pm.data = prepared, prepared.Message().Data
	case CloseMessage, PingMessage, PongMessage:
		if len(data) > longestControl {
			return nil, errControlFrame
		}
		pm.data = slices.Clone(data)
	default:
		return nil, errMessageType
	}
	return pm, nil
}

// WritePreparedMessage writes a message as WriteMessage does, without the work that is the same for all connections.
func (c *Conn) WritePreparedMessage(pm *PreparedMessage) error {
	if pm.compressed == nil {
		return c.writeControlMessage(pm.messageType, pm.data)
	}
	if err := c.mayWrite(); err != nil {
		return err
	}
	prepared := pm.compressed
	if c.compress() == wsd.CompressNever && c.pulled.Compresses() {
		var err error
		if prepared, err = pm.uncompressed(); err != nil {
			return c.writeError(err)
		}
	}
	limit := newLimit(c.deadline())
	defer limit.stop()
	if err := c.conn.SendPrepared(limit, prepared); err != nil {
		return c.writeError(err)
	}
	return c.failure()
}

// uncompressed returns the message for a connection that does not compress.
func (pm *PreparedMessage) uncompressed() (*wsd.Prepared, error) {
	pm.mu.Lock()
	defer pm.mu.Unlock()
	if pm.plain == nil {
		m := pm.compressed.Message()
		m.Compress = wsd.CompressNever
		plain, err := wsd.Prepare(m)
		if err != nil {
			return nil, err
		}
		pm.plain = plain
	}
	return pm.plain, nil
}
