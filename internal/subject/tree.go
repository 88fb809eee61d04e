// tree.go finds the lists whose subjects match a topic.

package subject

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Tree holds entries under subjects. Match and Find take no lock, however many goroutines add and remove. The zero value is
// empty. Literal subjects are in one table, so that a match looks there once; patterns are in a tree of tokens, of which a
// match sees only what agrees with the topic.
type Tree[T any, E Entry[T]] struct {
	mu       sync.Mutex // held by Add and Remove
	literals lookup[List[T, E]]
	patterns node[T, E]
	entries  atomic.Int64
	subjects atomic.Int64
}

// node is a place in the tree of patterns.
type node[T any, E Entry[T]] struct {
	tokens lookup[node[T, E]]         // by the next token, literally
	any    atomic.Pointer[node[T, E]] // where the next is *
	here   atomic.Pointer[List[T, E]] // of the pattern that ends here
	rest   atomic.Pointer[List[T, E]] // of the one that goes on with > and ends
}

func (n *node[T, E]) empty() bool {
	return n.tokens.n == 0 && n.any.Load() == nil && n.here.Load() == nil && n.rest.Load() == nil
}

// Len returns how many entries there are, and under how many subjects.
func (t *Tree[T, E]) Len() (entries, subjects int) {
	return int(t.entries.Load()), int(t.subjects.Load())
}

// Add adds an entry under a valid subject, and returns the subject's list.
func (t *Tree[T, E]) Add(subject string, e E) *List[T, E] {
	t.mu.Lock()
	defer t.mu.Unlock()
	var l *List[T, E]
	if !HasWildcard(subject) {
		if l = t.literals.get(subject); l == nil {
			l = &List[T, E]{Subject: subject}
			l.add(e)
			t.literals.put(subject, l)
			t.subjects.Add(1)
		} else {
			l.add(e)
		}
	} else {
		at := t.patterns.listOf(subject)
		if l = at.Load(); l == nil {
			l = &List[T, E]{Subject: subject}
			l.add(e)
			at.Store(l)
			t.subjects.Add(1)
		} else {
			l.add(e)
		}
	}
	t.entries.Add(1)
	return l
}

// listOf returns where a pattern's list is, and makes the way there.
func (n *node[T, E]) listOf(pattern string) *atomic.Pointer[List[T, E]] {
	for more := true; more; {
		var token string
		token, pattern, more = strings.Cut(pattern, ".")
		switch token {
		case ">":
			return &n.rest
		case "*":
			if n.any.Load() == nil {
				n.any.Store(new(node[T, E]))
			}
			n = n.any.Load()
		default:
			next := n.tokens.get(token)
			if next == nil {
				next = new(node[T, E])
				n.tokens.put(token, next)
			}
			n = next
		}
	}
	return &n.here
}

// Remove removes an entry from the list that Add returned. It must be there.
func (t *Tree[T, E]) Remove(l *List[T, E], e E) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries.Add(-1)
	if l.remove(e); l.Len() > 0 {
		return
	}
	t.subjects.Add(-1)
	if HasWildcard(l.Subject) {
		t.patterns.prune(l.Subject, true)
	} else {
		t.literals.remove(l.Subject)
	}
}

// prune removes a pattern's list and the nodes that lead to nothing else.
func (n *node[T, E]) prune(pattern string, more bool) {
	if !more {
		n.here.Store(nil)
		return
	}
	token, pattern, more := strings.Cut(pattern, ".")
	switch token {
	case ">":
		n.rest.Store(nil)
	case "*":
		next := n.any.Load()
		if next.prune(pattern, more); next.empty() {
			n.any.Store(nil)
		}
	default:
		next := n.tokens.get(token)
		if next.prune(pattern, more); next.empty() {
			n.tokens.remove(token)
		}
	}
}

// Find returns the list of exactly this subject, nil if there is none.
func (t *Tree[T, E]) Find(subject string) *List[T, E] {
	if !HasWildcard(subject) {
		return t.literals.get(subject)
	}
	n := &t.patterns
	for more := true; more && n != nil; {
		var token string
		switch token, subject, more = strings.Cut(subject, "."); token {
		case ">":
			return n.rest.Load()
		case "*":
			n = n.any.Load()
		default:
			n = n.tokens.get(token)
		}
	}
	if n == nil {
		return nil
	}
	return n.here.Load()
}

// Match appends the lists whose subjects match a valid topic, each once, first that of the topic itself.
func (t *Tree[T, E]) Match(topic string, found []*List[T, E]) []*List[T, E] {
	if l := t.literals.get(topic); l != nil {
		found = append(found, l)
	}
	if !Reserved(topic) {
		return t.patterns.match(topic, found)
	}
	// Not by a wildcard in the first place.
	token, topic, more := strings.Cut(topic, ".")
	if next := t.patterns.tokens.get(token); next != nil {
		found = next.matchRest(topic, more, found)
	}
	return found
}

// match goes on from a node at which at least one token is left.
func (n *node[T, E]) match(topic string, found []*List[T, E]) []*List[T, E] {
	if l := n.rest.Load(); l != nil {
		found = append(found, l)
	}
	token, topic, more := strings.Cut(topic, ".")
	if next := n.tokens.get(token); next != nil {
		found = next.matchRest(topic, more, found)
	}
	if next := n.any.Load(); next != nil {
		found = next.matchRest(topic, more, found)
	}
	return found
}

func (n *node[T, E]) matchRest(topic string, more bool, found []*List[T, E]) []*List[T, E] {
	if more {
		return n.match(topic, found)
	}
	if l := n.here.Load(); l != nil {
		found = append(found, l)
	}
	return found
}
