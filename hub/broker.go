// broker.go is what a hub expects of what connects it with the hubs of other processes.

package hub

import (
	"context"
	"fmt"

	"github.com/seed62836080/wsd"
)

// Position is the place of a publication in the history of its topic. Within an Epoch, Seq grows from each publication to the
// next, not necessarily by one. Another Epoch means that the history has begun anew. The zero Position is before
// everything.
type Position struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// String returns the position as epoch:seq.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.Epoch, p.Seq) }

// Publication is a message that was published to a topic.
type Publication struct {
	Topic   string
	Message wsd.Message // its Data is shared: it must not be changed or released
	At      Position    // zero if the topic has no history
	// Before is the Seq of the topic's publication before this one, in the same Epoch; 0 if there is none, or nobody knows.
	// A hub that has not had that one reads from history.
	Before uint64

	prepared *wsd.Prepared // Message; nil if it has come from another process
}

// Presence is one member of a topic: what its connections have in common.
type Presence struct {
	ID    string `json:"id"`
	Value string `json:"value,omitempty"`
}

// PresenceEvent is what is published to presence.TOPIC, as a text message in JSON.
type PresenceEvent struct {
	Event string `json:"event"` // "join", "leave", or "update" if the value has changed
	Presence
}

// Broker connects hubs, each of which is a node. It is a small interface so that others can be made: package brokertest
// checks what is promised here. All methods are safe for concurrent use.
type Broker interface {
	// Attach adds a node. Nodes of one broker must agree on what has history; otherwise the error is an *OptionError.
	Attach(Node) (Link, error)
}

// Node is what a hub gives its broker.
type Node struct {
	// Deliver is called with each publication to a topic that the node is subscribed to, once, however many of its subjects
	// match. It does not block. Publications of one publishing goroutine to one topic come in their order, one at a
	// time; those of a topic with history come to all nodes in the order of their positions. Nothing is delivered for
	// Subscribe and Unsubscribe that are under way, or after Close has returned.
	Deliver func(Publication)
	// Resumed is called when publications may have been missed, as the broker was away. What has history is then read from
	// there.
	Resumed func()
	// History is what has history, with all limits set.
	History []History
}

// Link is a node's end of a broker. While the broker is away, calls wait for their ctx if they have one, or fail with an error
// that matches ErrBroker; subscriptions and presence stay as they are, and are restored before Resumed is called.
// Publications to topics without history may be lost meanwhile.
type Link interface {
	// Publish publishes to all nodes, also its own. p.At is zero. A nil error means that every node that can be reached gets
	// it, and that it is in the history of its topic, if that has one. Order is kept as Node.Deliver says.
	Publish(ctx context.Context, p Publication) error
	// Subscribe makes publications that begin after it has returned come to the node: to a topic or to those that a
	// pattern matches. The hub calls it once for each subject, and Unsubscribe before it does so again.
	Subscribe(subject string) error
	// Unsubscribe ends a subscription.
	Unsubscribe(subject string) error
	// History returns what was published to a topic after a position, in order, up to about as many publications as most
	// says. What has been delivered is in it. The error is a *Gap if some of that is gone or the epoch is another, and matches
	// ErrNoHistory if the topic has no history.
	History(ctx context.Context, topic string, after Position, most int) (Page, error)
	// Enter says that a member is at a topic on this node, or has another value, and Leave that it no longer is. A member
	// that is there on several nodes is one, with the value that was set last. When the first comes, the value changes, or
	// the last leaves, a PresenceEvent is published to presence.TOPIC, in the order in which that took effect.
	Enter(topic, id, value string) error
	// Leave is the opposite of Enter.
	Leave(topic, id string) error
	// Presence returns who is at a topic on all nodes, by id.
	Presence(ctx context.Context, topic string) ([]Presence, error)
	// Close takes the node away, with its subscriptions and presence. Nodes that die are noticed, and count as closed.
	Close() error
}

// Page is a part of a history.
type Page struct {
	Publications []Publication
	More         bool // there is more behind the last of them
}
