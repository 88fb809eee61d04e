// recorder.go counts messages and keeps latencies, for the whole run and for its seconds.

package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxLatency is the longest latency that is told from longer ones.
const maxLatency = time.Hour

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, maxLatency.Nanoseconds(), 3) // nanoseconds, three digits
}

// shards keep connections from waiting for each other.
const shards = 8

// recorder is where all connections put what they measure.
type recorder struct {
	shards [shards]shard

	mu    sync.Mutex              // guards all below
	total *hdrhistogram.Histogram // of the run so far, but for what is in shards
}

type shard struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram // guarded by mu
	_         [64]byte                // the next one is on another cache line
}

// counter is one connection's count. Its goroutines alone add to it, everybody may read.
type counter struct {
	sent, received         atomic.Uint64
	bytesSent, bytesGotten atomic.Uint64
	_                      [32]byte
}

func newRecorder() *recorder {
	r := &recorder{total: newHistogram()}
	for i := range r.shards {
		r.shards[i].histogram = newHistogram()
	}
	return r
}

// record puts a latency into a shard.
func (r *recorder) record(number int, latency time.Duration) {
	s := &r.shards[number%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.histogram.RecordValue(int64(min(max(latency, 1), maxLatency)))
}

// interval returns the latencies since the last call, and adds them to the total.
func (r *recorder) interval() *hdrhistogram.Histogram {
	h := newHistogram()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		h.Merge(s.histogram)
		s.histogram.Reset()
		s.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Merge(h)
	return h
}

// all returns all latencies so far.
func (r *recorder) all() *hdrhistogram.Histogram {
	r.interval()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// epoch is what clock counts from.
var epoch = time.Now()

// clock returns nanoseconds since the process began, by the clock that nobody sets.
func clock() int64 { return int64(time.Since(epoch)) }
