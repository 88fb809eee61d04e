//go:build linux

package main

// This file is the broadcast of the libraries that have no write queue of their own: a queue and a writing goroutine for
// each subscriber, as their chat examples do it.

import "sync"

// hubQueue is how many messages wait for a subscriber before it counts as too slow and is sent away, as in the chat
// example of gorilla/websocket.
const hubQueue = 256

// hub knows the subscribers. T is a message, ready to be written to any of them.
type hub[T any] struct {
	mu          sync.Mutex
	subscribers map[*subscriber[T]]struct{}
}

// subscriber is one of them.
type subscriber[T any] struct {
	queue chan T // closed by the hub: too slow, or gone
}

func (h *hub[T]) join() *subscriber[T] {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subscribers == nil {
		h.subscribers = make(map[*subscriber[T]]struct{})
	}
	s := &subscriber[T]{queue: make(chan T, hubQueue)}
	h.subscribers[s] = struct{}{}
	return s
}

func (h *hub[T]) leave(s *subscriber[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(s)
}

// remove is called with the lock held.
func (h *hub[T]) remove(s *subscriber[T]) {
	if _, there := h.subscribers[s]; there {
		delete(h.subscribers, s)
		close(s.queue)
	}
}

// broadcast queues a message for every subscriber. Whose queue is full is sent away.
func (h *hub[T]) broadcast(message T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		select {
		case s.queue <- message:
		default:
			h.remove(s)
		}
	}
}

// pump writes what is queued until writing fails or the hub closes the queue.
func (s *subscriber[T]) pump(write func(T) error) {
	for message := range s.queue {
		if write(message) != nil {
			return
		}
	}
}
