//go:build linux

package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogramIsExactToHalfAPercent(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 5))
	h := newHistogram()
	var all []time.Duration
	for range 100_000 {
		d := time.Duration(random.ExpFloat64() * float64(50*time.Microsecond))
		h.add(d, 1)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.1, 0.5, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		require.InEpsilon(t, float64(want)+1, float64(h.quantile(q))+1, 0.005, "quantile %v", q)
	}
	other := newHistogram()
	other.add(time.Hour, 100_000)
	other.merge(h)
	require.Equal(t, uint64(200_000), other.n)
	require.InEpsilon(t, float64(time.Hour), float64(other.quantile(0.75)), 0.005)
	h.reset()
	require.Zero(t, h.quantile(0.5))
}

func TestBucketsAreContiguous(t *testing.T) {
	for i := range (64 - subBits) << subBits {
		require.Equal(t, i, bucket(floor(i)))
		if i > 0 {
			require.Equal(t, i-1, bucket(floor(i)-1))
		}
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 3, 2, 100}, 3.5},
	} {
		require.Equal(t, test.want, median(test.values), "%v", test.values)
	}
}
