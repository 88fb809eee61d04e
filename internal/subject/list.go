// list.go is who has been added under one subject. It is read without a lock while one goroutine at a time changes it.

package subject

import (
	"iter"
	"sync/atomic"
)

// Entry is what a Tree holds: a pointer to a T that has a place for its index.
type Entry[T any] interface {
	*T
	// Index is where the Tree keeps the entry's index. Nothing else may use it.
	Index() *int32
}

// List is the entries under one subject.
type List[T any, E Entry[T]] struct {
	Subject string
	page    atomic.Pointer[page[T]]
	live    atomic.Int32
}

// page is the places of a list. A reader that has loaded one may go through it for as long as it likes: entries that are
// removed meanwhile may still be found, those that are added may not.
type page[T any] struct {
	used   atomic.Int32 // places from the first on that have been given away; only grows
	places []atomic.Pointer[T]
}

// Len returns how many entries there are.
func (l *List[T, E]) Len() int { return int(l.live.Load()) }

// All returns the entries.
func (l *List[T, E]) All() iter.Seq[E] {
	return func(yield func(E) bool) {
		p := l.page.Load()
		if p == nil {
			return
		}
		for i := range p.places[:p.used.Load()] {
			if e := p.places[i].Load(); e != nil && !yield(e) {
				return
			}
		}
	}
}

const leastPlaces = 2

func (l *List[T, E]) add(e E) {
	p := l.page.Load()
	if p == nil || int(p.used.Load()) == len(p.places) {
		p = l.move(max(leastPlaces, l.Len()+l.Len()/2+1))
	}
	i := p.used.Load()
	*e.Index() = i
	p.places[i].Store(e)
	p.used.Store(i + 1)
	l.live.Add(1)
}

func (l *List[T, E]) remove(e E) {
	p := l.page.Load()
	p.places[*e.Index()].Store(nil)
	if live := int(l.live.Add(-1)); live > 0 && live < len(p.places)/4 {
		l.move(2 * live)
	}
}

// move takes all entries to a page with as many places as said.
func (l *List[T, E]) move(places int) *page[T] {
	moved := &page[T]{places: make([]atomic.Pointer[T], places)}
	n := int32(0)
	for e := range l.All() {
		*e.Index() = n
		moved.places[n].Store(e)
		n++
	}
	moved.used.Store(n)
	l.page.Store(moved)
	return moved
}
