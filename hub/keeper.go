// keeper.go keeps somebody told of what is wanted, without a lock held while telling.

package hub

import "sync"

// keeper counts who wants what, and tells of the first that wants a key and of the last that no longer does, for each key one
// at a time and in order.
type keeper[K comparable] struct {
	tell, untell func(K) error

	mu   sync.Mutex
	kept map[K]*keep
}

// keep is what is known of a key.
type keep struct {
	wanted int
	told   bool
	busy   chan struct{} // closed when the telling that is under way is over; nil if none is
}

func newKeeper[K comparable](tell, untell func(K) error) *keeper[K] {
	return &keeper[K]{tell: tell, untell: untell, kept: make(map[K]*keep)}
}

// want counts one more, and returns once the key has been told of.
func (k *keeper[K]) want(key K) error {
	k.mu.Lock()
	e := k.kept[key]
	if e == nil {
		e = new(keep)
		k.kept[key] = e
	}
	e.wanted++
	k.mu.Unlock()
	if err := k.settle(key, e); err != nil {
		k.unwant(key)
		return err
	}
	return nil
}

// unwant counts one less, and returns once that has been told if it was the last.
func (k *keeper[K]) unwant(key K) {
	k.mu.Lock()
	e := k.kept[key]
	e.wanted--
	k.mu.Unlock()
	_ = k.settle(key, e)
}

// again tells of a key once more, if it is wanted.
func (k *keeper[K]) again(key K) error {
	k.mu.Lock()
	e := k.kept[key]
	if e == nil || e.wanted == 0 {
		k.mu.Unlock()
		return nil
	}
	e.wanted++
	k.mu.Unlock()
	defer k.unwant(key)
	return k.step(key, e, func(e *keep) bool { return true })
}

// settle makes what has been told what is wanted.
func (k *keeper[K]) settle(key K, e *keep) error {
	return k.step(key, e, func(e *keep) bool { return e.told != (e.wanted > 0) })
}

// step tells of a key if that is due when its turn has come.
func (k *keeper[K]) step(key K, e *keep, due func(*keep) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for e.busy != nil {
		busy := e.busy
		k.mu.Unlock()
		<-busy
		k.mu.Lock()
	}
	var err error
	if due(e) {
		wanted := e.wanted > 0
		e.busy = make(chan struct{})
		k.mu.Unlock()
		if wanted {
			err = k.tell(key)
		} else {
			err = k.untell(key)
		}
		k.mu.Lock()
		close(e.busy)
		e.busy = nil
		// One that could not be told of its end is not told again: a broker that is away forgets.
		e.told = wanted && (err == nil || e.told)
	}
	if e.wanted == 0 && !e.told && k.kept[key] == e {
		delete(k.kept, key)
	}
	return err
}
