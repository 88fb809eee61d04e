// options.go holds a hub's options, their defaults, and their checks.

package hub

import (
	"fmt"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/subject"
)

// Policy says what becomes of messages for a subscriber that does not read as fast as they are published. Nobody else is
// affected by it. Up to Options.Backlog bytes wait beyond those that the connection itself queues (wsd.Config.SendQueue).
type Policy uint8

// The policies. The zero value stands for the hub's, which is Drop unless Options say otherwise.
const (
	// Drop loses the message that finds no room, and counts it. With history such a message is not lost: the subscription
	// reads it from there when there is room.
	Drop Policy = iota + 1
	// Close does the same, and closes the connection with 1013 once the oldest byte that waits has waited for
	// Options.Patience.
	Close
	// Latest lets of each topic only the newest message wait, in the order in which the topics first changed.
	Latest
)

// String returns the name of the constant.
func (p Policy) String() string {
	switch p {
	case Drop:
		return "Drop"
	case Close:
		return "Close"
	case Latest:
		return "Latest"
	}
	return fmt.Sprintf("policy %d", p)
}

// History says which topics have a history and how far it reaches back: it ends where the first of its limits does. Zero
// limits mean the defaults, negative ones none.
type History struct {
	Topics   string        // a topic or a pattern; the first History that matches a topic is its own
	Messages int           // default 100
	Age      time.Duration // default 1 h
	Bytes    int           // of messages; default 1 MiB
}

// Options are a hub's options; nil means the defaults. For a limit, zero means the default and a negative value turns it off.
// The functions may be called by many goroutines at the same time; they must not block, nor publish to the topic that
// they are called for.
type Options struct {
	// Broker connects the hubs of several processes. Default: a Memory of the hub's own.
	Broker Broker
	// Slow is the policy of subscriptions that have none of their own. Default Drop.
	Slow Policy
	// Backlog bounds what waits for one member, in bytes with 64 more for each message. A longer message waits alone.
	// Default 1 MiB.
	Backlog int
	// Patience is for how long bytes may wait for a member under Close, give or take a quarter. Default 5 s.
	Patience time.Duration
	// Lost, if set, is called when a member has lost n messages of a subscription, before a message that was published
	// after these is queued. It may send word of that with TrySend of the member's Conn.
	Lost func(m *Member, subject string, n int)
	// Authorize, if set, is asked at each subscription to a valid topic or pattern. Its error refuses it, and is wrapped
	// in that of Subscribe.
	Authorize func(m *Member, subject string) error
	// Frame, if set, makes what is sent of what was published: it can put topic and position into it. It is called once a
	// publication, and again when one is read from history. at is zero for topics without history. msg.Data must not be
	// changed.
	Frame func(topic string, at Position, msg wsd.Message) wsd.Message
	// History says which topics have a history.
	History []History
	// Presence has the topics, or patterns of them, whose subscribers by literal subscription Hub.Presence lists.
	Presence []string

	MaxMembers int // default 1,000,000
	MaxTopics  int // that a member is subscribed to, patterns included; default 1,000
	MaxLength  int // of a subject, in bytes; default 256
	MaxTokens  int // of a subject; default 16
}

const (
	defaultBacklog    = 1 << 20 // bytes: at 64 KiB healthy members lose most of a burst
	defaultPatience   = 5 * time.Second
	defaultMaxMembers = 1_000_000
	defaultMaxTopics  = 1_000
	defaultMaxLength  = 256
	defaultMaxTokens  = 16
	defaultMessages   = 100
	defaultAge        = time.Hour
	defaultBytes      = 1 << 20

	unlimited = int(^uint(0) >> 1)
)

// settle fills in the defaults, and returns what is wrong.
func (o *Options) settle() error {
	for _, limit := range []struct {
		value    *int
		standard int
	}{
		{&o.Backlog, defaultBacklog}, {&o.MaxMembers, defaultMaxMembers}, {&o.MaxTopics, defaultMaxTopics},
		{&o.MaxLength, defaultMaxLength}, {&o.MaxTokens, defaultMaxTokens},
	} {
		settleLimit(limit.value, limit.standard)
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.Slow == 0 {
		o.Slow = Drop
	}
	if o.Slow > Latest {
		return &OptionError{"Slow", "expected Drop, Close or Latest, got " + o.Slow.String()}
	}
	o.History = append([]History(nil), o.History...)
	for i := range o.History {
		h := &o.History[i]
		settleLimit(&h.Messages, defaultMessages)
		settleLimit(&h.Age, defaultAge)
		settleLimit(&h.Bytes, defaultBytes)
		if problem := subject.Check(h.Topics, subject.Pattern, o.limits()); problem != "" {
			return &OptionError{"History", fmt.Sprintf("topics %q: %s", h.Topics, problem)}
		}
	}
	for _, topics := range o.Presence {
		if problem := subject.Check(topics, subject.Pattern, o.limits()); problem != "" {
			return &OptionError{"Presence", fmt.Sprintf("topics %q: %s", topics, problem)}
		}
	}
	return nil
}

func settleLimit[T int | time.Duration](value *T, standard T) {
	switch {
	case *value == 0:
		*value = standard
	case *value < 0:
		*value = T(unlimited)
	}
}

func (o *Options) limits() subject.Limits {
	return subject.Limits{Length: o.MaxLength, Tokens: o.MaxTokens}
}

// check returns the error for a subject that is not valid, nil if it is.
func (o *Options) check(s string, kind subject.Kind) error {
	switch problem := subject.Check(s, kind, o.limits()); {
	case problem == subject.TooLong:
		return &LimitError{"MaxLength", o.MaxLength}
	case problem == subject.TooManyTokens:
		return &LimitError{"MaxTokens", o.MaxTokens}
	case problem != "":
		return &SubjectError{s, problem}
	case subject.System(s):
		return &SubjectError{s, "expected one that does not begin with $, which is reserved"}
	}
	return nil
}

// historyOf returns the history of a topic, nil if it has none.
func historyOf(all []History, topic string) *History {
	for i := range all {
		if subject.Matches(all[i].Topics, topic) {
			return &all[i]
		}
	}
	return nil
}

// hasPresence reports whether a topic has presence.
func (o *Options) hasPresence(topic string) bool {
	for _, topics := range o.Presence {
		if subject.Matches(topics, topic) {
			return true
		}
	}
	return false
}
