// writer_internal_test.go checks when the timer of a write runs.

package wsd

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/netio"
)

type nobody struct{ io.ReadWriteCloser }

// Whenever a write begins, it has all of its time, and no more; and no timer runs while nothing is written.
func TestAWriteHasItsTime(t *testing.T) {
	const within = time.Second
	for name, pauses := range map[string][]time.Duration{ // between writes that are over at once
		"the first":                             {},
		"soon behind the first":                 {within / 4},
		"just ahead of the timer":               {within - time.Nanosecond},
		"with the timer":                        {within},
		"behind many":                           {within / 2, within / 2, within / 2, within / 2, within / 2},
		"once the timer has found nothing":      {within + time.Nanosecond},
		"long after the timer":                  {time.Hour},
		"long after the timer, and soon behind": {time.Hour, within / 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cut := make(chan error, 1)
				var transport netio.Transport
				transport.Init(nobody{})
				w := newWriteWatch(&transport, within, func(cause error) { cut <- cause })
				for _, pause := range pauses {
					w.arm()
					w.disarm()
					time.Sleep(pause)
				}
				w.arm()
				time.Sleep(within - time.Nanosecond)
				synctest.Wait()
				require.Empty(t, cut)
				time.Sleep(time.Nanosecond)
				require.Equal(t, ErrWriteTimeout, <-cut)
				w.disarm()
				require.False(t, w.timer.Stop(), "nothing is written")
			})
		})
	}
}

// The timer keeps a connection's memory while it runs: it does not outlive the connection.
func TestTheTimerOfWritesEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		c := NewConn(here, ServerRole, Config{})
		go func() { _, _ = io.Copy(io.Discard, there) }()
		require.NoError(t, c.Send(t.Context(), Text("x")))
		synctest.Wait()
		require.NotNil(t, c.writeWatch)
		c.CloseNow()
		require.False(t, c.writeWatch.timer.Stop())
	})
}
