// conn.go is a connection as callers see it, and how it begins.

package wsd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed62836080/wsd/internal/netio"
)

// Conn is a WebSocket connection (RFC 6455), a server's or a client's. All its methods are safe for concurrent use.
//
// A connection reads ahead into Messages on its own, answers pings and the closing handshake, and ends when either side
// closes it, the peer breaks the protocol, the transport fails, or the keepalive finds the peer gone. At the end, in this
// order, the cause is stored, Messages is closed, Errors is closed and Closed is closed.
type Conn struct {
	// Each duty has its room, named after its file. What a small message touches on its way out comes first.
	deflater   *deflater // compression.go; nil if nothing is compressed
	settings   *settings // config.go
	queue      sendQueue // sendqueue.go
	transport  netio.Transport
	writeWatch *writeWatch // writer.go; nil before the first write that waits
	reader     reader      // reader.go
	parking    parking     // reader.go
	pings      pings       // ping.go
	keepalive  keepalive   // ping.go
	ending     ending      // closing.go

	messages chan Message // closed by the reader alone, in end; with an Inbox nil until asked for, and on a connection that is pulled
	box      *box         // what waits for the Inbox, whose lock guards it; nil if nothing does
	group    errgroup.Group
	agreed   *agreement          // nil if the handshake agreed on nothing that callers can ask for
	value    atomic.Pointer[any] // nil before SetValue
}

// agreement is what the opening handshake settled.
type agreement struct {
	subprotocol string
	extensions  string
	compression *Compression // nil: none

	response      *http.Response // a client's
	local, remote net.Addr       // a client's, if its transport does not know them
	early         []byte         // what came after the handshake, until a puller takes it
}

// NewConn returns a connection over a transport on which the opening handshake is already done or not needed. It owns rwc
// from then on. rwc.Close must not wait for the peer, and must unblock a Read and a Write that are waiting, as a
// net.Conn's does. Deadlines and CloseWrite are used if rwc has them, and so is NetConn, through which a TLS connection
// gives access to the connection below it, so that it can be closed without waiting. A Compression in cfg is taken as
// negotiated exactly as given.
func NewConn(rwc io.ReadWriteCloser, role Role, cfg Config) *Conn {
	c := newConn(rwc, role, &cfg, &agreement{compression: cfg.Compression})
	c.start(nil, OpenedInfo{})
	return c
}

// newConn returns a connection with the settings that the handshake agreed on. Nothing runs until it is started.
func newConn(rwc io.ReadWriteCloser, role Role, cfg *Config, agreed *agreement) *Conn {
	c := newPlainConn(rwc, role, cfg, agreed)
	if agreed.compression != nil {
		if c.reader.parser == nil {
			c.reader.parser = newParser(role, cfg)
		}
		c.reader.parser.decompress(role, agreed.compression)
		c.deflater = newDeflater(role, agreed.compression)
	}
	return c
}

// newPlainConn is newConn without what compresses: a program that needs none is not linked with it.
func newPlainConn(rwc io.ReadWriteCloser, role Role, cfg *Config, agreed *agreement) *Conn {
	shared := settle(role, cfg)
	c := &Conn{settings: shared}
	if shared.inbox == nil && !shared.pulled {
		c.messages = make(chan Message, shared.messageBuffer)
	}
	if agreed.subprotocol != "" || agreed.extensions != "" || agreed.response != nil {
		kept := *agreed // or each agreement would be allocated
		c.agreed = &kept
	}
	c.transport.Init(rwc)
	if cfg.StreamAbove > 0 {
		c.reader.parser = newParser(role, cfg)
	}
	c.reader.conn = c
	if pace := newPace(cfg.ReceiveRate); pace != nil {
		c.reader.bounds = &bounds{pace: pace}
	}
	c.reader.bodies = newBodies(cfg)
	c.queue.init(shared, c.transport.CanTryWrite() || shared.pulled)
	if c.overBrowser() {
		c.queue.leaveFrames() // the browser masks
	}
	c.ending.conn = c
	c.queue.writtenBy(func() { c.group.Go(c.writeLoop) })
	return c
}

// start begins a connection's life. buffered is what came after the handshake, of which opened tells. The reader and the
// writer are goroutines of one group, which carries the cause of the end: the reader returns it. Either ends while there is
// nothing for it to do, and is started again when there is: reader.go and sendqueue.go tell when.
func (c *Conn) start(buffered []byte, opened OpenedInfo) {
	if c.settings.pulled {
		c.startPulled(buffered)
		return
	}
	if c.settings.inbox != nil {
		c.settings.inbox.join()
	}
	c.settings.trace.opened(c, opened)
	c.startKeepalive()
	if !c.reader.beginParked(len(buffered) > 0) {
		c.group.Go(func() error { return c.reader.readLoop(buffered) })
	}
}

// startPulled begins the life of a connection that is pulled (pull.go). buffered is what came after the handshake.
func (c *Conn) startPulled(buffered []byte) {
	if len(buffered) == 0 {
		return
	}
	if c.agreed == nil {
		c.agreed = new(agreement)
	}
	c.agreed.early = buffered
}

// Messages returns the channel on which received messages are delivered, whole and in order. It is closed after the last
// of them, once the end has begun: Receive and, once Closed is closed, CloseEvent tell why. Messages still waiting in it
// can then be received. While it is full, Config.SlowConsumer determines what happens. With an Inbox it never delivers
// anything.
func (c *Conn) Messages() <-chan Message {
	if c.settings.inbox != nil {
		return c.emptyMessages()
	}
	return c.messages
}

// Errors returns a channel of what goes wrong: ErrSlowConsumer, once, if messages are dropped, and as its last value the
// cause of an end that is not clean. It need not be read. It is closed at the end, without a value if the end is clean
// and nothing went wrong.
func (c *Conn) Errors() <-chan error { return c.ending.errorChannel() }

// Closed returns a channel that is closed when the connection has ended and everything it held is released. It is the
// last to be closed: from then on Messages can be drained without waiting, and CloseEvent is complete.
func (c *Conn) Closed() <-chan struct{} { return c.ending.closedChannel() }

// Context returns a context that is canceled when the connection ends. Its context.Cause is the cause of the end. It has
// no values, not even those of a server's request: what they refer to may end with the request's handler.
func (c *Conn) Context() context.Context { return c.ending.context() }

// CloseEvent reports how the connection ended. It is complete once Closed is closed. Before that, even if Messages is
// closed, it holds only the cause as far as it is known, and Clean is false; on an open connection it is zero.
func (c *Conn) CloseEvent() CloseEvent { return c.ending.closeEvent() }

// SetValue keeps v with the connection, instead of what was kept before: what the program knows of it, such as its user. The
// library does not look at it. A Trace's Opened is the place to set it before anything else sees the connection.
func (c *Conn) SetValue(v any) { c.value.Store(&v) }

// Value returns what SetValue was given last, nil before the first.
func (c *Conn) Value() any {
	if v := c.value.Load(); v != nil {
		return *v
	}
	return nil
}

// State returns the state of the connection. It does not block.
func (c *Conn) State() State {
	state := c.ending.state()
	if state == StateOpen && c.queue.failure() != nil {
		return StateClosing // the ending is just being told of the write that failed
	}
	return state
}

// Version returns the version of the protocol, "hybi-13", the drafts' name for what became RFC 6455.
func (c *Conn) Version() string { return "hybi-13" }

// Subprotocol returns the subprotocol agreed on, or "" if there is none (RFC 6455, section 1.9).
func (c *Conn) Subprotocol() string {
	if c.agreed == nil {
		return ""
	}
	return c.agreed.subprotocol
}

// Extensions returns the extensions agreed on, as listed in the server's Sec-WebSocket-Extensions header, or "" if there
// are none (RFC 6455, section 9).
func (c *Conn) Extensions() string {
	if c.agreed == nil {
		return ""
	}
	return c.agreed.extensions
}

// Response returns the server's answer to the handshake, without a body, for a connection of Dial or Redial. For any other
// connection it is nil. It must not be changed.
func (c *Conn) Response() *http.Response {
	if c.agreed == nil {
		return nil
	}
	return c.agreed.response
}

// LocalAddr returns the address of this end, nil if the transport has none. It can be asked for at any time, even after the
// end.
func (c *Conn) LocalAddr() net.Addr {
	if addr := c.transport.LocalAddr(); addr != nil || c.agreed == nil {
		return addr
	}
	return c.agreed.local
}

// RemoteAddr returns the address of the other end, nil if the transport has none. That is whoever the transport is
// connected to: a proxy, if there is one in between.
func (c *Conn) RemoteAddr() net.Addr {
	if addr := c.transport.RemoteAddr(); addr != nil || c.agreed == nil {
		return addr
	}
	return c.agreed.remote
}

// SetMaxMessageSize changes Config.MaxMessageSize, with the same meaning of zero and of negative values. It holds for all
// frames of which nothing has been read yet, also for those of a message of which some have: a limit below what has come
// fails the connection with the next of them. As a connection reads ahead, raise a limit before the peer is told that it
// may send more.
func (c *Conn) SetMaxMessageSize(n int64) { c.reader.maxMessage.Store(messageLimit(n)) }

// Stats holds the counters of a connection. Messages are text and binary messages, and bytes are those of their
// uncompressed payloads.
type Stats struct {
	MessagesReceived uint64 // that arrived, whether waiting in Messages, received, or dropped; streamed ones, once delivered
	BytesReceived    uint64 // of those, as far as they have come
	MessagesDropped  uint64 // those of them that were discarded: no room under DropSlow, or this side was closing
	BodyUnread       bool   // a streamed message has neither been read to its end nor closed: nothing follows it until then
	MessagesSent     uint64 // accepted by Send and SendPrepared, and those of a Writer once complete
	BytesSent        uint64 // of those
	Writes           uint64 // writes to the transport: far fewer than messages if senders coalesce
	PongsCoalesced   uint64 // pings without a pong of their own because the peer did not read (RFC 6455, section 5.5.3)
	// QueuedBytes is how many bytes wait to be written, frame headers and control frames included, and OldestQueued is when
	// the oldest of them was queued, zero if none waits. A queue may be full in every burst; a peer that is slow lets bytes
	// grow old.
	QueuedBytes  int
	OldestQueued time.Time
}

// Stats returns the connection's counts so far. It does not block.
func (c *Conn) Stats() Stats {
	var s Stats
	c.stats(&s)
	return s
}

func (c *Conn) stats(s *Stats) {
	s.MessagesDropped = c.reader.dropped.Load()
	s.MessagesReceived = c.queue.delivered() + s.MessagesDropped
	s.BytesReceived = c.reader.dataRead.Load()
	if body := c.reader.bodies.unread(); body != nil {
		s.BodyUnread = !body.pipe.Finished()
	}
	c.queue.stats(s)
}

// State is the state of a connection, like readyState in browsers.
type State uint8

// The states, in the order in which a connection passes through them.
const (
	StateConnecting State = iota // the opening handshake is not done; no *Conn is handed out in this state
	StateOpen                    // messages travel both ways
	StateClosing                 // the closing handshake has begun, or the connection is being torn down
	StateClosed                  // the connection has ended: Closed is closed
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case StateConnecting:
		return "connecting"
	case StateOpen:
		return "open"
	case StateClosing:
		return "closing"
	case StateClosed:
		return "closed"
	}
	return "state " + strconv.Itoa(int(s))
}

// CloseEvent describes how a connection ended, like CloseEvent in browsers.
type CloseEvent struct {
	// Code is the status code of the peer's close frame, or StatusNoStatus if that had none. If this side sent its close
	// frame first, the peer's is the answer to it, which most peers give with the same code and without a reason. If no
	// close frame was the cause, Code is the code with which this side failed the connection, such as
	// StatusProtocolError, or StatusAbnormalClosure if there was no such code either (RFC 6455, section 7.1.5).
	Code StatusCode
	// Reason is the text that came with Code, UTF-8, at most 123 bytes, often empty.
	Reason string
	// Local reports whether this side began the end: by Close, CloseNow, a violation that it found or a time that ran out.
	// Otherwise the peer's close frame or the transport's end came first.
	Local bool
	// SentCode and SentReason are what this side's close frame carried, StatusNoStatus if that had no code; 0 if none was
	// sent.
	SentCode   StatusCode
	SentReason string
	// Clean reports whether both sides' close frames were exchanged (RFC 6455, section 7.1.4), before this side gave up.
	Clean bool
	// Err is the cause of the end: what went wrong, if anything did, or else a *CloseError for the closing handshake,
	// whichever side began it. It is never nil once the connection has ended. encoding/json does not ask an error for
	// its text: log the event with log/slog, which does, or Err.Error().
	Err error
}

// LogValue returns the event for log/slog: code, reason, local, clean, the code and reason that this side sent, if it did,
// and the text of the cause.
func (e CloseEvent) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 7)
	attrs = append(attrs, slog.Int("code", int(e.Code)), slog.String("reason", e.Reason), slog.Bool("local", e.Local),
		slog.Bool("clean", e.Clean))
	if e.SentCode != 0 {
		attrs = append(attrs, slog.Int("sent_code", int(e.SentCode)), slog.String("sent_reason", e.SentReason))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("cause", e.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}
