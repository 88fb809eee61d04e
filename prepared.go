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

	mu         sync.Mutex // held while the message is compressed: others that need that wait for it
	compressed []preparedPayload
}

// preparedPayload is the message in the form shared by all connections that compress alike.
type preparedPayload struct {
	level   int // deflate.Deflater.Level
	payload []byte
}

// Prepare returns m prepared for SendPrepared and TrySendPrepared, or an error matching ErrInvalidMessage. It copies m.Data.
//
// Work that is the same for many connections is done once: text is checked here, and the message is compressed when the
// first connection needs it, for all that compress alike. From 8 KiB on, queues refer to it instead of copying it. With
// context takeover a connection refers to what it sent before (RFC 7692, section 7.1.1), so each one compresses and keeps
// the message for itself: to send to many, negotiate no takeover. Clients mask, each with its own keys.
func Prepare(m Message) (*Prepared, error) {
	if err := checkMessage(&m); err != nil {
		return nil, err
	}
	m.Data = slices.Clone(m.Data)
	return &Prepared{message: m}, nil
}

// Message returns the message that was prepared. Its Data is the Prepared's own, shared by all that send it: it must not be
// changed or released.
func (p *Prepared) Message() Message { return p.message }

// SendPrepared is Send for a prepared message, which may be nil no more than invalid. Whatever its size, it returns once
// there is room in the queue.
func (c *Conn) SendPrepared(ctx context.Context, p *Prepared) error {
	if err := c.checkCall("send", ctx); err != nil {
		return err
	}
	o, own, err := p.forConn(c)
	switch {
	case err != nil:
		return err
	case own:
		return c.sendCompressed(ctx, &p.message)
	}
	return c.sendPayload(ctx, &o)
}

// TrySendPrepared is TrySend for a prepared message, which it does not copy from 8 KiB on.
func (c *Conn) TrySendPrepared(p *Prepared) error {
	o, own, err := p.forConn(c)
	switch {
	case err != nil:
		return err
	case own:
		return c.trySendCompressed(&p.message)
	}
	return c.trySendPayload(&o)
}

// forConn returns the message as c sends it, or that c compresses it on its own.
func (p *Prepared) forConn(c *Conn) (o outgoing, own bool, err error) {
	if p == nil || p.message.Type == 0 {
		return o, false, fmt.Errorf("%w: expected what Prepare returned", ErrInvalidMessage)
	}
	d, m := c.deflater, p.message
	o = outgoing{opcode: byte(m.Type), payload: m.Data, size: len(m.Data), share: true}
	switch {
	case d == nil || !d.wants(&p.message):
		return o, false, nil
	case d.Takeover():
		return o, true, nil
	}
	o.opcode |= rsv1Bit
	o.payload, err = p.payload(d)
	return o, false, err
}

// payload returns the message as d, which has no context takeover, compresses it.
func (p *Prepared) payload(d *deflater) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, done := range p.compressed {
		if done.level == d.Level() {
			return done.payload, nil
		}
	}
	compressed, err := d.Compress(bufpool.Get(firstBuffer), p.message.Data)
	defer func() { bufpool.Put(compressed) }()
	if err != nil {
		return nil, err
	}
	payload := slices.Clone(compressed)
	p.compressed = append(p.compressed, preparedPayload{d.Level(), payload})
	return payload, nil
}
