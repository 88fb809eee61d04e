// wakeups_test.go checks that nobody sleeps on when what was waited for has come about in an unusual way.

package wsd_test

import (
	"bytes"
	"context"
	"errors"
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

// There is room as soon as the queue has been taken to be written, not only when that is done.
func TestNotifyRoomWhileWhatWasTakenIsWritten(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		const size = 1 << 20
		c, p := pair(t, wsd.Config{SendQueue: size, PingInterval: -1})
		ends(t, c, p)
		for m := wsd.Binary(noise(10 << 10)); c.TrySend(m) == nil; synctest.Wait() {
		}
		told := false
		c.NotifyRoom(func() { told = true })
		synctest.Wait()
		require.False(t, told)
		for c.Stats().QueuedBytes > size { // until the first write is done, and all the rest is with the second
			p.receive()
			synctest.Wait()
		}
		require.True(t, told)
		require.Greater(t, c.Stats().QueuedBytes, size/2)
	})
}

// The reader waits for pongs to be written once, not for each of a flood that the peer does not want answered.
func TestPingFloodIsReadWithoutWaiting(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1, WriteTimeout: -1})
		ends(t, c, p)
		flood := bytes.Repeat(p.encode(ping("answer me")), 100_000)
		start := time.Now()
		p.sendRaw(flood)
		p.send(text("read at last"))
		_, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.NotZero(t, c.Stats().PongsCoalesced)
		require.LessOrEqual(t, time.Since(start), 50*time.Millisecond)
	})
}

// While a message in pieces has the queue for itself there is no room for others, however empty it is.
func TestNotifyRoomBehindAMessageInPieces(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1})
		ends(t, c, p).Go(func() { _, _ = io.Copy(io.Discard, p.rwc) })
		w := c.Writer(t.Context(), wsd.BinaryMessage, nil)
		_, err := io.WriteString(w, "a message in pieces")
		require.NoError(t, err)
		sent := errors.New("not tried")
		c.NotifyRoom(func() { sent = c.TrySend(wsd.Text("x")) })
		time.Sleep(time.Minute)
		require.NoError(t, w.Close())
		synctest.Wait()
		require.NoError(t, sent)
	})
}

// An answer in pieces that has begun is waited for, within the half second that an answer may take on a busy machine.
func TestAnswerInPiecesLeavesAheadOfTheCloseFrame(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1})
		ends(t, c, p).Go(func() {
			<-c.Messages()
			w := c.Writer(context.Background(), wsd.TextMessage, nil)
			for range 10 {
				_, _ = io.WriteString(w, "piece ")
				time.Sleep(40 * time.Millisecond)
			}
			_ = w.Close()
		})
		p.send(text("a question"), closeFrame(1000))
		f, before, err := p.reads(0x88)
		require.NoError(t, err)
		require.Equal(t, byte(0x88), f.first)
		require.Equal(t, 10*len("piece "), before)
		require.EqualValues(t, 1, c.Stats().MessagesSent)
	})
}
