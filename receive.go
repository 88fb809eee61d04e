// receive.go hands received messages to callers that do not use the channel itself: one by one, in a loop, or decoded.

package wsd

import (
	"context"
	"errors"
	"iter"
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
		c.queue.answers.noteEndTold()
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
