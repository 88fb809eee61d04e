//go:build linux

package main

// This file counts: a latency histogram that is cheap to fill, and medians over rounds.

import (
	"math/bits"
	"slices"
	"time"
)

// subBits is the number of bits a histogram keeps below the leading one: 256 buckets for every doubling, so that a
// reading is off by 0.4 % at most, less than the 5 % that the goals decide upon.
const subBits = 8

// histogram counts durations in buckets whose width grows with the duration.
type histogram struct {
	counts []uint32
	n      uint64
}

func newHistogram() *histogram {
	return &histogram{counts: make([]uint32, (64-subBits)<<subBits)}
}

// bucket is the index that counts nanoseconds, and floor the smallest duration that index counts.
func bucket(nanoseconds uint64) int {
	if nanoseconds < 1<<subBits {
		return int(nanoseconds)
	}
	shift := bits.Len64(nanoseconds) - subBits - 1
	return (shift+1)<<subBits + int(nanoseconds>>shift) - 1<<subBits
}

func floor(index int) uint64 {
	if index < 1<<subBits {
		return uint64(index)
	}
	shift := index>>subBits - 1
	return (uint64(index&(1<<subBits-1)) + 1<<subBits) << shift
}

// add counts one duration, n times over.
func (h *histogram) add(d time.Duration, n int) {
	h.counts[bucket(uint64(max(d, 0)))] += uint32(n)
	h.n += uint64(n)
}

// merge adds what another histogram has counted.
func (h *histogram) merge(other *histogram) {
	for i, c := range other.counts {
		h.counts[i] += c
	}
	h.n += other.n
}

func (h *histogram) reset() {
	clear(h.counts)
	h.n = 0
}

// quantile is the duration that the fraction q of everything counted does not exceed, 0 where nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.n)), h.n-1)
	var seen uint64
	for i, c := range h.counts {
		seen += uint64(c)
		if seen > rank {
			return time.Duration(floor(i))
		}
	}
	return 0
}

// median is the middle value, the mean of the two middle ones where their number is even, and 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}
