// wakeups_test.go checks that nobody sleeps on when what was waited for has come about in an unusual way.

package wsd_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// askedContext is asked for its Err.
type askedContext struct {
	context.Context
	asked func() error // called until it returns an error
	over  atomic.Bool
}

func (a *askedContext) Err() error {
	if a.over.Load() {
		return context.Canceled
	}
	err := a.asked()
	a.over.Store(err != nil)
	return err
}

// leaveWhenAdmitted has a Send of size bytes wait behind a Writer's message, and leave in the moment in which it is let in,
// after meanwhile.
func leaveWhenAdmitted(t *testing.T, c *wsd.Conn, size int, meanwhile func()) {
	w := c.Writer(t.Context(), wsd.BinaryMessage, nil)
	_, err := io.WriteString(w, "a message in pieces")
	require.NoError(t, err)
	ctx := &askedContext{Context: context.Background(), asked: func() error {
		if c.Stats().MessagesSent == 0 {
			return nil // the message in pieces is not complete
		}
		meanwhile()
		synctest.Wait()
		return context.Canceled
	}}
	sent := make(chan error, 1)
	go func() {
		sent <- c.Send(ctx, wsd.Message{Type: wsd.BinaryMessage, Data: noise(size), Compress: wsd.CompressNever})
	}()
	synctest.Wait()
	require.NoError(t, w.Close())
	require.ErrorIs(t, <-sent, context.Canceled)
}

// A sender that was let in and leaves has kept room from others until then.
func TestNotifyRoomBehindASenderThatLeaves(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{SendQueue: 32 << 10, PingInterval: -1})
		ends(t, c, p).Go(func() { _, _ = io.Copy(io.Discard, p.rwc) })
		told := make(chan struct{})
		leaveWhenAdmitted(t, c, 20<<10, func() { c.NotifyRoom(func() { close(told) }) })
		select {
		case <-told:
		case <-time.After(time.Minute):
			require.FailNow(t, "nobody was told that there is room")
		}
	})
}

// A TrySend that compresses waits for a sender that was let in before, and that one may leave.
func TestTrySendBehindASenderThatLeaves(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1, Compression: &wsd.Compression{}})
		background := ends(t, c, p)
		background.Go(func() { _, _ = io.Copy(io.Discard, p.rwc) })
		tried := make(chan error, 1)
		leaveWhenAdmitted(t, c, 1000, func() {
			background.Go(func() { tried <- c.TrySend(wsd.Binary(make([]byte, 1000))) })
		})
		select {
		case err := <-tried:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			require.FailNow(t, "TrySend waits on")
		}
	})
}
