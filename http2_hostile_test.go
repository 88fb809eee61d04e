// http2_hostile_test.go plays clients that use HTTP/2 against a server: what they cause is bounded, and ends.

package wsd_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/http2test"
)

// TestStreamsThatAreResetAtOnceLeaveNothing is what CVE-2023-44487 describes. net/http bounds how many handlers run; each
// that has taken a WebSocket over has to see the reset, and to end.
func TestStreamsThatAreResetAtOnceLeaveNothing(t *testing.T) {
	const streams = 500
	ws := &wsd.Server{Handler: echoAll}
	client, _ := serveHTTP2(t, ws, wsd.ConfigureHTTP2)
	kept, _ := connectHTTP2(t, client)
	for range 3 {
		requireHTTP2Echo(t, kept, "before") // from the second on, the writers stay
	}
	before := runtime.NumGoroutine()
	for range streams {
		stream, err := client.Open(http2test.WebSocket("example.com", "/"), false)
		require.NoError(t, err)
		require.NoError(t, stream.Reset(0x8))
	}
	requireHTTP2Echo(t, kept, "unharmed")
	other, _ := connectHTTP2(t, client) // behind all of them
	requireHTTP2Echo(t, other, "served")
	require.NoError(t, other.Close(wsd.StatusNormalClosure, ""))
	for deadline := time.Now().Add(time.Minute); ws.Stats().Connections > 1 || runtime.NumGoroutine() > before; {
		require.True(t, time.Now().Before(deadline), "%d connections, %d goroutines more", ws.Stats().Connections, runtime.NumGoroutine()-before)
		time.Sleep(time.Millisecond)
	}
	require.False(t, client.GoneAway())
}

// TestAClientThatPermitsNothingIsGivenUp has a window of 0 for ever: the stream ends with WriteTimeout, and no other does.
func TestAClientThatPermitsNothingIsGivenUp(t *testing.T) {
	accepted := make(chan *wsd.Conn, 2)
	ws := &wsd.Server{
		Handler:       func(conn *wsd.Conn) { accepted <- conn; echoAll(conn) },
		AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{WriteTimeout: 50 * time.Millisecond, CloseTimeout: 50 * time.Millisecond}},
	}
	client, _ := serveHTTP2(t, ws, wsd.ConfigureHTTP2)
	kept, _ := connectHTTP2(t, client)
	<-accepted
	const settings, initialWindow = 0x4, 0x4
	none := binary.BigEndian.AppendUint32([]byte{0, initialWindow}, 0)
	require.NoError(t, client.Frame(settings, 0, 0, none))
	stream, err := client.Open(http2test.WebSocket("example.com", "/"), false)
	require.NoError(t, err)
	require.Equal(t, 200, stream.Status())
	conn := <-accepted
	require.NoError(t, conn.Send(t.Context(), wsd.Text("what cannot be sent")))
	<-conn.Closed()
	require.ErrorIs(t, conn.CloseEvent().Err, wsd.ErrWriteTimeout)
	clean, _ := stream.End()
	require.False(t, clean, "RST_STREAM")
	require.Equal(t, wsd.StateOpen, kept.State())
	require.False(t, client.GoneAway())
}

// TestDataBehindTheEndOfAStream is a violation that net/http finds, and tells the client of.
func TestDataBehindTheEndOfAStream(t *testing.T) {
	accepted := make(chan *wsd.Conn, 1)
	client, _ := serveHTTP2(t, &wsd.Server{Handler: func(conn *wsd.Conn) { accepted <- conn; echoAll(conn) }}, wsd.ConfigureHTTP2)
	stream, err := client.Open(http2test.WebSocket("example.com", "/"), false)
	require.NoError(t, err)
	require.Equal(t, 200, stream.Status())
	conn := <-accepted
	require.NoError(t, stream.CloseWrite())
	_, err = stream.Write([]byte{0x81, 0x80, 0, 0, 0, 0})
	require.True(t, err == nil || errors.Is(err, http2test.ErrReset))
	<-conn.Closed()
	require.Equal(t, wsd.StatusAbnormalClosure, conn.CloseEvent().Code)
	require.Zero(t, conn.Stats().MessagesReceived)
}
