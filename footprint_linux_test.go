// footprint_linux_test.go measures from outside what quiet connections over sockets need.

package wsd_test

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Quiet connections over sockets have no goroutine of their own: there is one for all of them, and none without them.
func TestQuietConnectionsOverSocketsShareOneGoroutine(t *testing.T) {
	const conns = 50
	settles := func(most int, why string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > most; runtime.Gosched() {
			if time.Now().After(deadline) {
				require.LessOrEqual(t, runtime.NumGoroutine(), most, why)
			}
		}
	}
	before := runtime.NumGoroutine()
	var peers []net.Conn
	var served []*wsd.Conn
	for range conns {
		peer, transport := tcpPair(t)
		defer peer.Close()
		c := wsd.NewConn(transport, wsd.ServerRole, wsd.Config{PingInterval: -1})
		defer c.CloseNow()
		peers, served = append(peers, peer), append(served, c)
	}
	settles(before+1, "connections on which nothing has come")
	for i, peer := range peers {
		_, err := peer.Write(encodeFrame(text("one message"), true))
		require.NoError(t, err)
		require.Equal(t, "one message", string((<-served[i].Messages()).Data))
	}
	settles(before+1, "connections on which a message has come")
	for i, peer := range peers {
		_, err := peer.Write(encodeFrame(text("another"), true))
		require.NoError(t, err)
		require.Equal(t, "another", string((<-served[i].Messages()).Data))
		served[i].CloseNow()
	}
	settles(before, "no connection is left")
}
