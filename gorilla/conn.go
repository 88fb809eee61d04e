//go:build !js

// conn.go is a connection as its users see it: what it is over, and its end.

package websocket

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/pulled"
)

// The types of messages (RFC 6455, section 11.8).
const (
	TextMessage   = 1  // UTF-8
	BinaryMessage = 2  // any bytes
	CloseMessage  = 8  // its payload is empty or a code and a text, as FormatCloseMessage returns
	PingMessage   = 9  // its payload comes back in a pong
	PongMessage   = 10 // the answer to a ping
)

// Conn is a WebSocket connection, a server's or a client's.
type Conn struct {
	conn    *wsd.Conn
	pulled  pulled.Conn
	netConn net.Conn

	gathers int // how many bytes of a message of NextWriter are gathered before fragments are sent

	// The reading caller's own.
	readLimit    int64 // 0 for none
	readErr      error // ends the reading for good
	failedReads  int   // since then
	message      *messageReader
	closeHandler func(code int, text string) error // nil for the default, as are the other two
	pingHandler  func(appData string) error
	pongHandler  func(appData string) error

	closed    atomic.Bool
	closeSent atomic.Bool
	failed    atomic.Pointer[error] // ends the writing for good
	plain     atomic.Bool           // messages are not to be compressed
	stored    atomic.Bool           // neither, since the level is that of storing them

	mu              sync.Mutex // guards all below
	writeDeadline   time.Time
	controlDeadline time.Time // of the last WriteControl
	bounded         bool      // netConn has a write deadline
	open            *messageWriter
}

// setOptions sets what wsd would otherwise take care of on its own.
func setOptions(cfg *wsd.Config, compress bool) {
	*cfg = wsd.Config{
		MaxMessageSize: -1, MaxFragments: -1, MessageBuffer: -1,
		PingInterval: -1, PongTimeout: -1, WriteTimeout: -1, CloseTimeout: -1,
	}
	if compress {
		cfg.Compression = &wsd.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true}
	}
	pulled.Ask(cfg)
}

// newConn makes a connection whose messages of NextWriter are one frame if they are at most of writeBufferSize bytes.
func newConn(conn *wsd.Conn, writeBufferSize int) *Conn {
	c := &Conn{conn: conn, pulled: pulled.Of(conn), gathers: max(gathered, writeBufferSize)}
	c.netConn = c.pulled.NetConn()
	if c.pulled.Waits() {
		c.pulled.OnWrite(c.bound)
	}
	return c
}

// Subprotocol returns the subprotocol agreed on, or "" if there is none.
func (c *Conn) Subprotocol() string { return c.conn.Subprotocol() }

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// NetConn returns the network connection below c. Reading from it or writing to it would corrupt the WebSocket.
func (c *Conn) NetConn() net.Conn { return c.netConn }

// UnderlyingConn is NetConn by its older name.
//
// Deprecated: use NetConn.
func (c *Conn) UnderlyingConn() net.Conn { return c.netConn }

// Close closes the network connection without a close message, and does not wait for the peer. What has been written still
// reaches the peer, unless that does not read for five seconds.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.netError("close", net.ErrClosed)
	}
	c.pulled.End()
	return nil
}
