// crowd.go is who is at one topic, in the order of their ids. It is read without a lock while one goroutine at a time changes
// it.

package natsbroker

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/seed62836080/wsd/hub"
)

// crowd is a treap whose seats never change: a change makes new ones, from the root to what has changed. The zero value is
// empty.
type crowd struct{ root atomic.Pointer[seat] }

// seat is somebody at the topic.
type seat struct {
	id, value   string
	stamp       uint64   // when the value was set
	nodes       []uint64 // where he is
	left, right *seat
	weight      uint64 // no less than that of those below
	size        int    // with those below
}

var seed = maphash.MakeSeed()

// list returns all, by id.
func (c *crowd) list() []hub.Presence {
	root := c.root.Load()
	if root == nil {
		return []hub.Presence{}
	}
	return root.appendTo(make([]hub.Presence, 0, root.size))
}

func (s *seat) appendTo(all []hub.Presence) []hub.Presence {
	if s == nil {
		return all
	}
	all = s.left.appendTo(all)
	return s.right.appendTo(append(all, hub.Presence{ID: s.id, Value: s.value}))
}

func (c *crowd) find(id string) *seat {
	s := c.root.Load()
	for s != nil && s.id != id {
		if id < s.id {
			s = s.left
		} else {
			s = s.right
		}
	}
	return s
}

// put adds a seat, or takes the place of the one with its id.
func (c *crowd) put(s *seat) {
	below, above := split(c.root.Load(), s.id)
	s.weight = maphash.String(seed, s.id)
	s.left, s.right = nil, nil
	s.size = 1
	c.root.Store(merge(merge(below, s), above))
}

// remove takes a seat away, and reports whether nobody is left.
func (c *crowd) remove(id string) (empty bool) {
	below, above := split(c.root.Load(), id)
	root := merge(below, above)
	c.root.Store(root)
	return root == nil
}

// split returns the seats before an id, and those behind it.
func split(s *seat, id string) (below, above *seat) {
	switch {
	case s == nil:
		return nil, nil
	case s.id < id:
		middle, above := split(s.right, id)
		return s.with(s.left, middle), above
	case s.id > id:
		below, middle := split(s.left, id)
		return below, s.with(middle, s.right)
	}
	return s.left, s.right
}

// merge joins seats that are all before others with those.
func merge(below, above *seat) *seat {
	switch {
	case below == nil:
		return above
	case above == nil:
		return below
	case below.weight >= above.weight:
		return below.with(below.left, merge(below.right, above))
	}
	return above.with(merge(below, above.left), above.right)
}

// with returns the seat with others below it.
func (s *seat) with(left, right *seat) *seat {
	next := *s
	next.left, next.right, next.size = left, right, 1
	if left != nil {
		next.size += left.size
	}
	if right != nil {
		next.size += right.size
	}
	return &next
}
