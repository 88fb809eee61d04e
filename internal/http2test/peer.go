// Package http2test plays a client of HTTP/2 whose frames are made by other code than that which is tested: it says what a
// test wants, right or wrong, and shows what comes.
package http2test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Types of frames (RFC 9113, section 6).
const (
	Data         = 0x0
	Headers      = 0x1
	RSTStream    = 0x3
	Settings     = 0x4
	Ping         = 0x6
	GoAway       = 0x7
	WindowUpdate = 0x8
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4

	settingHeaderTableSize = 0x1
	settingInitialWindow   = 0x4
	settingExtendedConnect = 0x8 // RFC 8441, section 3

	largestWindow = 1<<31 - 1
	initialWindow = 1<<16 - 1
	maxFrame      = 16 << 10
)

// Field is a header field, or a pseudo-header field.
type Field struct{ Name, Value string }

// Client is one connection. Its streams may be used at the same time.
type Client struct {
	conn     net.Conn
	finished chan struct{} // closed by the reader when it ends

	mu              sync.Mutex
	changed         *sync.Cond
	streams         map[uint32]*Stream
	next            uint32
	window          int64 // of the connection, for sending
	streamWindow    int64 // of a new stream
	extendedConnect bool
	settled         bool // the server's settings have come
	failed          error
	goneAway        bool

	writing sync.Mutex
}

// NewClient begins a connection over conn, and waits for the server's settings. It permits the server to send without
// limits.
func NewClient(conn net.Conn) (*Client, error) {
	c := &Client{
		conn: conn, finished: make(chan struct{}), streams: make(map[uint32]*Stream), next: 1,
		window: initialWindow, streamWindow: initialWindow,
	}
	c.changed = sync.NewCond(&c.mu)
	begin := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	settings := binary.BigEndian.AppendUint32([]byte{0, settingHeaderTableSize}, 0)
	settings = binary.BigEndian.AppendUint32(append(settings, 0, settingInitialWindow), largestWindow)
	begin = appendFrame(begin, Settings, 0, 0, settings)
	begin = appendFrame(begin, WindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, largestWindow-initialWindow))
	if _, err := conn.Write(begin); err != nil {
		return nil, err
	}
	go c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.settled && c.failed == nil {
		c.changed.Wait()
	}
	return c, c.failed
}

// ExtendedConnect reports whether the server has announced it.
func (c *Client) ExtendedConnect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.extendedConnect
}

// GoneAway reports whether the server has sent GOAWAY.
func (c *Client) GoneAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goneAway
}

// Close closes the connection and waits for its reader.
func (c *Client) Close() {
	_ = c.conn.Close()
	<-c.finished
}

// WebSocket returns the fields of a right handshake.
func WebSocket(authority, path string, more ...Field) []Field {
	return append([]Field{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", path}, {":authority", authority},
		{"sec-websocket-version", "13"},
	}, more...)
}

// Open sends a header, and returns its stream without waiting for an answer.
func (c *Client) Open(fields []Field, endStream bool) (*Stream, error) {
	var block []byte
	for _, f := range fields {
		block = appendString(appendString(append(block, 0), f.Name), f.Value) // a literal that is not indexed
	}
	flags := byte(flagEndHeaders)
	if endStream {
		flags |= flagEndStream
	}
	c.writing.Lock() // so that streams begin in the order of their numbers
	defer c.writing.Unlock()
	c.mu.Lock()
	s := &Stream{client: c, id: c.next, window: c.streamWindow}
	c.next += 2
	c.streams[s.id] = s
	c.mu.Unlock()
	_, err := c.conn.Write(appendFrame(nil, Headers, flags, s.id, block))
	return s, err
}

// Frame sends a frame.
func (c *Client) Frame(kind, flags byte, stream uint32, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.conn.Write(appendFrame(nil, kind, flags, stream, payload))
	return err
}

func appendFrame(dst []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(dst, stream), payload...)
}

// appendString appends a string of HPACK without Huffman coding (RFC 7541, section 5.2).
func appendString(dst []byte, s string) []byte {
	const prefix = 1<<7 - 1
	if len(s) < prefix {
		return append(append(dst, byte(len(s))), s...)
	}
	n := len(s) - prefix
	for dst = append(dst, prefix); n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(append(dst, byte(n)), s...)
}

// read handles what the server sends until the connection ends.
func (c *Client) read() {
	defer close(c.finished)
	var head [9]byte
	for {
		_, err := io.ReadFull(c.conn, head[:])
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if err == nil {
			_, err = io.ReadFull(c.conn, payload)
		}
		if err != nil {
			c.end(err)
			return
		}
		c.frame(head[3], head[4], binary.BigEndian.Uint32(head[5:])&largestWindow, payload)
	}
}

func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = fmt.Errorf("the connection of HTTP/2 ended: %w", err)
	c.changed.Broadcast()
}

// frame handles one frame.
func (c *Client) frame(kind, flags byte, stream uint32, payload []byte) {
	if (kind == Settings || kind == Ping) && flags&flagAck == 0 {
		defer func() {
			if kind == Settings {
				payload = nil
			}
			_ = c.Frame(kind, flagAck, 0, payload)
		}()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	s := c.streams[stream]
	switch {
	case kind == Settings && flags&flagAck == 0:
		c.settled = true
		for ; len(payload) >= 6; payload = payload[6:] {
			c.setting(binary.BigEndian.Uint16(payload), binary.BigEndian.Uint32(payload[2:]))
		}
	case kind == GoAway:
		c.goneAway = true
	case kind == WindowUpdate && stream == 0:
		c.window += int64(binary.BigEndian.Uint32(payload))
	case s == nil:
	case kind == WindowUpdate:
		s.window += int64(binary.BigEndian.Uint32(payload))
	case kind == Headers:
		s.header = payload
	case kind == Data:
		s.data = append(s.data, payload...)
	case kind == RSTStream:
		s.reset, s.code = true, binary.BigEndian.Uint32(payload)
	}
	if s != nil && (kind == Data || kind == Headers) && flags&flagEndStream != 0 {
		s.ended = true
	}
}

// setting takes one setting of the server.
func (c *Client) setting(name uint16, value uint32) {
	switch name {
	case settingInitialWindow:
		for _, s := range c.streams {
			s.window += int64(value) - c.streamWindow
		}
		c.streamWindow = int64(value)
	case settingExtendedConnect:
		c.extendedConnect = value == 1
	}
}

// ErrReset is what reading and writing return behind RST_STREAM.
var ErrReset = errors.New("RST_STREAM")
