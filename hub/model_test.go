// model_test.go does random things to hubs and compares them with a model of what must arrive, and lets members come, go,
// stall and flood.

package hub_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/subject"
	"github.com/seed62836080/wsd/wsdtest"
)

// modelMember is a member, what it must hear, and what it has heard.
type modelMember struct {
	peer
	subs   map[string]bool
	expect []string

	policy  hub.Policy
	history bool // some of its topics have one
}

func (m *modelMember) matches(topic string) bool {
	for s := range m.subs {
		if subject.Matches(s, topic) {
			return true
		}
	}
	return false
}

// topicOf returns the topic that a text begins with.
func topicOf(text string) string {
	topic, _, _ := strings.Cut(text, " ")
	return topic
}

// settle has a member read all that waits for it, and compares that with what must come.
func (m *modelMember) settle(t *testing.T, step string) {
	t.Helper()
	var heard []string
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		msg, err := m.far.Receive(ctx)
		cancel()
		if err != nil {
			break
		}
		heard = append(heard, string(msg.Data))
	}
	if m.policy == hub.Latest {
		requireConverged(t, m.expect, heard, step)
	} else {
		if m.history {
			// What comes from history may come later than what is live of other topics.
			byTopic := func(a, b string) int { return strings.Compare(topicOf(a), topicOf(b)) }
			slices.SortStableFunc(m.expect, byTopic)
			slices.SortStableFunc(heard, byTopic)
		}
		require.Equal(t, m.expect, heard, step)
	}
	m.expect = nil
}

// requireConverged requires of each topic the newest message, each at most once, and the messages of a topic in order.
func requireConverged(t *testing.T, published, heard []string, step string) {
	t.Helper()
	newest, last := map[string]string{}, map[string]int{}
	place := map[string]int{}
	for i, text := range published {
		topic := topicOf(text)
		newest[topic], place[text] = text, i
	}
	got := map[string]string{}
	for _, text := range heard {
		topic := topicOf(text)
		i, known := place[text]
		require.True(t, known, "%s: %q was not published to this member", step, text)
		before, again := last[topic]
		require.True(t, !again || i > before, "%s: %q came late or twice", step, text)
		last[topic], got[topic] = i, text
	}
	require.Equal(t, newest, got, step)
}

func TestModel(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { runModel(t, seed) }) })
	}
}

func runModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	policy := []hub.Policy{hub.Drop, hub.Close, hub.Latest}[r.IntN(3)]
	opts := hub.Options{Broker: hub.NewMemory(), Slow: policy, Patience: time.Hour, Backlog: -1}
	if r.IntN(2) == 0 && policy != hub.Latest {
		// What finds no room comes from history.
		opts.Backlog, opts.History = 3000, []hub.History{{Topics: "a.>", Messages: -1, Bytes: -1}}
	}
	hubs := []*hub.Hub{hub.New(&opts), hub.New(&opts)}
	defer func() {
		for _, h := range hubs {
			require.NoError(t, h.Close())
		}
	}()
	topics := []string{"a.b", "a.c", "a.b.c", "a.c.d"}
	patterns := topics
	if opts.History == nil {
		topics = append(topics, "e", "f.g")
		patterns = append(slices.Clone(topics), "a.*", "a.>", "*.c", ">", "*", "a.*.c")
	}
	var members []*modelMember
	for i := range 400 {
		step := fmt.Sprint("step ", i)
		switch what := r.IntN(20); {
		case what < 2 && len(members) < 6:
			cfg := quiet
			cfg.SendQueue = 100 + r.IntN(3000)
			members = append(members, &modelMember{peer: join(t, hubs[r.IntN(2)], fmt.Sprint(i), cfg), subs: map[string]bool{}, policy: policy, history: opts.History != nil})
		case what < 5 && len(members) > 0:
			m, s := members[r.IntN(len(members))], patterns[r.IntN(len(patterns))]
			require.NoError(t, m.Subscribe(s))
			m.subs[s] = true
		case what < 6 && len(members) > 0:
			m := members[r.IntN(len(members))]
			m.settle(t, step)
			for s := range m.subs {
				require.NoError(t, m.Unsubscribe(s))
				delete(m.subs, s)
				break
			}
		case what == 6 && len(members) > 0:
			n := r.IntN(len(members))
			members[n].far.CloseNow()
			<-members[n].Conn().Closed()
			members = slices.Delete(members, n, n+1)
			synctest.Wait()
		case what == 7 && len(members) > 0:
			members[r.IntN(len(members))].settle(t, step)
		default:
			topic := topics[r.IntN(len(topics))]
			text := fmt.Sprintf("%s %d %s", topic, i, strings.Repeat("x", r.IntN(5)*r.IntN(2000)))
			publish(t, hubs[r.IntN(2)], topic, text)
			for _, m := range members {
				if m.matches(topic) {
					m.expect = append(m.expect, text)
				}
			}
		}
	}
	for i, m := range members {
		m.settle(t, fmt.Sprint("at the end, member ", i))
		require.Zero(t, m.Lost())
		require.Equal(t, slices.Sorted(maps.Keys(m.subs)), append([]string(nil), m.Topics()...))
	}
}

// Members come, go, stall and flood; all who read get the messages of each publisher in order, without doubles, and nothing
// is left behind at the end.
func TestChaos(t *testing.T) {
	for _, policy := range []hub.Policy{hub.Drop, hub.Close, hub.Latest} {
		t.Run(policy.String(), func(t *testing.T) { runChaos(t, policy) })
	}
}

func runChaos(t *testing.T, policy hub.Policy) {
	h := hub.New(&hub.Options{
		Slow: policy, Patience: 20 * time.Millisecond, Backlog: 10_000, Presence: []string{"t.*"},
		History: []hub.History{{Topics: "t.0", Messages: 50}}, Lost: func(m *hub.Member, _ string, _ int) { _ = m.Conn().TrySend(wsd.Text("lost")) },
	})
	ctx, over := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer over()
	var working sync.WaitGroup
	for publisher := range 3 {
		working.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				topic := fmt.Sprintf("t.%d", i%3)
				_ = h.Publish(ctx, topic, wsd.Text(fmt.Sprintf("%s/%d %d %s", topic, publisher, i, strings.Repeat("x", i%700))))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for user := range 8 {
		working.Go(func() {
			r := rand.New(rand.NewPCG(uint64(user), 0))
			for ctx.Err() == nil {
				chaoticMember(ctx, t, h, r)
			}
		})
	}
	working.Wait()
	require.NoError(t, h.Close())
	stats := h.Stats()
	require.Zero(t, stats.Members)
	require.Zero(t, stats.Subscriptions)
	require.Positive(t, stats.Queued)
}

// chaoticMember is one member's life.
func chaoticMember(ctx context.Context, t *testing.T, h *hub.Hub, r *rand.Rand) {
	far, near := wsdtest.Pipe(wsd.Config{SendQueue: 2000, CloseTimeout: 50 * time.Millisecond})
	defer far.CloseNow()
	defer near.CloseNow()
	m, err := h.Join(near, fmt.Sprint(r.IntN(4)))
	if err != nil {
		return
	}
	if r.IntN(2) == 0 {
		_ = m.SubscribeFrom("t.0", hub.Position{})
		_ = m.Subscribe("t.1", "presence.>")
	} else {
		for range 3 {
			_ = m.Subscribe([]string{"t.*", "t.0", "t.1", "t.>", ">", "presence.t.0"}[r.IntN(6)])
		}
	}
	life, end := context.WithTimeout(ctx, time.Duration(r.IntN(100))*time.Millisecond)
	defer end()
	if r.IntN(4) == 0 {
		<-life.Done() // it stalls
		return
	}
	last := map[string]int{}
	for n := 0; ; n++ {
		msg, err := far.Receive(life)
		if err != nil {
			break
		}
		var from, rest string
		var number int
		if k, _ := fmt.Sscan(string(msg.Data), &from, &number, &rest); k < 2 {
			continue // word of a loss, presence
		}
		if before, again := last[from]; again && number <= before {
			t.Errorf("%s: %d came after %d", from, number, before)
		}
		last[from] = number
		if n%100 == 99 && r.IntN(3) == 0 {
			_ = m.Unsubscribe("t.1")
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond) // it is slow
			_ = m.Subscribe("t.1")
		}
	}
	if r.IntN(2) == 0 {
		m.Leave()
	}
}
