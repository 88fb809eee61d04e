//go:build unix

package wsd

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTransportKnowsWhetherItIsAlone checks that a connection tells whether another has read since it did last.
func TestTransportKnowsWhetherItIsAlone(t *testing.T) {
	read := func() (*transport, func()) {
		far, near := pairOf(t)
		tr := new(transport)
		tr.init(near)
		return tr, func() {
			_, err := far.Write([]byte("x"))
			require.NoError(t, err)
			b, err := tr.read(nil, true)
			require.NoError(t, err)
			require.Equal(t, "x", string(b))
		}
	}
	// A connection of an earlier test may be ending, and read in between.
	requireAlone := func(tr *transport, read func()) {
		for range 100 {
			if read(); !tr.raw.crowded.Load() {
				return
			}
		}
		require.Fail(t, "reads alone and does not know it")
	}
	one, readOne := read()
	other, readOther := read()
	readOne()
	requireAlone(one, readOne)
	readOther()
	require.True(t, other.raw.crowded.Load(), "the first one was there")
	requireAlone(other, readOther)
	readOne()
	require.True(t, one.raw.crowded.Load(), "the other was there meanwhile")
	readOther()
	require.True(t, other.raw.crowded.Load())

	readOne()
	requireAlone(one, func() { // a read that finds nothing is no reading
		_, err := other.read(nil, false)
		require.Equal(t, errNothingThere, err)
		readOne()
	})
}

// pairOf returns the two ends of a TCP connection, which the test closes at its end.
func pairOf(t *testing.T) (far, near net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	far, err = net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { far.Close() })
	near, err = listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { near.Close() })
	return far, near
}

// TestBriefReadsLeaveTheRestToBeReadStraight holds that a brief read takes little into the buffer, and yet as much of a long
// message as it takes to read the rest straight into place.
func TestBriefReadsLeaveTheRestToBeReadStraight(t *testing.T) {
	require.Equal(t, readBurst, longFrame)
	far, near := pairOf(t)
	tr := &transport{brief: true}
	tr.init(near)
	defer tr.release()
	_, err := far.Write(wire(ServerRole, 0x82, string(make([]byte, longFrame))))
	require.NoError(t, err)
	parser := NewParser(ClientRole, Config{})
	for got := 0; got < readBrief; { // which the network may bring in pieces
		b, err := tr.read(nil, true)
		require.NoError(t, err)
		require.LessOrEqual(t, len(b), readBrief)
		got += len(b)
		_, _, err = parser.Parse(b)
		require.NoError(t, err)
	}
	require.NotNil(t, parser.direct())
}

// TestReadsBehindALongMessage holds that a client's are brief and a server's, which has to unmask, are not.
func TestReadsBehindALongMessage(t *testing.T) {
	for _, role := range []Role{ClientRole, ServerRole} {
		t.Run(role.String(), func(t *testing.T) {
			far, near := pairOf(t)
			c := NewConn(near, role, Config{})
			_, err := far.Write(wire(1-role, 0x82, string(make([]byte, longFrame))))
			require.NoError(t, err)
			require.Len(t, (<-c.Messages()).Data, longFrame)
			far.Close()
			<-c.Closed()
			require.Equal(t, role == ClientRole, c.transport.brief, "the last read")
		})
	}
}
