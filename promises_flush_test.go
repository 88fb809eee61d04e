// promises_flush_test.go checks what Flush waits for beside a message that is sent in pieces.

package wsd_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

func TestFlushWaitsForTheFragmentsQueuedSoFar(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{SendQueue: -1, PingInterval: -1})
		background := ends(t, c, p)
		const pieces, size = 10, 20 << 10 // more than the transport takes
		w := c.Writer(t.Context(), wsd.BinaryMessage)
		for range pieces {
			_, err := w.Write(make([]byte, size))
			require.NoError(t, err)
		}
		synctest.Wait() // the writer waits for the peer
		flushed := make(chan error, 1)
		background.Go(func() { flushed <- c.Flush(t.Context()) })
		synctest.Wait()
		require.Empty(t, flushed, "fragments wait to be written")
		for range pieces - 4 {
			require.Len(t, p.receive().payload, size)
		}
		synctest.Wait()
		// What follows does not count.
		_, err := w.Write(make([]byte, 10*size))
		require.NoError(t, err)
		for range 4 {
			require.Len(t, p.receive().payload, size)
		}
		require.NoError(t, <-flushed)
		background.Go(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
		received := 0
		for f := p.receive(); f.first != 0x80; f = p.receive() {
			received += len(f.payload)
		}
		require.Equal(t, 10*size, received, "the message was complete")
		require.NoError(t, c.Flush(t.Context()))
	})
}

// A Flush in the middle of a message, whose writer has nothing to do, does not wait for its end.
func TestFlushDoesNotWaitForTheRestOfAMessage(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1})
		ends(t, c, p)
		w := c.Writer(t.Context(), wsd.TextMessage)
		_, err := w.Write([]byte("begun"))
		require.NoError(t, err)
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, frame{0x01, []byte("begun")}, p.receive())
		require.NoError(t, w.Close())
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, frame{0x80, []byte{}}, p.receive())
	})
}
