package wsd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// peer plays the other side of a connection frame by frame, with a codec of its own.
type peer struct {
	t   testing.TB
	rwc io.ReadWriteCloser
	// masks says whether the peer is a client.
	masks bool
}

// frame is what a peer sends or gets; payload is unmasked.
type frame struct {
	first   byte // FIN, RSV, opcode
	payload []byte
}

func text(s string) frame        { return frame{0x81, []byte(s)} }
func binaryFrame(b []byte) frame { return frame{0x82, b} }
func ping(s string) frame        { return frame{0x89, []byte(s)} }
func pong(s string) frame        { return frame{0x8A, []byte(s)} }
func closeFrame(code int) frame  { return frame{0x88, closePayload(code, "")} }
func closePayload(code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// servedConn returns a server's connection and the client that it serves, in memory.
func servedConn(t testing.TB, cfg wsd.Config) (*wsd.Conn, *peer) {
	a, b := wsdtest.Transport()
	return wsd.NewConn(b, wsd.ServerRole, cfg), &peer{t, a, true}
}

// clientConn returns a client's connection and the server that it is connected to, in memory.
func clientConn(t testing.TB, cfg wsd.Config) (*wsd.Conn, *peer) {
	a, b := wsdtest.Transport()
	return wsd.NewConn(a, wsd.ClientRole, cfg), &peer{t, b, false}
}

// encode returns the bytes of frames.
func (p *peer) encode(frames ...frame) (out []byte) {
	for _, f := range frames {
		out = append(out, encodeFrame(f, p.masks)...)
	}
	return out
}

func encodeFrame(f frame, masked bool) []byte {
	out := []byte{f.first}
	var bit byte
	if masked {
		bit = 0x80
	}
	switch n := len(f.payload); {
	case n < 126:
		out = append(out, bit|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, bit|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, bit|127), uint64(n))
	}
	if !masked {
		return append(out, f.payload...)
	}
	key := [4]byte{0xA1, 0x02, 0x73, 0x44}
	out = append(out, key[:]...)
	for i, b := range f.payload {
		out = append(out, b^key[i&3])
	}
	return out
}

// send writes frames in one write.
func (p *peer) send(frames ...frame) { p.sendRaw(p.encode(frames...)) }

func (p *peer) sendRaw(b []byte) {
	p.t.Helper()
	_, err := p.rwc.Write(b)
	require.NoError(p.t, err)
}

// receive reads one frame.
func (p *peer) receive() frame {
	p.t.Helper()
	f, err := p.tryReceive()
	require.NoError(p.t, err)
	return f
}

func (p *peer) tryReceive() (frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(p.rwc, head[:]); err != nil {
		return frame{}, err
	}
	if masked := head[1]&0x80 != 0; masked == p.masks {
		return frame{}, errors.New("peer: frame masked the wrong way")
	}
	length := uint64(head[1] & 0x7F)
	switch length {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(p.rwc, b[:]); err != nil {
			return frame{}, err
		}
		length = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(p.rwc, b[:]); err != nil {
			return frame{}, err
		}
		length = binary.BigEndian.Uint64(b[:])
	}
	var key [4]byte
	if !p.masks {
		if _, err := io.ReadFull(p.rwc, key[:]); err != nil {
			return frame{}, err
		}
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(p.rwc, payload); err != nil {
		return frame{}, err
	}
	for i := range payload {
		payload[i] ^= key[i&3]
	}
	return frame{head[0], payload}, nil
}

// expectClose reads one frame, a close frame with code, and then the end of the bytes.
func (p *peer) expectClose(code int) {
	p.t.Helper()
	f := p.receive()
	require.Equal(p.t, byte(0x88), f.first, "expected a close frame, got %#x %q", f.first, f.payload)
	require.GreaterOrEqual(p.t, len(f.payload), 2)
	require.Equal(p.t, code, int(binary.BigEndian.Uint16(f.payload)), "reason %q", f.payload[2:])
	p.expectEOF()
}

// expectEOF reads the end of the bytes.
func (p *peer) expectEOF() {
	p.t.Helper()
	rest, err := io.ReadAll(p.rwc)
	require.NoError(p.t, err)
	require.Empty(p.t, rest)
}

func (p *peer) close() { _ = p.rwc.Close() }

// tcpPair returns the two ends of a loopback TCP connection.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	accepted, err := listener.Accept()
	require.NoError(t, err)
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

func echo(c *wsd.Conn) {
	for m := range c.Messages() {
		if c.Send(context.Background(), m) != nil {
			return
		}
	}
}
