//go:build linux && !386 && !s390x && !race && !msan && !asan

// calls_linux_test.go finds out by execution traces which calls are announced to the scheduler: each that is leaves its
// stack in the trace.

package netio_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"runtime/trace"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/netio"
)

// announced reports whether the scheduler is told of a call that do makes.
func announced(t *testing.T, do func()) bool {
	t.Helper()
	var events bytes.Buffer
	require.NoError(t, trace.Start(&events))
	do()
	trace.Stop()
	return bytes.Contains(events.Bytes(), []byte("internal/netio.readNow")) ||
		bytes.Contains(events.Bytes(), []byte("internal/netio.writeNow")) ||
		bytes.Contains(events.Bytes(), []byte("internal/netio.writeBoth"))
}

// on runs the test with so many processors.
func on(t *testing.T, processors int) {
	before := runtime.GOMAXPROCS(processors)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// reading returns a Transport and what makes it read a byte.
func reading(t *testing.T) (*netio.Transport, net.Conn, func()) {
	tr, near, far := link(t, "tcp")
	return tr, far, func() {
		send(t, far, near, []byte("x"))
		_, err := tr.Read(nil, false)
		require.NoError(t, err)
	}
}

// Another thread takes over the processor of a call that is announced, which costs more than a call that only copies.
func TestCallsThatOnlyCopyAreNotAnnounced(t *testing.T) {
	on(t, 2)
	_, _, readOther := reading(t)
	tr, near, far := link(t, "tcp")
	go func() { _, _ = io.Copy(io.Discard, far) }()
	write := func(head, body int) func() {
		return func() { require.NoError(t, tr.Write(make([]byte, head), make([]byte, body))) }
	}
	direct := make([]byte, netio.PieceSize)
	for name, test := range map[string]struct {
		do       func()
		announce bool
	}{
		"read": {func() {
			_, err := tr.Read(nil, true)
			require.NoError(t, err)
		}, false},
		"read into place": {func() {
			_, err := tr.Read(direct, true)
			require.NoError(t, err)
		}, false},
		"read of nothing": {func() { _, _ = tr.Read(nil, false) }, false},
		"small write":     {write(100, 0), false},
		"piece":           {write(10, netio.PieceSize), false},
		"masked piece":    {write(14+netio.PieceSize, 0), false},
		"megabyte":        {write(1<<20, 0), true},
		"two megabytes":   {write(1<<20, 1<<20), true},
	} {
		t.Run(name, func(t *testing.T) {
			// Not those of a lone connection.
			send(t, far, near, make([]byte, 10))
			_, err := tr.Read(direct[:1], false)
			require.NoError(t, err)
			readOther()
			_, err = tr.Read(direct[:1], false)
			require.NoError(t, err)
			if name == "read of nothing" {
				_, err = tr.Read(nil, false)
				require.NoError(t, err)
			}
			require.Equal(t, test.announce, announced(t, test.do))
			for err == nil {
				_, err = tr.Read(nil, false)
			}
		})
	}
}

// The only busy connection announces its small writes, so that another thread can run what they wake.
func TestALoneConnectionAnnouncesItsWrites(t *testing.T) {
	on(t, 2)
	one, _, readOne := reading(t)
	other, _, readOther := reading(t)
	announces := func(tr *netio.Transport) bool {
		return announced(t, func() {
			n, err := tr.TryWrite([]byte("x"), nil)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		})
	}
	require.False(t, announces(one), "as long as nothing is known")
	readOne()
	readOne()
	require.True(t, announces(one))
	readOther()
	require.False(t, announces(other), "the first one was there")
	readOther()
	require.True(t, announces(other))
	readOne()
	require.False(t, announces(one), "the other was there meanwhile")
	readOne()
	_, err := other.Read(nil, false)
	require.Equal(t, netio.ErrNothing, err)
	readOne()
	require.True(t, announces(one), "a read that finds nothing is no reading")

	on(t, 1)
	require.False(t, announces(one), "there is nothing for another thread to run on")
}
