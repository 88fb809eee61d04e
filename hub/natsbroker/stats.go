// stats.go is what is counted.

package natsbroker

import "sync/atomic"

// Stats holds the counts of a broker.
type Stats struct {
	Connected bool // to a server of NATS, with all hubs
	Nodes     int  // other hubs that are heard of, the most that one here hears of
	Routes    int  // other servers that an embedded one is connected with
	Present   int  // entries in the presence of all topics on all nodes, the most that one here knows

	Stored uint64 // bytes of history that an embedded server keeps, in files or in memory

	Sent      uint64 // publications that were handed to NATS
	Received  uint64 // publications that came from there, and were delivered
	Failed    uint64 // publications to topics with history that failed
	Unreached uint64 // publications without history that a node may have missed, as it or the server was away
	Recovered uint64 // publications that did not come live, and were read from history instead
	Dropped   uint64 // messages of NATS that found no room; hubs then read from history

	Reconnects uint64 // to a server
	Lost       uint64 // nodes that were no longer heard of, without taking leave
	Resumed    uint64 // times that hubs were told to read from history what they may have missed
}

func (s *Stats) add(o Stats) {
	s.Connected = s.Connected && o.Connected
	s.Nodes, s.Present = max(s.Nodes, o.Nodes), max(s.Present, o.Present)
	s.Sent += o.Sent
	s.Received += o.Received
	s.Failed += o.Failed
	s.Unreached += o.Unreached
	s.Recovered += o.Recovered
	s.Dropped += o.Dropped
	s.Reconnects += o.Reconnects
	s.Lost += o.Lost
	s.Resumed += o.Resumed
}

// counts are what Stats tells of a link; atomic, so that reading them needs no lock.
type counts struct {
	sent, received, failed, unreached, recovered, dropped, reconnects, lost, resumed atomic.Uint64
}

func (l *link) stats() Stats {
	c := &l.counts
	return Stats{
		Connected: l.nc.IsConnected(), Nodes: l.peers.alive(), Present: l.roster.len(),
		Sent: c.sent.Load(), Received: c.received.Load(), Failed: c.failed.Load(), Unreached: c.unreached.Load(),
		Recovered: c.recovered.Load(), Dropped: c.dropped.Load(), Reconnects: c.reconnects.Load(), Lost: c.lost.Load(), Resumed: c.resumed.Load(),
	}
}
