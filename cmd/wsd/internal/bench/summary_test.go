// summary_test.go checks what a run says of its own limits.

package bench

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A run says that bench was what limited the rate when it kept nearly all processors busy, and only then.
func TestLimit(t *testing.T) {
	all := time.Duration(runtime.GOMAXPROCS(0)) * 10 * time.Second
	for _, c := range []struct {
		cpu  time.Duration
		busy float64
		rate float64
		ramp time.Duration
		sent uint64
		want string
	}{
		{all * 95 / 100, 0, 0, 0, 1000, "wsd bench itself was the limit, not the server: it kept 95 % of the processors busy"},
		{all * 95 / 100, 0.99, 1000, 0, 5000, "wsd bench itself was the limit, not the server: it kept 95 % of the processors busy"},
		{all * 60 / 100, 0.98, 0, 0, 1000, "wsd bench itself was the limit, not the server: it kept 60 % of the processors busy, all else 38 %"},
		{all * 40 / 100, 0.98, 0, 0, 1000, "this machine was the limit: all else kept 58 % of its processors busy, wsd bench 40 %"},
		{all * 60 / 100, 0.9, 0, 0, 1000, ""},
		{all / 2, 0, 0, 0, 1000, ""},
		{all / 2, 0.5, 1000, 0, 10_000, ""},
		{all / 2, 0.5, 1000, 0, 5000, "behind the timetable: 500/s were sent of 1,000/s"},
		{all / 2, 0.5, 1000, 4 * time.Second, 8000, ""},
		{all / 2, 0.5, 1000, 4 * time.Second, 4000, "behind the timetable: 500/s were sent of 1,000/s"},
	} {
		s := &summary{options: &options{rate: c.rate, ramp: c.ramp}, totals: totals{sent: c.sent}, Took: 10 * time.Second, CPU: c.cpu, Busy: c.busy}
		assert.Equal(t, c.want, s.limit())
	}
}
