// http2_test.go is about WebSockets over HTTP/2 (RFC 8441) at a server of net/http.

package wsd_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	_ "github.com/seed62836080/wsd/extendedconnect"
	"github.com/seed62836080/wsd/internal/http2test"
)

// serveHTTP2 runs a server for HTTP/2 in clear text, and returns a connection to it and the server. configure is called
// last of all.
func serveHTTP2(t *testing.T, handler http.Handler, configure ...func(*http.Server)) (*http2test.Client, *http.Server) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	for _, f := range configure {
		f(server.Config)
	}
	server.Start()
	t.Cleanup(server.Close)
	return dialHTTP2(t, server.Listener.Addr()), server.Config
}

func dialHTTP2(t *testing.T, addr net.Addr) *http2test.Client {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	require.NoError(t, err)
	client, err := http2test.NewClient(conn)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// connectHTTP2 opens a WebSocket on a stream of its own.
func connectHTTP2(t *testing.T, client *http2test.Client, fields ...http2test.Field) (*wsd.Conn, *http2test.Stream) {
	t.Helper()
	stream, err := client.Open(http2test.WebSocket("example.com", "/", fields...), false)
	require.NoError(t, err)
	require.Equal(t, 200, stream.Status())
	conn := wsd.NewConn(stream, wsd.ClientRole, wsd.Config{})
	t.Cleanup(conn.CloseNow)
	return conn, stream
}

// echoAll is a handler of a Server that sends back what it receives.
func echoAll(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
	}
}

func requireHTTP2Echo(t *testing.T, conn *wsd.Conn, text string) {
	t.Helper()
	require.NoError(t, conn.Send(t.Context(), wsd.Text(text)))
	m, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.True(t, string(m.Data) == text)
}

func TestAcceptTakesExtendedConnectAndItsHandlerMayReturn(t *testing.T) {
	accepted, returned := make(chan *wsd.Conn, 1), make(chan struct{})
	client, _ := serveHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(returned)
		require.True(t, wsd.IsUpgrade(r))
		require.Equal(t, http.MethodGet, r.Method, "as routers expect it")
		conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Subprotocols: []string{"v2", "v1"}})
		require.NoError(t, err)
		accepted <- conn
	}), wsd.ConfigureHTTP2)
	require.True(t, client.ExtendedConnect())

	conn, stream := connectHTTP2(t, client, http2test.Field{Name: "sec-websocket-protocol", Value: "v0, v1"})
	server := <-accepted
	<-returned
	go echoAll(server)
	require.Equal(t, "v1", server.Subprotocol())
	require.Equal(t, "tcp", server.RemoteAddr().Network())
	require.Equal(t, "127.0.0.1", server.RemoteAddr().(*net.TCPAddr).IP.String())
	require.NotNil(t, server.LocalAddr())
	requireHTTP2Echo(t, conn, "hello")
	requireHTTP2Echo(t, conn, strings.Repeat("long ", 200_000))

	require.NoError(t, server.Close(wsd.StatusGoingAway, "enough"))
	<-conn.Closed()
	require.True(t, conn.CloseEvent().Clean)
	require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
	clean, _ := stream.End()
	require.True(t, clean, "a clean end is END_STREAM")
	require.False(t, client.GoneAway())
}

func TestAcceptOverHTTP2WithTLS(t *testing.T) {
	ws := &wsd.Server{Handler: echoAll}
	server := httptest.NewUnstartedServer(ws)
	server.EnableHTTP2 = true
	wsd.ConfigureHTTP2(server.Config)
	server.StartTLS()
	defer server.Close()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	secure, err := tls.Dial("tcp", server.Listener.Addr().String(), config)
	require.NoError(t, err)
	client, err := http2test.NewClient(secure)
	require.NoError(t, err)
	defer client.Close()
	conn, stream := connectHTTP2(t, client)
	requireHTTP2Echo(t, conn, "secret")
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
	clean, _ := stream.End()
	require.True(t, clean)
}

func TestAcceptRefusesExtendedConnectWithItsStatus(t *testing.T) {
	var refused atomic.Pointer[wsd.HandshakeError]
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := wsd.Accept(w, r, &wsd.AcceptOptions{Subprotocols: []string{"chat"}, RequireSubprotocol: r.URL.Path == "/chat"})
		problem := new(wsd.HandshakeError)
		require.ErrorAs(t, err, &problem)
		refused.Store(problem)
	})
	right := func(path string, more ...http2test.Field) []http2test.Field {
		return http2test.WebSocket("example.com", path, more...)
	}
	replaced := func(name, value string) (fields []http2test.Field) {
		for _, f := range right("/") {
			if f.Name == name {
				if f.Value = value; value == "" {
					continue
				}
			}
			fields = append(fields, f)
		}
		return fields
	}
	field := func(name, value string) http2test.Field { return http2test.Field{Name: name, Value: value} }
	tests := []struct {
		what      string
		fields    []http2test.Field
		endStream bool
		status    int
		header    string
	}{
		{"another protocol: RFC 9220, section 3", replaced(":protocol", "connect-udp"), false, 501, ""},
		{"CONNECT without a protocol", []http2test.Field{field(":method", "CONNECT"), field(":authority", "example.com")}, false, 405, ""},
		{"GET", []http2test.Field{field(":method", "GET"), field(":scheme", "http"), field(":path", "/"), field(":authority", "example.com")},
			true, 505, ""},
		{"POST", []http2test.Field{field(":method", "POST"), field(":scheme", "http"), field(":path", "/"), field(":authority", "example.com")},
			true, 405, ""},
		{"no version", replaced("sec-websocket-version", ""), false, 400, "Sec-WebSocket-Version"},
		{"another version", replaced("sec-websocket-version", "8"), false, 400, "Sec-WebSocket-Version"},
		{"an announced end", right("/", field("content-length", "5")), false, 400, "Content-Length"},
		{"no stream", right("/"), true, 400, "Content-Length"},
		{"a foreign origin", right("/", field("origin", "http://evil.example")), false, 403, "Origin"},
		{"no subprotocol", right("/chat"), false, 400, "Sec-WebSocket-Protocol"},
		{"a bad subprotocol", right("/", field("sec-websocket-protocol", "a b")), false, 400, "Sec-WebSocket-Protocol"},
		{"a bad extension", right("/", field("sec-websocket-extensions", "=")), false, 400, "Sec-WebSocket-Extensions"},
	}
	for _, configured := range []bool{true, false} {
		configure := func(*http.Server) {}
		if configured {
			configure = wsd.ConfigureHTTP2
		}
		client, _ := serveHTTP2(t, handler, configure)
		for _, test := range tests {
			stream, err := client.Open(test.fields, test.endStream)
			require.NoError(t, err)
			require.Equal(t, test.status, stream.Status(), test.what)
			clean, _ := stream.End()
			require.True(t, clean, test.what)
			require.Equal(t, test.status, refused.Load().StatusCode, test.what)
			require.Equal(t, test.header, refused.Load().Header, test.what)
		}
		require.False(t, client.GoneAway(), "a refusal is no reason to end the other streams")
	}
}

func TestMalformedExtendedConnectsReachNoHandler(t *testing.T) { // RFC 8441, section 4; RFC 9113, section 8.1.1
	client, _ := serveHTTP2(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%+v", r)
	}), wsd.ConfigureHTTP2)
	for _, missing := range []string{":method", ":path"} {
		var fields []http2test.Field
		for _, f := range http2test.WebSocket("example.com", "/") {
			if f.Name != missing {
				fields = append(fields, f)
			}
		}
		stream, err := client.Open(fields, false)
		require.NoError(t, err)
		clean, code := stream.End()
		require.False(t, clean, missing)
		require.Equal(t, uint32(1), code, "PROTOCOL_ERROR")
	}
}

func TestAcceptIgnoresAKeyOverHTTP2(t *testing.T) { // RFC 8441, section 5
	client, _ := serveHTTP2(t, &wsd.Server{Handler: echoAll}, wsd.ConfigureHTTP2)
	conn, _ := connectHTTP2(t, client, http2test.Field{Name: "sec-websocket-key", Value: "nonsense"})
	requireHTTP2Echo(t, conn, "hello")
}

func TestIsUpgradeOverHTTP2(t *testing.T) {
	for protocol, want := range map[string]bool{"websocket": true, "connect-udp": false, "": false} {
		r := httptest.NewRequest(http.MethodConnect, "http://example.com/", nil)
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
		if protocol != "" {
			r.Header[":protocol"] = []string{protocol}
		}
		require.Equal(t, want, wsd.IsUpgrade(r), protocol)
	}
	r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
	r.Header[":protocol"] = []string{"websocket"}
	require.False(t, wsd.IsUpgrade(r), "HTTP/1.1 has no pseudo-header fields")
}

func TestServeStaysOverHTTP2UnlessConfigured(t *testing.T) {
	for _, configured := range []bool{true, false} {
		returned, release := make(chan struct{}), make(chan struct{})
		ws := new(wsd.Server)
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(returned)
			_ = ws.Serve(w, r, nil, func(conn *wsd.Conn) {
				echoAll(conn)
				<-release
			})
		})
		var configure []func(*http.Server)
		if configured {
			configure = append(configure, wsd.ConfigureHTTP2)
		}
		client, _ := serveHTTP2(t, handler, configure...)
		conn, stream := connectHTTP2(t, client)
		if configured {
			<-returned
		}
		requireHTTP2Echo(t, conn, "hello")
		if !configured {
			select {
			case <-returned:
				t.Fatal("Serve has returned, and the stream would end")
			default:
			}
		}
		require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
		<-returned
		close(release)
		clean, _ := stream.End()
		require.True(t, clean)
		require.NoError(t, ws.Shutdown(t.Context()))
	}
}

func TestAStalledConsumerOverHTTP2StopsNoOther(t *testing.T) {
	const streams, stalled = 100, 50
	var number atomic.Int32
	release := make(chan struct{})
	client, _ := serveHTTP2(t, &wsd.Server{Handler: func(conn *wsd.Conn) {
		if number.Add(1) <= stalled {
			<-release
		}
		echoAll(conn)
	}}, wsd.ConfigureHTTP2)
	var conns []*wsd.Conn
	for i := range streams {
		conn, _ := connectHTTP2(t, client)
		conns = append(conns, conn)
		for number.Load() <= int32(i) { // or the next one's handler could overtake this one's
			runtime.Gosched()
		}
	}
	var writers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for _, conn := range conns[:stalled] {
		writers.Go(func() {
			for conn.Send(ctx, wsd.Binary(make([]byte, 16<<10))) == nil {
				if conn.Stats().MessagesSent > 1000 {
					t.Error("nothing slows a sender down whose messages nobody takes")
					return
				}
			}
		})
	}
	// They have stalled when none gets further.
	sent := func() (n uint64) {
		for _, conn := range conns[:stalled] {
			n += conn.Stats().MessagesSent
		}
		return n
	}
	for before := uint64(0); before == 0 || before != sent(); {
		before = sent()
		for _, conn := range conns[stalled:] { // which is what the test is about, and takes its time
			requireHTTP2Echo(t, conn, strings.Repeat("x", 4<<10))
		}
	}
	for _, conn := range conns[stalled:] {
		requireHTTP2Echo(t, conn, strings.Repeat("y", 256<<10))
	}
	cancel()
	writers.Wait()
	close(release)
}

// oneListener accepts one connection, and ends when it is closed.
type oneListener struct {
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *oneListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func TestAnAbortOverHTTP2ResetsTheStreamOnly(t *testing.T) {
	accepted := make(chan *wsd.Conn, 2)
	client, _ := serveHTTP2(t, &wsd.Server{Handler: func(conn *wsd.Conn) {
		accepted <- conn
		echoAll(conn)
	}}, wsd.ConfigureHTTP2)
	conn, stream := connectHTTP2(t, client)
	server := <-accepted
	other, _ := connectHTTP2(t, client)
	server.CloseNow()
	clean, code := stream.End()
	require.False(t, clean)
	require.NotZero(t, code)
	<-conn.Closed()
	require.Equal(t, wsd.StatusAbnormalClosure, conn.CloseEvent().Code)
	requireHTTP2Echo(t, other, "unharmed")
}

func TestAPeerThatResetsOrEndsItsStream(t *testing.T) {
	accepted := make(chan *wsd.Conn, 2)
	client, _ := serveHTTP2(t, &wsd.Server{Handler: func(conn *wsd.Conn) {
		accepted <- conn
		echoAll(conn)
	}}, wsd.ConfigureHTTP2)
	for name, end := range map[string]func(*http2test.Stream) error{
		"RST_STREAM": func(s *http2test.Stream) error { return s.Reset(0x8) },
		"END_STREAM": func(s *http2test.Stream) error { return s.CloseWrite() },
	} {
		stream, err := client.Open(http2test.WebSocket("example.com", "/"), false)
		require.NoError(t, err)
		conn := <-accepted
		require.NoError(t, end(stream))
		<-conn.Closed()
		require.Equal(t, wsd.StatusAbnormalClosure, conn.CloseEvent().Code, name)
		require.False(t, conn.CloseEvent().Clean)
	}
}

func TestAViolationOverHTTP2IsAnsweredAndEndsTheStreamCleanly(t *testing.T) {
	client, _ := serveHTTP2(t, &wsd.Server{Handler: echoAll}, wsd.ConfigureHTTP2)
	stream, err := client.Open(http2test.WebSocket("example.com", "/"), false)
	require.NoError(t, err)
	_, err = stream.Write([]byte{0xFF, 0x80, 0, 0, 0, 0}) // RSV1 to RSV3
	require.NoError(t, err)
	clean, _ := stream.End() // without this side's
	require.True(t, clean)
	answer, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.Equal(t, []byte{0x03, 0xEA}, answer[2:4], "1002")
}

func TestAHandlerThatPanicsOverHTTP2LeavesNoConnectionBehind(t *testing.T) {
	accepted, answered := make(chan *wsd.Conn, 1), make(chan struct{})
	client, _ := serveHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, nil)
		require.NoError(t, err)
		accepted <- conn
		<-answered // or the abort could be ahead of the answer
		panic(http.ErrAbortHandler)
	}), wsd.ConfigureHTTP2)
	_, stream := connectHTTP2(t, client)
	close(answered)
	<-(<-accepted).Closed()
	clean, _ := stream.End()
	require.False(t, clean)
}

// headerWriter is middleware that adds a cookie when the status is written, as sessions do.
type headerWriter struct {
	http.ResponseWriter
	status *atomic.Int32
}

func (w headerWriter) WriteHeader(status int) {
	w.status.Store(int32(status))
	w.ResponseWriter.WriteHeader(status)
}

func (w headerWriter) Write([]byte) (int, error) { return 0, errors.New("not through here") }

func (w headerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestMiddlewareOverHTTP2SeesTheStatusAndNotTheBytes(t *testing.T) {
	var status atomic.Int32
	ws := &wsd.Server{Handler: echoAll}
	limited := http.MaxBytesHandler(ws, 10) // of a body, which a WebSocket does not have
	client, _ := serveHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limited.ServeHTTP(headerWriter{w, &status}, r)
	}), wsd.ConfigureHTTP2)
	conn, _ := connectHTTP2(t, client)
	require.Equal(t, int32(200), status.Load())
	requireHTTP2Echo(t, conn, strings.Repeat("far more than that ", 1000))
}

func TestAWriterThatHidesTheStreamIsRefused(t *testing.T) {
	problems := make(chan error, 1)
	client, _ := serveHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := wsd.Accept(struct{ http.ResponseWriter }{w}, r, &wsd.AcceptOptions{Header: http.Header{"X-Own": {"1"}}})
		problems <- err
	}), wsd.ConfigureHTTP2)
	stream, err := client.Open(http2test.WebSocket("example.com", "/"), false)
	require.NoError(t, err)
	require.Equal(t, 500, stream.Status())
	require.ErrorIs(t, <-problems, http.ErrNotSupported)
}

func TestAStreamIsAcceptedOnce(t *testing.T) {
	problems := make(chan error, 1)
	client, _ := serveHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, nil)
		require.NoError(t, err)
		go echoAll(conn)
		_, err = wsd.Accept(w, r, nil)
		problems <- err
	}), wsd.ConfigureHTTP2)
	connectHTTP2(t, client)
	refused := new(wsd.HandshakeError)
	require.ErrorAs(t, <-problems, &refused)
}

func TestLimitsOverHTTP2EndNoOtherStream(t *testing.T) {
	ws := &wsd.Server{Handler: echoAll, Limits: wsd.Limits{Connections: 1}}
	client, _ := serveHTTP2(t, ws, wsd.ConfigureHTTP2)
	conn, _ := connectHTTP2(t, client)
	stream, err := client.Open(http2test.WebSocket("example.com", "/"), false)
	require.NoError(t, err)
	require.Equal(t, 503, stream.Status())
	requireHTTP2Echo(t, conn, "unharmed")
	require.False(t, client.GoneAway())
}

func TestShutdownOverHTTP2(t *testing.T) {
	ws := &wsd.Server{Handler: echoAll}
	client, server := serveHTTP2(t, ws, wsd.ConfigureHTTP2)
	server.RegisterOnShutdown(func() { _ = ws.Shutdown(t.Context()) })
	conn, _ := connectHTTP2(t, client)
	requireHTTP2Echo(t, conn, "hello")
	require.NoError(t, server.Shutdown(t.Context()))
	require.NoError(t, ws.Shutdown(t.Context()))
	<-conn.Closed()
	require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
	require.True(t, conn.CloseEvent().Clean)
}

func TestConfigureHTTP2KeepsWhatIsSet(t *testing.T) {
	server := &http.Server{HTTP2: &http.HTTP2Config{MaxReadFrameSize: 1 << 15, MaxConcurrentStreams: 5000}}
	given := server.HTTP2
	wsd.ConfigureHTTP2(server)
	require.NotSame(t, given, server.HTTP2)
	require.Equal(t, 1<<15, server.HTTP2.MaxReadFrameSize)
	require.Equal(t, 64<<10, server.HTTP2.MaxReceiveBufferPerStream)
	require.Equal(t, 5000*64<<10, server.HTTP2.MaxReceiveBufferPerConnection, "room for all streams at once")
	require.NotNil(t, server.Handler)
	recorder := httptest.NewRecorder()
	server.Handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/none", io.NopCloser(nil)))
	require.Equal(t, 404, recorder.Code, "the DefaultServeMux")
}
