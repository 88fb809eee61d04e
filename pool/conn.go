// conn.go is what Do and Acquire lend: a connection, until it is released.

package pool

import (
	"context"
	"sync/atomic"

	"github.com/seed62836080/wsd"
)

// Conn is a pooled connection lent to one user, from Acquire to Release or Destroy, or for one call of Do's function.
// Afterwards its methods return ErrReleased and do not touch the connection, which may be another user's. All methods are
// safe for concurrent use.
type Conn struct {
	pool  *Pool
	link  *link
	state atomic.Int32 // calls under way, and the two bits below
}

const (
	returned = 1 << 30 // set by Release and Destroy
	spoiled  = 1 << 29 // a Receive failed: the answer that it waited for may still come
)

func (c *Conn) begin() error {
	if c.state.Add(1)&returned != 0 {
		c.state.Add(-1)
		return ErrReleased
	}
	return nil
}

func (c *Conn) done() { c.state.Add(-1) }

// Send is wsd.Conn.Send.
func (c *Conn) Send(ctx context.Context, m wsd.Message) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.done()
	return c.link.conn.Send(ctx, m)
}

// Receive is wsd.Conn.Receive. Once a Receive has failed, Release closes the connection: the message that it waited for
// could still come, and the next user would take it for the answer to something else.
func (c *Conn) Receive(ctx context.Context) (wsd.Message, error) {
	if err := c.begin(); err != nil {
		return wsd.Message{}, err
	}
	defer c.done()
	m, err := c.link.conn.Receive(ctx)
	if err != nil {
		c.state.Or(spoiled)
	}
	return m, err
}

// TrySend is wsd.Conn.TrySend.
func (c *Conn) TrySend(m wsd.Message) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.done()
	return c.link.conn.TrySend(m)
}

// SendJSON is wsd.Conn.SendJSON.
func (c *Conn) SendJSON(ctx context.Context, v any) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.done()
	return c.link.conn.SendJSON(ctx, v)
}

// ReceiveJSON is wsd.Conn.ReceiveJSON, with the same consequence of a failed Receive. A message that is not what was
// expected does no harm: it is gone.
func (c *Conn) ReceiveJSON(ctx context.Context, v any) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.done()
	m, err := c.Receive(ctx)
	if err != nil {
		return err
	}
	defer m.Release()
	return m.Decode(v)
}

// Unwrap returns the connection itself, for uses beyond sending and receiving. The pool cannot guard it: use neither it nor
// its channels after Release. Do not Close it; call Destroy instead, also after a Receive on it that failed. The pool
// counts a connection that ends by itself as lost and, soon after its dial, as a failure of its endpoint
// (Options.MinBackoff).
func (c *Conn) Unwrap() (*wsd.Conn, error) {
	if c.state.Load()&returned != 0 {
		return nil, ErrReleased
	}
	return c.link.conn, nil
}

// Release gives the connection back. The pool closes it if it could harm its next user: if it has ended or is closing, a
// message or its Body has been left unread, a Receive failed, or a Send or Receive is still under way. The pool cannot
// see an answer that has not arrived yet: call Destroy to leave without it.
//
// Release does not block. It returns ErrReleased if the connection has already been released or destroyed.
func (c *Conn) Release() error {
	old := c.state.Or(returned)
	if old&returned != 0 {
		return ErrReleased
	}
	if old != 0 || !c.link.reusable() {
		c.pool.ledger.discard(c.link)
	} else {
		c.pool.ledger.giveBack(c.link)
	}
	return nil
}

// Destroy closes the connection without a closing handshake and frees its place for a new one. It is for a connection in
// an unknown state, such as one with an answer under way. It does not block, and returns ErrReleased if the connection
// has already been released or destroyed.
func (c *Conn) Destroy() error {
	if c.state.Or(returned)&returned != 0 {
		return ErrReleased
	}
	c.pool.ledger.discard(c.link)
	return nil
}
