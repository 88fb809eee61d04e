package inflate

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/deflatetest"
)

// TestWindow checks that a window has the last bytes of what was added, as many as its size allowed at the time.
func TestWindow(t *testing.T) {
	random := rand.New(rand.NewPCG(1951, 1))
	for range 200 {
		w := NewWindow(1 + random.IntN(64))
		var want []byte
		for range 30 {
			w.Widen(random.IntN(200))
			b := deflatetest.Sample("random", 200)[random.IntN(100):][:random.IntN(100)]
			w.Add(b)
			want = append(want, b...)
			want = want[max(0, len(want)-w.size):]
			n := random.IntN(250)
			require.Equal(t, append([]byte("ahead"), want[max(0, len(want)-n):]...), w.AppendLast([]byte("ahead"), n))
			require.LessOrEqual(t, len(w.data), w.size)
			require.LessOrEqual(t, cap(w.data), cap(slices.Grow([]byte(nil), w.size)), "there is room that is never used")
		}
	}
}
