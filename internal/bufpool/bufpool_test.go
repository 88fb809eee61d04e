// bufpool_test.go tests that memory is reused, and never more of it than there is.
package bufpool

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// attempts is how often a test tries: a sync.Pool may forget what it holds, most of all under the race detector.
const attempts = 100

// program sets whether the program gives memory back, whatever other tests have done.
func program(t *testing.T, givesBack bool) {
	was := SetReclaiming(givesBack)
	t.Cleanup(func() { SetReclaiming(was) })
}

// reused reports whether what put puts back is what get gets next.
func reused(put, get func() []byte) bool {
	for range attempts {
		if address := unsafe.SliceData(put()); unsafe.SliceData(get()) == address {
			return true
		}
	}
	return false
}

func TestLoansGoRound(t *testing.T) {
	program(t, false)
	for _, size := range []int{0, 1, 512, 513, 1 << 10, 1<<10 + 1, 64 << 10, 100_000, 256 << 10} {
		get := func() []byte { return Get(size) }
		require.True(t, reused(func() []byte {
			b := Get(size)
			require.Empty(t, b)
			require.GreaterOrEqual(t, cap(b), size)
			require.LessOrEqual(t, cap(b), max(2*size, 512))
			Put(b)
			return b
		}, get), "%d bytes", size)
	}
	Put(nil)
}

func TestLargeLoansGoRoundIfTheProgramGivesMemoryBack(t *testing.T) {
	const size = 300_000
	put := func() []byte {
		b := Get(size)
		Put(b)
		return b
	}
	get := func() []byte { return Get(size) }
	program(t, false)
	require.Equal(t, size, cap(Get(size)), "nothing that large goes round, so nothing is rounded up")
	require.False(t, reused(put, get))
	program(t, true)
	require.True(t, reused(put, get))
}

func TestGivenMemoryGoesRoundOnceSomeIsTakenBack(t *testing.T) {
	program(t, false)
	require.Equal(t, 100_000, cap(Give(100_000)), "nobody gives it back, so nothing is rounded up")
	TakeBack(make([]byte, 512))
	TakeBack(nil)
	require.False(t, reclaiming.Load(), "small messages are not worth it")
	TakeBack(make([]byte, 513))
	require.True(t, reclaiming.Load(), "of a size that would go round")
	require.Equal(t, 100, cap(Give(100)))
	require.Equal(t, 512, cap(Give(512)))

	for _, size := range []int{513, 1 << 10, 1<<10 + 1, 8<<10 + 1, 16 << 10, 16<<10 + 1, 100_000, 1 << 20, 64 << 20} {
		require.True(t, reused(func() []byte {
			b := Give(size)[:size]
			require.LessOrEqual(t, cap(b), 2*size)
			TakeBack(b)
			return b
		}, func() []byte { return Give(size) }), "%d bytes", size)
	}
	require.Equal(t, 64<<20+1, cap(Give(64<<20+1)))
}

// Memory with an odd size serves as the next smaller one: as a larger one, it would end in memory of others.
func TestPutRoundsDown(t *testing.T) {
	program(t, true)
	whole := make([]byte, 64<<10)
	odd := whole[:20_000:20_000]
	put := func() []byte {
		Put(odd)
		return odd
	}
	require.False(t, reused(put, func() []byte { return Get(20_001) }), "more memory than was put back")
	require.True(t, reused(put, func() []byte {
		b := Get(16 << 10)
		require.Equal(t, 16<<10, cap(b))
		return b
	}))
	huge := make([]byte, 130<<20)
	require.True(t, reused(func() []byte {
		Put(huge)
		return huge
	}, func() []byte { return Get(64 << 20) }), "what is larger than all sizes serves as the largest")
}

// Of what is taken back in part, only that part is reused.
func TestTakeBackOfAPartKeepsWithinIt(t *testing.T) {
	program(t, true)
	whole := make([]byte, 64<<10)
	part := whole[len(whole)-20_000:]
	require.True(t, reused(func() []byte {
		TakeBack(part)
		return part
	}, func() []byte {
		b := Give(16 << 10)
		require.Equal(t, 16<<10, cap(b))
		return b
	}))
}

func TestGrow(t *testing.T) {
	program(t, false)
	b := append(Get(1), "head"...)
	require.Equal(t, unsafe.SliceData(b), unsafe.SliceData(Grow(b, cap(b)-len(b))), "there is room")
	require.Equal(t, "head", string(Grow(b, cap(b))))
	require.Empty(t, Grow(nil, 0))
	require.GreaterOrEqual(t, cap(Grow(nil, 1000)), 1000)

	full := bytes.Repeat([]byte("x"), 1<<20)
	require.GreaterOrEqual(t, cap(Grow(full, 1)), 2<<20, "copying costs more than linear time")

	require.True(t, reused(func() []byte {
		b := Get(1 << 10)
		b = b[:cap(b)]
		require.Len(t, Grow(b, 1), len(b))
		return b
	}, func() []byte { return Get(1 << 10) }), "outgrown memory is not put back")
}
