// ends_js_test.go checks how connections end: with which codes, by whom, and what both sides know of it.

package jsclient

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"syscall/js"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/pool"
)

func TestCodesThatABrowserSends(t *testing.T) {
	for _, code := range []wsd.StatusCode{wsd.StatusNormalClosure, wsd.StatusUnauthorized, 3999, 4000, 4999} {
		path, ended := record(t, "/echo?")
		conn := dial(t, path, nil)
		reason := strings.Repeat("é", 100) // cut to what fits
		require.NoError(t, conn.Close(code, reason))
		event := conn.CloseEvent()
		require.True(t, event.Clean && event.Local, "%+v", event)
		require.Equal(t, code, event.SentCode)
		require.Equal(t, code, event.Code)
		end := ended()
		require.Equal(t, recorded{code, reason[:122], true}, end)
	}
	path, ended := record(t, "/echo?")
	conn := dial(t, path, nil)
	require.NoError(t, conn.Close(wsd.StatusNoStatus, ""))
	require.Equal(t, wsd.StatusNoStatus, conn.CloseEvent().SentCode)
	require.Equal(t, recorded{Code: wsd.StatusNoStatus, Clean: true}, ended())
}

func TestCodesThatABrowserDoesNotSend(t *testing.T) {
	for _, code := range []wsd.StatusCode{wsd.StatusGoingAway, wsd.StatusProtocolError, wsd.StatusInternalError, 1014, 2999, 5000} {
		path, ended := record(t, "/echo?")
		conn := dial(t, path, nil)
		var invalid *wsd.CloseArgumentError
		require.ErrorAs(t, conn.Close(code, "reason"), &invalid)
		require.Equal(t, code, invalid.Code)
		if code < 1015 {
			require.ErrorContains(t, invalid, "a browser sends 1000 and 3000 to 4999 only")
		}
		require.EqualValues(t, 4011, conn.CloseEvent().SentCode)
		require.Equal(t, recorded{Code: 4011, Clean: true}, ended())
	}
}

func TestCodesThatAreMapped(t *testing.T) {
	path, ended := record(t, "/send?size=2000&n=1&")
	conn := dial(t, path, &wsd.DialOptions{Config: wsd.Config{MaxMessageSize: 1000}})
	<-conn.Closed()
	event := conn.CloseEvent()
	require.Equal(t, wsd.StatusMessageTooBig, event.Code)
	require.EqualValues(t, 4009, event.SentCode)
	var violation *wsd.ProtocolError
	require.ErrorAs(t, event.Err, &violation)
	require.EqualValues(t, 4009, ended().Code)

	path, ended = record(t, "/echo?")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for conn, err := range wsd.Redial(ctx, server(path), nil) {
		require.NoError(t, err)
		cancel() // which is 1001 elsewhere
		<-conn.Closed()
		require.Equal(t, wsd.StatusNormalClosure, conn.CloseEvent().SentCode)
	}
	require.Equal(t, wsd.StatusNormalClosure, ended().Code)

	path, ended = record(t, "/echo?")
	conn = dial(t, path, nil)
	conn.ExpireAt(time.Now())
	<-conn.Closed()
	require.Equal(t, wsd.StatusUnauthorized, ended().Code)

	path, ended = record(t, "/send?size=20000&n=1&")
	conn = dial(t, path, &wsd.DialOptions{Config: wsd.Config{StreamAbove: 1000, BodyTimeout: time.Millisecond}})
	<-conn.Closed()
	require.ErrorIs(t, conn.CloseEvent().Err, wsd.ErrBodyTimeout)
	require.EqualValues(t, 4013, ended().Code)
}

func TestCodesOfTheServer(t *testing.T) {
	for _, code := range []wsd.StatusCode{1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999, wsd.StatusNoStatus} {
		reason := "because"
		if code == wsd.StatusNoStatus {
			reason = ""
		}
		path, ended := record(t, fmt.Sprintf("/close?code=%d&reason=%s&", code, reason))
		conn := dial(t, path, nil)
		send(t, conn, wsd.Text("now"))
		<-conn.Closed()
		event := conn.CloseEvent()
		require.True(t, event.Clean && !event.Local, "%+v", event)
		require.Equal(t, code, event.Code)
		require.Equal(t, reason, event.Reason)
		var closed *wsd.CloseError
		require.ErrorAs(t, event.Err, &closed)
		require.ErrorIs(t, conn.Send(t.Context(), wsd.Text("late")), wsd.ErrClosed)
		require.True(t, ended().Clean)
	}
}

func TestConnectionCut(t *testing.T) {
	conn := dial(t, "/cut", nil)
	send(t, conn, wsd.Text("now"))
	<-conn.Closed()
	event := conn.CloseEvent()
	require.False(t, event.Clean || event.Local, "%+v", event)
	require.Equal(t, wsd.StatusAbnormalClosure, event.Code)
	require.ErrorContains(t, event.Err, "without a close frame: ")
	require.False(t, wsd.Permanent(event.Err))
	require.ErrorIs(t, <-conn.Errors(), event.Err)
}

// TestErrorWithoutClose holds that an error is an end even if no close event follows, as in some versions of node.
func TestErrorWithoutClose(t *testing.T) {
	for _, said := range []string{"", "the cable is cut"} {
		socket := fakeSocket(t)
		conn := dial(t, "/echo", nil)
		socket().Call("onmessage", map[string]any{"data": "before"})
		socket().Call("onerror", map[string]any{"message": said})
		socket().Call("onmessage", map[string]any{"data": "behind"})
		for _, text := range []string{"before", "behind"} {
			require.Equal(t, text, string(receive(t, conn).Data))
		}
		<-conn.Closed()
		event := conn.CloseEvent()
		require.False(t, event.Clean || event.Local, "%+v", event)
		require.Equal(t, wsd.StatusAbnormalClosure, event.Code)
		require.ErrorContains(t, event.Err, cmp.Or(said, "the browser tells no more"))
	}
}

// TestErrorThatACloseFollows holds that of an error and a close event the second says how the connection has ended.
func TestErrorThatACloseFollows(t *testing.T) {
	socket := fakeSocket(t)
	conn := dial(t, "/echo", nil)
	socket().Call("onerror", map[string]any{"message": "on the way"})
	socket().Call("onclose", map[string]any{"code": 4321, "reason": "because", "wasClean": true})
	<-conn.Closed()
	event := conn.CloseEvent()
	require.EqualValues(t, 4321, event.Code, "%+v", event)
	require.Equal(t, "because", event.Reason)
}

// fakeSocket has the next connection be one over no network, whose events the test fires. It opens by itself.
func fakeSocket(t *testing.T) func() js.Value {
	t.Helper()
	class := js.Global().Call("eval", `(class {
		readyState = 0
		bufferedAmount = 0
		protocol = ""
		extensions = ""
		constructor() {
			globalThis.fakeSocket = this
			setTimeout(() => {
				this.readyState = 1
				this.onopen({})
			})
		}
		send() {}
		close() { this.readyState = 3 }
	})`)
	plain := js.Global().Get("WebSocket")
	js.Global().Set("WebSocket", class)
	t.Cleanup(func() {
		js.Global().Set("WebSocket", plain)
		js.Global().Delete("fakeSocket")
	})
	return func() js.Value { return js.Global().Get("fakeSocket") }
}

func TestCloseNow(t *testing.T) {
	conn := dial(t, "/echo", nil)
	conn.CloseNow()
	require.ErrorIs(t, conn.CloseEvent().Err, net.ErrClosed)
	require.ErrorIs(t, conn.Send(t.Context(), wsd.Text("late")), wsd.ErrClosed)
}

func TestCloseTimeout(t *testing.T) {
	conn := dial(t, "/deaf", &wsd.DialOptions{Config: wsd.Config{CloseTimeout: 50 * time.Millisecond, SendQueue: -1}})
	data := noise(1 << 20) // which cannot be compressed
	for range 64 {         // more than sockets hold
		send(t, conn, wsd.Binary(data))
	}
	require.ErrorIs(t, conn.Close(wsd.StatusNormalClosure, ""), wsd.ErrCloseTimeout)
}

func TestRedial(t *testing.T) {
	opts := &wsd.RedialOptions{MinBackoff: time.Millisecond}
	rounds := 0
	for conn, err := range wsd.Redial(t.Context(), server("/close?code=1012"), opts) {
		require.NoError(t, err)
		send(t, conn, wsd.Text("now"))
		for range conn.Messages() {
		}
		if rounds++; rounds == 3 {
			break
		}
	}
	require.Equal(t, 3, rounds)
	for _, err := range wsd.Redial(t.Context(), strings.Replace(server("/"), "://", "://me@", 1), opts) {
		var last *wsd.RedialError
		require.ErrorAs(t, err, &last)
		require.True(t, last.Last, "what a browser cannot do is not tried again")
	}
}

func TestPool(t *testing.T) {
	p, err := pool.New(server("/echo"), &pool.Options{MaxConns: 1, CheckAfter: time.Nanosecond})
	require.NoError(t, err)
	defer p.Close()
	for range 5 { // checked before each use: by its state
		conn, err := p.Acquire(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Send(t.Context(), wsd.Text("hello")))
		msg, err := conn.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "hello", string(msg.Data))
		require.NoError(t, conn.Release())
	}
	require.EqualValues(t, 1, p.Stats().Dials)
}
