// Package hub sends messages to those who have subscribed to their topics, over many connections, in one process or, with a
// Broker, over several. It never receives: the program goes on reading the connections.
//
//	h := hub.New(&hub.Options{Slow: hub.Latest})
//	member, err := h.Join(conn, "alice") // leaves by itself when conn ends
//	err = member.Subscribe("prices.*", "room.42")
//	err = h.Publish(ctx, "room.42", wsd.Text("hi"))
//
// Topics are tokens between dots. A pattern may have * for any one token and, as its last, > for one or more. The topics
// below presence and those that begin with $ are reserved, and no pattern matches them that begins with a wildcard.
//
// A message is encoded once for all, and queued by reference. Nobody waits for anybody: what becomes of messages for
// subscribers that do not read is said by a Policy.
package hub

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/subject"
)

type (
	tree = subject.Tree[subscription, *subscription]
	list = subject.List[subscription, *subscription]
)

// Hub is the topics of one process. All its methods are safe for concurrent use, and none waits for a connection, except
// Shutdown.
type Hub struct {
	options  Options
	link     Link                 // nil if failed is not
	failed   error                // why the hub cannot be used, nil if it can
	tree     tree                 // who is subscribed
	interest *keeper[string]      // subjects that the broker delivers to this node
	present  *keeper[presenceKey] // who is at which topic, for the broker
	values   presenceValues
	counts   counts
	members  atomic.Int64
	closing  atomic.Bool // nothing more is taken
	working  sync.WaitGroup

	mu        sync.Mutex // guards all below; no publication needs it, and nothing foreign is called inside it
	joined    map[*wsd.Conn]*Member
	forgotten sync.Cond // signaled when joined has become smaller
	listeners map[*Listener]struct{}
	impatient map[*Member]struct{} // those with a subscription under Close
	sweeping  *time.Timer          // runs while there are any
	rereading *time.Timer          // runs while somebody could not read from history
	closed    bool
}

// counts are what Stats tells; atomic, so that reading them needs no lock.
type counts struct {
	published, queued, lost, replaced, invalid, expelled atomic.Uint64
	waiting                                              atomic.Int64
}

// Stats holds the counts of a hub: of this process alone, whatever its Broker connects it with.
type Stats struct {
	Members       int
	Subjects      int    // different topics and patterns that somebody is subscribed to
	Subscriptions int    // of members and listeners
	Waiting       int    // bytes that wait for members beyond what their connections queue, as Options.Backlog counts them
	Published     uint64 // by Publish of this hub, without those that failed
	Queued        uint64 // messages that were queued for members
	Lost          uint64 // messages that members lost, as in Member.Lost
	Replaced      uint64 // messages that a newer one took the place of, under Latest
	Invalid       uint64 // publications for which Options.Frame made nothing that can be sent
	Expelled      uint64 // members that were closed as they were too slow, under Close
}

// New returns a hub. If opts are not valid, or its Broker refuses them, all calls return the error.
func New(opts *Options) *Hub {
	h := &Hub{
		joined:    make(map[*wsd.Conn]*Member),
		listeners: make(map[*Listener]struct{}),
		impatient: make(map[*Member]struct{}),
	}
	h.forgotten.L = &h.mu
	if opts != nil {
		h.options = *opts
	}
	h.interest = newKeeper(func(s string) error { return h.link.Subscribe(s) }, func(s string) error { return h.link.Unsubscribe(s) })
	h.present = newKeeper(h.enterTopic, h.leaveTopic)
	if h.failed = h.options.settle(); h.failed != nil {
		return h
	}
	if h.options.Broker == nil {
		h.options.Broker = NewMemory()
	}
	h.link, h.failed = h.options.Broker.Attach(Node{Deliver: h.deliver, Resumed: h.resumed, History: h.options.History})
	return h
}

// usable returns why a call cannot be carried out, nil if it can.
func (h *Hub) usable() error {
	switch {
	case h.failed != nil:
		return h.failed
	case h.closing.Load():
		return ErrClosed
	}
	return nil
}

// Join makes a connection a member, until it ends or Leave is called. The id is the program's name for whoever is behind it,
// which several connections may share; without one, "", the member has no presence. The hub uses the connection's NotifyRoom,
// which nobody else may then call, so a connection is a member of one hub at most.
func (h *Hub) Join(conn *wsd.Conn, id string) (*Member, error) {
	if err := h.usable(); err != nil {
		return nil, err
	}
	if len(id) > h.options.MaxLength {
		return nil, &LimitError{"MaxLength", h.options.MaxLength}
	}
	m := &Member{hub: h, conn: conn, id: id}
	m.onRoom = m.pump
	m.waiting.total = &h.counts.waiting
	if err := h.admit(m); err != nil {
		return nil, err
	}
	m.watch(context.AfterFunc(conn.Context(), m.Leave))
	return m, nil
}

func (h *Hub) admit(m *Member) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed || h.closing.Load():
		return ErrClosed
	case h.joined[m.conn] != nil:
		return ErrJoined
	case len(h.joined) >= h.options.MaxMembers:
		return &LimitError{"MaxMembers", h.options.MaxMembers}
	}
	h.joined[m.conn] = m
	h.values.add(m.id)
	h.members.Add(1)
	return nil
}

func (h *Hub) forget(m *Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.joined[m.conn] == m {
		delete(h.joined, m.conn)
		h.values.remove(m.id)
		h.members.Add(-1)
		h.forgotten.Broadcast()
	}
	delete(h.impatient, m)
}

// Publish sends msg to all who are subscribed to a topic. It copies msg.Data. It does not wait for any of them; with a Broker
// of several processes it may wait for that, until ctx is done. What one goroutine publishes to a topic arrives at each
// subscriber in that order.
func (h *Hub) Publish(ctx context.Context, topic string, msg wsd.Message) error {
	if ctx == nil {
		return wsd.ErrNilContext
	}
	if err := h.usable(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return done.Canceled("publish", ctx)
	}
	if err := h.options.check(topic, subject.Literal); err != nil {
		return err
	}
	if subject.Reserved(topic) {
		return &SubjectError{topic, "expected a topic that is not below presence, which is reserved"}
	}
	prepared, err := wsd.Prepare(msg)
	if err != nil {
		return err
	}
	if err := h.link.Publish(ctx, Publication{Topic: topic, Message: prepared.Message(), prepared: prepared}); err != nil {
		return err
	}
	h.counts.published.Add(1)
	return nil
}

// delivery is a publication on its way to the subscribers of this node.
type delivery struct {
	topic  string
	at     Position
	before uint64 // the Seq of the one before it, 0 if nobody knows
	// sent is what is sent: encoded once for all.
	sent *wsd.Prepared
	size int // of its message, in bytes
}

// encode makes a delivery of a publication. Its sent is nil if there is nothing that can be sent.
func (h *Hub) encode(p *Publication) delivery {
	d := delivery{topic: p.Topic, at: p.At, before: p.Before, sent: p.prepared}
	msg := p.Message
	if h.options.Frame != nil {
		msg = h.options.Frame(p.Topic, p.At, msg)
		d.sent = nil
	}
	if d.sent == nil {
		var err error
		if d.sent, err = wsd.Prepare(msg); err != nil {
			h.counts.invalid.Add(1)
			return d
		}
	}
	d.size = len(msg.Data)
	return d
}

// deliver is called by the broker with each publication that somebody here is subscribed to.
func (h *Hub) deliver(p Publication) {
	var room [8]*list
	lists := h.tree.Match(p.Topic, room[:0])
	if len(lists) == 0 {
		return
	}
	var had *already
	if len(lists) > 1 {
		had = alreadyPool.Get().(*already)
		defer had.release()
	}
	var d delivery
	var sum [outcomes]uint64
	for _, l := range lists {
		for s := range l.All() {
			if s.listener != nil {
				s.listener.offer(p)
				continue
			}
			if had.has(s.member) {
				continue
			}
			if d.sent == nil {
				if d = h.encode(&p); d.sent == nil {
					return
				}
			}
			sum[s.member.offer(s, &d)]++
		}
	}
	h.count(&sum)
}

func (h *Hub) count(sum *[outcomes]uint64) {
	for o := queued; o < outcomes; o++ {
		if sum[o] > 0 {
			h.counts.of(o).Add(sum[o])
		}
	}
}

func (c *counts) of(o outcome) *atomic.Uint64 {
	switch o {
	case lost:
		return &c.lost
	case replaced:
		return &c.replaced
	}
	return &c.queued
}

// already is who has had a publication, which matches several subjects.
type already struct{ members map[*Member]struct{} }

var alreadyPool = sync.Pool{New: func() any { return &already{make(map[*Member]struct{})} }}

// has reports whether a member has had it, and notes that it has now.
func (a *already) has(m *Member) bool {
	if a == nil {
		return false
	}
	before := len(a.members)
	a.members[m] = struct{}{}
	return len(a.members) == before
}

func (a *already) release() {
	clear(a.members)
	alreadyPool.Put(a)
}

// Subscribers returns how many members and listeners of this process a publication to a topic would reach.
func (h *Hub) Subscribers(topic string) int {
	if h.options.check(topic, subject.Literal) != nil {
		return 0
	}
	lists := h.tree.Match(topic, nil)
	if len(lists) == 1 {
		return lists[0].Len()
	}
	had, n := already{make(map[*Member]struct{})}, 0
	for _, l := range lists {
		for s := range l.All() {
			if s.listener != nil || !had.has(s.member) {
				n++
			}
		}
	}
	return n
}

// Stats returns the counts so far. It does not block.
func (h *Hub) Stats() Stats {
	subscriptions, subjects := h.tree.Len()
	c := &h.counts
	return Stats{
		Members: int(h.members.Load()), Subjects: subjects, Subscriptions: subscriptions, Waiting: int(c.waiting.Load()),
		Published: c.published.Load(), Queued: c.queued.Load(), Lost: c.lost.Load(), Replaced: c.replaced.Load(),
		Invalid: c.invalid.Load(), Expelled: c.expelled.Load(),
	}
}

// Close ends the hub at once: members leave, and what waits for them is dropped. Their connections stay open: they are the
// program's. Listeners' channels are closed. It waits for the hub's own goroutines, and must not be called from a
// function in Options.
func (h *Hub) Close() error {
	h.closing.Store(true)
	for _, m := range h.all() {
		m.Leave()
	}
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	listeners := make([]*Listener, 0, len(h.listeners))
	for l := range h.listeners {
		listeners = append(listeners, l)
	}
	for _, timer := range []**time.Timer{&h.sweeping, &h.rereading} {
		if *timer != nil && (*timer).Stop() {
			h.working.Done()
		}
		*timer = nil
	}
	h.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	h.awaitLeaves()
	var err error
	if first && h.link != nil {
		err = h.link.Close()
	}
	h.working.Wait()
	return err
}

// awaitLeaves returns once all have left, also those that others are taking away.
func (h *Hub) awaitLeaves() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.joined) > 0 {
		h.forgotten.Wait()
	}
}

// Shutdown is Close once everything that waits for members has been handed to their connections, or ctx is done. Meanwhile
// nothing more is taken. If ctx is done first, the error matches its error.
func (h *Hub) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return wsd.ErrNilContext
	}
	h.closing.Store(true)
	var late error
	for _, m := range h.all() {
		select {
		case <-m.drained():
			continue
		case <-ctx.Done():
			late = fmt.Errorf("wsd: hub shut down before all was sent: %w", done.Canceled("shutdown", ctx))
		}
		break
	}
	if err := h.Close(); err != nil {
		return err
	}
	return late
}

func (h *Hub) all() []*Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	members := make([]*Member, 0, len(h.joined))
	for _, m := range h.joined {
		members = append(members, m)
	}
	return members
}

// watchPatience has a member looked at, whether it is too slow.
func (h *Hub) watchPatience(m *Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.joined[m.conn] != m {
		return
	}
	h.impatient[m] = struct{}{}
	h.sweepLater()
}

func (h *Hub) sweepLater() {
	if h.sweeping == nil {
		h.working.Add(1)
		h.sweeping = time.AfterFunc(max(h.options.Patience/4, time.Millisecond), h.sweep)
	}
}

// sweep runs on the timer: it looks for members whose oldest byte is too old.
func (h *Hub) sweep() {
	defer h.working.Done()
	h.mu.Lock()
	members := make([]*Member, 0, len(h.impatient))
	for m := range h.impatient {
		members = append(members, m)
	}
	h.mu.Unlock()
	now := clock.Now()
	for _, m := range members {
		if oldest, waits := m.oldest(); waits && now-oldest >= h.options.Patience {
			m.expel()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweeping = nil
	if !h.closed && len(h.impatient) > 0 {
		h.sweepLater()
	}
}
