// peers.go knows which other nodes are there, and talks with them.

package natsbroker

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/clock"
)

// peers are the other nodes that are heard of.
type peers struct {
	link   *link
	kicked chan struct{} // has room for one; this node's part of the presence has changed

	mu       sync.Mutex // guards all below
	known    map[uint64]*peer
	buried   map[uint64]uint64   // those that are gone, and what had been published without history by then
	met      time.Duration       // when the last one was met, on clock
	token    uint64              // of the barrier
	awaited  map[uint64]struct{} // who has not answered it
	answered chan struct{}       // closed when nobody is awaited any more
	refused  error               // another node has other options
}

// peer is one of them.
type peer struct {
	heard time.Duration // on clock
	sent  uint64        // how much this node had published without history when it was last heard of
	slow  bool          // it has not answered a barrier
}

func newPeers(l *link) *peers {
	return &peers{link: l, kicked: make(chan struct{}, 1), known: make(map[uint64]*peer), buried: make(map[uint64]uint64)}
}

// say sends a word. What is lost is found out by versions.
func (l *link) say(to string, w *word) {
	w.From = l.id
	_ = l.nc.Publish(to, w.pack())
}

// alive returns how many there are.
func (p *peers) alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.known)
}

// kick has changes of the presence sent.
func (p *peers) kick() {
	select {
	case p.kicked <- struct{}{}:
	default:
	}
}

// greet makes this node known.
func (p *peers) greet() {
	p.link.say(p.link.names.everybody(), &word{Kind: hello, Version: p.link.roster.version(), History: p.link.histories.digest})
}

// buriedMost is how many nodes are remembered that are gone: one that comes back has missed what was published meanwhile.
const buriedMost = 1000

const (
	meetTicks = 20 // without anybody new are taken for all; a busy machine makes them longer, as it does with answers
	meetTick  = 5 * time.Millisecond
	meetMost  = time.Second
)

// meet waits until no more nodes answer, and those of an embedded server until there are as many as servers.
func (p *peers) meet() error {
	p.greet()
	begun := clock.Now()
	quiet, servers := meetTicks, func() int { return 0 }
	switch b := p.link.broker; {
	case b.server != nil && b.options.Listen == "":
		quiet = 1 // all are in this process
	case b.server != nil:
		servers = b.server.routes
	}
	last := begun
	for ticks := 0; (ticks < quiet || p.alive() < servers()) && clock.Now()-begun < meetMost; ticks++ {
		time.Sleep(meetTick)
		if ticks&(ticks-1) == 0 {
			p.greet() // again, the more seldom: the servers may not have known yet who listens, and where the answer goes
		}
		p.mu.Lock()
		met, refused := p.met, p.refused
		p.mu.Unlock()
		if refused != nil {
			return refused
		}
		if met > last {
			last, ticks = met, -1
		}
	}
	return nil
}

// run is a goroutine that ends with the link.
func (p *peers) run() {
	l := p.link
	interval := l.broker.options.Dead / beats
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	last := clock.Now()
	for {
		select {
		case m := <-l.words:
			var w word
			if json.Unmarshal(m.Data, &w) == nil && w.From != l.id {
				p.hear(&w)
			}
		case <-p.kicked:
			p.tell()
		case <-ticker.C:
			now := clock.Now()
			p.bury(now, interval, now-last > 2*interval)
			last = now
			l.say(l.names.everybody(), &word{Kind: beat, Version: l.roster.version(), History: l.histories.digest})
		case <-l.ctx.Done():
			return
		}
	}
}

// hear takes a word.
func (p *peers) hear(w *word) {
	l := p.link
	if w.Kind == bye {
		p.forget(w.From)
		l.roster.forget(w.From)
		return
	}
	isNew := p.note(w.From)
	if isNew && w.Kind != hello {
		l.missed() // it may have been away, and not have got what this node is subscribed to
	}
	switch w.Kind {
	case hello:
		p.compare(w)
		l.say(l.names.node(w.From), &word{Kind: beat, Version: l.roster.version(), History: l.histories.digest})
	case beat:
		p.compare(w)
	case ask:
		p.tell()
		for _, part := range l.roster.state() {
			l.say(l.names.node(w.From), part)
		}
		return
	case pong:
		p.pong(w)
		return
	}
	if l.roster.hear(w) {
		l.say(l.names.node(w.From), &word{Kind: ask})
	}
}

// tell sends what has changed.
func (p *peers) tell() {
	for {
		w := p.link.roster.takeChanges()
		if w == nil {
			return
		}
		p.link.say(p.link.names.everybody(), w)
	}
}

// note notes that a node has been heard of, and reports whether it was not known.
func (p *peers) note(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, sent := p.known[id], p.link.passing.Load()
	isNew := known == nil
	if isNew {
		if before, back := p.buried[id]; back {
			p.link.counts.unreached.Add(sent - before)
			delete(p.buried, id)
		}
		known = new(peer)
		p.known[id] = known
		p.met = clock.Now()
	}
	known.heard, known.sent, known.slow = clock.Now(), sent, false
	return isNew
}

// compare notes whether a node has other options.
func (p *peers) compare(w *word) {
	if w.History == p.link.histories.digest {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = errOtherHistory()
}

func errOtherHistory() error {
	return &hub.OptionError{Option: "History", Problem: "expected the same for all hubs of one broker"}
}

func (p *peers) forget(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, id)
	p.settle(id)
}

// bury forgets nodes that have not been heard of for too long. If this process has been stopped itself, they get their time
// once more.
func (p *peers) bury(now, interval time.Duration, stopped bool) {
	for _, id := range p.silent(now, (beats-1)*interval, stopped) {
		p.link.counts.lost.Add(1)
		p.link.broker.log.Warn("a node is gone", "node", p.link.names.node(id), "silent", (beats-1)*interval)
		p.link.roster.forget(id)
	}
}

func (p *peers) silent(now, most time.Duration, stopped bool) (gone []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.link.passing.Load()
	for id, known := range p.known {
		if stopped {
			known.heard = now
		}
		if now-known.heard < most-most/beats {
			continue
		}
		gone = append(gone, id)
		delete(p.known, id)
		p.settle(id)
		p.link.counts.unreached.Add(sent - known.sent)
		if len(p.buried) >= buriedMost {
			clear(p.buried)
		}
		p.buried[id] = sent
	}
	return gone
}

// settle notes that a node need not be waited for. p.mu is held by its callers, all in this file.
func (p *peers) settle(id uint64) {
	if _, awaited := p.awaited[id]; !awaited {
		return
	}
	if delete(p.awaited, id); len(p.awaited) == 0 {
		close(p.answered)
	}
}

// answerPing is called by NATS. What is published here from now on is sent to whoever was subscribed when it sent the ping.
func (l *link) answerPing(m *nats.Msg) {
	var w word
	if json.Unmarshal(m.Data, &w) == nil && w.From != l.id {
		l.say(l.names.node(w.From), &word{Kind: pong, Token: w.Token})
	}
}

func (p *peers) pong(w *word) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Token == p.token {
		p.settle(w.From)
	}
}

// barrier returns once all nodes that answer know what this one is subscribed to. Servers tell each other of subscriptions and
// of messages in one order, so an answer to what was sent after a subscription says that it is known.
func (l *link) barrier() { l.rounds.run(l.peers.barrier) }

func (p *peers) barrier() {
	l := p.link
	token, answered := p.await()
	if answered == nil || !l.nc.IsConnected() {
		return
	}
	l.say(l.names.barrier(), &word{Kind: ping, Token: token})
	timer := time.NewTimer(l.broker.options.Dead / (2 * beats))
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
		p.giveUp()
	case <-l.ctx.Done():
	}
}

// await returns a token that all who are there are to answer, and what is then closed; nil if there is nobody.
func (p *peers) await() (token uint64, answered chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token++
	p.awaited = make(map[uint64]struct{}, len(p.known))
	for id, known := range p.known {
		if !known.slow {
			p.awaited[id] = struct{}{}
		}
	}
	if len(p.awaited) == 0 {
		return 0, nil
	}
	p.answered = make(chan struct{})
	return p.token, p.answered
}

// giveUp has those that did not answer not waited for again, until they are heard of.
func (p *peers) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.awaited {
		if known := p.known[id]; known != nil {
			known.slow = true
		}
	}
	p.awaited = nil
}

// rounds have something done for all who ask for it meanwhile at once. The zero value is ready.
type rounds struct {
	mu      sync.Mutex
	running bool
	next    chan struct{} // closed when the round that begins next is over; nil if nobody waits for it
}

// run returns once a round that has begun after the call is over.
func (r *rounds) run(do func()) {
	r.mu.Lock()
	if r.next == nil {
		r.next = make(chan struct{})
	}
	mine := r.next
	if !r.running {
		r.running = true
		go r.serve(do)
	}
	r.mu.Unlock()
	<-mine
}

func (r *rounds) serve(do func()) {
	for {
		r.mu.Lock()
		round := r.next
		r.next = nil
		if round == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		do()
		close(round)
	}
}
