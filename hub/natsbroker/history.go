// history.go keeps topics with history in streams of JetStream, one for each hub.History.

package natsbroker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/internal/done"
	"github.com/seed62836080/wsd/internal/subject"
)

// histories are the streams of a link.
type histories struct {
	link   *link
	all    []*stream
	digest string        // of what has history, to be compared with that of other nodes
	check  chan struct{} // has room for one; the streams are to be looked at
	known  chan struct{} // has room for one; they have been found

	beyondFor time.Duration // see beyond
}

// stream is the history of the topics that one hub.History is about.
type stream struct {
	limits *hub.History
	key    string // in its subjects
	name   string // for JetStream
	flights
	born atomic.Pointer[string] // its epoch; nil until the stream is known to be there
}

func (s *stream) epoch() string {
	if born := s.born.Load(); born != nil {
		return *born
	}
	return ""
}

// unlimited is what hub.History has for no limit.
const unlimited = int(^uint(0) >> 1)

func newHistories(l *link) (*histories, error) {
	h := &histories{link: l, check: make(chan struct{}, 1), known: make(chan struct{}, 1)}
	if len(l.node.History) > 0 && l.broker.server != nil && l.broker.options.NoHistory {
		return nil, &hub.OptionError{Option: "History", Problem: "expected none, as the broker has Options.NoHistory"}
	}
	if l.broker.options.Replicas > 1 {
		h.beyondFor = min(deposedWithin, l.broker.options.Timeout/2)
	}
	digest := sha256.New()
	for i := range l.node.History {
		limits := &l.node.History[i]
		_, _ = fmt.Fprintf(digest, "%q %d %d %d\n", limits.Topics, limits.Messages, limits.Age, limits.Bytes)
		sum := sha256.Sum256([]byte(limits.Topics))
		key := hex.EncodeToString(sum[:6])
		if slices.ContainsFunc(h.all, func(s *stream) bool { return s.key == key }) {
			continue // the first is a topic's own
		}
		h.all = append(h.all, &stream{limits: limits, key: key, name: l.names.prefix + "-" + key})
	}
	h.digest = hex.EncodeToString(digest.Sum(nil)[:8])
	return h, nil
}

// of returns the stream of a topic, nil if it has no history.
func (h *histories) of(topic string) *stream {
	if len(h.all) == 0 || subject.Reserved(topic) {
		return nil
	}
	for _, s := range h.all {
		if subject.Matches(s.limits.Topics, topic) {
			return s
		}
	}
	return nil
}

// begin makes the streams, or goes on trying in the background if that is not possible yet.
func (h *histories) begin() error {
	if len(h.all) == 0 {
		return nil
	}
	o := &h.link.broker.options
	if o.Replicas < 3 && (o.Listen != "" || h.link.broker.server == nil) {
		h.link.broker.log.Warn("history does not survive the loss of a server: three are the least that survive one, with Options.Replicas 3",
			"replicas", o.Replicas)
	}
	ctx, cancel := context.WithTimeout(h.link.ctx, min(o.Timeout, time.Second))
	defer cancel()
	err := h.ensure(ctx)
	var refused *hub.OptionError
	if errors.As(err, &refused) {
		return err
	}
	if err != nil {
		h.link.broker.log.Info("history is not there yet", "error", err)
		h.wake()
	}
	h.link.working.Go(h.keep)
	return nil
}

// wake has the streams looked at, as they may be gone.
func (h *histories) wake() {
	select {
	case h.check <- struct{}{}:
	default:
	}
}

// keep is a goroutine that makes streams that are not there.
func (h *histories) keep() {
	for {
		select {
		case <-h.check:
		case <-h.link.ctx.Done():
			return
		}
		for failed := false; ; failed = true {
			ctx, cancel := context.WithTimeout(h.link.ctx, once)
			err := h.ensure(ctx)
			cancel()
			if err == nil {
				if failed {
					h.link.broker.log.Info("history is there")
					h.link.missed()
				}
				break
			}
			select {
			case <-time.After(250 * time.Millisecond):
			case <-h.link.ctx.Done():
				return
			}
		}
	}
}

// ensure makes what streams are not there, and those that have other limits as they are to be.
func (h *histories) ensure(ctx context.Context) error {
	js, err := jetstream.New(h.link.nc)
	if err != nil {
		return err
	}
	for _, s := range h.all {
		made, err := js.CreateOrUpdateStream(ctx, h.config(s))
		var refused *jetstream.APIError
		if errors.As(err, &refused) && refused.ErrorCode == 10052 { // a configuration that cannot be
			return &hub.OptionError{Option: "History", Problem: fmt.Sprintf("expected one that the stream %s can have: %s", s.name, refused.Description)}
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.name, err)
		}
		born := strconv.FormatInt(made.CachedInfo().Created.UnixNano(), 36)
		s.born.Store(&born)
	}
	select {
	case h.known <- struct{}{}:
	default:
	}
	return nil
}

// config is a stream's. It has one publication of each topic more than the limit, which tells whether a position is old.
func (h *histories) config(s *stream) jetstream.StreamConfig {
	o := &h.link.broker.options
	c := jetstream.StreamConfig{
		Name: s.name, Subjects: []string{h.link.names.stored(s.key, ">")}, Description: "history of " + s.limits.Topics,
		MaxMsgsPerSubject: -1, MaxBytes: -1, MaxMsgs: -1, Discard: jetstream.DiscardOld, Storage: jetstream.MemoryStorage,
		Replicas: o.Replicas, AllowDirect: true, Duplicates: 2 * time.Minute,
		RePublish: &jetstream.RePublish{Source: h.link.names.stored(s.key, ">"), Destination: h.link.names.live(">")},
	}
	if o.File {
		c.Storage = jetstream.FileStorage
	}
	if o.MaxBytes > 0 {
		c.MaxBytes = o.MaxBytes
	}
	if s.limits.Messages != unlimited {
		c.MaxMsgsPerSubject = int64(s.limits.Messages) + 1
	}
	if int(s.limits.Age) != unlimited {
		c.MaxAge = max(s.limits.Age, 100*time.Millisecond)
		c.Duplicates = min(c.Duplicates, c.MaxAge)
	}
	return c
}

// ack is what a stream says of a publication.
type ack struct {
	Seq   uint64 `json:"seq"`
	Error *struct {
		Code        int    `json:"code"`
		Kind        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

// once is how long an answer of JetStream may take until it is asked again: a request that comes while there is no leader is not
// answered.
const once = 2 * time.Second

const tooLong = 10054 // the kind of error that says that a message is longer than the stream takes

// store has a stream store a publication, which then comes to all nodes that are subscribed to its topic. It tries again until
// ctx is done or the broker's time is over: the publication's name keeps it from being stored twice.
func (l *link) store(ctx context.Context, s *stream, p *hub.Publication, number uint64, data []byte) error {
	all, cancel := within(ctx, l.broker.options.Timeout)
	defer cancel()
	m := &nats.Msg{
		Subject: l.names.stored(s.key, p.Topic), Data: data,
		Header: nats.Header{jetstream.MsgIDHeader: {strconv.FormatUint(l.id, 36) + "-" + strconv.FormatUint(number, 36)}},
	}
	last := errNoServer
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		if l.nc.IsConnected() {
			stored, permanent, err := l.storeOnce(all, m)
			if stored {
				return nil
			}
			if permanent {
				return fmt.Errorf("wsd: publish: %w", err)
			}
			last = err
		}
		if errors.Is(last, nats.ErrNoResponders) {
			l.histories.wake()
		}
		select {
		case <-time.After(wait):
		case <-all.Done():
			return l.gaveUp(ctx, "publish", last)
		}
	}
}

var errNoServer = errors.New("there is no server of NATS")

func (l *link) storeOnce(ctx context.Context, m *nats.Msg) (stored, permanent bool, err error) {
	alone, cancel := context.WithTimeout(ctx, once)
	defer cancel()
	answer, err := l.nc.RequestMsgWithContext(alone, m)
	if err != nil {
		return false, false, err
	}
	var a ack
	if err := json.Unmarshal(answer.Data, &a); err != nil {
		return false, false, err
	}
	if a.Error != nil {
		return false, a.Error.Kind == tooLong, errors.New(a.Error.Description)
	}
	return a.Seq > 0, false, errForeign
}

// gaveUp returns the error of a call that was tried until its context was done, or the broker's time was over.
func (l *link) gaveUp(ctx context.Context, call string, last error) error {
	switch {
	case l.closed.Load():
		return hub.ErrClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%w (%w: %w)", done.Canceled(call, ctx), hub.ErrBroker, last)
	}
	return away(call, last)
}
