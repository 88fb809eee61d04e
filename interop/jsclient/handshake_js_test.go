// handshake_js_test.go checks what a browser can be asked for in a handshake, and how one fails.

package jsclient

import (
	"context"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

func TestHandshake(t *testing.T) {
	conn, resp, err := wsd.Dial(t.Context(), server("/echo"), &wsd.DialOptions{Subprotocols: []string{"unknown", "echo"}})
	require.NoError(t, err)
	defer conn.CloseNow()
	require.Equal(t, "echo", conn.Subprotocol())
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Same(t, resp, conn.Response())
	require.Equal(t, "echo", resp.Header.Get("Sec-WebSocket-Protocol"))
	require.Equal(t, conn.Extensions(), resp.Header.Get("Sec-WebSocket-Extensions"))
	send(t, conn, wsd.Text("extensions"))
	require.Equal(t, string(receive(t, conn).Data), conn.Extensions(), "the server knows what was agreed on")
	require.Nil(t, conn.LocalAddr())
	require.Equal(t, strings.TrimPrefix(server(""), "ws://"), conn.RemoteAddr().String())
	require.Equal(t, wsd.StateOpen, conn.State())
}

func TestHTTPURL(t *testing.T) {
	conn, _, err := wsd.Dial(t.Context(), strings.Replace(server("/echo"), "ws:", "http:", 1), nil)
	require.NoError(t, err)
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
}

type roundTripper struct{ http.RoundTripper }

func TestWhatABrowserCannotBeAskedFor(t *testing.T) {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for field, opts := range map[string]*wsd.DialOptions{
		"DialOptions.Header":       {Header: http.Header{"Authorization": {"Bearer secret"}}},
		"HTTPClient.Transport":     {HTTPClient: &http.Client{Transport: roundTripper{}}},
		"HTTPClient.Jar":           {HTTPClient: &http.Client{Jar: jar}},
		"HTTPClient.CheckRedirect": {HTTPClient: &http.Client{CheckRedirect: stay}},
		"user info in the URL":     nil,
	} {
		url := server("/echo")
		if opts == nil {
			url = strings.Replace(url, "://", "://user:secret@", 1)
		}
		_, _, err := wsd.Dial(t.Context(), url, opts)
		require.ErrorIs(t, err, errors.ErrUnsupported, field)
		require.ErrorContains(t, err, field)
		require.NotContains(t, err.Error(), "secret")
		require.True(t, wsd.Permanent(err), "trying again does not help")
	}
	conn, _, err := wsd.Dial(t.Context(), server("/echo"), &wsd.DialOptions{HTTPClient: &http.Client{Timeout: time.Minute}})
	require.NoError(t, err, "a timeout can be had")
	conn.CloseNow()
}

func TestArguments(t *testing.T) {
	for _, url := range []string{"", "ftp://example.com", "ws://", "ws://example.com/#fragment"} {
		_, _, err := wsd.Dial(t.Context(), url, nil)
		var handshake *wsd.HandshakeError
		require.ErrorAs(t, err, &handshake, url)
		require.True(t, wsd.Permanent(err))
	}
	_, _, err := wsd.Dial(t.Context(), server("/echo"), &wsd.DialOptions{Subprotocols: []string{"not a token"}})
	require.ErrorContains(t, err, "not a token")
	_, _, err = wsd.Dial(nil, server("/echo"), nil) //nolint:staticcheck // what is tested
	require.ErrorIs(t, err, wsd.ErrNilContext)
}

func TestFailedHandshakes(t *testing.T) {
	for _, url := range []string{server("/nothing-here"), "ws://127.0.0.1:1/"} {
		conn, resp, err := wsd.Dial(t.Context(), url, nil)
		require.Nil(t, conn)
		require.Nil(t, resp)
		var handshake *wsd.HandshakeError
		require.ErrorAs(t, err, &handshake)
		require.ErrorContains(t, err, "the browser got no connection: ")
		require.False(t, wsd.Permanent(err), "a browser does not tell an answer from none")
	}
}

func TestHandshakeTimeout(t *testing.T) {
	_, _, err := wsd.Dial(t.Context(), server("/hang"), &wsd.DialOptions{HandshakeTimeout: 50 * time.Millisecond})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no answer within 50ms")
}

func TestCancelDuringTheHandshake(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("changed my mind")
	time.AfterFunc(20*time.Millisecond, func() { cancel(late) })
	path, ended := record(t, "/hang?")
	_, _, err := wsd.Dial(ctx, server(path), nil)
	require.ErrorIs(t, err, late)
	require.ErrorIs(t, err, context.Canceled)
	if os.Getenv("WSD_RUN") != "firefox" { // which waits for the server's answer first
		require.Equal(t, wsd.StatusAbnormalClosure, ended().Code, "the browser has let go of it")
	}
	_, _, err = wsd.Dial(ctx, server("/echo"), nil)
	require.ErrorIs(t, err, context.Canceled, "done before it begins")
}

func TestContextBoundsTheHandshakeAlone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conn, _, err := wsd.Dial(ctx, server("/echo"), nil)
	require.NoError(t, err)
	cancel()
	send(t, conn, wsd.Text("still there"))
	receive(t, conn)
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
}

func TestPingIsTheBrowsers(t *testing.T) {
	conn := dial(t, "/echo", nil)
	_, err := conn.Ping(t.Context(), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "wsd: ping: ")
}
