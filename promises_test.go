// promises_test.go holds what the tests of promises_*_test.go have in common.

package wsd_test

import (
	"crypto/rand"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// ends ends a connection and its peer when the test ends, and then waits for the goroutines that are started with what it
// returns, so that a test that fails leaves none in its bubble.
func ends(t testing.TB, c *wsd.Conn, p *peer) *sync.WaitGroup {
	background := new(sync.WaitGroup)
	t.Cleanup(func() {
		p.close()
		c.CloseNow()
		background.Wait()
	})
	return background
}

type newPair func(testing.TB, wsd.Config) (*wsd.Conn, *peer)

// eachRole runs a test in a bubble for a server's connection and in one for a client's.
func eachRole(t *testing.T, test func(t *testing.T, pair newPair)) {
	for _, pair := range []newPair{servedConn, clientConn} {
		synctest.Test(t, func(t *testing.T) { test(t, pair) })
	}
}

// swallow is a consumer that answers nothing.
func swallow(c *wsd.Conn) {
	for range c.Messages() {
	}
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

// sendsEvery sends a frame now and then until the connection ends.
func (p *peer) sendsEvery(pause time.Duration, f frame) {
	for {
		if _, err := p.rwc.Write(p.encode(f)); err != nil {
			return
		}
		if f.first == 0x01 {
			f.first = 0x00 // further fragments
		}
		time.Sleep(pause)
	}
}

// queueMany queues so many bytes of messages.
func queueMany(t *testing.T, c *wsd.Conn, bytes int) {
	for range bytes / 4096 {
		require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
	}
	synctest.Wait() // the writer waits for the peer
}

// noise returns bytes that do not compress.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b)
	return b
}

func prepared(m wsd.Message) *wsd.Prepared {
	p, err := wsd.Prepare(m)
	if err != nil {
		panic(err)
	}
	return p
}

// pipeOf returns the two ends of a connection in memory, that of the given role first.
func pipeOf(role wsd.Role, cfg wsd.Config) (near, far *wsd.Conn) {
	client, server := wsdtest.Pipe(cfg, cfg)
	if role == wsd.ClientRole {
		return client, server
	}
	return server, client
}
