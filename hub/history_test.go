// history_test.go checks subscriptions that go on from a position.

package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

func positionOf(t *testing.T, h *hub.Hub, topic string, n int) hub.Position {
	t.Helper()
	page, err := h.History(t.Context(), topic, hub.Position{}, n)
	require.NoError(t, err)
	return page.Publications[n-1].At
}

func TestSubscribeFrom(t *testing.T) {
	bubble(t, &hub.Options{History: []hub.History{{Topics: "kept.*", Messages: 1000}}, Frame: framed}, func(t *testing.T, h *hub.Hub) {
		publish(t, h, "kept.a", "a", "b", "c")
		p := join(t, h, "", quiet)
		require.NoError(t, p.SubscribeFrom("kept.a", positionOf(t, h, "kept.a", 1)))
		publish(t, h, "kept.a", "d")
		p.hears(t, "2 b", "3 c", "4 d")
		require.ErrorIs(t, p.SubscribeFrom("kept.a", hub.Position{}), hub.ErrSubscribed)
		p.hearsNothing(t)

		q := join(t, h, "", quiet)
		require.NoError(t, q.SubscribeFrom("kept.a", positionOf(t, h, "kept.a", 4)), "nothing has come since")
		require.NoError(t, q.SubscribeFrom("kept.never", hub.Position{}))
		q.hearsNothing(t)
		publish(t, h, "kept.never", "first")
		publish(t, h, "kept.a", "e")
		q.hears(t, "1 first", "5 e")

		var subject *hub.SubjectError
		require.ErrorAs(t, q.SubscribeFrom("kept.*", hub.Position{}), &subject)
		require.ErrorIs(t, q.SubscribeFrom("live", hub.Position{}), hub.ErrNoHistory)
		_, err := h.History(t.Context(), "live", hub.Position{}, 1)
		require.ErrorIs(t, err, hub.ErrNoHistory)
	})
}

func TestGap(t *testing.T) {
	bubble(t, &hub.Options{History: []hub.History{{Topics: "kept", Messages: 3}}, Frame: framed}, func(t *testing.T, h *hub.Hub) {
		publish(t, h, "kept", "a")
		first := positionOf(t, h, "kept", 1)
		publish(t, h, "kept", "b", "c", "d", "e")
		p := join(t, h, "", quiet)
		var gap *hub.Gap
		for _, at := range []hub.Position{first, {Epoch: "another", Seq: 3}} {
			require.ErrorAs(t, p.SubscribeFrom("kept", at), &gap)
			require.Equal(t, at, gap.Asked)
			require.Empty(t, p.Topics())
			require.NotEmpty(t, gap.Error())
		}
		require.NoError(t, p.SubscribeFrom("kept", gap.First))
		p.hears(t, "3 c", "4 d", "5 e")
	})
}

// numbered requires the next n messages to be numbered from first, as framed makes them.
func numbered(t *testing.T, p peer, first, n int) {
	t.Helper()
	for i := range n {
		m, err := p.far.Receive(t.Context())
		require.NoError(t, err)
		seq, _, _ := strings.Cut(string(m.Data), " ")
		require.Equal(t, fmt.Sprint(first+i), seq)
	}
}

// However slowly a member reads, it gets all that the history holds, and no more than usual waits for it.
func TestHistoryOutlastsTheBacklog(t *testing.T) {
	for _, policy := range []hub.Policy{hub.Drop, hub.Close} {
		bubble(t, &hub.Options{
			History: []hub.History{{Topics: "kept", Messages: 5000, Bytes: -1}}, Backlog: 20_000, Slow: policy, Patience: time.Hour, Frame: framed,
		}, func(t *testing.T, h *hub.Hub) {
			late, live := join(t, h, "", quiet), join(t, h, "", quiet)
			require.NoError(t, live.Subscribe("kept"))
			text := strings.Repeat("x", 1000)
			for range 1000 {
				publish(t, h, "kept", text)
			}
			require.NoError(t, late.SubscribeFrom("kept", hub.Position{}))
			numbered(t, late, 1, 500)
			for range 1000 {
				publish(t, h, "kept", text)
			}
			numbered(t, live, 1, 2000)
			numbered(t, late, 501, 1500)
			synctest.Wait()
			publish(t, h, "kept", text)
			numbered(t, live, 2001, 1)
			numbered(t, late, 2001, 1)
			require.Zero(t, late.Lost()+live.Lost())
			late.hearsNothing(t)
			live.hearsNothing(t)
		})
	}
}

// Who falls behind what is kept loses what is gone, is told of it, and goes on.
func TestFallingOutOfHistory(t *testing.T) {
	var told atomic.Int64
	bubble(t, &hub.Options{
		History: []hub.History{{Topics: "kept", Messages: 10}}, Backlog: 20_000, Frame: framed,
		Lost: func(_ *hub.Member, _ string, n int) { told.Add(int64(n)) },
	}, func(t *testing.T, h *hub.Hub) {
		told.Store(0)
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("kept"))
		text := strings.Repeat("x", 1000)
		for range 1000 {
			publish(t, h, "kept", text)
		}
		last, got := 0, 0
		for last < 1000 {
			m, err := p.far.Receive(t.Context())
			require.NoError(t, err)
			var seq int
			_, err = fmt.Sscan(string(m.Data), &seq)
			require.NoError(t, err)
			require.Greater(t, seq, last)
			last = seq
			got++
		}
		require.EqualValues(t, 1000-got, p.Lost())
		require.EqualValues(t, p.Lost(), told.Load())
		require.EqualValues(t, p.Lost(), h.Stats().Lost)
		publish(t, h, "kept", text)
		numbered(t, p, 1001, 1)
	})
}

// Members that begin anywhere while many publish get every message once, in one order.
func TestSubscribeFromWhilePublishing(t *testing.T) {
	const publishers, each, members = 4, 300, 12
	h := hub.New(&hub.Options{History: []hub.History{{Topics: "kept", Messages: -1, Bytes: -1}}, Frame: framed, Backlog: 4000})
	defer func() { require.NoError(t, h.Close()) }()
	var working sync.WaitGroup
	for i := range publishers {
		working.Go(func() {
			for j := range each {
				if err := h.Publish(t.Context(), "kept", wsd.Text(fmt.Sprintf("%d %d", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range members {
		p := join(t, h, "", wsd.Config{SendQueue: 500})
		working.Go(func() {
			from := hub.Position{}
			if i%2 == 1 {
				page, err := h.History(t.Context(), "kept", from, 1+i*10)
				if err != nil {
					t.Error(err)
					return
				}
				if n := len(page.Publications); n > 0 {
					from = page.Publications[n-1].At
				}
			}
			if err := p.SubscribeFrom("kept", from); err != nil {
				t.Error(err)
				return
			}
			next := [publishers]int{}
			for seq := int(from.Seq) + 1; seq <= publishers*each; seq++ {
				m, err := p.far.Receive(t.Context())
				var got, publisher, number int
				if err == nil {
					_, err = fmt.Sscan(string(m.Data), &got, &publisher, &number)
				}
				if err != nil || got != seq {
					t.Errorf("expected message %d, got %q, %v", seq, m.Data, err)
					return
				}
				if number < next[publisher] {
					t.Errorf("message %d of publisher %d came after %d", number, publisher, next[publisher])
				}
				next[publisher] = number
			}
		})
	}
	working.Wait()
}

// flaky is a broker that can be away.
type flaky struct {
	*hub.Memory
	node  hub.Node
	away  atomic.Bool
	calls atomic.Int64
}

type flakyLink struct {
	hub.Link
	broker *flaky
}

func (f *flaky) Attach(n hub.Node) (hub.Link, error) {
	f.node = n
	deliver := n.Deliver
	n.Deliver = func(p hub.Publication) {
		if !f.away.Load() {
			deliver(p)
		}
	}
	link, err := f.Memory.Attach(n)
	return flakyLink{link, f}, err
}

var errAway = fmt.Errorf("%w: it is flaky", hub.ErrBroker)

func (l flakyLink) History(ctx context.Context, topic string, after hub.Position, most int) (hub.Page, error) {
	if l.broker.away.Load() {
		return hub.Page{}, errAway
	}
	return l.Link.History(ctx, topic, after, most)
}

func (l flakyLink) Subscribe(s string) error {
	l.broker.calls.Add(1)
	if l.broker.away.Load() {
		return errAway
	}
	return l.Link.Subscribe(s)
}

func (l flakyLink) Publish(ctx context.Context, p hub.Publication) error {
	if l.broker.away.Load() {
		return errAway
	}
	return l.Link.Publish(ctx, p)
}

// besideFlaky returns two hubs that share what is published and kept. The broker of the first can be away.
func besideFlaky(opts hub.Options) (h, other *hub.Hub, b *flaky) {
	b = &flaky{Memory: hub.NewMemory()}
	opts.Broker, opts.Frame = b, framed
	h = hub.New(&opts)
	opts.Broker = b.Memory
	other = hub.New(&opts)
	return h, other, b
}

// After a broker was away, what has history is read from there.
func TestBrokerThatWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, other, b := besideFlaky(hub.Options{History: []hub.History{{Topics: "kept"}}})
		defer func() { require.NoError(t, errors.Join(h.Close(), other.Close())) }()
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("kept", "live"))
		publish(t, other, "kept", "a")
		p.hears(t, "1 a")
		b.away.Store(true)
		publish(t, other, "kept", "b")
		publish(t, other, "live", "lost")
		require.ErrorIs(t, h.Publish(t.Context(), "kept", wsd.Text("x")), hub.ErrBroker)
		require.ErrorIs(t, p.Subscribe("more"), hub.ErrBroker)
		require.ErrorIs(t, p.Subscribe("more"), hub.ErrBroker, "tried again")
		require.Equal(t, []string{"kept", "live"}, p.Topics())
		b.node.Resumed()
		synctest.Wait()
		p.hearsNothing(t)
		b.away.Store(false)
		b.node.Resumed()
		p.hears(t, "2 b")
		publish(t, other, "kept", "c")
		publish(t, other, "live", "d")
		p.hears(t, "3 c", "0 d")
		require.NoError(t, p.Subscribe("more"))
		require.True(t, errors.Is(errAway, hub.ErrBroker))
	})
}

// Word of a loss comes ahead of the next message of any topic, also where nothing else waits.
func TestWordOfAGapComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := func(m *hub.Member, _ string, _ int) {
			if err := m.Conn().TrySend(wsd.Text("word")); err != nil {
				panic(err)
			}
		}
		h, other, b := besideFlaky(hub.Options{History: []hub.History{{Topics: "kept", Messages: 2}}, Lost: lost})
		defer func() { require.NoError(t, errors.Join(h.Close(), other.Close())) }()
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("kept", "live"))
		publish(t, other, "kept", "a")
		b.away.Store(true)
		publish(t, other, "kept", "b", "c", "d", "e")
		b.away.Store(false)
		// Until the connection writes what the peer has no room for, and its queue has: it tells of that behind the write.
		for p.Conn().Stats().QueuedBytes == 0 {
			publish(t, h, "live", strings.Repeat("x", 1000))
			synctest.Wait()
		}
		b.node.Resumed()
		synctest.Wait()
		require.EqualValues(t, 2, p.Lost(), "b and c")
		publish(t, h, "live", "after")
		var ends []string
		for len(ends) < 4 {
			m, err := p.far.Receive(t.Context())
			require.NoError(t, err)
			if len(m.Data) < 10 && string(m.Data) != "1 a" {
				ends = append(ends, string(m.Data))
			}
		}
		require.Equal(t, []string{"word", "4 d", "5 e", "0 after"}, ends)
	})
}

// Whoever could not read from history tries again, even if the broker has said that it is back just before. A subscription that
// began with the history goes on from there, also if nothing had come.
func TestReadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, other, b := besideFlaky(hub.Options{History: []hub.History{{Topics: "kept"}}})
		defer func() { require.NoError(t, errors.Join(h.Close(), other.Close())) }()
		p := join(t, h, "", quiet)
		require.NoError(t, p.SubscribeFrom("kept", hub.Position{}))
		for _, text := range []string{"1 a", "2 b"} {
			b.away.Store(true)
			publish(t, other, "kept", text[2:])
			b.node.Resumed() // too soon
			synctest.Wait()
			p.hearsNothing(t)
			time.Sleep(time.Minute)
			b.away.Store(false)
			p.hears(t, text)
		}
		b.away.Store(true)
		publish(t, other, "kept", "c")
		b.node.Resumed()
		synctest.Wait() // it is closed while it is about to try
	})
}

// What a broker has lost without knowing is noticed by the next that comes, and read from history before it.
func TestWhatIsMissedIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, other, b := besideFlaky(hub.Options{History: []hub.History{{Topics: "kept"}}})
		defer func() { require.NoError(t, errors.Join(h.Close(), other.Close())) }()
		from, live := join(t, h, "", quiet), join(t, h, "", quiet)
		require.NoError(t, from.SubscribeFrom("kept", hub.Position{}))
		require.NoError(t, live.Subscribe("kept"))
		lost := func(text string) {
			b.away.Store(true)
			publish(t, other, "kept", text)
			b.away.Store(false)
		}
		lost("a")
		publish(t, other, "kept", "b")
		from.hears(t, "1 a", "2 b")
		live.hears(t, "2 b") // it was to get what came after it had subscribed, and nobody knows that a did
		lost("c")
		lost("d")
		publish(t, other, "kept", "e", "f")
		from.hears(t, "3 c", "4 d", "5 e", "6 f")
		live.hears(t, "3 c", "4 d", "5 e", "6 f")
		from.hearsNothing(t)
		live.hearsNothing(t)
	})
}

// staged is a broker whose parts happen in an order that a test says.
type staged struct {
	*hub.Memory
	deliver func(hub.Publication)
	resumed func()
	held    []hub.Publication // what comes while hold is set
	hold    bool
	behind  func() // called once, when a History has been read and has not been returned yet
}

type stagedLink struct {
	hub.Link
	broker *staged
}

func (s *staged) Attach(n hub.Node) (hub.Link, error) {
	s.deliver, s.resumed = n.Deliver, n.Resumed
	n.Deliver = func(p hub.Publication) {
		if s.hold {
			s.held = append(s.held, p)
		} else {
			s.deliver(p)
		}
	}
	link, err := s.Memory.Attach(n)
	return stagedLink{link, s}, err
}

func (l stagedLink) History(ctx context.Context, topic string, after hub.Position, most int) (hub.Page, error) {
	page, err := l.Link.History(ctx, topic, after, most)
	if f := l.broker.behind; f != nil {
		l.broker.behind = nil
		f()
	}
	return page, err
}

// What comes between reading the history and going live is neither lost nor doubled.
func TestFromHistoryToLive(t *testing.T) {
	b := &staged{Memory: hub.NewMemory()}
	bubble(t, &hub.Options{Broker: b, History: []hub.History{{Topics: "kept"}}, Frame: framed}, func(t *testing.T, h *hub.Hub) {
		first := join(t, h, "", quiet)
		require.NoError(t, first.Subscribe("kept")) // so that the broker delivers here
		publish(t, h, "kept", "a")
		// Delivered while the history that lacks it is on its way.
		b.behind = func() { publish(t, h, "kept", "b") }
		p := join(t, h, "", quiet)
		require.NoError(t, p.SubscribeFrom("kept", hub.Position{}))
		p.hears(t, "1 a", "2 b")
		p.hearsNothing(t)
		// In the history already, and delivered late.
		b.hold = true
		publish(t, h, "kept", "c")
		q := join(t, h, "", quiet)
		require.NoError(t, q.SubscribeFrom("kept", hub.Position{}))
		q.hears(t, "1 a", "2 b", "3 c")
		b.hold = false
		for _, late := range b.held {
			b.deliver(late)
		}
		q.hearsNothing(t)
		publish(t, h, "kept", "d")
		p.hears(t, "3 c", "4 d")
		q.hears(t, "4 d")
	})
}

// A broker that comes back while a subscription reads from history has that read twice.
func TestResumedWhileSubscribing(t *testing.T) {
	b := &staged{Memory: hub.NewMemory()}
	bubble(t, &hub.Options{Broker: b, History: []hub.History{{Topics: "kept"}}, Frame: framed}, func(t *testing.T, h *hub.Hub) {
		publish(t, h, "kept", "a", "b", "c")
		page, err := h.History(t.Context(), "kept", hub.Position{}, 1)
		require.NoError(t, err)
		b.behind = func() {
			b.resumed()
			synctest.Wait()
		}
		p := join(t, h, "", quiet)
		require.NoError(t, p.SubscribeFrom("kept", page.Publications[0].At))
		p.hears(t, "2 b", "3 c")
		p.hearsNothing(t)
		publish(t, h, "kept", "d")
		p.hears(t, "4 d")
	})
}

// The first that is read from history finds no room.
func TestSubscribeFromWithoutRoom(t *testing.T) {
	bubble(t, &hub.Options{History: []hub.History{{Topics: "kept", Bytes: -1}}, Backlog: 15_000, Frame: framed}, func(t *testing.T, h *hub.Hub) {
		for range 50 {
			publish(t, h, "kept", strings.Repeat("x", 10_000))
		}
		p := join(t, h, "", quiet)
		require.NoError(t, p.SubscribeFrom("kept", hub.Position{}))
		numbered(t, p, 1, 50)
	})
}
