// programs_test.go is about programs that cannot be told what to do as the libraries are: wscat, and the test server and
// client of libwebsockets.

package interop

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// wscat returns the path of the program.
func wscat(t *testing.T) string {
	t.Helper()
	// npm links programs there.
	path := filepath.Join("peers", "node_modules", ".bin", "wscat")
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	path = program(t, path)
	results.version("wscat", versionOf(t, path, "--version"))
	return path
}

// awaitConn waits for the connection that a server expects.
func awaitConn(t *testing.T, result <-chan accepted) *wsd.Conn {
	t.Helper()
	select {
	case got := <-result:
		require.NoError(t, got.err)
		t.Cleanup(got.conn.CloseNow)
		return got.conn
	case <-bounded(t).Done():
		require.FailNow(t, "nobody connected")
		return nil
	}
}

// awaitEnd waits for the end of a connection.
func awaitEnd(t *testing.T, conn *wsd.Conn) wsd.CloseEvent {
	t.Helper()
	select {
	case <-conn.Closed():
	case <-bounded(t).Done():
		require.FailNow(t, "the connection did not end")
	}
	return conn.CloseEvent()
}

// TestWscatConnects types into wscat, which is connected to wsd's server.
func TestWscatConnects(t *testing.T) {
	path := wscat(t)
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			results.addExtra(t, "wscat", "connects: subprotocol, compression, text, pings both ways, close with a code", scheme)
			s := startServer(t, scheme == "wss")
			id := newID()
			opts := wsd.AcceptOptions{Subprotocols: []string{"wsd.v1"}}
			opts.Compression = &wsd.Compression{Threshold: -1}
			result := s.expect(id, opts)
			cat := runProgram(t, path, "--connect", s.base+id, "--subprotocol", "wsd.v1", "--slash", "--show-ping-pong")
			conn := awaitConn(t, result)
			ctx := bounded(t)
			require.Equal(t, "wsd.v1", conn.Subprotocol())
			require.Contains(t, conn.Extensions(), "permessage-deflate")
			// What is typed before it has connected is lost, and without a terminal it does not tell: a message does.
			require.NoError(t, conn.Send(ctx, wsd.Text("welcome \u20ac")))
			require.NoError(t, cat.output.wait(ctx, 0, "welcome \u20ac\n"))
			cat.typeLine(t, "typed \u20ac")
			msg, err := conn.Receive(ctx)
			require.NoError(t, err)
			require.Equal(t, wsd.Text("typed \u20ac"), msg)
			cat.typeLine(t, "/ping payload")
			require.NoError(t, cat.output.wait(ctx, 0, `Received pong (data: "payload")`))
			_, err = conn.Ping(ctx, []byte("from wsd"))
			require.NoError(t, err)
			require.NoError(t, cat.output.wait(ctx, 0, `Received ping (data: "from wsd")`))
			cat.typeLine(t, "/close 4001 good bye")
			event := awaitEnd(t, conn)
			require.Equal(t, wsd.StatusCode(4001), event.Code)
			require.Equal(t, "good bye", event.Reason)
			require.True(t, event.Clean)
			<-cat.exited
			require.True(t, cat.ProcessState.Success(), "wscat ends well when the connection has")
		})
	}
}

// TestWscatConnectsThroughProxy has wscat reach wsd's server by a tunnel.
func TestWscatConnectsThroughProxy(t *testing.T) {
	path := wscat(t)
	_, proxy := tinyproxy(t)
	results.addExtra(t, "wscat", "connects through tinyproxy", "ws")
	s := startServer(t, false)
	id := newID()
	result := s.expect(id, wsd.AcceptOptions{})
	cat := runProgram(t, path, "--connect", s.base+id, "--proxy", proxy.String())
	conn := awaitConn(t, result)
	ctx := bounded(t)
	require.NoError(t, conn.Send(ctx, wsd.Text("welcome")))
	require.NoError(t, cat.output.wait(ctx, 0, "welcome\n"))
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
	<-cat.exited
}

// TestWscatListens has wsd's client connect to wscat.
func TestWscatListens(t *testing.T) {
	path := wscat(t)
	results.addExtra(t, "wscat", "listens: text both ways, pings, close; it has no TLS then", "ws")
	port := freePort(t)
	cat := runProgram(t, path, "--listen", strconv.Itoa(port))
	cat.reachable(t, port)
	ctx := bounded(t)
	conn, _, err := wsd.Dial(ctx, fmt.Sprintf("ws://127.0.0.1:%d", port), nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	require.NoError(t, conn.Send(ctx, wsd.Text("to wscat")))
	require.NoError(t, cat.output.wait(ctx, 0, "to wscat\n"))
	cat.typeLine(t, "from wscat")
	msg, err := conn.Receive(ctx)
	require.NoError(t, err)
	require.Equal(t, wsd.Text("from wscat"), msg)
	_, err = conn.Ping(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, "done"))
}

// The subprotocols of libwebsockets' test programs: a counter that the client can reset and end, and a board that shows
// everyone what each draws on it.
const (
	increment = "dumb-increment-protocol"
	mirror    = "lws-mirror-protocol"
)

// libwebsockets returns the path of one of the test programs.
func libwebsockets(t *testing.T, name string) string {
	t.Helper()
	return program(t, "libwebsockets-test-"+name)
}

// TestLibwebsocketsServer has wsd's client talk to the test server in the server's own subprotocols.
func TestLibwebsocketsServer(t *testing.T) {
	t.Parallel()
	path := libwebsockets(t, "server")
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			port := freePort(t)
			args := []string{"--port=" + strconv.Itoa(port), "--interface=lo"}
			if scheme == "wss" {
				args = append(args, "--ssl", "--ssl-cert="+certificateFile(), "--ssl-key="+keyFile())
			}
			lws := runProgram(t, path, args...)
			lws.reachable(t, port)
			noteLibwebsockets(t, lws)
			dial := func(t *testing.T, subprotocol string) *wsd.Conn {
				conn, _, err := wsd.Dial(bounded(t), fmt.Sprintf("%s://127.0.0.1:%d/", scheme, port), &wsd.DialOptions{
					Config:       wsd.Config{Compression: &wsd.Compression{Threshold: -1}},
					Subprotocols: []string{"unknown", subprotocol},
					HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(t)}},
				})
				require.NoError(t, err)
				t.Cleanup(conn.CloseNow)
				require.Equal(t, subprotocol, conn.Subprotocol())
				return conn
			}
			t.Run("increment", func(t *testing.T) {
				results.addExtra(t, "libwebsockets", "test server, increment: text, pings, close by the server", scheme)
				conn, ctx := dial(t, increment), bounded(t)
				for want := range 3 {
					msg, err := conn.Receive(ctx)
					require.NoError(t, err)
					require.Equal(t, strconv.Itoa(want), string(msg.Data))
				}
				_, err := conn.Ping(ctx, []byte("payload"))
				require.NoError(t, err)
				require.NoError(t, conn.Send(ctx, wsd.Text("reset\n")))
				for {
					msg, err := conn.Receive(ctx)
					require.NoError(t, err)
					if string(msg.Data) == "0" {
						break
					}
				}
				require.NoError(t, conn.Send(ctx, wsd.Text("closeme\n")))
				event := awaitEnd(t, conn)
				require.Equal(t, wsd.StatusGoingAway, event.Code)
				require.Equal(t, "seeya", event.Reason)
				require.True(t, event.Clean)
			})
			t.Run("mirror", func(t *testing.T) {
				results.addExtra(t, "libwebsockets", "test server, mirror: text to another client, fragments, close by wsd", scheme)
				one, other, ctx := dial(t, mirror), dial(t, mirror), bounded(t)
				for _, drawn := range []string{"d #ff0000 1 2 3 4;", "c #00ff00 " + strings.Repeat("1", 100) + ";"} {
					require.NoError(t, one.Send(ctx, wsd.Text(drawn)))
					for _, conn := range []*wsd.Conn{one, other} {
						msg, err := conn.Receive(ctx)
						require.NoError(t, err)
						require.Equal(t, drawn, string(msg.Data))
					}
				}
				require.NoError(t, one.Close(4321, "enough"))
				require.NoError(t, other.Close(wsd.StatusNoStatus, ""))
			})
			t.Run("status", func(t *testing.T) {
				results.addExtra(t, "libwebsockets", "test server, status: compressed text", scheme)
				conn, ctx := dial(t, "lws-status"), bounded(t)
				require.Contains(t, conn.Extensions(), "permessage-deflate")
				msg, err := conn.Receive(ctx)
				require.NoError(t, err)
				var status struct{ Version string }
				require.NoError(t, msg.Decode(&status))
				require.NotEmpty(t, status.Version)
				require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
			})
		})
	}
}

// noteLibwebsockets notes the version that a test program prints when it starts.
func noteLibwebsockets(t *testing.T, lws *running) {
	t.Helper()
	const before, after = "LWS: ", "-,"
	require.NoError(t, lws.output.wait(bounded(t), 0, after))
	_, version, _ := strings.Cut(lws.output.String(), before)
	version, _, _ = strings.Cut(version, after)
	results.version("libwebsockets", version)
}

// TestLibwebsocketsClient has the test client talk to wsd's server. It opens a connection for each of its subprotocols.
func TestLibwebsocketsClient(t *testing.T) {
	t.Parallel()
	path := libwebsockets(t, "client")
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			results.addExtra(t, "libwebsockets", "test client: subprotocols, compression, text both ways, pings, close by wsd", scheme)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			conns := make(chan *wsd.Conn, 16)
			ws := &wsd.Server{Handler: func(conn *wsd.Conn) {
				conns <- conn
				<-conn.Closed()
			}}
			ws.AcceptOptions.Subprotocols = []string{increment, mirror}
			ws.AcceptOptions.Compression = &wsd.Compression{Threshold: -1}
			// Over TLS too it names an origin of http.
			ws.AcceptOptions.Origins = []string{"http://127.0.0.1"}
			httpServer := &http.Server{Handler: ws}
			served := make(chan struct{})
			args := []string{"127.0.0.1", "-d", "15", "--port=" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)}
			go func() {
				defer close(served)
				if scheme == "wss" {
					httpServer.TLSConfig = serverTLS(t)
					_ = httpServer.ServeTLS(listener, "", "")
				} else {
					_ = httpServer.Serve(listener)
				}
			}()
			t.Cleanup(func() {
				_ = httpServer.Close()
				<-served
			})
			if scheme == "wss" {
				args = append(args, "--ssl", "--ssl-ca="+authorityFile())
			}
			lws := runProgram(t, path, args...)
			ctx := bounded(t)
			seen := map[string]bool{}
			for len(seen) < 2 {
				var conn *wsd.Conn
				select {
				case conn = <-conns:
				case <-ctx.Done():
					require.FailNow(t, "the client did not connect for both subprotocols", "%s", lws.output)
				}
				if seen[conn.Subprotocol()] {
					continue
				}
				seen[conn.Subprotocol()] = true
				switch conn.Subprotocol() {
				case increment:
					// It has agreed to compression here, and then finds that it has too small a buffer for it.
					number := wsd.Text("number 42")
					number.Compress = wsd.CompressNever
					require.NoError(t, conn.Send(ctx, number))
					require.NoError(t, lws.output.wait(ctx, 0, "'number 42'"))
				case mirror:
					msg, err := conn.Receive(ctx)
					require.NoError(t, err)
					require.Equal(t, wsd.TextMessage, msg.Type)
					require.Regexp(t, `^[cd] #`, string(msg.Data))
					require.NoError(t, conn.Send(ctx, msg))
				default:
					require.FailNow(t, "unknown subprotocol", conn.Subprotocol())
				}
				go func() { // it sends on, and no pong would be read behind messages that nobody receives
					for range conn.Messages() {
					}
				}()
				_, err := conn.Ping(ctx, []byte("payload"))
				require.NoError(t, err)
				require.NoError(t, conn.Close(wsd.StatusGoingAway, "done"))
			}
		})
	}
}
