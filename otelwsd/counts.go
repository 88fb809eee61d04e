// counts.go counts what happens to messages, without a lock and mostly without memory that processors share, and keeps what
// is known of each open connection.

package otelwsd

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/seed62836080/wsd"
)

// shardCount is how many shards there are: some for each processor of a large machine.
const shardCount = 64

// The directions of messages, and their types, as indexes.
const (
	received = iota
	sent
	directionCount
)

const (
	text = iota
	binary
	typeCount
)

// counts are spread over shards by connection.
type counts struct {
	seed   maphash.Seed
	shards *[shardCount]shard
}

func newCounts() counts { return counts{maphash.MakeSeed(), new([shardCount]shard)} }

// of returns the shard of a connection.
func (c *counts) of(conn *wsd.Conn) *shard {
	return &c.shards[maphash.Comparable(c.seed, conn)%shardCount]
}

// shard is a part of the counts. What is received, what is sent and the rest have cache lines of their own.
type shard struct {
	messages  [directionCount]direction
	dropped   [typeCount]atomic.Int64
	pings     atomic.Int64
	overflows atomic.Int64

	mu      sync.Mutex                // guards all below, and what conns refers to
	conns   map[*wsd.Conn]*connection // those that are open
	opened  int64                     // in all
	stalled int64                     // of conns
}

// direction is what was counted in one of them, 64 bytes in all.
type direction struct {
	of [typeCount]flow
	_  [2]int64
}

// flow is how many messages there were, their bytes, and the bytes of them that went over the network.
type flow struct{ messages, bytes, wire atomic.Int64 }

func (f *flow) add(m wsd.MessageInfo) {
	f.messages.Add(1)
	f.bytes.Add(int64(m.Size))
	f.wire.Add(int64(m.WireSize))
}

// indexOf returns the index of a type.
func indexOf(t wsd.MessageType) int {
	if t == wsd.TextMessage {
		return text
	}
	return binary
}

// connection is what is known of an open one.
type connection struct {
	opened  time.Duration // since the Telemetry's epoch
	span    trace.Span    // nil if it is not recorded
	events  int           // of the span, also those that did not fit
	stalled bool
}

// open adds a connection.
func (s *shard) open(c *wsd.Conn, conn *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		s.conns = make(map[*wsd.Conn]*connection)
	}
	s.conns[c] = conn
	s.opened++
}

// end removes a connection, and returns what was known of it: nil if it was not open.
func (s *shard) end(c *wsd.Conn) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := s.conns[c]
	if conn == nil {
		return nil
	}
	delete(s.conns, c)
	if conn.stalled {
		s.stalled--
	}
	return conn
}

// stall notes whether a connection waits for its consumer.
func (s *shard) stall(c *wsd.Conn, stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := s.conns[c]
	if conn == nil || conn.stalled == stalled {
		return
	}
	conn.stalled = stalled
	if stalled {
		s.stalled++
	} else {
		s.stalled--
	}
}

// span returns the span of a connection, nil if none is recorded.
func (s *shard) span(c *wsd.Conn) trace.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if conn := s.conns[c]; conn != nil {
		return conn.span
	}
	return nil
}

// event returns the span of a connection, nil if none is recorded or it has had its events.
func (s *shard) event(c *wsd.Conn, most int) trace.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := s.conns[c]
	if conn == nil || conn.span == nil {
		return nil
	}
	conn.events++
	if conn.events > most {
		return nil
	}
	return conn.span
}

// sums are the counts of all shards.
type sums struct {
	messages, bytes, wire   [directionCount][typeCount]int64
	dropped                 [typeCount]int64
	pings, overflows        int64
	opened, active, stalled int64
}

// sum adds up all shards.
func (c *counts) sum() *sums {
	all := new(sums)
	for i := range c.shards {
		c.shards[i].addTo(all)
	}
	return all
}

func (s *shard) addTo(all *sums) {
	for d := range s.messages {
		for t := range s.messages[d].of {
			f := &s.messages[d].of[t]
			all.messages[d][t] += f.messages.Load()
			all.bytes[d][t] += f.bytes.Load()
			all.wire[d][t] += f.wire.Load()
		}
	}
	for t := range s.dropped {
		all.dropped[t] += s.dropped[t].Load()
	}
	all.pings += s.pings.Load()
	all.overflows += s.overflows.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	all.opened += s.opened
	all.active += int64(len(s.conns))
	all.stalled += s.stalled
}
