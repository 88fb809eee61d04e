// presence.go is who is at a topic.

package hub

import (
	"context"
	"sync"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/subject"
)

// maxPresence is the maximum length of a presence's value, in bytes.
const maxPresence = 1 << 10

// presenceKey is somebody at a topic.
type presenceKey struct{ topic, id string }

// presenceValues is what the members with the same id tell of themselves. The zero value is empty.
type presenceValues struct {
	mu sync.Mutex
	of map[string]*presenceValue
}

type presenceValue struct {
	members int
	value   string
}

// add counts a member, and remove takes one away.
func (v *presenceValues) add(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of == nil {
		v.of = make(map[string]*presenceValue)
	}
	if v.of[id] == nil {
		v.of[id] = new(presenceValue)
	}
	v.of[id].members++
}

func (v *presenceValues) remove(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.of[id]; e != nil {
		if e.members--; e.members == 0 {
			delete(v.of, id)
		}
	}
}

func (v *presenceValues) set(id, value string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.of[id]; e != nil {
		e.value = value
	}
}

func (v *presenceValues) get(id string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.of[id]; e != nil {
		return e.value
	}
	return ""
}

func (h *Hub) enterTopic(k presenceKey) error { return h.link.Enter(k.topic, k.id, h.values.get(k.id)) }
func (h *Hub) leaveTopic(k presenceKey) error { return h.link.Leave(k.topic, k.id) }

// Presence returns who is subscribed to a topic with presence, literally, on all nodes, by id. Several connections with one id
// are one. Joins and leaves come to presence.TOPIC as messages, each a PresenceEvent.
func (h *Hub) Presence(ctx context.Context, topic string) ([]Presence, error) {
	if ctx == nil {
		return nil, wsd.ErrNilContext
	}
	if err := h.usable(); err != nil {
		return nil, err
	}
	if err := h.options.check(topic, subject.Literal); err != nil {
		return nil, err
	}
	if !h.options.hasPresence(topic) {
		return nil, ErrNoPresence
	}
	return h.link.Presence(ctx, topic)
}

// SetPresence sets the value that Presence lists for the member's id, up to 1 KiB. It is the same for all connections with
// that id in this process, at all topics.
func (m *Member) SetPresence(value string) error {
	if err := m.hub.usable(); err != nil {
		return err
	}
	if len(value) > maxPresence {
		return &LimitError{"presence value", maxPresence}
	}
	m.hub.values.set(m.id, value)
	for _, topic := range m.Topics() {
		if !m.shows(topic) {
			continue
		}
		if err := m.hub.present.again(presenceKey{topic, m.id}); err != nil {
			return err
		}
	}
	return nil
}

// shows reports whether a subscription makes the member present.
func (m *Member) shows(topic string) bool {
	return m.id != "" && !subject.HasWildcard(topic) && m.hub.options.hasPresence(topic)
}

// want has the broker deliver a subject, and know of the member's presence there.
func (m *Member) want(topic string) error {
	if err := m.hub.interest.want(topic); err != nil {
		return err
	}
	if !m.shows(topic) {
		return nil
	}
	if err := m.hub.present.want(presenceKey{topic, m.id}); err != nil {
		m.hub.interest.unwant(topic)
		return err
	}
	return nil
}

// unwant is the opposite of want.
func (m *Member) unwant(topic string) {
	m.hub.interest.unwant(topic)
	if m.shows(topic) {
		m.hub.present.unwant(presenceKey{topic, m.id})
	}
}
