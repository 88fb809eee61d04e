// conn.go is one TCP connection: its settings, its streams, and the reader of its frames.

package h2

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	initialWindow = 1<<16 - 1 // RFC 9113, section 6.9.2
	largestWindow = 1<<31 - 1
	// streamWindow is how many bytes a stream may have waiting for its WebSocket, and connWindow what may be on its way in
	// all: it is given back as the bytes arrive, so a stream that is not read stops no other.
	streamWindow = 256 << 10
	connWindow   = 16 << 20
	// maxFrame is the longest frame that this side sends, in bytes, and takes (RFC 9113, section 4.2).
	maxFrame = 16 << 10
	// tableSize is how much memory the compression of headers takes, for each direction (RFC 7541, section 4.2).
	tableSize = 4 << 10
	// settleTime is how long a server has for its first settings, and pingTime for its answer to a PING.
	settleTime = 10 * time.Second
	pingTime   = 15 * time.Second
	// quietTime is how long nothing may have come on a connection that gets another stream without being asked.
	quietTime = 10 * time.Second
	// maxInterim is how many answers of the kind 1xx may come ahead of the final one.
	maxInterim = 16
)

// conn is one TCP connection that speaks HTTP/2. Its goroutines, the reader and the writer of control frames, end with it.
type conn struct {
	raw       net.Conn
	framer    *http2.Framer
	maxHeader uint32
	changed   func(*conn) // told without a lock whenever there may be room for a stream, or is none any more
	running   sync.WaitGroup
	settling  *time.Timer   // for the first settings
	settled   chan struct{} // closed once the first settings have come or the connection has failed

	out output // output.go

	mu          sync.Mutex
	streams     map[uint32]*stream
	nextID      uint32
	reserved    int   // streams that are about to begin
	window      int64 // for sending
	unreturned  int64 // has come, and the server was not told of the room for it
	hasSettings bool
	peer        peerSettings
	leaving     error // why no stream may begin; nil while they may
	failed      error // why the connection has ended
	lastRead    time.Time
	pinging     bool
	idle        *time.Timer // ends a connection without streams; nil while it has some
	idleFor     time.Duration
}

// peerSettings are those of the server.
type peerSettings struct {
	streamWindow    int64
	maxStreams      uint32
	maxFrame        int
	maxHeader       uint32
	extendedConnect bool
}

// newConn begins HTTP/2 on raw.
func newConn(raw net.Conn, maxHeader uint32, idleFor time.Duration, changed func(*conn)) *conn {
	c := &conn{
		raw: raw, maxHeader: maxHeader, changed: changed, settled: make(chan struct{}), streams: make(map[uint32]*stream), nextID: 1,
		window: initialWindow, lastRead: time.Now(), idleFor: idleFor,
		peer: peerSettings{streamWindow: initialWindow, maxStreams: 100, maxFrame: maxFrame, maxHeader: 1<<32 - 1},
	}
	c.out.init(raw)
	c.framer = http2.NewFramer(c.out.buffer, bufio.NewReaderSize(raw, 4<<10))
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.framer.SetReuseFrames()
	c.framer.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	c.framer.MaxHeaderListSize = maxHeader
	c.begin()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settling = time.AfterFunc(settleTime, func() {
		if c.first() {
			c.fail(ErrSettingsTimeout)
		}
	})
	c.running.Go(c.read)
	c.running.Go(func() {
		if err := c.out.run(); err != nil {
			c.fail(err)
		}
	})
	return c
}

// begin puts the client's preface ahead of all that is written (RFC 9113, section 3.4). The buffer has room for it, so
// nothing can fail.
func (c *conn) begin() {
	_, _ = io.WriteString(c.out.buffer, http2.ClientPreface)
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.maxHeader},
	)
	_ = c.framer.WriteWindowUpdate(0, connWindow-initialWindow)
	c.out.queue(func() error { return nil }) // has it sent
}

// fail ends the connection with all its streams.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.failed != nil {
		c.mu.Unlock()
		return
	}
	c.failed, c.leaving = err, err
	c.settling.Stop()
	if !c.hasSettings {
		close(c.settled)
	}
	if c.idle != nil {
		c.idle.Stop()
	}
	for _, s := range c.streams {
		s.fail(err)
	}
	clear(c.streams)
	c.mu.Unlock()
	var broken *ConnectionError
	if errors.As(err, &broken) {
		c.out.last(func() error { return c.framer.WriteGoAway(0, broken.Code, nil) })
	}
	c.out.stop()
	_ = c.raw.Close()
	c.changed(c)
}

// read handles frames until the connection ends.
func (c *conn) read() {
	for {
		frame, err := c.framer.ReadFrame()
		if err == nil {
			err = c.handle(frame)
		}
		var inStream http2.StreamError
		if errors.As(err, &inStream) {
			if c.first() {
				c.fail(errNotHTTP2)
				return
			}
			c.resetByID(inStream.StreamID, &StreamError{Code: inStream.Code, Local: true, Problem: fmt.Sprint(inStream.Cause)})
			continue
		}
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok && err != nil && headers.Truncated {
			err = violation(http2.ErrCodeEnhanceYourCalm, fmt.Sprintf("expected a header of at most %d bytes", c.maxHeader))
			c.fail(fmt.Errorf("%w: %w", ErrHeaderTooLarge, err))
			return
		}
		if err != nil {
			c.fail(c.explain(err))
			return
		}
	}
}

// first reports whether no settings have come.
func (c *conn) first() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.hasSettings
}

// explain makes an error of reading one for callers.
func (c *conn) explain(err error) error {
	var framing http2.ConnectionError
	var ours *ConnectionError
	switch {
	case c.first() && !errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", errNotHTTP2, err) // an answer of HTTP/1.1 reads as a frame that may not come
	case errors.As(err, &ours):
		return err
	case errors.As(err, &framing):
		problem := ""
		if detail := c.framer.ErrorDetail(); detail != nil {
			problem = detail.Error()
		}
		return violation(http2.ErrCode(framing), problem)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return violation(http2.ErrCodeFrameSize, fmt.Sprintf("expected frames of at most %d bytes", maxFrame))
	}
	return fmt.Errorf("h2: the connection has ended: %w", err)
}

// handle handles one frame.
func (c *conn) handle(frame http2.Frame) error {
	if settings, ok := frame.(*http2.SettingsFrame); ok {
		return c.onSettings(settings)
	}
	if c.first() {
		return violation(http2.ErrCodeProtocol, "expected SETTINGS as the first frame")
	}
	c.mu.Lock()
	c.lastRead, c.pinging = time.Now(), false
	c.mu.Unlock()
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.onHeaders(f)
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		data := f.Data
		return c.out.answer(func() error { return c.framer.WritePing(true, data) })
	case *http2.GoAwayFrame:
		c.onGoAway(f)
	case *http2.PushPromiseFrame:
		return violation(http2.ErrCodeProtocol, "PUSH_PROMISE, which this side has forbidden")
	}
	return nil // of a kind that is not known (RFC 9113, section 5.5)
}

// onSettings takes the server's settings, and tells it so.
func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if c.first() {
			return violation(http2.ErrCodeProtocol, "expected SETTINGS as the first frame")
		}
		return nil
	}
	c.mu.Lock()
	if c.failed != nil {
		c.mu.Unlock()
		return nil
	}
	err := f.ForeachSetting(c.peerSetting)
	if err == nil && !c.hasSettings {
		c.hasSettings = true
		c.settling.Stop()
		close(c.settled)
	}
	table, resized := f.Value(http2.SettingHeaderTableSize)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.changed(c)
	return c.out.answer(func() error {
		if resized {
			c.out.encoder.SetMaxDynamicTableSize(min(table, tableSize))
		}
		return c.framer.WriteSettingsAck()
	})
}

// peerSetting takes one of the server's settings, inside mu.
func (c *conn) peerSetting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingInitialWindowSize:
		for _, st := range c.streams {
			if st.window += int64(s.Val) - c.peer.streamWindow; st.window > largestWindow {
				return violation(http2.ErrCodeFlowControl, "the initial window makes a stream's too large")
			}
			st.changed.Broadcast()
		}
		c.peer.streamWindow = int64(s.Val)
	case http2.SettingMaxConcurrentStreams:
		c.peer.maxStreams = s.Val
	case http2.SettingMaxFrameSize:
		c.peer.maxFrame = min(int(s.Val), 4*maxFrame)
	case http2.SettingMaxHeaderListSize:
		c.peer.maxHeader = s.Val
	case http2.SettingEnableConnectProtocol:
		if c.peer.extendedConnect && s.Val == 0 { // RFC 8441, section 3
			return violation(http2.ErrCodeProtocol, "extended CONNECT is withdrawn")
		}
		c.peer.extendedConnect = s.Val == 1
	}
	return nil
}

// onGoAway ends the streams that the server will not look at, and begins no more.
func (c *conn) onGoAway(f *http2.GoAwayFrame) {
	debug := f.DebugData()
	err := &goAwayError{f.ErrCode, string(debug[:min(len(debug), 256)])}
	c.mu.Lock()
	if c.leaving == nil {
		c.leaving = err
	}
	for id, s := range c.streams {
		if id > f.LastStreamID {
			s.fail(retryable{err})
			delete(c.streams, id)
		}
	}
	over := len(c.streams) == 0 && c.reserved == 0
	c.mu.Unlock()
	if over {
		c.fail(err)
	}
	c.changed(c)
}

// onWindowUpdate gives this side more room.
func (c *conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > largestWindow {
			return violation(http2.ErrCodeFlowControl, "the window of the connection is too large")
		}
		for _, s := range c.streams {
			s.changed.Broadcast()
		}
		return nil
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return c.mustBePast(f.StreamID)
	}
	if s.window += int64(f.Increment); s.window > largestWindow {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl, Cause: errors.New("the stream's window is too large")}
	}
	s.changed.Broadcast()
	return nil
}

// mustBePast checks, inside mu, that a stream which is not there was once.
func (c *conn) mustBePast(id uint32) error {
	if id >= c.nextID || id%2 == 0 {
		return violation(http2.ErrCodeProtocol, fmt.Sprintf("a frame for the stream %d, which is idle", id))
	}
	return nil
}

// onReset ends a stream.
func (c *conn) onReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	s := c.streams[f.StreamID]
	var err error
	if s == nil {
		err = c.mustBePast(f.StreamID)
	} else {
		var cause error = &StreamError{Code: f.ErrCode}
		if f.ErrCode == http2.ErrCodeRefusedStream {
			cause = retryable{cause}
		}
		s.onReset(cause)
		delete(c.streams, f.StreamID)
	}
	c.mu.Unlock()
	c.ended()
	return err
}

// resetByID resets a stream, if it is there.
func (c *conn) resetByID(id uint32, err *StreamError) {
	c.mu.Lock()
	if s := c.streams[id]; s != nil {
		s.fail(err)
		delete(c.streams, id)
	}
	c.mu.Unlock()
	if c.out.answer(func() error { return c.framer.WriteRSTStream(id, err.Code) }) != nil {
		c.fail(errTooManyAnswers)
	}
	c.ended()
}

// ended looks whether the connection has a use, behind the end of a stream.
func (c *conn) ended() {
	c.mu.Lock()
	unused := len(c.streams) == 0 && c.reserved == 0
	leaving := c.leaving
	if unused && leaving == nil && c.idle == nil && c.idleFor > 0 {
		c.idle = time.AfterFunc(c.idleFor, c.endIdle)
	}
	c.mu.Unlock()
	if unused && leaving != nil {
		c.fail(leaving)
	}
	c.changed(c)
}

var errIdle = errors.New("h2: the connection was not used any more")

// endIdle ends the connection if it has no stream.
func (c *conn) endIdle() {
	c.mu.Lock()
	unused := len(c.streams) == 0 && c.reserved == 0
	if unused && c.leaving == nil {
		c.leaving = errIdle
	}
	c.mu.Unlock()
	if unused {
		c.fail(errIdle)
	}
}

// reserve takes room for one stream, if there is some.
func (c *conn) reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Half of all numbers that there are is far more than anybody needs of one connection.
	if c.leaving != nil || !c.hasSettings || len(c.streams)+c.reserved >= int(c.peer.maxStreams) || c.nextID > largestWindow/2 {
		return false
	}
	c.reserved++
	if c.idle != nil {
		c.idle.Stop()
		c.idle = nil
	}
	c.askIfQuiet()
	return true
}

// askIfQuiet sends a PING, inside mu, if the connection may be dead, and ends it if nothing comes.
func (c *conn) askIfQuiet() {
	if c.pinging || time.Since(c.lastRead) < quietTime {
		return
	}
	c.pinging = true
	_ = c.out.answer(func() error { return c.framer.WritePing(false, [8]byte{'w', 's', 'd'}) })
	time.AfterFunc(pingTime, func() {
		c.mu.Lock()
		dead := c.pinging
		c.mu.Unlock()
		if dead {
			c.fail(ErrPingTimeout)
		}
	})
}
