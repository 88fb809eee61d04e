// run.go is a whole run: connecting, loading, waiting for what is under way, closing, counting.

package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
)

// drainTime is how long answers are waited for when the time is over.
const drainTime = 10 * time.Second

// connecting is how many handshakes are under way at a time.
const connecting = 64

// run is one run of the verb.
type run struct {
	*options
	target   string
	dial     *wsd.DialOptions
	payload  *payload
	recorder *recorder

	counts     []counter
	began      int64         // by clock, when the first message was due
	over       atomic.Bool   // no more is to be sent
	stopped    chan struct{} // closed with over
	publisher  *wsd.Conn     // with -sub
	gathered   atomic.Int64  // subscribers that have received something
	drained    chan struct{} // closed when subscribers need not wait any longer
	alive      atomic.Int64  // connections that are open
	missing    atomic.Uint64 // messages that had no answer
	writtenOff atomic.Int64  // deliveries of a broadcast that are not waited for any longer

	mu       sync.Mutex     // guards all below
	failures map[string]int // connections that failed, by reason
	opened   int
	open     []*wsd.Conn
}

// totals are the sums over all connections.
type totals struct{ sent, received, bytesSent, bytesReceived uint64 }

func (r *run) totals() (sum totals) {
	for i := range r.counts {
		c := &r.counts[i]
		sum.sent += c.sent.Load()
		sum.received += c.received.Load()
		sum.bytesSent += c.bytesSent.Load()
		sum.bytesReceived += c.bytesGotten.Load()
	}
	return sum
}

// do does the run. Once ctx is done it ends early, with what there is until then.
func (r *run) do(ctx context.Context, live *live) *summary {
	sessions := r.conns
	if r.sub {
		sessions++ // the publisher, with the last number
	}
	r.counts = make([]counter, sessions)
	r.stopped, r.drained = make(chan struct{}), make(chan struct{})
	s := &summary{URL: client.Shown(r.target), Started: time.Now(), options: r.options}
	var work sync.WaitGroup
	start, connected := make(chan struct{}), make(chan struct{})
	connect := func() {
		defer close(connected)
		begin := time.Now()
		r.connect(ctx, sessions, &work, start)
		r.gather(ctx)
		s.Connecting = time.Since(begin)
	}
	limit := r.limit
	if r.ramp == 0 {
		connect()
		r.began = clock()
	} else {
		r.began = clock()
		limit += r.ramp
		go func() {
			connect()
			close(start) // for a publisher; the others have begun
		}()
	}
	watch := newWatch(r, live, s)
	cpu := cpuTime()
	busy, all, known := machineTime()
	if r.ramp == 0 {
		close(start)
	}
	watch.run(ctx, limit, connected)
	s.Took = time.Duration(clock() - r.began)
	s.totals = r.totals()
	s.CPU = cpuTime() - cpu
	if busyNow, allNow, _ := machineTime(); known && allNow > all {
		s.Busy = float64(busyNow-busy) / float64(allNow-all)
	}
	r.stop()
	<-connected

	ended := make(chan struct{})
	go func() {
		work.Wait()
		close(ended)
	}()
	r.drain(ctx, ended)
	r.closeAll()
	<-ended
	watch.finish()
	s.complete(r)
	return s
}

func (r *run) stop() {
	if !r.over.Swap(true) {
		close(r.stopped)
	}
}

// connect opens all connections, each of which works once start is closed, or at once with -ramp.
func (r *run) connect(ctx context.Context, sessions int, work *sync.WaitGroup, start <-chan struct{}) {
	limit := make(chan struct{}, connecting)
	var dialing sync.WaitGroup
	begin := time.Now()
	for number := range sessions {
		if r.ramp > 0 {
			select {
			case <-time.After(time.Until(begin.Add(r.ramp * time.Duration(number) / time.Duration(sessions)))):
			case <-ctx.Done():
			case <-r.stopped:
			}
		}
		if ctx.Err() != nil {
			break
		}
		if r.over.Load() {
			r.failAll("the time was over before it was connected", sessions-number)
			break
		}
		limit <- struct{}{}
		dialing.Go(func() {
			defer func() { <-limit }()
			conn, _, err := wsd.Dial(ctx, r.target, r.dial)
			if err != nil {
				if ctx.Err() == nil {
					r.fail(reasonOfDial(err))
				}
				return
			}
			r.join(number, conn)
			work.Go(func() { r.work(number, conn, start) })
		})
	}
	dialing.Wait()
}

func (r *run) join(number int, conn *wsd.Conn) {
	publisher := r.publishes(number)
	if !publisher {
		r.alive.Add(1) // who counts is who receives
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened++
	r.open = append(r.open, conn)
	if publisher {
		r.publisher = conn
	}
}

// publishes reports whether a connection is the one that publishes.
func (r *run) publishes(number int) bool { return r.sub && number == r.conns }

// work is what one connection does.
func (r *run) work(number int, conn *wsd.Conn, start <-chan struct{}) {
	s := &session{run: r, number: number, conn: conn, counts: &r.counts[number]}
	publisher := r.publishes(number)
	if publisher {
		go s.discard() // ends with the connection
	} else {
		defer r.alive.Add(-1)
	}
	if publisher || !r.sub && r.ramp == 0 {
		<-start
	}
	var err error
	switch {
	case publisher:
		err = s.publish()
	case r.sub:
		err = s.subscribe()
	case r.rate > 0:
		err = s.timetable()
	default:
		err = s.pingPong()
	}
	if err != nil && !r.givenUp(conn) {
		r.fail(reasonOfEnd(err))
		conn.CloseNow()
	}
}

// givenUp reports whether a connection ended because this side no longer waited, which its missing messages tell.
func (r *run) givenUp(conn *wsd.Conn) bool {
	event := conn.CloseEvent()
	// A Send may find the connection closing before there is a cause.
	return r.over.Load() && event.Local && (event.Err == nil || errors.As(event.Err, new(*wsd.CloseError)))
}

// drain waits for what is under way.
func (r *run) drain(ctx context.Context, ended <-chan struct{}) {
	if !r.sub {
		select {
		case <-ended:
		case <-time.After(drainTime):
		}
		return
	}
	// A broadcast has arrived when nothing more comes.
	want := func() uint64 { return r.counts[r.conns].sent.Load() * uint64(max(r.alive.Load(), 0)) }
	last, since, begin := uint64(0), time.Now(), time.Now()
	for ctx.Err() == nil && time.Since(begin) < drainTime {
		received := r.totals().received
		if received != last {
			last, since = received, time.Now()
		}
		if received >= want() || time.Since(since) > stall {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if received := r.totals().received; received < want() {
		r.missing.Add(want() - received)
	}
	close(r.drained)
}

// closeAll closes all connections with the closing handshake, many at a time.
func (r *run) closeAll() {
	r.mu.Lock()
	conns := slices.Clone(r.open)
	r.mu.Unlock()
	for _, conn := range conns {
		_ = conn.StartClose(wsd.StatusNormalClosure, "")
	}
	for _, conn := range conns {
		<-conn.Closed()
	}
}

func (r *run) fail(reason string) { r.failAll(reason, 1) }

func (r *run) failAll(reason string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[reason] += n
}

// failed returns how many connections have failed.
func (r *run) failed() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, count := range r.failures {
		n += count
	}
	return n
}

// reasons returns what failed, the most frequent first.
func (r *run) reasons() []failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []failure
	for _, reason := range slices.Sorted(maps.Keys(r.failures)) {
		list = append(list, failure{reason, r.failures[reason]})
	}
	slices.SortStableFunc(list, func(a, b failure) int { return b.Count - a.Count })
	return list
}

// reasonOfDial says why a handshake failed, without what is different for each connection.
func reasonOfDial(err error) string {
	var handshake *wsd.HandshakeError
	text := client.Describe(err)
	switch {
	case strings.Contains(text, "too many open files"):
		return "too many open files (ulimit -n says how many there may be)"
	case strings.Contains(text, "cannot assign requested address"):
		return "no local port is left for one more connection to this address"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer to the handshake in time"
	case errors.As(err, &handshake) && handshake.StatusCode != 0:
		return fmt.Sprintf("the handshake was answered with status %d", handshake.StatusCode)
	}
	return text
}

// reasonOfEnd says why a connection ended.
func reasonOfEnd(err error) string {
	var closed *wsd.CloseError
	switch {
	case errors.As(err, &closed):
		return "closed by the server: " + strings.TrimSuffix(fmt.Sprintf("%v: %s", closed.Code, closed.Reason), ": ")
	case strings.Contains(err.Error(), "connection reset"):
		return "reset by the server"
	case strings.Contains(err.Error(), "EOF"):
		return "ended by the server without a close frame"
	}
	return strings.TrimPrefix(err.Error(), "wsd: ")
}
