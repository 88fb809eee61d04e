// errors.go holds the errors of a connection and of its streams that callers can distinguish.

package h2

import (
	"errors"
	"strconv"

	"golang.org/x/net/http2"
)

// ErrSettingsTimeout is matched by the error of a server that has taken a connection and not begun HTTP/2 in time.
var ErrSettingsTimeout = errors.New("h2: no settings came from the server in time")

// ErrPingTimeout is matched by the error of a connection on which nothing comes any more, not even the answer to a PING.
var ErrPingTimeout = errors.New("h2: nothing came from the server within the time of a ping")

// ErrHeaderTooLarge is matched by the error of a request whose header is longer than the server takes, and of an answer
// whose header is longer than MaxResponseHeaderBytes.
var ErrHeaderTooLarge = errors.New("h2: the header is too large")

// ErrGoAway is matched by the error of a stream that a server refuses with GOAWAY.
var ErrGoAway = errors.New("h2: the server has said GOAWAY")

// ErrTransportClosed is what requests get after Transport.Close.
var ErrTransportClosed = errors.New("h2: the transport is closed")

// StreamError reports that a stream was reset, without harm to the others of its TCP connection.
type StreamError struct {
	Code  http2.ErrCode // of RST_STREAM (RFC 9113, section 7)
	Local bool          // this side has reset it
	// Problem says what was expected and what came, if this side has reset the stream for what the server did.
	Problem string
}

// Error says who has reset the stream, and why.
func (e *StreamError) Error() string {
	who := "the server"
	if e.Local {
		who = "this side"
	}
	return "h2: " + who + " has reset the stream with " + e.Code.String() + problemText(e.Problem)
}

// ConnectionError reports a violation by the server that has ended the TCP connection with all its streams.
type ConnectionError struct {
	Code    http2.ErrCode // of the GOAWAY that tells the server
	Problem string        // what was expected and what came
}

// Error says what was wrong.
func (e *ConnectionError) Error() string {
	return "h2: the server broke HTTP/2, " + e.Code.String() + problemText(e.Problem)
}

func problemText(problem string) string {
	if problem == "" {
		return ""
	}
	return ": " + problem
}

// violation returns the error for something that may not come.
func violation(code http2.ErrCode, problem string) *ConnectionError {
	return &ConnectionError{Code: code, Problem: problem}
}

// goAwayError is ErrGoAway with what the server said.
type goAwayError struct {
	code  http2.ErrCode
	debug string
}

func (e *goAwayError) Error() string {
	s := ErrGoAway.Error() + " with " + e.code.String()
	if e.debug != "" {
		s += ", " + strconv.Quote(e.debug)
	}
	return s
}

func (e *goAwayError) Is(target error) bool { return target == ErrGoAway }

// errNotHTTP2 is why HTTP/1.1 is tried: the server does not speak HTTP/2, or knows no extended CONNECT.
var errNotHTTP2 = errors.New("h2: the server does not offer WebSockets over HTTP/2")

// retryable is an error ahead of which the server has done nothing, so that the request can be made again elsewhere.
type retryable struct{ error }

func (e retryable) Unwrap() error { return e.error }
