// link.go is what the pool knows of one connection: whether it can be lent, and what its end says about its endpoint.

package pool

import (
	"errors"
	"net"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/backoff"
)

// settled is how long a connection that has not been given back must have lived for its endpoint to count as working.
const settled = time.Second

// link is one pooled connection.
type link struct {
	conn     *wsd.Conn
	endpoint *endpoint
	opened   time.Time
	sent     uint64    // messages that Setup has sent
	received uint64    // messages that had arrived when Setup was done
	retireAt time.Time // zero for never

	used bool // has been lent; owned by whoever has it, the ledger if it is idle

	// ledger.mu guards these.
	place     place
	idleSince time.Time // when it was given back last, or opened; also read by whoever has it
	proven    bool      // was given back in good order: its endpoint works
	lost      bool      // has ended by itself, which is counted
}

func newLink(conn *wsd.Conn, e *endpoint, opts *Options) *link {
	now, stats := time.Now(), conn.Stats()
	l := &link{conn: conn, endpoint: e, opened: now, idleSince: now, sent: stats.MessagesSent, received: stats.MessagesReceived}
	if life := opts.MaxLifetime; life > 0 {
		l.retireAt = now.Add(life - backoff.Delay(1, life/10, life))
	}
	return l
}

func (l *link) expired(now time.Time) bool { return !l.retireAt.IsZero() && !now.Before(l.retireAt) }

// reusable reports whether the next user can have the connection.
func (l *link) reusable() bool {
	if l.conn.State() != wsd.StateOpen {
		return false
	}
	if !l.used {
		return true // what has come is for the first user
	}
	select {
	case <-l.conn.Messages():
		// A message was left unread, or the channel is closed. Losing the message does not matter: the connection is
		// closed.
		return false
	default:
		return !l.conn.Stats().BodyUnread
	}
}

// lesson is what the end of a connection says about its endpoint; the zero value says nothing.
type lesson struct {
	worked  bool
	failure *failure
}

// learnFromEnd tells how a connection has ended.
func (l *link) learnFromEnd() lesson {
	err := l.conn.CloseEvent().Err
	switch {
	case time.Since(l.opened) >= settled, l.answered(err):
		return lesson{worked: true}
	case err == nil:
		err = wsd.ErrClosed // it is closing, and has no cause yet
	case errors.Is(err, net.ErrClosed):
		return lesson{} // its user has called CloseNow
	}
	// It was accepted and dropped, which is no better than refused: without a rest the pool would dial in a loop.
	return lesson{failure: newFailure(l.endpoint, err)}
}

// answered reports whether the connection was closed after it had done its work: its user has sent something and received
// something, and the peer gave no other reason. Every dial that follows is due to a user who received something, so this
// is not a loop.
func (l *link) answered(err error) bool {
	var closed *wsd.CloseError
	if !errors.As(err, &closed) || closed.Code != wsd.StatusNormalClosure && closed.Code != wsd.StatusNoStatus {
		return false
	}
	stats := l.conn.Stats()
	return stats.MessagesSent > l.sent && stats.MessagesReceived > l.received
}
