// promises_close_test.go checks StartClose, and what a CloseEvent says about who closed and with what.

package wsd_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

func TestStartCloseDoesNotWait(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{SendQueue: -1, PingInterval: -1})
		ends(t, c, p)
		const size = 100 * 4096 // more than the transport takes
		queueMany(t, c, size)
		start := time.Now()
		c.StartClose(wsd.StatusGoingAway, "see you")
		require.Zero(t, time.Since(start))
		require.Equal(t, wsd.StateClosing, c.State())
		require.ErrorIs(t, c.Send(t.Context(), wsd.Text("too late")), wsd.ErrClosed)
		f, before, err := p.reads(0x88)
		require.NoError(t, err)
		require.Equal(t, size, before, "what was queued goes ahead")
		require.Equal(t, frame{0x88, closePayload(1001, "see you")}, f)
		p.send(closeFrame(1001))
		p.close()
		<-c.Closed()
		require.True(t, c.CloseEvent().Clean)
		require.NoError(t, c.Close(wsd.StatusNormalClosure, ""), "it reports the end that StartClose began")
	})
}

// StartClose ends the connection, with CloseTimeout, even if nobody waits for that.
func TestStartCloseEndsWithinCloseTimeout(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{PingInterval: -1})
		ends(t, c, p)
		start := time.Now()
		c.StartClose(wsd.StatusNormalClosure, "")
		<-c.Closed()
		require.Equal(t, closeTimeout, time.Since(start))
		require.ErrorIs(t, c.CloseEvent().Err, wsd.ErrCloseTimeout)
		require.True(t, c.CloseEvent().Local)
		require.Equal(t, wsd.StatusNormalClosure, c.CloseEvent().SentCode)
	})
}

// The first StartClose decides; a Close after it waits for the same end.
func TestStartCloseTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wsdtest.Pipe()
		client.StartClose(4001, "first")
		client.StartClose(4002, "second")
		require.NoError(t, client.Close(4003, "third"))
		<-server.Closed()
		require.Equal(t, wsd.StatusCode(4001), server.CloseEvent().Code)
		require.Equal(t, "first", server.CloseEvent().Reason)
		require.Equal(t, wsd.StatusCode(4001), client.CloseEvent().SentCode)
		client.StartClose(4004, "after the end")
	})
}

// StartClose closes whatever it is asked to say, as Close does.
func TestStartCloseWithArgumentsThatDoNotFit(t *testing.T) {
	for name, row := range map[string]struct {
		code   wsd.StatusCode
		reason string
		want   frame
	}{
		"a long reason":               {wsd.StatusGoingAway, strings.Repeat("€", 100), frame{0x88, closePayload(1001, strings.Repeat("€", 41))}},
		"a code that may not be sent": {wsd.StatusAbnormalClosure, "", closeFrame(1011)},
		"no code":                     {wsd.StatusNoStatus, "", frame{0x88, []byte{}}},
	} {
		t.Run(name, func(t *testing.T) {
			eachRole(t, func(t *testing.T, pair newPair) {
				c, p := pair(t, wsd.Config{})
				ends(t, c, p)
				c.StartClose(row.code, row.reason)
				f := p.receive()
				require.Equal(t, row.want.first, f.first)
				if row.code == wsd.StatusAbnormalClosure {
					f.payload = f.payload[:2] // the reason is not promised
				}
				require.Equal(t, row.want.payload, f.payload)
			})
		})
	}
}

func TestCloseEventSaysWhoClosedAndWithWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wsdtest.Pipe()
		require.NoError(t, client.Close(4001, "enough"))
		<-server.Closed()

		event := client.CloseEvent()
		require.True(t, event.Local)
		require.Equal(t, wsd.StatusCode(4001), event.SentCode)
		require.Equal(t, "enough", event.SentReason)
		require.Equal(t, wsd.StatusCode(4001), event.Code, "the answer repeats it")
		require.Empty(t, event.Reason)
		var cause *wsd.CloseError
		require.ErrorAs(t, event.Err, &cause)
		require.True(t, cause.Local)

		event = server.CloseEvent()
		require.False(t, event.Local)
		require.Equal(t, wsd.StatusCode(4001), event.Code)
		require.Equal(t, "enough", event.Reason)
		require.Equal(t, wsd.StatusCode(4001), event.SentCode, "the answer")
		require.Empty(t, event.SentReason)
		require.ErrorAs(t, event.Err, &cause)
		require.False(t, cause.Local)
	})
}

// A peer may answer with a code of its own.
func TestCloseEventOfAnAnswerThatDiffers(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{})
		ends(t, c, p)
		c.StartClose(4001, "enough")
		require.Equal(t, frame{0x88, closePayload(4001, "enough")}, p.receive())
		p.send(frame{0x88, closePayload(4002, "indeed")})
		p.close()
		<-c.Closed()
		event := c.CloseEvent()
		require.True(t, event.Local)
		require.True(t, event.Clean)
		require.Equal(t, wsd.StatusCode(4001), event.SentCode)
		require.Equal(t, "enough", event.SentReason)
		require.Equal(t, wsd.StatusCode(4002), event.Code)
		require.Equal(t, "indeed", event.Reason)
		require.Equal(t, &wsd.CloseError{Code: 4002, Reason: "indeed", Local: true}, event.Err)
	})
}

func TestCloseEventOfAViolation(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{})
		ends(t, c, p)
		p.send(frame{0x83, nil})
		f := p.receive()
		require.Equal(t, byte(0x88), f.first)
		p.close()
		<-c.Closed()
		event := c.CloseEvent()
		require.True(t, event.Local, "this side failed the connection")
		require.Equal(t, wsd.StatusProtocolError, event.SentCode)
		require.Equal(t, string(f.payload[2:]), event.SentReason)
		require.Equal(t, wsd.StatusProtocolError, event.Code)
	})
}

// What was cut or mended is reported as it was sent.
func TestCloseEventHasTheReasonAsItWasSent(t *testing.T) {
	eachRole(t, func(t *testing.T, pair newPair) {
		c, p := pair(t, wsd.Config{})
		ends(t, c, p)
		c.StartClose(wsd.StatusGoingAway, strings.Repeat("€", 100))
		f := p.receive()
		p.send(closeFrame(1001))
		p.close()
		<-c.Closed()
		require.Equal(t, string(f.payload[2:]), c.CloseEvent().SentReason)
		require.Equal(t, strings.Repeat("€", 41), c.CloseEvent().SentReason)
	})
}

// A message that could not be completed is this side's doing.
func TestCloseEventOfAMessageThatWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := servedConn(t, wsd.Config{})
		ends(t, c, p)
		ctx, cancel := context.WithCancel(t.Context())
		w := c.Writer(ctx, wsd.TextMessage)
		_, err := w.Write([]byte("begun"))
		require.NoError(t, err)
		cancel()
		_, _, err = p.reads(0x88)
		require.NoError(t, err)
		p.send(closeFrame(1011))
		<-c.Closed()
		require.True(t, c.CloseEvent().Local)
		require.Equal(t, wsd.StatusInternalError, c.CloseEvent().SentCode)
	})
}
