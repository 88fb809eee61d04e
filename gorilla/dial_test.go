//go:build !js

// dial_test.go checks what a Dialer sends, through what, and the errors of handshakes that fail.

package websocket_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
	"github.com/seed62836080/wsd/internal/wiretest"
	"github.com/seed62836080/wsd/wsdtest"
)

// echoing starts a server that echoes one message, after see has seen the request, and returns its ws URL.
func echoing(t *testing.T, see func(*http.Request)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if see != nil {
			see(r)
		}
		u := websocket.Upgrader{Subprotocols: []string{"b"}, CheckOrigin: func(*http.Request) bool { return true }}
		conn, err := u.Upgrade(w, r, http.Header{"Set-Cookie": {"got=it"}})
		if err != nil {
			return
		}
		defer conn.Close()
		if messageType, p, err := conn.ReadMessage(); err == nil {
			_ = conn.WriteMessage(messageType, p)
		}
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

func requireEcho(t *testing.T, c *websocket.Conn) {
	t.Helper()
	defer c.Close()
	require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte("echo")))
	read(t, c, websocket.TextMessage, "echo")
}

func TestDialSendsWhatItIsGiven(t *testing.T) {
	var seen *http.Request
	target := echoing(t, func(r *http.Request) { seen = r })
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	at, err := url.Parse(target)
	require.NoError(t, err)
	at.Scheme = "http"
	jar.SetCookies(at, []*http.Cookie{{Name: "from", Value: "jar"}})
	d := websocket.Dialer{Jar: jar, Subprotocols: []string{"a", "b"}}
	c, resp, err := d.Dial(target+"/path?q=1#fragment", http.Header{"Origin": {"http://me.example"}, "Host": {"other.example"}, "X-Own": {"1"}})
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	requireEcho(t, c)
	require.Equal(t, "/path?q=1", seen.RequestURI)
	require.Equal(t, "other.example", seen.Host)
	require.Equal(t, "http://me.example", seen.Header.Get("Origin"))
	require.Equal(t, "1", seen.Header.Get("X-Own"))
	require.Equal(t, "from=jar", seen.Header.Get("Cookie"))
	require.Equal(t, "b", c.Subprotocol())
	require.Contains(t, jar.Cookies(at), &http.Cookie{Name: "got", Value: "it"})
	require.Equal(t, c.RemoteAddr(), c.NetConn().RemoteAddr())
	require.Equal(t, c.LocalAddr(), c.UnderlyingConn().LocalAddr())
}

func TestASubprotocolInTheHeader(t *testing.T) {
	c, _, err := websocket.DefaultDialer.Dial(echoing(t, nil), http.Header{"Sec-WebSocket-Protocol": {"a, b"}})
	require.NoError(t, err)
	require.Equal(t, "b", c.Subprotocol())
	requireEcho(t, c)
}

func TestFieldsThatTheHandshakeSets(t *testing.T) {
	d := websocket.Dialer{Subprotocols: []string{"a"}}
	for _, name := range []string{"Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "sec-websocket-extensions", "Sec-WebSocket-Protocol"} {
		_, _, err := d.Dial("ws://127.0.0.1:1", http.Header{name: {"x"}})
		require.ErrorContains(t, err, "duplicate header not allowed: ")
	}
}

func TestURLsThatAreNoWebSockets(t *testing.T) {
	for _, target := range []string{"http://127.0.0.1:1", "ftp://127.0.0.1:1", "ws://user:secret@127.0.0.1:1", ":", "ws://", ""} {
		_, resp, err := websocket.DefaultDialer.Dial(target, nil)
		require.Error(t, err, target)
		require.Nil(t, resp)
	}
}

func TestAnAnswerThatIsNoHandshake(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/wrong":
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Sec-Websocket-Accept", "wrong")
			w.WriteHeader(http.StatusSwitchingProtocols)
		default:
			http.Error(w, "who are you?", http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	for path, status := range map[string]int{"/": http.StatusUnauthorized, "/redirect": http.StatusFound, "/wrong": http.StatusSwitchingProtocols} {
		c, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+path, nil)
		require.Nil(t, c)
		require.True(t, err == websocket.ErrBadHandshake, "%v", err)
		require.Equal(t, status, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if path == "/" {
			require.Equal(t, "who are you?\n", string(body))
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	listener := wiretest.Listen(t, "tcp")
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, _, err := websocket.DefaultDialer.Dial("ws://"+addr, nil)
	var refused *net.OpError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "dial", refused.Op)
}

func TestALateHandshake(t *testing.T) {
	silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
		a, _ := wsdtest.Transport()
		return a, nil
	}
	for name, dial := range map[string]func() error{
		"HandshakeTimeout": func() error {
			d := websocket.Dialer{NetDialContext: silent, HandshakeTimeout: time.Minute}
			_, _, err := d.Dial("ws://example.com", nil)
			return err
		},
		"context": func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			d := websocket.Dialer{NetDialContext: silent}
			_, _, err := d.DialContext(ctx, "ws://example.com", nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				err := dial()
				require.Equal(t, time.Minute, time.Since(begun))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				var late net.Error
				require.ErrorAs(t, err, &late)
				require.True(t, late.Timeout())
			})
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://127.0.0.1:1", nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestWaysToDial(t *testing.T) {
	target := echoing(t, nil)
	host := strings.TrimPrefix(target, "ws://")
	var network, addr string
	d := websocket.Dialer{NetDial: func(n, a string) (net.Conn, error) {
		network, addr = n, a
		return net.Dial(n, host)
	}}
	c, _, err := d.Dial("ws://elsewhere.example", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"tcp", "elsewhere.example:80"}, []string{network, addr})
	requireEcho(t, c)

	d.NetDialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("the context's comes first")
	}
	_, _, err = d.Dial("ws://elsewhere.example", nil)
	require.ErrorContains(t, err, "the context's comes first")

	d.NetDialTLSContext = func(_ context.Context, n, a string) (net.Conn, error) {
		addr = a
		return net.Dial(n, host) // as if TLS had been done
	}
	c, _, err = d.Dial("wss://elsewhere.example", nil)
	require.NoError(t, err)
	require.Equal(t, "elsewhere.example:443", addr)
	requireEcho(t, c)
}

// wrapped is a connection of a type that nobody knows.
type wrapped struct{ net.Conn }

func TestTheConnectionThatWasDialedIsTheOneBelow(t *testing.T) {
	var dialed net.Conn
	target := echoing(t, nil)
	d := websocket.Dialer{NetDial: func(n, a string) (net.Conn, error) {
		conn, err := net.Dial(n, a)
		dialed = &wrapped{conn}
		return dialed, err
	}}
	c, _, err := d.Dial(target, nil)
	require.NoError(t, err)
	require.True(t, c.NetConn() == dialed, "%T", c.NetConn())
	requireEcho(t, c)
}

func TestNewClient(t *testing.T) {
	target, err := url.Parse(echoing(t, nil))
	require.NoError(t, err)
	conn, err := net.Dial("tcp", target.Host)
	require.NoError(t, err)
	c, resp, err := websocket.NewClient(conn, target, http.Header{"Origin": {"http://me.example"}}, 1024, 1024)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.True(t, c.NetConn() == conn)
	requireEcho(t, c)
}

// proxy is an HTTP proxy that makes tunnels, and tells of the hosts that it was asked for.
func proxy(t *testing.T, asked chan<- string) *url.URL {
	t.Helper()
	listener := wiretest.Listen(t, "tcp")
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				buffered := bufio.NewReader(in)
				r, err := http.ReadRequest(buffered)
				if err != nil || r.Method != http.MethodConnect {
					return
				}
				asked <- r.Host
				out, err := net.Dial("tcp", r.Host)
				if err != nil {
					return
				}
				defer out.Close()
				_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
				go func() { _, _ = io.Copy(out, buffered) }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return &url.URL{Scheme: "http", Host: listener.Addr().String()}
}

func TestDialThroughAProxy(t *testing.T) {
	asked := make(chan string, 1)
	through := proxy(t, asked)
	d := websocket.Dialer{Proxy: func(r *http.Request) (*url.URL, error) {
		require.Equal(t, "http", r.URL.Scheme)
		return through, nil
	}}
	target := echoing(t, nil)
	c, _, err := d.Dial(target, nil)
	require.NoError(t, err)
	require.Equal(t, strings.TrimPrefix(target, "ws://"), <-asked)
	requireEcho(t, c)

	d.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("no proxy for you") }
	_, _, err = d.Dial(target, nil)
	require.ErrorContains(t, err, "no proxy for you")
}

func TestASubprotocolThatIsNoToken(t *testing.T) {
	const name = "SPDY/3.1+portforward.k8s.io" // Kubernetes'
	client, server := inMemory(t, &websocket.Upgrader{Subprotocols: []string{name}}, &websocket.Dialer{Subprotocols: []string{"a", name}})
	require.Equal(t, name, client.Subprotocol())
	require.Equal(t, name, server.Subprotocol())
	for _, name := range []string{"", "a b", "a,b", "a\r\nb: c", "\u00e4"} {
		_, _, err := (&websocket.Dialer{Subprotocols: []string{name}}).Dial("ws://127.0.0.1:1", nil)
		require.ErrorContains(t, err, "expected a token", name)
	}
}
