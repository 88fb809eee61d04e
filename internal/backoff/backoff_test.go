package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/backoff"
)

// Delays stay under their bound and reach into both halves of it. What RetryAfter does is tested with Redial.
func TestDelay(t *testing.T) {
	for _, test := range []struct {
		failures    int
		base, limit time.Duration
		bound       time.Duration
	}{
		{0, time.Second, time.Minute, time.Second},
		{1, time.Second, time.Minute, time.Second},
		{2, time.Second, time.Minute, 2 * time.Second},
		{6, time.Second, time.Minute, 32 * time.Second},
		{7, time.Second, time.Minute, time.Minute},
		{math.MaxInt, time.Second, time.Minute, time.Minute},
		{math.MaxInt, 1, math.MaxInt64, math.MaxInt64},
		{5, time.Minute, time.Second, time.Second},
		{1, 1, 1, 1},
	} {
		low, high := false, false
		for range 100 {
			d := backoff.Delay(test.failures, test.base, test.limit)
			require.Positive(t, d)
			require.LessOrEqual(t, d, test.bound)
			low = low || d <= test.bound/2
			high = high || d > test.bound/2
		}
		// 100 draws miss a half once in 2^100 times.
		require.True(t, high, "%+v", test)
		require.True(t, low || test.bound == 1, "%+v", test)
	}
	for failures := range 3 {
		require.Zero(t, backoff.Delay(failures, 0, time.Second))
		require.Zero(t, backoff.Delay(failures, time.Second, 0))
	}
}
