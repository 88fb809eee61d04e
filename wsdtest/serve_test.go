// serve_test.go tests the server in memory, with handshakes in bubbles, and pairs that have shaken hands.

package wsdtest_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// A whole server runs in a bubble: requests, handshakes, timers of a day, and the shutdown.
func TestServeRunsHandshakesInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws := &wsd.Server{Handler: func(conn *wsd.Conn) {
			for msg := range conn.Messages() {
				_ = conn.Send(conn.Context(), msg)
			}
		}}
		mux := http.NewServeMux()
		mux.Handle("/echo", ws)
		mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a page") })
		server := wsdtest.Serve(mux)
		defer server.Close()

		begun := time.Now()
		conn, resp, err := server.Dial(t.Context(), "/echo", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		other, _, err := wsd.Dial(t.Context(), "ws://elsewhere.example/echo", &wsd.DialOptions{HTTPClient: server.Client()})
		require.NoError(t, err)
		page, err := server.Client().Get(wsdtest.URL + "/page")
		require.NoError(t, err)
		body, err := io.ReadAll(page.Body)
		require.NoError(t, err)
		require.Equal(t, "a page", string(body))
		require.NoError(t, page.Body.Close())
		require.Equal(t, begun, time.Now(), "nothing takes time")

		time.Sleep(24 * time.Hour) // with keepalives
		for _, c := range []*wsd.Conn{conn, other} {
			require.NoError(t, c.Send(t.Context(), wsd.Text("still here")))
			m, err := c.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, "still here", m.String())
		}
		require.Equal(t, 2, ws.Connections())
		require.NoError(t, ws.Shutdown(t.Context()))
		require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
		<-other.Closed()
	})
}

func TestServeRefusesAsAServerDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := wsdtest.Serve(&wsd.Server{})
		defer server.Close()
		header := http.Header{"Origin": {"https://elsewhere.example"}}
		_, resp, err := server.Dial(t.Context(), "/", &wsd.DialOptions{Header: header})
		require.Error(t, err)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
		header.Set("Origin", wsdtest.URL)
		conn, _, err := server.Dial(t.Context(), "/", &wsd.DialOptions{Header: header})
		require.NoError(t, err, "the server's own pages may connect")
		conn.CloseNow()
	})
}

// Handshake timeouts and contexts work in a bubble: a handler that does not answer costs the bubble's time only.
func TestServeWithAHandlerThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := wsdtest.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		defer server.Close()
		begun := time.Now()
		_, _, err := server.Dial(t.Context(), "/", &wsd.DialOptions{HandshakeTimeout: time.Hour})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(begun))
	})
}

// Close ends what handlers have taken over, and returns after them.
func TestServerCloseCutsOffAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		returned := false
		server := wsdtest.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, err := wsd.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			<-conn.Closed()
			time.Sleep(time.Minute)
			returned = true
		}))
		conn, _, err := server.Dial(t.Context(), "/", nil)
		require.NoError(t, err)
		server.Close()
		require.True(t, returned)
		<-conn.Closed()
		require.Equal(t, wsd.StatusAbnormalClosure, conn.CloseEvent().Code)
		_, _, err = server.Dial(t.Context(), "/", nil)
		require.ErrorContains(t, err, "closed")
		server.Close()
	})
}

func TestAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := wsdtest.Transport()
		var _ net.Conn = a
		require.Equal(t, a.LocalAddr(), b.RemoteAddr())
		require.Equal(t, b.LocalAddr(), a.RemoteAddr())
		require.Equal(t, "192.0.2.2:80", b.LocalAddr().String())
		other, _ := wsdtest.Transport()
		require.NotEqual(t, a.LocalAddr(), other.LocalAddr(), "each client has its own")

		asked := make(chan string, 1)
		accepted := make(chan *wsd.Conn, 1)
		server := wsdtest.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- r.RemoteAddr
			conn, err := wsd.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
			}
			accepted <- conn
		}))
		defer server.Close()
		conn, _, err := server.Dial(t.Context(), "/", nil)
		require.NoError(t, err)
		served := <-accepted
		require.Equal(t, conn.LocalAddr().String(), <-asked)
		require.Equal(t, conn.LocalAddr(), served.RemoteAddr())
		require.Equal(t, conn.RemoteAddr(), served.LocalAddr())
		conn.CloseNow()
		<-served.Closed()

		faulty := wsdtest.Faulty(a, wsdtest.Faults{})
		require.Equal(t, a.LocalAddr(), faulty.LocalAddr())
		require.Equal(t, a.RemoteAddr(), faulty.RemoteAddr())
		bare := wsdtest.Faulty(struct{ io.ReadWriteCloser }{b}, wsdtest.Faults{})
		require.Nil(t, bare.LocalAddr())
		require.Nil(t, bare.RemoteAddr())
	})
}

func TestPairHasShakenHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		compressed := wsd.Config{Compression: &wsd.Compression{}}
		client, server := wsdtest.Pair(
			&wsd.DialOptions{Config: compressed, Subprotocols: []string{"v2", "v1"}},
			&wsd.AcceptOptions{Config: compressed, Subprotocols: []string{"v1"}, Header: http.Header{"X-Node": {"7"}}})
		defer client.CloseNow()
		defer server.CloseNow()
		for _, c := range []*wsd.Conn{client, server} {
			require.Equal(t, "v1", c.Subprotocol())
			require.Contains(t, c.Extensions(), "permessage-deflate")
		}
		require.Equal(t, "7", client.Response().Header.Get("X-Node"))
		require.Nil(t, server.Response())
		for range 3 {
			require.NoError(t, client.Send(t.Context(), wsd.Text("over")))
			m, err := server.Receive(t.Context())
			require.NoError(t, err)
			require.NoError(t, server.Send(t.Context(), m))
			m, err = client.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, "over", m.String())
		}
		require.NoError(t, client.Close(4000, "done"))
		<-server.Closed()
		require.Equal(t, "done", server.CloseEvent().Reason)

		require.PanicsWithValue(t, `wsdtest: wsd: handshake failed: expected the status 101 Switching Protocols, got "400 Bad Request", `+
			"which says `WebSocket handshake refused: Sec-WebSocket-Protocol: expected one of \"v1\", got none`", func() {
			wsdtest.Pair(nil, &wsd.AcceptOptions{Subprotocols: []string{"v1"}, RequireSubprotocol: true})
		})
		plain, served := wsdtest.Pair(nil, nil)
		require.Empty(t, plain.Subprotocol())
		plain.CloseNow()
		<-served.Closed()
	})
}
