// grace_test.go checks how long a close frame waits for answers: hardly, if none come, and long enough if the
// machine is busy.

package wsd_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// silentGraceMost is how long a consumer that does not answer may hold up a close frame while no timer runs late.
const silentGraceMost = 25 * time.Millisecond

// docs/decisions.md, "Grace is counted in ticks".
func TestConsumerThatNeverAnswersHardlyDelaysTheEnd(t *testing.T) {
	for _, messages := range []int{1, 6, 11, 100} {
		t.Run(fmt.Sprint("Close after ", messages), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := wsdtest.Pipe()
				defer client.CloseNow()
				defer server.CloseNow()
				go func() {
					for range server.Messages() {
					}
				}()
				for range messages {
					require.NoError(t, client.Send(t.Context(), wsd.Text("no answer")))
				}
				start := time.Now()
				require.NoError(t, client.Close(wsd.StatusNormalClosure, ""))
				require.LessOrEqual(t, time.Since(start), silentGraceMost)
				<-server.Closed()
			})
		})
	}
	for name, last := range map[string]frame{"a close frame": closeFrame(1000), "a violation": {0x8F, nil}} {
		t.Run(name+" in one read with a message", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{})
				ends(t, c, p)
				go func() {
					for range c.Messages() {
					}
				}()
				start := time.Now()
				p.send(text("no answer"), last)
				require.Equal(t, byte(0x88), p.receive().first)
				require.LessOrEqual(t, time.Since(start), silentGraceMost)
				p.close()
				<-c.Closed()
			})
		})
		t.Run(name+" behind messages that wait", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{})
				ends(t, c, p)
				p.send(text("one"))
				p.send(text("two"))
				synctest.Wait() // and nobody receives them
				start := time.Now()
				p.send(last)
				require.Equal(t, byte(0x88), p.receive().first)
				require.LessOrEqual(t, time.Since(start), silentGraceMost)
				p.close()
				<-c.Closed()
			})
		})
	}
}

// A handler that works for a few milliseconds on the last message still answers ahead of the close frame.
func TestAnswerThatTakesMillisecondsLeavesAheadOfTheCloseFrame(t *testing.T) {
	for name, last := range map[string]frame{"a close frame": closeFrame(1000), "a violation": {0x8F, nil}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for work := range 6 {
					c, p := servedConn(t, wsd.Config{})
					ends(t, c, p)
					go func() {
						for m := range c.Messages() {
							time.Sleep(time.Duration(work) * time.Millisecond) // in the bubble
							_ = c.Send(context.Background(), m)
						}
					}()
					p.send(text("one"), text("two"), last)
					require.Equal(t, text("one"), p.receive(), "%d ms", work)
					require.Equal(t, text("two"), p.receive(), "%d ms", work)
					require.Equal(t, byte(0x88), p.receive().first)
					p.close()
					<-c.Closed()
				}
			})
		})
	}
}

// So does one that has to share its processors with others.
func TestAnswerOnABusyMachineLeavesAheadOfTheCloseFrame(t *testing.T) {
	var busy sync.WaitGroup
	var over atomic.Bool
	for range 2 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for !over.Load() { // without a pause: whoever wants to run waits for tens of milliseconds
			}
		})
	}
	defer busy.Wait()
	defer over.Store(true)
	for name, last := range map[string]frame{"a close frame": closeFrame(1000), "a violation": {0x8F, nil}} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				c, p := servedConn(t, wsd.Config{})
				ends(t, c, p)
				took := make(chan time.Duration, 1)
				go func() {
					for m := range c.Messages() {
						received := time.Now()
						for range 3 {
							runtime.Gosched()
						}
						took <- time.Since(received)
						_ = c.Send(context.Background(), m)
					}
				}()
				p.send(text("one"), last)
				f := p.receive()
				if f.first == 0x88 && <-took > 400*time.Millisecond {
					continue // so busy that half a second is over
				}
				require.Equal(t, text("one"), f)
				require.Equal(t, byte(0x88), p.receive().first)
				p.close()
				<-c.Closed()
			}
		})
	}
}
