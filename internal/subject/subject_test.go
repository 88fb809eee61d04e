// subject_test.go checks subjects and the tree that matches them, beside a matcher too simple to be wrong.
package subject

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

var wide = Limits{Length: 256, Tokens: 16}

func TestCheck(t *testing.T) {
	for subject, kinds := range map[string]string{ // L: as a topic, P: as a pattern
		"a": "LP", "a.b.c": "LP", "room.42": "LP", "größe.π": "LP", "a-b_c/d:e": "LP", "$x": "LP", "presence.a": "LP",
		"*": "P", ">": "P", "a.*": "P", "*.b": "P", "a.*.c": "P", "a.>": "P", "*.>": "P",
		"": "", ".": "", "a.": "", ".a": "", "a..b": "", "a b": "", "a\tb": "", "a\x00": "", "a\x7f": "", "\xff": "",
		">.a": "", "a.>.b": "", "a*": "", "*a": "", "a.b>": "", ">>": "", "**": "",
		strings.Repeat("a", 256): "LP", strings.Repeat("a", 257): "",
		strings.Repeat("a.", 15) + "a": "LP", strings.Repeat("a.", 16) + "a": "",
	} {
		require.Equal(t, strings.Contains(kinds, "L"), Check(subject, Literal, wide) == "", "%q as a topic", subject)
		require.Equal(t, strings.Contains(kinds, "P"), Check(subject, Pattern, wide) == "", "%q as a pattern", subject)
	}
}

func TestMatches(t *testing.T) {
	for _, row := range []struct {
		pattern, topic string
		want           bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.c", false}, {"a.b", "a", false}, {"a", "a.b", false},
		{"*", "a", true}, {"*", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "a.b.c", false},
		{"*.b", "a.b", true}, {"a.*.c", "a.b.c", true}, {"a.*.c", "a.b.d", false},
		{">", "a", true}, {">", "a.b.c", true}, {"a.>", "a.b", true}, {"a.>", "a.b.c", true}, {"a.>", "a", false},
		{"*.>", "a", false}, {"*.>", "a.b", true},
		{">", "presence.a", false}, {"*.a", "presence.a", false}, {"presence.*", "presence.a", true},
		{"presence.>", "presence.a.b", true}, {">", "$x", false}, {"*", "$x", false}, {"$x", "$x", true}, {"presences.*", "presences.a", true},
	} {
		require.Equal(t, row.want, Matches(row.pattern, row.topic), "%q, %q", row.pattern, row.topic)
	}
}

// item is an entry of a test.
type item struct {
	index   int32
	subject string
	list    *List[item, *item]
}

func (i *item) Index() *int32 { return &i.index }

type itemTree = Tree[item, *item]

func matched(tree *itemTree, topic string) (subjects []string, items map[*item]int) {
	items = map[*item]int{}
	for _, l := range tree.Match(topic, nil) {
		subjects = append(subjects, l.Subject)
		for i := range l.All() {
			items[i]++
		}
	}
	return subjects, items
}

// requireAgreement compares the tree with a look at each entry.
func requireAgreement(t *testing.T, tree *itemTree, all map[*item]bool, topic string) {
	t.Helper()
	_, found := matched(tree, topic)
	want := map[*item]int{}
	for i := range all {
		if Matches(i.subject, topic) {
			want[i] = 1
		}
	}
	require.Equal(t, want, found, topic)
}

func randomSubject(r *rand.Rand, kind Kind) string {
	letters := []string{"a", "b", "presence", "$c"}
	if kind == Pattern {
		letters = append(letters, "*", "*")
	}
	tokens := make([]string, 1+r.IntN(4))
	for i := range tokens {
		tokens[i] = letters[r.IntN(len(letters))]
	}
	if kind == Pattern && r.IntN(4) == 0 {
		tokens[len(tokens)-1] = ">"
	}
	return strings.Join(tokens, ".")
}

func TestTreeAgreesWithANaiveMatcher(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		tree, all := new(itemTree), map[*item]bool{}
		subjects := map[string]int{}
		for range 600 {
			if r.IntN(5) < 3 {
				i := &item{subject: randomSubject(r, Pattern)}
				i.list = tree.Add(i.subject, i)
				all[i] = true
				subjects[i.subject]++
			} else {
				for i := range all {
					tree.Remove(i.list, i)
					delete(all, i)
					if subjects[i.subject]--; subjects[i.subject] == 0 {
						delete(subjects, i.subject)
						require.Nil(t, tree.Find(i.subject), i.subject)
					}
					break
				}
			}
			entries, names := tree.Len()
			require.Equal(t, len(all), entries)
			require.Equal(t, len(subjects), names)
			requireAgreement(t, tree, all, randomSubject(r, Literal))
		}
		for i := range all {
			require.Same(t, i.list, tree.Find(i.subject))
			tree.Remove(i.list, i)
		}
		require.True(t, tree.patterns.empty(), "nothing is left of patterns")
		require.Zero(t, tree.literals.n)
	}
}

func FuzzSubjects(f *testing.F) {
	f.Add("a.*.c\n>\na.b.c\npresence.>\n*.b.*", "a.b.c")
	f.Add("*\n*.>\n\xff\na.>.b", "presence.a")
	f.Fuzz(func(t *testing.T, patterns, topic string) {
		tree, all := new(itemTree), map[*item]bool{}
		for p := range strings.SplitSeq(patterns, "\n") {
			if Check(p, Literal, wide) == "" {
				require.Empty(t, Check(p, Pattern, wide), p)
				require.True(t, Matches(p, p), p)
			}
			if Check(p, Pattern, wide) == "" {
				i := &item{subject: p}
				i.list = tree.Add(p, i)
				all[i] = true
			}
		}
		if Check(topic, Literal, wide) == "" {
			requireAgreement(t, tree, all, topic)
		}
		for i := range all {
			tree.Remove(i.list, i)
		}
		require.True(t, tree.patterns.empty())
	})
}

// An entry that stays is found by every match, exactly once, whatever comes and goes around it.
func TestMatchWhileOthersComeAndGo(t *testing.T) {
	tree := new(itemTree)
	stays := map[string]*item{}
	for _, s := range []string{"a.b", "a.*", "a.>", "*.b"} {
		i := &item{subject: s}
		i.list = tree.Add(s, i)
		stays[s] = i
	}
	var over atomic.Bool
	var changing sync.WaitGroup
	for worker := range 3 {
		changing.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 1))
			var mine []*item
			for !over.Load() {
				if len(mine) < 50 && r.IntN(2) == 0 {
					i := &item{subject: []string{"a.b", "a.*", "a.>", "*.b", "a.b.c", "q." + strconv.Itoa(r.IntN(50))}[r.IntN(6)]}
					i.list = tree.Add(i.subject, i)
					mine = append(mine, i)
				} else if len(mine) > 0 {
					i := mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					tree.Remove(i.list, i)
				}
			}
		})
	}
	for range 5000 {
		_, items := matched(tree, "a.b")
		for s, i := range stays {
			require.Equal(t, 1, items[i], s)
		}
	}
	over.Store(true)
	changing.Wait()
}

// A match sees what agrees with its topic, however much else there is.
func TestMatchDoesNotGrowWithOthers(t *testing.T) {
	tree := new(itemTree)
	add := func(s string) {
		i := &item{subject: s}
		i.list = tree.Add(s, i)
	}
	add("rooms.1.talk")
	add("rooms.*.talk")
	for i := range 20_000 {
		add("rooms." + strconv.Itoa(i+2) + ".talk")
		add("rooms." + strconv.Itoa(i+2) + ".>")
		add("others." + strconv.Itoa(i) + ".*")
	}
	var room [4]*List[item, *item]
	found := tree.Match("rooms.1.talk", room[:0])
	require.Len(t, found, 2)
	require.Zero(t, testing.AllocsPerRun(100, func() { tree.Match("rooms.1.talk", room[:0]) }))
	longest := 0
	for _, l := range []*lookup[node[item, *item]]{&tree.patterns.tokens, &tree.patterns.tokens.get("rooms").tokens} {
		buckets := *l.buckets.Load()
		for i := range buckets {
			n := 0
			for e := buckets[i].Load(); e != nil; e = e.next.Load() {
				n++
			}
			longest = max(longest, n)
		}
	}
	require.Less(t, longest, 16, "no chain of a table grows long")
}

func BenchmarkMatch(b *testing.B) {
	tree := new(itemTree)
	for i := range 10_000 {
		for range 10 {
			e := &item{subject: "prices.market." + strconv.Itoa(i)}
			e.list = tree.Add(e.subject, e)
		}
	}
	e := &item{subject: "prices.*.1"}
	e.list = tree.Add(e.subject, e)
	var room [4]*List[item, *item]
	b.ReportAllocs()
	for b.Loop() {
		if len(tree.Match("prices.market.1", room[:0])) != 2 {
			b.Fatal("not found")
		}
	}
	runtime.KeepAlive(slices.Clone(room[:]))
}
