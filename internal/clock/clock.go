// Package clock tells times that are only compared with each other: smaller, and faster to read, than a time.Time.
package clock

import "time"

// Now returns the time since a fixed moment. In a testing/synctest bubble, whose clock is decades behind, it is negative.
func Now() time.Duration { return time.Since(start) }

var start = time.Now()

const (
	// onTime is how late a timer may run on a machine that is not busy.
	onTime = time.Millisecond
	// again is how many times as long as a timer was late what it was to find missing may still take.
	again = 16
)

// Due is when a timer is to run that ends something unless something else has happened. If it runs late, the process was
// stopped, or had no processor, and what has happened meanwhile may not have been looked at. It is not safe for concurrent
// use.
type Due struct {
	at   time.Duration
	late bool // the timer ran late, and waits once more
}

// In says that the timer runs in that long.
func (d *Due) In(after time.Duration) { *d = Due{at: Now() + after} }

// Left is called when the timer runs, to end what may last until a time. It returns how long the timer is to wait again, 0
// if it is not: what is left until then, or if that is nothing and the timer ran late, once, a while of at most most.
func (d *Due) Left(until, most time.Duration) time.Duration {
	now := Now()
	left := until - now
	if left > 0 {
		d.late = false
	} else if late := now - d.at; late > onTime && !d.late {
		d.late = true
		left = min(again*late, most)
	}
	d.at = now + max(left, 0)
	return max(left, 0)
}
