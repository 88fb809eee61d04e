// payload_test.go tests that released memory is reused, and no other memory.

package wsd

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// nobodyReleases makes payloads be allocated as before the first Release, which another test may have called.
func nobodyReleases(t *testing.T) {
	was := releasing.Swap(false)
	t.Cleanup(func() { releasing.Store(was) })
}

func TestReleasedMemoryGoesRound(t *testing.T) {
	nobodyReleases(t)
	require.Equal(t, 100000, cap(newPayload(100000)), "nobody releases, so nothing is rounded up")
	Message{Data: make([]byte, maxShared)}.Release()
	Message{}.Release()
	require.False(t, releasing.Load(), "small messages are not worth it")

	Message{Data: make([]byte, maxShared+1)}.Release()
	require.True(t, releasing.Load(), "of a size that would go round")

	for _, size := range []int{maxShared + 1, 1 << 10, 1<<10 + 1, 8<<10 + 1, 16 << 10, 16<<10 + 1, 100000, 1 << 20, 64 << 20} {
		first := newPayload(size)
		Message{Data: first[:size]}.Release()
		releasing.Store(true)
		found := false
		for range 100 { // a sync.Pool may forget, most of all under the race detector
			data := newPayload(size)[:size]
			require.GreaterOrEqual(t, cap(data), size)
			require.LessOrEqual(t, cap(data), 2*size)
			address := unsafe.SliceData(data)
			Message{Data: data}.Release()
			again := newPayload(size)
			if found = unsafe.SliceData(again) == address; found {
				break
			}
		}
		require.True(t, found, "%d bytes", size)
	}
	require.Equal(t, 64<<20+1, cap(newPayload(64<<20+1)))
}

// Of what is released in part, only that part is reused.
func TestReleaseOfAPartKeepsWithinIt(t *testing.T) {
	defer releasing.Store(false)
	whole := make([]byte, 64<<10)
	Message{Data: whole[len(whole)-20000:]}.Release()
	for range 100 {
		data := newPayload(16 << 10)
		require.Equal(t, 16<<10, cap(data))
		if unsafe.SliceData(data) == &whole[len(whole)-20000] {
			return
		}
		Message{Data: whole[len(whole)-20000:]}.Release()
	}
}
