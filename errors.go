// errors.go says why: status codes, and the errors that callers can distinguish, sentinels for errors.Is and types for
// errors.As.

package wsd

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/seed62836080/wsd/internal/done"
)

// StatusCode says why a connection was closed (RFC 6455, section 7.4).
type StatusCode uint16

// The registered status codes (RFC 6455, section 7.4.1, and the IANA registry it set up). StatusNoStatus,
// StatusAbnormalClosure and StatusTLSHandshake describe an end and never appear in a close frame.
const (
	StatusNormalClosure      StatusCode = 1000 // the connection has fulfilled its purpose
	StatusGoingAway          StatusCode = 1001 // a server goes down, a browser leaves the page
	StatusProtocolError      StatusCode = 1002 // the peer broke the protocol
	StatusUnsupportedData    StatusCode = 1003 // a type of data that the endpoint cannot accept
	StatusNoStatus           StatusCode = 1005 // a close frame came without a code
	StatusAbnormalClosure    StatusCode = 1006 // the connection ended without a close frame
	StatusInvalidPayload     StatusCode = 1007 // data that does not fit its type, such as text that is not UTF-8
	StatusPolicyViolation    StatusCode = 1008 // a message that breaks the endpoint's policy
	StatusMessageTooBig      StatusCode = 1009 // a message larger than the endpoint takes
	StatusMandatoryExtension StatusCode = 1010 // the server did not agree to an extension that the client needs
	StatusInternalError      StatusCode = 1011 // something unexpected kept the server from going on
	StatusServiceRestart     StatusCode = 1012 // the server restarts
	StatusTryAgainLater      StatusCode = 1013 // the server is overloaded
	StatusBadGateway         StatusCode = 1014 // a gateway got a bad answer from upstream
	StatusTLSHandshake       StatusCode = 1015 // the TLS handshake failed
	StatusUnauthorized       StatusCode = 3000 // a login is missing or has expired
)

var statusNames = [...]string{
	"normal closure", "going away", "protocol error", "unsupported data", "reserved", "no status received",
	"abnormal closure", "invalid payload data", "policy violation", "message too big", "mandatory extension",
	"internal error", "service restart", "try again later", "bad gateway", "TLS handshake",
}

// String returns the code with its registered name, as in "1001 (going away)".
func (c StatusCode) String() string {
	number := strconv.Itoa(int(c))
	if c == StatusUnauthorized {
		return number + " (unauthorized)"
	}
	if i := int(c) - 1000; i >= 0 && i < len(statusNames) {
		return number + " (" + statusNames[i] + ")"
	}
	return number
}

// sendable reports whether a close frame may carry c (RFC 6455, section 7.4): the registered codes except those that only
// describe an end, and the ranges for libraries (3000 to 3999) and applications (4000 to 4999).
func (c StatusCode) sendable() bool {
	switch c {
	case 1004, StatusNoStatus, StatusAbnormalClosure, StatusTLSHandshake:
		return false
	}
	return c >= 1000 && c <= 1014 || c >= 3000 && c <= 4999
}

// Sentinel errors, to be matched with errors.Is.
var (
	// ErrClosed is matched by the errors of calls that fail because the connection is closing or has ended. The error
	// also wraps the cause of the end, so errors.As finds a *CloseError or *ProtocolError in it.
	ErrClosed = errors.New("wsd: connection closed")
	// ErrPongTimeout is the cause of the end when the peer stays silent for Config.PongTimeout after a ping.
	ErrPongTimeout = errors.New("wsd: nothing came from the peer within PongTimeout of a ping")
	// ErrWriteTimeout is the cause of the end when the peer takes nothing of what is being written for
	// Config.WriteTimeout.
	ErrWriteTimeout = errors.New("wsd: the peer took nothing of what was written within WriteTimeout")
	// ErrCloseTimeout is the cause of the end when the peer does not complete the closing handshake, or does not take what
	// is ahead of the close frame, in the time that Config.CloseTimeout gives it.
	ErrCloseTimeout = errors.New("wsd: the peer did not complete the closing handshake within CloseTimeout")
	// ErrSlowConsumer is the cause of the end when, under CloseSlow, Messages has been full for Config.StallTimeout.
	// Under DropSlow it is reported on Errors, once, when the first message is dropped.
	ErrSlowConsumer = errors.New("wsd: messages are not being received")
	// ErrBodyTimeout is the cause of the end when a streamed message's Body has been left alone for Config.BodyTimeout.
	ErrBodyTimeout = errors.New("wsd: a message's Body was neither read nor closed within BodyTimeout: every Body has to be read to its end or closed")
	// ErrMessageTooBig is matched by the error of a Ping whose payload does not fit in a control frame.
	ErrMessageTooBig = errors.New("wsd: message too big")
	// ErrQueueFull is matched by the errors of TrySend and TrySendPrepared for which there is no room in the queue.
	ErrQueueFull = errors.New("wsd: the send queue is full")
	// ErrInvalidMessage is matched by the error of a Send whose message may not be sent: neither text nor binary, or
	// text that is not UTF-8.
	ErrInvalidMessage = errors.New("wsd: invalid message")
	// ErrInbox is matched by the errors of calls that would receive from a connection whose messages go to its Inbox.
	ErrInbox = errors.New("wsd: the messages of this connection go to its Inbox")
	// ErrNilContext is returned when a nil context is passed.
	ErrNilContext = errors.New("wsd: nil context, use context.Background()")
	// ErrServerClosed is returned by Server.Serve after Drain or Shutdown. It is the text of the answer too, with status 503.
	ErrServerClosed = errors.New("wsd: server closed")
)

// CloseError reports that the peer's close frame ended the connection, whether it came first or answered this side's.
type CloseError struct {
	Code   StatusCode // what the frame carried, StatusNoStatus if it had no code
	Reason string     // UTF-8, often empty
	Local  bool       // this side's close frame came first: Code and Reason are the peer's answer to it
}

// Error says which code and reason ended the connection.
func (e *CloseError) Error() string {
	s := "wsd: closed with " + e.Code.String()
	if e.Reason != "" {
		s += ": " + strconv.Quote(e.Reason)
	}
	return s
}

// ProtocolError reports a violation by the peer, found by a Parser or by a connection's reader. It fails the connection
// (RFC 6455, section 7.1.7).
type ProtocolError struct {
	Code    StatusCode // the code of the close frame that answers it: 1002, 1007, 1008 or 1009
	Section string     // of RFC 6455, or of the RFC named with it
	Problem string     // what was expected and what came
}

// Error says what was wrong, which section it violates, and which code answers it.
func (e *ProtocolError) Error() string {
	section := e.Section
	if !strings.HasPrefix(section, "RFC") {
		section = "RFC 6455, section " + section
	}
	return "wsd: " + e.Problem + " (" + section + "), closing with " + e.Code.String()
}

// violation returns the ProtocolError for something that may not appear on the wire.
func violation(section, problem string) *ProtocolError {
	return &ProtocolError{Code: StatusProtocolError, Section: section, Problem: problem}
}

// HandshakeError reports a failed opening handshake, on either side.
type HandshakeError struct {
	// Header names the header field at fault. It is empty if something else was at fault.
	Header string
	// Problem says what was expected and what came. On a client it quotes the first line of an answer in plain text.
	Problem string
	// StatusCode is the HTTP status: on a server, that of its answer; on a client, that of the answer received. It is 0
	// if there was no answer.
	StatusCode int
	// Response is the answer that a client received. It is nil on servers and if no answer came. Its body can be read,
	// up to a limit, after Dial has returned, and need not be closed.
	Response *http.Response
	// Err is the underlying cause, if there is one: a dial error or a context's error.
	Err error
}

// Error says what was wrong, and with which header field.
func (e *HandshakeError) Error() string {
	s := "wsd: handshake failed"
	if e.Header != "" {
		s += ": " + e.Header
	}
	if e.Problem != "" {
		s += ": " + e.Problem
	}
	if e.Err != nil {
		cause := done.Plain(e.Err)
		if len(cause) > maxCauseText {
			cause = strings.ToValidUTF8(cause[:maxCauseText], "") + "..."
		}
		s += ": " + cause
	}
	return s
}

// maxCauseText is how much of a cause a HandshakeError's text has, in bytes: net/http quotes whole lines of an answer, which
// a server may make as long as the header may be.
const maxCauseText = 1 << 10

// Unwrap returns the cause.
func (e *HandshakeError) Unwrap() error { return e.Err }

// CloseArgumentError is returned by Close and StartClose for a code that no close frame may carry. The connection is closed
// with StatusInternalError instead.
type CloseArgumentError struct {
	Code    StatusCode
	Reason  string
	Problem string // what is wrong with the code
}

// Error says what cannot be sent.
func (e *CloseArgumentError) Error() string {
	return "wsd: cannot close with " + e.Code.String() + ": " + e.Problem
}

// closedError is the error that calls return on a connection that is closing or closed: ErrClosed with its cause.
type closedError struct{ cause error }

func (e *closedError) Error() string {
	return "wsd: connection closed: " + done.Plain(e.cause)
}
func (e *closedError) Is(target error) bool { return target == ErrClosed }
func (e *closedError) Unwrap() error        { return e.cause }

// causeError is a problem with its underlying error, from the transport or a context. Its text is built on demand: most
// ends are never looked at.
type causeError struct {
	problem string
	err     error
}

func (e *causeError) Error() string { return "wsd: " + e.problem + ": " + done.Plain(e.err) }
func (e *causeError) Unwrap() error { return e.err }

// checkCloseCode checks what a caller wants to send in a close frame.
func checkCloseCode(code StatusCode, reason string) *CloseArgumentError {
	switch {
	case code == StatusNoStatus && reason != "":
		return &CloseArgumentError{code, reason, "a reason needs a code"}
	case code != StatusNoStatus && !code.sendable():
		return &CloseArgumentError{code, reason, "this code may not be sent"}
	}
	return nil
}
