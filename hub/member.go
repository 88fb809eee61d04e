// member.go is a connection in a hub: what it is subscribed to, and how it comes and goes.

package hub

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/subject"
)

// Member is a connection that has joined a hub. All its methods are safe for concurrent use, and none waits for the
// connection. Hooks of a wsd.Trace on the connection may call Conn, ID and Lost alone: the hub is sending to the member
// meanwhile.
type Member struct {
	hub    *Hub
	conn   *wsd.Conn
	id     string
	onRoom func() // pump, kept since the hub asks often

	lost   atomic.Uint64
	direct atomic.Bool // see unlock

	mu       sync.Mutex      // guards all below; inside it the tree's is taken, and the connection's TrySend
	left     bool            // it is no longer a member
	unwatch  func() bool     // stops waiting for the connection's end
	subs     []*subscription // by subject, sorted
	patience int             // how many of them are under Close
	waiting  waiting         // what waits for room
	pumping  bool            // somebody moves what waits to the connection
	unheard  []*subscription // with losses that the program has not been told of
	behind   []*subscription // that go on from history once there is room
	reading  bool            // a goroutine reads for them
	empty    chan struct{}   // made when somebody waits, closed when nothing waits any more
}

// subscription is what a member, or a listener, has under one subject.
type subscription struct {
	member   *Member // nil for a listener's
	listener *Listener
	list     *list
	past     *past // for topics with history; the member's lock guards it, as it does all below
	index    int32 // the tree's
	unheard  int32 // losses that the program has not been told of
	policy   Policy
}

// Index is where the tree keeps its index.
func (s *subscription) Index() *int32 { return &s.index }

func (s *subscription) subject() string { return s.list.Subject }

// unlock releases the lock, and notes whether messages may go to the connection without it: nothing is ahead of them. Who
// publishes finds that noted as he left it, or later, so what he publishes keeps its order.
func (m *Member) unlock() {
	if direct := m.nothingAhead(); direct != m.direct.Load() {
		m.direct.Store(direct)
	}
	m.mu.Unlock()
}

// nothingAhead reports whether nothing is ahead of a message that is published now.
func (m *Member) nothingAhead() bool {
	return !m.left && m.waiting.empty() && len(m.unheard) == 0 && !m.pumping
}

// Conn returns the member's connection.
func (m *Member) Conn() *wsd.Conn { return m.conn }

// ID returns the id that was given to Join.
func (m *Member) ID() string { return m.id }

// Lost returns how many messages this member was to get and did not, as it read too slowly. Under Latest, messages that a
// newer one took the place of do not count.
func (m *Member) Lost() uint64 { return m.lost.Load() }

// Topics returns the topics and patterns that the member is subscribed to, sorted.
func (m *Member) Topics() []string {
	m.mu.Lock()
	defer m.unlock()
	topics := make([]string, len(m.subs))
	for i, s := range m.subs {
		topics[i] = s.subject()
	}
	return topics
}

// Subscribe subscribes the member to topics and patterns, with the hub's policy. A message that several of them match comes
// once; the literal one decides how, if there is one. If one of them is not valid or not authorized, none is added.
func (m *Member) Subscribe(topics ...string) error { return m.SubscribeWith(0, topics...) }

// SubscribeWith is Subscribe with a policy of the subscriptions' own. For what the member is subscribed to already, it
// changes the policy.
func (m *Member) SubscribeWith(slow Policy, topics ...string) error {
	if slow > Latest {
		return &OptionError{"Slow", "expected Drop, Close or Latest, got " + slow.String()}
	}
	for _, topic := range topics {
		if err := m.allowed(topic, subject.Pattern); err != nil {
			return err
		}
	}
	var added []string
	for _, topic := range topics {
		fresh, err := m.add(topic, slow, nil)
		if err != nil {
			_ = m.Unsubscribe(added...)
			return err
		}
		if fresh {
			added = append(added, topic)
		}
	}
	return nil
}

// allowed returns why a member cannot be subscribed to a subject, nil if it can.
func (m *Member) allowed(topic string, kind subject.Kind) error {
	if err := m.hub.usable(); err != nil {
		return err
	}
	if err := m.hub.options.check(topic, kind); err != nil {
		return err
	}
	if authorize := m.hub.options.Authorize; authorize != nil {
		if err := authorize(m, topic); err != nil {
			return fmt.Errorf("wsd: subscription to %q refused: %w", topic, err)
		}
	}
	return nil
}

// add subscribes to what is allowed. from is where history begins, nil for what is live.
func (m *Member) add(topic string, slow Policy, from *Position) (fresh bool, err error) {
	h := m.hub
	if found, err := m.change(topic, slow); found || err != nil {
		if err == nil && from != nil {
			err = ErrSubscribed
		}
		if slow == Close {
			h.watchPatience(m)
		}
		return false, err
	}
	if err := m.want(topic); err != nil {
		return false, err
	}
	s := &subscription{member: m, policy: slow}
	if slow == 0 {
		s.policy = h.options.Slow
	}
	if !subject.HasWildcard(topic) && historyOf(h.options.History, topic) != nil {
		s.past = new(past)
		if from != nil {
			s.past.at, s.past.behind, s.past.whole = *from, true, true
		}
	}
	if err = m.insert(topic, s); err != nil {
		m.unwant(topic)
		if err == ErrSubscribed && from == nil {
			err = nil
		}
		return false, err
	}
	if s.policy == Close {
		h.watchPatience(m)
	}
	return true, nil
}

// change gives a subscription that exists another policy, if one is given.
func (m *Member) change(topic string, slow Policy) (found bool, err error) {
	m.mu.Lock()
	defer m.unlock()
	i, found := m.find(topic)
	switch {
	case m.left:
		return false, ErrLeft
	case !found && len(m.subs) >= m.hub.options.MaxTopics:
		return false, &LimitError{"MaxTopics", m.hub.options.MaxTopics}
	case found && slow != 0 && m.subs[i].policy != slow:
		m.countPatience(m.subs[i].policy, -1)
		m.subs[i].policy = slow
		m.countPatience(slow, 1)
	}
	return found, nil
}

func (m *Member) countPatience(p Policy, n int) {
	if p == Close {
		m.patience += n
	}
}

// find returns where a subject is among the subscriptions, or would be.
func (m *Member) find(topic string) (i int, found bool) {
	return slices.BinarySearchFunc(m.subs, topic, func(s *subscription, topic string) int {
		return strings.Compare(s.subject(), topic)
	})
}

func (m *Member) insert(topic string, s *subscription) error {
	m.mu.Lock()
	defer m.unlock()
	i, found := m.find(topic)
	switch {
	case m.left:
		return ErrLeft
	case found:
		return ErrSubscribed // by another goroutine, in this moment
	case len(m.subs) >= m.hub.options.MaxTopics:
		return &LimitError{"MaxTopics", m.hub.options.MaxTopics}
	}
	s.list = m.hub.tree.Add(topic, s)
	m.subs = slices.Insert(m.subs, i, s)
	m.countPatience(s.policy, 1)
	return nil
}

// Unsubscribe ends subscriptions. What was queued before may still be sent. Topics that the member is not subscribed to are
// ignored.
func (m *Member) Unsubscribe(topics ...string) error {
	for _, topic := range topics {
		if !m.take(topic) {
			continue
		}
		m.unwant(topic)
	}
	m.mu.Lock()
	defer m.unlock()
	if m.left {
		return ErrLeft
	}
	return nil
}

// take removes a subscription, and reports whether there was one.
func (m *Member) take(topic string) bool {
	m.mu.Lock()
	defer m.unlock()
	i, found := m.find(topic)
	if !found {
		return false
	}
	m.remove(m.subs[i])
	m.subs = slices.Delete(m.subs, i, i+1)
	return true
}

func (m *Member) remove(s *subscription) {
	m.hub.tree.Remove(s.list, s)
	m.countPatience(s.policy, -1)
	if s.past != nil {
		s.past.over = true
	}
}

// watch keeps what stops waiting for the connection's end.
func (m *Member) watch(unwatch func() bool) {
	m.mu.Lock()
	m.unwatch = unwatch
	left := m.left
	m.unlock()
	if left {
		unwatch()
	}
}

// Leave ends the membership: all subscriptions, and what waits. The connection stays open.
func (m *Member) Leave() {
	m.mu.Lock()
	if m.left {
		m.unlock()
		return
	}
	m.left = true
	subs, unwatch := m.subs, m.unwatch
	for _, s := range subs {
		m.remove(s)
	}
	m.subs, m.behind, m.unheard = nil, nil, nil
	if !m.waiting.empty() {
		m.conn.NotifyRoom(nil)
	}
	m.waiting.clear()
	m.signalEmpty()
	m.unlock()
	if unwatch != nil {
		unwatch()
	}
	for _, s := range subs {
		m.unwant(s.subject())
	}
	m.hub.forget(m)
}

// oldest returns when, on clock, the oldest byte that waits for a member under Close began to, and false if none does.
func (m *Member) oldest() (since time.Duration, waits bool) {
	m.mu.Lock()
	defer m.unlock()
	if m.left || m.patience == 0 {
		return 0, false
	}
	if first := m.waiting.first; first != nil {
		since, waits = first.since, true
	}
	if oldest := m.conn.Stats().OldestQueued; !oldest.IsZero() {
		queued := clock.Now() - time.Since(oldest)
		if !waits || queued < since {
			since, waits = queued, true
		}
	}
	return since, waits
}

// expel closes the connection of a member that is too slow.
func (m *Member) expel() {
	m.hub.counts.expelled.Add(1)
	_ = m.conn.StartClose(wsd.StatusTryAgainLater, "too slow")
	m.Leave()
}
