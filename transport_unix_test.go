//go:build unix

package wsd

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTransportKnowsWhetherItIsAlone checks that a connection tells whether another has read since it did last.
func TestTransportKnowsWhetherItIsAlone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	read := func() (*transport, func()) {
		far, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { far.Close() })
		near, err := listener.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { near.Close() })
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
