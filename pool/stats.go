// stats.go is what a pool reports about itself.

package pool

import "time"

// Stats is the state of a pool and what it has done. It is plain data, suitable for expvar and encoding/json.
type Stats struct {
	MaxConns int // the limit
	InUse    int // connections that are handed out
	Idle     int // connections waiting for a user
	Dialing  int // dials under way
	Closing  int // connections being closed
	Waiting  int // calls to Acquire that wait

	Acquired     uint64        // connections handed out
	Waits        uint64        // calls to Acquire that found no idle connection
	WaitTime     time.Duration // total of those that then got one, in nanoseconds
	Canceled     uint64        // calls to Acquire whose context ended while they waited
	Refused      uint64        // calls to Acquire that returned a *DialError
	Dials        uint64        // dials begun
	DialErrors   uint64        // dials that failed, Setup included
	Lost         uint64        // connections ended by neither the pool nor Destroy
	Discarded    uint64        // open connections closed because of how their user left them: Destroy, unread messages
	ChecksFailed uint64        // connections closed because no pong came within Options.CheckTimeout; Discarded too
	Expired      uint64        // connections closed after Options.MaxLifetime
	IdleTooLong  uint64        // connections closed after Options.MaxIdleTime

	Endpoints []EndpointStats // in the order in which they were given to New
}

// EndpointStats is the state of one server of a pool.
type EndpointStats struct {
	URL       string        // without user info and query
	Conns     int           // connections, idle or not
	Dialing   int           // dials under way
	Failures  int           // in a row
	Resting   time.Duration // how long until the next dial may begin, 0 if it may now; in nanoseconds
	LastError string        // the last failure, empty if the endpoint is not down
}

// counts are the counters of Stats that the ledger keeps, under its lock.
type counts struct {
	waits, canceled, refused                            uint64
	dials, dialErrors                                   uint64
	lost, discarded, checksFailed, expired, idleTooLong uint64
}

// Stats returns the pool's state and counts. It does not block.
func (p *Pool) Stats() Stats {
	s := p.ledger.stats()
	s.Acquired = p.acquired.Load()
	s.WaitTime = time.Duration(p.waited.Load())
	return s
}
