// netconn.go is a connection as a stream of bytes, for protocols that know nothing of messages.

package wsd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed62836080/wsd/internal/parts"
)

// netPiece is how many bytes of a Write go into one message: fewer than a Send may need more than a step for, so that a deadline
// always comes between messages.
const netPiece = largePayload - 1<<10

// NetConn returns c as a stream of bytes in messages of type t, usually BinaryMessage. It takes over what c receives, whole or
// streamed; one of the other type closes c with StatusUnsupportedData.
//
// A Write sends one message for each 31 KiB, and returns when they are queued. A deadline ends calls, and harms neither stream.
// Close begins the closing handshake behind what was written, and returns. Read returns io.EOF if the peer has closed with
// StatusNormalClosure or StatusGoingAway, and c's error after any other end. Written text must be UTF-8; a Write may cut a
// character.
func NetConn(c *Conn, t MessageType) net.Conn {
	return &byteStream{conn: c, messageType: t, reads: newCalls(), writes: newCalls()}
}

// byteStream is a Conn as a net.Conn.
type byteStream struct {
	conn        *Conn
	messageType MessageType
	reads       *calls
	writes      *calls

	// The Read whose turn it is owns these.
	message Message // being read, zero if none is
	unread  []byte  // of its Data
	failed  error   // returned by every further Read

	cut []byte // the beginning of a character, which the next Write completes; the Write whose turn it is owns it
}

// Read reads what has come, up to the end of a message, or waits for some.
func (s *byteStream) Read(b []byte) (n int, err error) {
	err = s.reads.do(func(ctx context.Context) error {
		n, err = s.read(ctx, b)
		return err
	})
	return n, s.opError("read", err)
}

// read is Read for the one whose turn it is.
func (s *byteStream) read(ctx context.Context, b []byte) (int, error) {
	for len(b) > 0 && s.failed == nil {
		switch stream := s.message.stream; {
		case len(s.unread) > 0:
			n := copy(b, s.unread)
			if s.unread = s.unread[n:]; len(s.unread) == 0 {
				s.message.Release()
				s.message = Message{}
			}
			return n, nil
		case stream != nil:
			n, err := stream.Read(b, ctx.Done())
			switch err {
			case nil:
				return n, nil
			case parts.ErrEnd:
				s.message = Message{}
			case parts.ErrStopped:
				return 0, ctx.Err()
			default:
				s.failed = bodyError(err)
			}
		default:
			if err := s.receive(ctx); err != nil {
				return 0, err
			}
		}
	}
	return 0, s.failed
}

// receive takes the next message. What ends the stream goes into failed.
func (s *byteStream) receive(ctx context.Context) error {
	m, err := s.conn.Receive(ctx)
	var closed *CloseError
	switch {
	case err == nil && m.Type == s.messageType:
		s.message, s.unread = m, m.Data // if there is none, Read looks for the next message
	case err == nil:
		m.Release()
		reason := fmt.Sprintf("expected %v messages, got %v", s.messageType, m.Type)
		_ = s.conn.StartClose(StatusUnsupportedData, reason)
		s.failed = errors.New("wsd: " + reason)
	case err == ErrInbox:
		s.failed = err
	case !errors.Is(err, ErrClosed):
		return ctx.Err()
	case errors.As(err, &closed) && (closed.Code == StatusNormalClosure || closed.Code == StatusGoingAway):
		s.failed = io.EOF
	default:
		s.failed = err
	}
	return nil
}

// Write sends b. If a deadline or the end comes first, n says how much of it was sent.
func (s *byteStream) Write(b []byte) (n int, err error) {
	err = s.writes.do(func(ctx context.Context) error {
		n, err = s.write(ctx, b)
		return err
	})
	return n, s.opError("write", err)
}

// write is Write for the one whose turn it is.
func (s *byteStream) write(ctx context.Context, b []byte) (n int, err error) {
	for n < len(b) {
		piece := b[n:min(len(b), n+netPiece)]
		taken := len(piece)
		var cut []byte
		if s.messageType == TextMessage {
			whole := wholeCharacters(piece)
			if n+taken < len(b) {
				taken = whole // the rest goes with the next piece
			}
			piece, cut = piece[:whole], piece[whole:taken]
			if len(s.cut) > 0 {
				joined := append(append([]byte(nil), s.cut...), b[n:n+taken]...)
				whole = wholeCharacters(joined)
				piece, cut = joined[:whole], joined[whole:]
			}
		}
		if len(piece) > 0 {
			if err := s.conn.Send(ctx, Message{Type: s.messageType, Data: piece}); err != nil {
				if ctx.Err() != nil && !errors.Is(err, ErrClosed) {
					err = ctx.Err()
				}
				return n, err
			}
		}
		s.cut = append(s.cut[:0], cut...)
		n += taken
	}
	return n, nil
}

// wholeCharacters returns how many bytes of text come before a character that it ends inside of.
func wholeCharacters(text []byte) int {
	for i := len(text) - 1; i >= max(0, len(text)-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}

// Close begins the closing handshake, and ends the calls that wait.
func (s *byteStream) Close() error {
	s.reads.close()
	s.writes.close()
	_ = s.conn.StartClose(StatusNormalClosure, "")
	return nil
}

// opError returns the error of a call as those of package net are.
func (s *byteStream) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "websocket", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

func (s *byteStream) LocalAddr() net.Addr  { return knownAddr(s.conn.LocalAddr()) }
func (s *byteStream) RemoteAddr() net.Addr { return knownAddr(s.conn.RemoteAddr()) }

func (s *byteStream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

func (s *byteStream) SetReadDeadline(t time.Time) error  { return s.opError("set", s.reads.endAt(t)) }
func (s *byteStream) SetWriteDeadline(t time.Time) error { return s.opError("set", s.writes.endAt(t)) }

// noAddr is the address of a transport that has none: programs call the methods of addresses unasked.
type noAddr struct{}

func (noAddr) Network() string { return "websocket" }
func (noAddr) String() string  { return "websocket" }

func knownAddr(addr net.Addr) net.Addr {
	if addr == nil {
		return noAddr{}
	}
	return addr
}

// calls are those to Read, or to Write, of one stream: one at a time has its turn, and all end at a deadline or at Close.
type calls struct {
	turn chan struct{} // has room for the one whose turn it is

	mu        sync.Mutex // guards all below
	closed    bool
	until     *callContext
	timer     *time.Timer // ends until, nil if there is no deadline
	deadlines int         // how many have been set
}

// callContext is the context of calls that may wait. It is over at their deadline, or at the end.
type callContext struct {
	done chan struct{} // closed once err is set
	err  error
}

func (c *callContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c *callContext) Done() <-chan struct{}       { return c.done }
func (c *callContext) Value(any) any               { return nil }
func (c *callContext) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// end ends the context, once.
func (c *callContext) end(err error) {
	if c.Err() == nil {
		c.err = err
		close(c.done)
	}
}

func newCalls() *calls {
	return &calls{turn: make(chan struct{}, 1), until: &callContext{done: make(chan struct{})}}
}

// do waits for the turn and calls f with the context that holds for the call.
func (c *calls) do(f func(context.Context) error) error {
	ctx := c.context()
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := f(ctx)
	if err != nil && ctx.Err() == net.ErrClosed {
		return net.ErrClosed
	}
	return err
}

func (c *calls) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until
}

// endAt sets the deadline; the zero time means none.
func (c *calls) endAt(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.deadlines++
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.until.Err() != nil {
		c.until = &callContext{done: make(chan struct{})}
	}
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		c.until.end(os.ErrDeadlineExceeded)
	default:
		number := c.deadlines
		c.timer = time.AfterFunc(wait, func() { c.expire(number) })
	}
	return nil
}

// expire ends the calls at a deadline, unless that is not the last one that was set.
func (c *calls) expire(number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadlines == number {
		c.until.end(os.ErrDeadlineExceeded)
	}
}

func (c *calls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.until.Err() != nil {
		c.until = &callContext{done: make(chan struct{})}
	}
	c.until.end(net.ErrClosed)
}
