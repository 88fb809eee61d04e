// memory.go is the broker in memory: the default, and the reference for others.

package hub

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/subject"
)

// Memory is a Broker within a process. Hubs that share one behave like the nodes of a cluster. It is safe for concurrent use.
type Memory struct {
	tree     subject.Tree[interested, *interested]
	presence crowd
	logs     sync.Map // of *topicLog, by topic
	appended atomic.Uint64
	history  atomic.Pointer[[]History] // of all nodes, set by the first
}

// NewMemory returns a Memory without nodes.
func NewMemory() *Memory {
	return &Memory{presence: crowd{topics: make(map[string]map[string]*person)}}
}

// interested is a node's subscription.
type interested struct {
	link  *memoryLink
	list  *subject.List[interested, *interested]
	index int32
}

// Index is where the tree keeps its index.
func (i *interested) Index() *int32 { return &i.index }

// memoryLink is a node.
type memoryLink struct {
	broker *Memory
	node   Node
	closed atomic.Bool

	mu   sync.Mutex
	subs map[string]*interested // nil once closed
}

// Attach adds a node.
func (b *Memory) Attach(node Node) (Link, error) {
	if !b.history.CompareAndSwap(nil, &node.History) && !slices.Equal(*b.history.Load(), node.History) {
		return nil, &OptionError{"History", "expected the same for all hubs of one broker"}
	}
	return &memoryLink{broker: b, node: node, subs: make(map[string]*interested)}, nil
}

func (l *memoryLink) Subscribe(s string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.subs == nil:
		return ErrClosed
	case l.subs[s] != nil:
		return ErrSubscribed
	}
	i := &interested{link: l}
	i.list = l.broker.tree.Add(s, i)
	l.subs[s] = i
	return nil
}

func (l *memoryLink) Unsubscribe(s string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.subs[s]; i != nil {
		delete(l.subs, s)
		l.broker.tree.Remove(i.list, i)
	}
	return nil
}

func (l *memoryLink) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.mu.Lock()
	subs := l.subs
	l.subs = nil
	l.mu.Unlock()
	for _, i := range subs {
		l.broker.tree.Remove(i.list, i)
	}
	l.broker.presence.leaveAll(l)
	return nil
}

func (l *memoryLink) Publish(ctx context.Context, p Publication) error {
	if err := l.usable("publish", ctx); err != nil {
		return err
	}
	return l.broker.publish(p)
}

func (l *memoryLink) usable(call string, ctx context.Context) error {
	switch {
	case l.closed.Load():
		return ErrClosed
	case ctx.Err() != nil:
		return done.Canceled(call, ctx)
	}
	return nil
}

func (b *Memory) publish(p Publication) error {
	h := b.historyOf(p.Topic)
	if h == nil {
		b.deliver(p)
		return nil
	}
	for {
		kept, found := b.logs.Load(p.Topic)
		if !found {
			kept, _ = b.logs.LoadOrStore(p.Topic, newTopicLog(h))
		}
		if kept.(*topicLog).publish(p, b.deliver) {
			break
		}
		// It has just been thrown away.
	}
	if b.appended.Add(1)%sweepEvery == 0 {
		b.sweep()
	}
	return nil
}

func (b *Memory) historyOf(topic string) *History {
	return historyOf(*b.history.Load(), topic)
}

// deliver calls the nodes that are subscribed to a topic, each once.
func (b *Memory) deliver(p Publication) {
	var room [8]*subject.List[interested, *interested]
	lists := b.tree.Match(p.Topic, room[:0])
	var nodes [8]*memoryLink
	had := nodes[:0]
	for _, l := range lists {
		for i := range l.All() {
			if len(lists) == 1 {
				i.link.node.Deliver(p)
			} else if !slices.Contains(had, i.link) {
				had = append(had, i.link)
				i.link.node.Deliver(p)
			}
		}
	}
}

// relay delivers publications in the order in which they are decided on, without a lock: whoever comes first delivers for
// all who come meanwhile.
type relay struct {
	mu      sync.Mutex // guards all below, and what a decision is about
	roomy   sync.Cond  // signaled when waiting has been taken; its lock is mu
	waiting []Publication
	busy    bool
}

// relayMost is how many publications may wait to be delivered by another, before publishers wait for that.
const relayMost = 1024

// run delivers what decide returns. decide is called with the lock held, and must not call anything.
func (r *relay) run(decide func() []Publication, deliver func(Publication)) {
	r.mu.Lock()
	if r.roomy.L == nil {
		r.roomy.L = &r.mu
	}
	for len(r.waiting) >= relayMost {
		r.roomy.Wait()
	}
	r.waiting = append(r.waiting, decide()...)
	if r.busy {
		r.mu.Unlock()
		return
	}
	r.busy = true
	defer func() { // also behind a function of the program's that panics
		r.busy = false
		r.mu.Unlock()
	}()
	for len(r.waiting) > 0 {
		batch := r.waiting
		r.waiting = nil
		r.roomy.Broadcast()
		r.deliver(batch, deliver)
	}
}

// deliver delivers without the lock.
func (r *relay) deliver(batch []Publication, deliver func(Publication)) {
	r.mu.Unlock()
	defer r.mu.Lock()
	for _, p := range batch {
		deliver(p)
	}
}

// topicLog is the history of a topic.
type topicLog struct {
	relay  relay // its lock guards all below
	limits *History
	epoch  string
	last   uint64 // the Seq of the newest publication
	gone   uint64 // that of the newest one that is no longer kept
	kept   []logged
	bytes  int  // of those
	over   bool // it has been thrown away
}

type logged struct {
	Publication
	since time.Duration // on clock
}

// sweepEvery is after how many publications with history the logs are looked through for those that hold nothing.
const sweepEvery = 4096

func newTopicLog(h *History) *topicLog { return &topicLog{limits: h, epoch: rand.Text()[:10]} }

// publish adds a publication and has it delivered. It reports false if the log is over.
func (l *topicLog) publish(p Publication, deliver func(Publication)) (added bool) {
	l.relay.run(func() []Publication {
		if l.over {
			return nil
		}
		added = true
		p.Before = l.last
		l.last++
		p.At = Position{l.epoch, l.last}
		l.kept = append(l.kept, logged{p, clock.Now()})
		l.bytes += len(p.Message.Data)
		l.trim()
		return []Publication{p}
	}, deliver)
	return added
}

// trim lets go of what the limits do not keep.
func (l *topicLog) trim() {
	n, now := 0, clock.Now()
	for ; n < len(l.kept); n++ {
		if oldest := &l.kept[n]; len(l.kept)-n <= l.limits.Messages && l.bytes <= l.limits.Bytes && now-oldest.since < l.limits.Age {
			break
		}
		l.bytes -= len(l.kept[n].Message.Data)
		l.gone = l.kept[n].At.Seq
		l.kept[n] = logged{}
	}
	l.kept = l.kept[n:] // append moves what is left, when it is time to
}

// after returns what was published after a position.
func (l *topicLog) after(topic string, at Position, most int) (Page, error) {
	l.relay.mu.Lock()
	defer l.relay.mu.Unlock()
	l.trim()
	if at == (Position{}) {
		at = Position{l.epoch, l.gone}
	}
	if at.Epoch != l.epoch || at.Seq < l.gone || at.Seq > l.last {
		return Page{}, &Gap{topic, at, Position{l.epoch, l.gone}}
	}
	first := sort.Search(len(l.kept), func(i int) bool { return l.kept[i].At.Seq > at.Seq })
	found := l.kept[first:]
	page := Page{More: len(found) > most}
	for _, k := range found[:min(most, len(found))] {
		page.Publications = append(page.Publications, k.Publication)
	}
	return page, nil
}

// expire throws the log away if it holds nothing, and reports whether it did.
func (l *topicLog) expire() bool {
	l.relay.mu.Lock()
	defer l.relay.mu.Unlock()
	l.trim()
	l.over = len(l.kept) == 0 && !l.relay.busy && len(l.relay.waiting) == 0
	return l.over
}

// sweep throws away the logs that hold nothing.
func (b *Memory) sweep() {
	b.logs.Range(func(topic, log any) bool {
		if log.(*topicLog).expire() {
			b.logs.CompareAndDelete(topic, log)
		}
		return true
	})
}

func (l *memoryLink) History(ctx context.Context, topic string, after Position, most int) (Page, error) {
	if err := l.usable("history", ctx); err != nil {
		return Page{}, err
	}
	b := l.broker
	h := b.historyOf(topic)
	if h == nil {
		return Page{}, ErrNoHistory
	}
	log, found := b.logs.Load(topic)
	if !found && after == (Position{}) {
		return Page{}, nil
	}
	if !found {
		// A log without publications has an epoch that a subscriber can begin with.
		log, _ = b.logs.LoadOrStore(topic, newTopicLog(h))
	}
	return log.(*topicLog).after(topic, after, max(most, 1))
}

// crowd is who is at which topic.
type crowd struct {
	relay  relay // its lock guards topics
	topics map[string]map[string]*person
}

// person is one member at a topic.
type person struct {
	value string
	nodes map[*memoryLink]struct{} // where its connections are
}

func (l *memoryLink) Enter(topic, id, value string) error {
	if l.closed.Load() {
		return ErrClosed
	}
	c := &l.broker.presence
	c.relay.run(func() []Publication { return c.enter(l, topic, id, value) }, l.broker.tellOf)
	return nil
}

func (c *crowd) enter(l *memoryLink, topic, id, value string) []Publication {
	here := c.topics[topic]
	if here == nil {
		here = make(map[string]*person)
		c.topics[topic] = here
	}
	event := ""
	p := here[id]
	switch {
	case p == nil:
		p, event = &person{nodes: make(map[*memoryLink]struct{})}, "join"
		here[id] = p
	case p.value != value:
		event = "update"
	}
	p.value = value
	p.nodes[l] = struct{}{}
	return presenceEvents(event, topic, id, value)
}

func (l *memoryLink) Leave(topic, id string) error {
	c := &l.broker.presence
	c.relay.run(func() []Publication { return c.leave(l, topic, id) }, l.broker.tellOf)
	return nil
}

func (c *crowd) leave(l *memoryLink, topic, id string) []Publication {
	p := c.topics[topic][id]
	if p == nil {
		return nil
	}
	if _, there := p.nodes[l]; !there {
		return nil
	}
	if delete(p.nodes, l); len(p.nodes) > 0 {
		return nil
	}
	if delete(c.topics[topic], id); len(c.topics[topic]) == 0 {
		delete(c.topics, topic)
	}
	return presenceEvents("leave", topic, id, p.value)
}

func (c *crowd) leaveAll(l *memoryLink) {
	c.relay.run(func() (events []Publication) {
		for topic, here := range c.topics {
			for id := range here {
				events = append(events, c.leave(l, topic, id)...)
			}
		}
		return events
	}, l.broker.tellOf)
}

// presenceEvents returns the publication of an event, and none if there was no event.
func presenceEvents(event, topic, id, value string) []Publication {
	if event == "" {
		return nil
	}
	data, err := json.Marshal(PresenceEvent{event, Presence{id, value}})
	if err != nil {
		panic(fmt.Sprintf("wsd: strings always have a JSON form: %v", err))
	}
	return []Publication{{Topic: "presence." + topic, Message: wsd.Message{Type: wsd.TextMessage, Data: data}}}
}

func (b *Memory) tellOf(p Publication) { _ = b.publish(p) }

func (l *memoryLink) Presence(ctx context.Context, topic string) ([]Presence, error) {
	if err := l.usable("presence", ctx); err != nil {
		return nil, err
	}
	return l.broker.presence.at(topic), nil
}

// at returns who is at a topic, by id.
func (c *crowd) at(topic string) []Presence {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	list := make([]Presence, 0, len(c.topics[topic]))
	for id, p := range c.topics[topic] {
		list = append(list, Presence{id, p.value})
	}
	slices.SortFunc(list, func(a, b Presence) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
