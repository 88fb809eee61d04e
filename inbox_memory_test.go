// inbox_memory_test.go weighs connections whose messages wait for an Inbox.

package wsd_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Ten thousand connections of an Inbox that nobody receives from stay under 64 MiB above the messages that wait, however much
// their peers send: what they keep of their last reads is bounded for all together, and little for each beyond that.
func TestStalledConnectionsOfAnInboxKeepNoBuffers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes thousands of connections")
	}
	const conns, size, share = 1500, 1000, 2
	const most = 16<<20 + conns*4<<10 // of 10,000, it is 55 MiB
	inbox := wsd.NewInbox(1)
	servers, peers := make([]*wsd.Conn, conns), make([]net.Conn, conns)
	flood := make([]byte, 0, 100_000)
	for len(flood) < 100_000-2*size {
		flood = append(flood, encodeFrame(binaryFrame(make([]byte, size)), true)...)
	}
	for i := range conns {
		client, server := tcpPair(t)
		require.NoError(t, server.SetReadBuffer(16<<10))
		servers[i] = wsd.NewConn(server, wsd.ServerRole, wsd.Config{Inbox: inbox, MessageBuffer: share})
		peers[i] = client
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Minute)))
	}
	before := held()
	for _, client := range peers {
		go func() { _, _ = client.Write(flood) }()
	}
	for _, c := range servers {
		for c.Stats().MessagesReceived < share {
			<-time.After(time.Millisecond)
		}
	}
	var all int64
	// What a reader lets go of when it stalls is gone a moment later.
	require.Eventually(t, func() bool {
		received := uint64(0)
		for _, c := range servers {
			received += c.Stats().MessagesReceived
		}
		all = held() - before - size*int64(received)
		return all <= most
	}, 20*time.Second, 100*time.Millisecond)
	t.Logf("%d KiB, at most %d", all>>10, most>>10)
	for i, c := range servers {
		c.CloseNow()
		require.NoError(t, peers[i].Close())
	}
	for ended := 0; ended < conns; {
		if (<-inbox.C()).Ended {
			ended++
		}
	}
}
