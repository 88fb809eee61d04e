// stream.go is one stream: its answer, and its bytes both ways, as the transport of a WebSocket.

package h2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// stream is a stream of a connection. Its fields are guarded by the connection's lock.
type stream struct {
	conn    *conn
	id      uint32
	changed *sync.Cond // over the connection's lock

	answer   *http2.MetaHeadersFrame // nil until the final one has come
	answered chan struct{}           // closed when answer or err is set
	interim  int

	data       []byte // has come and was not read
	window     int64  // for sending
	room       int64  // for receiving
	unreturned int64  // has been read, and the server was not told of the room
	err        error  // why the stream is over, nil while it is not
	sentEnd    bool   // END_STREAM is queued
	gotEnd     bool   // END_STREAM has come
	expired    bool   // a deadline has passed
	deadline   *time.Timer
	closed     bool
}

// open begins a stream for which room was reserved. header makes the request's HEADERS, and is called once.
func (c *conn) open(header func(id uint32, maxHeader uint32) error) (*stream, error) {
	s := &stream{conn: c, answered: make(chan struct{}), room: streamWindow}
	s.changed = sync.NewCond(&c.mu)
	var began error
	err := c.out.write(func() error { // numbers and headers go in the same order
		c.mu.Lock()
		c.reserved--
		if c.leaving != nil {
			began = retryable{c.leaving}
			c.mu.Unlock()
			return nil
		}
		s.id, s.window = c.nextID, c.peer.streamWindow
		limit := c.peer.maxHeader
		c.nextID += 2
		c.streams[s.id] = s
		c.mu.Unlock()
		if began = header(s.id, limit); errors.Is(began, ErrHeaderTooLarge) {
			c.mu.Lock()
			delete(c.streams, s.id)
			c.nextID -= 2 // nothing was sent
			c.mu.Unlock()
			return nil
		}
		return began
	})
	if err != nil {
		c.fail(err)
		return nil, retryable{err}
	}
	if began != nil {
		c.ended()
		return nil, began
	}
	return s, nil
}

// fail ends the stream, inside the connection's lock.
func (s *stream) fail(err error) {
	if s.err != nil {
		return
	}
	if s.err = err; s.answer == nil {
		close(s.answered)
	}
	s.changed.Broadcast()
}

// onReset takes RST_STREAM. Behind END_STREAM it takes nothing away from what was received: servers send it when they need
// no more of what this side sends (RFC 9113, section 8.1).
func (s *stream) onReset(cause error) {
	if s.gotEnd && s.answer != nil {
		s.sentEnd = true
		s.changed.Broadcast()
		return
	}
	s.fail(cause)
}

// onHeaders takes an answer, or trailers.
func (c *conn) onHeaders(f *http2.MetaHeadersFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[f.StreamID]
	wrong := func(code http2.ErrCode, problem string) error {
		return http2.StreamError{StreamID: f.StreamID, Code: code, Cause: errors.New(problem)}
	}
	switch {
	case s == nil:
		return c.mustBePast(f.StreamID)
	case s.gotEnd:
		return wrong(http2.ErrCodeStreamClosed, "HEADERS behind END_STREAM")
	case f.Truncated:
		s.fail(fmt.Errorf("%w: expected an answer of at most %d bytes", ErrHeaderTooLarge, c.maxHeader))
		return wrong(http2.ErrCodeCancel, "the header is too large")
	case s.answer != nil: // trailers, which mean nothing here
		if !f.StreamEnded() {
			return wrong(http2.ErrCodeProtocol, "a second answer")
		}
		s.gotEnd = true
		s.changed.Broadcast()
		return nil
	}
	status := f.PseudoValue("status")
	if len(status) != 3 || status < "100" || status > "999" || len(f.PseudoFields()) != 1 {
		return wrong(http2.ErrCodeProtocol, "expected one :status of three digits, got "+fmt.Sprintf("%.20q", status))
	}
	if status[0] == '1' {
		if s.interim++; s.interim > maxInterim || f.StreamEnded() || status == "101" {
			return wrong(http2.ErrCodeProtocol, "expected a final answer, got "+status)
		}
		return nil
	}
	kept := *f // the framer makes a new one for each header
	s.answer = &kept
	s.gotEnd = f.StreamEnded()
	close(s.answered)
	s.changed.Broadcast()
	return nil
}

// onData takes bytes, as far as this side has given room for them.
func (c *conn) onData(f *http2.DataFrame) error {
	n := int64(f.Length) // with the padding
	c.mu.Lock()
	defer c.mu.Unlock()
	c.returnRoom(n)
	s := c.streams[f.StreamID]
	wrong := func(code http2.ErrCode, problem string) error {
		return http2.StreamError{StreamID: f.StreamID, Code: code, Cause: errors.New(problem)}
	}
	switch {
	case s == nil:
		return c.mustBePast(f.StreamID)
	case s.gotEnd:
		return wrong(http2.ErrCodeStreamClosed, "DATA behind END_STREAM")
	case s.answer == nil:
		return wrong(http2.ErrCodeProtocol, "DATA ahead of an answer")
	case n > s.room:
		return wrong(http2.ErrCodeFlowControl, "more DATA than there is room for")
	}
	s.room -= n
	s.unreturned += n - int64(len(f.Data()))
	if !s.closed {
		s.data = append(s.data, f.Data()...)
	}
	s.gotEnd = f.StreamEnded()
	s.changed.Broadcast()
	return nil
}

// returnRoom gives back, inside mu, the connection's room for n bytes that have come.
func (c *conn) returnRoom(n int64) {
	if c.unreturned += n; c.unreturned < connWindow/8 {
		return
	}
	increment := uint32(c.unreturned)
	c.unreturned = 0
	c.out.queue(func() error { return c.framer.WriteWindowUpdate(0, increment) })
}

// Read reads what the server has sent.
func (s *stream) Read(b []byte) (int, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	for {
		switch {
		case s.expired:
			return 0, os.ErrDeadlineExceeded
		case s.closed:
			return 0, net.ErrClosed
		case len(s.data) > 0:
			n := copy(b, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				s.data = nil // an idle stream holds nothing
			}
			s.returnRoom(int64(n))
			return n, nil
		case s.gotEnd:
			return 0, io.EOF
		case s.err != nil:
			return 0, s.err
		}
		s.changed.Wait()
	}
}

// returnRoom gives back the stream's room for n bytes, inside the connection's lock.
func (s *stream) returnRoom(n int64) {
	s.unreturned += n
	if s.unreturned < streamWindow/4 || s.gotEnd || s.err != nil {
		return
	}
	increment := uint32(s.unreturned)
	s.room += s.unreturned
	s.unreturned = 0
	s.conn.out.queue(func() error { return s.conn.framer.WriteWindowUpdate(s.id, increment) })
}

// Write sends b as the server's windows permit.
func (s *stream) Write(b []byte) (n int, err error) {
	for n < len(b) {
		room, err := s.takeRoom(len(b) - n)
		if err != nil {
			return n, err
		}
		err = s.conn.out.write(func() error {
			if s.sendable() != nil {
				return nil // found below, by the next piece or by reading
			}
			return s.conn.framer.WriteData(s.id, false, b[n:n+room])
		})
		if err != nil {
			s.conn.fail(err)
			return n, err
		}
		n += room
	}
	return n, nil
}

// takeRoom waits until some of n bytes may be sent.
func (s *stream) takeRoom(n int) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := s.why(); err != nil {
			return 0, err
		}
		if room := min(int64(n), int64(c.peer.maxFrame), s.window, c.window); room > 0 {
			s.window -= room
			c.window -= room
			return int(room), nil
		}
		s.changed.Wait()
	}
}

// why says, inside the connection's lock, why nothing can be sent.
func (s *stream) why() error {
	switch {
	case s.expired:
		return os.ErrDeadlineExceeded
	case s.err != nil:
		return s.err
	case s.closed || s.sentEnd:
		return net.ErrClosed
	}
	return nil
}

func (s *stream) sendable() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.why()
}

// CloseWrite sends END_STREAM.
func (s *stream) CloseWrite() error {
	s.conn.mu.Lock()
	err := s.why()
	s.sentEnd = true
	s.conn.mu.Unlock()
	if err == nil {
		s.conn.out.queue(func() error { return s.conn.framer.WriteData(s.id, true, nil) })
	}
	return err
}

// Close ends the stream: with END_STREAM if the server has ended its bytes and no deadline has passed, and by resetting it
// otherwise.
func (s *stream) Close() error {
	c := s.conn
	c.mu.Lock()
	if s.closed {
		c.mu.Unlock()
		return nil
	}
	s.closed, s.data = true, nil
	_, live := c.streams[s.id]
	end := live && s.gotEnd && !s.expired && !s.sentEnd
	reset := live && (!s.gotEnd || s.expired)
	s.sentEnd = true
	delete(c.streams, s.id)
	if s.deadline != nil {
		s.deadline.Stop()
	}
	s.changed.Broadcast()
	c.mu.Unlock()
	switch {
	case end:
		c.out.queue(func() error { return c.framer.WriteData(s.id, true, nil) })
	case reset:
		c.out.queue(func() error { return c.framer.WriteRSTStream(s.id, http2.ErrCodeCancel) })
	}
	c.ended()
	return nil
}

// SetDeadline ends reads and writes that wait at t; the zero time means never. Behind one in the past, Close is an abort.
func (s *stream) SetDeadline(t time.Time) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.deadline != nil {
		s.deadline.Stop()
		s.deadline = nil
	}
	s.expired = !t.IsZero() && !t.After(time.Now())
	if !t.IsZero() && !s.expired {
		s.deadline = time.AfterFunc(time.Until(t), func() { _ = s.SetDeadline(t) })
	}
	s.changed.Broadcast()
	return nil
}

// LocalAddr returns the address of this end of the TCP connection.
func (s *stream) LocalAddr() net.Addr { return s.conn.raw.LocalAddr() }

// RemoteAddr returns the address of the other end of the TCP connection.
func (s *stream) RemoteAddr() net.Addr { return s.conn.raw.RemoteAddr() }
