// hub_test.go checks members, subscriptions and publishing through the public API.

package hub_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/wsdtest"
)

// TestMain fails the whole binary when a goroutine outlives its test.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && leaked() {
		code = 1
	}
	os.Exit(code)
}

func leaked() bool {
	stacks := make([]byte, 16<<20)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		stacks = stacks[:runtime.Stack(stacks[:cap(stacks)], true)]
		if !strings.Contains(string(stacks), "wsd/hub.") && !strings.Contains(string(stacks), "wsd.(*Conn)") {
			return false
		}
	}
	fmt.Fprintln(os.Stderr, "leaked goroutines:\n\n"+string(stacks))
	return true
}

// peer is the far end of a member.
type peer struct {
	*hub.Member
	far *wsd.Conn
}

var quiet = wsd.Config{PingInterval: -1, WriteTimeout: -1, MessageBuffer: -1}

// join gives a hub another member; cfg is that of both ends.
func join(t *testing.T, h *hub.Hub, id string, cfg wsd.Config) peer {
	t.Helper()
	client, server := wsdtest.Pipe(cfg)
	t.Cleanup(func() {
		client.CloseNow()
		server.CloseNow()
	})
	m, err := h.Join(server, id)
	require.NoError(t, err)
	return peer{m, client}
}

// hears requires the texts of the next messages.
func (p peer) hears(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		m, err := p.far.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, text, string(m.Data))
	}
}

// hearsNothing requires that no message is on its way. It needs a bubble.
func (p peer) hearsNothing(t *testing.T) {
	t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	m, err := p.far.Receive(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%s", m.Data)
}

func publish(t *testing.T, h *hub.Hub, topic string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.NoError(t, h.Publish(t.Context(), topic, wsd.Text(text)))
	}
}

// bubble runs a test in a synctest bubble, with a hub that is closed at its end.
func bubble(t *testing.T, opts *hub.Options, test func(t *testing.T, h *hub.Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(opts)
		defer func() { require.NoError(t, h.Close()) }()
		test(t, h)
	})
}

func TestPublishReachesSubscribersOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub.Hub) {
		ann, bob := join(t, h, "ann", quiet), join(t, h, "bob", quiet)
		require.NoError(t, ann.Subscribe("room.1", "room.*", ">", "prices.>"))
		require.NoError(t, bob.Subscribe("room.2"))
		publish(t, h, "room.1", "one")
		publish(t, h, "room.2", "two")
		publish(t, h, "prices.eur.usd", "three")
		publish(t, h, "nobody", "four")
		ann.hears(t, "one", "two", "three", "four")
		bob.hears(t, "two")
		ann.hearsNothing(t)
		bob.hearsNothing(t)
		require.Equal(t, 2, h.Subscribers("room.2"), "each member once")
		require.Equal(t, 1, h.Subscribers("room.1"))
		require.Zero(t, h.Subscribers("not..valid"))
		require.Equal(t, []string{">", "prices.>", "room.*", "room.1"}, ann.Topics())
		require.Equal(t, hub.Stats{Members: 2, Subjects: 5, Subscriptions: 5, Published: 4, Queued: 5}, h.Stats())

		require.NoError(t, ann.Unsubscribe(">", "room.*", "never"))
		publish(t, h, "room.2", "five")
		publish(t, h, "room.1", "six")
		ann.hears(t, "six")
		ann.hearsNothing(t)
		require.NoError(t, ann.Subscribe("room.1"), "again, without effect")
		publish(t, h, "room.1", "seven")
		ann.hears(t, "seven")
		ann.hearsNothing(t)
	})
}

// Both roles, and with every compression: a client masks, and takeover compresses for itself.
func TestMembersOfEveryKind(t *testing.T) {
	for name, compression := range map[string]*wsd.Compression{
		"plain": nil, "takeover": {}, "no takeover": {ServerNoContextTakeover: true, ClientNoContextTakeover: true},
	} {
		for _, role := range []wsd.Role{wsd.ServerRole, wsd.ClientRole} {
			t.Run(name+", "+role.String(), func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, h *hub.Hub) {
					cfg := quiet
					cfg.Compression = compression
					far, near := wsdtest.Pipe(cfg)
					if role == wsd.ClientRole {
						far, near = near, far
					}
					defer far.CloseNow()
					defer near.CloseNow()
					m, err := h.Join(near, "")
					require.NoError(t, err)
					require.NoError(t, m.Subscribe("t"))
					p := peer{m, far}
					for _, size := range []int{1, 1000, 10_000, 200_000} {
						text := strings.Repeat("x", size)
						publish(t, h, "t", text)
						p.hears(t, text)
					}
				})
			})
		}
	}
}

func TestPublishRefuses(t *testing.T) {
	bubble(t, &hub.Options{MaxLength: 10, MaxTokens: 3}, func(t *testing.T, h *hub.Hub) {
		var subject *hub.SubjectError
		for _, topic := range []string{"", "a..b", "a.*", ">", "a b", "$sys", "presence.a", "presence"} {
			require.ErrorAs(t, h.Publish(t.Context(), topic, wsd.Text("x")), &subject, topic)
			require.Equal(t, topic, subject.Subject)
			require.NotEmpty(t, subject.Error())
		}
		var limit *hub.LimitError
		require.ErrorAs(t, h.Publish(t.Context(), strings.Repeat("a", 11), wsd.Text("x")), &limit)
		require.Equal(t, hub.LimitError{Limit: "MaxLength", Most: 10}, *limit)
		require.ErrorAs(t, h.Publish(t.Context(), "a.b.c.d", wsd.Text("x")), &limit)
		require.Equal(t, "MaxTokens", limit.Limit)
		require.ErrorIs(t, h.Publish(t.Context(), "a", wsd.Text("\xff")), wsd.ErrInvalidMessage)
		require.ErrorIs(t, h.Publish(t.Context(), "a", wsd.Message{}), wsd.ErrInvalidMessage)
		//lint:ignore SA1012 that it is found
		require.ErrorIs(t, h.Publish(nil, "a", wsd.Text("x")), wsd.ErrNilContext)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, h.Publish(ctx, "a", wsd.Text("x")), context.Canceled)
		require.Zero(t, h.Stats().Published)

		p := join(t, h, "", quiet)
		for _, topic := range []string{"", "a..b", "a.>.b", "$sys", "a*"} {
			require.ErrorAs(t, p.Subscribe("good", topic), &subject, topic)
		}
		require.Empty(t, p.Topics(), "all or none")
		_, err := h.Listen("$x")
		require.ErrorAs(t, err, &subject)
	})
}

func TestAuthorize(t *testing.T) {
	no := errors.New("not yours")
	bubble(t, &hub.Options{Authorize: func(m *hub.Member, topic string) error {
		if topic != "of."+m.ID() {
			return no
		}
		return nil
	}}, func(t *testing.T, h *hub.Hub) {
		ann := join(t, h, "ann", quiet)
		require.NoError(t, ann.Subscribe("of.ann"))
		require.ErrorIs(t, ann.Subscribe("of.bob"), no)
		require.ErrorIs(t, ann.Subscribe(">"), no)
		require.ErrorIs(t, ann.SubscribeFrom("of.bob", hub.Position{}), no)
		require.Equal(t, []string{"of.ann"}, ann.Topics())
	})
}

func TestLimits(t *testing.T) {
	bubble(t, &hub.Options{MaxMembers: 1, MaxTopics: 2}, func(t *testing.T, h *hub.Hub) {
		ann := join(t, h, "ann", quiet)
		_, other := wsdtest.Pipe(quiet)
		defer other.CloseNow()
		var limit *hub.LimitError
		_, err := h.Join(other, "bob")
		require.ErrorAs(t, err, &limit)
		require.Equal(t, "MaxMembers", limit.Limit)
		_, err = h.Join(ann.Conn(), "ann")
		require.ErrorIs(t, err, hub.ErrJoined)
		require.ErrorAs(t, ann.Subscribe("a", "b", "c"), &limit)
		require.Equal(t, "MaxTopics", limit.Limit)
		require.Empty(t, ann.Topics())
		require.NoError(t, ann.Subscribe("a", "b", "a"))
		ann.Leave()
		require.ErrorIs(t, ann.Subscribe("a"), hub.ErrLeft)
		require.ErrorIs(t, ann.Unsubscribe("a"), hub.ErrLeft)
		bob, err := h.Join(other, "bob")
		require.NoError(t, err, "there is room again")
		bob.Leave()
		again, err := h.Join(other, "bob")
		require.NoError(t, err, "a connection may come back")
		require.NoError(t, again.Subscribe("a"))
	})
}

func TestWrongOptionsAreToldByEveryCall(t *testing.T) {
	h := hub.New(&hub.Options{History: []hub.History{{Topics: "a..b"}}})
	var option *hub.OptionError
	require.ErrorAs(t, h.Publish(t.Context(), "a", wsd.Text("x")), &option)
	require.Equal(t, "History", option.Option)
	_, err := h.Join(nil, "")
	require.ErrorAs(t, err, &option)
	_, err = h.Listen("a")
	require.ErrorAs(t, err, &option)
	require.NoError(t, h.Close())
	require.ErrorAs(t, hub.New(&hub.Options{Slow: 9}).Publish(t.Context(), "a", wsd.Text("x")), &option)
	require.ErrorAs(t, hub.New(&hub.Options{Presence: []string{""}}).Publish(t.Context(), "a", wsd.Text("x")), &option)
}

// A member leaves when its connection ends, and needs no goroutine to find that.
func TestMembersLeaveByThemselves(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub.Hub) {
		var peers []peer
		before := runtime.NumGoroutine()
		for i := range 10 {
			p := join(t, h, fmt.Sprint(i), quiet)
			require.NoError(t, p.Subscribe("room", "only."+fmt.Sprint(i)))
			peers = append(peers, p)
		}
		synctest.Wait()
		after := runtime.NumGoroutine()
		for range 10 { // while the runtime passes on the records of those that have ended, it may count some once more
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory) // for which it has to have finished that
			after = min(after, runtime.NumGoroutine())
		}
		require.LessOrEqual(t, after-before, 2*len(peers), "the readers of the connections' ends")
		for i, p := range peers {
			require.Equal(t, 10-i, h.Subscribers("room"))
			if i%2 == 0 {
				p.far.CloseNow()
			} else {
				p.Conn().CloseNow()
			}
			synctest.Wait()
			<-p.Conn().Closed()
			synctest.Wait()
			require.Equal(t, 9-i, h.Stats().Members)
			require.ErrorIs(t, p.Subscribe("x"), hub.ErrLeft)
		}
		require.Zero(t, h.Stats().Subjects)
		late, ended := wsdtest.Pipe(quiet)
		late.CloseNow()
		<-ended.Closed()
		_, err := h.Join(ended, "")
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, h.Stats().Members, "one that had ended before")
	})
}

func TestListen(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub.Hub) {
		l, err := h.Listen("a.*")
		require.NoError(t, err)
		publish(t, h, "a.b", "one")
		publish(t, h, "b", "two")
		publish(t, h, "a.c", "three")
		got := <-l.C()
		require.Equal(t, "a.b", got.Topic)
		require.Equal(t, wsd.Text("one"), got.Message)
		require.Equal(t, "a.c", (<-l.C()).Topic)
		require.Equal(t, 1, h.Subscribers("a.x"))
		for i := range 300 {
			publish(t, h, "a.b", fmt.Sprint(i))
		}
		require.EqualValues(t, 300-256, l.Lost())
		require.Equal(t, "0", string((<-l.C()).Message.Data), "the oldest are kept")
		l.Close()
		l.Close()
		require.Zero(t, h.Stats().Subscriptions)
		publish(t, h, "a.b", "nobody")
		n := 0
		for range l.C() {
			n++
		}
		require.Equal(t, 255, n)
		other, err := h.Listen(">")
		require.NoError(t, err)
		require.NoError(t, h.Close())
		_, open := <-other.C()
		require.False(t, open)
		_, err = h.Listen(">")
		require.ErrorIs(t, err, hub.ErrClosed)
	})
}

// The caller's slice is the caller's again, whoever keeps the message.
func TestPublishCopies(t *testing.T) {
	bubble(t, &hub.Options{History: []hub.History{{Topics: "kept"}}}, func(t *testing.T, h *hub.Hub) {
		for _, topic := range []string{"live", "kept"} {
			p := join(t, h, "", quiet)
			require.NoError(t, p.Subscribe(topic))
			l, err := h.Listen(topic)
			require.NoError(t, err)
			data := []byte(strings.Repeat("x", 20_000))
			require.NoError(t, h.Publish(t.Context(), topic, wsd.Binary(data)))
			clear(data)
			p.hears(t, strings.Repeat("x", 20_000))
			require.Equal(t, byte('x'), (<-l.C()).Message.Data[0])
			l.Close()
		}
	})
}

func TestFrame(t *testing.T) {
	bubble(t, &hub.Options{
		History: []hub.History{{Topics: "kept"}},
		Frame: func(topic string, at hub.Position, msg wsd.Message) wsd.Message {
			if string(msg.Data) == "bad" {
				return wsd.Message{}
			}
			return wsd.Text(fmt.Sprintf("%s %d %s", topic, at.Seq, msg.Data))
		},
	}, func(t *testing.T, h *hub.Hub) {
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe(">"))
		publish(t, h, "live", "one", "bad")
		publish(t, h, "kept", "two", "three")
		p.hears(t, "live 0 one", "kept 1 two", "kept 2 three")
		require.EqualValues(t, 1, h.Stats().Invalid)
		require.NoError(t, p.Unsubscribe(">"))
		require.NoError(t, p.SubscribeFrom("kept", hub.Position{}))
		p.hears(t, "kept 1 two", "kept 2 three")
	})
}

// Who leaves while a publication is on its way does not get it any more.
func TestLeavingAheadOfAPublication(t *testing.T) {
	var leaves *hub.Member
	bubble(t, &hub.Options{Frame: func(_ string, _ hub.Position, msg wsd.Message) wsd.Message {
		leaves.Leave() // when the subscriber has been found
		return msg
	}}, func(t *testing.T, h *hub.Hub) {
		p := join(t, h, "", quiet)
		leaves = p.Member
		require.NoError(t, p.Subscribe("t"))
		publish(t, h, "t", "late")
		p.hearsNothing(t)
	})
}

// Whatever asks a hub or comes to it goes on while publishing is stuck in a function of the program's.
func TestReadsDoNotWaitForPublish(t *testing.T) {
	stuck := make(chan struct{})
	bubble(t, &hub.Options{
		History: []hub.History{{Topics: "kept.>"}}, Presence: []string{">"},
		Frame: func(_ string, _ hub.Position, msg wsd.Message) wsd.Message {
			if string(msg.Data) == "stuck" {
				<-stuck
			}
			return msg
		},
	}, func(t *testing.T, h *hub.Hub) {
		stuck = make(chan struct{})
		p := join(t, h, "ann", quiet)
		require.NoError(t, p.Subscribe("live", "kept.a"))
		var publishing sync.WaitGroup
		for _, topic := range []string{"live", "kept.a"} {
			publishing.Go(func() { _ = h.Publish(context.Background(), topic, wsd.Text("stuck")) })
		}
		synctest.Wait()
		require.Equal(t, 1, h.Subscribers("live"))
		require.Equal(t, 1, h.Stats().Members)
		require.Zero(t, p.Lost())
		for _, topic := range []string{"live", "kept.a"} {
			list, err := h.Presence(t.Context(), topic)
			require.NoError(t, err)
			require.Len(t, list, 1)
			q := join(t, h, "bob", quiet)
			require.NoError(t, q.Subscribe(topic), "comes while publishing is stuck")
			require.NoError(t, q.Unsubscribe(topic))
			q.Leave()
		}
		page, err := h.History(t.Context(), "kept.a", hub.Position{}, 10)
		require.NoError(t, err)
		require.Len(t, page.Publications, 1)
		publish(t, h, "other", "goes on")
		close(stuck)
		publishing.Wait()
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(nil)
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("a"))
		publish(t, h, "a", "one")
		require.NoError(t, h.Close())
		require.NoError(t, h.Close())
		p.hears(t, "one")
		require.ErrorIs(t, h.Publish(t.Context(), "a", wsd.Text("x")), hub.ErrClosed)
		require.ErrorIs(t, p.Subscribe("a"), hub.ErrClosed)
		_, err := h.Join(p.Conn(), "")
		require.ErrorIs(t, err, hub.ErrClosed)
		require.NoError(t, p.Conn().TrySend(wsd.Text("its connection is open")))
		p.hears(t, "its connection is open")
	})
}

// slowly is a broker that takes a second to end a subscription.
type slowly struct{ *hub.Memory }

type slowLink struct{ hub.Link }

func (b slowly) Attach(n hub.Node) (hub.Link, error) {
	link, err := b.Memory.Attach(n)
	return slowLink{link}, err
}

func (l slowLink) Unsubscribe(s string) error {
	time.Sleep(time.Second)
	return l.Link.Unsubscribe(s)
}

// A member that is leaving by itself when the hub is closed has left when that returns.
func TestCloseAwaitsWhoIsLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(&hub.Options{Broker: slowly{hub.NewMemory()}})
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("a"))
		p.far.CloseNow()
		synctest.Wait()
		require.Equal(t, 1, h.Stats().Members, "it is leaving")
		require.NoError(t, h.Close())
		require.Zero(t, h.Stats().Members)
		require.Zero(t, h.Stats().Subscriptions)
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(nil)
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("a"))
		text := strings.Repeat("x", 10_000)
		for range 50 {
			publish(t, h, "a", text)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var reading sync.WaitGroup
		reading.Go(func() {
			time.Sleep(time.Second / 2)
			for range 50 {
				p.hears(t, text)
			}
		})
		require.NoError(t, h.Shutdown(ctx))
		reading.Wait()

		h = hub.New(nil)
		q := join(t, h, "", quiet)
		require.NoError(t, q.Subscribe("a"))
		for range 50 {
			publish(t, h, "a", text)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, h.Shutdown(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, h.Shutdown(context.Background()), nil)
		//lint:ignore SA1012 that it is found
		require.ErrorIs(t, h.Shutdown(nil), wsd.ErrNilContext)
	})
}

// liveHeap returns the bytes of what is reachable.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestMemoryOfSubscriptions(t *testing.T) {
	const members, topics, each = 1_000, 10_000, 100
	h := hub.New(nil)
	var all []*hub.Member
	var names []string
	for i := range topics {
		names = append(names, fmt.Sprintf("prices.market.%d", i))
	}
	for range members {
		client, server := wsdtest.Pipe(quiet)
		defer client.CloseNow()
		m, err := h.Join(server, "")
		require.NoError(t, err)
		all = append(all, m)
	}
	before := liveHeap()
	for i, m := range all {
		for j := range each {
			require.NoError(t, m.Subscribe(names[(i*each+j)%topics]))
		}
	}
	bytes := float64(liveHeap()-before) / (members * each)
	require.Equal(t, members*each, h.Stats().Subscriptions)
	require.Equal(t, topics, h.Stats().Subjects)
	t.Logf("%.0f bytes each", bytes)
	require.Less(t, bytes, 150.0)
	require.NoError(t, h.Close())
	require.Zero(t, h.Stats().Subscriptions)
	runtime.KeepAlive(slices.Clone(names))
}
