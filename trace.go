// trace.go tells a program what happens on its connections.

package wsd

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/seed62836080/wsd/internal/browser"
)

// Trace is a set of functions, its hooks, that are called when something happens on a connection, in the manner of
// httptrace.ClientTrace. Any may be nil. It must not be changed once a connection has it. Connections may share it, and
// then call it at the same time.
//
// A hook must not block: the connection waits for it. It may not call what waits for the connection (Close, CloseNow, Send,
// Flush, Ping, Receive); SetValue, Stats, TrySend, StartClose and all that only asks are safe. One that panics, or calls
// runtime.Goexit, ends its connection with StatusInternalError, and slog.Default() gets the stack.
type Trace struct {
	// Opened is called once, before anything has been read, on the goroutine of Accept, Dial or NewConn, which has not
	// returned yet.
	Opened func(*Conn, OpenedInfo)
	// MessageReceived is called by the reader for each message that has arrived whole, before it is delivered or dropped,
	// and for a streamed one once its last byte has come.
	MessageReceived func(*Conn, MessageInfo)
	// MessageDropped is called by the reader for each message that is discarded, as Stats.MessagesDropped counts them. The
	// sizes of a streamed one are those of what has come.
	MessageDropped func(*Conn, MessageInfo)
	// MessageSent is called on the sender's goroutine for each message that was accepted, before the call that sent it
	// returns. The peer may have answered by then.
	MessageSent func(*Conn, MessageInfo)
	// QueueFull is called on the sender's goroutine when a call is about to wait because the queue is full
	// (Config.SendQueue), or TrySend has been refused for that.
	QueueFull func(*Conn)
	// PingReceived and PongReceived are called by the reader. The payload is valid during the call.
	PingReceived func(c *Conn, payload []byte)
	PongReceived func(c *Conn, payload []byte)
	// RoundTrip is called by the reader when a pong answers a Ping, or one of the keepalive's, with the time between them.
	RoundTrip func(*Conn, time.Duration)
	// StallBegun is called by the reader when a message has to wait since Messages is full or a Body ahead of it is not
	// read, and StallEnded when that message has been delivered or given up, with how long it waited.
	StallBegun func(*Conn)
	StallEnded func(*Conn, time.Duration)
	// Ended is called once, last of all, on a goroutine of its own. The CloseEvent is complete. Closed is closed when
	// Ended has returned.
	Ended func(*Conn, CloseEvent)
}

// OpenedInfo is how a connection began.
type OpenedInfo struct {
	Request  *http.Request  // what a server has accepted; nil on other connections. It is valid during the call
	Response *http.Response // what a client's handshake was answered with, as Conn.Response; nil on other connections
}

// MessageInfo describes a message.
type MessageInfo struct {
	Type     MessageType
	Size     int // in bytes, uncompressed
	WireSize int // in bytes, as it was sent or came: compressed, if it was; without frame headers
}

// MultiTrace returns a Trace that calls the functions of all traces, in their order, those that are not nil. A nil Trace
// counts as one without functions. When a function panics, those after it are not called.
func MultiTrace(traces ...*Trace) *Trace {
	all := new(Trace)
	for _, t := range traces {
		if t == nil {
			continue
		}
		all.Opened = both(all.Opened, t.Opened)
		all.MessageReceived = both(all.MessageReceived, t.MessageReceived)
		all.MessageDropped = both(all.MessageDropped, t.MessageDropped)
		all.MessageSent = both(all.MessageSent, t.MessageSent)
		all.QueueFull = bothAlone(all.QueueFull, t.QueueFull)
		all.PingReceived = both(all.PingReceived, t.PingReceived)
		all.PongReceived = both(all.PongReceived, t.PongReceived)
		all.RoundTrip = both(all.RoundTrip, t.RoundTrip)
		all.StallBegun = bothAlone(all.StallBegun, t.StallBegun)
		all.StallEnded = both(all.StallEnded, t.StallEnded)
		all.Ended = both(all.Ended, t.Ended)
	}
	return all
}

// both returns a function that calls two, of which either may be nil.
func both[T any](first, second func(*Conn, T)) func(*Conn, T) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(c *Conn, what T) {
		first(c, what)
		second(c, what)
	}
}

// bothAlone is both for functions that are told nothing but the connection.
func bothAlone(first, second func(*Conn)) func(*Conn) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(c *Conn) {
		first(c)
		second(c)
	}
}

// timesPings reports whether the keepalive's round trips are to be measured. t may be nil.
func (t *Trace) timesPings() bool { return t != nil && t.RoundTrip != nil }

// errGoexit is what became of a hook that called runtime.Goexit.
var errGoexit = errors.New("it called runtime.Goexit")

// hookLeft is deferred around the call of a hook. If that has not returned, the connection ends.
func hookLeft(c *Conn, hook string, returned *bool) {
	if *returned {
		return
	}
	// recover has to be called here, not further down.
	hookFailed(c, hook, recover())
}

// hookLeftReader is hookLeft where the connection cannot go on without the present goroutine: it is the reader, or has yet to
// start one.
func hookLeftReader(c *Conn, hook string, returned *bool) {
	if *returned {
		return
	}
	p := recover()
	hookFailed(c, hook, p)
	if p == nil {
		// The goroutine ends. Another one finds the transport closed, and carries out the end.
		c.ending.abort(errClosedHere) // the cause is known
		c.reader.start()
	}
}

// hookFailed ends the connection of a hook that has panicked with p, which is nil if it has called runtime.Goexit.
func hookFailed(c *Conn, hook string, p any) {
	cause := errGoexit
	if p != nil {
		cause = fmt.Errorf("panic: %v", p)
	}
	browser.LogHookFailed(hook, cause, string(debug.Stack()))
	c.ending.queueClose(StatusInternalError, "a hook failed", &causeError{"the Trace's " + hook + " did not return", cause})
}

// The methods below call the hooks, those that there are: t may be nil.

// opened tells how the connection began, and prepares what a Trace needs.
func (t *Trace) opened(c *Conn, info OpenedInfo) {
	if t == nil {
		return
	}
	if t.QueueFull != nil {
		c.queue.notifyFull(func() { t.queueFull(c) })
	}
	if t.Opened != nil {
		returned := false
		defer hookLeftReader(c, "Opened", &returned)
		t.Opened(c, info)
		returned = true
	}
}

// received tells of what has arrived, and is not called without a Trace.
func (t *Trace) received(c *Conn, event Event) {
	returned := false
	switch event.Opcode {
	case OpText, OpBinary:
		if t.MessageReceived != nil && (event.Part == WholeMessage || event.Part == LastPart) {
			defer hookLeftReader(c, "MessageReceived", &returned)
			t.MessageReceived(c, c.reader.describe(event))
		}
	case OpPing:
		if t.PingReceived != nil {
			defer hookLeftReader(c, "PingReceived", &returned)
			t.PingReceived(c, event.Data)
		}
	case OpPong:
		if t.PongReceived != nil {
			defer hookLeftReader(c, "PongReceived", &returned)
			t.PongReceived(c, event.Data)
		}
	}
	returned = true
}

// describe describes the message that an event has completed.
func (r *reader) describe(event Event) MessageInfo {
	size, wireSize := r.parser.lastMessage(event)
	return MessageInfo{MessageType(event.Opcode), size, wireSize}
}

// dropped tells of the message that has just arrived and is not delivered.
func (t *Trace) dropped(c *Conn, m Message) {
	if t == nil || t.MessageDropped == nil {
		return
	}
	info := c.reader.describe(Event{Opcode: Opcode(m.Type), Data: m.Data})
	if m.Streamed() {
		info.Size, info.WireSize = int(c.reader.parser.size()), int(c.reader.parser.wireSize())
	}
	returned := false
	defer hookLeftReader(c, "MessageDropped", &returned)
	t.MessageDropped(c, info)
	returned = true
}

// answered tells of a pong that has answered a ping.
func (t *Trace) answered(c *Conn, roundTrip time.Duration) {
	if t == nil || t.RoundTrip == nil {
		return
	}
	returned := false
	defer hookLeftReader(c, "RoundTrip", &returned)
	t.RoundTrip(c, roundTrip)
	returned = true
}

// stallBegun tells that the reader begins to wait for the consumer, and returns when.
func (t *Trace) stallBegun(c *Conn) (begun time.Time) {
	if t == nil || t.StallBegun == nil && t.StallEnded == nil {
		return time.Time{}
	}
	begun = time.Now()
	if t.StallBegun != nil {
		returned := false
		defer hookLeftReader(c, "StallBegun", &returned)
		t.StallBegun(c)
		returned = true
	}
	return begun
}

// stallEnded tells that the reader no longer waits for the consumer.
func (t *Trace) stallEnded(c *Conn, begun time.Time) {
	if t == nil || t.StallEnded == nil {
		return
	}
	returned := false
	defer hookLeftReader(c, "StallEnded", &returned)
	t.StallEnded(c, time.Since(begun))
	returned = true
}

// tried tells what came of a call that sends a message.
func (t *Trace) tried(c *Conn, o *outgoing, err error) {
	switch {
	case t == nil:
	case err == nil:
		t.sent(c, MessageInfo{MessageType(o.opcode &^ rsv1Bit), o.size, len(o.payload)})
	case err == ErrQueueFull:
		t.queueFull(c)
	}
}

// sent tells of a message that was sent.
func (t *Trace) sent(c *Conn, info MessageInfo) {
	if t == nil || t.MessageSent == nil {
		return
	}
	returned := false
	defer hookLeft(c, "MessageSent", &returned)
	t.MessageSent(c, info)
	returned = true
}

// queueFull tells that a sender finds the queue full.
func (t *Trace) queueFull(c *Conn) {
	if t == nil || t.QueueFull == nil {
		return
	}
	returned := false
	defer hookLeft(c, "QueueFull", &returned)
	t.QueueFull(c)
	returned = true
}

// ended tells of the end.
func (t *Trace) ended(c *Conn) {
	if t == nil || t.Ended == nil {
		return
	}
	returned := false
	defer hookLeft(c, "Ended", &returned)
	t.Ended(c, c.ending.closeEvent())
	returned = true
}
