// link.go is a hub's end of the broker: what it publishes, and what it is subscribed to.

package natsbroker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/subject"
)

// link is a node with a connection of its own to a server.
type link struct {
	broker  *Broker
	node    hub.Node
	id      uint64 // another one each time
	names   names
	nc      *nats.Conn
	gate    *gate
	counts  counts
	number  atomic.Uint64 // of publications
	passing atomic.Uint64 // how many of them had no history
	tree    subject.Tree[interest, *interest]

	histories *histories
	roster    *roster
	peers     *peers
	rounds    rounds
	words     chan *nats.Msg // from other nodes
	resume    chan struct{}  // has room for one; the hub may have missed something

	closed  atomic.Bool
	ctx     context.Context // done by Close
	cancel  context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex // guards all below
	subs    map[string]*interest
	dropped []string // subjects that have been unsubscribed from, for the dispatcher
}

// interest is a subscription.
type interest struct {
	list  *subject.List[interest, *interest]
	sub   *nats.Subscription
	index int32
}

// Index is where the tree keeps its index.
func (i *interest) Index() *int32 { return &i.index }

func newLink(b *Broker, node hub.Node) (*link, error) {
	l := &link{
		broker: b, node: node, names: names{b.options.Prefix}, gate: newGate(make(chan *nats.Msg, arriving)),
		words: make(chan *nats.Msg, arriving), resume: make(chan struct{}, 1), subs: make(map[string]*interest),
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	l.id = binary.BigEndian.Uint64(id[:])
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.roster = newRoster(l.id)
	l.peers = newPeers(l)
	var err error
	if l.histories, err = newHistories(l); err != nil {
		return nil, err
	}
	if err := b.agrees(l.histories.digest); err != nil {
		return nil, err
	}
	if l.nc, err = b.dial(l.gate, nats.ReconnectHandler(l.reconnected), nats.ErrorHandler(l.failed)); err != nil {
		return nil, fmt.Errorf("wsd: connecting to NATS: %w", err)
	}
	if err := l.start(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// start begins to take part.
func (l *link) start() error {
	for _, s := range []string{l.names.everybody(), l.names.node(l.id)} {
		if _, err := l.nc.ChanSubscribe(s, l.words); err != nil {
			return fmt.Errorf("wsd: subscribing to %s: %w", s, err)
		}
	}
	if _, err := l.nc.Subscribe(l.names.barrier(), l.answerPing); err != nil {
		return fmt.Errorf("wsd: subscribing to %s: %w", l.names.barrier(), err)
	}
	if err := l.nc.FlushTimeout(l.broker.options.Timeout); err != nil {
		return fmt.Errorf("wsd: subscribing to words of other nodes: %w", err)
	}
	l.working.Go(l.dispatch)
	l.working.Go(l.peers.run)
	l.working.Go(l.tellPresence)
	l.working.Go(l.resumeHub)
	if err := l.peers.meet(); err != nil {
		return err
	}
	return l.histories.begin()
}

// Close takes leave.
func (l *link) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	if l.nc.IsConnected() {
		l.say(l.names.everybody(), &word{Kind: bye})
		_ = l.nc.FlushTimeout(l.broker.options.Dead / beats)
	}
	l.cancel()
	l.gate.shut()
	l.nc.Close()
	l.working.Wait()
	l.mu.Lock()
	subs := l.subs
	l.subs = nil
	l.mu.Unlock()
	for _, i := range subs {
		l.tree.Remove(i.list, i)
	}
	l.broker.forget(l)
	return nil
}

func (l *link) usable(call string, ctx context.Context) error {
	switch {
	case l.closed.Load():
		return hub.ErrClosed
	case ctx.Err() != nil:
		return done.Canceled(call, ctx)
	}
	return nil
}

// Publish publishes here and to the other nodes.
func (l *link) Publish(ctx context.Context, p hub.Publication) error {
	if err := l.usable("publish", ctx); err != nil {
		return err
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	number := l.number.Add(1)
	*buffer = pack((*buffer)[:0], l.id, number, &p.Message)
	if most := l.nc.MaxPayload(); most > 0 && int64(len(*buffer)) > most {
		return fmt.Errorf("wsd: publish: expected at most %d bytes, which is what the server of NATS takes, got %d", most, len(*buffer))
	}
	if s := l.histories.of(p.Topic); s != nil {
		if err := l.store(ctx, s, &p, number, *buffer); err != nil {
			l.counts.failed.Add(1)
			return err
		}
		l.counts.sent.Add(1)
		return nil
	}
	l.passing.Add(1)
	l.deliverHere(p)
	switch err := l.nc.Publish(l.names.live(p.Topic), *buffer); {
	case errors.Is(err, nats.ErrConnectionClosed):
		return hub.ErrClosed
	case err != nil: // there is no server, and no more room for what waits for one
		l.counts.unreached.Add(1)
	default:
		l.counts.sent.Add(1)
	}
	return nil
}

// wanted reports whether the hub is subscribed to a topic.
func (l *link) wanted(topic string) bool {
	var room [4]*subject.List[interest, *interest]
	for _, list := range l.tree.Match(topic, room[:0]) {
		if list.Len() > 0 {
			return true
		}
	}
	return false
}

func (l *link) deliverHere(p hub.Publication) {
	if l.wanted(p.Topic) {
		l.node.Deliver(p)
	}
}

// Subscribe returns once the other nodes that can be reached know of it.
func (l *link) Subscribe(s string) error {
	i := new(interest)
	if err := l.note(s, i); err != nil {
		return err
	}
	sub, err := l.nc.ChanSubscribe(l.names.live(s), l.gate.waiting)
	if err != nil {
		l.take(s)
		if errors.Is(err, nats.ErrConnectionClosed) {
			return hub.ErrClosed
		}
		return away("subscribe", err)
	}
	l.mu.Lock()
	i.sub = sub
	l.mu.Unlock()
	l.barrier()
	return nil
}

func (l *link) note(s string, i *interest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.subs == nil || l.closed.Load():
		return hub.ErrClosed
	case l.subs[s] != nil:
		return hub.ErrSubscribed
	}
	l.subs[s] = i
	i.list = l.tree.Add(s, i)
	return nil
}

// droppedMost is how many subjects are kept for the dispatcher, before it is told that it may have been any.
const droppedMost = 1000

// take takes a subscription away, and returns that of NATS.
func (l *link) take(s string) *nats.Subscription {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.subs[s]
	if i == nil {
		return nil
	}
	delete(l.subs, s)
	l.tree.Remove(i.list, i)
	if l.dropped = append(l.dropped, s); len(l.dropped) > droppedMost {
		l.dropped = []string{">"}
	}
	return i.sub
}

// Unsubscribe ends a subscription.
func (l *link) Unsubscribe(s string) error {
	if sub := l.take(s); sub != nil {
		_ = sub.Unsubscribe() // its only errors are those of a connection that is closed
	}
	return nil
}

// takeDropped returns what has been unsubscribed from since it was last called.
func (l *link) takeDropped() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	dropped := l.dropped
	l.dropped = nil
	return dropped
}

// Enter says that somebody is at a topic, Leave that he no longer is.
func (l *link) Enter(topic, id, value string) error {
	return l.show(change{Topic: topic, ID: id, Value: value})
}

// Leave is the opposite of Enter.
func (l *link) Leave(topic, id string) error { return l.show(change{Topic: topic, ID: id, Gone: true}) }

func (l *link) show(c change) error {
	if l.closed.Load() {
		return hub.ErrClosed
	}
	l.roster.change(c)
	l.peers.kick()
	return nil
}

// Presence returns who is at a topic, as far as this node knows. It takes no lock.
func (l *link) Presence(ctx context.Context, topic string) ([]hub.Presence, error) {
	if err := l.usable("presence", ctx); err != nil {
		return nil, err
	}
	return l.roster.at(topic), nil
}

// tellPresence delivers what has happened in the presence, in order.
func (l *link) tellPresence() {
	for {
		select {
		case <-l.roster.happened:
		case <-l.ctx.Done():
			return
		}
		for _, p := range l.roster.takeEvents() {
			l.deliverHere(p)
		}
	}
}

// reconnected is called by NATS when there is a server again, and knows the subscriptions.
func (l *link) reconnected(*nats.Conn) {
	l.counts.reconnects.Add(1)
	l.broker.log.Info("connected to NATS again", "server", l.nc.ConnectedUrlRedacted())
	l.peers.greet()
	l.missed()
}

// failed is called by NATS with errors that belong to no call.
func (l *link) failed(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		l.counts.dropped.Add(1)
		l.missed()
	}
	l.broker.log.Warn("NATS", "error", err)
}

// missed has the hub told that it may have missed something.
func (l *link) missed() {
	select {
	case l.resume <- struct{}{}:
	default:
	}
}

// resumeHub tells the hub once the other nodes know again what it is subscribed to.
func (l *link) resumeHub() {
	for {
		select {
		case <-l.resume:
		case <-l.ctx.Done():
			return
		}
		l.histories.wake()
		l.barrier()
		l.counts.resumed.Add(1)
		l.node.Resumed()
	}
}
