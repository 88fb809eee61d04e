//go:build !js

// errors.go holds the errors that programs compare with or look into, and the close messages that some of them stand for.

package websocket

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/seed62836080/wsd"
)

// The codes of close messages (RFC 6455, section 7.4.1).
const (
	CloseNormalClosure           = 1000
	CloseGoingAway               = 1001
	CloseProtocolError           = 1002
	CloseUnsupportedData         = 1003
	CloseNoStatusReceived        = 1005
	CloseAbnormalClosure         = 1006
	CloseInvalidFramePayloadData = 1007
	ClosePolicyViolation         = 1008
	CloseMessageTooBig           = 1009
	CloseMandatoryExtension      = 1010
	CloseInternalServerErr       = 1011
	CloseServiceRestart          = 1012
	CloseTryAgainLater           = 1013
	CloseTLSHandshake            = 1015
)

// closeNames are what CloseError's text adds to a code.
var closeNames = map[int]string{
	CloseNormalClosure:           "normal",
	CloseGoingAway:               "going away",
	CloseProtocolError:           "protocol error",
	CloseUnsupportedData:         "unsupported data",
	CloseNoStatusReceived:        "no status",
	CloseAbnormalClosure:         "abnormal closure",
	CloseInvalidFramePayloadData: "invalid payload data",
	ClosePolicyViolation:         "policy violation",
	CloseMessageTooBig:           "message too big",
	CloseMandatoryExtension:      "mandatory extension missing",
	CloseInternalServerErr:       "internal server error",
	CloseTLSHandshake:            "TLS handshake error",
}

var (
	// ErrBadHandshake is returned by a dial whose answer does not complete the handshake. The answer is returned with it.
	ErrBadHandshake = errors.New("websocket: bad handshake")
	// ErrCloseSent is returned by writes after a close message.
	ErrCloseSent = errors.New("websocket: close sent")
	// ErrReadLimit is returned by the read of a message that is longer than SetReadLimit allows.
	ErrReadLimit = errors.New("websocket: read limit exceeded")
)

var (
	errMalformedURL  = errors.New("malformed ws or wss URL")
	errMessageType   = errors.New("websocket: bad write message type")
	errControlFrame  = errors.New("websocket: invalid control frame")
	errWriteClosed   = errors.New("websocket: write closed")
	errLevel         = errors.New("websocket: invalid compression level")
	errWriteTimeout  = &timeoutError{"websocket: write timeout"}
	errUnexpectedEOF = &CloseError{Code: CloseAbnormalClosure, Text: io.ErrUnexpectedEOF.Error()}
	errNotUTF8       = errors.New("websocket: text message is not UTF-8")
)

// CloseError is returned by reads once the peer's close message has come, or, with CloseAbnormalClosure, the end of the
// network connection without one.
type CloseError struct {
	Code int    // the message's, CloseNoStatusReceived if it has none
	Text string // the message's reason, often empty
}

// Error says which code and text ended the connection.
func (e *CloseError) Error() string {
	s := "websocket: close " + strconv.Itoa(e.Code)
	if name := closeNames[e.Code]; name != "" {
		s += " (" + name + ")"
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// IsCloseError reports whether err is a *CloseError with one of the codes. Errors that wrap one are not looked into.
func IsCloseError(err error, codes ...int) bool {
	e, ok := err.(*CloseError)
	return ok && slices.Contains(codes, e.Code)
}

// IsUnexpectedCloseError reports whether err is a *CloseError with a code that is none of the expected ones. Errors that
// wrap one are not looked into.
func IsUnexpectedCloseError(err error, expectedCodes ...int) bool {
	e, ok := err.(*CloseError)
	return ok && !slices.Contains(expectedCodes, e.Code)
}

// FormatCloseMessage returns the payload of a close message. For CloseNoStatusReceived it is empty.
func FormatCloseMessage(closeCode int, text string) []byte {
	if closeCode == CloseNoStatusReceived {
		return []byte{}
	}
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(text)), uint16(closeCode)), text...)
}

// HandshakeError is why a request could not be upgraded.
type HandshakeError struct{ message string }

// Error says what is wrong with the request.
func (e HandshakeError) Error() string { return e.message }

// timeoutError is a net.Error for a time that has passed.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string   { return e.text }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }
func (e *timeoutError) Unwrap() error   { return os.ErrDeadlineExceeded }

// netError is err as the net package reports what goes wrong with a connection.
func (c *Conn) netError(op string, err error) error {
	switch e := err.(type) {
	case *net.OpError:
		// What is read without a buffer is a "raw-read" to the net package.
		named := *e
		named.Op = op
		return &named
	case *os.SyscallError:
	default:
		if err != net.ErrClosed {
			return err
		}
	}
	named := &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	if named.Addr != nil {
		named.Net = named.Addr.Network()
	}
	return named
}

// readError is the error of a read that err ended.
func (c *Conn) readError(err error) error {
	violation, violated := err.(*wsd.ProtocolError)
	switch {
	case c.closed.Load():
		return c.netError("read", net.ErrClosed)
	case violated:
		c.refuse(violation)
		if violation.Code == wsd.StatusMessageTooBig {
			return ErrReadLimit
		}
		return &protocolError{violation}
	case err == io.EOF:
		return errUnexpectedEOF
	}
	return c.netError("read", err)
}

// protocolError is a peer's violation, as gorilla words its prefix.
type protocolError struct{ violation *wsd.ProtocolError }

func (e *protocolError) Error() string { return "websocket: " + e.violation.Problem }
func (e *protocolError) Unwrap() error { return e.violation }

// writeError is the error of a write that err ended. Those that concern the connection are returned by all later writes.
func (c *Conn) writeError(err error) error {
	switch {
	case errors.Is(err, wsd.ErrInvalidMessage):
		return errNotUTF8
	case errors.Is(err, context.DeadlineExceeded):
		return c.failWrites(errWriteTimeout)
	}
	if failure := c.pulled.Failure(); failure != nil && !c.closed.Load() {
		return c.failWrites(c.netError("write", failure))
	}
	if failed := c.failed.Load(); failed != nil {
		return *failed
	}
	if c.closeSent.Load() {
		return ErrCloseSent
	}
	return c.netError("write", net.ErrClosed)
}

// failWrites makes all writes from now on fail as the first that failed has, and returns that error.
func (c *Conn) failWrites(err error) error {
	c.failed.CompareAndSwap(nil, &err)
	return *c.failed.Load()
}

// closePayload takes a close message's payload apart. What may not be sent is replaced by what comes nearest to it.
func closePayload(payload []byte) (code uint16, text string) {
	if len(payload) < 2 {
		return CloseNoStatusReceived, ""
	}
	code, text = binary.BigEndian.Uint16(payload), string(payload[2:])
	if code == CloseNoStatusReceived {
		code = CloseInternalServerErr
	}
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	return code, text
}
