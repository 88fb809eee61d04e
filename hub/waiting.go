// waiting.go is what waits for a member whose connection has no room, and how it gets there when it has.

package hub

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/clock"
)

// outcome is what became of a message for a member.
type outcome uint8

const (
	none     outcome = iota // it is not for this member, or comes from history
	queued                  // by the connection, or it waits
	replaced                // it has taken the place of an older one
	lost
	outcomes // how many there are
)

// itemOverhead is what a message that waits takes besides its bytes, about.
const itemOverhead = 64

// item is a message that waits.
type item struct {
	next   *item
	sub    *subscription
	topic  string
	sent   *wsd.Prepared // nil if it has been lost since
	size   int           // in bytes, with itemOverhead
	since  time.Duration // on clock
	latest bool          // it is among waiting.latest
	// unheard has the losses that the program is to be told of before this message is queued.
	unheard []loss
}

// loss is n messages of a subscription.
type loss struct {
	subject string
	n       int
}

// waiting is a line of messages. The member's lock guards it.
type waiting struct {
	first, last *item
	size        int              // in bytes
	total       *atomic.Int64    // the sum of the sizes of all members
	latest      map[string]*item // those under Latest, by topic; nil before the first
}

func (w *waiting) empty() bool { return w.first == nil }

func (w *waiting) clear() {
	w.grow(-w.size)
	*w = waiting{total: w.total}
}

func (w *waiting) grow(n int) {
	w.size += n
	w.total.Add(int64(n))
}

func (w *waiting) push(i *item) {
	if w.last == nil {
		w.first = i
	} else {
		w.last.next = i
	}
	w.last = i
	w.grow(i.size)
	if i.latest {
		if w.latest == nil {
			w.latest = make(map[string]*item)
		}
		w.latest[i.topic] = i
	}
}

// pop removes the first.
func (w *waiting) pop() {
	i := w.first
	w.first = i.next
	if w.first == nil {
		w.last = nil
	}
	w.grow(-i.size)
	if i.latest {
		delete(w.latest, i.topic)
	}
}

// offer is called with each message for a subscription of this member. It does not wait.
func (m *Member) offer(s *subscription, d *delivery) outcome {
	if s.past == nil && m.direct.Load() {
		if err := m.conn.TrySendPrepared(d.sent); err == nil {
			return queued
		}
	}
	m.mu.Lock()
	defer m.unlock()
	if m.left {
		return none
	}
	if s.past != nil {
		switch wanted, missed := s.past.expects(d.at, d.before); {
		case missed:
			m.missed(s, d.at)
			return none
		case !wanted:
			return none
		}
	}
	return m.queue(s, d)
}

// queue hands a message to the connection, or has it wait.
func (m *Member) queue(s *subscription, d *delivery) outcome {
	if m.nothingAhead() {
		switch err := m.conn.TrySendPrepared(d.sent); {
		case err == nil:
			s.past.reached(d.at)
			return queued
		case !errors.Is(err, wsd.ErrQueueFull):
			return none // the connection has ended
		}
	}
	return m.wait(s, d)
}

// wait has a message wait for room.
func (m *Member) wait(s *subscription, d *delivery) outcome {
	size := d.size + itemOverhead
	if s.policy == Latest {
		if older := m.waiting.latest[d.topic]; older != nil {
			s.past.reached(d.at)
			return m.replace(older, s, d, size)
		}
	}
	if m.waiting.size > 0 && m.waiting.size+size > m.hub.options.Backlog {
		if s.past != nil && s.policy != Latest {
			m.fallBehind(s, d.at)
			return none
		}
		s.past.reached(d.at)
		m.lose(s, 1)
		return lost
	}
	if m.waiting.empty() && !m.pumping {
		m.conn.NotifyRoom(m.onRoom)
	}
	i := &item{sub: s, topic: d.topic, sent: d.sent, size: size, since: clock.Now(), latest: s.policy == Latest}
	if len(m.unheard) > 0 {
		i.unheard = m.takeUnheard()
	}
	m.waiting.push(i)
	s.past.reached(d.at)
	return queued
}

// replace puts a newer message of a topic in the place of one that waits.
func (m *Member) replace(older *item, s *subscription, d *delivery, size int) outcome {
	w := &m.waiting
	if w.size-older.size+size > m.hub.options.Backlog && w.size > older.size {
		// What is newest finds no room, and what is older is worth nothing.
		w.grow(-older.size)
		older.size, older.sent, older.latest = 0, nil, false
		delete(w.latest, d.topic)
		m.lose(s, 1)
		return lost
	}
	w.grow(size - older.size)
	older.sent, older.size = d.sent, size
	return replaced
}

// lose counts messages that a member does not get.
func (m *Member) lose(s *subscription, n int) {
	m.lost.Add(uint64(n))
	if m.hub.options.Lost == nil {
		return
	}
	if s.unheard == 0 {
		m.unheard = append(m.unheard, s)
	}
	s.unheard += int32(n)
}

// takeUnheard returns the losses that the program has not been told of.
func (m *Member) takeUnheard() []loss {
	losses := make([]loss, 0, len(m.unheard))
	for _, s := range m.unheard {
		losses = append(losses, loss{s.subject(), int(s.unheard)})
		s.unheard = 0
	}
	m.unheard = m.unheard[:0]
	return losses
}

// tell tells the program of losses. The lock is not held meanwhile, while m.pumping keeps others from going ahead.
func (m *Member) tell(losses []loss) {
	m.unlock()
	defer m.mu.Lock()
	for _, l := range losses {
		m.hub.options.Lost(m, l.subject, l.n)
	}
}

// pump moves what waits to the connection, as far as there is room. The connection calls it.
func (m *Member) pump() {
	m.mu.Lock()
	defer m.unlock()
	if m.pumping {
		return
	}
	m.pumping = true
	m.move()
	m.pumping = false
	if m.left {
		return
	}
	if !m.waiting.empty() {
		m.conn.NotifyRoom(m.onRoom)
	}
	m.readOn()
	if m.waiting.empty() && len(m.behind) == 0 {
		m.signalEmpty()
	}
}

func (m *Member) move() {
	for !m.left {
		i := m.waiting.first
		switch {
		case i == nil && len(m.unheard) == 0:
			return
		case i == nil:
			m.tell(m.takeUnheard())
			continue
		case len(i.unheard) > 0:
			losses := i.unheard
			i.unheard = nil
			m.tell(losses)
			continue
		}
		if i.sent != nil {
			err := m.conn.TrySendPrepared(i.sent)
			if errors.Is(err, wsd.ErrQueueFull) {
				return
			}
		}
		m.waiting.pop()
	}
}

// drained returns a channel that is closed when nothing waits any more, or the member has left.
func (m *Member) drained() <-chan struct{} {
	m.mu.Lock()
	defer m.unlock()
	if m.empty == nil {
		m.empty = make(chan struct{})
	}
	empty := m.empty
	if m.left || m.waiting.empty() && len(m.behind) == 0 && !m.pumping {
		m.signalEmpty()
	}
	return empty
}

func (m *Member) signalEmpty() {
	if m.empty != nil {
		close(m.empty)
		m.empty = nil
	}
}
