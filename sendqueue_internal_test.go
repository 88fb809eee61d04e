// sendqueue_internal_test.go checks what only a queue without its connection can be brought to show.

package wsd

import (
	"context"
	"testing"

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
	add := func() uint64 {
		upTo, err := q.add(context.Background(), &outgoing{opcode: byte(OpText), payload: []byte("x"), size: 1, prompt: true})
		require.NoError(t, err)
		require.NotZero(t, upTo)
		return upTo
	}
	first, second := add(), add()
	var b batch
	require.True(t, q.take(&b, second))
	require.False(t, q.wrote(&b, b.len(), nil, second).more)
	q.addClose(nil)
	require.Equal(t, 1, *started)
	require.False(t, q.take(&b, first), "the close frame is the writer goroutine's")
	require.True(t, q.take(&b, everything))
	require.True(t, b.hasClose)
}

func TestLongQueueKeepsNoRoom(t *testing.T) {
	q, _ := newQueue(Config{SendQueue: -1}, false)
	payload := make([]byte, shareLeast)
	for range 10_000 {
		_, err := q.tryAdd(&outgoing{opcode: byte(OpBinary), payload: payload, share: true})
		require.NoError(t, err)
	}
	var b batch
	for more := q.take(&b, everything); more; more = q.wrote(&b, b.len(), nil, everything).more {
	}
	require.True(t, q.backlog.empty())
	require.LessOrEqual(t, cap(q.backlog.ahead.all), segmentsKept)
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
					more = q.wrote(&b, b.len(), nil, everything).more
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
