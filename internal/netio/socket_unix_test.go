//go:build unix

// socket_unix_test.go tests transports over sockets: what is read, written and borrowed when nothing may wait.

package netio_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/netio"
	"github.com/seed62836080/wsd/internal/wiretest"
)

const (
	burstSize = 64 << 10 // bytes that a Read returns at most
	patience  = 10 * time.Second
)

// link returns a Transport over a socket, and the socket's two ends, which the test closes at its end.
func link(t testing.TB, network string) (tr *netio.Transport, near, far net.Conn) {
	t.Helper()
	far, near = wiretest.Pair(t, network)
	return over(near), near, far
}

// send writes b to far and waits until all of it can be read from near.
func send(t testing.TB, far, near net.Conn, b []byte) {
	t.Helper()
	_, err := far.Write(b)
	require.NoError(t, err)
	raw, err := near.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	there := make([]byte, len(b))
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		n := 0
		require.NoError(t, raw.Control(func(fd uintptr) { n, _, _ = syscall.Recvfrom(int(fd), there, syscall.MSG_PEEK) }))
		if n == len(b) {
			return
		}
		require.True(t, time.Now().Before(deadline), "%d of %d bytes arrived", n, len(b))
	}
}

func TestReadWithoutWaiting(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			tr, near, far := link(t, network)
			require.True(t, tr.CanTry())
			require.NotNil(t, tr.Socket())
			place := make([]byte, 4)
			for _, direct := range [][]byte{nil, place} {
				_, err := tr.Read(direct, false)
				require.Equal(t, netio.ErrNothing, err)
			}
			send(t, far, near, []byte("some bytes"))
			b, err := tr.Read(place, false)
			require.NoError(t, err)
			require.Same(t, &place[0], &b[0])
			require.Equal(t, "some", string(place))
			b, err = tr.Read(nil, false)
			require.NoError(t, err)
			require.Equal(t, " bytes", string(b))
			_, err = tr.Read(nil, false)
			require.Equal(t, netio.ErrNothing, err)
			require.NoError(t, far.Close())
			_, err = tr.Read(nil, true)
			require.Equal(t, io.EOF, err)
		})
	}
}

func TestReadThatWaits(t *testing.T) {
	tr, _, far := link(t, "tcp")
	waits := func(end func()) (string, error) {
		var read []byte
		var err error
		var done sync.WaitGroup
		done.Go(func() {
			var b []byte
			b, err = tr.Read(nil, true)
			read = bytes.Clone(b)
		})
		awaitWaiting(t, 1)
		end()
		done.Wait()
		return string(read), err
	}
	got, err := waits(func() {
		_, err := far.Write([]byte("at last"))
		require.NoError(t, err)
	})
	require.NoError(t, err)
	require.Equal(t, "at last", got)

	_, err = waits(func() { tr.Rouse(true) })
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = tr.Read(nil, true)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	tr.Rouse(false)
	got, err = waits(func() {
		_, err := far.Write([]byte("again"))
		require.NoError(t, err)
	})
	require.NoError(t, err)
	require.Equal(t, "again", got)

	_, err = waits(tr.Abort)
	require.Error(t, err, "of its deadline, which ends waiting, or of its end")
	_, err = tr.Read(nil, true)
	require.ErrorIs(t, err, net.ErrClosed)
}

// awaitWaiting waits until n goroutines wait in a Read.
func awaitWaiting(t testing.TB, n int) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		waiting := 0
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "[IO wait") && strings.Contains(stack, "netio.(*Transport).Read") {
				waiting++
			}
		}
		if waiting == n {
			return
		}
		require.True(t, time.Now().Before(deadline), "%d wait, expected %d", waiting, n)
	}
}

// A connection on which nothing comes, perhaps for hours, must not keep the memory that it has read into.
func TestNothingIsBorrowedWhenThereIsNothing(t *testing.T) {
	const transports = 50
	read := func(t *testing.T, tr *netio.Transport, far, near net.Conn) {
		send(t, far, near, []byte("x"))
		_, err := tr.Read(nil, true)
		require.NoError(t, err)
	}
	for name, pause := range map[string]func(t *testing.T, tr *netio.Transport, waiting *sync.WaitGroup){
		"not waiting": func(t *testing.T, tr *netio.Transport, _ *sync.WaitGroup) {
			_, err := tr.Read(nil, false)
			require.Equal(t, netio.ErrNothing, err)
		},
		"waiting": func(_ *testing.T, tr *netio.Transport, waiting *sync.WaitGroup) {
			waiting.Go(func() { _, _ = tr.Read(nil, true) })
		},
		"released": func(_ *testing.T, tr *netio.Transport, _ *sync.WaitGroup) { tr.Release() },
	} {
		t.Run(name, func(t *testing.T) {
			var trs [transports]*netio.Transport
			var nears, fars [transports]net.Conn
			for i := range trs {
				trs[i], nears[i], fars[i] = link(t, "tcp")
			}
			before := heapInUse()
			for i, tr := range trs { // which all borrow at the same time
				read(t, tr, fars[i], nears[i])
			}
			require.Greater(t, heapInUse(), before+transports*burstSize/2, "what was read is still there")
			var waiting sync.WaitGroup
			for _, tr := range trs {
				pause(t, tr, &waiting)
			}
			if name == "waiting" {
				awaitWaiting(t, transports)
			}
			require.Less(t, heapInUse(), before+transports*burstSize/2)
			for _, tr := range trs {
				tr.Abort()
			}
			waiting.Wait()
		})
	}
}

// heapInUse returns the bytes of heap that are reachable. The second collection frees what pools hold.
func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// Where a long message begins, as little is read through the borrowed buffer as its place needs to be known: the rest
// would be copied from there.
func TestLittleIsReadOfALongMessage(t *testing.T) {
	tr, near, far := link(t, "unix")
	sent := make([]byte, 100<<10)
	send(t, far, near, sent)
	for _, step := range []struct {
		long  bool
		bytes int
	}{{true, 5 << 10}, {true, 5 << 10}, {false, burstSize}, {true, 5 << 10}} {
		tr.ExpectLong(step.long)
		b, err := tr.Read(nil, false)
		require.NoError(t, err)
		require.Len(t, b, step.bytes)
	}
	// Nothing is copied from where it is to be, so it can be read at once.
	b, err := tr.Read(make([]byte, len(sent)), false)
	require.NoError(t, err)
	require.Len(t, b, len(sent)-burstSize-15<<10)
}

// Writes that are to wait write all, and those that are not write what there is room for.
func TestWrites(t *testing.T) {
	pattern := make([]byte, 1<<20)
	for i := range pattern {
		pattern[i] = byte(i / 251)
	}
	for name, sizes := range map[string][2]int{
		"head":           {len(pattern), 0},
		"body":           {0, len(pattern)},
		"head and body":  {5, len(pattern) - 5},
		"long and short": {len(pattern) - 5, 5},
	} {
		t.Run(name, func(t *testing.T) {
			tr, near, far := link(t, "tcp")
			require.NoError(t, near.(*net.TCPConn).SetWriteBuffer(16<<10))
			require.NoError(t, far.(*net.TCPConn).SetReadBuffer(16<<10))
			begun := tr.Progress()
			n, err := tr.TryWrite(nil, nil)
			require.NoError(t, err)
			require.Zero(t, n)
			left := sizes
			wrote := 0
			for {
				head, body := pattern[sizes[0]-left[0]:sizes[0]], pattern[len(pattern)-left[1]:]
				n, err := tr.TryWrite(head, body)
				require.NoError(t, err)
				if n == 0 {
					break // no room
				}
				wrote += n
				ofHead := min(n, left[0])
				left[0] -= ofHead
				left[1] -= n - ofHead
			}
			require.Positive(t, wrote)
			require.Less(t, wrote, len(pattern))
			require.Equal(t, begun, tr.Progress(), "it is of Writes")
			written := make(chan error, 1)
			go func() { written <- tr.Write(pattern[sizes[0]-left[0]:sizes[0]], pattern[len(pattern)-left[1]:]) }()
			got := make([]byte, len(pattern))
			for at := range got { // so slowly that room is found again and again
				if _, err = io.ReadFull(far, got[at:at+1]); at%(64<<10) == 0 {
					require.NoError(t, err)
					runtime.Gosched()
				}
				if len(written) > 0 || tr.Progress() > begun {
					require.Empty(t, written, "it shows each piece that found room, not only the last")
					_, err = io.ReadFull(far, got[at+1:])
					break
				}
			}
			require.NoError(t, err)
			require.NoError(t, <-written)
			require.True(t, bytes.Equal(got, pattern))

			require.NoError(t, far.Close())
			for err == nil { // the first bytes may leave before it is known that nobody reads them
				err = tr.Write(pattern, nil)
			}
			_, err = tr.TryWrite(pattern[:1], nil)
			require.Error(t, err)
			tr.Close()
			require.ErrorIs(t, tr.Write(pattern[:1], nil), net.ErrClosed)
		})
	}
}

func TestWriteWithin(t *testing.T) {
	tr, near, far := link(t, "tcp")
	require.NoError(t, tr.WriteWithin([]byte("soon"), time.Nanosecond), "there is room")
	got := make([]byte, 4)
	_, err := io.ReadFull(far, got)
	require.NoError(t, err)
	require.Equal(t, "soon", string(got))
	require.NoError(t, near.(*net.TCPConn).SetWriteBuffer(16<<10))
	require.ErrorIs(t, tr.WriteWithin(make([]byte, 64<<20), time.Millisecond), os.ErrDeadlineExceeded)
}

// Closing a socket with bytes unread resets it, and what was written last may be lost.
func TestDiscard(t *testing.T) {
	tr, near, far := link(t, "tcp")
	send(t, far, near, make([]byte, 100<<10))
	require.NoError(t, tr.Write([]byte("last"), nil))
	tr.Discard()
	tr.Close()
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	require.Equal(t, "last", string(got))
}

func TestCloseWriteLeavesReading(t *testing.T) {
	tr, near, far := link(t, "tcp")
	require.True(t, tr.HalfCloses())
	require.True(t, tr.CloseWrite())
	_, err := far.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	send(t, far, near, []byte("still"))
	b, err := tr.Read(nil, true)
	require.NoError(t, err)
	require.Equal(t, "still", string(b))
	tr.Close()
	require.False(t, tr.CloseWrite())
}
