// Package pulled is the door to connections that are read by their callers, in the reading call, instead of by a goroutine
// of their own: for packages of this module that have another library's interface. Package wsd puts the doors in when it
// is initialized, since nothing here may know it.
package pulled

import (
	"context"
	"net"
)

// Event is a message or a control frame that has come.
type Event struct {
	Opcode byte   // of a text or binary message, a ping, a pong or a close frame
	Code   uint16 // of a close frame, 1005 if it had none
	Part   Part   // of a message
	// Data is the message, which belongs to the caller, or a part of one, which is memory that bufpool takes back, or a
	// control frame's payload, or a close frame's reason, which are valid until the next call.
	Data []byte
}

// Part says which part of a message an Event holds.
type Part uint8

// The parts, as package wsd has them.
const (
	Whole Part = iota
	First
	Middle
	Last
)

// Conn is what a connection that is pulled can do besides sending messages, which its *wsd.Conn is for. One goroutine at a
// time may call Next; End may be called once; all else is safe for concurrent use.
type Conn interface {
	// Next reads until a message or a control frame has come. A message of more than limit bytes is a violation. One of more
	// than above bytes comes in parts, if above is positive. After an error, a *wsd.ProtocolError or that of the transport,
	// Next must not be called again.
	Next(limit, above int64) (Event, error)
	// SendControl writes a ping or a pong, or waits until whoever is writing has taken it, or ctx is done.
	SendControl(ctx context.Context, opcode byte, payload []byte) error
	// SendClose writes a close frame behind what is queued, and waits until it is written or ctx is done. Nothing can be
	// sent after it.
	SendClose(ctx context.Context, code uint16, reason string) error
	// SetLevel sets the effort of compressing, from 1 to 9.
	SetLevel(level int)
	// Compresses reports whether the handshake agreed on compression.
	Compresses() bool
	// Waits reports whether sending writes through the transport's own Write, which a deadline of the transport bounds.
	Waits() bool
	// OnWrite has f called before each write of a connection that Waits, with whether messages are written or only control
	// frames: the place to set the deadline that bounds it.
	OnWrite(f func(data bool))
	// NetConn returns the transport, nil if that is no net.Conn.
	NetConn() net.Conn
	// Failure returns why a write failed, nil if none has.
	Failure() error
	// End closes the connection without a closing handshake. What is queued is still written, if the peer takes it, but
	// not waited for.
	End()
}

var (
	// Ask sets a *wsd.Config up for a connection that is pulled: it has no reader, and begins nothing on its own. A
	// handshake that is refused is not answered either.
	Ask func(config any)
	// Of returns the door of a *wsd.Conn that was made with such a Config. It is called once.
	Of func(conn any) Conn
)
