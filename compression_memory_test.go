//go:build !race

// compression_memory_test.go measures what connections keep, a figure that differs under the race detector.

package wsd_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// TestCompressionIdleMemory checks what 1,000 idle connections keep for compression, compared with the same connections
// without it: the window of what they received, what a dictionary takes of what they sent, and at most 2 KiB more.
func TestCompressionIdleMemory(t *testing.T) {
	const connections = 250
	message := wsd.Message{Type: wsd.BinaryMessage, Compress: wsd.CompressAlways}
	measure := func(compression *wsd.Compression, size int) int64 {
		message.Data = prose(1, size)
		payload := deflated(t, message.Data)
		conns, peers := make([]*wsd.Conn, connections), make([]*peer, connections)
		before := held()
		for n := range conns {
			// Without a keepalive: on a processor that has nothing to do a stopped timer keeps the connection it was for until
			// its time would have come.
			conns[n], peers[n] = servedConn(t, wsd.Config{Compression: compression, PingInterval: -1})
			for range 40_000 / size {
				if compression == nil {
					peers[n].send(binaryFrame(message.Data))
				} else {
					peers[n].send(frame{0xC2, payload})
				}
				got := <-conns[n].Messages()
				require.True(t, bytes.Equal(message.Data, got.Data))
				sent := make(chan error, 1)
				go func() { sent <- conns[n].Send(context.Background(), message) }()
				peers[n].receive()
				require.NoError(t, <-sent)
			}
		}
		each := (held() - before) / connections
		for n := range conns {
			peers[n].close()
			<-conns[n].Closed()
		}
		return each
	}
	measure(&noTakeover, 1000) // what the first connections allocate for all
	alone := measure(&noTakeover, 1000)
	without := measure(nil, 1000)
	t.Logf("no takeover: %d bytes a connection, %d without compression", alone, without)
	require.LessOrEqual(t, alone, without+1<<10)
	for _, test := range []struct {
		name        string
		compression wsd.Compression
		message     int   // bytes
		windows     int64 // bytes, both ways
	}{
		{"takeover, 15 bits", wsd.Compression{}, 1000, 36 << 10},
		{"takeover, 15 bits, one long message", wsd.Compression{}, 40_000, 44 << 10},
		{"takeover, 15 and 12 bits", wsd.Compression{ClientMaxWindowBits: 12}, 1000, 8 << 10},
		{"takeover, 9 and 15 bits", wsd.Compression{ServerMaxWindowBits: 9}, 1000, 32<<10 + 512},
		{"takeover of one side", wsd.Compression{ServerNoContextTakeover: true}, 1000, 32 << 10},
	} {
		each := measure(&test.compression, test.message) - alone
		t.Logf("%s: %d bytes a connection more", test.name, each)
		require.GreaterOrEqual(t, each, test.windows/8*7, "%s: measured nothing", test.name)
		require.LessOrEqual(t, each, test.windows+2<<10, test.name)
	}
}
