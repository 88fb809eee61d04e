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

// wire takes words between rosters; some are lost.
func exchange(r *rand.Rand, rosters map[uint64]*roster, loss int) {
	for _, from := range rosters {
		for w := from.takeChanges(); w != nil; w = from.takeChanges() {
			spread(r, rosters, from, w, loss)
		}
		spread(r, rosters, from, &word{Kind: beat, Version: from.version()}, loss)
	}
}

func spread(r *rand.Rand, rosters map[uint64]*roster, from *roster, w *word, loss int) {
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
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		rosters := map[uint64]*roster{}
		for id := range uint64(4) {
			rosters[id+1] = newRoster(id + 1)
		}
		for range 300 {
			at := rosters[uint64(1+r.IntN(4))]
			c := change{Topic: fmt.Sprint("t", r.IntN(2)), ID: fmt.Sprint(r.IntN(6)), Value: fmt.Sprint(r.IntN(3)), Gone: r.IntN(2) == 0}
			at.change(c)
			switch r.IntN(40) {
			case 0:
				rosters[uint64(1+r.IntN(4))].forget(uint64(1 + r.IntN(4)))
			case 1, 2, 3, 4, 5:
				exchange(r, rosters, 30)
			}
			for id, roster := range rosters {
				if roster.parts[id] == nil {
					rosters[id] = newRoster(id) // it has forgotten itself
				}
			}
		}
		for range 3 {
			exchange(r, rosters, 0)
		}
		for _, topic := range []string{"t0", "t1"} {
			want := idsOf(rosters[1].at(topic))
			for id, roster := range rosters {
				require.Equal(t, want, idsOf(roster.at(topic)), "seed %d, node %d", seed, id)
			}
		}
	}
}

func idsOf(all []hub.Presence) (ids []string) {
	for _, p := range all {
		ids = append(ids, p.ID)
	}
	return ids
}
