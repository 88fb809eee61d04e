//go:build linux

package main

// This file is the topics of a broadcast, and the broadcast of the libraries that have no write queue of their own: a queue
// and a writing goroutine for each subscriber, as their chat examples do it.

import (
	"fmt"
	"strconv"
	"sync"
)

// everything is the topic of a broadcast that has but one, and the channel of those who get all topics where a library has no
// patterns.
const everything = "all"

// topics are those of a broadcast, which its messages go round.
type topics struct {
	names  []string // all of one length; message n is for names[n%len(names)]
	groups int      // subscriber i gets every topic whose place is i modulo this
}

func newTopics(r role) topics {
	t := topics{[]string{everything}, max(r.Groups, 1)}
	if r.Topics > 1 {
		t.names = t.names[:0]
		for i := range r.Topics {
			t.names = append(t.names, fmt.Sprintf("prices.%05d", i))
		}
	}
	return t
}

// of is the topic of the n-th message.
func (t topics) of(n int) string { return t.names[n%len(t.names)] }

// pattern is that of all topics.
func (t topics) pattern() string {
	if len(t.names) == 1 {
		return t.names[0]
	}
	return "prices.*"
}

// channel is the topic of the n-th message where there are no patterns: where all get everything, it is the same for all.
func (t topics) channel(n int) string {
	if t.groups == 1 {
		return everything
	}
	return t.of(n)
}

// mine are the channels of a subscriber, by the query of its handshake's URL, which is its number.
func (t topics) mine(query string) ([]string, error) {
	if t.groups == 1 {
		return []string{everything}, nil
	}
	number, err := strconv.Atoi(query)
	if err != nil {
		return nil, fmt.Errorf("bench: expected a subscriber's number, got %q: %w", query, err)
	}
	var mine []string
	for i := number % t.groups; i < len(t.names); i += t.groups {
		mine = append(mine, t.names[i])
	}
	return mine, nil
}

// hubQueue is how many messages wait for a subscriber before it counts as too slow and is sent away, as in the chat
// example of gorilla/websocket.
const hubQueue = 256

// hub knows the subscribers. T is a message, ready to be written to any of them.
type hub[T any] struct {
	topics
	mu       sync.Mutex
	channels map[string]map[*subscriber[T]]struct{}
}

func newHub[T any](r role) *hub[T] {
	return &hub[T]{topics: newTopics(r), channels: make(map[string]map[*subscriber[T]]struct{})}
}

// subscriber is one of them.
type subscriber[T any] struct {
	queue chan T   // closed by the hub: too slow, or gone
	mine  []string // its channels; nil once it is closed
}

// join adds a subscriber, by the query of its handshake's URL.
func (h *hub[T]) join(query string) (*subscriber[T], error) {
	mine, err := h.mine(query)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &subscriber[T]{make(chan T, hubQueue), mine}
	for _, channel := range mine {
		if h.channels[channel] == nil {
			h.channels[channel] = make(map[*subscriber[T]]struct{})
		}
		h.channels[channel][s] = struct{}{}
	}
	return s, nil
}

func (h *hub[T]) leave(s *subscriber[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(s)
}

// remove is called with the lock held.
func (h *hub[T]) remove(s *subscriber[T]) {
	if s.mine != nil {
		for _, channel := range s.mine {
			delete(h.channels[channel], s)
		}
		s.mine = nil
		close(s.queue)
	}
}

// broadcast queues the n-th message for every subscriber of its topic. Whose queue is full is sent away.
func (h *hub[T]) broadcast(n int, message T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.channels[h.channel(n)] {
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
