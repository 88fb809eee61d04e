// faults_test.go does to nodes what happens to machines, and compares what members get with a model.

package natsbroker_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
)

var long = flag.Duration("faults", 0, "for how `long` TestFaults does one thing after another, with 300 members and all times as by default")

// world is three nodes, and those who use them.
type world struct {
	t       *testing.T
	dead    time.Duration
	silence time.Duration // after which members take their connection for dead
	nodes   []*nodeProcess
	proxies []*proxy // by node it leads from and node it leads to, those to itself included
	client  http.Client
	members []*member
	topics  []*topicModel
	working sync.WaitGroup
	ctx     context.Context
	failed  atomic.Int64 // publications that failed
}

// topicModel is what was published to a topic.
type topicModel struct {
	name string

	mu    sync.Mutex // guards all below
	acked []string   // texts, in the order in which they were acknowledged
	tried map[string]bool
}

// newWorld starts nodes, each in a process of its own with a directory of its own, with proxies on all routes.
func newWorld(t *testing.T, dead time.Duration) *world {
	t.Helper()
	w := &world{t: t, dead: dead, silence: dead / 2, ctx: t.Context()}
	w.client.Timeout = 2*dead + 5*time.Second
	addresses := freeAddresses(t, 3)
	for i, address := range addresses {
		o := nodeOptions{Listen: address, Dir: t.TempDir(), Dead: dead, Timeout: 5 * time.Second, Log: testing.Verbose()}
		for _, to := range addresses {
			p := newProxy(t, to)
			w.proxies = append(w.proxies, p)
			if to != address {
				o.Routes = append(o.Routes, p.listener.Addr().String())
			}
		}
		// What other nodes are told leads nowhere, so that they find each other by the proxies alone.
		o.Advertise = fmt.Sprintf("127.0.0.1:%d", 1+i)
		w.nodes = append(w.nodes, &nodeProcess{options: o})
	}
	var starting sync.WaitGroup
	for _, n := range w.nodes {
		starting.Go(func() { n.start(t) })
	}
	starting.Wait()
	w.awaitWhole()
	return w
}

// awaitWhole waits until all nodes know each other, and history can be written.
func (w *world) awaitWhole() {
	w.t.Helper()
	for i, n := range w.nodes {
		w.await("all nodes know each other", func() bool {
			var s natsbroker.Stats
			return w.get(n, "/stats", nil, &s) == nil && s.Nodes == len(w.nodes)-1
		})
		w.await("history can be written", func() bool { return w.publish(n, "kept.start", fmt.Sprint(i)) == nil })
	}
}

// patience is how long anything may take that has to happen at all.
const patience = 60 * time.Second

func (w *world) await(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("expected within %v: %s", patience, what)
		}
	}
}

func (w *world) get(n *nodeProcess, path string, query url.Values, into any) error {
	answer, err := w.client.Get("http://" + n.address + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func (w *world) publish(n *nodeProcess, topic, text string) error {
	return w.get(n, "/publish", url.Values{"topic": {topic}, "text": {text}}, nil)
}

// topic adds a topic, one publisher for each node, which goes elsewhere while that is away, and members.
func (w *world) topic(name string, members int, pause time.Duration, ctx context.Context) *topicModel {
	m := &topicModel{name: name, tried: make(map[string]bool)}
	w.topics = append(w.topics, m)
	for i := range members {
		w.join(fmt.Sprintf("%s-%d", name, i), m, i%len(w.nodes))
	}
	for i := range w.nodes {
		w.working.Go(func() {
			at := i
			for number := 0; ctx.Err() == nil; number++ {
				text := fmt.Sprintf("%d %d", i, number)
				m.try(text)
				if err := w.publish(w.nodes[at], name, text); err != nil {
					w.failed.Add(1)
					at = (at + 1) % len(w.nodes)
				} else {
					m.ack(text)
				}
				time.Sleep(pause)
			}
		})
	}
	return m
}

func (m *topicModel) try(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tried[text] = true
}

func (m *topicModel) ack(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked = append(m.acked, text)
}

func (m *topicModel) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.acked)
}

// member is a client that comes back, to another node, from where it was.
type member struct {
	id    string
	topic *topicModel
	leave context.CancelFunc

	mu   sync.Mutex // guards all below
	at   hub.Position
	got  []string
	ats  []hub.Position // of those
	gaps []string
}

func (w *world) join(id string, topic *topicModel, node int) {
	ctx, cancel := context.WithCancel(w.ctx)
	m := &member{id: id, topic: topic, leave: cancel}
	w.members = append(w.members, m)
	w.working.Go(func() {
		for at := node; ctx.Err() == nil; at++ {
			m.visit(ctx, w.nodes[at%len(w.nodes)], w.silence)
		}
	})
}

// visit is connected with a node until that ends.
func (m *member) visit(ctx context.Context, n *nodeProcess, silence time.Duration) {
	m.mu.Lock()
	query := url.Values{"id": {m.id}, "topic": {m.topic.name}, "epoch": {m.at.Epoch}, "seq": {fmt.Sprint(m.at.Seq)}}
	m.mu.Unlock()
	dialing, cancel := context.WithTimeout(ctx, 2*silence)
	conn, _, err := wsd.Dial(dialing, "ws://"+n.address+"/ws?"+query.Encode(), &wsd.DialOptions{
		Config: wsd.Config{PingInterval: silence / 2, PongTimeout: silence / 2},
	})
	cancel()
	if err != nil {
		time.Sleep(20 * time.Millisecond)
		return
	}
	defer conn.CloseNow()
	stop := context.AfterFunc(ctx, conn.CloseNow)
	defer stop()
	for msg := range conn.Messages() {
		var f framedText
		if json.Unmarshal(msg.Data, &f) == nil {
			m.take(f)
		}
	}
}

func (m *member) take(f framedText) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.Gap {
		m.gaps = append(m.gaps, f.Text)
		return
	}
	m.got, m.ats, m.at = append(m.got, f.Text), append(m.ats, f.At), f.At
}

func (m *member) seen() (got, gaps []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got), slices.Clone(m.gaps)
}

// check waits until all members have all that was acknowledged, and requires order, and nothing twice.
func (w *world) check() {
	w.t.Helper()
	for _, m := range w.members {
		m.topic.mu.Lock()
		acked := slices.Clone(m.topic.acked)
		m.topic.mu.Unlock()
		w.await("a member gets all that was acknowledged", func() bool {
			got, _ := m.seen()
			has := make(map[string]bool, len(got))
			for _, text := range got {
				has[text] = true
			}
			return !slices.ContainsFunc(acked, func(text string) bool { return !has[text] })
		})
		m.requireInOrder(w.t, acked)
	}
}

// requireInOrder requires each text at most once, and those of one publisher that were acknowledged in their order. Of
// others nobody knows when they arrived.
func (m *member) requireInOrder(t *testing.T, acked []string) {
	t.Helper()
	got, gaps := m.seen()
	require.Empty(t, gaps, "%s: the history reaches back to all positions", m.id)
	known := make(map[string]bool, len(acked))
	for _, text := range acked {
		known[text] = true
	}
	had, last := make(map[string]int, len(got)), map[int]int{} // where each text came, and each publisher's last number
	for i, text := range got {
		if first, twice := had[text]; twice {
			m.mu.Lock()
			require.Fail(t, "twice", "%s has got %q as %v and as %v, %d messages later", m.id, text, m.ats[first], m.ats[i], i-first)
		}
		had[text] = i
		require.True(t, m.topic.tried[text], "%s has got %q, which nobody published", m.id, text)
		var publisher, number int
		_, err := fmt.Sscan(text, &publisher, &number)
		require.NoError(t, err)
		if !known[text] {
			continue
		}
		if before, again := last[publisher]; again {
			require.Greater(t, number, before, "%s: of publisher %d", m.id, publisher)
		}
		last[publisher] = number
	}
}

// awaitPresence waits until the nodes agree that exactly the members of a topic are there, and returns how long it took.
func (w *world) awaitPresence(topic *topicModel, nodes ...int) time.Duration {
	w.t.Helper()
	var want []string
	for _, m := range w.members {
		if m.topic == topic {
			want = append(want, m.id)
		}
	}
	slices.Sort(want)
	begun := time.Now()
	for _, i := range nodes {
		w.await(fmt.Sprintf("node %d knows the %d members", i, len(want)), func() bool {
			var list []hub.Presence
			if w.get(w.nodes[i], "/presence", url.Values{"topic": {topic.name}}, &list) != nil {
				return false
			}
			return slices.EqualFunc(list, want, func(p hub.Presence, id string) bool { return p.ID == id })
		})
	}
	return time.Since(begun)
}

// cut cuts a node off from the others, or joins it with them again.
func (w *world) cut(node int, cut bool) {
	for _, p := range w.routesOf(node) {
		p.setCut(cut)
	}
}

// slow has all that goes from and to a node take longer.
func (w *world) slow(node int, delay time.Duration) {
	for _, p := range w.routesOf(node) {
		p.setDelay(delay)
	}
}

func (w *world) routesOf(node int) (routes []*proxy) {
	for i, p := range w.proxies {
		if from, to := i/len(w.nodes), i%len(w.nodes); (from == node) != (to == node) {
			routes = append(routes, p)
		}
	}
	return routes
}

// during lets traffic go on for a while.
func (w *world) during(topic *topicModel) {
	w.t.Helper()
	begun := topic.count()
	w.await("publications go on", func() bool { return topic.count() >= begun+50 })
}

// fault is something that is done to a world that is whole, which it is to be again in the end.
type fault struct {
	name string
	do   func(w *world, topic *topicModel)
}

var faults = []fault{
	{"kill -9", func(w *world, topic *topicModel) {
		w.nodes[1].kill()
		w.during(topic)
		w.awaitPresence(topic, 0, 2)
		w.nodes[1].start(w.t)
	}},
	{"SIGSTOP", func(w *world, topic *topicModel) {
		w.nodes[2].signal(w.t, syscall.SIGSTOP)
		w.during(topic)
		time.Sleep(w.dead + w.dead/2)
		w.nodes[2].signal(w.t, syscall.SIGCONT)
	}},
	{"rolling restart", func(w *world, topic *topicModel) {
		for _, n := range w.nodes {
			n.stop()
			w.during(topic)
			n.start(w.t)
			w.awaitWhole()
		}
	}},
	{"slow node", func(w *world, topic *topicModel) {
		w.slow(1, 50*time.Millisecond)
		w.during(topic)
		w.slow(1, 0)
	}},
	{"partition", func(w *world, topic *topicModel) {
		w.cut(0, true)
		time.Sleep(w.dead + w.dead/2)
		w.during(topic) // the other two go on, if need be with other leaders
		w.cut(0, false)
	}},
}

// TestFaults has members and publishers on three nodes, and something happen to these; in its long form one thing after another.
// Nobody misses what was acknowledged.
func TestFaults(t *testing.T) {
	t.Parallel()
	if *long > 0 {
		runFaults(t, 10*time.Second, 150, faults)
		return
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			runFaults(t, 2*time.Second, 30, []fault{f})
		})
	}
}

func runFaults(t *testing.T, dead time.Duration, members int, faults []fault) {
	const pause = 20 * time.Millisecond
	w := newWorld(t, dead)
	ctx, stop := context.WithCancel(t.Context())
	one := w.topic("kept.one", members, pause, ctx)
	w.topic("kept.two", members, pause, ctx)
	for begun, round := time.Now(), 0; round == 0 || time.Since(begun) < *long; round++ {
		for _, f := range faults {
			t.Logf("%s, %d acknowledged, %d failed", f.name, one.count(), w.failed.Load())
			f.do(w, one)
			w.awaitWhole()
			t.Logf("presence agreed %v after the nodes did", w.awaitPresence(one, 0, 1, 2).Round(time.Millisecond))
			w.during(one)
		}
	}
	stop()
	w.check()
	for _, m := range w.members {
		m.leave()
	}
	w.working.Wait()
	t.Logf("%d acknowledged, %d failed", w.topics[0].count()+w.topics[1].count(), w.failed.Load())
}

// Without a quorum, topics with history fail with hub.ErrBroker, and others are delivered where they are published. The
// rest is delivered to again by itself.
func TestNoQuorum(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2*time.Second)
	w.silence = patience // a member that came back elsewhere would have missed what has no history
	near := &topicModel{name: "live.a", tried: make(map[string]bool)}
	w.join("near", near, 0)
	w.await("somebody is there", func() bool {
		var list []hub.Presence
		return w.get(w.nodes[0], "/presence", url.Values{"topic": {near.name}}, &list) == nil && len(list) == 1
	})
	w.nodes[1].kill()
	w.nodes[2].kill()
	require.ErrorContains(t, w.publish(w.nodes[0], "kept.a", "x"), "503")
	near.try("0 1")
	require.NoError(t, w.publish(w.nodes[0], "live.a", "0 1"))
	near.ack("0 1")
	w.nodes[1].start(t)
	w.nodes[2].start(t)
	w.awaitWhole()
	near.try("1 1")
	require.NoError(t, w.publish(w.nodes[1], "live.a", "1 1"))
	near.ack("1 1")
	w.check()
	w.members[0].leave()
	w.working.Wait()
}
