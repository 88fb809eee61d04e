// broadcast.go measures a broadcast: one connection publishes, the others receive, and the time is in the message.

package bench

import (
	"context"
	"errors"
	"time"
)

// subscribe receives until the connection ends or everything has come.
func (s *session) subscribe() error {
	gathered := false
	for {
		select {
		case m, more := <-s.conn.Messages():
			if !more {
				return s.conn.CloseEvent().Err
			}
			now := clock()
			stamp, ok := stampOf(m.Data)
			if !ok {
				m.Release()
				continue // something else that the server sends
			}
			if stamp == trial {
				m.Release()
				if !gathered {
					gathered = true
					s.gathered.Add(1)
				}
				continue
			}
			s.counts.received.Add(1)
			s.counts.bytesGotten.Add(uint64(len(m.Data)))
			m.Release()
			s.recorder.record(s.number, time.Duration(now-stamp))
		case <-s.drained:
			return nil
		}
	}
}

// stall is how long nothing may arrive before what is missing counts as lost.
const stall = time.Second

// trial is the stamp of a message that does not count.
const trial = 0

// gather publishes trials until every subscriber has received one, or nobody else does for a while: a server may answer a
// handshake before it has noted who is to receive what.
func (r *run) gather(ctx context.Context) {
	if !r.sub || r.publisher == nil {
		return
	}
	message := r.message(r.payload.make(nil, r.conns, 0, trial))
	last, since := int64(0), time.Now()
	for pause := 20 * time.Millisecond; time.Since(since) <= stall; pause *= 2 {
		if r.publisher.Send(ctx, message) != nil {
			return
		}
		for sent := time.Now(); time.Since(sent) < pause; time.Sleep(time.Millisecond) {
			gathered := r.gathered.Load()
			if gathered >= r.alive.Load() || ctx.Err() != nil || r.over.Load() {
				return
			}
			if gathered != last {
				last, since, sent = gathered, time.Now(), time.Now()
			}
		}
	}
}

// publish sends by timetable, or as fast as the subscribers receive, until the time is over.
func (s *session) publish() error {
	begin, period := clock(), int64(0)
	if s.rate > 0 {
		period = int64(float64(time.Second) / s.rate)
	}
	var buffer []byte
	for n := 0; !s.over.Load(); n++ {
		var stamp int64
		if period > 0 {
			stamp = begin + int64(n)*period // when it is due
			if wait := stamp - clock(); wait > 0 {
				select {
				case <-time.After(time.Duration(wait)):
				case <-s.stopped:
					return nil
				case <-s.conn.Closed():
					return s.conn.CloseEvent().Err
				}
			}
		} else if !s.caughtUp(n - s.inflight + 1) {
			return nil
		} else {
			stamp = clock()
		}
		buffer = s.payload.make(buffer, s.number, n, stamp)
		s.counts.sent.Add(1)
		s.counts.bytesSent.Add(uint64(len(buffer)))
		if err := s.conn.Send(context.Background(), s.message(buffer)); err != nil {
			return errors.Join(err, s.conn.CloseEvent().Err)
		}
	}
	return nil
}

// caughtUp waits until the subscribers have received so many publications, or have received nothing for a while. It returns
// false if the time is over.
func (s *session) caughtUp(publications int) bool {
	last, since := uint64(0), time.Now()
	for {
		received := s.totals().received
		switch {
		case s.over.Load():
			return false
		case int64(received)+s.writtenOff.Load() >= int64(publications)*s.alive.Load():
			return true
		case received != last:
			last, since = received, time.Now()
		case time.Since(since) > stall:
			s.writtenOff.Add(int64(publications)*s.alive.Load() - int64(received) - s.writtenOff.Load())
			return true
		}
		time.Sleep(50 * time.Microsecond)
	}
}
