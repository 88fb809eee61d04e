// promises_violation_test.go checks that a peer reads the close frame that says what it did wrong, over any transport.

package wsd_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// wrapped is a connection as listeners that limit or count wrap it: it has the methods of a net.Conn and no more.
type wrapped struct{ net.Conn }

func TestViolationIsSeenOverAWrappedConnection(t *testing.T) {
	for range 50 {
		client, server := tcpPair(t)
		// An answer that the peer has not read fills its buffer, so the close frame waits in this side's. A reset would
		// discard both.
		const answer = 512 << 10
		require.NoError(t, client.SetReadBuffer(64<<10))
		require.NoError(t, server.SetWriteBuffer(2*answer))
		c := wsd.NewConn(wrapped{server}, wsd.ServerRole, wsd.Config{})
		p := &peer{t, client, true}
		background := ends(t, c, p)
		require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, answer))))
		// The peer goes on for as long as it can, and then reads what it was told.
		p.send(frame{0x83, nil})
		sent := make(chan struct{})
		background.Go(func() {
			defer close(sent)
			more := make([]byte, 64<<10)
			for range 64 {
				if _, err := client.Write(more); err != nil {
					return
				}
			}
		})
		<-sent
		f, before, err := p.reads(0x88)
		require.NoError(t, err, "the close frame is lost")
		require.Equal(t, answer, before)
		require.Equal(t, uint16(1002), binary.BigEndian.Uint16(f.payload))
		p.close()
		<-c.Closed()
	}
}

// Likewise for a peer that goes on after its close frame, which it may not (RFC 6455, section 5.5.1).
func TestAnswerToACloseFrameIsSeenByAPeerThatStillSends(t *testing.T) {
	for name, wrap := range map[string]func(*net.TCPConn) io.ReadWriteCloser{
		"socket":  func(socket *net.TCPConn) io.ReadWriteCloser { return socket },
		"wrapped": func(socket *net.TCPConn) io.ReadWriteCloser { return wrapped{socket} },
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				client, server := tcpPair(t)
				const answer = 512 << 10
				require.NoError(t, client.SetReadBuffer(64<<10))
				require.NoError(t, server.SetWriteBuffer(2*answer))
				c := wsd.NewConn(wrap(server), wsd.ServerRole, wsd.Config{})
				p := &peer{t, client, true}
				background := ends(t, c, p)
				require.NoError(t, c.Send(t.Context(), wsd.Binary(make([]byte, answer))))
				sent := make(chan struct{})
				background.Go(func() {
					defer close(sent)
					_, _ = client.Write(append(p.encode(closeFrame(1000)), make([]byte, 256<<10)...))
				})
				<-sent
				f, before, err := p.reads(0x88)
				require.NoError(t, err, "the answer is lost")
				require.Equal(t, answer, before)
				require.Equal(t, closeFrame(1000), f)
				p.close()
				<-c.Closed()
			}
		})
	}
}
