//go:build !js

// main_test.go has what the tests share: both ends of a connection, over memory, sockets and TLS, and a peer played byte by
// byte.

package websocket_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
	"github.com/seed62836080/wsd/wsdtest"
)

// ends is how a test gets both ends of a connection, its server's made by an Upgrader.
type ends func(t *testing.T, u *websocket.Upgrader, d *websocket.Dialer) (client, server *websocket.Conn)

// everywhere are the transports that connections differ by.
var everywhere = map[string]ends{"memory": inMemory, "TCP": overTCP, "TLS": overTLS}

// onEach runs a test over every transport.
func onEach(t *testing.T, test func(t *testing.T, client, server *websocket.Conn)) {
	for name, connect := range everywhere {
		t.Run(name, func(t *testing.T) {
			client, server := connect(t, &websocket.Upgrader{}, &websocket.Dialer{})
			test(t, client, server)
		})
	}
}

func inMemory(t *testing.T, u *websocket.Upgrader, d *websocket.Dialer) (client, server *websocket.Conn) {
	return over(t, u, d, func(handler http.Handler) (string, func()) {
		s := wsdtest.Serve(handler)
		own := s.Client().Transport.(*http.Transport)
		d.NetDialContext = own.DialContext
		return s.Config.Addr, s.Close
	})
}

func overTCP(t *testing.T, u *websocket.Upgrader, d *websocket.Dialer) (client, server *websocket.Conn) {
	return over(t, u, d, func(handler http.Handler) (string, func()) {
		s := httptest.NewServer(handler)
		return "ws" + strings.TrimPrefix(s.URL, "http"), s.Close
	})
}

func overTLS(t *testing.T, u *websocket.Upgrader, d *websocket.Dialer) (client, server *websocket.Conn) {
	return over(t, u, d, func(handler http.Handler) (string, func()) {
		s := httptest.NewTLSServer(handler)
		d.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
		return "wss" + strings.TrimPrefix(s.URL, "https"), s.Close
	})
}

// over connects to a server that serve starts.
func over(t *testing.T, u *websocket.Upgrader, d *websocket.Dialer, serve func(http.Handler) (url string, stop func())) (client, server *websocket.Conn) {
	t.Helper()
	accepted := make(chan *websocket.Conn, 1)
	url, stop := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := u.Upgrade(w, r, nil); err == nil {
			accepted <- conn
		} else {
			close(accepted)
		}
	}))
	t.Cleanup(stop)
	if url == "" {
		url = "ws" + strings.TrimPrefix(wsdtest.URL, "http")
	}
	client, _, err := d.Dial(url, nil)
	require.NoError(t, err)
	server = <-accepted
	require.NotNil(t, server)
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

// played returns a server's connection whose client the test plays byte by byte.
func played(t *testing.T) (raw net.Conn, server *websocket.Conn) {
	return playedTo(t, &websocket.Upgrader{})
}

// playedTo is played with an Upgrader of its own.
func playedTo(t *testing.T, u *websocket.Upgrader) (raw net.Conn, server *websocket.Conn) {
	t.Helper()
	accepted := make(chan *websocket.Conn, 1)
	s := wsdtest.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := u.Upgrade(w, r, nil)
		if err == nil {
			accepted <- conn
		}
	}))
	t.Cleanup(s.Close)
	raw, err := s.Client().Transport.(*http.Transport).DialContext(t.Context(), "tcp", "")
	require.NoError(t, err)
	_, err = io.WriteString(raw, "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReaderSize(raw, 16), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	server = <-accepted
	t.Cleanup(func() {
		_ = raw.Close()
		_ = server.Close()
	})
	return raw, server
}

// read reads a message and compares it with what it should be.
func read(t *testing.T, c *websocket.Conn, messageType int, data string) {
	t.Helper()
	got, p, err := c.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, messageType, got)
	if len(data) < 100 {
		require.Equal(t, data, string(p))
	} else {
		require.True(t, data == string(p), "%d bytes, expected %d", len(p), len(data))
	}
}
