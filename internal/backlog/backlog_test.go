package backlog

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/bufpool"
	"github.com/seed62836080/wsd/internal/frame"
	"github.com/seed62836080/wsd/internal/mask"
	"github.com/seed62836080/wsd/internal/netio"
)

const (
	text   = 0x1
	binary = 0x2
)

func TestLongBacklogKeepsNoRoom(t *testing.T) {
	l := Backlog{Longest: 1 << 20}
	payload := make([]byte, 8<<10)
	for range 10_000 {
		l.AddMessage(binary, payload, nil)
	}
	var b Batch
	for !l.Empty() {
		l.Take(&b)
		b.Release()
	}
	require.LessOrEqual(t, cap(l.ahead.all), segmentsKept)
}

func TestWholeFramesAreTakenAtOnce(t *testing.T) {
	payload := make([]byte, 3*netio.PieceSize)
	for whole, batches := range map[bool]int{true: 1, false: 3} {
		l := Backlog{Longest: 1 << 30, Whole: whole}
		l.AddMessage(binary, payload, nil)
		var sizes []int
		for !l.Empty() {
			var b Batch
			l.Take(&b)
			sizes = append(sizes, len(b.Body))
			b.Release()
		}
		require.Len(t, sizes, batches)
		require.Equal(t, len(payload)/batches, sizes[0])
	}
}

// TestBytesComeOutInOrder adds in all ways there are, takes in between, and compares what comes out with what a simple queue of
// bytes has.
func TestBytesComeOutInOrder(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := Backlog{Longest: 1 << 10, Masked: seed%5 == 0}
		var shared []*Shared
		for range 1 + r.IntN(5) {
			shared = append(shared, NewShared(text, bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN([]int{10, 200, 1500}[r.IntN(3)]))))
		}
		var want, got []byte // payloads, each behind its first bytes of headers
		numbers := uint64(0)
		frames := func(opcode byte, payload []byte) {
			for first := true; first || len(payload) > 0; first = false {
				n := min(len(payload), l.Longest)
				if n == len(payload) {
					opcode |= frame.FIN
				}
				want = append(append(want, opcode, byte(n), byte(n>>8)), payload[:n]...)
				payload, opcode = payload[n:], frame.Continuation
			}
		}
		take := func() {
			var b Batch
			l.Take(&b)
			if n := r.IntN(b.Len() + 1); r.IntN(4) == 0 && n < b.Len() {
				got = append(got, append(bytes.Clone(b.Head), b.Body...)[:n]...)
				l.PutBack(&b, n)
				return
			}
			got = append(append(got, b.Head...), b.Body...)
			assert.LessOrEqual(t, b.Last, numbers)
			b.Release()
		}
		for range 60 {
			payload := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(3000))
			behind := r.IntN(2) == 0
			switch r.IntN(7) {
			case 0:
				l.AddCopy(binary, payload, behind)
				frames(binary, payload)
				numbers += uint64(max((len(payload)+l.Longest-1)/l.Longest, 1))
			case 1:
				l.AddMessage(binary, payload, nil)
				frames(binary, payload)
				numbers++
				if r.IntN(3) == 0 {
					before := l.DataSize()
					require.True(t, l.Withdraw(l.Added()))
					require.Equal(t, before-len(payload), l.DataSize())
					want = want[:len(want)-len(payload)-3*max((len(payload)+l.Longest-1)/l.Longest, 1)]
					numbers--
				}
			case 2:
				lent := bufpool.Get(frame.MaxHeader + 100)[:frame.MaxHeader+100]
				copy(lent[frame.MaxHeader:], bytes.Repeat([]byte{7}, 100))
				l.AddFinished(l.FrameInPlace(lent, frame.FIN|text, 100), lent)
				frames(text, bytes.Repeat([]byte{7}, 100))
				numbers++
			case 3:
				if !l.Empty() {
					take()
				}
			default:
				for range 1 + r.IntN([]int{5, 200}[r.IntN(4)/3]) {
					s := shared[r.IntN(len(shared))]
					if !l.Shares(len(s.Payload())) {
						continue
					}
					before := l.DataSize()
					l.AddShared(s, behind)
					require.Equal(t, before+len(s.Payload())+s.header, l.DataSize())
					require.False(t, l.Withdraw(l.Added()))
					frames(text, s.Payload())
					numbers++
				}
			}
			require.Equal(t, numbers, l.Added())
			_, waits := l.Oldest()
			require.Equal(t, !l.Empty(), waits)
		}
		for !l.Empty() {
			take()
		}
		require.Zero(t, l.DataSize(), "seed %d", seed)
		require.Equal(t, want, payloads(t, got, l.Masked), "seed %d", seed)
	}
}

// payloads parses frames, and returns them as TestBytesComeOutInOrder notes them.
func payloads(t *testing.T, wire []byte, mustMask bool) (noted []byte) {
	for len(wire) > 0 {
		first, masked, n, at := wire[0], wire[1]>>7 == 1, int(wire[1]&0x7f), 2
		if n == 126 {
			n, at = int(wire[2])<<8|int(wire[3]), 4
		}
		require.Less(t, n, 1<<16)
		require.Equal(t, mustMask, masked)
		var key uint32
		if masked {
			key = uint32(wire[at]) | uint32(wire[at+1])<<8 | uint32(wire[at+2])<<16 | uint32(wire[at+3])<<24
			at += 4
		}
		payload := bytes.Clone(wire[at : at+n])
		mask.XOR(payload, payload, key)
		noted = append(append(noted, first, byte(n), byte(n>>8)), payload...)
		wire = wire[at+n:]
	}
	return noted
}

func TestSharedFramesAreReferredTo(t *testing.T) {
	l := Backlog{Longest: 1 << 10}
	s := NewShared(text, make([]byte, 500))
	for range 3 * len(sharedFrames{}) / 2 {
		l.AddShared(s, false)
		if int(l.added) <= len(sharedFrames{}) {
			require.Nil(t, l.frames)
			require.EqualValues(t, l.added, l.sharing)
		}
	}
	require.Zero(t, l.sharing, "too many are copied, and those behind them")
	require.Nil(t, l.shared)
	l.Clear()
	l.AddShared(s, false)
	require.EqualValues(t, 1, l.sharing)
	refers := l.shared
	l.Clear()
	require.True(t, l.Empty())
	require.Nil(t, refers[0], "nothing is kept")
	require.Zero(t, l.DataSize())
}

func TestWhatIsNotLastIsNotWithdrawn(t *testing.T) {
	l := Backlog{Longest: 1 << 10}
	number := l.AddMessage(binary, []byte("a"), nil)
	l.AddShared(NewShared(text, nil), false)
	require.False(t, l.Withdraw(number))
	l.AddFrame(text, nil, false)
	require.False(t, l.Withdraw(number))
}

func TestOldestOfSharedFrames(t *testing.T) {
	l := Backlog{Longest: 1 << 10}
	s := NewShared(text, []byte("a"))
	l.AddShared(s, true)
	since, waits := l.Oldest()
	require.True(t, waits)
	require.Positive(t, since, "something is being written ahead of it")
	l.AddShared(s, true)
	later, _ := l.Oldest()
	require.Equal(t, since, later)
	var b Batch
	l.Take(&b)
	require.Equal(t, since, b.Since)
}
