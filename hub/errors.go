// errors.go holds the errors that callers of a hub can distinguish.

package hub

import (
	"errors"
	"fmt"
	"strconv"
)

// Sentinel errors, to be matched with errors.Is.
var (
	// ErrClosed is returned by the calls of a hub and of its members once Close or Shutdown has been called.
	ErrClosed = errors.New("wsd: hub closed")
	// ErrLeft is returned by the calls of a Member that has left its hub: by itself as its connection ended, by Leave, or
	// since it was too slow.
	ErrLeft = errors.New("wsd: the member has left the hub")
	// ErrJoined is returned by Join for a connection that is a member already.
	ErrJoined = errors.New("wsd: the connection is a member of the hub already")
	// ErrSubscribed is returned by SubscribeFrom for a topic that the member is subscribed to already.
	ErrSubscribed = errors.New("wsd: the member is subscribed already")
	// ErrNoHistory is returned where a topic has no history by Options.History.
	ErrNoHistory = errors.New("wsd: the topic has no history")
	// ErrNoPresence is returned where a topic has no presence by Options.Presence.
	ErrNoPresence = errors.New("wsd: the topic has no presence")
	// ErrBroker is matched by the errors of calls that a Broker cannot carry out at the moment. Trying again later
	// may help.
	ErrBroker = errors.New("wsd: the broker is away")
)

// SubjectError is returned for a topic or pattern that is not valid, or not for the use that was made of it.
type SubjectError struct {
	Subject string
	Problem string // what was expected and what came
}

// Error says what is wrong with which subject.
func (e *SubjectError) Error() string {
	s := e.Subject
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return "wsd: subject " + strconv.Quote(s) + ": " + e.Problem
}

// LimitError is returned for what exceeds a limit in Options.
type LimitError struct {
	Limit string // the name of the field of Options
	Most  int
}

// Error says which limit was exceeded.
func (e *LimitError) Error() string {
	return fmt.Sprintf("wsd: hub limit %s: expected at most %d", e.Limit, e.Most)
}

// OptionError is returned by all calls of a hub whose options are not valid, or not those of the other nodes of its Broker.
type OptionError struct {
	Option  string // the name of the field of Options
	Problem string // what was expected and what came
}

// Error says which option is wrong.
func (e *OptionError) Error() string { return "wsd: hub option " + e.Option + ": " + e.Problem }

// Gap is the error of a SubscribeFrom or History that asks for publications of which some are gone.
type Gap struct {
	Topic string
	Asked Position
	// First is the position from which on nothing is missing: SubscribeFrom with it delivers all that is left.
	First Position
}

// Error says what was asked for and what there is.
func (e *Gap) Error() string {
	return fmt.Sprintf("wsd: history of %q does not reach back to %v, it begins behind %v", e.Topic, e.Asked, e.First)
}
