// session.go is one connection of an echo load.

package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/seed62836080/wsd"
)

// session is one connection. Its goroutines are those of run's group.
type session struct {
	*run
	number int
	conn   *wsd.Conn
	counts *counter
}

// timedOf is how many messages there are for each whose round trip is taken when many are under way: reading the clock
// for each would cost as much as the message.
func timedOf(inflight int) int { return min(inflight, 16) }

// pingPong keeps messages under way until the time is over, and then receives what is left.
func (s *session) pingPong() error {
	ctx := context.Background()
	timed := timedOf(s.inflight)
	sentAt := make([]int64, s.inflight)
	lengths := make([]int, s.inflight)
	var buffer []byte
	sent, received := 0, 0
	fixed := s.payload.fixed()
	message := s.message(s.payload.make(nil, s.number, 0, 0))
	send := func() error {
		if !fixed {
			buffer = s.payload.make(buffer, s.number, sent, 0)
			message = s.message(buffer)
			if s.payload.template == nil {
				buffer = nil // it is the filler, which belongs to all
			}
		}
		slot := sent % s.inflight
		lengths[slot] = len(message.Data)
		if sent%timed == 0 {
			sentAt[slot] = clock()
		}
		sent++
		s.counts.sent.Add(1)
		s.counts.bytesSent.Add(uint64(len(message.Data)))
		return s.conn.Send(ctx, message)
	}
	for range s.inflight {
		if err := send(); err != nil {
			return s.lost(sent-received, err)
		}
	}
	for answer := range s.conn.Messages() {
		slot := received % s.inflight
		if len(answer.Data) != lengths[slot] {
			return s.lost(sent-received, fmt.Errorf("expected an echo of %d bytes, got %d bytes", lengths[slot], len(answer.Data)))
		}
		s.counts.received.Add(1)
		s.counts.bytesGotten.Add(uint64(len(answer.Data)))
		answer.Release()
		if received%timed == 0 {
			s.recorder.record(s.number, time.Duration(clock()-sentAt[slot]))
		}
		received++
		if s.over.Load() {
			if received == sent {
				return nil
			}
			continue
		}
		if err := send(); err != nil {
			return s.lost(sent-received, err)
		}
	}
	return s.lost(sent-received, s.conn.CloseEvent().Err)
}

// lost notes how many messages had no answer.
func (s *session) lost(n int, err error) error {
	s.missing.Add(uint64(n))
	return err
}

// timetable sends by timetable: the n-th message of this connection is due at a time that does not depend on how the server
// does, and its latency counts from then.
func (s *session) timetable() error {
	period := float64(time.Second) * float64(s.conns) / s.rate // between messages of one connection
	begin := clock()
	if s.ramp == 0 {
		begin = s.began + int64(period*float64(s.number)/float64(s.conns)) // the connections take turns
	}
	due := func(n int) int64 { return begin + int64(period*float64(n)) }
	sent := make(chan int, 1) // how many, when no more are
	failed := make(chan error, 1)
	go func() {
		n, err := s.sendByTimetable(due)
		if err != nil {
			failed <- err
		}
		sent <- n
	}()
	received, all := 0, -1
	for received != all {
		select {
		case answer, more := <-s.conn.Messages():
			if !more {
				if all < 0 {
					all = <-sent // the end of the connection ends the sender
				}
				return s.lost(all-received, s.conn.CloseEvent().Err)
			}
			if err := s.expected(received, answer.Data); err != nil {
				s.conn.CloseNow() // which ends the sender
				if all < 0 {
					all = <-sent
				}
				return s.lost(all-received, err)
			}
			s.counts.received.Add(1)
			s.counts.bytesGotten.Add(uint64(len(answer.Data)))
			answer.Release()
			s.recorder.record(s.number, time.Duration(clock()-due(received)))
			received++
		case all = <-sent:
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// expected returns an error if an answer is not the echo of the n-th message, as far as its length tells.
func (s *session) expected(n int, answer []byte) error {
	if uint64(n) >= s.counts.sent.Load() {
		return fmt.Errorf("expected an echo of each message, got %d bytes ahead of one", len(answer))
	}
	if want := s.payload.length(s.number, n); len(answer) != want {
		return fmt.Errorf("expected an echo of %d bytes, got %d bytes", want, len(answer))
	}
	return nil
}

// sendByTimetable sends what is due until the time is over, and returns how many messages that were.
func (s *session) sendByTimetable(due func(int) int64) (n int, err error) {
	var buffer []byte
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ; ; n++ {
		if wait := due(n) - clock(); wait > 0 {
			timer.Reset(time.Duration(wait))
			select {
			case <-timer.C:
			case <-s.stopped:
				return n, nil
			case <-s.conn.Closed():
				return n, nil
			}
		}
		if s.over.Load() {
			return n, nil
		}
		data := s.payload.make(buffer, s.number, n, 0)
		if s.payload.template != nil {
			buffer = data
		}
		s.counts.sent.Add(1)
		s.counts.bytesSent.Add(uint64(len(data)))
		if err := s.conn.Send(context.Background(), s.message(data)); err != nil {
			return n, err
		}
	}
}

// discard reads what a publisher's own connection receives.
func (s *session) discard() {
	for m := range s.conn.Messages() {
		m.Release()
	}
}
