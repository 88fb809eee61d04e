package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDue(t *testing.T) {
	const most = time.Second
	for name, test := range map[string]struct {
		late time.Duration   // that the timer is
		left time.Duration   // that there is when the timer was to run
		want []time.Duration // of calls in a row, each as late
	}{
		"on time, and over":     {0, 0, []time.Duration{0}},
		"on time, and not over": {0, 5, []time.Duration{5}},
		"hardly late":           {onTime, 0, []time.Duration{0}},
		"late":                  {2 * onTime, 0, []time.Duration{32 * onTime, 0}},
		"very late":             {time.Hour, 0, []time.Duration{most, 0}},
		"late, and not over":    {time.Minute, 2 * time.Minute, []time.Duration{time.Minute, most, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d Due
				d.In(time.Hour)
				wait, until := time.Hour, Now()+time.Hour+test.left
				for i, want := range test.want {
					time.Sleep(wait + test.late)
					wait = d.Left(until, most)
					require.Equal(t, want, wait, "call %d", i)
				}
			})
		})
	}
}

// A timer may run late once for each time that something has happened.
func TestDueLooksAgainAfterProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d Due
		d.In(time.Second)
		for range 3 {
			time.Sleep(time.Minute)
			require.Equal(t, time.Second, d.Left(Now(), time.Second))
			require.Equal(t, time.Second, d.Left(Now()+time.Second, time.Second))
		}
	})
}
