package h2_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	_ "github.com/seed62836080/wsd/extendedconnect"
	"github.com/seed62836080/wsd/h2"
	"github.com/seed62836080/wsd/internal/streamtest"
	"github.com/seed62836080/wsd/pool"
)

// counting counts the TCP connections that a server accepts.
type counting struct {
	net.Listener
	accepted atomic.Int32
}

func (l *counting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

// served is a server and a transport to it.
type served struct {
	*httptest.Server
	url       string
	transport *h2.Transport
	opts      *wsd.DialOptions
	listener  *counting
}

// serve runs handler with TLS or without.
func serve(t testing.TB, secure bool, handler http.Handler, configure ...func(*http.Server)) served {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	listener := &counting{Listener: server.Listener}
	server.Listener = listener
	transport := &h2.Transport{Base: &http.Transport{}, UnencryptedHTTP2: true}
	for _, f := range append(configure, wsd.ConfigureHTTP2) {
		f(server.Config)
	}
	if secure {
		server.EnableHTTP2 = true
		server.StartTLS()
		transport.Base.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetHTTP1(true)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
	}
	t.Cleanup(server.Close)
	t.Cleanup(func() { require.NoError(t, transport.Close()) })
	opts := &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}
	return served{server, "ws" + strings.TrimPrefix(server.URL, "http"), transport, opts, listener}
}

func dial(t *testing.T, s served) *wsd.Conn {
	t.Helper()
	conn, _, err := wsd.Dial(t.Context(), s.url, s.opts)
	require.NoError(t, err)
	t.Cleanup(conn.CloseNow)
	return conn
}

func TestMessagesAreStreamed(t *testing.T) {
	for _, agreed := range []*wsd.Compression{nil, {}} {
		cfg := wsd.Config{StreamAbove: 10_000, Compression: agreed}
		s := serve(t, true, &wsd.Server{Handler: streamtest.EchoAll, AcceptOptions: wsd.AcceptOptions{Config: cfg}})
		s.opts.Config = cfg
		streamtest.RequireStreamedEcho(t, dial(t, s))
	}
}

func TestManyWebSocketsShareATCPConnection(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := serve(t, secure, &wsd.Server{Handler: streamtest.EchoAll, AcceptOptions: wsd.AcceptOptions{
			Subprotocols: []string{"chat"}, Config: wsd.Config{Compression: &wsd.Compression{}},
		}})
		s.opts.Subprotocols = []string{"none", "chat"}
		s.opts.Compression = &wsd.Compression{}
		var conns []*wsd.Conn
		for range 64 {
			conn, resp, err := wsd.Dial(t.Context(), s.url, s.opts)
			require.NoError(t, err)
			require.Equal(t, 2, resp.ProtoMajor)
			require.Equal(t, secure, resp.TLS != nil)
			require.Equal(t, "chat", conn.Subprotocol())
			require.Contains(t, conn.Extensions(), "permessage-deflate")
			require.Equal(t, s.Listener.Addr().String(), conn.RemoteAddr().String())
			require.NotNil(t, conn.LocalAddr())
			conns = append(conns, conn)
		}
		var all sync.WaitGroup
		for i, conn := range conns {
			all.Go(func() {
				for _, n := range []int{1, 1000, 300_000 * (i % 8 / 7)} {
					streamtest.RequireEcho(t, conn, strings.Repeat("x", n))
				}
				if err := conn.Close(wsd.StatusNormalClosure, "done"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, conn := range conns {
			require.True(t, conn.CloseEvent().Clean)
		}
		require.Equal(t, int32(1), s.listener.accepted.Load())
	}
}

func TestTheServerClosesCleanly(t *testing.T) {
	s := serve(t, true, &wsd.Server{Handler: func(conn *wsd.Conn) { _, _ = conn.Receive(context.Background()) }})
	conn := dial(t, s)
	require.NoError(t, conn.Send(t.Context(), wsd.Text("enough")))
	<-conn.Closed()
	require.True(t, conn.CloseEvent().Clean)
	require.Equal(t, wsd.StatusNormalClosure, conn.CloseEvent().Code)
}

func TestABortOfOneHarmsNoOther(t *testing.T) {
	accepted := make(chan *wsd.Conn, 2)
	s := serve(t, true, &wsd.Server{Handler: func(conn *wsd.Conn) {
		accepted <- conn
		streamtest.EchoAll(conn)
	}})
	one := dial(t, s)
	atServer := <-accepted
	two := dial(t, s)
	<-accepted
	one.CloseNow()
	<-atServer.Closed()
	require.Equal(t, wsd.StatusAbnormalClosure, atServer.CloseEvent().Code)
	streamtest.RequireEcho(t, two, "unharmed")
	require.Equal(t, int32(1), s.listener.accepted.Load())
}

func TestAStreamThatIsNotReadStopsNoOther(t *testing.T) {
	s := serve(t, false, &wsd.Server{Handler: func(conn *wsd.Conn) {
		m, err := conn.Receive(context.Background())
		if err != nil {
			return
		}
		if string(m.Data) == "flood" {
			for conn.Send(context.Background(), wsd.Binary(make([]byte, 64<<10))) == nil {
			}
		}
		streamtest.EchoAll(conn)
	}})
	var stalled []*wsd.Conn
	for range 50 {
		conn := dial(t, s)
		require.NoError(t, conn.Send(t.Context(), wsd.Text("flood")))
		stalled = append(stalled, conn)
	}
	other := dial(t, s)
	require.NoError(t, other.Send(t.Context(), wsd.Text("echo")))
	for range 50 {
		streamtest.RequireEcho(t, other, strings.Repeat("y", 512<<10))
	}
	for _, conn := range stalled {
		require.NotZero(t, conn.Stats().MessagesReceived)
		conn.CloseNow()
	}
}

func TestWhatAServerRefuses(t *testing.T) {
	s := serve(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "who are you", http.StatusUnauthorized)
	}))
	_, resp, err := wsd.Dial(t.Context(), s.url, s.opts)
	refused := new(wsd.HandshakeError)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 401, refused.StatusCode)
	require.ErrorContains(t, err, "who are you")
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "who are you\n", string(body))
	require.Equal(t, 2, resp.ProtoMajor)
}

func TestCookiesAndRedirects(t *testing.T) {
	ws := &wsd.Server{Handler: streamtest.EchoAll}
	s := serve(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/there" {
			http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
			http.Redirect(w, r, "/there", http.StatusFound)
			return
		}
		if _, err := r.Cookie("seen"); err != nil || r.Header.Get("X-Own") != "yes" || r.UserAgent() == "" {
			http.Error(w, "no cookie", http.StatusBadRequest)
			return
		}
		ws.ServeHTTP(w, r)
	}))
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	s.opts.HTTPClient.Jar = jar
	s.opts.Header = http.Header{"x-OWN": {"yes"}}
	streamtest.RequireEcho(t, dial(t, s), "hello")
	require.Equal(t, int32(1), s.listener.accepted.Load())
}

func TestServersWithoutHTTP2AreAskedOverHTTP1(t *testing.T) {
	for _, secure := range []bool{false, true} {
		server := httptest.NewUnstartedServer(&wsd.Server{Handler: streamtest.EchoAll})
		transport := &h2.Transport{Base: &http.Transport{}, UnencryptedHTTP2: true}
		if secure {
			server.StartTLS()
			transport.Base.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
		} else {
			server.Start()
		}
		opts := &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}
		for range 2 {
			conn, resp, err := wsd.Dial(t.Context(), server.URL, opts)
			require.NoError(t, err)
			require.Equal(t, 1, resp.ProtoMajor)
			streamtest.RequireEcho(t, conn, "hello")
			require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
		}
		require.NoError(t, transport.Close())
		server.Close()
	}
}

func TestPlainURLsMeanHTTP1UnlessAsked(t *testing.T) {
	s := serve(t, false, &wsd.Server{Handler: streamtest.EchoAll})
	s.transport.UnencryptedHTTP2 = false
	_, resp, err := wsd.Dial(t.Context(), s.url, s.opts)
	require.NoError(t, err)
	require.Equal(t, 1, resp.ProtoMajor)
}

func TestOtherRequestsGoToBase(t *testing.T) {
	s := serve(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method) }))
	resp, err := s.opts.HTTPClient.Get(s.URL)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "GET", string(body))
	s.transport.Base.CloseIdleConnections()
}

// proxied serves CONNECT, and counts.
func proxied(t *testing.T) (*url.URL, *atomic.Int32) {
	t.Helper()
	var tunnels atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		far, err := net.Dial("tcp", r.Host)
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tunnels.Add(1)
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		var both sync.WaitGroup
		for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
			both.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_ = way[0].Close()
			})
		}
		both.Wait()
	}))
	t.Cleanup(proxy.Close)
	u, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	return u, &tunnels
}

func TestThroughAProxy(t *testing.T) {
	for _, secure := range []bool{false, true} {
		proxy, tunnels := proxied(t)
		s := serve(t, secure, &wsd.Server{Handler: streamtest.EchoAll})
		s.transport.Base.Proxy = http.ProxyURL(proxy)
		for range 3 {
			streamtest.RequireEcho(t, dial(t, s), "hello")
		}
		require.Equal(t, int32(1), tunnels.Load())
		require.Equal(t, int32(1), s.listener.accepted.Load())
	}
}

func TestMoreStreamsThanAServerPermitsTakeAnotherConnection(t *testing.T) {
	s := serve(t, true, &wsd.Server{Handler: streamtest.EchoAll}, func(server *http.Server) {
		server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 2}
	})
	for range 5 {
		streamtest.RequireEcho(t, dial(t, s), "hello")
	}
	require.Equal(t, int32(3), s.listener.accepted.Load())
}

func TestGoAwayTakesNewConnectionsElsewhere(t *testing.T) {
	s := serve(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/leave" {
			w.Header().Set("Connection", "close") // which is how net/http is asked for GOAWAY
			w.WriteHeader(http.StatusGone)
			return
		}
		(&wsd.Server{Handler: streamtest.EchoAll}).ServeHTTP(w, r)
	}))
	old := dial(t, s)
	streamtest.RequireEcho(t, old, "before")
	_, _, err := wsd.Dial(t.Context(), s.url+"/leave", s.opts)
	require.Error(t, err)
	for s.listener.accepted.Load() < 2 {
		streamtest.RequireEcho(t, dial(t, s), "elsewhere")
	}
	streamtest.RequireEcho(t, old, "old streams live on")
}

func TestThePoolWorksOverIt(t *testing.T) {
	s := serve(t, true, &wsd.Server{Handler: streamtest.EchoAll})
	p, err := pool.New(s.url, &pool.Options{DialOptions: *s.opts, MaxConns: 8})
	require.NoError(t, err)
	var users sync.WaitGroup
	for range 32 {
		users.Go(func() {
			lent, err := p.Acquire(t.Context())
			if err == nil {
				err = lent.Send(t.Context(), wsd.Text("hello"))
			}
			if err == nil {
				_, err = lent.Receive(t.Context())
			}
			if err == nil {
				err = lent.Release()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	users.Wait()
	require.NoError(t, p.Close())
	require.Equal(t, int32(1), s.listener.accepted.Load())
}

func TestCloseEndsEverything(t *testing.T) {
	s := serve(t, true, &wsd.Server{Handler: streamtest.EchoAll})
	conn := dial(t, s)
	require.NoError(t, s.transport.Close())
	<-conn.Closed()
	require.ErrorIs(t, conn.CloseEvent().Err, h2.ErrTransportClosed)
	_, _, err := wsd.Dial(t.Context(), s.url, s.opts)
	require.ErrorIs(t, err, h2.ErrTransportClosed)
}

func TestIdleConnectionsAreClosedWhenAsked(t *testing.T) {
	s := serve(t, true, &wsd.Server{Handler: streamtest.EchoAll})
	used := dial(t, s)
	s.transport.CloseIdleConnections()
	streamtest.RequireEcho(t, used, "still used")
	require.NoError(t, used.Close(wsd.StatusNormalClosure, ""))
	s.transport.CloseIdleConnections()
	streamtest.RequireEcho(t, dial(t, s), "anew")
	require.Equal(t, int32(2), s.listener.accepted.Load())
}
