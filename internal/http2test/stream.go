// stream.go is one stream of a client: its answer, and its bytes both ways.

package http2test

import (
	"encoding/binary"
	"io"
)

// Stream is a stream of a Client, and the transport of a WebSocket.
type Stream struct {
	client *Client
	id     uint32

	// All of these are guarded by the client's lock.
	header []byte // of the answer, nil if none has come
	data   []byte // has come and was not read
	window int64  // for sending
	ended  bool   // by END_STREAM
	reset  bool   // by RST_STREAM
	code   uint32 // of the reset
	closed bool   // by this side
}

// Status waits for the answer and returns its status, 0 if the stream ends without one.
func (s *Stream) Status() int {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.header == nil && !s.reset && c.failed == nil {
		c.changed.Wait()
	}
	return status(s.header)
}

// End waits for the end of what the server sends, and tells how it came: by END_STREAM, or else the code of RST_STREAM.
func (s *Stream) End() (clean bool, code uint32) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for !s.ended && !s.reset && c.failed == nil {
		c.changed.Wait()
	}
	return s.ended, s.code
}

// Read reads what the server has sent.
func (s *Stream) Read(b []byte) (int, error) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(s.data) == 0 {
		switch {
		case s.ended:
			return 0, io.EOF
		case s.reset || s.closed:
			return 0, ErrReset
		case c.failed != nil:
			return 0, c.failed
		}
		c.changed.Wait()
	}
	n := copy(b, s.data)
	s.data = s.data[n:]
	return n, nil
}

// Write sends b as the windows permit.
func (s *Stream) Write(b []byte) (n int, err error) {
	for n < len(b) {
		room, err := s.reserve(len(b) - n)
		if err != nil {
			return n, err
		}
		if err := s.client.Frame(Data, 0, s.id, b[n:n+room]); err != nil {
			return n, err
		}
		n += room
	}
	return n, nil
}

// reserve waits until some of n bytes may be sent.
func (s *Stream) reserve(n int) (int, error) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch room := min(int64(n), s.window, c.window, maxFrame); {
		case c.failed != nil:
			return 0, c.failed
		case s.reset || s.closed:
			return 0, ErrReset
		case room > 0:
			s.window -= room
			c.window -= room
			return int(room), nil
		}
		c.changed.Wait()
	}
}

// CloseWrite sends END_STREAM.
func (s *Stream) CloseWrite() error { return s.client.Frame(Data, flagEndStream, s.id, nil) }

// Reset sends RST_STREAM.
func (s *Stream) Reset(code uint32) error {
	return s.client.Frame(RSTStream, 0, s.id, binary.BigEndian.AppendUint32(nil, code))
}

// Close ends what this side sends, and reading.
func (s *Stream) Close() error {
	s.client.mu.Lock()
	closed := s.closed
	s.closed = true
	s.client.changed.Broadcast()
	s.client.mu.Unlock()
	if closed {
		return nil
	}
	return s.CloseWrite()
}

// status reads the first field of an answer's header, which is :status (RFC 9113, section 8.3.2), as net/http encodes it
// for a client that permits no dynamic table: from the static table or as digits in Huffman's code (RFC 7541).
func status(block []byte) int {
	for len(block) > 0 && block[0]>>5 == 1 { // the new size of the dynamic table
		block = block[1:]
	}
	if len(block) == 0 {
		return 0
	}
	if static := block[0] & 0x7F; block[0]&0x80 != 0 {
		if static < 8 || static > 14 {
			return 0
		}
		return [...]int{200, 204, 206, 304, 400, 404, 500}[static-8]
	}
	if len(block) < 2 || len(block) < 2+int(block[1]&0x7F) {
		return 0
	}
	digits, n := block[2:2+int(block[1]&0x7F)], 0
	if block[1]&0x80 == 0 {
		for _, d := range digits {
			n = n*10 + int(d-'0')
		}
		return n
	}
	var bits uint64
	for _, d := range digits {
		bits = bits<<8 | uint64(d)
	}
	left := 8 * len(digits)
	take := func(count int) uint64 {
		left -= count
		return bits >> left & (1<<count - 1)
	}
	for range 3 {
		digit := take(5)
		if digit > 2 {
			digit = digit<<1 | take(1) // 3 is 011001, and so on
			digit -= 0b011001 - 3
		}
		n = n*10 + int(digit)
	}
	return n
}
