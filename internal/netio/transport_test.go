// transport_test.go tests transports through streams that are no sockets.

package netio_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/clock"
	"github.com/seed62836080/wsd/internal/netio"
)

// stream is a transport in memory. What it is read from and written to may be in any shape.
type stream struct {
	io.Reader
	io.Writer
	closes int
}

func (s *stream) Close() error {
	s.closes++
	return nil
}

// readFunc and writeFunc are a Read and a Write.
type (
	readFunc  func(p []byte) (int, error)
	writeFunc func(p []byte) (int, error)
)

func (f readFunc) Read(p []byte) (int, error)   { return f(p) }
func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

func over(rwc io.ReadWriteCloser) *netio.Transport {
	t := new(netio.Transport)
	t.Init(rwc)
	return t
}

func TestStreamsCannotBeTried(t *testing.T) {
	a, _ := net.Pipe()
	for _, rwc := range []io.ReadWriteCloser{&stream{}, a} {
		tr := over(rwc)
		require.False(t, tr.CanTry())
		require.Nil(t, tr.Socket())
		tr.Discard() // which would wait
	}
}

func TestReadFromAStream(t *testing.T) {
	sent := strings.Repeat("0123456789abcdef", 20<<10)
	tr := over(&stream{Reader: strings.NewReader(sent)})
	var got []byte
	largest := 0
	for {
		b, err := tr.Read(nil, true)
		if err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
		largest = max(largest, len(b))
		got = append(got, b...)
	}
	require.True(t, string(got) == sent)
	require.Equal(t, 64<<10, largest, "more is read at a time when there is more")

	tr = over(&stream{Reader: strings.NewReader("direct and not")})
	place := make([]byte, 6)
	b, err := tr.Read(place, true)
	require.NoError(t, err)
	require.Same(t, &place[0], &b[0])
	require.Equal(t, "direct", string(place))
	b, err = tr.Read(nil, false)
	require.NoError(t, err)
	require.Equal(t, " and not", string(b))
}

func TestReadsThatBreakTheContract(t *testing.T) {
	for name, test := range map[string]struct {
		read readFunc
		err  error
	}{
		"too many bytes":    {func(p []byte) (int, error) { return len(p) + 1, nil }, netio.ErrInvalidRead},
		"a negative number": {func([]byte) (int, error) { return -1, nil }, netio.ErrInvalidRead},
		"nothing, for ever": {func([]byte) (int, error) { return 0, nil }, io.ErrNoProgress},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := over(&stream{Reader: test.read}).Read(nil, true)
			require.Equal(t, test.err, err)
		})
	}
	// Bytes together with an error are allowed.
	tr := over(&stream{Reader: readFunc(func(p []byte) (int, error) { return copy(p, "last"), io.EOF })})
	b, err := tr.Read(nil, true)
	require.NoError(t, err)
	require.Equal(t, "last", string(b))
}

func TestWriteToAStreamInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		head, body := []byte("head"), bytes.Repeat([]byte("body"), netio.PieceSize/2)
		var got []byte
		var progress []time.Duration
		begun := clock.Now()
		var tr *netio.Transport
		tr = over(&stream{Writer: writeFunc(func(p []byte) (int, error) {
			require.LessOrEqual(t, len(p), netio.PieceSize)
			got = append(got, p...)
			progress = append(progress, tr.Progress()-begun)
			time.Sleep(time.Second)
			return len(p), nil
		})})
		require.NoError(t, tr.Write(head, body))
		require.True(t, string(got) == string(head)+string(body))
		require.Equal(t, []time.Duration{0, time.Second, 2 * time.Second}, progress)
		require.Equal(t, 3*time.Second, tr.Progress()-begun)

		begun = clock.Now()
		tr = over(&stream{Writer: writeFunc(func([]byte) (int, error) { return 0, nil })})
		require.Equal(t, io.ErrShortWrite, tr.Write(head, nil))
		tr = over(&stream{Writer: writeFunc(func([]byte) (int, error) {
			time.Sleep(time.Second)
			return 0, io.ErrClosedPipe
		})})
		require.Equal(t, io.ErrClosedPipe, tr.Write(nil, body))
		require.Equal(t, begun, tr.Progress(), "nothing was written")
	})
}

func TestCloseClosesOnce(t *testing.T) {
	s := &stream{}
	tr := over(s)
	require.False(t, tr.HalfCloses())
	require.False(t, tr.CloseWrite())
	tr.Close()
	tr.Abort()
	tr.Close()
	require.Equal(t, 1, s.closes)
}
