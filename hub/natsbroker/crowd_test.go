// crowd_test.go compares crowds with a map, and rosters of nodes that tell each other of changes with one another.

package natsbroker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/hub"
)

func TestCrowd(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var c crowd
	model := map[string]string{}
	for i := range 5000 {
		id := fmt.Sprint(r.IntN(200))
		if r.IntN(2) == 0 {
			c.put(&seat{id: id, value: fmt.Sprint(i)})
			model[id] = fmt.Sprint(i)
		} else {
			delete(model, id)
			require.Equal(t, len(model) == 0, c.remove(id))
		}
		if i%100 == 0 {
			var want []hub.Presence
			for _, id := range slices.Sorted(maps.Keys(model)) {
				want = append(want, hub.Presence{ID: id, Value: model[id]})
			}
			require.Equal(t, want, c.list())
		}
	}
}

// exchange takes words between rosters; some are lost.
func exchange(r *rand.Rand, rosters []*roster, loss int) {
	for _, from := range rosters {
		for w := from.takeChanges(); w != nil; w = from.takeChanges() {
			spread(r, rosters, from, w, loss)
		}
		spread(r, rosters, from, &word{Kind: beat, Version: from.version()}, loss)
	}
}

func spread(r *rand.Rand, rosters []*roster, from *roster, w *word, loss int) {
	w.From = from.self
	for _, to := range rosters {
		if to == from || r.IntN(100) < loss {
			continue
		}
		if !to.hear(w) {
			continue
		}
		to.parts[from.self].asked -= askAgain
		for _, part := range from.state() {
			part.From = from.self
			if r.IntN(100) >= loss {
				to.hear(part)
			}
		}
	}
}

func TestRostersAgree(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		var rosters []*roster
		for range 4 {
			rosters = append(rosters, newRoster(r.Uint64()))
		}
		for range 300 {
			at := r.IntN(4)
			c := change{Topic: fmt.Sprint("t", r.IntN(2)), ID: fmt.Sprint(r.IntN(6)), Value: fmt.Sprint(r.IntN(3)), Gone: r.IntN(2) == 0}
			rosters[at].change(c)
			switch r.IntN(40) {
			case 0: // it was silent for too long
				rosters[(at+1)%4].forget(rosters[at].self)
			case 1: // it dies, and another takes its place
				for _, other := range rosters {
					if other != rosters[at] {
						other.forget(rosters[at].self)
					}
				}
				rosters[at] = newRoster(r.Uint64())
			case 2, 3, 4, 5, 6:
				exchange(r, rosters, 30)
			}
		}
		for range 3 {
			exchange(r, rosters, 0)
		}
		for _, topic := range []string{"t0", "t1"} {
			want := idsOf(rosters[0].at(topic))
			for i, roster := range rosters {
				require.Equal(t, want, idsOf(roster.at(topic)), "seed %d, node %d", seed, i)
			}
		}
	}
}

// What has come of a state is nothing until all has, and nothing of it is left when another begins.
func TestAPartOfAStateIsLost(t *testing.T) {
	near, far := newRoster(1), newRoster(2)
	told := func(words ...*word) {
		for _, w := range words {
			w.From = 2
			near.hear(w)
		}
	}
	forget := func() {
		for far.takeChanges() != nil { // they are lost
		}
	}
	for i := range 2*stateMost + 1 {
		far.change(change{Topic: "t", ID: fmt.Sprint(i)})
	}
	forget()
	first := far.state()
	require.Len(t, first, 3)
	told(first[0], first[2])
	require.Zero(t, near.len())
	told(first[0])
	far.change(change{Topic: "t", ID: first[0].Changes[0].ID, Gone: true})
	forget()
	second := far.state()
	told(second[1:]...)
	require.Zero(t, near.len())
	told(second...)
	require.Equal(t, idsOf(far.at("t")), idsOf(near.at("t")))
	require.Len(t, near.at("t"), 2*stateMost)
}

func idsOf(all []hub.Presence) (ids []string) {
	for _, p := range all {
		ids = append(ids, p.ID)
	}
	return ids
}
