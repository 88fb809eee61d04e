// errors.go holds the errors that callers of a pool can distinguish.

package pool

import (
	"errors"
	"fmt"

	"github.com/seed62836080/wsd/internal/done"
)

// Sentinel errors, to be matched with errors.Is.
var (
	// ErrClosed is returned by Acquire and Do once Close or Shutdown has been called, also by calls that are waiting.
	ErrClosed = errors.New("wsd: pool closed")
	// ErrReleased is returned by the methods of a Conn that has gone back to its pool.
	ErrReleased = errors.New("wsd: pooled connection used after Release")
)

// DialError says why there is no connection: it is the last failure of an endpoint.
type DialError struct {
	// URL is the endpoint's URL without user info and query, which may hold secrets.
	URL string
	// Err is the error of wsd.Dial (a *wsd.HandshakeError) or of Options.Setup, or the cause of the end of a connection
	// that ended as soon as it was open.
	Err error
}

// Error says which endpoint failed and why.
func (e *DialError) Error() string {
	return "wsd: no connection to " + e.URL + ": " + done.Plain(e.Err)
}

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// OptionError is returned by New for an option that is not valid.
type OptionError struct {
	Option  string // the name of the field of Options, or "url"
	Problem string // what was expected and what came
}

// Error says which option is wrong.
func (e *OptionError) Error() string { return "wsd: pool option " + e.Option + ": " + e.Problem }

func optionError(option, format string, args ...any) error {
	return &OptionError{option, fmt.Sprintf(format, args...)}
}
