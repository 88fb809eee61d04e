// prepared.go sends one message to many connections, compressed once.

package wsd

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/seed62836080/wsd/internal/bufpool"
)

// Prepared is a message for many connections. It is safe for concurrent use by any number of connections.
type Prepared struct {
	message Message // its Data belongs to the Prepared
	err     error   // why the message may not be sent

	mu         sync.Mutex // held while the message is compressed: others that need that wait for it
	compressed []preparedPayload
}

// preparedPayload is the message in the form shared by all connections that compress alike.
type preparedPayload struct {
	level   int // deflater.level
	payload []byte
}

// Prepare returns m prepared for SendPrepared. It copies m.Data, which belongs to the caller again when Prepare returns.
//
// Work that is the same for many connections is done once. Text is checked here; SendPrepared returns what is wrong with
// it. The message is compressed when the first connection needs it, for all that have no context takeover and the same
// level and window. With context takeover, a connection refers to what it sent before (RFC 7692, section 7.1.1), so each
// one compresses the message for itself: to send messages to many connections, negotiate no takeover. Clients mask what
// they send, each with its own keys.
func Prepare(m Message) *Prepared {
	m.Data = slices.Clone(m.Data)
	return &Prepared{message: m, err: checkMessage(m)}
}

// SendPrepared is Send for a prepared message: it blocks and fails as Send does. A message that may not be sent fails
// here, with an error matching ErrInvalidMessage.
func (c *Conn) SendPrepared(ctx context.Context, p *Prepared) error {
	if err := c.checkCall("send", ctx); err != nil {
		return err
	}
	if p == nil || p.message.Type == 0 && p.err == nil {
		return fmt.Errorf("%w: expected what Prepare returned", ErrInvalidMessage)
	}
	if p.err != nil {
		return p.err
	}
	d, m := c.deflater, p.message
	switch {
	case d == nil || !d.wants(m):
		return c.sendPayload(ctx, outgoing{opcode: byte(m.Type), payload: m.Data, size: len(m.Data)})
	case d.history != nil:
		return c.sendCompressed(ctx, m)
	}
	payload, err := p.payload(d)
	if err != nil {
		return err
	}
	return c.sendPayload(ctx, outgoing{opcode: rsv1Bit | byte(m.Type), payload: payload, size: len(m.Data)})
}

// payload returns the message as d, which has no context takeover, compresses it.
func (p *Prepared) payload(d *deflater) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, done := range p.compressed {
		if done.level == d.level {
			return done.payload, nil
		}
	}
	compressed, err := d.deflate(bufpool.Get(firstBuffer), p.message.Data)
	defer func() { bufpool.Put(compressed) }()
	if err != nil {
		return nil, notCompressed(err)
	}
	payload := slices.Clone(compressed)
	p.compressed = append(p.compressed, preparedPayload{d.level, payload})
	return payload, nil
}
