// sendqueue_internal_test.go checks what only a queue without its connection can be brought to show.

package wsd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/bufpool"
)

// newQueue returns a queue whose writer goroutine does nothing, and how often that was started.
func newQueue(cfg Config, senderTries bool) (q *sendQueue, started *int) {
	q, started = new(sendQueue), new(int)
	q.init(settle(ServerRole, &cfg), senderTries)
	q.startWriter = func() { *started++ }
	return q, started
}

// If a sender wrote the close frame, the end could be announced before the sender has noted it.
func TestSenderWhoseMessageIsWrittenWritesNothingElse(t *testing.T) {
	q, started := newQueue(Config{}, true)
	q.answers.delivered.Store(2)
	add := func() uint64 {
		upTo, err := q.add(context.Background(), &outgoing{opcode: byte(OpText), payload: []byte("x"), size: 1, prompt: true})
		require.NoError(t, err)
		require.NotZero(t, upTo)
		return upTo
	}
	first, second := add(), add()
	var b batch
	require.True(t, q.take(&b, second))
	require.False(t, q.wrote(&b, b.Len(), nil, second).more)
	q.addClose(nil)
	require.Equal(t, 1, *started)
	require.False(t, q.take(&b, first), "the close frame is the writer goroutine's")
	require.True(t, q.take(&b, everything))
	require.True(t, b.HasClose)
}

// Whatever is lent to the queue comes back once, in whatever state it is when it ends: memory that came back twice would
// be lent to two at a time.
func TestLoansComeBackOnce(t *testing.T) {
	for name, state := range map[string]func(q *sendQueue, b *batch) (wrote bool){
		"waiting": func(q *sendQueue, _ *batch) bool { q.stop(); return false },
		"unfinished": func(q *sendQueue, b *batch) bool {
			q.take(b, everything)
			q.wrote(b, 10, nil, 1)
			q.stop()
			return false
		},
		"written": func(q *sendQueue, b *batch) bool { return q.take(b, everything) },
		"failed": func(q *sendQueue, b *batch) bool {
			q.take(b, everything)
			q.wrote(b, 10, context.Canceled, everything)
			return false
		},
		"stopped meanwhile": func(q *sendQueue, b *batch) bool { q.take(b, everything); q.stop(); return true },
	} {
		for size, pieces := range map[int]int{largePayload: 1, 200 << 10: 2} {
			t.Run(name, func(t *testing.T) {
				q, _ := newQueue(Config{SendQueue: -1}, false)
				loan := append(bufpool.Get(size), make([]byte, size)...)
				_, err := q.tryAdd(&outgoing{opcode: byte(OpBinary), payload: loan, loan: true})
				require.NoError(t, err)
				var b batch
				for more := state(q, &b); more; {
					more = q.wrote(&b, b.Len(), nil, everything).more
				}
				q.stop()
				require.Zero(t, b)
				var again [][]byte
				for range 2 * pieces {
					again = append(again, bufpool.Get(size)[:1])
				}
				for i := range again {
					for j := range i {
						require.NotSame(t, &again[i][0], &again[j][0], "lent to two")
					}
				}
			})
		}
	}
}

// What is being written when the queue stops serves others only once that is over.
func TestWhatIsBeingWrittenIsNotLentToOthers(t *testing.T) {
	const size = 200 << 10 // more than one piece: the queue has the loan while the first is written
	q, _ := newQueue(Config{SendQueue: -1}, false)
	loan := append(bufpool.Get(size), make([]byte, size)...)
	_, err := q.tryAdd(&outgoing{opcode: byte(OpBinary), payload: loan, loan: true})
	require.NoError(t, err)
	var b batch
	require.True(t, q.take(&b, everything))
	q.stop()
	for range 4 {
		require.NotSame(t, &loan[0], &bufpool.Get(size)[:1][0], "it is still being written")
	}
	require.False(t, q.wrote(&b, b.Len(), nil, everything).more)
}

// askedFor is a context that does something when it is asked whether it has ended.
type askedFor struct {
	context.Context
	meanwhile func()
}

func (a *askedFor) Err() error {
	a.meanwhile()
	return nil
}

// addBeside adds a message of size bytes, header not included, in the background.
func (q *sendQueue) addBeside(ctx context.Context, size int) <-chan error {
	added := make(chan error, 1)
	go func() {
		_, err := q.add(ctx, &outgoing{opcode: byte(OpBinary), payload: make([]byte, size), size: size})
		added <- err
	}()
	synctest.Wait()
	return added
}

// Those who wait are let in one after another, as far as there is room for them.
func TestSendersAreLetInAsFarAsThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, size = 1000, 300
		q, _ := newQueue(Config{SendQueue: limit}, false)
		var added []<-chan error
		for range 10 {
			added = append(added, q.addBeside(t.Context(), size))
		}
		most := 0
		var b batch
		for q.take(&b, everything) {
			synctest.Wait()
			most = max(most, q.backlog.DataSize())
			require.False(t, q.wrote(&b, b.Len(), nil, 0).more)
		}
		require.LessOrEqual(t, most, limit)
		require.Greater(t, most, limit/2)
		for _, err := range added {
			require.NoError(t, <-err)
		}
	})
}

// A sender that was let in adds its message, and who waited for that goes on, even while the transport takes nothing.
func TestTryTurnGoesOnBehindASenderThatWasLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(Config{}, false)
		require.NoError(t, <-q.addBeside(t.Context(), 10))
		var b batch
		require.True(t, q.take(&b, everything)) // and it is never written
		require.NoError(t, q.enter(t.Context(), 0, needTurn))
		tried := make(chan error, 1)
		added := q.addBeside(&askedFor{t.Context(), func() {
			go func() { tried <- q.tryTurn(10) }()
			synctest.Wait()
		}}, 10)
		q.leave()
		require.NoError(t, <-added)
		select {
		case err := <-tried:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			q.stop()
			require.FailNow(t, "it waits on")
		}
	})
}

func TestWriterTakesOverWhatASenderLeaves(t *testing.T) {
	q, started := newQueue(Config{}, true)
	q.answers.delivered.Store(1)
	upTo, err := q.add(context.Background(), &outgoing{opcode: byte(OpText), payload: []byte("x"), size: 1, prompt: true})
	require.NoError(t, err)
	var b batch
	require.True(t, q.take(&b, upTo))
	require.False(t, q.wrote(&b, 1, nil, upTo).more, "the transport has no room, and a sender does not wait")
	require.Equal(t, 1, *started)
	require.True(t, q.take(&b, everything))
	require.Equal(t, 2, b.Len())
}

// A message that is taken back was never sent.
func TestWithdrawnMessageLeavesNothing(t *testing.T) {
	q, _ := newQueue(Config{}, false)
	require.NoError(t, q.enter(context.Background(), 0, needTurn))
	number, _, err := q.addAwaited(&outgoing{opcode: byte(OpBinary), payload: make([]byte, largePayload), size: largePayload})
	require.NoError(t, err)
	withdrawn, _ := q.withdraw(number, largePayload)
	require.True(t, withdrawn)
	q.leave()
	var s Stats
	q.stats(&s)
	require.Zero(t, s)
	require.True(t, q.backlog.Empty())
	require.Zero(t, q.backlog.DataSize())
	require.NoError(t, q.flush(context.Background()))
}

// What goes to many is handed over once to those who write for many, unless somebody writes already or something else waits.
func TestMessagesForManyAreHandedOver(t *testing.T) {
	add := func(t *testing.T, q *sendQueue, prompt bool) uint64 {
		writeTo, err := q.tryAdd(&outgoing{opcode: byte(OpText), payload: []byte("x"), size: 1, share: true, prompt: prompt})
		require.NoError(t, err)
		return writeTo
	}
	t.Run("once", func(t *testing.T) {
		q, started := newQueue(Config{}, true)
		require.Equal(t, handOver, add(t, q, false))
		require.Zero(t, add(t, q, false), "it is with them")
		upTo := q.takeHanded()
		require.Equal(t, uint64(2), upTo)
		var b batch
		require.True(t, q.take(&b, upTo))
		require.Zero(t, add(t, q, false), "it is being written")
		result := q.wrote(&b, b.Len(), nil, upTo)
		require.False(t, result.more)
		require.True(t, result.handOver, "what came meanwhile is handed over again")
		upTo = q.takeHanded()
		require.True(t, q.take(&b, upTo))
		require.False(t, q.wrote(&b, b.Len(), nil, upTo).handOver)
		require.Equal(t, handOver, add(t, q, false))
		require.Zero(t, *started)
	})
	t.Run("written by another before", func(t *testing.T) {
		q, started := newQueue(Config{}, true)
		require.Equal(t, handOver, add(t, q, false))
		require.Zero(t, add(t, q, true), "it answers nothing")
		q.answers.delivered.Store(1)
		upTo := add(t, q, true)
		require.Equal(t, uint64(3), upTo, "an answer is its sender's")
		var b batch
		require.True(t, q.take(&b, upTo))
		require.False(t, q.wrote(&b, b.Len(), nil, upTo).handOver)
		require.False(t, q.take(&b, q.takeHanded()))
		q.addClose(nil)
		require.Equal(t, 1, *started, "the close frame is the writer goroutine's")
	})
	for name, prepare := range map[string]func(q *sendQueue){
		"a control frame waits":    func(q *sendQueue) { _, _ = q.addPing(nil) },
		"somebody waits for room":  func(q *sendQueue) { q.rarely().onRoom = func() {} },
		"the writer is awake":      func(q *sendQueue) { q.running = true },
		"a write left something":   func(q *sendQueue) { leaveSome(q) },
		"the transport cannot try": func(q *sendQueue) { q.senderTries = false },
		"it is pulled":             func(q *sendQueue) { q.transient = true },
	} {
		t.Run(name, func(t *testing.T) {
			q, started := newQueue(Config{}, true)
			prepare(q)
			q.handed = false
			require.Zero(t, add(t, q, false))
			require.Equal(t, 1, max(*started, map[bool]int{true: 1}[q.running]), "the writer goroutine")
			require.False(t, q.handed)
		})
	}
	t.Run("others are the writer's", func(t *testing.T) {
		q, started := newQueue(Config{}, true)
		require.Equal(t, handOver, add(t, q, false))
		writeTo, err := q.tryAdd(&outgoing{opcode: byte(OpText), payload: []byte("x"), size: 1})
		require.NoError(t, err)
		require.Zero(t, writeTo)
		require.Equal(t, 1, *started)
	})
}

// leaveSome has a write take less than what waits.
func leaveSome(q *sendQueue) {
	_, _ = q.tryAdd(&outgoing{opcode: byte(OpText), payload: []byte("xyz"), size: 3, share: true})
	var b batch
	q.take(&b, q.takeHanded())
	q.wrote(&b, 1, nil, 1)
}

// The writer goroutine ends when nothing is left to write, and stays only if it has been needed before since the keepalive's
// last ping.
func TestWriterStaysOnlyWhereMessagesComeOften(t *testing.T) {
	q, started := newQueue(Config{}, false)
	write := func() lull {
		var b batch
		require.True(t, q.take(&b, everything))
		return q.wrote(&b, b.Len(), nil, everything).lull
	}
	send := func() lull {
		_, err := q.add(context.Background(), &outgoing{opcode: byte(OpText), payload: []byte("x"), size: 1})
		require.NoError(t, err)
		return write()
	}
	ends, sleeps := lull{end: true}, lull{sleep: true}
	for range 2 {
		require.Equal(t, ends, send())
		require.Equal(t, sleeps, send())
		require.Equal(t, sleeps, send())
		require.Len(t, q.wake, 1, "it was asleep")
		<-q.wake
		added, late := q.addKeepalivePing(nil)
		require.True(t, added)
		require.False(t, late)
		require.Equal(t, ends, write())
		<-q.wake
		q.addKeepalivePing(nil)
		require.Equal(t, ends, write(), "a ping alone")
	}
	require.Equal(t, 6, *started)
}

// The writer goroutine gives way to others when it wakes, since they may have more to send, unless it wakes for the answer to
// all that has come.
func TestWhatTheWriterWakesFor(t *testing.T) {
	for name, row := range map[string]struct {
		delivered  uint64 // messages that are unanswered
		prompt     bool   // nothing more is being parsed
		expectMore bool
	}{
		"a message that nobody has asked for": {0, true, true},
		"the only answer":                     {1, true, false},
		"the only answer so far":              {1, false, true},
		"one of two answers":                  {2, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			q, _ := newQueue(Config{}, false)
			q.running, q.stays = true, true
			require.Equal(t, lull{sleep: true}, q.idle())
			q.answers.delivered.Store(row.delivered)
			_, err := q.add(context.Background(), &outgoing{opcode: byte(OpText), payload: []byte("x"), size: 1, prompt: row.prompt})
			require.NoError(t, err)
			require.Equal(t, row.expectMore, q.sleep())
		})
	}
}
