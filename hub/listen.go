// listen.go is for the program itself: publications in a channel.

package hub

import (
	"sync"
	"sync/atomic"

	"github.com/seed62836080/wsd/internal/subject"
)

// listenBuffer is how many publications wait for a Listener, before it loses some.
const listenBuffer = 256

// Listener is a subscription of the program itself.
type Listener struct {
	hub  *Hub
	sub  *subscription
	lost atomic.Uint64

	mu     sync.Mutex // held while something is put into c, which never waits
	c      chan Publication
	closed bool // c, by Close
}

// Listen subscribes the program to a topic or pattern.
func (h *Hub) Listen(pattern string) (*Listener, error) {
	if err := h.usable(); err != nil {
		return nil, err
	}
	if err := h.options.check(pattern, subject.Pattern); err != nil {
		return nil, err
	}
	if err := h.interest.want(pattern); err != nil {
		return nil, err
	}
	l := &Listener{hub: h, c: make(chan Publication, listenBuffer)}
	l.sub = &subscription{listener: l}
	if !h.addListener(l, pattern) {
		h.interest.unwant(pattern)
		return nil, ErrClosed
	}
	return l, nil
}

func (h *Hub) addListener(l *Listener, pattern string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.listeners[l] = struct{}{}
	l.sub.list = h.tree.Add(pattern, l.sub)
	return true
}

// C returns the channel of publications. It holds 256; what comes while it is full is lost to this Listener. Close closes it,
// and so does the hub's.
func (l *Listener) C() <-chan Publication { return l.c }

// Lost returns how many publications were lost since the channel was full.
func (l *Listener) Lost() uint64 { return l.lost.Load() }

// Close ends the subscription, and closes the channel.
func (l *Listener) Close() {
	l.mu.Lock()
	first := !l.closed
	if first {
		l.closed = true
		close(l.c)
	}
	l.mu.Unlock()
	if !first {
		return
	}
	l.hub.removeListener(l)
	l.hub.interest.unwant(l.sub.list.Subject)
}

func (h *Hub) removeListener(l *Listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
	h.tree.Remove(l.sub.list, l.sub)
}

func (l *Listener) offer(p Publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	select {
	case l.c <- p:
	default:
		l.lost.Add(1)
	}
}
