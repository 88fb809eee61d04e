// results_test.go collects what was run with whom, and makes docs/interop.md of it.

package interop

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// outcome is how a test ended.
type outcome string

const (
	passed  outcome = "yes"
	partly  outcome = "part" // all that the peer can
	unable  outcome = "–"    // the peer cannot take part in it
	failure outcome = "NO"
)

// outcomeOf is to be called at the end of a test.
func outcomeOf(t *testing.T) outcome {
	switch {
	case t.Failed():
		return failure
	case t.Skipped():
		return unable
	case results.partial(t.Name()):
		return partly
	}
	return passed
}

// collected is what all tests together have found. The zero value is ready.
type collected struct {
	mu     sync.Mutex
	matrix map[string]map[string]map[string]outcome // by role, case and peer: the worst of all schemes
	extra  []extraResult
	peers  map[string]string            // versions by name
	cannot map[string]map[string]string // by peer: what, and why
	parts  map[string]bool              // by test: a peer could not do all of it
}

// extraResult is one of the tests that only one peer has.
type extraResult struct {
	peer, what, scheme string
	outcome            outcome
}

var results collected

func setDefault[M ~map[K]V, K comparable, V any](m *M, k K, v V) V {
	if *m == nil {
		*m = M{}
	}
	if old, ok := (*m)[k]; ok {
		return old
	}
	(*m)[k] = v
	return v
}

// took notes that a peer took part.
func (c *collected) took(p *process) {
	c.version(p.name, p.ready.Version)
	c.lacking(p.name, p.ready.Cannot)
}

// lacking notes what a peer cannot do, and why.
func (c *collected) lacking(name string, cannot map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, why := range cannot {
		setDefault(&c.cannot, name, map[string]string{})[what] = why
	}
}

// version notes the version of a peer.
func (c *collected) version(name, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	setDefault(&c.peers, name, version)
}

// add notes the outcome of a case that all peers have.
func (c *collected) add(role, name, peer string, o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	byPeer := setDefault(&c.matrix, role, map[string]map[string]outcome{})
	row := setDefault(&byPeer, name, map[string]outcome{})
	// The worst counts.
	rank := []outcome{passed, partly, unable, failure}
	if old, ok := row[peer]; !ok || slices.Index(rank, o) > slices.Index(rank, old) {
		row[peer] = o
	}
}

// lacks notes that the peer cannot do a part of a test.
func (c *collected) lacks(test string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	setDefault(&c.parts, test, true)
}

func (c *collected) partial(test string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parts[test]
}

// addExtra notes the outcome of a test that only one peer has, when it ends.
func (c *collected) addExtra(t *testing.T, peer, what, scheme string) {
	t.Helper()
	t.Cleanup(func() {
		result := extraResult{peer, what, scheme, outcomeOf(t)}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.extra = append(c.extra, result)
	})
}

// title says what a role's table is about.
var titles = []struct{ role, title string }{
	{"server", "wsd's client with the servers of others"},
	{"client", "wsd's server with the clients of others"},
	{"proxy", "wsd's client and server with a proxy in between"},
}

// write writes the document.
func (c *collected) write(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	b.WriteString(`# wsd and other implementations

Written by the tests of ` + "`interop/`" + `; do not edit. To run them again:

` + "```sh" + `
interop/setup.sh
cd interop && WSD_INTEROP=required go test -write-table
` + "```" + `

Every peer runs as a process of its own and talks to wsd over loopback. A cell says **yes** where the case passed over ws
and over wss, **part** where it passed but for what the peer cannot do and **–** where the peer cannot take part in it
(what and why is [below](#what-the-peers-cannot-do)), **NO** where it failed. Sections are RFC 6455's where no other RFC
is named. The peer "wsd" is wsd on both ends.

`)
	names := slices.SortedFunc(maps.Keys(c.peers), order)
	b.WriteString("## Versions\n\n| peer | version |\n|---|---|\n")
	for _, name := range names {
		fmt.Fprintf(&b, "| %s | %s |\n", name, c.peers[name])
	}
	for _, table := range titles {
		rows := c.matrix[table.role]
		if len(rows) == 0 {
			continue
		}
		taking := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return rows[cases[0].name][name] == ""
		})
		fmt.Fprintf(&b, "\n## %s\n\n| case | section | %s |\n|---|---|%s\n", table.title, strings.Join(taking, " | "),
			strings.Repeat("---|", len(taking)))
		for _, tc := range cases {
			fmt.Fprintf(&b, "| %s | %s |", tc.name, tc.section)
			for _, name := range taking {
				fmt.Fprintf(&b, " %s |", rows[tc.name][name])
			}
			b.WriteString("\n")
		}
	}
	if len(c.extra) > 0 {
		b.WriteString("\n## Proxies, programs and a browser\n\n| peer | what | scheme | |\n|---|---|---|---|\n")
		slices.SortFunc(c.extra, func(a, b extraResult) int {
			return cmp.Or(order(a.peer, b.peer), cmp.Compare(a.what, b.what), cmp.Compare(a.scheme, b.scheme))
		})
		for _, r := range c.extra {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.peer, r.what, r.scheme, r.outcome)
		}
	}
	b.WriteString("\n## What the peers cannot do\n\nWhere a role is named, in that role alone.\n\n")
	for _, name := range names {
		for _, what := range slices.Sorted(maps.Keys(c.cannot[name])) {
			fmt.Fprintf(&b, "- %s, %s: %s\n", name, what, c.cannot[name][what])
		}
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// order is the order of the peers in the document: that of the list, and then by name.
func order(a, b string) int {
	index := func(name string) int {
		if i := slices.IndexFunc(peers, func(p peer) bool { return p.name == name }); i >= 0 {
			return i
		}
		return len(peers)
	}
	return cmp.Or(cmp.Compare(index(a), index(b)), cmp.Compare(a, b))
}
