package wsd_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/wiretest"
)

// The example of RFC 6455, section 1.3.
const (
	exampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	exampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func TestAcceptRefusals(t *testing.T) {
	server, results := accepting(t, nil)
	request := func(remove string, add ...string) string { return rawRequest(remove, add...) }
	for _, test := range []struct {
		name, request string
		status        int
		header        string // at fault
		says          string
	}{
		{"RFC 6455, 4.2.1: GET", strings.Replace(request(""), "GET", "POST", 1), 405, "", `expected the method GET, got "POST"`},
		{"RFC 6455, 4.2.1: GET, not HEAD", strings.Replace(request(""), "GET", "HEAD", 1), 405, "", ""},
		{"RFC 6455, 4.2.1: HTTP/1.1", strings.Replace(request(""), "HTTP/1.1", "HTTP/1.0", 1), 400, "", `expected HTTP/1.1 or later, got "HTTP/1.0"`},
		{"RFC 6455, 4.2.1: empty Host", request("Host", "Host:"), 400, "Host", "expected a host"},
		{"RFC 6455, 4.2.1: no Upgrade", request("Upgrade"), 426, "Upgrade", "expected the token websocket, got none"},
		{"RFC 6455, 4.2.1: other Upgrade", request("Upgrade", "Upgrade: h2c"), 426, "Upgrade", `got "h2c"`},
		{"RFC 6455, 4.2.1: no Connection", request("Connection"), 426, "Connection", "expected the token Upgrade, got none"},
		{"RFC 6455, 4.2.1: other Connection", request("Connection", "Connection: keep-alive"), 426, "Connection", `got "keep-alive"`},
		{"RFC 6455, 4.2.1: no version", request("Sec-WebSocket-Version"), 426, "Sec-WebSocket-Version", "expected 13, got none"},
		{"RFC 6455, 4.4: older version", request("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426, "Sec-WebSocket-Version", `got "8"`},
		{"RFC 6455, 4.4: unknown version", request("Sec-WebSocket-Version", "Sec-WebSocket-Version: 013"), 426, "Sec-WebSocket-Version", `got "013"`},
		{"RFC 6455, 11.3.5: two versions", request("", "Sec-WebSocket-Version: 13"), 426, "Sec-WebSocket-Version", `got "13, 13"`},
		{"RFC 6455, 4.2.1: no key", request("Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key", "got it 0 times"},
		{"RFC 6455, 11.3.1: two keys", request("", "Sec-WebSocket-Key: "+exampleKey), 400, "Sec-WebSocket-Key", "got it 2 times"},
		{"RFC 6455, 4.2.1: empty key", request("Sec-WebSocket-Key", "Sec-WebSocket-Key:"), 400, "Sec-WebSocket-Key", "expected 16 bytes"},
		{"RFC 6455, 4.2.1: key of 15 bytes", request("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), 400, "Sec-WebSocket-Key", "expected 16 bytes"},
		{"RFC 6455, 4.2.1: key of 17 bytes", request("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), 400, "Sec-WebSocket-Key", "expected 16 bytes"},
		{"RFC 6455, 4.2.1: key of 18 bytes", request("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"), 400, "Sec-WebSocket-Key", "expected 16 bytes"},
		{"RFC 6455, 4.2.1: key without padding", request("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA"), 400, "Sec-WebSocket-Key", "expected 16 bytes"},
		{"RFC 6455, 4.2.1: key in base64url", request("Sec-WebSocket-Key", "Sec-WebSocket-Key: __________-----------w=="), 400, "Sec-WebSocket-Key", "expected 16 bytes"},
		{"a body would be taken for frames", request("", "Content-Length: 2") + "hi", 400, "Content-Length", "expected no body"},
		{"a chunked body too", request("", "Transfer-Encoding: chunked") + "0\r\n\r\n", 400, "Transfer-Encoding", "expected no body"},
		{"a body that does not come is not waited for", request("", "Content-Length: 2"), 400, "Content-Length", "expected no body"},
		{"RFC 6455, 4.2.2: foreign origin", request("", "Origin: https://evil.example"), 403, "Origin",
			`expected the server's own host, "example.com", or one that is allowed, got "https://evil.example"`},
		{"RFC 6454, 7.3: two origins", request("", "Origin: http://example.com", "Origin: http://example.com"), 403, "Origin", "expected it at most once"},
		{"RFC 6454, 7.3: null", request("", "Origin: null"), 403, "Origin", `got "null"`},
		{"RFC 6455, 4.1: malformed subprotocols", request("", "Sec-WebSocket-Protocol: a b"), 400, "Sec-WebSocket-Protocol", "expected a list of tokens"},
		{"RFC 6455, 9.1: malformed extensions", request("", "Sec-WebSocket-Extensions: foo, bar baz"), 400, "Sec-WebSocket-Extensions", `expected a semicolon at "baz"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, _ := exchange(t, server.Listener.Addr().String(), test.request)
			require.Equal(t, test.status, resp.StatusCode)
			if !strings.HasPrefix(test.request, "HEAD") {
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Contains(t, string(body), test.says)
				require.Contains(t, string(body), test.header)
			}
			require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
			switch test.status {
			case http.StatusMethodNotAllowed:
				require.Equal(t, "GET", resp.Header.Get("Allow"))
			case http.StatusUpgradeRequired:
				require.Equal(t, "13", resp.Header.Get("Sec-WebSocket-Version"))
				require.Equal(t, "websocket", resp.Header.Get("Upgrade"))
				require.Equal(t, "Upgrade", resp.Header.Get("Connection"))
			}
			var refused *wsd.HandshakeError
			require.ErrorAs(t, <-results, &refused)
			require.Equal(t, test.status, refused.StatusCode)
			require.Equal(t, test.header, refused.Header)
			require.Contains(t, refused.Error(), test.says)
			require.Nil(t, refused.Response)
		})
	}
	t.Run("RFC 6455, 4.2.1: no Host", func(t *testing.T) {
		resp, _ := exchange(t, server.Listener.Addr().String(), request("Host"))
		require.Equal(t, http.StatusBadRequest, resp.StatusCode) // by net/http, before any handler
		require.Empty(t, results)
	})
}

func TestAcceptTakesWhatTheRFCAllows(t *testing.T) {
	server, results := accepting(t, nil)
	for name, request := range map[string]string{
		"plain":              rawRequest(""),
		"any case":           rawRequest("Upgrade", "upgrade: WebSocket", "connection: upgrade"),
		"token lists":        rawRequest("Upgrade", "Upgrade: h2c, websocket", "Connection: keep-alive, x"),
		"several lines":      rawRequest("Connection", "Connection: keep-alive", "Connection: Upgrade"),
		"unknown extensions": rawRequest("", "Sec-WebSocket-Extensions: foo; bar=1, baz"),
		"unknown fields":     rawRequest("", "X-Anything: yes"),
		"empty body":         rawRequest("", "Content-Length: 0"),
		"own origin":         rawRequest("", "Origin: http://example.com"),
		"HTTP/1.2":           strings.Replace(rawRequest(""), "HTTP/1.1", "HTTP/1.2", 1),
		"key with loose end": rawRequest("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="),
	} {
		t.Run(name, func(t *testing.T) {
			resp, _ := exchange(t, server.Listener.Addr().String(), request)
			if name == "HTTP/1.2" {
				require.NotEqual(t, http.StatusInternalServerError, resp.StatusCode) // net/http's to decide
				if resp.StatusCode != http.StatusSwitchingProtocols {
					return
				}
			}
			require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
			require.NoError(t, <-results)
			require.Equal(t, "websocket", resp.Header.Get("Upgrade"))
			require.Equal(t, "Upgrade", resp.Header.Get("Connection"))
			if !strings.Contains(name, "key") {
				require.Equal(t, exampleAccept, resp.Header.Get("Sec-WebSocket-Accept"))
			}
			require.Empty(t, resp.Header.Get("Sec-WebSocket-Protocol"))
			require.Empty(t, resp.Header.Get("Sec-WebSocket-Extensions"))
		})
	}
}

func TestAcceptAgreesOnASubprotocol(t *testing.T) {
	server, _ := accepting(t, &wsd.AcceptOptions{Subprotocols: []string{"v2", "v1"}})
	resp, _ := exchange(t, server.Listener.Addr().String(), rawRequest("", "Sec-WebSocket-Protocol: v1, v3", "Sec-WebSocket-Protocol: v2"))
	require.Equal(t, []string{"v2"}, resp.Header.Values("Sec-WebSocket-Protocol"))
	resp, _ = exchange(t, server.Listener.Addr().String(), rawRequest("", "Sec-WebSocket-Protocol: v3"))
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Empty(t, resp.Header.Values("Sec-WebSocket-Protocol"))
}

func TestAcceptKeepsFramesBehindTheHandshake(t *testing.T) {
	server, _ := accepting(t, nil)
	resp, reader := exchange(t, server.Listener.Addr().String(), rawRequest("")+maskedHello+maskedHello)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	var echo [14]byte
	_, err := io.ReadFull(reader, echo[:])
	require.NoError(t, err)
	require.Equal(t, "\x81\x05Hello\x81\x05Hello", string(echo[:]))
}

// hidden is a middleware's ResponseWriter, which shows what it wraps only to http.ResponseController.
type hidden struct{ inner http.ResponseWriter }

func (h hidden) Header() http.Header         { return h.inner.Header() }
func (h hidden) Write(b []byte) (int, error) { return h.inner.Write(b) }
func (h hidden) WriteHeader(status int)      { h.inner.WriteHeader(status) }
func (h hidden) Unwrap() http.ResponseWriter { return h.inner }

func TestAcceptUnderAMuxAndAWrappedResponseWriter(t *testing.T) {
	mux := http.NewServeMux()
	inner := echoHandler(nil, nil)
	mux.HandleFunc("GET /rooms/{room}", func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(hidden{w}, r) })
	server := httptest.NewServer(mux)
	defer server.Close()
	conn, _, err := wsd.Dial(t.Context(), server.URL+"/rooms/7", nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	requireEcho(t, conn, "through the wrapper")
}

func TestAcceptWhereTheConnectionCannotBeTakenOver(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": exampleKey,
	} {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	_, err := wsd.Accept(w, r, nil)
	require.ErrorIs(t, err, http.ErrNotSupported)
	var refused *wsd.HandshakeError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusInternalServerError, refused.StatusCode)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.ErrorContains(t, err, "got *httptest.ResponseRecorder")
}

func TestAcceptRefusesHTTP2(t *testing.T) {
	results := make(chan error, 1)
	server := httptest.NewUnstartedServer(echoHandler(nil, results))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, 2, resp.ProtoMajor)
	require.Equal(t, http.StatusHTTPVersionNotSupported, resp.StatusCode) // RFC 9110, section 15.6.6
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `or HTTP/1.1, got GET over "HTTP/2.0"`)
	require.Error(t, <-results)
}

func TestAcceptAddsHeaderFields(t *testing.T) {
	options := &wsd.AcceptOptions{Header: http.Header{"X-Server": {"wsd"}, "Set-Cookie": {"a=b", "c=d"}}}
	handler := echoHandler(options, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
		w.Header().Set("Connection", "close") // not for a 101
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	resp, _ := exchange(t, server.Listener.Addr().String(), rawRequest(""))
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Equal(t, []string{"wsd"}, resp.Header.Values("X-Server"))
	require.Equal(t, []string{"session=1", "a=b", "c=d"}, resp.Header.Values("Set-Cookie"))
	require.Equal(t, []string{"Upgrade"}, resp.Header.Values("Connection"))
}

func TestAcceptReportsMistakesInItsOptions(t *testing.T) {
	for name, options := range map[string]*wsd.AcceptOptions{
		"Sec-Websocket-Accept":   {Header: http.Header{"Sec-Websocket-Accept": {"x"}}},
		"X-Split":                {Header: http.Header{"X-Split": {"a\r\nb: c"}}},
		"Origin":                 {Origins: []string{"https://example.com:x"}},
		"Sec-WebSocket-Protocol": {Subprotocols: []string{"a b"}},
		"twice":                  {Subprotocols: []string{"a", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			server, results := accepting(t, options)
			resp, _ := exchange(t, server.Listener.Addr().String(), rawRequest(""))
			require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "WebSocket handshake failed\n", string(body), "no business of the client's")
			require.ErrorContains(t, <-results, name)
		})
	}
}

func TestAcceptChecksOrigins(t *testing.T) {
	status := func(options *wsd.AcceptOptions, origin ...string) int {
		server, _ := accepting(t, options)
		resp, _ := exchange(t, server.Listener.Addr().String(), rawRequest("", origin...))
		return resp.StatusCode
	}
	require.Equal(t, 101, status(nil))
	require.Equal(t, 101, status(nil, "Origin: https://EXAMPLE.com:443"))
	require.Equal(t, 403, status(nil, "Origin: https://a.example"))
	require.Equal(t, 101, status(&wsd.AcceptOptions{Origins: []string{"a.example"}}, "Origin: https://a.example"))
	require.Equal(t, 101, status(&wsd.AcceptOptions{Origins: []string{"*"}}, "Origin: null"))

	require.Equal(t, 101, status(&wsd.AcceptOptions{Origins: []string{"", "https://b.example/", "a.example"}}, "Origin: https://a.example"),
		"an entry that is no pattern spoils nothing")

	own := &wsd.AcceptOptions{CheckOrigin: func(r *http.Request) bool {
		return wsd.SameOrigin(r) || r.Header.Get("Origin") == "https://a.example"
	}}
	require.Equal(t, 101, status(own))
	require.Equal(t, 101, status(own, "Origin: http://example.com"))
	require.Equal(t, 101, status(own, "Origin: wss://example.com"))
	require.Equal(t, 101, status(own, "Origin: https://a.example"))
	require.Equal(t, 403, status(own, "Origin: https://b.example"))
	require.Equal(t, 403, status(own, "Origin: http://example.com", "Origin: http://example.com"))

	// Only the function decides.
	asked := make(chan string, 1)
	decide := func(answer bool) *wsd.AcceptOptions {
		return &wsd.AcceptOptions{Origins: []string{"*"}, CheckOrigin: func(r *http.Request) bool {
			asked <- r.Header.Get("Origin")
			return answer
		}}
	}
	require.Equal(t, 101, status(decide(true), "Origin: null"))
	require.Equal(t, "null", <-asked)
	require.Equal(t, 403, status(decide(false), "Origin: http://example.com"))
	require.Equal(t, "http://example.com", <-asked)
	require.Equal(t, 403, status(decide(false)))
	require.Empty(t, <-asked)
}

func TestAcceptOverTLSWantsHTTPSOrigins(t *testing.T) {
	server := httptest.NewTLSServer(echoHandler(nil, nil))
	defer server.Close()
	dial := func(origin string) error {
		conn, _, err := wsd.Dial(t.Context(), server.URL, &wsd.DialOptions{
			HTTPClient: server.Client(), Header: http.Header{"Origin": {origin}},
		})
		if err == nil {
			conn.CloseNow()
		}
		return err
	}
	require.NoError(t, dial(server.URL))
	var refused *wsd.HandshakeError
	require.ErrorAs(t, dial("http"+strings.TrimPrefix(server.URL, "https")), &refused)
	require.Equal(t, http.StatusForbidden, refused.StatusCode)
	require.ErrorContains(t, refused, `under https, "`+server.Listener.Addr().String()+`"`)
}

func TestIsUpgrade(t *testing.T) {
	for _, test := range []struct {
		upgrade, connection string
		want                bool
	}{
		{"websocket", "Upgrade", true},
		{"WebSocket", "keep-alive, upgrade", true},
		{"h2c", "Upgrade", false},
		{"websocket", "keep-alive", false},
		{"", "", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Upgrade", test.upgrade)
		r.Header.Set("Connection", test.connection)
		require.Equal(t, test.want, wsd.IsUpgrade(r), "%+v", test)
	}
}

func TestAcceptGivesUpOnAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer func() { _ = client.Close() }()
		begin := time.Now()
		_, err := wsd.Accept(hijacked{httptest.NewRecorder(), server, nil}, handshakeRequest(),
			&wsd.AcceptOptions{HandshakeTimeout: 3 * time.Second})
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var failed *wsd.HandshakeError
		require.ErrorAs(t, err, &failed)
		require.Zero(t, failed.StatusCode, "nothing was answered")
		require.Equal(t, 3*time.Second, time.Since(begin))
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "the connection is closed")
	})
}

// Answers to earlier requests may have filled the socket of a client that asks but does not read, so that there is no
// room even for the shortest 101.
func TestAcceptGivesUpOnAFullSocket(t *testing.T) {
	_, server := wiretest.Pair(t, "tcp")
	// Without room for a single byte, after buffers have grown as far as they do.
	const patience = 50 * time.Millisecond
	for page, size := make([]byte, 64<<10), 64<<10; size > 0; {
		require.NoError(t, server.SetWriteDeadline(time.Now().Add(patience)))
		n, err := server.Write(page[:size])
		if err != nil && n == 0 {
			size /= 2
		}
	}
	require.NoError(t, server.SetWriteDeadline(time.Time{}))
	_, err := wsd.Accept(hijacked{httptest.NewRecorder(), server, nil}, handshakeRequest(),
		&wsd.AcceptOptions{HandshakeTimeout: patience})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.ErrorAs(t, err, new(*wsd.HandshakeError))
}

func TestAcceptClearsTheDeadlineOfTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() { _, _ = http.ReadResponse(bufio.NewReader(client), nil) }()
		conn, err := wsd.Accept(hijacked{httptest.NewRecorder(), server, nil}, handshakeRequest(),
			&wsd.AcceptOptions{HandshakeTimeout: time.Second, Config: wsd.Config{PingInterval: -1}})
		require.NoError(t, err)
		defer conn.CloseNow()
		<-time.After(time.Hour)
		go func() { _, _ = io.ReadFull(client, make([]byte, 7)) }()
		require.NoError(t, conn.Send(t.Context(), wsd.Text("later")))
	})
}

// A server's WriteTimeout may have passed when a handshake is accepted, and not every ResponseWriter clears the deadline
// of a connection that it hands over.
func TestAcceptTakesOffADeadlineThatIsOver(t *testing.T) {
	for _, timeout := range []time.Duration{0, -1} {
		client, server := tcpPair(t)
		require.NoError(t, server.SetDeadline(time.Unix(1, 0)))
		conn, err := wsd.Accept(hijacked{httptest.NewRecorder(), server, nil}, handshakeRequest(),
			&wsd.AcceptOptions{HandshakeTimeout: timeout})
		require.NoError(t, err)
		_, err = http.ReadResponse(bufio.NewReader(client), nil)
		require.NoError(t, err)
		_, err = io.WriteString(client, maskedHello)
		require.NoError(t, err)
		m, err := conn.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "Hello", string(m.Data))
		conn.CloseNow()
		_ = client.Close()
	}
}

func TestAcceptTakesEarlyFramesFromTheBuffersOfAnyHijacker(t *testing.T) {
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	early := bufio.NewReader(strings.NewReader(maskedHello))
	_, err := early.Peek(len(maskedHello))
	require.NoError(t, err)
	go func() { _, _ = http.ReadResponse(bufio.NewReader(client), nil) }()
	conn, err := wsd.Accept(hijacked{httptest.NewRecorder(), server, &bufio.ReadWriter{Reader: early}}, handshakeRequest(), nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	m, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "Hello", string(m.Data))
}

// kept is a ResponseWriter that keeps what it has handed over, and wraps the connection if it is told to.
type kept struct {
	http.ResponseWriter
	buffers *bufio.ReadWriter
	wraps   bool
}

func (w *kept) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.buffers = buffers
	if w.wraps {
		conn = readFrom{buffers.Reader, conn}
	}
	return conn, buffers, err
}

// What net/http has buffered a request in is freed, even if the handler stays, unless the connection may be read from it.
func TestAcceptFreesTheBuffersOfTheRequest(t *testing.T) {
	for _, wraps := range []bool{false, true} {
		freed := make(chan bool)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			keeps := &kept{ResponseWriter: w, wraps: wraps}
			conn, err := wsd.Accept(keeps, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			freed <- keeps.buffers.Reader.Size() == 0 && keeps.buffers.Writer.Size() == 0
			echo(conn)
		}))
		defer server.Close()
		conn, _, err := wsd.Dial(t.Context(), server.URL, nil)
		require.NoError(t, err)
		defer conn.CloseNow()
		require.Equal(t, !wraps, <-freed)
		requireEcho(t, conn, "whatever became of the buffers")
		require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
	}
}

// It is up to http.Server to bound a request that trickles, as the documentation of AcceptOptions.HandshakeTimeout says.
func TestATricklingHandshakeIsBoundedByReadHeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := listenInMemory(net.Pipe)
		server := &http.Server{Handler: echoHandler(nil, nil), ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = server.Serve(listener) }()
		defer func() { _ = server.Close() }()
		conn, err := listener.dial(t.Context())
		require.NoError(t, err)
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		var sent int
		for _, b := range []byte(rawRequest("")) {
			if _, err = conn.Write([]byte{b}); err != nil {
				break
			}
			sent++
			<-time.After(time.Second)
		}
		require.Error(t, err)
		require.LessOrEqual(t, sent, 6)
	})
}

// One path can serve a page to browsers and a socket to the page.
func ExampleIsUpgrade() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !wsd.IsUpgrade(r) {
			_, _ = io.WriteString(w, "the page")
			return
		}
		conn, err := wsd.Accept(w, r, nil)
		if err != nil {
			return // answered
		}
		defer conn.CloseNow()
		_ = conn.Send(r.Context(), wsd.Text("the socket"))
		_, _ = conn.Receive(context.Background())
	}))
	defer server.Close()

	resp, _ := http.Get(server.URL)
	page, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Println(string(page))

	conn, _, _ := wsd.Dial(context.Background(), server.URL, nil)
	defer conn.CloseNow()
	m, _ := conn.Receive(context.Background())
	fmt.Println(string(m.Data))
	// Output:
	// the page
	// the socket
}
