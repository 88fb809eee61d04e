// status.go is how a connection's state and end are told: status codes, close payloads, states, close events.

package wsd

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed62836080/wsd/internal/textcheck"
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

// maxCloseReason is how many of a control frame's 125 bytes are left for the reason after the two of the code (RFC 6455,
// section 5.5.1).
const maxCloseReason = maxControlPayload - 2

// appendClosePayload appends the payload of a close frame to dst. StatusNoStatus stands for an empty payload.
func appendClosePayload(dst []byte, code StatusCode, reason string) []byte {
	if code == StatusNoStatus {
		return dst
	}
	return append(append(dst, byte(code>>8), byte(code)), reason...)
}

// parseClosePayload parses a close frame's payload (RFC 6455, section 5.5.1). An empty one yields StatusNoStatus.
func parseClosePayload(payload []byte) (StatusCode, string, error) {
	switch len(payload) {
	case 0:
		return StatusNoStatus, "", nil
	case 1:
		return 0, "", violation("5.5.1", "close payload of 1 byte, expected none or a 2-byte status code")
	}
	if err := checkCloseStart(payload); err != nil {
		return 0, "", err
	}
	if !utf8.Valid(payload[2:]) {
		return 0, "", reasonNotUTF8()
	}
	return StatusCode(payload[0])<<8 | StatusCode(payload[1]), string(payload[2:]), nil
}

// checkCloseStart judges as much of a close frame's payload as has arrived.
func checkCloseStart(payload []byte) error {
	if len(payload) < 2 {
		return nil
	}
	if code := StatusCode(payload[0])<<8 | StatusCode(payload[1]); !code.sendable() {
		return violation("7.4", "close code "+strconv.Itoa(int(code))+" may not be sent")
	}
	if textcheck.Accept.Check(payload[2:]) == textcheck.Reject {
		return reasonNotUTF8()
	}
	return nil
}

func reasonNotUTF8() error {
	return &ProtocolError{Code: StatusInvalidPayload, Section: "5.5.1", Problem: "close reason is not UTF-8"}
}

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

// cutReason returns as much of reason as fits into a close frame, in UTF-8.
func cutReason(reason string) string {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) <= maxCloseReason {
		return reason
	}
	end := maxCloseReason
	for !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
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
