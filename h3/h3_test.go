package h3_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/h3"
	"github.com/seed62836080/wsd/internal/streamtest"
)

// serve runs handler over HTTP/3, and returns its URL and options to dial it.
func serve(t testing.TB, handler http.Handler, conf *quic.Config) (string, *wsd.DialOptions) {
	t.Helper()
	certificates := httptest.NewUnstartedServer(nil)
	certificates.StartTLS()
	certificates.Close()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http3.Server{Handler: h3.Handler(handler), TLSConfig: http3.ConfigureTLSConfig(certificates.TLS), QUICConfig: conf}
	served := make(chan error)
	go func() { served <- server.Serve(packets) }()
	transport := &h3.Transport{TLSClientConfig: certificates.Client().Transport.(*http.Transport).TLSClientConfig}
	t.Cleanup(func() {
		require.NoError(t, transport.Close())
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
		require.NoError(t, packets.Close())
	})
	return "wss://" + packets.LocalAddr().String(), &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}
}

func TestMessagesAreStreamedOverHTTP3(t *testing.T) {
	for _, agreed := range []*wsd.Compression{nil, {}} {
		cfg := wsd.Config{StreamAbove: 10_000, Compression: agreed}
		url, opts := serve(t, &wsd.Server{Handler: streamtest.EchoAll, AcceptOptions: wsd.AcceptOptions{Config: cfg}}, nil)
		opts.Config = cfg
		conn, _, err := wsd.Dial(t.Context(), url, opts)
		require.NoError(t, err)
		t.Cleanup(conn.CloseNow)
		streamtest.RequireStreamedEcho(t, conn)
	}
}

func TestManyWebSocketsOverHTTP3(t *testing.T) {
	remotes := make(chan string, 32)
	url, opts := serve(t, &wsd.Server{
		Handler: func(conn *wsd.Conn) {
			remotes <- conn.RemoteAddr().String()
			streamtest.EchoAll(conn)
		},
		AcceptOptions: wsd.AcceptOptions{Subprotocols: []string{"chat"}, Config: wsd.Config{Compression: &wsd.Compression{}}},
	}, nil)
	opts.Subprotocols = []string{"chat"}
	opts.Compression = &wsd.Compression{}
	var all sync.WaitGroup
	for range 32 {
		conn, resp, err := wsd.Dial(t.Context(), url, opts)
		require.NoError(t, err)
		require.Equal(t, 3, resp.ProtoMajor)
		require.Equal(t, "chat", conn.Subprotocol())
		require.Contains(t, conn.Extensions(), "permessage-deflate")
		require.Equal(t, strings.TrimPrefix(url, "wss://"), conn.RemoteAddr().String())
		all.Go(func() {
			streamtest.RequireEcho(t, conn, "hello")
			streamtest.RequireEcho(t, conn, strings.Repeat("long ", 50_000))
			if err := conn.Close(wsd.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	first := <-remotes
	for range 31 {
		require.Equal(t, first, <-remotes, "one connection of QUIC")
	}
}

func TestTheServerClosesCleanlyOverHTTP3(t *testing.T) {
	url, opts := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := wsd.Accept(w, r, nil) // and the handler returns
		if err == nil {
			go func() { _ = conn.Close(wsd.StatusGoingAway, "enough") }()
		}
	}), nil)
	conn, _, err := wsd.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	<-conn.Closed()
	require.True(t, conn.CloseEvent().Clean)
	require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
}

func TestAnAbortOverHTTP3HarmsNoOther(t *testing.T) {
	accepted := make(chan *wsd.Conn, 2)
	url, opts := serve(t, &wsd.Server{Handler: func(conn *wsd.Conn) {
		accepted <- conn
		streamtest.EchoAll(conn)
	}}, nil)
	one, _, err := wsd.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	first := <-accepted
	two, _, err := wsd.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	second := <-accepted
	one.CloseNow()
	<-first.Closed()
	require.Equal(t, wsd.StatusAbnormalClosure, first.CloseEvent().Code)
	streamtest.RequireEcho(t, two, "unharmed")
	second.CloseNow()
	<-two.Closed()
	require.False(t, two.CloseEvent().Clean)
}

func TestWhatAServerRefusesOverHTTP3(t *testing.T) {
	url, opts := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/401":
			http.Error(w, "who are you", http.StatusUnauthorized)
		case "/hidden":
			_, err := wsd.Accept(struct{ http.ResponseWriter }{w}, r, nil)
			require.Error(t, err)
		default:
			_, err := wsd.Accept(w, r, &wsd.AcceptOptions{Subprotocols: []string{"chat"}, RequireSubprotocol: true})
			require.Error(t, err)
		}
	}), nil)
	for path, status := range map[string]int{"/401": 401, "/hidden": 500, "/": 400} {
		_, _, err := wsd.Dial(t.Context(), url+path, opts)
		refused := new(wsd.HandshakeError)
		require.ErrorAs(t, err, &refused)
		require.Equal(t, status, refused.StatusCode, path)
		if status == 401 {
			require.ErrorContains(t, err, "who are you")
		}
	}
}

func TestAServerWithFewStreamsTakesAnotherConnection(t *testing.T) {
	url, opts := serve(t, &wsd.Server{Handler: streamtest.EchoAll}, &quic.Config{MaxIncomingStreams: 2})
	for range 4 {
		conn, _, err := wsd.Dial(t.Context(), url, opts)
		require.NoError(t, err)
		streamtest.RequireEcho(t, conn, "hello")
	}
}

func TestCloseEndsWebSocketsOverHTTP3(t *testing.T) {
	url, opts := serve(t, &wsd.Server{Handler: streamtest.EchoAll}, nil)
	conn, _, err := wsd.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	require.NoError(t, opts.HTTPClient.Transport.(*h3.Transport).Close())
	<-conn.Closed()
	_, _, err = wsd.Dial(t.Context(), url, opts)
	require.ErrorIs(t, err, h3.ErrTransportClosed)
	_, _, err = wsd.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "wss"), opts)
	require.ErrorContains(t, err, "wss")
}

func TestIsUpgradeOverHTTP3(t *testing.T) {
	r := httptest.NewRequest(http.MethodConnect, "https://example.com/", nil)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "websocket", 3, 0
	require.False(t, wsd.IsUpgrade(r), "nothing could take its stream over")
	h3.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		require.True(t, wsd.IsUpgrade(r))
		require.Equal(t, http.MethodGet, r.Method)
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// TestAnIdleWebSocketOverHTTP3Stays is idle for longer than the connection of QUIC may be.
func TestAnIdleWebSocketOverHTTP3Stays(t *testing.T) {
	t.Parallel()
	const idle = 6 * time.Second // so that a busy machine finds the time to keep it open
	url, opts := serve(t, &wsd.Server{Handler: streamtest.EchoAll, AcceptOptions: wsd.AcceptOptions{Config: wsd.Config{PingInterval: -1}}},
		&quic.Config{MaxIdleTimeout: idle})
	opts.PingInterval = -1
	conn, _, err := wsd.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	select {
	case <-conn.Closed():
		require.NoError(t, conn.CloseEvent().Err)
	case <-time.After(3 * idle / 2):
	}
	streamtest.RequireEcho(t, conn, "still there")
}

func TestHeadersThatAreTooLargeOverHTTP3(t *testing.T) {
	ws := &wsd.Server{Handler: streamtest.EchoAll}
	url, opts := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long-answer" {
			w.Header().Set("Long", strings.Repeat("x", 2<<20))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		ws.ServeHTTP(w, r)
	}), nil)
	dial := func(path string, header http.Header) error {
		with := *opts
		with.Header = header
		conn, _, err := wsd.Dial(t.Context(), url+path, &with)
		if err == nil {
			conn.CloseNow()
		}
		return err
	}
	refused := new(wsd.HandshakeError)
	require.ErrorAs(t, dial("/", http.Header{"Long": {strings.Repeat("x", 2<<20)}}), &refused)
	require.ErrorAs(t, dial("/long-answer", nil), &refused)
	require.NoError(t, dial("/", http.Header{"Long": {strings.Repeat("x", 20<<10)}}), "the others are unharmed")
}
