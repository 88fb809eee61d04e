// promises_halfclose_test.go checks what a peer gets that ends its own direction after its last message, without a close
// frame: all answers.

package wsd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// endsItsDirection sends frames and then ends its own direction.
func (p *peer) endsItsDirection(frames ...frame) {
	p.t.Helper()
	p.send(frames...)
	require.NoError(p.t, p.rwc.(interface{ CloseWrite() error }).CloseWrite())
}

func TestPeerThatEndsItsDirectionGetsEveryAnswer(t *testing.T) {
	check := func(t *testing.T, c *wsd.Conn, p *peer, want []frame) {
		background := ends(t, c, p)
		background.Go(func() { echo(c) })
		background.Go(func() { p.endsItsDirection(want...) })
		for i := range want {
			var got []byte
			for len(got) < len(want[i].payload) { // large messages come in several frames
				f, err := p.tryReceive()
				require.NoError(t, err, "after %d answers and %d bytes", i, len(got))
				require.Less(t, f.first&0x0F, byte(0x03))
				got = append(got, f.payload...)
			}
			require.True(t, bytes.Equal(want[i].payload, got), "answer %d", i)
		}
		_, _ = io.Copy(io.Discard, p.rwc)
		p.close()
		<-c.Closed()
		require.ErrorIs(t, c.CloseEvent().Err, io.EOF)
		require.Equal(t, wsd.StatusAbnormalClosure, c.CloseEvent().Code)
		require.False(t, c.CloseEvent().Clean)
	}
	var short []frame
	for i := range 30 {
		short = append(short, text(fmt.Sprint(i)))
	}
	megabytes := slices.Repeat([]frame{binaryFrame(make([]byte, 1<<20))}, 4) // in frames as they are sent
	for name, want := range map[string][]frame{"30 messages": short, "4 MB": megabytes} {
		t.Run(name+" in memory", func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{})
				check(t, c, p, want)
			})
		})
		t.Run(name+" over TCP", func(t *testing.T) {
			for range 20 {
				client, server := tcpPair(t)
				check(t, wsd.NewConn(server, wsd.ServerRole, wsd.Config{}), &peer{t, client, true}, want)
			}
		})
	}
}

// What Send has accepted before the end of the peer's bytes is written behind it.
func TestWhatWasAcceptedIsWrittenAfterTheEndOfThePeersBytes(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		const messages = 100
		c, p := pair(t, wsd.Config{SendQueue: -1})
		ends(t, c, p)
		for range messages {
			require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, 4096))))
		}
		synctest.Wait() // the writer waits for the peer
		p.endsItsDirection()
		time.Sleep(time.Second) // in the bubble
		for i := range messages {
			f, err := p.tryReceive()
			require.NoError(t, err, "after %d messages", i)
			require.Len(t, f.payload, 4096)
		}
	})
}

// Each answer begins the wait for the next again, as long as CloseTimeout is not over.
func TestAnswersOneByOneAfterTheEndOfThePeersBytes(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		const messages = 100
		c, p := pair(t, wsd.Config{MessageBuffer: messages})
		background := ends(t, c, p)
		background.Go(func() {
			for m := range c.Messages() {
				time.Sleep(4 * time.Millisecond) // in the bubble
				_ = c.Send(context.Background(), m)
			}
		})
		var frames []frame
		for range messages {
			frames = append(frames, text("each takes a while"))
		}
		p.endsItsDirection(frames...)
		for i := range messages {
			f, err := p.tryReceive()
			require.NoError(t, err, "after %d answers", i)
			require.Equal(t, text("each takes a while"), f)
		}
	})
}

// The end is not put off for long: neither by a consumer that does not answer, nor by a peer that does not read.
func TestEndOfThePeersBytesEndsTheConnection(t *testing.T) {
	for name, row := range map[string]struct {
		consume func(c *wsd.Conn)
		within  time.Duration
	}{
		"a consumer that answers nothing": {swallow, silentGraceMost},
		"nobody receives":                 {func(*wsd.Conn) {}, silentGraceMost},
		"a peer that does not read": {func(c *wsd.Conn) {
			for m := range c.Messages() {
				_ = c.Send(context.Background(), wsd.Binary(bytes.Repeat(m.Data, 100<<10)))
			}
		}, 5*time.Second + silentGraceMost},
		"a consumer that never comes to an end": {func(c *wsd.Conn) {
			<-c.Messages()
			for c.Send(context.Background(), wsd.Text("more")) == nil {
				time.Sleep(time.Millisecond)
			}
		}, 5*time.Second + silentGraceMost},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{})
				background := ends(t, c, p)
				background.Go(func() { row.consume(c) })
				synctest.Wait()
				start := time.Now()
				p.endsItsDirection(text("one"), text("two"), text("three"))
				select {
				case <-c.Closed():
				case <-time.After(time.Minute):
				}
				require.LessOrEqual(t, time.Since(start), row.within)
				require.Equal(t, wsd.StateClosed, c.State())
				require.ErrorIs(t, c.CloseEvent().Err, io.EOF)
			})
		})
	}
}
