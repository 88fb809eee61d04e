// addresses_test.go checks what a connection tells of its transport and of its handshake.

package wsd_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

func TestAddressesOfEachTransport(t *testing.T) {
	over := func(t *testing.T, rwc io.ReadWriteCloser, local, remote net.Addr) {
		t.Helper()
		conn := wsd.NewConn(rwc, wsd.ServerRole, wsd.Config{PingInterval: -1})
		require.Equal(t, local, conn.LocalAddr())
		require.Equal(t, remote, conn.RemoteAddr())
		conn.CloseNow()
		require.Equal(t, remote, conn.RemoteAddr(), "after the end")
	}
	near, far := tcpPair(t)
	defer far.Close()
	over(t, near, far.RemoteAddr(), far.LocalAddr())

	near, far = tcpPair(t)
	defer far.Close()
	over(t, tls.Server(near, &tls.Config{}), far.RemoteAddr(), far.LocalAddr())

	near, far = tcpPair(t)
	defer far.Close()
	over(t, opaqueConn{near}, far.RemoteAddr(), far.LocalAddr())

	unixNear, unixFar := wiretest.Pair(t, "unix")
	defer unixFar.Close()
	over(t, unixNear, unixFar.RemoteAddr(), unixFar.LocalAddr())

	a, b := wsdtest.Transport()
	over(t, a, b.RemoteAddr(), b.LocalAddr())
	a, b = wsdtest.Transport()
	over(t, struct{ io.ReadWriteCloser }{a}, nil, nil)
	over(t, struct{ io.ReadWriteCloser }{b}, nil, nil)
}

// wrapped gives access to what it wraps, and hides all else.
type opaqueConn struct{ below net.Conn }

func (w opaqueConn) Read(p []byte) (int, error)  { return w.below.Read(p) }
func (w opaqueConn) Write(p []byte) (int, error) { return w.below.Write(p) }
func (w opaqueConn) Close() error                { return w.below.Close() }
func (w opaqueConn) NetConn() net.Conn           { return w.below }

// After a handshake each end has the other's address, and the client the answer, whatever the way to connect.
func TestAddressesAndResponseAfterAHandshake(t *testing.T) {
	served := make(chan *wsd.Conn, 1)
	ws := &wsd.Server{Handler: func(conn *wsd.Conn) {
		served <- conn
		<-conn.Closed()
	}}
	ws.AcceptOptions.Header = http.Header{"X-Node": {"7"}}
	plain, secure := httptest.NewServer(ws), httptest.NewTLSServer(ws)
	defer plain.Close()
	defer secure.Close()
	check := func(t *testing.T, server *httptest.Server, conn *wsd.Conn) {
		t.Helper()
		other := <-served
		require.Equal(t, server.Listener.Addr(), conn.RemoteAddr())
		require.Equal(t, server.Listener.Addr(), other.LocalAddr())
		require.Equal(t, conn.LocalAddr(), other.RemoteAddr())
		require.Equal(t, "7", conn.Response().Header.Get("X-Node"))
		require.Equal(t, http.StatusSwitchingProtocols, conn.Response().StatusCode)
		require.Nil(t, other.Response())
		conn.CloseNow()
		<-other.Closed()
	}
	dial := func(server *httptest.Server, client *http.Client) *wsd.Conn {
		conn, resp, err := wsd.Dial(t.Context(), server.URL, &wsd.DialOptions{HTTPClient: client})
		require.NoError(t, err)
		require.Same(t, resp, conn.Response())
		return conn
	}
	check(t, plain, dial(plain, nil))
	check(t, secure, dial(secure, secure.Client()))
	other := roundTripper(secure.Client().Transport.RoundTrip)
	check(t, secure, dial(secure, &http.Client{Transport: other}))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for conn, err := range wsd.Redial(ctx, plain.URL, nil) {
		require.NoError(t, err)
		check(t, plain, conn)
		break
	}
	require.NoError(t, ws.Shutdown(t.Context()))

	near, far := wsdtest.Pipe()
	require.Nil(t, near.Response())
	near.CloseNow()
	<-far.Closed()
}

func TestSubprotocolsOfARequest(t *testing.T) {
	for _, row := range []struct {
		lines, want []string
	}{
		{nil, nil},
		{[]string{""}, nil},
		{[]string{"v1"}, []string{"v1"}},
		{[]string{" v2 ,, v1,v2", "v3"}, []string{"v2", "v1", "v2", "v3"}},
		{[]string{"a b, v1, \"q\""}, []string{"v1"}},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Sec-Websocket-Protocol"] = row.lines
		require.Equal(t, row.want, wsd.Subprotocols(r), "%q", row.lines)
	}
}

func TestRequireSubprotocol(t *testing.T) {
	server, results := accepting(t, &wsd.AcceptOptions{Subprotocols: []string{"v2", "v1"}, RequireSubprotocol: true})
	for asked, status := range map[string]int{"": 400, "v3": 400, "V1": 400, "v1": 101, "v3, v1": 101} {
		var opts wsd.DialOptions
		if asked != "" {
			opts.Subprotocols = strings.Split(asked, ", ")
		}
		conn, resp, err := wsd.Dial(t.Context(), server.URL, &opts)
		require.Equal(t, status, resp.StatusCode, asked)
		accepted := <-results
		if status == 101 {
			require.NoError(t, err)
			require.NoError(t, accepted)
			require.Equal(t, "v1", conn.Subprotocol())
			conn.CloseNow()
			continue
		}
		var refused *wsd.HandshakeError
		require.ErrorAs(t, accepted, &refused)
		require.Equal(t, "Sec-WebSocket-Protocol", refused.Header)
		require.ErrorContains(t, err, `expected one of "v2, v1"`)
	}
	faulty, _ := accepting(t, &wsd.AcceptOptions{RequireSubprotocol: true})
	_, resp, err := wsd.Dial(t.Context(), faulty.URL, &wsd.DialOptions{Subprotocols: []string{"v1"}})
	require.Error(t, err)
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode, "it would refuse everybody")
}
