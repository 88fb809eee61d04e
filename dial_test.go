package wsd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
)

func wsURL(server *httptest.Server) string { return "ws" + strings.TrimPrefix(server.URL, "http") }

func dialed(t *testing.T, url string, opts *wsd.DialOptions) *wsd.Conn {
	t.Helper()
	conn, resp, err := wsd.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	t.Cleanup(conn.CloseNow)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Equal(t, http.NoBody, resp.Body)
	return conn
}

// recording answers handshakes and keeps the requests.
func recording(t *testing.T, opts *wsd.AcceptOptions) (*httptest.Server, <-chan *http.Request) {
	t.Helper()
	requests := make(chan *http.Request, 16)
	echo := echoHandler(opts, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r.Clone(context.Background())
		echo.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server, requests
}

func TestDialSchemes(t *testing.T) {
	plain := httptest.NewServer(echoHandler(nil, nil))
	defer plain.Close()
	secure := httptest.NewTLSServer(echoHandler(nil, nil))
	defer secure.Close()
	plainAddr, secureAddr := plain.Listener.Addr().String(), secure.Listener.Addr().String()
	for _, url := range []string{
		"ws://" + plainAddr, "http://" + plainAddr + "/", "WS://" + plainAddr + "/a?b=c", "wss://" + secureAddr, "https://" + secureAddr,
	} {
		requireEcho(t, dialed(t, url, &wsd.DialOptions{HTTPClient: secure.Client()}), url)
	}
}

// RFC 6455, section 4.1: what the request must be.
func TestDialSendsTheHandshakeOfTheRFC(t *testing.T) {
	addr, heads := answering(t, func(string) string { return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" })
	_, _, err := wsd.Dial(t.Context(), "ws://"+addr+"/chat?room=1", &wsd.DialOptions{Subprotocols: []string{"b", "a"}})
	require.Error(t, err)
	head := <-heads
	require.True(t, strings.HasPrefix(head, "GET /chat?room=1 HTTP/1.1\r\nHost: "+addr+"\r\n"), head)
	for _, line := range []string{
		"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: b, a",
	} {
		require.Contains(t, head, "\r\n"+line+"\r\n")
	}
	_, key, found := strings.Cut(head, "\r\nSec-WebSocket-Key: ")
	require.True(t, found)
	nonce, err := base64.StdEncoding.DecodeString(key[:strings.Index(key, "\r\n")])
	require.NoError(t, err)
	require.Len(t, nonce, 16)
	require.NotContains(t, head, "Sec-WebSocket-Extensions")
	require.NotContains(t, head, "Origin")

	_, _, err = wsd.Dial(t.Context(), "ws://"+addr, nil)
	require.Error(t, err)
	require.NotContains(t, <-heads, key[:24], "a nonce is for one handshake")
}

// What the request line and Host contain for a URL, and for one that a redirect leads to.
func TestDialSendsWhatTheURLMeans(t *testing.T) {
	for _, test := range []struct{ name, url, target, host string }{
		{"RFC 6455, 3: no path", "ws://example.com?a=b", "/?a=b", "example.com"},
		{"RFC 6455, 4.1: the port of ws", "ws://example.com:80/", "/", "example.com"},
		{"RFC 6455, 4.1: another port", "ws://example.com:443/", "/", "example.com:443"},
		{"RFC 3986, 6.2.3: empty port", "ws://example.com:/", "/", "example.com"},
		{"RFC 3986, 3.2.2: IPv6", "ws://[2001:db8::80]:80/", "/", "[2001:db8::80]"},
		{"RFC 3986, 3.2.2: IPv6", "ws://[2001:db8::80]:8080/", "/", "[2001:db8::80]:8080"},
		{"RFC 6874, 4: zone", "ws://[fe80::1%25eth0]/", "/", "[fe80::1]"},
		{"RFC 5890: international", "ws://b\u00FCcher.example/", "/", "xn--bcher-kva.example"},
		{"RFC 3986, 3.3: path", "ws://example.com/a b/\u00FC", "/a%20b/%C3%BC", "example.com"},
		{"RFC 3986, 2.2: escaped slash", "ws://example.com/a%2Fb", "/a%2Fb", "example.com"},
		{"RFC 3986, 3.4: query", "ws://example.com/?a b=\u00FC%20\"<>&c[]='", "/?a%20b=%C3%BC%20%22%3C%3E&c[]='", "example.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, redirected := range []bool{false, true} {
				first, status := test.url, http.StatusNotFound
				if redirected {
					first, status = "ws://other.example/", http.StatusFound
				}
				addr, heads := answering(t, func(string) string {
					answer := fmt.Sprintf("HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, test.url)
					status = http.StatusNotFound
					return answer
				})
				client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, addr)
				}}}
				_, _, err := wsd.Dial(t.Context(), first, &wsd.DialOptions{HTTPClient: client})
				require.ErrorContains(t, err, "404")
				if redirected {
					<-heads
				}
				head := <-heads
				require.True(t, strings.HasPrefix(head, "GET "+test.target+" HTTP/1.1\r\nHost: "+test.host+"\r\n"), head)
			}
		})
	}
}

// answering is a server that answers each connection's first request with what answer returns for its key, and closes the
// connection when the client does.
func answering(t *testing.T, answer func(accept string) string) (addr string, heads <-chan string) {
	t.Helper()
	listener := wiretest.Listen(t, "tcp")
	requests := make(chan string, 16)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerOne(conn, requests, answer)
		}
	}()
	return listener.Addr().String(), requests
}

func answerOne(conn net.Conn, heads chan<- string, answer func(accept string) string) {
	defer func() { _ = conn.Close() }()
	var head bytes.Buffer
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &head)))
	if err != nil {
		return
	}
	if heads != nil {
		heads <- head.String()
	}
	if _, err := io.WriteString(conn, answer(acceptFor(r))); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn)
}

// acceptFor is RFC 6455, section 4.2.2, step 5.4.
func acceptFor(r *http.Request) string {
	var key string
	for name, values := range r.Header {
		if strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = values[0]
		}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func switching(accept string, more ...string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n" +
		strings.Join(append(more, "", ""), "\r\n")
}

func TestDialVerifiesTheAnswer(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(accept string) string
		header string // at fault
		says   string
	}{ // RFC 6455, section 4.1; handshake_test.go has the finer points
		{"status", func(string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" }, "", `expected the status 101 Switching Protocols, got "200 OK"`},
		{"no Upgrade", func(a string) string { return strings.Replace(switching(a), "Upgrade: websocket\r\n", "", 1) }, "Upgrade", "expected websocket, got none"},
		{"no Connection", func(a string) string { return strings.Replace(switching(a), "Connection: Upgrade\r\n", "", 1) }, "Connection", "expected the token Upgrade, got none"},
		{"wrong Accept", func(string) string { return switching("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") }, "Sec-WebSocket-Accept", "expected "},
		{"subprotocol", func(a string) string { return switching(a, "Sec-WebSocket-Protocol: c") }, "Sec-WebSocket-Protocol", `expected one of those asked for, "a, b", got "c"`},
		{"extension", func(a string) string { return switching(a, "Sec-WebSocket-Extensions: x-unknown") }, "Sec-WebSocket-Extensions", "expected none"},
		{"no HTTP", func(string) string { return "SSH-2.0-OpenSSH\r\n" }, "", "malformed"},
		{"nothing but the end", func(string) string { return "HTTP/1.1 101 Switching" }, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			closed := make(chan struct{})
			listener := wiretest.Listen(t, "tcp")
			go func() {
				defer close(closed)
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				if test.says == "" { // the server ends its bytes in the middle of its answer
					r, err := http.ReadRequest(bufio.NewReader(conn))
					if err == nil {
						_, _ = io.WriteString(conn, test.answer(acceptFor(r)))
					}
					_ = conn.Close()
					return
				}
				answerOne(conn, nil, test.answer)
			}()
			conn, resp, err := wsd.Dial(t.Context(), "ws://"+listener.Addr().String(), &wsd.DialOptions{
				Subprotocols: []string{"a", "b"}, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
			})
			require.Nil(t, conn)
			var failed *wsd.HandshakeError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, test.header, failed.Header)
			require.ErrorContains(t, err, test.says)
			require.True(t, strings.HasPrefix(err.Error(), "wsd: handshake failed: "), err.Error())
			require.Equal(t, resp, failed.Response)
			if resp != nil {
				require.Equal(t, resp.StatusCode, failed.StatusCode)
				_, err = io.ReadAll(resp.Body)
				require.NoError(t, err)
			}
			<-closed // the client has let go of its connection
		})
	}
}

// withClose is a server whose answer has these fields instead of Connection: Upgrade, behind interim answers if
// there is a +, and a message follows it. keys gets the
// key of each request.
func withClose(fields string, keys chan<- string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Sec-WebSocket-Key")
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		interim, final, found := strings.Cut(fields, "+")
		if !found {
			interim, final = "", fields
		}
		answer := strings.Replace(switching(acceptFor(r)), "Connection: Upgrade", final, 1)
		_, _ = io.WriteString(conn, interim+answer+"\x81\x05hello")
		_, _ = io.Copy(io.Discard, conn)
	})
}

// A server may mean by close beside Upgrade that HTTP is over, where net/http ends the connection.
func TestDialWhereConnectionHasClose(t *testing.T) {
	for name, fields := range map[string]string{
		"one field":       "Connection: Upgrade, close",
		"two fields":      "Connection: close\r\nConnection: upgrade",
		"spelled oddly":   "CONNECTION:CLOSE ,Upgrade, keep-alive",
		"behind interims": "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n+Connection: Upgrade, close",
	} {
		keys := make(chan string, 2)
		plain := httptest.NewServer(withClose(fields, keys))
		defer plain.Close()
		secure := httptest.NewTLSServer(withClose(fields, keys))
		defer secure.Close()
		proxy := connectProxy{targets: make(chan string, 2)}
		proxyServer := httptest.NewServer(proxy)
		defer proxyServer.Close()
		trust := func(t *http.Transport) {
			t.TLSClientConfig = &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
		}
		for kind, dial := range map[string]func(t *testing.T) *wsd.Conn{
			"plain": func(t *testing.T) *wsd.Conn { return dialed(t, wsURL(plain), nil) },
			"TLS": func(t *testing.T) *wsd.Conn {
				return dialed(t, wsURL(secure), &wsd.DialOptions{HTTPClient: secure.Client()})
			},
			"a tunnel":        func(t *testing.T) *wsd.Conn { return dialed(t, wsURL(plain), through(proxyServer.URL)) },
			"TLS in a tunnel": func(t *testing.T) *wsd.Conn { return dialed(t, wsURL(secure), through(proxyServer.URL, trust)) },
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				conn := dial(t)
				require.Equal(t, "hello", string((<-conn.Messages()).Data))
				require.NotEqual(t, <-keys, <-keys, "a second request has a key of its own")
				require.NotNil(t, conn.RemoteAddr())
				require.Equal(t, http.StatusSwitchingProtocols, conn.Response().StatusCode)
				for len(proxy.targets) > 0 {
					<-proxy.targets
				}
			})
		}
	}
}

// An answer with close that is not one to this protocol is refused, and in words that are true.
func TestDialWhereConnectionHasCloseInVain(t *testing.T) {
	for name, fields := range map[string]string{
		"alone":                "Connection: close",
		"beside a wrong one":   "Connection: close, Downgrade",
		"before a long header": "Connection: Upgrade, close\r\nX: " + strings.Repeat("x", 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(withClose(fields, make(chan string, 2)))
			defer server.Close()
			_, _, err := wsd.Dial(t.Context(), wsURL(server), nil)
			require.ErrorAs(t, err, new(*wsd.HandshakeError))
			require.NotContains(t, err.Error(), "none")
		})
	}
}

func TestDialAgreesOnASubprotocol(t *testing.T) {
	server, _ := accepting(t, &wsd.AcceptOptions{Subprotocols: []string{"b"}})
	conn := dialed(t, wsURL(server), &wsd.DialOptions{Subprotocols: []string{"a", "b"}})
	require.Equal(t, "b", conn.Subprotocol())
	conn = dialed(t, wsURL(server), &wsd.DialOptions{Subprotocols: []string{"a"}})
	require.Empty(t, conn.Subprotocol())
	require.Empty(t, conn.Extensions())
}

func TestDialNegotiatesCompression(t *testing.T) {
	compressing := wsd.Config{Compression: new(wsd.Compression)}
	extensions := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Config: compressing})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		extensions <- conn.Extensions()
		m, err := conn.Receive(context.Background())
		if err == nil {
			_ = conn.Send(context.Background(), m)
			_, _ = conn.Receive(context.Background())
		}
	}))
	defer server.Close()
	conn := dialed(t, wsURL(server), &wsd.DialOptions{Config: compressing})
	require.Contains(t, conn.Extensions(), "permessage-deflate")
	require.Equal(t, conn.Extensions(), <-extensions)
	requireEcho(t, conn, strings.Repeat("compressible ", 1000))

	conn = dialed(t, wsURL(server), nil)
	require.Empty(t, conn.Extensions(), "a client that does not offer")
	require.Empty(t, <-extensions)
	requireEcho(t, conn, "plain")

	declining, _ := accepting(t, nil)
	conn = dialed(t, wsURL(declining), &wsd.DialOptions{Config: compressing})
	require.Empty(t, conn.Extensions(), "a server that declines")
	requireEcho(t, conn, "plain")

	for _, answer := range []string{
		"x-unknown", "permessage-deflate, x-unknown", "permessage-deflate; unknown=1", "permessage-deflate, permessage-deflate",
	} { // RFC 6455, section 9.1, and RFC 7692, section 7.1
		addr, _ := answering(t, func(accept string) string { return switching(accept, "Sec-WebSocket-Extensions: "+answer) })
		_, _, err := wsd.Dial(t.Context(), "ws://"+addr, &wsd.DialOptions{Config: compressing})
		var failed *wsd.HandshakeError
		require.ErrorAs(t, err, &failed, answer)
		require.Equal(t, "Sec-WebSocket-Extensions", failed.Header)
	}
}

// RFC 7692, section 7.1.2.2: the window that a client offers is a hint. A server may answer with a larger one, and the
// client still compresses with its own (Compression.ClientMaxWindowBits), which a reader with that window proves.
func TestDialKeepsToItsOwnWindow(t *testing.T) {
	own := &wsd.Compression{ClientMaxWindowBits: 9}
	received := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rwc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(rwc, switching(acceptFor(r), "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15"))
		conn := wsd.NewConn(rwc, wsd.ServerRole, wsd.Config{Compression: own})
		defer conn.CloseNow()
		m, err := conn.Receive(context.Background())
		if err != nil {
			received <- err.Error()
			return
		}
		received <- string(m.Data)
	}))
	defer server.Close()
	conn := dialed(t, wsURL(server), &wsd.DialOptions{Config: wsd.Config{Compression: own}})
	require.Equal(t, "permessage-deflate; client_max_window_bits=15", conn.Extensions())
	var noise strings.Builder // what repeats is further back than 2^9 bytes
	for i := range 200 {
		fmt.Fprintf(&noise, "%x", sha1.Sum([]byte{byte(i)}))
	}
	require.NoError(t, conn.Send(t.Context(), wsd.Text(noise.String()+noise.String())))
	require.Equal(t, noise.String()+noise.String(), <-received)
}

func TestDialArguments(t *testing.T) {
	//lint:ignore SA1012 the mistake is what is tested
	_, _, err := wsd.Dial(nil, "ws://example.com", nil) //nolint:staticcheck
	require.ErrorIs(t, err, wsd.ErrNilContext)

	transport := roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("no I/O for what cannot be")
		return nil, errors.New("no")
	})
	for _, test := range []struct {
		name, url string
		opts      wsd.DialOptions
		says      string
	}{
		{"RFC 6455, 3: scheme", "ftp://example.com", wsd.DialOptions{}, `expected the scheme ws, wss, http or https in the URL "ftp://example.com"`},
		{"no scheme", "example.com/ws", wsd.DialOptions{}, "expected the scheme"},
		{"host for a scheme", "localhost:8080/ws", wsd.DialOptions{}, "expected the scheme"},
		{"empty", "", wsd.DialOptions{}, "expected the scheme"},
		{"RFC 6455, 3: fragment", "ws://example.com/#a", wsd.DialOptions{}, "expected no fragment"},
		{"RFC 6455, 3: empty fragment", "ws://example.com/#", wsd.DialOptions{}, "expected no fragment"},
		{"no host", "ws:///path", wsd.DialOptions{}, "expected a host"},
		{"no host but a port", "ws://:80", wsd.DialOptions{}, "expected a host"},
		{"opaque", "ws:example.com", wsd.DialOptions{}, "expected a host"},
		{"RFC 3986, 3.2.2: no host name", "ws://exam<ple.com", wsd.DialOptions{}, "expected a host name or address"},
		{"RFC 3986, 3.2.2: two ports", "ws://example.com:80:80", wsd.DialOptions{}, "expected a host name or address"},
		{"RFC 9110, 7.2: no Host", "ws://a", wsd.DialOptions{Header: http.Header{"Host": {"a b"}}}, `Host: expected host or host:port, got "a b"`},
		{"bad port", "ws://example.com:x", wsd.DialOptions{}, "expected a URL such as wss://example.com/path: invalid port"},
		{"RFC 9293, 3.1: port of more than 16 bits", "ws://example.com:65536", wsd.DialOptions{}, "expected a port from 1 to 65535"},
		{"port 0", "ws://example.com:0", wsd.DialOptions{}, "expected a port from 1 to 65535"},
		{"control character", "ws://example.com/\r\n", wsd.DialOptions{}, "expected a URL"},
		{"subprotocol with CR LF", "ws://a", wsd.DialOptions{Subprotocols: []string{"a\r\nb: c"}}, `Sec-WebSocket-Protocol: expected a token, got "a\r\nb: c"`},
		{"empty subprotocol", "ws://a", wsd.DialOptions{Subprotocols: []string{""}}, "expected a token"},
		{"RFC 6455, 4.1: subprotocol twice", "ws://a", wsd.DialOptions{Subprotocols: []string{"a", "b", "a"}}, "twice"},
		{"header with CR LF", "ws://a", wsd.DialOptions{Header: http.Header{"X-A": {"b\r\nc: d"}}}, "X-A: control character"},
		{"header of the handshake", "ws://a", wsd.DialOptions{Header: http.Header{"sec-websocket-key": {"x"}}}, "set by the handshake itself"},
		{"header of the handshake", "ws://a", wsd.DialOptions{Header: http.Header{"Connection": {"close"}}}, "set by the handshake itself"},
		{"header of the handshake", "ws://a", wsd.DialOptions{Header: http.Header{"Sec-Websocket-Protocol": {"chat"}}}, "use Subprotocols"},
		{"header of the handshake", "ws://a", wsd.DialOptions{Header: http.Header{"Sec-WebSocket-Extensions": {"x"}}}, "use Compression"},
		{"header name", "ws://a", wsd.DialOptions{Header: http.Header{"A B": {"x"}}}, "expected the name of a header field"},
		{"two Hosts", "ws://a", wsd.DialOptions{Header: http.Header{"Host": {"a", "b"}}}, "Host: expected one value"},
		{"two Hosts, spelled differently", "ws://a", wsd.DialOptions{Header: http.Header{"Host": {"a"}, "host": {"b"}}}, "Host: expected one value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opts.HTTPClient = &http.Client{Transport: transport}
			conn, resp, err := wsd.Dial(t.Context(), test.url, &test.opts)
			require.Nil(t, conn)
			require.Nil(t, resp)
			var failed *wsd.HandshakeError
			require.ErrorAs(t, err, &failed)
			require.ErrorContains(t, err, test.says)
		})
	}
	for _, url := range []string{"ftp://user:secret@example.com", "ws://user:secret@exam ple.com", "ws://user:secret@"} {
		_, _, err := wsd.Dial(t.Context(), url, nil)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestDialConnectionRefused(t *testing.T) {
	listener := wiretest.Listen(t, "tcp")
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, resp, err := wsd.Dial(t.Context(), "ws://"+addr, nil)
	require.Nil(t, resp)
	var failed *wsd.HandshakeError
	require.ErrorAs(t, err, &failed)
	var cause *net.OpError
	require.ErrorAs(t, err, &cause)
	require.NotContains(t, err.Error(), "Get ", "the caller has asked for no Get")
}

func TestDialUserInfoBecomesBasicAuthorization(t *testing.T) {
	server, requests := recording(t, nil)
	_, addr, _ := strings.Cut(server.URL, "://")
	dialed(t, "ws://user:p%40ss@"+addr, nil)
	name, password, ok := (<-requests).BasicAuth()
	require.True(t, ok)
	require.Equal(t, "user", name)
	require.Equal(t, "p@ss", password)

	dialed(t, "ws://user:pass@"+addr, &wsd.DialOptions{Header: http.Header{"Authorization": {"Bearer x"}}})
	require.Equal(t, []string{"Bearer x"}, (<-requests).Header.Values("Authorization"))
}

func TestDialHeader(t *testing.T) {
	server, requests := recording(t, &wsd.AcceptOptions{Origins: []string{"*"}})
	header := http.Header{"host": {"virtual.example"}, "Origin": {"http://page.example"}, "x-a": {"1"}, "X-A": {"2"}}
	dialed(t, wsURL(server), &wsd.DialOptions{Header: header})
	r := <-requests
	require.Equal(t, "virtual.example", r.Host)
	require.Equal(t, "http://page.example", r.Header.Get("Origin"))
	require.ElementsMatch(t, []string{"1", "2"}, r.Header.Values("X-A"))
	require.Equal(t, http.Header{"host": {"virtual.example"}, "Origin": {"http://page.example"}, "x-a": {"1"}, "X-A": {"2"}}, header,
		"the caller's header is only read")
}

// headLines returns the lines of a request's head that begin with one of the names, in any spelling, sorted by net/http.
func headLines(head string, names ...string) (lines []string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		for _, name := range names {
			if got, _, _ := strings.Cut(line, ":"); strings.EqualFold(got, name) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// Servers exist that mind how the name of a header field is spelled, so it stays as the caller has it, on every way to
// the server, as the documentation of DialOptions.Header says.
func TestDialKeepsTheSpellingOfHeaderNames(t *testing.T) {
	header := http.Header{
		"X-MBX-APIKEY": {"a"}, "x-lower": {"b"}, "X-Canonical": {"c"}, "x-twice": {"1", "2"}, "X-TWICE": {"3"},
		"hOST": {"virtual.example"}, "oRIGIN": {"http://page.example"}, "user-agent": {"me/1"}, "accept-encoding": {"identity"},
		"authorization": {"Bearer x"}, "COOKIE": {"a=b"}, "referer": {"http://page.example/"},
	}
	want := []string{
		"Host: virtual.example", "COOKIE: a=b", "X-Canonical: c", "X-MBX-APIKEY: a", "X-TWICE: 3", "accept-encoding: identity",
		"authorization: Bearer x", "oRIGIN: http://page.example", "referer: http://page.example/", "user-agent: me/1",
		"x-lower: b", "x-twice: 1", "x-twice: 2",
	}
	requireLines := func(t *testing.T, head string, want ...string) {
		t.Helper()
		require.ElementsMatch(t, want, headLines(head, "X-MBX-APIKEY", "X-Lower", "X-Canonical", "X-Twice", "Host", "Origin",
			"User-Agent", "Accept-Encoding", "Authorization", "Cookie", "Referer"), head)
	}
	proxy := httptest.NewServer(connectProxy{targets: make(chan string, 4)})
	defer proxy.Close()
	for name, opts := range map[string]*wsd.DialOptions{
		"straight":                    {},
		"through a proxy":             through(proxy.URL),
		"a transport of another make": {HTTPClient: &http.Client{Transport: roundTripper(http.DefaultTransport.RoundTrip)}},
	} {
		opts.Header = header.Clone()
		want := slices.Clone(want)
		beyond := []string{"Host: ", "X-Canonical: c", "X-MBX-APIKEY: a", "X-TWICE: 3", "accept-encoding: identity",
			"oRIGIN: http://page.example", "referer: http://page.example/", "user-agent: me/1", "x-lower: b", "x-twice: 1", "x-twice: 2"}
		if strings.Contains(name, "another make") {
			// net/http's transport, which it may have below, would add a second one.
			want[slices.Index(want, "accept-encoding: identity")] = "Accept-Encoding: identity"
			beyond[slices.Index(beyond, "accept-encoding: identity")] = "Accept-Encoding: identity"
		}
		t.Run(name, func(t *testing.T) {
			addr, heads := answering(t, func(accept string) string { return switching(accept) })
			dialed(t, "ws://"+addr, opts)
			requireLines(t, <-heads, want...)
			require.Equal(t, header, opts.Header, "the caller's header is only read")
		})
		t.Run(name+", redirected", func(t *testing.T) {
			target, targetHeads := answering(t, func(accept string) string { return switching(accept) })
			to := []string{"/within", "ws://" + target + "/beyond"}
			addr, heads := answering(t, func(string) string {
				answer := "HTTP/1.1 302 Found\r\nLocation: " + to[0] + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
				to = to[1:]
				return answer
			})
			dialed(t, "ws://"+addr, opts)
			requireLines(t, <-heads, want...)
			// net/http keeps a Host for relative redirects only.
			requireLines(t, <-heads, want...)
			beyond[0] += target
			requireLines(t, <-targetHeads, beyond...)
		})
	}
	t.Run("with a jar", func(t *testing.T) {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		addr, heads := answering(t, func(accept string) string { return switching(accept) })
		jar.SetCookies(&url.URL{Scheme: "http", Host: addr}, []*http.Cookie{{Name: "c", Value: "d"}})
		dialed(t, "ws://"+addr, &wsd.DialOptions{Header: http.Header{"COOKIE": {"a=b"}}, HTTPClient: &http.Client{Jar: jar}})
		require.Equal(t, []string{"COOKIE: a=b; c=d"}, headLines(<-heads, "Cookie"), "RFC 6265, section 5.4: one line")
	})
	t.Run("with user info", func(t *testing.T) {
		addr, heads := answering(t, func(accept string) string { return switching(accept) })
		dialed(t, "ws://user:pass@"+addr, &wsd.DialOptions{Header: http.Header{"authorization": {"Bearer x"}}})
		require.Equal(t, []string{"authorization: Bearer x"}, headLines(<-heads, "Authorization"))
	})
	for _, none := range [][]string{{""}, {}, nil} {
		t.Run(fmt.Sprintf("no User-Agent, %q", none), func(t *testing.T) {
			addr, heads := answering(t, func(accept string) string { return switching(accept) })
			dialed(t, "ws://"+addr, &wsd.DialOptions{Header: http.Header{"User-Agent": none}})
			require.Empty(t, headLines(<-heads, "User-Agent"), "as net/http has it")
		})
	}
}

// However credentials are spelled, by the caller or by the caller's policy, they do not leave the origin, as the package
// comment says.
func TestDialStripsCredentialsHoweverTheyAreSpelled(t *testing.T) {
	secrets := http.Header{}
	for _, name := range []string{"Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "Proxy-Authenticate", "Www-Authenticate"} {
		secrets[strings.ToLower(name)] = []string{"secret"}
		secrets[strings.ToUpper(name)] = []string{"secret"}
	}
	restore := func(req *http.Request, _ []*http.Request) error {
		for name, values := range secrets {
			req.Header[name] = values
		}
		return nil
	}
	for name, client := range map[string]*http.Client{
		"net/http's transport":        {},
		"a transport of another make": {Transport: roundTripper(http.DefaultTransport.RoundTrip)},
		"a policy that restores them": {CheckRedirect: restore},
	} {
		t.Run(name, func(t *testing.T) {
			target, heads := answering(t, func(accept string) string { return switching(accept) })
			redirects, _ := answering(t, func(string) string {
				return "HTTP/1.1 307 Temporary Redirect\r\nLocation: ws://" + target + "/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
			})
			header := secrets.Clone()
			header["x-kept"] = []string{"kept"}
			dialed(t, "ws://"+redirects, &wsd.DialOptions{HTTPClient: client, Header: header})
			head := <-heads
			require.NotContains(t, head, "secret")
			require.Contains(t, head, "\r\nx-kept: kept\r\n")
		})
	}
}

func TestDialCookieJar(t *testing.T) {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	server, requests := recording(t, &wsd.AcceptOptions{Header: http.Header{"Set-Cookie": {"seen=1; Path=/"}}})
	client := &http.Client{Jar: jar}
	dialed(t, wsURL(server), &wsd.DialOptions{HTTPClient: client})
	require.Empty(t, (<-requests).Header.Get("Cookie"))
	dialed(t, wsURL(server), &wsd.DialOptions{HTTPClient: client})
	require.Equal(t, "seen=1", (<-requests).Header.Get("Cookie"))
}

func TestDialFollowsRedirects(t *testing.T) {
	target, requests := recording(t, nil)
	credentials := func() http.Header {
		return http.Header{"Authorization": {"Bearer secret"}, "Cookie": {"a=secret"}, "Proxy-Authorization": {"secret"}, "X-Other": {"kept"}}
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		redirects := httptest.NewServer(http.RedirectHandler(wsURL(target)+"/new", status)) // to the scheme ws
		conn := dialed(t, wsURL(redirects)+"/old?token=secret", &wsd.DialOptions{Header: credentials()})
		requireEcho(t, conn, "redirected")
		r := <-requests
		require.Equal(t, "/new", r.URL.Path)
		require.Equal(t, "kept", r.Header.Get("X-Other"))
		for name, values := range r.Header {
			require.NotContains(t, strings.Join(values, " "), "secret", name) // another port is another origin
		}
		redirects.Close()
	}

	// Within the origin the credentials stay, including those of the URL.
	keys := make(chan string, 2)
	mux := http.NewServeMux()
	var origin *httptest.Server
	mux.HandleFunc("/old", func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Sec-WebSocket-Key")
		http.Redirect(w, r, origin.URL+"/new", http.StatusFound)
	})
	mux.HandleFunc("/new", func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Sec-WebSocket-Key")
		_, password, _ := r.BasicAuth()
		if password != "secret" || r.Header.Get("Cookie") != "a=secret" {
			http.Error(w, "credentials are missing", http.StatusUnauthorized)
			return
		}
		echoHandler(nil, nil).ServeHTTP(w, r)
	})
	origin = httptest.NewServer(mux)
	defer origin.Close()
	header := credentials()
	header.Del("Authorization")
	dialed(t, "ws://user:secret@"+origin.Listener.Addr().String()+"/old", &wsd.DialOptions{Header: header})
	require.NotEqual(t, <-keys, <-keys, "a nonce is for one request")
}

// chain is servers of which each redirects to the next, and the last is the handler's.
func TestDialKeepsCredentialsFromOriginsPassedThrough(t *testing.T) {
	seen := make(chan http.Header, 4)
	record := func(to *string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			seen <- r.Header.Clone()
			http.Redirect(w, r, *to, http.StatusTemporaryRedirect)
		}
	}
	var first, second, third, back string
	home := http.NewServeMux()
	home.HandleFunc("/first", record(&second))
	home.HandleFunc("/back", func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		echoHandler(nil, nil).ServeHTTP(w, r)
	})
	homeServer := httptest.NewServer(home)
	defer homeServer.Close()
	away := http.NewServeMux()
	away.HandleFunc("/second", record(&third))
	away.HandleFunc("/third", record(&back))
	awayServer := httptest.NewServer(away)
	defer awayServer.Close()
	first, second = wsURL(homeServer)+"/first", wsURL(awayServer)+"/second"
	third, back = "/third", homeServer.URL+"/back"

	// A policy that restores the whole header, as is often seen, changes nothing.
	client := &http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
		req.Header = via[0].Header.Clone()
		return nil
	}}
	dialed(t, first, &wsd.DialOptions{HTTPClient: client, Header: http.Header{"Authorization": {"Bearer secret"}, "Cookie": {"a=b"}}})
	require.Equal(t, "Bearer secret", (<-seen).Get("Authorization"))
	for _, hop := range []string{"second", "third", "back"} {
		h := <-seen
		require.Empty(t, h.Get("Authorization"), hop)
		require.Empty(t, h.Get("Cookie"), hop)
		require.Empty(t, h.Get("Referer"), hop)
	}
}

func TestDialRefusesRedirects(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	defer target.Close()
	t.Run("from wss to ws", func(t *testing.T) {
		for _, to := range []string{target.URL, wsURL(target)} {
			redirects := httptest.NewTLSServer(http.RedirectHandler(to, http.StatusFound))
			defer redirects.Close()
			_, resp, err := wsd.Dial(t.Context(), wsURL(redirects), &wsd.DialOptions{HTTPClient: redirects.Client()})
			require.ErrorContains(t, err, "redirected from wss to ws, which is refused")
			require.Equal(t, http.StatusFound, resp.StatusCode)
			_, err = io.ReadAll(resp.Body)
			require.NoError(t, err)
		}
	})
	t.Run("to another scheme", func(t *testing.T) {
		redirects := httptest.NewServer(http.RedirectHandler("file:///etc/passwd", http.StatusFound))
		defer redirects.Close()
		_, _, err := wsd.Dial(t.Context(), wsURL(redirects), nil)
		require.ErrorContains(t, err, `redirected to the scheme "file"`)
	})
	t.Run("to what is no host", func(t *testing.T) {
		for _, to := range []string{"ws://exam<ple.com/", "ws:///path"} {
			redirects := httptest.NewServer(http.RedirectHandler(to, http.StatusFound))
			defer redirects.Close()
			_, _, err := wsd.Dial(t.Context(), wsURL(redirects), nil)
			require.ErrorContains(t, err, "expected a host name or address", to)
		}
	})
	t.Run("in a circle", func(t *testing.T) {
		var requests atomic.Int32
		redirects := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			http.Redirect(w, r, "/again", http.StatusFound)
		}))
		defer redirects.Close()
		_, _, err := wsd.Dial(t.Context(), wsURL(redirects), nil)
		require.ErrorContains(t, err, "stopped after 10 redirects")
		require.EqualValues(t, 10, requests.Load())
	})
	t.Run("by the caller's policy", func(t *testing.T) {
		redirects := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
		defer redirects.Close()
		no := errors.New("not this one")
		_, _, err := wsd.Dial(t.Context(), wsURL(redirects), &wsd.DialOptions{HTTPClient: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return no },
		}})
		require.ErrorIs(t, err, no)
		_, resp, err := wsd.Dial(t.Context(), wsURL(redirects), &wsd.DialOptions{HTTPClient: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}})
		require.ErrorContains(t, err, `got "302 Found"`)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Contains(t, string(body), target.URL)
	})
}

func TestDialBoundsTheHeaderOfTheAnswer(t *testing.T) {
	addr, _ := answering(t, func(accept string) string { return switching(accept, "X: "+strings.Repeat("x", 2<<20)) })
	_, _, err := wsd.Dial(t.Context(), "ws://"+addr, nil)
	require.ErrorContains(t, err, "exceeded 1048576 bytes")
	roomy := &http.Client{Transport: &http.Transport{MaxResponseHeaderBytes: 4 << 20}}
	dialed(t, "ws://"+addr, &wsd.DialOptions{HTTPClient: roomy})
}

func TestDialErrorHasTheAnswersBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		if r.URL.Path == "/short" {
			_, _ = io.WriteString(w, "no coffee here")
			return
		}
		for { // an answer that never ends
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	_, resp, err := wsd.Dial(t.Context(), wsURL(server)+"/short", nil)
	var failed *wsd.HandshakeError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, http.StatusTeapot, failed.StatusCode)
	require.Same(t, resp, failed.Response)
	body, err := io.ReadAll(failed.Response.Body)
	require.NoError(t, err)
	require.Equal(t, "no coffee here", string(body))

	_, resp, err = wsd.Dial(t.Context(), wsURL(server)+"/endless", nil)
	require.ErrorAs(t, err, &failed)
	body, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Len(t, body, 64<<10)
}

func TestDialErrorSaysWhatTheAnswerSays(t *testing.T) {
	const status = `wsd: handshake failed: expected the status 101 Switching Protocols, got "400 Bad Request"`
	for name, test := range map[string]struct{ mediaType, body, says string }{
		"a line":              {"text/plain; charset=utf-8", "log in first\n", ", which says `log in first`"},
		"the first of three":  {"text/plain", "\nlog in first\r\nthen\ncome back", ", which says `log in first`"},
		"a quotation":         {"text/plain", `got "x"`, ", which says `got \"x\"`"},
		"a control character": {"text/plain", "\x1b[31mred", `, which says "\x1b[31mred"`},
		"a long line":         {"text/plain", strings.Repeat("x", 1000), ", which says `" + strings.Repeat("x", 256) + "`"},
		"a page":              {"text/html", "<h1>Bad Request</h1>", ""},
		"nothing":             {"text/plain", "", ""},
		"no type":             {"", "log in first", ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := answering(t, func(string) string {
				return fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
					test.mediaType, len(test.body), test.body)
			})
			_, resp, err := wsd.Dial(t.Context(), "ws://"+addr, nil)
			require.EqualError(t, err, status+test.says)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, test.body, string(body), "it can still be read")
		})
	}
}

// inBubble dials a server in memory, which serve plays.
func inBubble(t *testing.T, ctx context.Context, opts wsd.DialOptions, serve func(net.Conn)) (*wsd.Conn, *http.Response, error) {
	t.Helper()
	opts.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			serve(server)
		}()
		t.Cleanup(func() { <-ended }) // the client has let go of its connection
		return client, nil
	}}}
	return wsd.Dial(ctx, "ws://in.memory", &opts)
}

// Of lines that it cannot read net/http quotes all there is.
func TestDialErrorQuotesABoundedPart(t *testing.T) {
	long := strings.Repeat("\x00", 1<<18)
	for name, answer := range map[string]string{
		"status line": long + "\r\n\r\n",
		"field":       "HTTP/1.1 101 Switching Protocols\r\n" + long + "\r\n\r\n",
		"redirect":    "HTTP/1.1 302 Found\r\nLocation: http://[" + strings.Repeat("ä", 1<<17) + "\r\n\r\n",
	} {
		addr, _ := answering(t, func(string) string { return answer })
		_, _, err := wsd.Dial(t.Context(), "ws://"+addr, nil)
		var failed *wsd.HandshakeError
		require.ErrorAs(t, err, &failed, name)
		require.Greater(t, len(failed.Err.Error()), 1<<17, "%s: the cause itself is whole", name)
		require.Less(t, len(err.Error()), 1200, name)
		require.True(t, utf8.ValidString(err.Error()), name)
	}
}

func trickle(conn net.Conn, text string) {
	for _, b := range []byte(text) {
		if _, err := conn.Write([]byte{b}); err != nil {
			break
		}
		<-time.After(time.Second)
	}
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

func TestDialIsBoundedAgainstAnAnswerThatTrickles(t *testing.T) {
	serve := func(before, after string) func(net.Conn) {
		return func(conn net.Conn) {
			_, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				_, _ = io.WriteString(conn, before)
			}
			trickle(conn, after)
		}
	}
	headers := serve("", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")
	t.Run("default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			_, resp, err := inBubble(t, t.Context(), wsd.DialOptions{}, headers)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no answer within 10s")
			require.Nil(t, resp)
			require.Equal(t, 10*time.Second, time.Since(begin))
		})
	})
	t.Run("option", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			_, _, err := inBubble(t, t.Context(), wsd.DialOptions{HandshakeTimeout: 3 * time.Second}, headers)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 3*time.Second, time.Since(begin))
		})
	})
	t.Run("context, with the option off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, _, err := inBubble(t, ctx, wsd.DialOptions{HandshakeTimeout: -1}, headers)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 20*time.Second, time.Since(begin))
		})
	})
	t.Run("context's cause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			reason := errors.New("changed my mind")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(2*time.Second, func() { cancel(reason) })
			_, _, err := inBubble(t, ctx, wsd.DialOptions{}, headers)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, reason)
		})
	})
	t.Run("context done before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := wsd.Dial(ctx, "ws://127.0.0.1:1", nil)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("body", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			_, resp, err := inBubble(t, t.Context(), wsd.DialOptions{},
				serve("HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n", strings.Repeat("x", 100)))
			require.ErrorContains(t, err, `got "403 Forbidden"`)
			require.Equal(t, 10*time.Second, time.Since(begin))
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NotEmpty(t, body, "what had come can be read")
			require.Less(t, len(body), 12)
		})
	})
}

func TestDialIsBoundedAgainstTLSThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer close(ended)
				_, _ = io.Copy(io.Discard, server)
			}()
			return client, nil
		}}}
		_, _, err := wsd.Dial(t.Context(), "wss://in.memory", &wsd.DialOptions{HTTPClient: client})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		<-ended // net/http alone would continue the TLS handshake for ever
	})
}

func TestDialSpeaksHTTP1ToServersThatHaveHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(echoHandler(nil, nil))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	requireEcho(t, dialed(t, wsURL(server), &wsd.DialOptions{HTTPClient: server.Client()}), "HTTP/1.1")
}

// Over a connection for which TLS has agreed on HTTP/2, a server ends its bytes or sends frames that are no HTTP/1.1. The
// documentation of DialOptions.HTTPClient says what must not be offered.
func TestDialNamesAConnectionForHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(echoHandler(nil, nil))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	proxy := httptest.NewUnstartedServer(connectProxy{targets: make(chan string, 1)})
	proxy.EnableHTTP2 = true
	proxy.StartTLS()
	defer proxy.Close()
	config := &tls.Config{
		RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, NextProtos: []string{"h2", "http/1.1"},
		ServerName: "example.com",
	}
	dialTLS := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
	}
	const says = "expected HTTP/1.1 to be agreed on by TLS, got h2"
	for name, test := range map[string]struct {
		opts  *wsd.DialOptions
		fails bool
	}{
		"TLSClientConfig":             {&wsd.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: config}}}, false},
		"TLSClientConfig, to a proxy": {through(proxy.URL, func(t *http.Transport) { t.TLSClientConfig = config }), false},
		"DialTLSContext":              {&wsd.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialTLSContext: dialTLS}}}, true},
		"DialTLSContext that leaves the TLS handshake to others": {&wsd.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				return tls.Client(conn, config), err
			},
		}}}, true},
		"DialTLS": {&wsd.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
			//lint:ignore SA1019 it is what is tested
			DialTLS: func(network, addr string) (net.Conn, error) { return tls.Dial(network, addr, config) },
		}}}, true},
		"DialTLSContext, below a transport of another make": {&wsd.DialOptions{HTTPClient: &http.Client{
			Transport: roundTripper((&http.Transport{DialTLSContext: dialTLS}).RoundTrip),
		}}, true},
		"DialTLSContext, to a proxy": {through(proxy.URL, func(t *http.Transport) { t.DialTLSContext = dialTLS }), true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, resp, err := wsd.Dial(t.Context(), wsURL(server), test.opts)
			if !test.fails {
				require.NoError(t, err)
				defer conn.CloseNow()
				requireEcho(t, conn, name)
				return
			}
			require.ErrorContains(t, err, says)
			require.Nil(t, resp)
			var failed *wsd.HandshakeError
			require.ErrorAs(t, err, &failed)
			require.NotNil(t, failed.Err, "what net/http says")
		})
	}
	t.Run("a server that says nothing", func(t *testing.T) {
		silent, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates, NextProtos: []string{"h2"}})
		require.NoError(t, err)
		defer func() { _ = silent.Close() }()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1)) // the request has come
			cancel()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}()
		_, _, err = wsd.Dial(ctx, "wss://"+silent.Addr().String(), &wsd.DialOptions{
			HTTPClient: &http.Client{Transport: &http.Transport{DialTLSContext: dialTLS}},
		})
		require.ErrorContains(t, err, says)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestDialHonoursTheClientsTimeoutForTheHandshakeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := listenInMemory(net.Pipe)
		server := &http.Server{Handler: echoHandler(nil, nil)}
		go func() { _ = server.Serve(listener) }()
		defer func() { _ = server.Close() }()
		client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return listener.dial(ctx) },
		}}
		conn, _, err := wsd.Dial(t.Context(), "ws://in.memory", &wsd.DialOptions{HTTPClient: client})
		require.NoError(t, err)
		<-time.After(time.Hour)
		requireEcho(t, conn, "an hour later")
		require.Equal(t, time.Second, client.Timeout)
		conn.CloseNow()

		client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		begin := time.Now()
		_, _, err = wsd.Dial(t.Context(), "ws://in.memory", &wsd.DialOptions{HTTPClient: client})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begin))
	})
}

func TestDialContextBoundsTheHandshakeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := listenInMemory(net.Pipe)
		server := &http.Server{Handler: echoHandler(nil, nil)}
		go func() { _ = server.Serve(listener) }()
		defer func() { _ = server.Close() }()
		transport := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return listener.dial(ctx) },
		}
		var lasting context.Context
		for name, rt := range map[string]http.RoundTripper{
			"net/http's transport": transport,
			"one that ties the body to the context": roundTripper(func(r *http.Request) (*http.Response, error) {
				lasting = r.Context()
				resp, err := transport.RoundTrip(r)
				if err == nil {
					context.AfterFunc(r.Context(), func() { _ = resp.Body.Close() })
				}
				return resp, err
			}),
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			conn, _, err := wsd.Dial(ctx, "ws://in.memory", &wsd.DialOptions{HTTPClient: &http.Client{Transport: rt}})
			require.NoError(t, err, name)
			cancel()
			synctest.Wait()
			requireEcho(t, conn, "after the cancellation")
			<-time.After(time.Hour)
			requireEcho(t, conn, "after the deadline")
			conn.CloseNow()
		}
		require.NoError(t, lasting.Err())
	})
}

func TestDialGivesUpAConnectionThatComesTooLate(t *testing.T) {
	server, _ := accepting(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var body io.ReadCloser
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			body = resp.Body
		}
		cancel()
		return resp, err
	})}
	conn, resp, err := wsd.Dial(ctx, wsURL(server), &wsd.DialOptions{HTTPClient: client})
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, conn)
	require.Nil(t, resp)
	_, err = body.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
}

// behind is a server that sends text messages in the same write as its 101, so that net/http reads some of them.
func behind(count int) func(accept string) string {
	return func(accept string) string {
		var b strings.Builder
		b.WriteString(switching(accept))
		for i := range count {
			fmt.Fprintf(&b, "\x81\x05%05d", i)
		}
		return b.String()
	}
}

func requireNumbers(t *testing.T, conn *wsd.Conn, count int) {
	t.Helper()
	for i := range count {
		m, err := conn.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%05d", i), string(m.Data))
	}
}

func TestDialKeepsFramesBehindTheAnswer(t *testing.T) {
	for _, count := range []int{1, 500, 5000} { // less and more than net/http's buffer
		addr, _ := answering(t, behind(count))
		t.Run(fmt.Sprint("TCP ", count), func(t *testing.T) {
			requireNumbers(t, dialed(t, "ws://"+addr, nil), count)
		})
		t.Run(fmt.Sprint("a connection of another make ", count), func(t *testing.T) {
			transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				return otherConn{conn}, err
			}}
			requireNumbers(t, dialed(t, "ws://"+addr, &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}), count)
		})
		t.Run(fmt.Sprint("a transport of another make ", count), func(t *testing.T) {
			transport := roundTripper(http.DefaultTransport.RoundTrip)
			requireNumbers(t, dialed(t, "ws://"+addr, &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}), count)
		})
		t.Run(fmt.Sprint("TLS ", count), func(t *testing.T) {
			certified := httptest.NewTLSServer(nil)
			defer certified.Close()
			listener, err := tls.Listen("tcp", "127.0.0.1:0", certified.TLS)
			require.NoError(t, err)
			defer func() { _ = listener.Close() }()
			go func() {
				conn, err := listener.Accept()
				if err == nil {
					answerOne(conn, nil, behind(count))
				}
			}()
			conn := dialed(t, "wss://"+listener.Addr().String(), &wsd.DialOptions{HTTPClient: certified.Client()})
			requireNumbers(t, conn, count)
		})
	}
}

// otherConn is a connection that is not known to be a socket, and has deadlines that do nothing.
type otherConn struct{ net.Conn }

func (otherConn) SetReadDeadline(time.Time) error { return nil }

// halfConn reports calls to CloseWrite.
type halfConn struct {
	*net.TCPConn
	closedWrite chan struct{}
}

func (c halfConn) CloseWrite() error {
	close(c.closedWrite)
	return c.TCPConn.CloseWrite()
}

func TestDialKeepsCloseWriteOfAConnectionOfAnotherMake(t *testing.T) {
	addr, _ := answering(t, func(accept string) string { return switching(accept) + "\x83\x00" }) // RFC 6455, section 5.2: reserved
	half := halfConn{closedWrite: make(chan struct{})}
	conn := dialed(t, "ws://"+addr, &wsd.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				half.TCPConn = conn.(*net.TCPConn)
			}
			return half, err
		},
	}}})
	<-half.closedWrite
	<-conn.Closed()
	require.Equal(t, wsd.StatusProtocolError, conn.CloseEvent().Code)
}

// stuckConn is a connection whose peer stops reading when told to.
type stuckConn struct {
	net.Conn
	stuck  atomic.Bool
	waited atomic.Bool // for longer than an abort may take
	once   sync.Once
	closed chan struct{}
}

func (c *stuckConn) Write(b []byte) (int, error) {
	if !c.stuck.Load() {
		return c.Conn.Write(b)
	}
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case <-timer.C:
		c.waited.Store(true)
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Closing a TLS connection takes a write, for which crypto/tls allows five seconds: CloseNow has to close the innermost
// connection, below every layer of TLS.
func TestCloseNowOverTLSDoesNotWaitForThePeer(t *testing.T) {
	server := httptest.NewTLSServer(echoHandler(nil, nil))
	defer server.Close()
	proxy := httptest.NewTLSServer(connectProxy{targets: make(chan string, 1)})
	defer proxy.Close()
	for name, proxyURL := range map[string]string{"to the server": "", "to a proxy, and within that to the server": proxy.URL} {
		t.Run(name, func(t *testing.T) {
			stuck := &stuckConn{closed: make(chan struct{})}
			transport := server.Client().Transport.(*http.Transport).Clone()
			transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				var err error
				stuck.Conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return stuck, err
			}
			if proxyURL != "" {
				transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxyURL) }
			}
			conn, _, err := wsd.Dial(t.Context(), wsURL(server), &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}})
			require.NoError(t, err)
			stuck.stuck.Store(true)
			conn.CloseNow()
			require.False(t, stuck.waited.Load())
		})
	}
}

func TestDialThroughAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := &http.Server{Handler: echoHandler(nil, nil)}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	requireEcho(t, dialed(t, "ws://localhost/", &wsd.DialOptions{HTTPClient: client}), "over a unix socket")
}

// connectProxy is a small HTTP proxy that knows only CONNECT, and asks for a password if it has one.
type connectProxy struct {
	password string
	targets  chan string
}

func (p connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+p.password)); p.password != "" &&
		r.Header.Get("Proxy-Authorization") != want {
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	p.targets <- r.Host + r.Header.Get("X-Tunnel")
	server, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = server.Close()
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connected\r\n\r\n")
	splice(client, server)
}

// splice copies both ways until either side ends.
func splice(a, b net.Conn) {
	go func() {
		_, _ = io.Copy(a, b)
		_ = a.Close()
		_ = b.Close()
	}()
	_, _ = io.Copy(b, a)
	_ = a.Close()
	_ = b.Close()
}

func through(proxy string, change ...func(*http.Transport)) *wsd.DialOptions {
	u, err := url.Parse(proxy)
	if err != nil {
		panic(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(u), DisableKeepAlives: true}
	for _, f := range change {
		f(transport)
	}
	return &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}
}

// What the package comment says of a RoundTripper that wraps a Transport with a proxy, and of the ways out.
func TestDialThroughAnHTTPProxyBelowARoundTripper(t *testing.T) {
	plain := httptest.NewServer(echoHandler(nil, nil))
	defer plain.Close()
	secure := httptest.NewTLSServer(echoHandler(nil, nil))
	defer secure.Close()
	proxy := connectProxy{targets: make(chan string, 1)}
	proxyServer := httptest.NewServer(proxy)
	defer proxyServer.Close()
	opts := through("http://"+proxyServer.Listener.Addr().String(), func(t *http.Transport) {
		t.TLSClientConfig = &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	})
	opts.HTTPClient.Transport = roundTripper(opts.HTTPClient.Transport.RoundTrip)

	_, _, err := wsd.Dial(t.Context(), wsURL(plain), opts)
	require.ErrorContains(t, err, "CONNECT only", "the proxy is asked for an http URL")
	conn := dialed(t, wsURL(secure), opts)
	require.Equal(t, secure.Listener.Addr().String(), <-proxy.targets)
	requireEcho(t, conn, "wss through CONNECT")
}

func TestDialThroughAnHTTPProxy(t *testing.T) {
	plain := httptest.NewServer(echoHandler(nil, nil))
	defer plain.Close()
	secure := httptest.NewTLSServer(echoHandler(nil, nil))
	defer secure.Close()
	trust := func(t *http.Transport) {
		t.TLSClientConfig = &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	}
	proxy := connectProxy{password: "open", targets: make(chan string, 1)}
	proxyServer := httptest.NewServer(proxy)
	defer proxyServer.Close()
	addr := proxyServer.Listener.Addr().String()

	// RFC 6455, section 4.1: both schemes ask for a tunnel.
	conn := dialed(t, wsURL(plain), through("http://user:open@"+addr))
	require.Equal(t, plain.Listener.Addr().String(), <-proxy.targets)
	requireEcho(t, conn, "ws through CONNECT")
	conn = dialed(t, wsURL(secure), through("http://user:open@"+addr, trust))
	require.Equal(t, secure.Listener.Addr().String(), <-proxy.targets)
	requireEcho(t, conn, "wss through CONNECT")

	for _, target := range []*httptest.Server{plain, secure} {
		_, _, err := wsd.Dial(t.Context(), wsURL(target), through("http://user:wrong@"+addr, trust))
		require.ErrorContains(t, err, "Proxy Authentication Required")
		require.Empty(t, proxy.targets)
	}

	// The transport's other settings for CONNECT apply to ws too.
	answers := make(chan int, 1)
	conn = dialed(t, wsURL(plain), through("http://user:open@"+addr, func(t *http.Transport) {
		t.GetProxyConnectHeader = func(_ context.Context, _ *url.URL, target string) (http.Header, error) {
			return http.Header{"X-Tunnel": {"|" + target}}, nil
		}
		t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			answers <- resp.StatusCode
			return nil
		}
	}))
	require.Equal(t, plain.Listener.Addr().String()+"|"+plain.Listener.Addr().String(), <-proxy.targets)
	require.Equal(t, http.StatusOK, <-answers)
	requireEcho(t, conn, "with hooks")

	// A proxy that speaks TLS itself.
	open := connectProxy{targets: make(chan string, 1)}
	secureProxy := httptest.NewTLSServer(open)
	defer secureProxy.Close()
	for _, target := range []*httptest.Server{plain, secure} {
		conn = dialed(t, wsURL(target), through(secureProxy.URL, trust))
		require.Equal(t, target.Listener.Addr().String(), <-open.targets)
		requireEcho(t, conn, "through a proxy with TLS")
	}
	conn = dialed(t, wsURL(plain), through(secureProxy.URL, trust, func(t *http.Transport) {
		config := t.TLSClientConfig
		t.TLSClientConfig = nil
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
		}
	}))
	require.Equal(t, plain.Listener.Addr().String(), <-open.targets)
	requireEcho(t, conn, "through the caller's own TLS")
	_, _, err := wsd.Dial(t.Context(), wsURL(plain), through(secureProxy.URL, func(t *http.Transport) {
		t.TLSHandshakeTimeout = time.Nanosecond
	}))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, _, err = wsd.Dial(t.Context(), wsURL(plain), through(secureProxy.URL))
	var untrusted *tls.CertificateVerificationError
	require.ErrorAs(t, err, &untrusted)
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)
}

func TestDialThroughAnHTTPProxyFollowsRedirects(t *testing.T) {
	target := httptest.NewServer(echoHandler(nil, nil))
	defer target.Close()
	redirects := httptest.NewServer(http.RedirectHandler(wsURL(target), http.StatusFound))
	defer redirects.Close()
	proxy := connectProxy{targets: make(chan string, 2)}
	proxyServer := httptest.NewServer(proxy)
	defer proxyServer.Close()
	requireEcho(t, dialed(t, wsURL(redirects), through(proxyServer.URL)), "redirected")
	require.Equal(t, redirects.Listener.Addr().String(), <-proxy.targets)
	require.Equal(t, target.Listener.Addr().String(), <-proxy.targets)
}

func TestDialProxyFailures(t *testing.T) {
	for _, target := range []string{"ws://example.invalid", "wss://example.invalid"} {
		t.Run(target, func(t *testing.T) { testDialProxyFailures(t, target) })
	}
}

func testDialProxyFailures(t *testing.T, target string) {
	dial := func(answer string) error {
		addr, _ := answering(t, func(string) string { return answer })
		_, _, err := wsd.Dial(t.Context(), target, through("http://"+addr))
		return err
	}
	require.ErrorContains(t, dial("HTTP/1.1 502 Bad Gateway\r\n\r\n"), `expected a status 2xx for CONNECT, got "502 Bad Gateway"`)
	require.ErrorContains(t, dial("HTTP/1.1 101 Switching Protocols\r\n\r\n"), `expected a status 2xx for CONNECT, got "101 Switching Protocols"`)
	require.ErrorContains(t, dial("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 No\r\n\r\n"), `got "407 No"`)
	require.ErrorContains(t, dial(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1<<16)), "of at most 1048576 bytes, got more")
	require.ErrorContains(t, dial("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101"), "bytes came behind the answer to CONNECT")
	require.ErrorContains(t, dial("HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 1<<18)), "expected an answer to CONNECT of at most 1048576 bytes, got more")
	require.ErrorContains(t, dial("nonsense\r\n\r\n"), "malformed")
	// What a proxy says is quoted, and not all of it.
	require.ErrorContains(t, dial("HTTP/1.1 403 \x1b[31m"+strings.Repeat("x", 1<<16)+"\r\n\r\n"), `got "403 \x1b[31mxxx`)
	require.Less(t, len(dial("HTTP/1.1 403 "+strings.Repeat("x", 1<<16)+"\r\n\r\n").Error()), 1<<8)

	no := errors.New("no")
	for name, change := range map[string]func(*http.Transport){
		"no proxy known": func(t *http.Transport) { t.Proxy = func(*http.Request) (*url.URL, error) { return nil, no } },
		"no connection": func(t *http.Transport) {
			t.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, no }
		},
		"no header known": func(t *http.Transport) {
			t.GetProxyConnectHeader = func(context.Context, *url.URL, string) (http.Header, error) { return nil, no }
		},
		"answer disliked": func(t *http.Transport) {
			t.OnProxyConnectResponse = func(context.Context, *url.URL, *http.Request, *http.Response) error { return no }
		},
	} {
		addr, _ := answering(t, func(string) string { return "HTTP/1.1 200 OK\r\n\r\n" })
		_, _, err := wsd.Dial(t.Context(), target, through("http://"+addr, change))
		require.ErrorIs(t, err, no, name)
	}
	// Here net/http calls it in a goroutine of its own, which nobody could keep from ending the program.
	for _, proxy := range []string{"http://proxy.invalid", "https://proxy.invalid"} {
		_, _, err := wsd.Dial(t.Context(), target, through(proxy, func(t *http.Transport) {
			t.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, nil }
		}))
		require.ErrorContains(t, err, "expected a connection from the transport's dial function, got none")
	}
}

func TestDialIsBoundedAgainstAProxyThatTrickles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		opts := through("http://proxy.memory", func(transport *http.Transport) {
			transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() {
					defer close(ended)
					if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
						trickle(server, "HTTP/1.1 200 OK\r\n\r\n")
					}
				}()
				return client, nil
			}
		})
		begin := time.Now()
		_, _, err := wsd.Dial(t.Context(), "ws://in.memory", opts)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(begin))
		<-ended
	})
}

// serveSOCKS5 is a proxy by RFC 1928, without authentication and for one connection.
func serveSOCKS5(listener net.Listener, targets chan<- string) {
	client, err := listener.Accept()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	var head [5]byte
	if _, err := io.ReadFull(client, head[:2]); err != nil { // version, number of methods
		return
	}
	if _, err := io.CopyN(io.Discard, client, int64(head[1])); err != nil {
		return
	}
	_, _ = client.Write([]byte{5, 0})
	if _, err := io.ReadFull(client, head[:4]); err != nil || head[3] != 1 { // CONNECT to an IPv4 address
		return
	}
	var to [6]byte
	if _, err := io.ReadFull(client, to[:]); err != nil {
		return
	}
	addr := fmt.Sprintf("%d.%d.%d.%d:%d", to[0], to[1], to[2], to[3], int(to[4])<<8|int(to[5]))
	targets <- addr
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	_, _ = client.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0})
	splice(client, server)
}

func TestDialThroughASOCKS5Proxy(t *testing.T) {
	server := httptest.NewServer(echoHandler(nil, nil))
	defer server.Close()
	listener := wiretest.Listen(t, "tcp")
	targets := make(chan string, 1)
	go serveSOCKS5(listener, targets)
	conn := dialed(t, wsURL(server), through("socks5://"+listener.Addr().String()))
	require.Equal(t, server.Listener.Addr().String(), <-targets)
	requireEcho(t, conn, "through SOCKS5")
}

func TestDialWantsATransportThatHandsItsConnectionOver(t *testing.T) {
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 101, Status: "101 Switching Protocols", Body: io.NopCloser(strings.NewReader("")), Request: r,
			Header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {acceptFor(r)}},
		}, nil
	})
	_, _, err := wsd.Dial(t.Context(), "ws://example.com", &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	require.ErrorContains(t, err, "gives no connection to write to")
}

func TestDialLeavesTheCallersClientAlone(t *testing.T) {
	server, _ := accepting(t, nil)
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	before := *client
	dialed(t, wsURL(server), &wsd.DialOptions{HTTPClient: client})
	require.Equal(t, before.Timeout, client.Timeout)
	require.Nil(t, client.CheckRedirect)
	require.Same(t, transport, client.Transport)
	require.NotNil(t, transport.Proxy)
	require.Nil(t, transport.DialContext)
}

func TestDialThroughAProxyByTheDeprecatedDial(t *testing.T) {
	server, _ := accepting(t, nil)
	proxy := connectProxy{targets: make(chan string, 2)}
	proxyServer := httptest.NewServer(proxy)
	defer proxyServer.Close()
	var calls atomic.Int32
	requireEcho(t, dialed(t, wsURL(server), through("http://proxy.invalid", func(t *http.Transport) {
		//lint:ignore SA1019 it is what is tested
		t.Dial = func(network, addr string) (net.Conn, error) {
			calls.Add(1)
			return net.Dial(network, proxyServer.Listener.Addr().String())
		}
	})), "through the caller's dial")
	require.EqualValues(t, 1, calls.Load())

	secureProxy := httptest.NewTLSServer(proxy)
	defer secureProxy.Close()
	requireEcho(t, dialed(t, wsURL(server), through("https://proxy.invalid", func(t *http.Transport) {
		//lint:ignore SA1019 it is what is tested
		t.DialTLS = func(network, addr string) (net.Conn, error) {
			calls.Add(1)
			return tls.Dial(network, secureProxy.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		}
	})), "through the caller's TLS")
	require.EqualValues(t, 2, calls.Load())
}

// To connect to a unix socket, set the transport's DialContext.
func ExampleDial_unixSocket() {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", "/run/feed.sock")
		},
	}}
	conn, _, err := wsd.Dial(context.Background(), "ws://localhost/feed", &wsd.DialOptions{HTTPClient: client})
	if err != nil {
		fmt.Println("nobody listens")
		return
	}
	defer conn.CloseNow()
	// Output: nobody listens
}

// A TLS configuration, here with its own root certificate, is set in the transport too.
func ExampleDial_tls() {
	server := httptest.NewTLSServer(&wsd.Server{Handler: func(conn *wsd.Conn) {
		_ = conn.Send(conn.Context(), wsd.Text("hello over TLS"))
		_, _ = conn.Receive(conn.Context())
	}})
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	conn, _, err := wsd.Dial(context.Background(), server.URL, &wsd.DialOptions{HTTPClient: client})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.CloseNow()
	m, _ := conn.Receive(context.Background())
	fmt.Println(string(m.Data))
	// Output: hello over TLS
}

// A proxy, HTTP or SOCKS5, is taken from the environment or from the transport.
func ExampleDial_proxy() {
	server := httptest.NewServer(&wsd.Server{Handler: func(conn *wsd.Conn) {
		_ = conn.Send(conn.Context(), wsd.Text("hello through a proxy"))
		_, _ = conn.Receive(conn.Context())
	}})
	defer server.Close()
	proxy := httptest.NewServer(connectProxy{password: "open", targets: make(chan string, 1)})
	defer proxy.Close()

	proxyURL, _ := url.Parse("http://user:open@" + proxy.Listener.Addr().String())
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxyURL)}}
	conn, _, err := wsd.Dial(context.Background(), server.URL, &wsd.DialOptions{HTTPClient: client})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.CloseNow()
	m, _ := conn.Receive(context.Background())
	fmt.Println(string(m.Data))
	// Output: hello through a proxy
}

// The error of a failed handshake tells what the server said.
func ExampleHandshakeError() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "members only", http.StatusForbidden)
	}))
	defer server.Close()
	_, _, err := wsd.Dial(context.Background(), server.URL, nil)
	var failed *wsd.HandshakeError
	if errors.As(err, &failed) && failed.Response != nil {
		body, _ := io.ReadAll(failed.Response.Body)
		fmt.Printf("%v\n%s", failed, body)
	}
	// Output:
	// wsd: handshake failed: expected the status 101 Switching Protocols, got "403 Forbidden", which says `members only`
	// members only
}
