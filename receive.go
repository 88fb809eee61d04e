// receive.go hands received messages to callers that do not use the channel itself, one by one, in a loop, or decoded, and on
// to another connection.

package wsd

import (
	"context"
	"errors"
	"iter"
	"sync"
)

// Receive returns the next message. It blocks until there is one, ctx is done, or the connection ends. If ctx is done
// first, the error matches ctx's error and its cause. If the connection has ended and all messages have been received,
// the error matches ErrClosed and the cause of the end.
func (c *Conn) Receive(ctx context.Context) (Message, error) {
	if ctx == nil {
		return Message{}, ErrNilContext
	}
	if c.settings.inbox != nil {
		return Message{}, ErrInbox
	}
	var m Message
	var open bool
	select {
	case m, open = <-c.messages:
	default:
		select {
		case m, open = <-c.messages:
		case <-ctx.Done():
			select {
			case m, open = <-c.messages:
				// Both were ready. ctx may be the connection's own: a message, or how the connection ended, says more.
			default:
				return Message{}, canceled("receive", ctx)
			}
		}
	}
	if !open {
		c.queue.noteEndTold()
		return Message{}, c.ending.err()
	}
	return m, nil
}

// Each returns the messages that arrive, for a loop that needs no Release: a message is the body's until its next iteration
// begins, and its Data is then reused. Clone what is to be kept.
//
//	for msg, err := range conn.Each(ctx) {
//		if err != nil {
//			return err
//		}
//		...
//	}
//
// After a closing handshake the loop ends without an error, when the connection has. Otherwise its last iteration has the
// error of a Receive. A loop that is left keeps its message. The body must not call Release. Each, Messages and Receive
// share one stream, from which each message is taken once.
func (c *Conn) Each(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := c.Receive(ctx)
			if err != nil {
				if err = c.afterLast(ctx, err); err != nil {
					yield(Message{}, err)
				}
				return
			}
			if !yield(m, nil) {
				return
			}
			m.Release()
		}
	}
}

// afterLast returns the error that ends a loop over all messages, nil if the end is clean. err is that of Receive.
func (c *Conn) afterLast(ctx context.Context, err error) error {
	if !errors.Is(err, ErrClosed) {
		return err
	}
	select {
	case <-c.Closed():
	case <-ctx.Done():
		// ctx may be the connection's own, which is done a moment before Closed is closed.
		if c.State() != StateClosed {
			return canceled("receive", ctx)
		}
	}
	if c.CloseEvent().Clean {
		return nil
	}
	return c.ending.err()
}

// ReceiveJSON receives the next message and decodes it as JSON into v, a pointer. The error is that of Receive, or that of
// encoding/json for a message that is not what was expected: the message is then gone, and the connection unharmed.
func (c *Conn) ReceiveJSON(ctx context.Context, v any) error {
	m, err := c.Receive(ctx)
	if err != nil {
		return err
	}
	defer m.Release() // what encoding/json keeps it copies
	return m.Decode(v)
}

// Relay carries messages both ways until a connection ends or ctx is done, no faster than they are taken. It returns when both
// have ended.
//
// Behind all that came, the other is closed with code and reason of the first to end. After 1006 or a violation it is told
// 1001 (going away) if a client was to blame, 1014 (bad gateway) if a server, 1011 if a streamed message was cut. If ctx is
// done, both are told 1001.
//
// The error is never nil: it says which ended first, and matches ErrClosed and the cause, ctx's error, or ErrInbox.
func Relay(ctx context.Context, a, b *Conn) error {
	if ctx == nil {
		return ErrNilContext
	}
	if a.settings.inbox != nil || b.settings.inbox != nil {
		return ErrInbox
	}
	over := make(chan carried, 2)
	var carriers sync.WaitGroup
	for _, way := range [][2]*Conn{{a, b}, {b, a}} {
		carriers.Go(func() {
			from, to := way[0], way[1]
			over <- carry(from, to)
			// What still comes has nowhere to go. Its sender is not to be held up while something is on its way to it.
			for m := range from.Messages() {
				m.Release()
			}
		})
	}
	first := relayUntil(ctx, over, a, b)
	other := a
	if first == a {
		other = b
	}
	switch {
	case first == nil:
		_ = a.StartClose(StatusGoingAway, "")
		_ = b.StartClose(StatusGoingAway, "")
	case errors.As(first.CloseEvent().Err, new(*cutError)):
		first = other // whose end has cut a streamed message, and so ended the one that was to get it
	default:
		_ = other.StartClose(first.passedOn())
	}
	<-a.Closed()
	<-b.Closed()
	carriers.Wait()
	switch first {
	case nil:
		return canceled("relay", ctx)
	case a:
		return &causeError{"relay: the first connection ended", a.ending.err()}
	}
	return &causeError{"relay: the second connection ended", b.ending.err()}
}

// relayUntil waits until a connection has ended and what had come from it is on its way, and returns it. It returns nil if
// ctx is done first.
func relayUntil(ctx context.Context, over <-chan carried, a, b *Conn) *Conn {
	select {
	case result := <-over:
		if result.ended != result.from {
			// It took nothing more, but something may still come from it.
			select {
			case <-over:
			case <-ctx.Done():
			}
		}
		return result.ended
	case <-ctx.Done():
	}
	for _, c := range []*Conn{a, b} {
		if c.State() == StateClosed {
			return c // ctx may be its own: how it ended says more
		}
	}
	return nil
}

// carried is how one direction of a relay has come to its end.
type carried struct{ from, ended *Conn }

// carry sends to one connection what comes from another, until one of them has ended.
func carry(from, to *Conn) carried {
	for {
		m, err := from.Receive(context.Background())
		if err != nil {
			return carried{from, from}
		}
		// Not with a context: a large message would be cut by its end, and the connection with it.
		if to.Send(context.Background(), m) != nil {
			return carried{from, to}
		}
		m.Release()
	}
}

// passedOn returns what a connection that has ended, or is about to, has to say to the one that it is coupled with.
func (c *Conn) passedOn() (StatusCode, string) {
	event := c.CloseEvent()
	var byPeer *CloseError
	switch {
	case errors.As(event.Err, &byPeer) && !byPeer.Local:
		return byPeer.Code, byPeer.Reason
	case event.Local && event.SentCode != 0 && !isViolation(event.Err):
		return event.SentCode, event.SentReason // somebody has closed this side
	case c.settings.role == ClientRole:
		return StatusBadGateway, ""
	}
	return StatusGoingAway, ""
}
