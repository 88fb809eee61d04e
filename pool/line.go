// line.go is the line of the calls that wait for a connection.

package pool

import "time"

// waiter is an Acquire that waits in line, or has waited.
type waiter struct {
	since      time.Time
	ready      chan delivery // has room for the one delivery
	prev, next *waiter       // nil while it is not in line
}

// delivery ends a wait, with a connection or an error.
type delivery struct {
	link *link
	err  error
}

func (w *waiter) inLine() bool { return w.next != nil }

// line is a ring of waiters, first come first. container/list would allocate for each wait.
type line struct {
	ends   waiter // its next is the first, and its prev the last
	length int
}

func (n *line) init() { n.ends.prev, n.ends.next = &n.ends, &n.ends }

// first returns the waiter that is to be served next, or nil.
func (n *line) first() *waiter {
	if n.length == 0 {
		return nil
	}
	return n.ends.next
}

func (n *line) addLast(w *waiter)  { n.addBehind(n.ends.prev, w) }
func (n *line) addFirst(w *waiter) { n.addBehind(&n.ends, w) }

func (n *line) addBehind(prev, w *waiter) {
	w.prev, w.next = prev, prev.next
	w.prev.next, w.next.prev = w, w
	n.length++
}

func (n *line) remove(w *waiter) {
	w.prev.next, w.next.prev = w.next, w.prev
	w.prev, w.next = nil, nil
	n.length--
}

// serve ends the wait of the first.
func (n *line) serve(d delivery) {
	first := n.ends.next
	n.remove(first)
	first.ready <- d
}
