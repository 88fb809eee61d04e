//go:build unix

// partial_unix_test.go has senders that write themselves with too little room in the socket, and an end with bytes left
// in it.

package wsd_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// fillSocket writes until there is no room for a byte, and returns how many found room.
func fillSocket(t *testing.T, socket *net.TCPConn) (filled int) {
	raw, err := socket.SyscallConn()
	require.NoError(t, err)
	for size := 1 << 10; size > 0; {
		require.NoError(t, raw.Write(func(fd uintptr) bool {
			n, err := syscall.Write(int(fd), make([]byte, size))
			if err != nil {
				n, size = 0, size/2
			}
			filled += n
			return true
		}))
	}
	return filled
}

// Flush must not count as written what a sender has begun to write and left to the writer.
func TestFlushBesideAMessageThatItsSenderBegan(t *testing.T) {
	for name, row := range map[string]struct {
		size int  // of the message, in bytes
		full bool // there is no room for its header either
		room int  // the size of the other side's read buffer, in bytes: well below that of the message
	}{
		"large":                       {127 << 10, false, 32 << 10},
		"large, with no room at all":  {127 << 10, true, 32 << 10},
		"queued, with no room at all": {31 << 10, true, 4 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			far, near := tcpPair(t)
			defer far.Close()
			require.NoError(t, far.SetReadBuffer(row.room))
			require.NoError(t, near.SetWriteBuffer(4<<10))
			c := wsd.NewConn(near, wsd.ServerRole, wsd.Config{PingInterval: -1})
			defer c.CloseNow()
			p := &peer{t, far, true}
			p.send(text("question")) // whose answer is written by its sender
			<-c.Messages()
			ahead := 0
			if row.full {
				ahead = fillSocket(t, near)
			}
			sent := make(chan error, 1)
			go func() { sent <- c.Send(context.Background(), wsd.Binary(make([]byte, row.size))) }()
			requireUnwritten := func() {
				soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				require.ErrorIs(t, c.Flush(soon), context.DeadlineExceeded)
			}
			for c.Stats().Writes == 0 { // the sender's
				runtime.Gosched()
			}
			requireUnwritten()
			want := encodeFrame(binaryFrame(make([]byte, row.size)), false)
			got := make([]byte, ahead+len(want))
			_, err := io.ReadFull(far, got[:ahead+1])
			require.NoError(t, err)
			if row.size > 32<<10 {
				requireUnwritten() // there was room for the header now
			}
			_, err = io.ReadFull(far, got[ahead+1:])
			require.NoError(t, err)
			require.Equal(t, want, got[ahead:])
			require.NoError(t, <-sent)
			require.NoError(t, c.Flush(t.Context()))
		})
	}
}

// RFC 6455, section 7.1.1: bytes after a close frame are discarded, and the connection ends in order.
func TestBytesBehindACloseFrameDoNotReset(t *testing.T) {
	client, server := tcpPair(t)
	c := wsd.NewConn(server, wsd.ServerRole, wsd.Config{})
	p := &peer{t, client, true}
	p.send(text("last"), closeFrame(1000))
	message := <-c.Messages()
	_, open := <-c.Messages()
	require.False(t, open, "nothing more is read, and the answer is waited for")
	p.send(ping("too late"))
	require.NoError(t, c.Send(t.Context(), message))
	require.Equal(t, text("last"), p.receive())
	p.expectClose(1000)
	p.close()
	<-c.Closed()
}
