// pipe_test.go tests the connection in memory, and the byte stream that it runs on.

package wsdtest_test

import (
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

func TestPipeTakesAConfigForEachEndOrBoth(t *testing.T) {
	small, large := wsd.Config{MessageBuffer: 2}, wsd.Config{MessageBuffer: 30}
	for _, row := range []struct {
		configs        []wsd.Config
		client, server int
	}{
		{nil, 15, 15},
		{[]wsd.Config{small}, 2, 2},
		{[]wsd.Config{small, large}, 2, 30},
	} {
		client, server := wsdtest.Pipe(row.configs...)
		require.Equal(t, row.client, cap(client.Messages()))
		require.Equal(t, row.server, cap(server.Messages()))
		require.NoError(t, client.Send(t.Context(), wsd.Text("over")))
		m, err := server.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "over", string(m.Data))
		require.NoError(t, server.Close(wsd.StatusNormalClosure, ""))
		<-client.Closed()
	}
	require.Panics(t, func() { wsdtest.Pipe(small, small, small) })
}

func TestTransportIsAByteStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := wsdtest.Transport()
		_, err := a.Write([]byte("one "))
		require.NoError(t, err)
		_, err = a.Write([]byte("two"))
		require.NoError(t, err)
		require.NoError(t, a.CloseWrite())
		_, err = a.Write([]byte("late"))
		require.ErrorIs(t, err, net.ErrClosed)
		all, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "one two", string(all))
		_, err = b.Write([]byte("the other way"))
		require.NoError(t, err, "each direction ends on its own")
		got := make([]byte, 100)
		n, err := a.Read(got)
		require.NoError(t, err)
		require.Equal(t, "the other way", string(got[:n]))

		// Close ends calls that wait: a Read on this end, and a Write on the other.
		readEnded, writeEnded := make(chan error), make(chan error)
		go func() {
			_, err := a.Read(got)
			readEnded <- err
		}()
		go func() {
			_, err := b.Write(make([]byte, 1<<20))
			writeEnded <- err
		}()
		synctest.Wait()
		require.NoError(t, a.Close())
		require.ErrorIs(t, <-writeEnded, io.ErrClosedPipe)
		if err := <-readEnded; err != nil {
			require.ErrorIs(t, err, net.ErrClosed)
		}
	})
}

func TestTransportDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := wsdtest.Transport()
		defer a.Close()
		defer b.Close()
		start := time.Now()
		require.NoError(t, a.SetReadDeadline(start.Add(time.Second)))
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.NoError(t, a.SetWriteDeadline(start.Add(3*time.Second)))
		n, err := a.Write(make([]byte, 1<<20))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 64<<10, n)
		require.Equal(t, 3*time.Second, time.Since(start))

		require.NoError(t, a.SetDeadline(time.Now().Add(time.Second)))
		require.NoError(t, a.SetDeadline(time.Time{}), "the zero time takes it away")
		time.Sleep(2 * time.Second)
		_, err = b.Read(make([]byte, n))
		require.NoError(t, err)
		_, err = a.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, a.SetDeadline(time.Now()))
		_, err = a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}
