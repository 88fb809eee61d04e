// lookup.go is a hash table that is read without a lock while one goroutine at a time changes it.

package subject

import (
	"hash/maphash"
	"sync/atomic"
)

var seed = maphash.MakeSeed()

// lookup finds values by name. Any goroutine may call get at any time; the others are for one at a time. The zero value is
// empty.
type lookup[V any] struct {
	buckets atomic.Pointer[[]atomic.Pointer[entry[V]]] // a power of two of them; nil while there have been no values
	n       int
}

// entry is a value in its bucket's chain. Readers may be at an entry that has been removed: it still leads on.
type entry[V any] struct {
	name  string
	value *V
	next  atomic.Pointer[entry[V]]
}

func bucketOf[V any](buckets []atomic.Pointer[entry[V]], name string) *atomic.Pointer[entry[V]] {
	return &buckets[maphash.String(seed, name)&uint64(len(buckets)-1)]
}

// get returns the value of a name, nil if there is none.
func (l *lookup[V]) get(name string) *V {
	buckets := l.buckets.Load()
	if buckets == nil {
		return nil
	}
	for e := bucketOf(*buckets, name).Load(); e != nil; e = e.next.Load() {
		if e.name == name {
			return e.value
		}
	}
	return nil
}

// put adds a value under a name that has none.
func (l *lookup[V]) put(name string, value *V) {
	buckets := l.buckets.Load()
	if buckets == nil || l.n >= len(*buckets) {
		buckets = l.resize(max(1, 2*l.n))
	}
	insert(*buckets, name, value)
	l.n++
}

func insert[V any](buckets []atomic.Pointer[entry[V]], name string, value *V) {
	bucket := bucketOf(buckets, name)
	e := &entry[V]{name: name, value: value}
	e.next.Store(bucket.Load())
	bucket.Store(e)
}

// remove takes a name out.
func (l *lookup[V]) remove(name string) {
	buckets := l.buckets.Load()
	for at := bucketOf(*buckets, name); ; {
		e := at.Load()
		if e == nil {
			return
		}
		if e.name == name {
			at.Store(e.next.Load())
			break
		}
		at = &e.next
	}
	switch l.n--; {
	case l.n == 0:
		l.buckets.Store(nil)
	case l.n < len(*buckets)/4:
		l.resize(len(*buckets) / 2)
	}
}

// resize moves all values to other buckets, in entries of their own, since readers may be on the way through the old ones.
func (l *lookup[V]) resize(size int) *[]atomic.Pointer[entry[V]] {
	buckets := make([]atomic.Pointer[entry[V]], ceilPowerOfTwo(size))
	if old := l.buckets.Load(); old != nil {
		for i := range *old {
			for e := (*old)[i].Load(); e != nil; e = e.next.Load() {
				insert(buckets, e.name, e.value)
			}
		}
	}
	l.buckets.Store(&buckets)
	return &buckets
}

func ceilPowerOfTwo(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}
