// memory_test.go runs the conformance suite of brokers over the one in memory, and two hubs over one.

package hub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/brokertest"
)

func TestMemoryIsABroker(t *testing.T) {
	brokertest.Run(t, func(_ *testing.T, n int) []hub.Broker {
		b, all := hub.NewMemory(), make([]hub.Broker, n)
		for i := range all {
			all[i] = b
		}
		return all
	})
}

// twoNodes runs a test with two hubs on one broker.
func twoNodes(t *testing.T, opts hub.Options, test func(t *testing.T, a, b *hub.Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opts.Broker = hub.NewMemory()
		a, b := hub.New(&opts), hub.New(&opts)
		defer func() {
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
		}()
		test(t, a, b)
	})
}

func TestTwoNodes(t *testing.T) {
	twoNodes(t, hub.Options{History: []hub.History{{Topics: "kept"}}, Presence: []string{"*"}, Frame: framed}, func(t *testing.T, a, b *hub.Hub) {
		ann, bob := join(t, a, "ann", quiet), join(t, b, "bob", quiet)
		require.NoError(t, ann.Subscribe("kept", ">"))
		require.NoError(t, bob.Subscribe("kept"))
		publish(t, a, "kept", "one")
		publish(t, b, "kept", "two")
		publish(t, b, "live", "three")
		ann.hears(t, "1 one", "2 two", "0 three")
		bob.hears(t, "1 one", "2 two")
		bob.hearsNothing(t)
		require.Equal(t, 1, a.Subscribers("kept"), "each node has its own numbers")
		require.Equal(t, 1, b.Subscribers("kept"))
		require.Zero(t, b.Subscribers("live"))
		require.EqualValues(t, 1, a.Stats().Published)
		require.EqualValues(t, 2, b.Stats().Published)
		for _, h := range []*hub.Hub{a, b} {
			list, err := h.Presence(t.Context(), "kept")
			require.NoError(t, err)
			require.Equal(t, []hub.Presence{{ID: "ann"}, {ID: "bob"}}, list)
		}
		require.NoError(t, a.Close())
		list, err := b.Presence(t.Context(), "kept")
		require.NoError(t, err)
		require.Equal(t, []hub.Presence{{ID: "bob"}}, list)
		cyd := join(t, b, "cyd", quiet)
		require.NoError(t, cyd.SubscribeFrom("kept", hub.Position{}))
		cyd.hears(t, "1 one", "2 two")
	})
}

func TestNodesMustAgreeOnHistory(t *testing.T) {
	b := hub.NewMemory()
	one := hub.New(&hub.Options{Broker: b, History: []hub.History{{Topics: "a"}}})
	defer func() { require.NoError(t, one.Close()) }()
	other := hub.New(&hub.Options{Broker: b})
	var option *hub.OptionError
	require.ErrorAs(t, other.Publish(t.Context(), "a", wsd.Text("x")), &option)
	require.NoError(t, other.Close())
}

func framed(_ string, at hub.Position, msg wsd.Message) wsd.Message {
	return wsd.Text(fmt.Sprintf("%d %s", at.Seq, msg.Data))
}

func TestPresence(t *testing.T) {
	bubble(t, &hub.Options{Presence: []string{"room.*"}}, func(t *testing.T, h *hub.Hub) {
		watch := join(t, h, "", quiet)
		require.NoError(t, watch.Subscribe("presence.room.1", "room.1"))
		require.NoError(t, watch.Subscribe(">"), "which does not match presence")
		first, second := join(t, h, "ann", quiet), join(t, h, "ann", quiet)
		require.NoError(t, first.SetPresence("typing"))
		require.NoError(t, first.Subscribe("room.1", "room.>", "elsewhere"))
		require.NoError(t, second.Subscribe("room.1"))
		watch.hears(t, `{"event":"join","id":"ann","value":"typing"}`)
		list, err := h.Presence(t.Context(), "room.1")
		require.NoError(t, err)
		require.Equal(t, []hub.Presence{{ID: "ann", Value: "typing"}}, list)
		require.NoError(t, second.SetPresence("away"))
		watch.hears(t, `{"event":"update","id":"ann","value":"away"}`)
		first.Conn().CloseNow()
		<-first.Conn().Closed()
		watch.hearsNothing(t)
		second.far.CloseNow()
		watch.hears(t, `{"event":"leave","id":"ann","value":"away"}`)
		watch.hearsNothing(t)
		list, err = h.Presence(t.Context(), "room.1")
		require.NoError(t, err)
		require.Empty(t, list)

		_, err = h.Presence(t.Context(), "elsewhere")
		require.ErrorIs(t, err, hub.ErrNoPresence)
		var limit *hub.LimitError
		require.ErrorAs(t, watch.SetPresence(strings.Repeat("x", 1025)), &limit)
		var subject *hub.SubjectError
		_, err = h.Presence(t.Context(), "room.*")
		require.ErrorAs(t, err, &subject)
		require.NoError(t, watch.Unsubscribe("room.1"))
		third := join(t, h, "bob", quiet)
		require.NoError(t, third.Subscribe("room.1"))
		require.NoError(t, third.Unsubscribe("room.1"))
		watch.hears(t, `{"event":"join","id":"bob"}`, `{"event":"leave","id":"bob"}`)
	})
}

// Histories that have aged are let go of, and positions in them are gaps.
func TestHistoryAges(t *testing.T) {
	bubble(t, &hub.Options{History: []hub.History{{Topics: "*", Age: time.Minute, Messages: -1, Bytes: 5000}}}, func(t *testing.T, h *hub.Hub) {
		publish(t, h, "a", "one", "two")
		page, err := h.History(t.Context(), "a", hub.Position{}, 10)
		require.NoError(t, err)
		require.Len(t, page.Publications, 2)
		time.Sleep(time.Minute)
		_, err = h.History(t.Context(), "a", page.Publications[0].At, 10)
		var gap *hub.Gap
		require.ErrorAs(t, err, &gap)
		require.Equal(t, page.Publications[1].At, gap.First)
		publish(t, h, "a", strings.Repeat("x", 3000), strings.Repeat("y", 3000))
		kept, err := h.History(t.Context(), "a", hub.Position{}, 10)
		require.NoError(t, err)
		require.Len(t, kept.Publications, 1, "as many bytes as may be kept")
		time.Sleep(time.Minute)
		for range 5000 {
			publish(t, h, "b", "x")
		}
		synctest.Wait()
		_, err = h.History(t.Context(), "a", kept.Publications[0].At, 10)
		require.ErrorAs(t, err, &gap)
		require.NotEqual(t, kept.Publications[0].At.Epoch, gap.First.Epoch, "it has been thrown away, and begins anew")
	})
}
