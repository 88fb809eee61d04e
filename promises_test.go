// promises_test.go holds what the tests of promises_*_test.go have in common.

package wsd_test

import (
	"io"
	"testing"
	"time"

	"github.com/seed62836080/wsd"
)

// ends ends a connection and its peer when the test ends, so that a test that fails leaves no goroutine in its bubble.
func ends(t testing.TB, c *wsd.Conn, p *peer) {
	t.Cleanup(func() {
		p.close()
		c.CloseNow()
	})
}

// throttled reads no more than rate bytes a second, of the bubble's time.
type throttled struct {
	io.ReadWriteCloser
	rate int
}

func (th throttled) Read(p []byte) (int, error) {
	n, err := th.ReadWriteCloser.Read(p)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(th.rate))
	return n, err
}

// reads reads frames until one with the given first byte has come, and returns it with how many bytes of messages came
// before it.
func (p *peer) reads(until byte) (f frame, before int, err error) {
	for {
		if f, err = p.tryReceive(); err != nil || f.first == until {
			return f, before, err
		}
		if f.first&0x0F <= 0x02 {
			before += len(f.payload)
		}
	}
}
