// Package wiretest is what tests at every level need to play a peer: frames made by other code than that which is tested,
// and both ends of sockets.
package wiretest

import (
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// key masks all frames, so that a test can repeat what it sent.
var key = [4]byte{0xA1, 0x02, 0x73, 0x44}

// Frame returns a frame (RFC 6455, section 5.2) whose first byte, with FIN, RSV and the opcode, may break every rule. masked
// says that a client sends it.
func Frame(first byte, payload []byte, masked bool) []byte {
	out := []byte{first}
	var bit byte
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		out = append(out, bit|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, bit|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, bit|127), uint64(n))
	}
	if !masked {
		return append(out, payload...)
	}
	out = append(out, key[:]...)
	for i, b := range payload {
		out = append(out, b^key[i&3])
	}
	return out
}

// Header returns the beginning of a frame that declares n bytes, in the longest way.
func Header(first byte, n uint64, masked bool) []byte {
	if !masked {
		return binary.BigEndian.AppendUint64([]byte{first, 127}, n)
	}
	return append(binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, n), key[:]...)
}

// Listen returns a listener on loopback, which the test closes at its end if nobody has before.
func Listen(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	listener, err := net.Listen(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// Pair returns the two ends of a connection over loopback, which the test closes at its end.
func Pair(t testing.TB, network string) (dialed, accepted net.Conn) {
	t.Helper()
	listener := Listen(t, network)
	defer func() { _ = listener.Close() }()
	dialed, err := net.Dial(network, listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = dialed.Close() })
	accepted, err = listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = accepted.Close() })
	return dialed, accepted
}
