// errors.go holds the errors that callers can tell apart: sentinels for errors.Is, types for errors.As.

package wsd

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// Sentinel errors, to be matched with errors.Is.
var (
	// ErrClosed is matched by every error of a call on a connection that is closing or has ended. The error wraps the
	// cause of the end too, so that errors.As finds a *CloseError or *ProtocolError in it.
	ErrClosed = errors.New("wsd: connection closed")
	// ErrPongTimeout ends a connection whose peer stayed silent for Config.PongTimeout after a ping.
	ErrPongTimeout = errors.New("wsd: nothing came from the peer within PongTimeout of a ping")
	// ErrCloseTimeout ends a connection whose peer did not complete the closing handshake within Config.CloseTimeout.
	ErrCloseTimeout = errors.New("wsd: the peer did not complete the closing handshake within CloseTimeout")
	// ErrSlowConsumer ends a connection under CloseSlow, when Messages has been full for Config.StallTimeout. Under
	// DropSlow it is reported on Errors, once, when the first message is dropped.
	ErrSlowConsumer = errors.New("wsd: messages are not being received")
	// ErrMessageTooBig is matched by the error of a Ping whose payload does not fit a control frame.
	ErrMessageTooBig = errors.New("wsd: message too big")
	// ErrInvalidMessage is matched by the error of a Send whose message may not be sent: neither text nor binary, or
	// text that is not UTF-8.
	ErrInvalidMessage = errors.New("wsd: invalid message")
	// ErrNilContext is returned where a nil context was passed.
	ErrNilContext = errors.New("wsd: nil context, use context.Background()")
	// ErrServerClosed is the text with which a Server answers requests after Shutdown, with status 503. No call returns it.
	ErrServerClosed = errors.New("wsd: server closed")
)

// CloseError is the end of a connection by the peer's close frame, be it the first or the answer to this side's.
type CloseError struct {
	Code   StatusCode // what the frame carried, StatusNoStatus where it had no code
	Reason string     // UTF-8, often empty
}

// Error says which code and reason ended the connection.
func (e *CloseError) Error() string {
	s := "wsd: closed with " + e.Code.String()
	if e.Reason != "" {
		s += ": " + strconv.Quote(e.Reason)
	}
	return s
}

// ProtocolError is a violation by the peer, found by a Parser or by a connection's reader. It fails the connection
// (RFC 6455, section 7.1.7).
type ProtocolError struct {
	Code    StatusCode // what the close frame says that answers it: 1002, 1007, 1008 or 1009
	Section string     // of RFC 6455, or of the RFC named with it
	Problem string     // what was expected and what came
}

// Error says what was wrong, by which section, and with which code it is answered.
func (e *ProtocolError) Error() string {
	section := e.Section
	if !strings.HasPrefix(section, "RFC") {
		section = "RFC 6455, section " + section
	}
	return "wsd: " + e.Problem + " (" + section + "), closing with " + e.Code.String()
}

// violation is the ProtocolError for what the wire may not carry.
func violation(section, problem string) *ProtocolError {
	return &ProtocolError{Code: StatusProtocolError, Section: section, Problem: problem}
}

// HandshakeError is an opening handshake that failed, on either side.
type HandshakeError struct {
	// Header names the header field at fault, empty where it was something else.
	Header string
	// Problem says what was expected and what came. On a client it quotes the first line of an answer in plain text.
	Problem string
	// StatusCode is the HTTP status: on a server the one of its answer, on a client the one that came, 0 where no answer came.
	StatusCode int
	// Response is the answer that a client got, nil on servers and where none came. Its body can be read, up to a
	// bound, after Dial has returned, and needs no closing.
	Response *http.Response
	// Err is the cause, if there is one below the handshake: a dial error, a context's.
	Err error
}

// Error says what was wrong with which header.
func (e *HandshakeError) Error() string {
	s := "wsd: handshake failed"
	if e.Header != "" {
		s += ": " + e.Header
	}
	if e.Problem != "" {
		s += ": " + e.Problem
	}
	if e.Err != nil {
		s += ": " + plain(e.Err)
	}
	return s
}

// Unwrap returns the cause.
func (e *HandshakeError) Unwrap() error { return e.Err }

// CloseArgumentError is returned by Close for a code or reason that no close frame may carry. The connection is
// unharmed.
type CloseArgumentError struct {
	Code    StatusCode
	Reason  string
	Problem string // what is wrong with them
}

// Error says what cannot be sent.
func (e *CloseArgumentError) Error() string {
	return "wsd: cannot close with " + e.Code.String() + ": " + e.Problem
}

// closedError is what calls return on a connection that is closing or closed: ErrClosed with its cause.
type closedError struct{ cause error }

func (e *closedError) Error() string {
	return "wsd: connection closed: " + plain(e.cause)
}
func (e *closedError) Is(target error) bool { return target == ErrClosed }
func (e *closedError) Unwrap() error        { return e.cause }

// causeError is a problem with the error behind it: what the transport said, a context's. Its text is made when somebody
// asks: most ends are never looked at.
type causeError struct {
	problem string
	err     error
}

func (e *causeError) Error() string { return "wsd: " + e.problem + ": " + plain(e.err) }
func (e *causeError) Unwrap() error { return e.err }

// plain is err's text without the prefix that the text around it has already. A context may end with another connection,
// and so has that one's error for its cause.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "wsd: ") }
