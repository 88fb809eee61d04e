// slow_test.go checks what becomes of messages for members that do not read as fast as they are published.

package hub_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/wsdtest"
)

// A subscriber that never reads costs the publisher and others nothing, whatever the size.
func TestNobodyWaitsForWhoDoesNotRead(t *testing.T) {
	for _, policy := range []hub.Policy{hub.Drop, hub.Close, hub.Latest} {
		for _, size := range []int{128, 8 << 10, 100 << 10, 4 << 20} {
			for name, agreed := range map[string]*wsd.Compression{"plain": nil, "takeover": {}} {
				t.Run(fmt.Sprint(policy, " ", size, " ", name), func(t *testing.T) {
					bubble(t, &hub.Options{Slow: policy}, func(t *testing.T, h *hub.Hub) {
						cfg := quiet
						cfg.Compression = agreed
						stuck, well := join(t, h, "", cfg), join(t, h, "", cfg)
						require.NoError(t, stuck.Subscribe("t"))
						require.NoError(t, well.Subscribe("t"))
						begun := time.Now()
						text := strings.Repeat("x", size)
						for range max(4, min(200, 4<<20/size)) { // more than what may wait
							publish(t, h, "t", text)
							well.hears(t, text)
						}
						require.Equal(t, begun, time.Now(), "no time has passed")
						require.Zero(t, well.Lost())
					})
				})
			}
		}
	}
}

// All that waits is bounded in bytes, and references to one message.
func TestWhatWaitsIsBounded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub.Hub) {
		const members, size = 50, 1 << 20
		var peers []peer
		for range members {
			far, near := wsdtest.Transport()
			defer far.Close()
			conn := wsd.NewConn(near, wsd.ServerRole, quiet)
			defer conn.CloseNow()
			m, err := h.Join(conn, "")
			require.NoError(t, err)
			require.NoError(t, m.Subscribe("t"))
			peers = append(peers, peer{Member: m})
		}
		before := liveHeap()
		for i := range 20 {
			require.NoError(t, h.Publish(t.Context(), "t", wsd.Binary(bytes.Repeat([]byte{byte(i)}, size))))
		}
		synctest.Wait()
		require.Less(t, int64(liveHeap())-int64(before), int64(6*size+members*300<<10), "what the pipes hold, and some messages once")
		require.Equal(t, members*(size+64), h.Stats().Waiting)
		for _, p := range peers {
			require.Positive(t, p.Lost())
			p.Leave()
		}
		require.Zero(t, h.Stats().Waiting)
	})
}

// A burst of 2,000 messages of 1 KiB: who reads loses none of what fits, who is stuck loses the rest.
func TestDrop(t *testing.T) {
	bubble(t, &hub.Options{Backlog: 100_000}, func(t *testing.T, h *hub.Hub) {
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("t"))
		n := 0
		for ; p.Lost() < 10; n++ {
			publish(t, h, "t", fmt.Sprintf("%04d%s", n, strings.Repeat("x", 1000)))
			synctest.Wait()
		}
		for i := range n - 10 {
			m, err := p.far.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("%04d", i), string(m.Data[:4]), "the oldest are kept, in order")
		}
		p.hearsNothing(t)
		require.EqualValues(t, 10, h.Stats().Lost)
		require.EqualValues(t, n-10, h.Stats().Queued)
		publish(t, h, "t", "again")
		p.hears(t, "again")
	})
}

// The program is told of losses ahead of the next message, and its word arrives in their place.
func TestLost(t *testing.T) {
	told := map[string]int{}
	bubble(t, &hub.Options{Backlog: 50_000, Lost: func(m *hub.Member, subject string, n int) {
		told[subject] += n
		if err := m.Conn().TrySend(wsd.Text(fmt.Sprintf("lost %s %d", subject, n))); err != nil {
			panic(err)
		}
	}}, func(t *testing.T, h *hub.Hub) {
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("t", "u.*"))
		text := strings.Repeat("x", 1000)
		n := 0
		for ; p.Lost() < 10; n++ {
			publish(t, h, "t", text)
			publish(t, h, "u.a", text)
			synctest.Wait()
		}
		require.Empty(t, told)
		word := 0
		for got := 0; got+word < 2*n; {
			m, err := p.far.Receive(t.Context())
			require.NoError(t, err)
			if string(m.Data) == text {
				got++
				continue
			}
			var subject string
			var lost int
			_, err = fmt.Sscanf(string(m.Data), "lost %s %d", &subject, &lost)
			require.NoError(t, err)
			word += lost
		}
		require.EqualValues(t, p.Lost(), word)
		require.Equal(t, word, told["t"]+told["u.*"])

		// And between messages, where more have found room behind the loss.
		text = strings.Repeat("y", 900)
		lost := p.Lost()
		for ; p.Lost() == lost; n++ {
			publish(t, h, "t", text)
			synctest.Wait()
		}
		publish(t, h, "t", "short enough")
		for {
			m, err := p.far.Receive(t.Context())
			require.NoError(t, err)
			if string(m.Data) != text {
				require.Equal(t, fmt.Sprintf("lost t %d", p.Lost()-lost), string(m.Data))
				break
			}
		}
		p.hears(t, "short enough")
		p.hearsNothing(t)
	})
}

// What is published while the program sends word of a loss comes behind that.
func TestNothingGoesAheadOfWordOfALoss(t *testing.T) {
	var called, goOn chan struct{}
	bubble(t, &hub.Options{Backlog: 50_000, Lost: func(m *hub.Member, _ string, _ int) {
		close(called)
		<-goOn
		if err := m.Conn().TrySend(wsd.Text("word")); err != nil {
			panic(err)
		}
	}}, func(t *testing.T, h *hub.Hub) {
		called, goOn = make(chan struct{}), make(chan struct{})
		p := join(t, h, "", quiet)
		require.NoError(t, p.Subscribe("t"))
		text := strings.Repeat("x", 1000)
		left := 0
		for ; p.Lost() == 0; left++ {
			publish(t, h, "t", text)
			synctest.Wait()
		}
		left-- // which was lost
		for told := false; !told; {
			p.hears(t, text)
			left--
			synctest.Wait()
			select {
			case <-called: // nothing waits any more
				told = true
			default:
			}
		}
		publish(t, h, "t", "after")
		close(goOn)
		for range left {
			p.hears(t, text)
		}
		p.hears(t, "word", "after")
		p.hearsNothing(t)
	})
}

// Close is for who stays slow, never for a burst.
func TestCloseAfterPatience(t *testing.T) {
	bubble(t, &hub.Options{Slow: hub.Close, Patience: 8 * time.Second, Backlog: 50_000}, func(t *testing.T, h *hub.Hub) {
		stuck, busy, few := join(t, h, "", quiet), join(t, h, "", quiet), join(t, h, "", quiet)
		require.NoError(t, stuck.Subscribe("t"))
		require.NoError(t, busy.Subscribe("t"))
		// The pipe is full of what the program itself sends; of the hub's nothing need wait for a member to be slow.
		require.NoError(t, few.Subscribe("nothing"))
		require.NoError(t, few.Conn().TrySend(wsd.Binary([]byte("its reader is stuck with this"))))
		synctest.Wait()
		require.NoError(t, few.Conn().TrySend(wsd.Binary(make([]byte, 3_000_000))))
		text := strings.Repeat("x", 1000)
		for range 500 {
			publish(t, h, "t", text)
		}
		synctest.Wait()
		require.Positive(t, busy.Lost(), "a burst that is too much for it")
		var heard atomic.Int64
		go func() {
			for range busy.far.Messages() {
				heard.Add(1)
			}
		}()
		time.Sleep(7 * time.Second)
		require.Zero(t, h.Stats().Expelled)
		time.Sleep(4 * time.Second)
		require.EqualValues(t, 2, h.Stats().Expelled)
		require.ErrorIs(t, stuck.Subscribe("u"), hub.ErrLeft)
		require.ErrorIs(t, few.Subscribe("u"), hub.ErrLeft)
		require.NoError(t, busy.Subscribe("u"))
		require.EqualValues(t, 500-busy.Lost(), heard.Load())
		go func() {
			for range stuck.far.Messages() {
			}
		}()
		<-stuck.far.Closed()
		require.Equal(t, wsd.StatusTryAgainLater, stuck.far.CloseEvent().Code)
	})
}

// Of each topic only the newest message waits, in the order in which they first changed.
func TestLatest(t *testing.T) {
	bubble(t, &hub.Options{Slow: hub.Latest}, func(t *testing.T, h *hub.Hub) {
		p := join(t, h, "", wsd.Config{PingInterval: -1, WriteTimeout: -1, MessageBuffer: -1, SendQueue: 2000})
		require.NoError(t, p.Subscribe("price.*"))
		filler := strings.Repeat("x", 1500)
		for range 100 { // until pipe and queue are full
			publish(t, h, "price.filler", filler)
			synctest.Wait()
		}
		require.Positive(t, h.Stats().Replaced)
		publish(t, h, "price.b", "b1")
		publish(t, h, "price.a", "a1")
		publish(t, h, "price.b", "b2")
		publish(t, h, "price.c", "c1")
		publish(t, h, "price.a", "a2", "a3")
		var last []string
		for {
			m, err := p.far.Receive(t.Context())
			require.NoError(t, err)
			if string(m.Data) != filler {
				last = append(last, string(m.Data))
			}
			if len(last) == 3 {
				break
			}
		}
		require.Equal(t, []string{"b2", "a3", "c1"}, last)
		p.hearsNothing(t)
		require.Zero(t, h.Stats().Waiting)
		require.Zero(t, p.Lost(), "what was replaced is not lost")
	})
}

// What is newest of a topic finds no room: neither it nor what it replaces is sent.
func TestLatestWithoutRoom(t *testing.T) {
	bubble(t, &hub.Options{Slow: hub.Latest, Backlog: 4000}, func(t *testing.T, h *hub.Hub) {
		p := join(t, h, "", wsd.Config{PingInterval: -1, WriteTimeout: -1, MessageBuffer: -1, SendQueue: 2000})
		require.NoError(t, p.Subscribe("*"))
		for range 100 {
			publish(t, h, "filler", strings.Repeat("x", 1500))
			synctest.Wait()
		}
		waiting := h.Stats().Waiting
		publish(t, h, "a", strings.Repeat("a", 1000))
		require.Equal(t, waiting+1000+64, h.Stats().Waiting)
		publish(t, h, "a", strings.Repeat("a", 1100))
		require.Equal(t, waiting+1100+64, h.Stats().Waiting)
		publish(t, h, "a", strings.Repeat("a", 3000))
		require.Equal(t, waiting, h.Stats().Waiting)
		require.EqualValues(t, 1, p.Lost())
		publish(t, h, "b", "b1")
		for {
			m, err := p.far.Receive(t.Context())
			require.NoError(t, err)
			require.NotEqual(t, byte('a'), m.Data[0])
			if m.Data[0] == 'b' {
				break
			}
		}
	})
}

func TestPolicyOfASubscription(t *testing.T) {
	bubble(t, &hub.Options{Slow: hub.Drop, Patience: time.Second}, func(t *testing.T, h *hub.Hub) {
		p, q := join(t, h, "", quiet), join(t, h, "", quiet)
		require.NoError(t, p.SubscribeWith(hub.Latest, "latest"))
		require.NoError(t, p.Subscribe("drop"))
		require.NoError(t, q.Subscribe("drop"))
		text := strings.Repeat("x", 1000)
		for range 500 {
			publish(t, h, "drop", text)
		}
		publish(t, h, "latest", "1", "2", "3")
		require.EqualValues(t, 2, h.Stats().Replaced)
		time.Sleep(time.Minute)
		require.Zero(t, h.Stats().Expelled)
		require.NoError(t, q.SubscribeWith(hub.Close, "drop"), "another policy for what is there")
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, h.Stats().Expelled)
		require.NoError(t, p.SubscribeWith(hub.Close, "drop"))
		require.NoError(t, p.SubscribeWith(hub.Drop, "drop"), "and back")
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, h.Stats().Expelled)
		require.Error(t, p.SubscribeWith(9, "x"))
	})
}

// A message that waits is sent without anybody polling, and without another publish.
func TestWhatWaitsGoesByItself(t *testing.T) {
	for _, size := range []int{100, 10_000, 600_000} {
		bubble(t, nil, func(t *testing.T, h *hub.Hub) {
			p := join(t, h, "", quiet)
			require.NoError(t, p.Subscribe("t"))
			text := strings.Repeat("x", size)
			n := 0
			for ; p.Lost() == 0 && n < 3000; n++ {
				publish(t, h, "t", text)
			}
			begun := time.Now()
			for range n - int(p.Lost()) {
				p.hears(t, text)
			}
			require.Equal(t, begun, time.Now())
			p.hearsNothing(t)
		})
	}
}
