// recovery_test.go loses what comes from NATS, and checks that it is read from history and that hubs are told.

package natsbroker

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
)

// recorder is a hub that notes what comes.
type recorder struct {
	mu      sync.Mutex
	got     []string
	resumed int
}

func (r *recorder) node() hub.Node {
	return hub.Node{Deliver: r.deliver, Resumed: r.resume, History: []hub.History{
		{Topics: "kept.>", Messages: 100, Age: time.Hour, Bytes: 1 << 20},
	}}
}

func (r *recorder) deliver(p hub.Publication) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, string(p.Message.Data))
}

func (r *recorder) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resumed++
}

func (r *recorder) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...)
}

func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = nil
}

func (r *recorder) awaits(t *testing.T, want ...string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(r.seen()) >= len(want) }, patience, time.Millisecond)
	require.Equal(t, want, r.seen())
}

func attach(t *testing.T, b *Broker, r *recorder) *link {
	t.Helper()
	l, err := b.Attach(r.node())
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.(*link)
}

func publish(t *testing.T, l *link, topic string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.NoError(t, l.Publish(t.Context(), hub.Publication{Topic: topic, Message: wsd.Text(text)}))
	}
}

// deafen has NATS not deliver what a link is subscribed to, until the func it returns is called.
func deafen(t *testing.T, l *link, s string) (again func()) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.NoError(t, l.subs[s].sub.Unsubscribe())
	require.NoError(t, l.nc.Flush())
	return func() {
		_, err := l.nc.ChanSubscribe(l.names.live(s), l.gate.waiting)
		require.NoError(t, err)
		require.NoError(t, l.nc.Flush())
	}
}

func TestWhatDoesNotComeIsReadFromHistory(t *testing.T) {
	b := start(t, Options{})
	var r, other recorder
	l, far := attach(t, b, &r), attach(t, b, &other)
	require.NoError(t, l.Subscribe("kept.*"))
	publish(t, far, "kept.a", "1")
	r.awaits(t, "1")
	again := deafen(t, l, "kept.*")
	publish(t, far, "kept.a", "2", "3")
	again()
	publish(t, far, "kept.a", "4", "5")
	r.awaits(t, "1", "2", "3", "4", "5")
	require.EqualValues(t, 2, b.Stats().Recovered)
}

// Who has unsubscribed from a topic does not get what was published until it subscribes again.
func TestUnsubscribedIsNotMissed(t *testing.T) {
	b := start(t, Options{})
	var r, other recorder
	l, far := attach(t, b, &r), attach(t, b, &other)
	for _, s := range []string{"kept.a", "kept.>"} {
		r.forget()
		require.NoError(t, l.Subscribe(s))
		publish(t, far, "kept.a", "1")
		r.awaits(t, "1")
		require.NoError(t, l.Unsubscribe(s))
		publish(t, far, "kept.a", "2")
		require.NoError(t, l.Subscribe(s))
		publish(t, far, "kept.a", "3")
		r.awaits(t, "1", "3")
		require.NoError(t, l.Unsubscribe(s))
	}
}

// A message that finds the channel full is dropped by NATS, and counted; the gate lets none find it full.
func TestBurstsAreNotDropped(t *testing.T) {
	b := start(t, Options{})
	const n = 30_000
	var came, other recorder
	release := make(chan struct{})
	slow := hub.Node{Resumed: func() {}, Deliver: func(p hub.Publication) {
		<-release
		came.deliver(p)
	}}
	link, err := b.Attach(slow)
	require.NoError(t, err)
	defer link.Close()
	require.NoError(t, link.Subscribe("t"))
	far, err := b.Attach(hub.Node{Resumed: func() {}, Deliver: other.deliver})
	require.NoError(t, err)
	defer far.Close()
	for range n {
		require.NoError(t, far.Publish(t.Context(), hub.Publication{Topic: "t", Message: wsd.Text("x")}))
	}
	close(release)
	require.Eventually(t, func() bool { return len(came.seen()) == n }, patience, 10*time.Millisecond)
	require.Zero(t, b.Stats().Dropped)
}

// What a server does not have that is behind is read from the leader.
func TestTheLeaderIsAsked(t *testing.T) {
	b := start(t, Options{})
	var r recorder
	l := attach(t, b, &r)
	for range 5 {
		publish(t, l, "kept.a", "1", "2", "3", strings.Repeat("x", pageBytes/4))
		publish(t, l, "kept.b", "of another topic")
	}
	s := l.histories.of("kept.a")
	for _, n := range []int{1, 2, 3, 19, 20, 100} {
		for _, from := range []uint64{1, 2, 4, 5, 25, 26} {
			any, err := l.histories.batchOnce(t.Context(), s, "kept.a", from, n)
			require.NoError(t, err)
			got, err := l.histories.batch(t.Context(), s, "kept.a", from, n, 1000)
			require.NoError(t, err)
			require.Equal(t, any.found, got.found)
			require.Equal(t, any.more > 0, got.more > 0)
			if from == 1 {
				require.Equal(t, any.more, got.more)
			}
		}
	}
}

// A leader that is none any more may not know what a hub has had already: that is no gap.
func TestALeaderThatIsBehind(t *testing.T) {
	b := start(t, Options{})
	var r recorder
	l := attach(t, b, &r)
	publish(t, l, "kept.a", "1", "2")
	at := hub.Position{Epoch: l.histories.of("kept.a").epoch(), Seq: 4}
	_, err := l.History(t.Context(), "kept.a", at, 10)
	var gap *hub.Gap
	require.ErrorAs(t, err, &gap, "there is but one server")
	require.Zero(t, gap.First.Seq)

	l.histories.beyondFor = patience
	l.broker.options.Timeout = patience
	for _, topic := range []string{"kept.a", "kept.new"} {
		read := make(chan hub.Page)
		go func() {
			page, err := l.History(t.Context(), topic, at, 10)
			if err != nil {
				t.Error(err)
			}
			read <- page
		}()
		select {
		case page := <-read:
			require.Fail(t, "it has not waited", "%v", page)
		case <-time.After(50 * time.Millisecond):
		}
		publish(t, l, topic, "3", "4", "5")
		page := <-read
		require.Equal(t, "5", string(page.Publications[len(page.Publications)-1].Message.Data))
		at.Seq = 7 // of the next topic: 6, 7, 8
	}
}

// Readings that begin while another is under way are shared, and begin after all who wait for them.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		end := make(chan struct{})
		n := 0
		read := func() (hub.Page, error) {
			n++
			mine := n
			<-end
			return hub.Page{More: mine == 2}, nil
		}
		pages := make(chan hub.Page, 10)
		ask := func() {
			page, err := f.share(t.Context(), flightKey{topic: "a"}, read)
			if err != nil {
				t.Error(err)
			}
			pages <- page
		}
		go ask()
		synctest.Wait()
		for range 9 {
			go ask()
		}
		synctest.Wait()
		end <- struct{}{}
		require.False(t, (<-pages).More)
		synctest.Wait()
		require.Empty(t, pages, "what was being read when they asked is not for them")
		end <- struct{}{}
		for range 9 {
			require.True(t, (<-pages).More)
		}
		synctest.Wait()
		require.Equal(t, 2, n)
	})
}
