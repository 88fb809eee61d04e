// dispatch.go hands what comes from NATS to the hub: each publication once, in order, and with history without gaps.

package natsbroker

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/subject"
)

// dispatcher is what only its goroutine uses.
type dispatcher struct {
	link   *link
	last   map[uint64]uint64 // the number of the last publication of each node
	tracks map[string]*track // of topics with history that something has come of
	most   int               // tracks, until they are looked through
	filled chan filling
	early  []*nats.Msg // that came from streams before it was known which these are
}

// track is how far a topic has come.
type track struct {
	epoch   string
	seq     uint64
	at      time.Duration // on clock
	filling bool          // what is missing is being read, and what comes meanwhile waits in held
	held    []hub.Publication
}

// filling is what was read that had not come.
type filling struct {
	topic string
	track *track
	found []hub.Publication
	err   error
}

const leastTracks = 1024

// dispatch is a goroutine that ends with the link.
func (l *link) dispatch() {
	d := &dispatcher{
		link: l, last: make(map[uint64]uint64), tracks: make(map[string]*track), most: leastTracks, filled: make(chan filling, 16),
	}
	for {
		select {
		case m := <-l.gate.waiting:
			l.gate.taken()
			d.take(m)
		case f := <-d.filled:
			d.fill(f)
		case <-l.histories.known:
			early := d.early
			d.early = nil
			for _, m := range early {
				d.take(m)
			}
		case <-l.ctx.Done():
			return
		}
	}
}

func (d *dispatcher) take(m *nats.Msg) {
	l := d.link
	from, number, msg, err := unpack(m.Data)
	if err != nil {
		l.broker.log.Warn("a message of NATS is left out", "subject", m.Subject, "error", err)
		return
	}
	p := hub.Publication{Topic: l.names.topic(m.Subject), Message: msg}
	if len(m.Header) > 0 {
		d.forgetDropped()
		d.takeKept(m, p)
		return
	}
	// If several subscriptions match, the server sends a publication for each, right behind one another.
	if d.last[from] == number {
		return
	}
	if len(d.last) >= leastTracks {
		clear(d.last)
	}
	d.last[from] = number
	d.deliver(p)
}

func (d *dispatcher) deliver(p hub.Publication) {
	if d.link.wanted(p.Topic) {
		d.link.counts.received.Add(1)
		d.link.node.Deliver(p)
	}
}

// takeKept takes a publication that a stream has stored and numbered.
func (d *dispatcher) takeKept(m *nats.Msg, p hub.Publication) {
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	s := d.link.histories.of(p.Topic)
	if err != nil || s == nil {
		return
	}
	if s.epoch() == "" || len(d.early) > 0 {
		d.early = append(d.early, m)
		return
	}
	before, _ := strconv.ParseUint(m.Header.Get(jetstream.LastSequenceHeader), 10, 64)
	p.At, p.Before = hub.Position{Epoch: s.epoch(), Seq: seq}, before
	t := d.tracks[p.Topic]
	if t == nil {
		d.sweep()
		t = &track{epoch: p.At.Epoch, seq: before}
		if before == 0 {
			t.seq = seq - 1
		}
		d.tracks[p.Topic] = t
	}
	d.follow(t, p)
}

// follow delivers a publication, or has read what is missing before it.
func (d *dispatcher) follow(t *track, p hub.Publication) {
	switch {
	case t.filling:
		t.held = append(t.held, p)
		return
	case t.epoch != p.At.Epoch:
		t.epoch = p.At.Epoch
	case p.At.Seq <= t.seq:
		return
	case p.Before > t.seq:
		t.filling = true
		t.held = append(t.held, p)
		after := hub.Position{Epoch: t.epoch, Seq: t.seq}
		d.link.working.Go(func() { d.read(p.Topic, t, after, p.Before) })
		return
	}
	t.seq, t.at = p.At.Seq, clock.Now()
	d.deliver(p)
}

// read is a goroutine that reads what has not come.
func (d *dispatcher) read(topic string, t *track, after hub.Position, upTo uint64) {
	ctx, cancel := context.WithTimeout(d.link.ctx, d.link.broker.options.Timeout)
	defer cancel()
	found, err := d.link.histories.between(ctx, topic, after, upTo)
	select {
	case d.filled <- filling{topic, t, found, err}:
	case <-d.link.ctx.Done():
	}
}

// fill delivers what was read, and then what has come meanwhile.
func (d *dispatcher) fill(f filling) {
	t := f.track
	if f.err != nil {
		d.link.broker.log.Warn("publications that did not come could not be read", "topic", f.topic, "error", f.err)
		d.link.missed()
	}
	for _, p := range f.found {
		if p.At.Epoch == t.epoch && p.At.Seq > t.seq {
			t.seq, t.at = p.At.Seq, clock.Now()
			d.link.counts.recovered.Add(1)
			d.deliver(p)
		}
	}
	held := t.held
	t.held, t.filling = nil, false
	if len(held) > 0 {
		t.seq = max(t.seq, held[0].Before) // whatever could not be read: members see that it has not come
	}
	for _, p := range held {
		d.follow(t, p)
	}
}

// forgetDropped forgets how far topics have come that were unsubscribed from: when they are subscribed to again, nothing is
// missing in between.
func (d *dispatcher) forgetDropped() {
	dropped := d.link.takeDropped()
	for _, s := range dropped {
		if !subject.HasWildcard(s) {
			delete(d.tracks, s)
			continue
		}
		for topic := range d.tracks {
			if subject.Matches(s, topic) {
				delete(d.tracks, topic)
			}
		}
	}
}

// sweep forgets topics that nothing has come of for as long as their history reaches back.
func (d *dispatcher) sweep() {
	if len(d.tracks) < d.most {
		return
	}
	now := clock.Now()
	for topic, t := range d.tracks {
		s := d.link.histories.of(topic)
		if !t.filling && (s == nil || now-t.at > s.limits.Age || now-t.at > time.Hour) {
			delete(d.tracks, topic)
		}
	}
	d.most = max(leastTracks, 2*len(d.tracks))
}
