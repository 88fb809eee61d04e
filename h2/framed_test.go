// framed_test.go is a server of extended CONNECT that can do what net/http's cannot: end what it sends on a stream, and read
// on. The conformance suite judges clients over it.

package h2_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/seed62836080/wsd/conformance/suite"
)

// roomy is a window that nobody fills.
const roomy = 1 << 30

// framed is a server's end of one TCP connection.
type framed struct {
	peer
	writing sync.Mutex // guards the writing methods of peer
	serving sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	streams map[uint32]*framedStream
	window  int64 // for sending
	initial int64 // window of a new stream
	failed  error
}

// serveFramed hands the requests that come on a connection to the suite, until it ends.
func serveFramed(conn net.Conn, requests *suite.Requests) {
	c := &framed{
		peer: peer{Framer: http2.NewFramer(conn, conn), Conn: conn}, streams: make(map[uint32]*framedStream),
		window: 1<<16 - 1, initial: 1<<16 - 1,
	}
	c.changed = sync.NewCond(&c.mu)
	c.encoder = hpack.NewEncoder(&c.block)
	c.ReadMetaHeaders = hpack.NewDecoder(4<<10, nil)
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	err := c.WriteSettings(extendedConnect, http2.Setting{ID: http2.SettingInitialWindowSize, Val: roomy})
	if err == nil {
		err = c.WriteWindowUpdate(0, roomy)
	}
	for err == nil {
		var frame http2.Frame
		if frame, err = c.ReadFrame(); err == nil {
			err = c.take(frame, requests)
		}
	}
	c.mu.Lock()
	c.failed = err
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = conn.Close()
	c.serving.Wait()
}

// write writes frames, in turn.
func (c *framed) write(frames func() error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return frames()
}

// take handles a frame of the client.
func (c *framed) take(frame http2.Frame, requests *suite.Requests) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		c.setWindow(f)
		return c.write(c.WriteSettingsAck)
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return c.write(func() error { return c.WritePing(true, f.Data) })
	case *http2.MetaHeadersFrame:
		c.begin(f, requests)
		return nil
	case *http2.DataFrame:
		if n := f.Length; n > 0 {
			if err := c.write(func() error {
				_ = c.WriteWindowUpdate(0, n)
				return c.WriteWindowUpdate(f.StreamID, n)
			}); err != nil {
				return err
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	s := c.streams[frame.Header().StreamID]
	switch f := frame.(type) {
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		} else if s != nil {
			s.window += int64(f.Increment)
		}
	case *http2.DataFrame:
		if s != nil {
			s.data = append(s.data, f.Data()...)
			s.ended = f.StreamEnded()
		}
	case *http2.RSTStreamFrame:
		if s != nil {
			s.reset = http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode}
		}
	}
	return nil
}

func (c *framed) setWindow(f *http2.SettingsFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to, ok := f.Value(http2.SettingInitialWindowSize); ok {
		for _, s := range c.streams {
			s.window += int64(to) - c.initial
		}
		c.initial = int64(to)
		c.changed.Broadcast()
	}
}

// begin has a request served.
func (c *framed) begin(f *http2.MetaHeadersFrame, requests *suite.Requests) {
	header := make(http.Header)
	for _, field := range f.RegularFields() {
		header.Add(field.Name, field.Value)
	}
	r, err := http.NewRequest(http.MethodConnect, "https://"+f.PseudoValue("authority")+f.PseudoValue("path"), nil)
	if err != nil || f.PseudoValue("protocol") != "websocket" {
		_ = c.write(func() error { return c.WriteRSTStream(f.StreamID, http2.ErrCodeProtocol) })
		return
	}
	r.Header = header
	c.mu.Lock()
	s := &framedStream{c: c, id: f.StreamID, window: c.initial}
	c.streams[s.id] = s
	c.mu.Unlock()
	c.serving.Go(func() { requests.Serve(r, s.answer) })
}

// framedStream is one stream, whose fields are guarded by the connection's lock.
type framedStream struct {
	c      *framed
	id     uint32
	data   []byte // has come and was not read
	window int64  // for sending
	ended  bool   // by END_STREAM of the client
	reset  error  // by RST_STREAM of the client
	closed bool   // by this side, in both directions
	ending bool   // END_STREAM was sent

	until    time.Time // of reads
	expired  bool
	deadline *time.Timer
}

// answer sends the suite's answer.
func (s *framedStream) answer(status int, header http.Header) (io.ReadWriteCloser, error) {
	fields := []string{":status", strconv.Itoa(status)}
	for name, values := range header {
		for _, value := range values {
			fields = append(fields, strings.ToLower(name), value)
		}
	}
	err := s.c.write(func() error {
		return s.c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: s.id, BlockFragment: s.c.header(fields...), EndHeaders: true, EndStream: status != http.StatusOK,
		})
	})
	if err != nil || status != http.StatusOK {
		return nil, err
	}
	return s, nil
}

func (s *framedStream) Read(b []byte) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case len(s.data) > 0:
			n := copy(b, s.data)
			s.data = s.data[n:]
			return n, nil
		case s.ended:
			return 0, io.EOF
		case s.reset != nil:
			return 0, s.reset
		case s.c.failed != nil:
			return 0, s.c.failed
		case s.expired:
			return 0, os.ErrDeadlineExceeded
		}
		s.c.changed.Wait()
	}
}

func (s *framedStream) Write(b []byte) (n int, err error) {
	for n < len(b) {
		room, err := s.room(len(b) - n)
		if err == nil {
			err = s.c.write(func() error { return s.c.WriteData(s.id, false, b[n:n+room]) })
		}
		if err != nil {
			return n, err
		}
		n += room
	}
	return n, nil
}

// room waits until some of n bytes may be sent.
func (s *framedStream) room(n int) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for {
		switch room := min(int64(n), s.window, s.c.window, 16<<10); {
		case s.closed || s.ending:
			return 0, net.ErrClosed
		case s.reset != nil:
			return 0, s.reset
		case s.c.failed != nil:
			return 0, s.c.failed
		case room > 0:
			s.window -= room
			s.c.window -= room
			return int(room), nil
		}
		s.c.changed.Wait()
	}
}

// CloseWrite sends END_STREAM, unless the stream is over.
func (s *framedStream) CloseWrite() error {
	s.c.mu.Lock()
	done := s.ending || s.reset != nil
	s.ending = true
	s.c.mu.Unlock()
	if done {
		return nil
	}
	return s.c.write(func() error { return s.c.WriteData(s.id, true, nil) })
}

// Close ends what is sent, and has a client that has not ended its bytes stop (RFC 9113, section 8.1).
func (s *framedStream) Close() error {
	err := s.CloseWrite()
	s.c.mu.Lock()
	stop := !s.closed && !s.ended && s.reset == nil
	s.closed = true
	delete(s.c.streams, s.id)
	if s.deadline != nil {
		s.deadline.Stop()
	}
	s.c.changed.Broadcast()
	s.c.mu.Unlock()
	if stop {
		err = s.c.write(func() error { return s.c.WriteRSTStream(s.id, http2.ErrCodeNo) })
	}
	return err
}

// SetReadDeadline bounds the reads from now on.
func (s *framedStream) SetReadDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.deadline != nil {
		s.deadline.Stop()
	}
	s.expired, s.until = false, t
	s.deadline = time.AfterFunc(time.Until(t), func() { s.expire(t) })
	return nil
}

// expire ends the reads whose deadline was t.
func (s *framedStream) expire(t time.Time) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.until.Equal(t) {
		s.expired = true
		s.c.changed.Broadcast()
	}
}
