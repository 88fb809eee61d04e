// reading.go reads from history.

package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/clock"
)

// History returns what was published to a topic after a position.
func (l *link) History(ctx context.Context, topic string, after hub.Position, most int) (hub.Page, error) {
	if err := l.usable("history", ctx); err != nil {
		return hub.Page{}, err
	}
	s := l.histories.of(topic)
	if s == nil {
		return hub.Page{}, hub.ErrNoHistory
	}
	all, cancel := within(ctx, l.broker.options.Timeout)
	defer cancel()
	last := errNoServer
	for {
		page, err := s.share(all, flightKey{topic, after, max(most, 1)}, func() (hub.Page, error) {
			alone, cancel := context.WithTimeout(l.ctx, once)
			defer cancel()
			return l.histories.page(alone, s, topic, after, max(most, 1))
		})
		var gap *hub.Gap
		if err == nil || errors.As(err, &gap) {
			return page, err
		}
		if all.Err() == nil {
			last = err
			l.histories.wake()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-all.Done():
			return hub.Page{}, l.gaveUp(ctx, "history", last)
		}
	}
}

// flights share what is read: whoever asks while the same is being read waits for the next reading, which sees all that
// there was when he asked. The zero value is ready.
type flights struct {
	mu  sync.Mutex
	all map[flightKey]*flight
}

type flightKey struct {
	topic string
	after hub.Position
	most  int
}

// flight is a reading and the one that follows it, if somebody waits for that.
type flight struct {
	next *reading
}

type reading struct {
	done chan struct{} // closed once the rest is set, by whoever reads
	page hub.Page
	err  error
}

func (f *flights) share(ctx context.Context, key flightKey, read func() (hub.Page, error)) (hub.Page, error) {
	f.mu.Lock()
	under := f.all[key]
	if under == nil {
		if f.all == nil {
			f.all = make(map[flightKey]*flight)
		}
		under = new(flight)
		f.all[key] = under
		under.next = &reading{done: make(chan struct{})}
		go f.fly(key, under, read)
	}
	if under.next == nil {
		under.next = &reading{done: make(chan struct{})}
	}
	mine := under.next
	f.mu.Unlock()
	select {
	case <-mine.done:
		return mine.page, mine.err
	case <-ctx.Done():
		return hub.Page{}, ctx.Err()
	}
}

// fly reads until nobody waits.
func (f *flights) fly(key flightKey, under *flight, read func() (hub.Page, error)) {
	for {
		f.mu.Lock()
		r := under.next
		under.next = nil
		if r == nil {
			delete(f.all, key)
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		r.page, r.err = read()
		close(r.done)
	}
}

// page reads a part of a topic's history.
func (h *histories) page(ctx context.Context, s *stream, topic string, after hub.Position, most int) (hub.Page, error) {
	epoch := s.epoch()
	if epoch == "" {
		return hub.Page{}, errNoStream
	}
	newest, err := h.newest(ctx, s, topic)
	if err != nil {
		return hub.Page{}, err
	}
	switch {
	case newest == 0 && after == hub.Position{}:
		return hub.Page{}, nil
	case newest == 0 && after.Epoch != epoch:
		return hub.Page{}, &hub.Gap{Topic: topic, Asked: after}
	case after.Epoch == epoch && after.Seq == newest:
		return hub.Page{}, nil
	case after != hub.Position{} && after.Epoch != epoch:
		return hub.Page{}, h.gap(ctx, s, topic, after, newest)
	case after.Seq > newest:
		return h.beyond(s, topic, after, newest, most)
	}
	got, err := h.batch(ctx, s, topic, max(after.Seq, 1), most+2, newest)
	if err != nil {
		return hub.Page{}, err
	}
	return h.judge(ctx, s, topic, after, newest, most, got)
}

var errNoStream = errors.New("the stream of the history is not there yet")

// judge makes a page of what was read from a position on.
func (h *histories) judge(ctx context.Context, s *stream, topic string, after hub.Position, newest uint64, most int, got batch) (hub.Page, error) {
	found := got.found
	if len(found) == 0 {
		return hub.Page{}, errStale // it was not, a moment ago
	}
	switch first := found[0].At.Seq; {
	case after == hub.Position{}:
		if len(found)+got.more > s.limits.Messages {
			found = found[1:]
		}
	case first == after.Seq:
		found = found[1:]
	case first-1 == after.Seq: // nothing can be between them
	default:
		oldest, err := h.batch(ctx, s, topic, 1, 1, 0)
		if err != nil {
			return hub.Page{}, err
		}
		if len(oldest.found) == 0 || oldest.found[0].At.Seq > after.Seq {
			return hub.Page{}, h.gap(ctx, s, topic, after, newest)
		}
	}
	page := hub.Page{Publications: found[:min(most, len(found))]}
	page.More = got.more > 0 || len(page.Publications) < len(found)
	return page, nil
}

// gap returns the error that says where a topic's history begins.
func (h *histories) gap(ctx context.Context, s *stream, topic string, after hub.Position, newest uint64) error {
	oldest, err := h.batch(ctx, s, topic, 1, 1, newest)
	if err != nil {
		return err
	}
	gap := &hub.Gap{Topic: topic, Asked: after}
	if len(oldest.found) > 0 {
		gap.First = oldest.found[0].At
		if 1+oldest.more <= s.limits.Messages {
			gap.First.Seq--
		}
	}
	return gap
}

// deposedWithin is how long a leader that was cut off may take to learn that there is another one. Until then it answers from what
// it has, and may be the first to answer.
const deposedWithin = 3 * time.Second

// beyond is for positions behind the newest publication of a topic: of another one, or nobody has them. Where there may be a leader
// that is none any more, that must be so for a while.
func (h *histories) beyond(s *stream, topic string, after hub.Position, newest uint64, most int) (hub.Page, error) {
	ctx, cancel := context.WithTimeout(h.link.ctx, h.beyondFor+once)
	defer cancel()
	js, err := jetstream.New(h.link.nc)
	if err != nil {
		return hub.Page{}, err
	}
	for begun := clock.Now(); after.Seq > newest; {
		info, err := js.Stream(ctx, s.name)
		switch {
		case err != nil:
			return hub.Page{}, err
		case newest > 0 && after.Seq <= info.CachedInfo().State.LastSeq:
			return hub.Page{}, nil
		case clock.Now()-begun >= h.beyondFor && newest == 0:
			return hub.Page{}, &hub.Gap{Topic: topic, Asked: after}
		case clock.Now()-begun >= h.beyondFor:
			return hub.Page{}, h.gap(ctx, s, topic, after, newest)
		}
		select {
		case <-time.After(h.beyondFor / 30):
		case <-ctx.Done():
			return hub.Page{}, errStale
		}
		if newest, err = h.newest(ctx, s, topic); err != nil {
			return hub.Page{}, err
		}
	}
	return h.page(ctx, s, topic, after, most)
}

// newest asks the leader for the position of a topic's newest publication, 0 if there is none. Other servers may not have it
// yet.
func (h *histories) newest(ctx context.Context, s *stream, topic string) (uint64, error) {
	newest, err := h.ask(ctx, s, map[string]any{"last_by_subj": h.link.names.stored(s.key, topic)})
	return newest.Seq, err
}

// stored is a message of a stream.
type stored struct {
	Seq  uint64 `json:"seq"`
	Data []byte `json:"data"`
}

// ask asks the leader for a message, which is zero if there is none.
func (h *histories) ask(ctx context.Context, s *stream, what map[string]any) (stored, error) {
	request, err := json.Marshal(what)
	if err != nil {
		return stored{}, err
	}
	answer, err := h.link.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+s.name, request)
	if err != nil {
		return stored{}, err
	}
	var got struct {
		Message stored              `json:"message"`
		Error   *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return stored{}, err
	}
	if got.Error != nil && got.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return stored{}, got.Error
	}
	return got.Message, nil
}

// between reads what was published after a position, up to another.
func (h *histories) between(ctx context.Context, topic string, after hub.Position, upTo uint64) ([]hub.Publication, error) {
	s := h.of(topic)
	var all []hub.Publication
	for from := after.Seq + 1; from <= upTo; {
		got, err := h.batch(ctx, s, topic, from, 256, upTo)
		if err != nil {
			return all, err
		}
		for _, p := range got.found {
			if p.At.Seq <= upTo {
				all = append(all, p)
			}
			from = p.At.Seq + 1
		}
		if len(got.found) == 0 || got.more == 0 {
			break
		}
	}
	return all, nil
}

// batch is what was read, and how many there are behind it.
type batch struct {
	found []hub.Publication
	more  int
}

// pageBytes bounds what is read at a time.
const pageBytes = 1 << 20

var errStale = errors.New("the server that answered is behind")

// behindFor is how long a server may be behind until the leader is asked instead. One that comes back can take minutes.
const behindFor = 100 * time.Millisecond

// batch reads up to n publications from a position on. It asks any server, mostly that of this process. One that has not got up to
// where newest says is asked again, and then the leader.
func (h *histories) batch(ctx context.Context, s *stream, topic string, from uint64, n int, newest uint64) (batch, error) {
	for begun := clock.Now(); ; {
		got, err := h.batchOnce(ctx, s, topic, from, n)
		if err != nil {
			return batch{}, err
		}
		behind := len(got.found) == 0 || got.more == 0 && got.found[len(got.found)-1].At.Seq < newest
		if newest < from || !behind {
			return got, nil
		}
		if clock.Now()-begun > behindFor {
			return h.fromLeader(ctx, s, topic, from, n)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return batch{}, errStale
		}
	}
}

// fromLeader is batch from the leader alone, who is asked for one publication at a time.
func (h *histories) fromLeader(ctx context.Context, s *stream, topic string, from uint64, n int) (batch, error) {
	subject := h.link.names.stored(s.key, topic)
	js, err := jetstream.New(h.link.nc)
	if err != nil {
		return batch{}, err
	}
	known, err := js.Stream(ctx, s.name)
	if err != nil {
		return batch{}, err
	}
	info, err := known.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return batch{}, err
	}
	var got batch
	for size := 0; len(got.found) < n && size < pageBytes; {
		m, err := h.ask(ctx, s, map[string]any{"seq": from, "next_by_subj": subject})
		if err != nil {
			return batch{}, err
		}
		if m.Seq == 0 {
			return got, nil
		}
		_, _, msg, err := unpack(m.Data)
		if err != nil {
			return batch{}, err
		}
		got.found = append(got.found, hub.Publication{Topic: topic, Message: msg, At: hub.Position{Epoch: s.epoch(), Seq: m.Seq}})
		from = m.Seq + 1
		size += len(m.Data)
	}
	// All there are, if it has begun with the first; otherwise no more than these.
	got.more = max(int(info.State.Subjects[subject])-len(got.found), 0)
	if m, err := h.ask(ctx, s, map[string]any{"seq": from, "next_by_subj": subject}); err != nil || m.Seq == 0 {
		got.more = 0
		return got, err
	}
	return got, nil
}

func (h *histories) batchOnce(ctx context.Context, s *stream, topic string, from uint64, n int) (batch, error) {
	request, err := json.Marshal(map[string]any{
		"seq": from, "next_by_subj": h.link.names.stored(s.key, topic), "batch": n, "max_bytes": pageBytes,
	})
	if err != nil {
		return batch{}, err
	}
	answers := make(chan *nats.Msg, n+1)
	inbox := h.link.nc.NewInbox()
	sub, err := h.link.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return batch{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := h.link.nc.PublishRequest("$JS.API.DIRECT.GET."+s.name, inbox, request); err != nil {
		return batch{}, err
	}
	wait := time.NewTimer(once)
	defer wait.Stop()
	var got batch
	for {
		select {
		case m := <-answers:
			if status := m.Header.Get("Status"); status != "" {
				return got, statusError(status, m)
			}
			p, more, err := h.publication(s, topic, m)
			if err != nil {
				return batch{}, err
			}
			got.found, got.more = append(got.found, p), more
		case <-wait.C:
			return batch{}, errTimeout
		case <-ctx.Done():
			return batch{}, ctx.Err()
		}
	}
}

// statusError is nil where a status says that all has been sent, or that there is nothing.
func statusError(status string, m *nats.Msg) error {
	switch status {
	case "204", "404":
		return nil
	case "503":
		return nats.ErrNoResponders
	}
	return fmt.Errorf("expected the history, got status %s %s", status, m.Header.Get("Description"))
}

func (h *histories) publication(s *stream, topic string, m *nats.Msg) (p hub.Publication, more int, err error) {
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return p, 0, err
	}
	if more, err = strconv.Atoi(m.Header.Get("Nats-Num-Pending")); err != nil {
		return p, 0, err
	}
	_, _, msg, err := unpack(m.Data)
	return hub.Publication{Topic: topic, Message: msg, At: hub.Position{Epoch: s.epoch(), Seq: seq}}, more, err
}
