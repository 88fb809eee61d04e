// Package backoff says how long to wait before the next try: exponential backoff with full jitter, and what a server asks
// for. It has two users, Redial and the pool, and is shorter than a dependency would be.
package backoff

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what a server can ask for.
const maxRetryAfter = 24 * time.Hour

// Delay returns how long to wait after so many failures in a row: a random time from above zero up to base doubled
// with every failure behind the first, and never above limit. Spread over the whole span, clients that failed together
// do not come back together.
func Delay(failures int, base, limit time.Duration) time.Duration {
	span := min(base, limit)
	if span <= 0 {
		return 0
	}
	for ; failures > 1 && span < limit; failures-- {
		// Halving the limit instead of doubling the span cannot overflow.
		if span > limit/2 {
			span = limit
			break
		}
		span *= 2
	}
	return rand.N(span) + 1
}

// RetryAfter returns how long the server asks to be left alone (RFC 9110, section 10.2.3), at most a day: 0 unless resp
// is a 429 or 503 that says so. A nil resp is no answer.
func RetryAfter(resp *http.Response) time.Duration {
	if resp == nil || resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	value := resp.Header.Get("Retry-After")
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), maxRetryAfter)
	}
	seconds, err := strconv.ParseUint(value, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // beyond its range ParseUint returns the greatest number
		return 0
	}
	return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
}
