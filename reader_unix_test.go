//go:build unix

// reader_unix_test.go tests how much a reader reads at a time behind a long message.

package wsd

import (
	"bytes"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/netio"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// unread returns how many bytes can be read from a socket.
func unread(t *testing.T, socket net.Conn) (n int) {
	raw, err := socket.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	there := make([]byte, 1<<20)
	require.NoError(t, raw.Control(func(fd uintptr) { n, _, _ = syscall.Recvfrom(int(fd), there, syscall.MSG_PEEK) }))
	return max(n, 0)
}

// await fails the test if something does not come true within seconds.
func await(t *testing.T, what string, done func() bool) {
	for deadline := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "%s", what)
	}
}

// TestBeginningOfALongMessage holds that what a Transport reads where it expects a long message is enough to read the
// rest straight into place.
func TestBeginningOfALongMessage(t *testing.T) {
	far, near := wiretest.Pair(t, "tcp")
	var transport netio.Transport
	transport.Init(near)
	defer transport.Release()
	_, err := far.Write(wire(ServerRole, 0x82, string(make([]byte, longFrame))))
	require.NoError(t, err)
	parser := NewParser(ClientRole, Config{})
	got := 0
	for parser.direct() == nil {
		transport.ExpectLong(true)
		b, err := transport.Read(nil, true)
		require.NoError(t, err)
		got += len(b)
		require.Less(t, got, longFrame/4, "this is copied to its place")
		_, _, err = parser.Parse(b)
		require.NoError(t, err)
	}
}

// TestReadsBehindALongMessage holds that a client leaves in the socket what it would only have to copy, and that a server,
// which has to unmask it anyway, does not.
func TestReadsBehindALongMessage(t *testing.T) {
	for _, role := range []Role{ClientRole, ServerRole} {
		t.Run(role.String(), func(t *testing.T) {
			far, near := wiretest.Pair(t, "tcp")
			c := NewConn(near, role, Config{MessageBuffer: -1, PingInterval: -1})
			defer c.CloseNow()
			_, err := far.Write(wire(1-role, 0x82, string(make([]byte, longFrame))))
			require.NoError(t, err)
			await(t, "the reader waits with the long message", func() bool { return c.Stats().MessagesReceived == 1 })
			small := bytes.Repeat(wire(1-role, 0x82, "small"), 4000)
			_, err = far.Write(small)
			require.NoError(t, err)
			await(t, "all have arrived", func() bool { return unread(t, near) == len(small) })
			require.Len(t, (<-c.Messages()).Data, longFrame)
			await(t, "the reader waits with the first of the others", func() bool { return c.Stats().MessagesReceived == 2 })
			if read := len(small) - unread(t, near); role == ClientRole {
				require.Less(t, read, len(small)/2)
			} else {
				require.Equal(t, len(small), read)
			}
		})
	}
}
