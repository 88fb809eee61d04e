// history.go is how a subscription goes on from a position: from history as far as it reaches, then from what is live.

package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/subject"
)

// historyPage is how many publications are read from history at a time.
const historyPage = 64

// past is how far a subscription to a topic with history has come. Publications that are live while it is behind are not
// queued, since they are in the history too.
type past struct {
	at     Position // of the last one that was queued
	seen   Position // of the last one that came while behind
	behind bool
	whole  bool // the zero position, before the first one has come, is one to go on from
	listed bool // among the member's behind
	over   bool // the subscription has ended
}

// expects reports whether a publication that comes live is to be queued, and whether one before it has not come.
func (p *past) expects(at Position, before uint64) (wanted, missed bool) {
	switch {
	case at.Seq == 0:
		return true, false
	case p.behind:
		p.seen = at
		return false, false
	case p.at == Position{}:
		return true, p.whole && before > 0
	case at.Epoch != p.at.Epoch:
		return true, false
	}
	return at.Seq > p.at.Seq, before > p.at.Seq
}

// missed has a subscription go on from history, as something has not come.
func (m *Member) missed(s *subscription, at Position) {
	s.past.seen, s.past.behind = at, true
	m.list(s)
	m.readOn()
}

// reached notes that a publication has been queued, or lost. p may be nil.
func (p *past) reached(at Position) {
	if p != nil && at.Seq != 0 {
		p.at = at
	}
}

// caughtUp reports whether what comes next will come live, since nothing has come that was not queued.
func (p *past) caughtUp() bool {
	return p.seen == Position{} || p.seen.Epoch == p.at.Epoch && p.seen.Seq <= p.at.Seq
}

// History returns what was published to a topic after a position, in order, up to about as many publications as most says.
// The zero Position asks for all there is. The error is a *Gap if some of it is gone.
func (h *Hub) History(ctx context.Context, topic string, after Position, most int) (Page, error) {
	if ctx == nil {
		return Page{}, wsd.ErrNilContext
	}
	if err := h.usable(); err != nil {
		return Page{}, err
	}
	if err := h.hasHistory(topic); err != nil {
		return Page{}, err
	}
	return h.link.History(ctx, topic, after, most)
}

func (h *Hub) hasHistory(topic string) error {
	if err := h.options.check(topic, subject.Literal); err != nil {
		return err
	}
	if historyOf(h.options.History, topic) == nil {
		return ErrNoHistory
	}
	return nil
}

// SubscribeFrom subscribes the member to a topic with history: what was published after a position is sent, and then what is
// live, in order, without a gap or a double, however slowly the member reads; nothing more than usual waits for it. The zero
// Position asks for all there is. If some is gone, the error is a *Gap, and the member is not subscribed. If the member
// later reads so slowly that history is gone before it was read, what is gone counts as lost.
func (m *Member) SubscribeFrom(topic string, from Position) error {
	if err := m.allowed(topic, subject.Literal); err != nil {
		return err
	}
	if err := m.hub.hasHistory(topic); err != nil {
		return err
	}
	if _, err := m.add(topic, 0, &from); err != nil {
		return err
	}
	// Subscribed first: what is published from now on is either in the history or comes live.
	page, err := m.hub.link.History(m.conn.Context(), topic, from, historyPage)
	if err != nil {
		_ = m.Unsubscribe(topic)
		return err
	}
	if s := m.subscriptionTo(topic); s != nil {
		m.accept(s, page)
	}
	return nil
}

func (m *Member) subscriptionTo(topic string) *subscription {
	m.mu.Lock()
	defer m.unlock()
	if i, found := m.find(topic); found {
		return m.subs[i]
	}
	return nil
}

// fallBehind has a subscription go on from history, as there is no room for a publication.
func (m *Member) fallBehind(s *subscription, at Position) {
	p := s.past
	if p.at.Epoch != at.Epoch {
		p.at = Position{at.Epoch, at.Seq - 1}
	}
	p.seen, p.behind = at, true
	m.list(s)
}

func (m *Member) list(s *subscription) {
	if !s.past.listed {
		s.past.listed = true
		m.behind = append(m.behind, s)
	}
}

// readOn starts to read for those who are behind, if there is room for what is read.
func (m *Member) readOn() {
	if len(m.behind) > 0 && !m.reading && !m.left && m.roomy() {
		m.reading = true
		m.hub.working.Go(m.read)
	}
}

// roomy reports whether it is worth while to read from history.
func (m *Member) roomy() bool { return m.waiting.size <= m.hub.options.Backlog/2 }

// read is a goroutine that lives until nobody is behind, or there is no more room.
func (m *Member) read() {
	for {
		s, after := m.nextBehind()
		if s == nil {
			return
		}
		page, err := m.hub.link.History(m.conn.Context(), s.subject(), after, historyPage)
		var gap *Gap
		switch {
		case errors.As(err, &gap):
			m.skip(s, gap)
		case err != nil:
			m.stopReading(false)
			m.hub.readLater()
			return
		case !m.accept(s, page):
			m.stopReading(true)
			return
		}
	}
}

// nextBehind returns who is to be read for, nil if reading ends.
func (m *Member) nextBehind() (s *subscription, after Position) {
	m.mu.Lock()
	defer m.unlock()
	for len(m.behind) > 0 && m.behind[0].past.over {
		m.behind = slices.Delete(m.behind, 0, 1)
	}
	if len(m.behind) == 0 || m.left || !m.roomy() {
		m.reading = false
		if m.waiting.empty() && len(m.behind) == 0 {
			m.signalEmpty()
		}
		return nil, Position{}
	}
	s = m.behind[0]
	return s, s.past.at
}

// stopReading ends reading until there is room: pump then reads on, unless all has gone in this moment.
func (m *Member) stopReading(goOn bool) {
	m.mu.Lock()
	defer m.unlock()
	m.reading = false
	if goOn && m.waiting.empty() {
		m.readOn()
	}
}

// skip goes on behind what is gone.
func (m *Member) skip(s *subscription, gap *Gap) {
	m.mu.Lock()
	defer m.unlock()
	if s.past.over {
		return
	}
	n := uint64(1) // at least, as nobody knows
	if gap.First.Epoch == s.past.at.Epoch && gap.First.Seq > s.past.at.Seq {
		n = gap.First.Seq - s.past.at.Seq
	}
	s.past.at = gap.First
	if s.past.seen.Epoch != gap.First.Epoch {
		s.past.seen = gap.First
	}
	m.lose(s, int(n))
	m.hub.counts.lost.Add(n)
	if len(m.unheard) > 0 && m.waiting.empty() && !m.pumping {
		m.conn.NotifyRoom(m.onRoom) // to tell of it
	}
}

// accept queues what was read, and lets the subscription go live once it has all. It reports false if there was no room for
// all.
func (m *Member) accept(s *subscription, page Page) (room bool) {
	deliveries := make([]delivery, 0, len(page.Publications))
	for i := range page.Publications {
		deliveries = append(deliveries, m.hub.encode(&page.Publications[i]))
	}
	var sum [outcomes]uint64
	defer m.hub.count(&sum)
	m.mu.Lock()
	defer m.unlock()
	p := s.past
	for i := range deliveries {
		d := &deliveries[i]
		size := d.size + itemOverhead
		switch {
		case m.left || p.over:
			return true
		case d.at.Epoch == p.at.Epoch && d.at.Seq <= p.at.Seq:
			// Read by somebody else too, since the broker had come back meanwhile.
		case d.sent == nil:
			p.reached(d.at)
		case m.waiting.size > 0 && m.waiting.size+size > m.hub.options.Backlog:
			m.list(s) // pump reads on once there is room
			return false
		default:
			sum[m.queue(s, d)]++
		}
	}
	if page.More || !p.caughtUp() {
		m.list(s)
		m.readOn()
		return true
	}
	p.behind, p.seen = false, Position{}
	if p.listed {
		p.listed = false
		m.behind = slices.DeleteFunc(m.behind, func(other *subscription) bool { return other == s })
	}
	return true
}

// resumed is called by the broker when publications may have been missed.
func (h *Hub) resumed() {
	for _, m := range h.all() {
		m.catchUp()
	}
}

// catchUp has all subscriptions with history read what they may have missed.
func (m *Member) catchUp() {
	m.mu.Lock()
	defer m.unlock()
	for _, s := range m.subs {
		if s.past != nil && (s.past.whole || s.past.at != Position{}) {
			s.past.behind = true
			m.list(s)
		}
	}
	m.readOn()
}

// readAgain is after how long somebody reads again who could not, as the broker was away.
const readAgain = time.Second

// readLater has all who are behind read on after a while. The broker tells of its return too, which may be sooner, or have been
// just before somebody failed to read.
func (h *Hub) readLater() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rereading == nil && !h.closed {
		h.working.Add(1)
		h.rereading = time.AfterFunc(readAgain, h.reread)
	}
}

// reread runs on the timer.
func (h *Hub) reread() {
	defer h.working.Done()
	h.mu.Lock()
	h.rereading = nil
	h.mu.Unlock()
	for _, m := range h.all() {
		m.goOn()
	}
}

func (m *Member) goOn() {
	m.mu.Lock()
	defer m.unlock()
	m.readOn()
}
