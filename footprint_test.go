// footprint_test.go measures from outside what connections need: goroutines while they are quiet, and memory that goes
// round.

package wsd_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// With nothing to write for a while, a connection in memory has the one goroutine that waits for bytes.
func TestQuietConnectionInMemoryHasOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pairs = 50
		before := goroutines()
		var conns []*wsd.Conn
		for range pairs {
			client, server := wsdtest.Pipe()
			defer client.CloseNow()
			defer server.CloseNow()
			conns = append(conns, client, server)
			require.NoError(t, client.Send(t.Context(), wsd.Text("x")))
			<-server.Messages()
			require.NoError(t, server.Send(t.Context(), wsd.Text("x")))
			<-client.Messages()
		}
		synctest.Wait()
		// Goroutines of other tests may end meanwhile, or a few begin, such as a timer's.
		const others = pairs / 5
		require.LessOrEqual(t, goroutines()-before, 2*len(conns)+others, "at most two goroutines a connection")
		time.Sleep(2 * time.Minute) // keepalive pings go to and fro
		synctest.Wait()
		require.LessOrEqual(t, goroutines()-before, len(conns)+others, "one goroutine an idle connection")
		for _, c := range conns {
			require.Equal(t, wsd.StateOpen, c.State())
			require.NoError(t, c.Send(t.Context(), wsd.Text("and it goes on")))
			require.NoError(t, c.Flush(t.Context()))
		}
	})
}

// Memory that a program has released is what later messages of its size arrive in.
func TestReleasedMessagesAreReceivedInto(t *testing.T) {
	for _, size := range []int{8 << 10, 100 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			client, server := wsdtest.Pipe()
			defer client.CloseNow()
			defer server.CloseNow()
			again := false
			seen := make(map[*byte]bool)
			for i := 0; i < 100 && !again; i++ { // pools may forget
				want := bytes.Repeat([]byte{byte(i)}, size)
				sent := make(chan error, 1)
				go func() { sent <- client.Send(context.Background(), wsd.Binary(want)) }()
				m, err := server.Receive(t.Context())
				require.NoError(t, err)
				require.NoError(t, <-sent)
				require.True(t, bytes.Equal(want, m.Data))
				again = seen[unsafe.SliceData(m.Data)]
				seen[unsafe.SliceData(m.Data)] = true
				m.Release()
			}
			require.True(t, again)
		})
	}
}
