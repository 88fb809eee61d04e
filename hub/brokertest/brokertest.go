// Package brokertest checks that a hub.Broker keeps what the interface promises.
//
//	func TestBroker(t *testing.T) {
//		brokertest.Run(t, func(t *testing.T, n int) []hub.Broker { ... })
//	}
package brokertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// patience is how long something may take that a broker has to do.
const patience = 60 * time.Second

// quiet is how long nothing must come before it counts as not coming.
const quiet = 50 * time.Millisecond

// history is what the nodes of a test agree on.
var history = []hub.History{
	{Topics: "kept.>", Messages: 1000, Age: time.Hour, Bytes: 1 << 20},
	{Topics: "short.>", Messages: 5, Age: time.Hour, Bytes: 1 << 20},
}

// Run runs the suite. open returns n brokers that are connected with each other, each to be attached to by one node; for a
// broker in memory that is the same one n times. What it opened it closes at the end of t.
func Run(t *testing.T, open func(t *testing.T, n int) []hub.Broker) {
	for name, check := range map[string]func(*testing.T, []*node){
		"a publication comes to each node once": once,
		"publishers' order":                     order,
		"unsubscribed and closed":               gone,
		"one order with history":                oneOrder,
		"history":                               pages,
		"history and live without a gap":        seamless,
		"gaps":                                  gaps,
		"presence":                              presence,
		"ended contexts":                        contexts,
	} {
		t.Run(name, func(t *testing.T) {
			var nodes []*node
			for _, b := range open(t, 2) {
				nodes = append(nodes, attach(t, b))
			}
			check(t, nodes)
		})
	}
}

// node is a node of a test, which notes what comes.
type node struct {
	hub.Link
	mu  sync.Mutex
	got []hub.Publication
}

func attach(t *testing.T, b hub.Broker) *node {
	t.Helper()
	n := new(node)
	link, err := b.Attach(hub.Node{Deliver: n.deliver, Resumed: func() {}, History: history})
	must(t, err)
	t.Cleanup(func() { _ = link.Close() })
	n.Link = link
	return n
}

func (n *node) deliver(p hub.Publication) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, p)
}

func (n *node) seen() []hub.Publication {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("expected within %v: %s", patience, what)
		}
	}
}

// comes requires exactly these texts, in order if they are of one topic, and nothing behind them.
func (n *node) comes(t *testing.T, texts ...string) {
	t.Helper()
	await(t, fmt.Sprintf("%d publications", len(texts)), func() bool { return len(n.seen()) >= len(texts) })
	time.Sleep(quiet)
	var got []string
	for _, p := range n.seen() {
		got = append(got, p.Topic+" "+string(p.Message.Data))
	}
	if !slices.Equal(got, texts) {
		t.Fatalf("expected %q, got %q", texts, got)
	}
}

func publish(t *testing.T, n *node, topic, text string) {
	t.Helper()
	must(t, n.Publish(t.Context(), hub.Publication{Topic: topic, Message: wsd.Text(text)}))
}

func once(t *testing.T, nodes []*node) {
	a, b := nodes[0], nodes[1]
	for _, s := range []string{"x.y", "x.*", ">", "*.y"} {
		must(t, a.Subscribe(s))
	}
	must(t, b.Subscribe("x.>"))
	publish(t, a, "x.y", "from a")
	a.comes(t, "x.y from a")
	b.comes(t, "x.y from a")
	publish(t, b, "x.y", "from b")
	publish(t, b, "z", "to one")
	a.comes(t, "x.y from a", "x.y from b", "z to one")
	b.comes(t, "x.y from a", "x.y from b")
	publish(t, a, "kept.a", "with history")
	publish(t, a, "$system", "not to a wildcard")
	a.comes(t, "x.y from a", "x.y from b", "z to one", "kept.a with history")
	must(t, a.Publish(t.Context(), hub.Publication{Topic: "x.y", Message: wsd.Binary([]byte{0, 1, 2})}))
	await(t, "a binary message", func() bool { return len(b.seen()) == 3 })
	if got := b.seen()[2].Message; got.Type != wsd.BinaryMessage || string(got.Data) != "\x00\x01\x02" {
		t.Fatalf("expected the binary message, got %v %q", got.Type, got.Data)
	}
}

func order(t *testing.T, nodes []*node) {
	const publishers, each = 4, 200
	for _, n := range nodes {
		must(t, n.Subscribe("t.*"))
	}
	var publishing sync.WaitGroup
	for i := range publishers {
		publishing.Go(func() {
			for j := range each {
				if err := nodes[i%2].Publish(t.Context(), hub.Publication{Topic: "t.x", Message: wsd.Text(fmt.Sprintf("%d %d", i, j))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	for _, n := range nodes {
		await(t, "all publications", func() bool { return len(n.seen()) == publishers*each })
		next := [publishers]int{}
		for _, p := range n.seen() {
			var i, j int
			if _, err := fmt.Sscan(string(p.Message.Data), &i, &j); err != nil || next[i] != j {
				t.Fatalf("expected message %d of publisher %d, got %q", next[i], i, p.Message.Data)
			}
			next[i]++
		}
	}
}

func gone(t *testing.T, nodes []*node) {
	a, b := nodes[0], nodes[1]
	must(t, a.Subscribe("t"))
	must(t, b.Subscribe("t"))
	must(t, b.Subscribe("*"))
	must(t, b.Unsubscribe("t"))
	publish(t, a, "t", "one")
	a.comes(t, "t one")
	b.comes(t, "t one")
	must(t, b.Unsubscribe("*"))
	publish(t, a, "t", "two")
	a.comes(t, "t one", "t two")
	b.comes(t, "t one")
	must(t, b.Subscribe("t"))
	must(t, b.Close())
	publish(t, a, "t", "three")
	a.comes(t, "t one", "t two", "t three")
	b.comes(t, "t one")
	if err := b.Publish(t.Context(), hub.Publication{Topic: "t", Message: wsd.Text("x")}); err == nil {
		t.Fatal("expected an error of Publish after Close")
	}
}

// oneOrder checks that all see the publications of a topic with history in the order of their positions.
func oneOrder(t *testing.T, nodes []*node) {
	const publishers, each = 4, 100
	for _, n := range nodes {
		must(t, n.Subscribe("kept.a"))
	}
	var publishing sync.WaitGroup
	for i := range publishers {
		publishing.Go(func() {
			for j := range each {
				if err := nodes[i%2].Publish(t.Context(), hub.Publication{Topic: "kept.a", Message: wsd.Text(fmt.Sprintf("%d %d", i, j))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	var first []hub.Publication
	for _, n := range nodes {
		await(t, "all publications", func() bool { return len(n.seen()) == publishers*each })
		var last hub.Position
		for i, p := range n.seen() {
			if p.At.Epoch == "" || i > 0 && p.At.Epoch != last.Epoch || p.At.Seq <= last.Seq {
				t.Fatalf("expected a position behind %v, got %v", last, p.At)
			}
			last = p.At
		}
		if first == nil {
			first = n.seen()
		}
		same(t, first, n.seen())
	}
	page, err := nodes[0].History(t.Context(), "kept.a", hub.Position{}, 10*each)
	must(t, err)
	same(t, first, page.Publications)
}

func same(t *testing.T, want, got []hub.Publication) {
	t.Helper()
	if !slices.EqualFunc(want, got, func(a, b hub.Publication) bool {
		return a.Topic == b.Topic && a.At == b.At && a.Message.Type == b.Message.Type && string(a.Message.Data) == string(b.Message.Data)
	}) {
		t.Fatalf("expected %d publications, got %d others", len(want), len(got))
	}
}

func texts(page hub.Page) string {
	var all []string
	for _, p := range page.Publications {
		all = append(all, string(p.Message.Data))
	}
	return strings.Join(all, " ")
}

func pages(t *testing.T, nodes []*node) {
	a, b := nodes[0], nodes[1]
	empty, err := b.History(t.Context(), "kept.a", hub.Position{}, 10)
	must(t, err)
	if len(empty.Publications) > 0 || empty.More {
		t.Fatalf("expected no history, got %v", empty)
	}
	for i := range 25 {
		publish(t, a, "kept.a", fmt.Sprint(i))
		publish(t, a, "kept.b", "of another topic")
	}
	var at hub.Position
	var all []string
	for more := true; more; {
		page, err := b.History(t.Context(), "kept.a", at, 10)
		must(t, err)
		if n := len(page.Publications); n == 0 || n > 20 {
			t.Fatalf("expected about 10 publications, got %d", n)
		}
		all = append(all, texts(page))
		at, more = page.Publications[len(page.Publications)-1].At, page.More
	}
	if got := strings.Join(all, " "); got != "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24" {
		t.Fatalf("got %s", got)
	}
	page, err := b.History(t.Context(), "kept.a", at, 10)
	must(t, err)
	if len(page.Publications) > 0 || page.More {
		t.Fatalf("expected nothing behind the newest, got %v", page)
	}
	if _, err := b.History(t.Context(), "other", hub.Position{}, 10); !errors.Is(err, hub.ErrNoHistory) {
		t.Fatalf("expected ErrNoHistory, got %v", err)
	}
}

// seamless checks that what was delivered is in the history, and what is not in it is delivered later.
func seamless(t *testing.T, nodes []*node) {
	a, b := nodes[0], nodes[1]
	must(t, b.Subscribe("kept.a"))
	const n = 300
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range n {
			if err := a.Publish(t.Context(), hub.Publication{Topic: "kept.a", Message: wsd.Text(fmt.Sprint(i))}); err != nil {
				t.Error(err)
			}
		}
	})
	defer publishing.Wait()
	for range 20 {
		seen := b.seen()
		page, err := b.History(t.Context(), "kept.a", hub.Position{}, 2*n)
		must(t, err)
		if len(page.Publications) < len(seen) {
			t.Fatalf("expected at least the %d publications that were delivered, got %d", len(seen), len(page.Publications))
		}
		time.Sleep(time.Millisecond)
	}
	await(t, "all publications", func() bool { return len(b.seen()) == n })
}

func gaps(t *testing.T, nodes []*node) {
	a, b := nodes[0], nodes[1]
	must(t, a.Subscribe("short.a"))
	for i := range 20 {
		publish(t, a, "short.a", fmt.Sprint(i))
	}
	await(t, "all publications", func() bool { return len(a.seen()) == 20 })
	positions := a.seen()
	page, err := b.History(t.Context(), "short.a", hub.Position{}, 10)
	must(t, err)
	if got := texts(page); got != "15 16 17 18 19" {
		t.Fatalf("expected what is kept, got %s", got)
	}
	page, err = b.History(t.Context(), "short.a", positions[14].At, 10)
	must(t, err)
	if got := texts(page); got != "15 16 17 18 19" {
		t.Fatalf("expected what is kept, got %s", got)
	}
	for name, at := range map[string]hub.Position{
		"too old": positions[3].At, "another epoch": {Epoch: "another", Seq: positions[19].At.Seq},
		"not yet there": {Epoch: positions[19].At.Epoch, Seq: positions[19].At.Seq + 1000},
	} {
		_, err := b.History(t.Context(), "short.a", at, 10)
		var gap *hub.Gap
		if !errors.As(err, &gap) || gap.Asked != at || gap.Topic != "short.a" {
			t.Fatalf("%s: expected a Gap, got %v", name, err)
		}
		page, err := b.History(t.Context(), "short.a", gap.First, 10)
		must(t, err)
		if got := texts(page); got != "15 16 17 18 19" {
			t.Fatalf("%s: expected what is left, got %s", name, got)
		}
	}
}

func presence(t *testing.T, nodes []*node) {
	a, b := nodes[0], nodes[1]
	must(t, b.Subscribe("presence.room.1"))
	at := func(want string) {
		t.Helper()
		for _, n := range nodes {
			var got string
			await(t, "presence: "+want, func() bool {
				list, err := n.Presence(t.Context(), "room.1")
				must(t, err)
				data, err := json.Marshal(list)
				must(t, err)
				got = string(data)
				return got == want
			})
		}
	}
	at(`[]`)
	must(t, a.Enter("room.1", "ann", "1"))
	at(`[{"id":"ann","value":"1"}]`)
	must(t, b.Enter("room.1", "bob", ""))
	at(`[{"id":"ann","value":"1"},{"id":"bob"}]`)
	must(t, b.Enter("room.1", "ann", "2"))
	at(`[{"id":"ann","value":"2"},{"id":"bob"}]`)
	must(t, a.Leave("room.1", "ann"))
	must(t, a.Leave("room.1", "ann"))
	at(`[{"id":"ann","value":"2"},{"id":"bob"}]`)
	must(t, b.Leave("room.1", "ann"))
	at(`[{"id":"bob"}]`)
	must(t, a.Enter("room.1", "cyd", ""))
	at(`[{"id":"bob"},{"id":"cyd"}]`)
	must(t, a.Close())
	await(t, "a node that is closed is gone from presence", func() bool {
		list, err := b.Presence(t.Context(), "room.1")
		must(t, err)
		return len(list) == 1
	})
	var want []string
	for _, e := range []hub.PresenceEvent{
		{Event: "join", Presence: hub.Presence{ID: "ann", Value: "1"}}, {Event: "join", Presence: hub.Presence{ID: "bob"}},
		{Event: "update", Presence: hub.Presence{ID: "ann", Value: "2"}}, {Event: "leave", Presence: hub.Presence{ID: "ann", Value: "2"}},
		{Event: "join", Presence: hub.Presence{ID: "cyd"}}, {Event: "leave", Presence: hub.Presence{ID: "cyd"}},
	} {
		data, err := json.Marshal(e)
		must(t, err)
		want = append(want, "presence.room.1 "+string(data))
	}
	b.comes(t, want...)
}

func contexts(t *testing.T, nodes []*node) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := nodes[0]
	_, history := n.History(ctx, "kept.a", hub.Position{}, 1)
	_, presence := n.Presence(ctx, "kept.a")
	for call, err := range map[string]error{
		"Publish": n.Publish(ctx, hub.Publication{Topic: "t", Message: wsd.Text("x")}), "History": history, "Presence": presence,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: expected the context's error, got %v", call, err)
		}
	}
}
