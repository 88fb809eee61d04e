// roster.go is who is at which topic on all nodes: each tells the others of its own part.

package natsbroker

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/clock"
)

// roster is the presence as one node knows it.
type roster struct {
	self     uint64
	crowds   sync.Map      // of *crowd, by topic; read without a lock
	happened chan struct{} // has room for one; there are events

	mu      sync.Mutex // guards all below, and what is put into crowds
	parts   map[uint64]*part
	clock   uint64 // the newest time of a value, in nanoseconds
	seats   int
	states  uint64   // how many have been told
	changes []change // of this node, that the others have not been told of
	events  []hub.Publication
}

// part is what one node has told of.
type part struct {
	version uint64
	known   bool // the rest is what it is at that version
	entries map[entry]held
	coming  map[entry]held // a state that has come in part, nil if none has
	token   uint64         // of that
	parts   int            // of it that have come
	asked   time.Duration  // when the node was asked for its state, on clock
}

// entry is somebody at a topic.
type entry struct{ topic, id string }

// held is what a node tells of an entry.
type held struct {
	value string
	stamp uint64
}

func newRoster(self uint64) *roster {
	r := &roster{self: self, happened: make(chan struct{}, 1), parts: make(map[uint64]*part)}
	r.parts[self] = &part{known: true, entries: make(map[entry]held)}
	return r
}

// at returns who is at a topic, by id.
func (r *roster) at(topic string) []hub.Presence {
	if c, found := r.crowds.Load(topic); found {
		return c.(*crowd).list()
	}
	return []hub.Presence{}
}

// len returns how many entries there are.
func (r *roster) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seats
}

// version returns that of this node's part, as the others have been told.
func (r *roster) version() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[r.self].version
}

// change changes this node's part.
func (r *roster) change(c change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.parts[r.self].entries
	before, there := mine[entry{c.Topic, c.ID}]
	if c.Gone && !there || !c.Gone && there && before.value == c.Value {
		return
	}
	r.clock = max(r.clock+1, uint64(time.Now().UnixNano()))
	c.Stamp = r.clock
	r.apply(r.self, c)
	r.changes = append(r.changes, c)
}

// changesMost and stateMost bound a word.
const (
	changesMost = 500
	stateMost   = 2000
)

// takeChanges returns the word that tells of what has changed, nil if nothing has.
func (r *roster) takeChanges() *word {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.changes), changesMost)
	if n == 0 {
		return nil
	}
	mine := r.parts[r.self]
	mine.version++
	w := &word{Kind: delta, Version: mine.version, Changes: slices.Clone(r.changes[:n])}
	if r.changes = r.changes[n:]; len(r.changes) == 0 {
		r.changes = nil
	}
	return w
}

// state returns the words that tell of this node's whole part.
func (r *roster) state() (words []*word) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.parts[r.self]
	r.states++
	w := &word{Kind: state, Version: mine.version, Token: r.states}
	for e, h := range mine.entries {
		if len(w.Changes) == stateMost {
			w.More = true
			words = append(words, w)
			w = &word{Kind: state, Version: mine.version, Token: r.states, Part: len(words)}
		}
		w.Changes = append(w.Changes, change{Topic: e.topic, ID: e.id, Value: h.value, Stamp: h.stamp})
	}
	return append(words, w)
}

// hear takes another node's word, and reports whether that node is to be asked for its state.
func (r *roster) hear(w *word) (ask bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.parts[w.From]
	if p == nil {
		p = &part{entries: make(map[entry]held)}
		p.asked = clock.Now() - askAgain
		r.parts[w.From] = p
	}
	switch {
	case w.Kind == state:
		r.takeState(w, p)
		return false
	case w.Kind == delta && p.known && w.Version == p.version+1:
		p.version = w.Version
		for _, c := range w.Changes {
			r.apply(w.From, c)
		}
		return false
	case w.Version == 0:
		p.known = true // it has nothing yet
	}
	if p.known && w.Version == p.version || clock.Now()-p.asked < askAgain {
		return false
	}
	p.asked = clock.Now()
	return true
}

// askAgain is how long an answer may take until a node is asked again.
const askAgain = 100 * time.Millisecond

// takeState makes a node's part what it says, once all of that has come. Where something is lost, the next beat has it asked for
// again.
func (r *roster) takeState(w *word, p *part) {
	if w.Part == 0 {
		p.coming, p.token, p.parts = make(map[entry]held), w.Token, 0
	}
	if p.coming == nil || w.Token != p.token || w.Part != p.parts {
		p.coming = nil
		return
	}
	p.parts++
	for _, c := range w.Changes {
		p.coming[entry{c.Topic, c.ID}] = held{c.Value, c.Stamp}
	}
	if w.More {
		return
	}
	for e := range p.entries {
		if _, still := p.coming[e]; !still {
			r.apply(w.From, change{Topic: e.topic, ID: e.id, Gone: true})
		}
	}
	for e, h := range p.coming {
		r.apply(w.From, change{Topic: e.topic, ID: e.id, Value: h.value, Stamp: h.stamp})
	}
	p.coming, p.known, p.version = nil, true, w.Version
}

// forget takes a node's part away.
func (r *roster) forget(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.parts[id]
	if p == nil {
		return
	}
	for e := range p.entries {
		r.apply(id, change{Topic: e.topic, ID: e.id, Gone: true})
	}
	delete(r.parts, id)
}

// apply changes a node's part and the crowd. Its callers hold mu.
func (r *roster) apply(node uint64, c change) {
	r.clock = max(r.clock, c.Stamp)
	p, e := r.parts[node], entry{c.Topic, c.ID}
	if c.Gone {
		if _, there := p.entries[e]; there {
			delete(p.entries, e)
			r.leave(node, e)
		}
		return
	}
	p.entries[e] = held{c.Value, c.Stamp}
	r.enter(node, c)
}

func (r *roster) enter(node uint64, c change) {
	found, had := r.crowds.Load(c.Topic)
	if !had {
		found = new(crowd)
		r.crowds.Store(c.Topic, found)
	}
	here := found.(*crowd)
	event := "join"
	s := here.find(c.ID)
	next := seat{id: c.ID, value: c.Value, stamp: c.Stamp, nodes: []uint64{node}}
	if s != nil {
		event = ""
		next.nodes = s.nodes
		if !slices.Contains(s.nodes, node) {
			next.nodes = append(slices.Clip(s.nodes), node)
		}
		switch {
		case c.Stamp < s.stamp || c.Stamp == s.stamp && c.Value <= s.value:
			next.value, next.stamp = s.value, s.stamp
		case c.Value != s.value:
			event = "update"
		}
	} else {
		r.seats++
	}
	here.put(&next)
	// Whoever is left in the end has the value that was set last.
	mine := r.parts[r.self].entries
	if _, there := mine[entry{c.Topic, c.ID}]; there {
		mine[entry{c.Topic, c.ID}] = held{next.value, next.stamp}
	}
	r.tell(event, c.Topic, next.id, next.value)
}

func (r *roster) leave(node uint64, e entry) {
	found, had := r.crowds.Load(e.topic)
	if !had {
		return
	}
	here := found.(*crowd)
	s := here.find(e.id)
	if s == nil {
		return
	}
	next := *s
	next.nodes = slices.DeleteFunc(slices.Clone(s.nodes), func(n uint64) bool { return n == node })
	if len(next.nodes) > 0 {
		here.put(&next)
		return
	}
	r.seats--
	if here.remove(e.id) {
		r.crowds.Delete(e.topic)
	}
	r.tell("leave", e.topic, s.id, s.value)
}

// tell notes an event, which the link delivers.
func (r *roster) tell(event, topic, id, value string) {
	if event == "" {
		return
	}
	data, err := json.Marshal(hub.PresenceEvent{Event: event, Presence: hub.Presence{ID: id, Value: value}})
	if err != nil {
		panic(fmt.Sprintf("wsd: strings always have a JSON form: %v", err))
	}
	r.events = append(r.events, hub.Publication{Topic: "presence." + topic, Message: wsd.Message{Type: wsd.TextMessage, Data: data}})
	select {
	case r.happened <- struct{}{}:
	default:
	}
}

func (r *roster) takeEvents() []hub.Publication {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}
