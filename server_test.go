package wsd_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// serve starts an HTTP server for ws and returns a function that dials it.
func serve(t *testing.T, ws *wsd.Server) (dial func() *wsd.Conn, url string) {
	server := httptest.NewServer(ws)
	t.Cleanup(server.Close)
	url = "ws" + strings.TrimPrefix(server.URL, "http")
	return func() *wsd.Conn {
		c, _, err := wsd.Dial(t.Context(), url, nil)
		require.NoError(t, err)
		t.Cleanup(c.CloseNow)
		return c
	}, url
}

func TestServerClosesWhenTheHandlerReturns(t *testing.T) {
	ws := &wsd.Server{Handler: func(c *wsd.Conn) {
		m, _ := c.Receive(c.Context())
		_ = c.Send(c.Context(), m)
	}}
	dial, _ := serve(t, ws)
	c := dial()
	require.NoError(t, c.Send(t.Context(), wsd.Text("once")))
	m, err := c.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "once", string(m.Data))
	<-c.Closed()
	require.Equal(t, wsd.StatusNormalClosure, c.CloseEvent().Code)
	require.True(t, c.CloseEvent().Clean)
	require.NoError(t, ws.Shutdown(t.Context()))
	require.Zero(t, ws.Connections())
}

// A handler that has looked at the request has the Server take over: what it saw is in the closure, and the connection is
// counted, closed and recovered as any other.
func TestServerServe(t *testing.T) {
	ws := &wsd.Server{Logger: slog.New(slog.DiscardHandler)}
	ws.AcceptOptions.Subprotocols = []string{"standard"}
	special := &wsd.AcceptOptions{Subprotocols: []string{"special"}}
	returned := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/rooms/{room}", func(w http.ResponseWriter, r *http.Request) {
		room, opts := r.PathValue("room"), (*wsd.AcceptOptions)(nil)
		if r.FormValue("special") != "" {
			opts = special
		}
		returned <- ws.Serve(w, r, opts, func(c *wsd.Conn) {
			_ = c.Send(c.Context(), wsd.Text(room))
			if m, _ := c.Receive(c.Context()); string(m.Data) == "panic" {
				panic("a handler's own")
			}
		})
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	dial := func(path string) (*wsd.Conn, error) {
		c, _, err := wsd.Dial(t.Context(), server.URL+path, &wsd.DialOptions{Subprotocols: []string{"special", "standard"}})
		if err == nil {
			t.Cleanup(c.CloseNow)
		}
		return c, err
	}

	tea, err := dial("/rooms/tea")
	require.NoError(t, err)
	require.NoError(t, <-returned, "while the connection lives")
	require.Equal(t, "tea", string((<-tea.Messages()).Data))
	require.Equal(t, "standard", tea.Subprotocol(), "no options are the Server's")
	coffee, err := dial("/rooms/coffee?special=1")
	require.NoError(t, err)
	require.NoError(t, <-returned)
	require.Equal(t, "coffee", string((<-coffee.Messages()).Data))
	require.Equal(t, "special", coffee.Subprotocol())
	require.Equal(t, 2, ws.Connections(), "both have been heard from")

	require.NoError(t, tea.Send(t.Context(), wsd.Text("panic")))
	<-tea.Closed()
	require.Equal(t, wsd.StatusInternalError, tea.CloseEvent().Code)

	resp, err := http.Get(server.URL + "/rooms/tea")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUpgradeRequired, resp.StatusCode)
	var refused *wsd.HandshakeError
	require.ErrorAs(t, <-returned, &refused)
	require.Equal(t, http.StatusUpgradeRequired, refused.StatusCode)

	require.NoError(t, ws.Shutdown(t.Context()))
	<-coffee.Closed()
	require.Equal(t, wsd.StatusGoingAway, coffee.CloseEvent().Code)
	_, err = dial("/rooms/tea")
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
	require.ErrorIs(t, <-returned, wsd.ErrServerClosed)
	require.Zero(t, ws.Connections())
}

// What is wrong with the program is logged at Error, a shutdown that cuts off at Warn, and what peers do at Debug only.
func TestServerLogger(t *testing.T) {
	for name, test := range map[string]struct {
		level, says string
		do          func(t *testing.T, ws *wsd.Server)
	}{
		"a panic": {"ERROR", "a handler's own", func(t *testing.T, ws *wsd.Server) {
			ws.Handler = func(*wsd.Conn) { panic("a handler's own") }
			dial, _ := serve(t, ws)
			<-dial().Closed()
		}},
		"options": {"ERROR", "expected a token", func(_ *testing.T, ws *wsd.Server) {
			ws.Subprotocols = []string{"a b"}
			ws.ServeHTTP(httptest.NewRecorder(), handshakeRequest())
		}},
		"a shutdown given up": {"WARN", "connections=1", func(t *testing.T, ws *wsd.Server) {
			release := make(chan struct{})
			ws.Handler = func(*wsd.Conn) { <-release }
			dial, _ := serve(t, ws)
			dial()
			for ws.Connections() == 0 { // the client may know of its connection first
				runtime.Gosched()
			}
			done, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, ws.Shutdown(done), context.Canceled)
			close(release)
		}},
		"a refusal": {"DEBUG", "expected the token websocket", func(_ *testing.T, ws *wsd.Server) {
			r := handshakeRequest()
			r.Header.Del("Upgrade")
			ws.ServeHTTP(httptest.NewRecorder(), r)
		}},
		"a peer that breaks the protocol": {"DEBUG", "event.sent_code=1002", func(t *testing.T, ws *wsd.Server) {
			ws.Handler = echo
			server := httptest.NewServer(ws)
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.Write([]byte(rawRequest("") + "\x83\x00"))
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, conn)
			require.NoError(t, err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			ws := &wsd.Server{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			test.do(t, ws)
			require.NoError(t, ws.Shutdown(t.Context()))
			require.Contains(t, log.String(), test.says)
			for line := range strings.Lines(log.String()) {
				if !strings.Contains(line, test.says) { // the ends of connections, also of those that a panic ended
					require.Contains(t, line, "level=DEBUG")
				} else {
					require.Contains(t, line, "level="+test.level)
				}
			}
		})
	}
}

// The sums are over all connections, live and ended, and never go back while connections come and go.
func TestServerStats(t *testing.T) {
	ws := &wsd.Server{Logger: slog.New(slog.DiscardHandler), Limits: wsd.Limits{Connections: 8}}
	ws.Handler = func(c *wsd.Conn) {
		for m := range c.Messages() {
			if string(m.Data) == "panic" {
				panic("a handler's own")
			}
			_ = c.Send(c.Context(), m)
		}
	}
	require.Zero(t, ws.Stats())
	dial, url := serve(t, ws)
	talk := func(c *wsd.Conn, times int) {
		for range times {
			requireEcho(t, c, "12345")
		}
	}
	ended, live := dial(), dial()
	talk(ended, 10)
	talk(live, 5)
	require.NoError(t, ended.Close(wsd.StatusNormalClosure, ""))
	for ws.Connections() > 1 {
		runtime.Gosched()
	}
	stats := ws.Stats()
	require.Equal(t, 1, stats.Connections)
	require.EqualValues(t, 2, stats.Accepted)
	require.EqualValues(t, 15, stats.MessagesReceived)
	require.EqualValues(t, 75, stats.BytesReceived)
	require.EqualValues(t, 15, stats.MessagesSent)
	require.EqualValues(t, 75, stats.BytesSent)
	for ws.Stats().QueuedBytes > 0 { // what has come may not be recorded as written yet
		runtime.Gosched()
	}

	resp, err := http.Get("http" + strings.TrimPrefix(url, "ws"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	failing := dial()
	require.NoError(t, failing.Send(t.Context(), wsd.Text("panic")))
	<-failing.Closed()

	// Connections that end meanwhile are counted once.
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10 {
				c, _, err := wsd.Dial(t.Context(), url, nil)
				if err != nil {
					continue // full
				}
				for range 5 {
					_ = c.Send(t.Context(), wsd.Text("12345"))
					_, _ = c.Receive(t.Context())
				}
				_ = c.Close(wsd.StatusNormalClosure, "")
			}
		})
	}
	finished := make(chan struct{})
	go func() { all.Wait(); close(finished) }()
	last := ws.Stats()
	for open := true; open; {
		select {
		case <-finished:
			open = false
		default:
		}
		now := ws.Stats()
		require.GreaterOrEqual(t, now.MessagesReceived, last.MessagesReceived)
		require.GreaterOrEqual(t, now.BytesSent, last.BytesSent)
		require.GreaterOrEqual(t, now.Accepted, last.Accepted)
		last = now
	}
	require.NoError(t, ws.Shutdown(t.Context()))
	stats = ws.Stats()
	require.Zero(t, stats.Connections)
	require.EqualValues(t, 1, stats.Failed)
	require.EqualValues(t, 43, stats.Accepted+stats.Limited)
	require.Equal(t, stats.Limited+1, stats.Refused)
	require.Equal(t, 15+1+5*(stats.Accepted-3), stats.MessagesReceived)
	ws.ServeHTTP(httptest.NewRecorder(), handshakeRequest())
	require.Equal(t, stats.Refused+1, ws.Stats().Refused, "refused by a server that is closed")
	encoded, err := json.Marshal(ws.Stats())
	require.NoError(t, err)
	require.Contains(t, string(encoded), `"MessagesReceived":`)
}

// What is of the moment is that of the live connections, and gone with them, also where it was cut off.
func TestServerStatsOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		n := newNode(t, func(c *wsd.Conn) {
			for c.TrySend(wsd.Binary(make([]byte, 16<<10))) == nil {
			}
			_, _ = c.Receive(c.Context())
			<-end
			c.CloseNow()
		})
		n.ws.StreamAbove = 100
		peer, err := n.listener.dial(t.Context())
		require.NoError(t, err)
		defer peer.Close()
		_, err = peer.Write([]byte(rawRequest("")))
		require.NoError(t, err)
		_, err = http.ReadResponse(bufio.NewReader(peer), nil) // and nothing more
		require.NoError(t, err)
		_, err = peer.Write(encodeFrame(frame{0x02, make([]byte, 200)}, true))
		require.NoError(t, err)
		synctest.Wait()
		filled := time.Now()
		time.Sleep(time.Second)
		stats := n.ws.Stats()
		require.Greater(t, stats.QueuedBytes, 16<<10)
		require.Equal(t, filled, stats.OldestQueued)
		require.True(t, stats.BodyUnread)
		close(end)
		require.NoError(t, n.ws.Shutdown(t.Context()))
		stats = n.ws.Stats()
		require.Zero(t, stats.QueuedBytes)
		require.True(t, stats.OldestQueued.IsZero())
		require.False(t, stats.BodyUnread)
		require.EqualValues(t, 1, stats.MessagesReceived)
	})
}

// A CloseEvent in a log has the text of its cause, in JSON too.
func TestCloseEventInALog(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("ended", "event", wsd.CloseEvent{Code: wsd.StatusAbnormalClosure, Local: true, Err: wsd.ErrPongTimeout})
	require.Contains(t, log.String(), `"event":{"code":1006,"reason":"","local":true,"clean":false,"cause":"wsd: nothing came`)
	log.Reset()
	logger.Info("ended", "event", wsd.CloseEvent{Code: 1000, Reason: "bye", Clean: true, SentCode: 1000, SentReason: "bye too",
		Err: &wsd.CloseError{Code: 1000, Reason: "bye"}})
	require.Contains(t, log.String(), `"event":{"code":1000,"reason":"bye","local":false,"clean":true,"sent_code":1000,`+
		`"sent_reason":"bye too","cause":"wsd: closed with 1000 (normal closure): \"bye\""}`)
}

// What docs/operation.md says of the codes in a log: which end of a connection has which, and who began it.
func TestCodesInALog(t *testing.T) {
	answers := func(c *wsd.Conn, p *peer) { // as a peer does that obeys the protocol
		for {
			f, err := p.tryReceive()
			if err != nil {
				return
			}
			if f.first == 0x88 {
				_, _ = p.rwc.Write(p.encode(f))
			}
		}
	}
	after := func(frames ...frame) func(*wsd.Conn, *peer) {
		return func(c *wsd.Conn, p *peer) {
			_, _ = p.rwc.Write(p.encode(frames...))
			answers(c, p)
		}
	}
	silent := func(c *wsd.Conn, _ *peer) { <-c.Closed() }
	nothing := func(*wsd.Conn) {}
	for _, row := range []struct {
		name  string
		code  wsd.StatusCode
		local bool
		cause error // nil for any
		does  func(*wsd.Conn)
		peer  func(*wsd.Conn, *peer)
	}{
		{"the client was done", 1000, false, nil, nothing, after(closeFrame(1000))},
		{"the handler returned", 1000, true, nil, func(c *wsd.Conn) { _ = c.Close(wsd.StatusNormalClosure, "") }, answers},
		{"the page was left", 1001, false, nil, nothing, after(closeFrame(1001))},
		{"the client broke the protocol", 1002, true, nil, nothing, after(frame{0x83, nil})},
		{"the client sent no text", 1007, true, nil, nothing, after(text("\xFF"))},
		{"the client says that this side broke the protocol", 1002, false, nil, nothing, after(closeFrame(1002))},
		{"without a code", 1005, false, nil, nothing, after(frame{0x88, nil})},
		{"the network", 1006, false, nil, nothing, func(_ *wsd.Conn, p *peer) { p.close() }},
		{"nothing came", 1006, true, wsd.ErrPongTimeout, nothing, silent},
		{"nothing was taken", 1006, true, wsd.ErrWriteTimeout, func(c *wsd.Conn) {
			_ = c.Send(context.Background(), wsd.Binary(make([]byte, 16<<20)))
		}, func(_ *wsd.Conn, p *peer) {
			for { // as it would have to, with the pings, but for the keepalive
				if _, err := p.rwc.Write(p.encode(pong(""))); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
		{"no answer to a close frame", 1006, true, wsd.ErrCloseTimeout, func(c *wsd.Conn) {
			_ = c.Close(wsd.StatusNormalClosure, "")
		}, silent},
		{"CloseNow", 1006, true, net.ErrClosed, (*wsd.Conn).CloseNow, silent},
		{"more than MaxFragments", 1008, true, nil, nothing,
			after(frame{0x01, []byte("a")}, frame{0x00, []byte("b")}, frame{0x00, []byte("c")}, frame{0x80, []byte("d")})},
		{"more than MaxMessageSize", 1009, true, nil, nothing, after(binaryFrame(make([]byte, 101)))},
		{"a Writer was abandoned", 1011, true, nil, func(c *wsd.Conn) {
			ctx, cancel := context.WithCancel(context.Background())
			w := c.Writer(ctx, wsd.BinaryMessage, nil)
			_, _ = w.Write(make([]byte, 64<<10))
			cancel()
			_, _ = w.Write(make([]byte, 64<<10))
		}, answers},
		{"the handler does not receive", 1013, true, nil, func(c *wsd.Conn) { time.Sleep(time.Minute) },
			after(text("1"), text("2"), text("3"), text("4"), text("5"))},
		{"the login has expired", 3000, true, nil, func(c *wsd.Conn) { c.ExpireAt(time.Now()) }, answers},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := servedConn(t, wsd.Config{MaxMessageSize: 100, MaxFragments: 3, MessageBuffer: 2, SlowConsumer: wsd.CloseSlow,
					StallTimeout: time.Second})
				ends(t, c, p).Go(func() { row.peer(c, p) })
				row.does(c)
				<-c.Closed()
				event := c.CloseEvent()
				require.Equal(t, row.code, event.Code, "%v", event.Err)
				require.Equal(t, row.local, event.Local)
				if row.cause != nil {
					require.ErrorIs(t, event.Err, row.cause)
				}
			})
		})
	}
}

func TestServerSurvivesAPanic(t *testing.T) {
	var log bytes.Buffer
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(previous)
	ws := &wsd.Server{Handler: func(c *wsd.Conn) {
		switch m, _ := c.Receive(c.Context()); string(m.Data) {
		case "panic":
			panic("a handler's own")
		case "exit":
			runtime.Goexit()
		}
		echo(c)
	}}
	dial, _ := serve(t, ws)
	for _, how := range []string{"panic", "exit"} {
		c := dial()
		require.NoError(t, c.Send(t.Context(), wsd.Text(how)))
		<-c.Closed()
		require.Equal(t, wsd.StatusInternalError, c.CloseEvent().Code)
	}
	again := dial()
	require.NoError(t, again.Send(t.Context(), wsd.Text("alive")))
	require.NoError(t, again.Send(t.Context(), wsd.Text("alive?")))
	m, err := again.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "alive?", string(m.Data))
	require.NoError(t, ws.Shutdown(t.Context()))
	require.Contains(t, log.String(), "a handler's own")
	require.Contains(t, log.String(), "server_test.go")
}

// Clients are not told what is wrong with the server itself, so that is logged; what clients do wrong is not.
func TestServerLogsHandshakesThatItSpoils(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*http.Request, *wsd.AcceptOptions)
		says  string // in the log, empty for nothing
	}{
		"a ResponseWriter that keeps its connection": {func(*http.Request, *wsd.AcceptOptions) {}, "got *httptest.ResponseRecorder"},
		"an option": {func(_ *http.Request, o *wsd.AcceptOptions) { o.Subprotocols = []string{"a b"} }, "expected a token"},
		"a client":  {func(r *http.Request, _ *wsd.AcceptOptions) { r.Header.Del("Upgrade") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			previous := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			defer slog.SetDefault(previous)
			ws := &wsd.Server{Handler: echo}
			r := handshakeRequest()
			test.spoil(r, &ws.AcceptOptions)
			ws.ServeHTTP(httptest.NewRecorder(), r)
			if test.says == "" {
				require.Empty(t, log.String())
			} else {
				require.Contains(t, log.String(), test.says)
				require.Contains(t, log.String(), "level=ERROR")
			}
		})
	}
}

// net/http recovers from a panic in a handshake, and Shutdown does not wait for such a handshake.
func TestServerShutdownAfterAPanicInAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws := &wsd.Server{Handler: echo}
		ws.CheckOrigin = func(*http.Request) bool { panic("a check's own") }
		require.PanicsWithValue(t, "a check's own", func() { ws.ServeHTTP(httptest.NewRecorder(), handshakeRequest()) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, ws.Shutdown(ctx))
	})
}

func TestServerShutdown(t *testing.T) {
	ws := &wsd.Server{Handler: echo}
	dial, url := serve(t, ws)
	var clients []*wsd.Conn
	for range 20 {
		clients = append(clients, dial())
	}
	for _, c := range clients {
		require.NoError(t, c.Send(t.Context(), wsd.Text("x")))
		<-c.Messages()
	}
	require.Equal(t, 20, ws.Connections())
	require.NoError(t, ws.Shutdown(t.Context()))
	for _, c := range clients {
		<-c.Closed()
		require.Equal(t, wsd.StatusGoingAway, c.CloseEvent().Code)
		require.True(t, c.CloseEvent().Clean)
	}
	_, response, err := wsd.Dial(t.Context(), url, nil)
	var refused *wsd.HandshakeError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NoError(t, ws.Shutdown(t.Context()), "again")
	//lint:ignore SA1012 the mistake is what is tested
	require.ErrorIs(t, ws.Shutdown(nil), wsd.ErrNilContext)
}

func TestServerShutdownEndsWhoDoesNotAnswer(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	ws := &wsd.Server{Handler: func(*wsd.Conn) { close(started); <-release }}
	dial, _ := serve(t, ws)
	c := dial()
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, ws.Shutdown(ctx), context.DeadlineExceeded, "the handler does not return")
	<-c.Closed()
	close(release)
	require.NoError(t, ws.Shutdown(t.Context()))
	require.Zero(t, ws.Connections())
}

// A context that is done ends the wait; if there is nothing to wait for, it does not matter.
func TestServerShutdownWithNothingLeft(t *testing.T) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 { // for whoever looks at both at once finds the right one half of the time
		require.NoError(t, new(wsd.Server).Shutdown(done), "of a server that never served")
	}
	release := make(chan struct{})
	ws := &wsd.Server{Handler: func(*wsd.Conn) { <-release }}
	dial, _ := serve(t, ws)
	c := dial()
	for range 100 {
		require.ErrorIs(t, ws.Shutdown(done), context.Canceled, "the handler has not returned")
	}
	<-c.Closed()
	close(release)
	require.NoError(t, ws.Shutdown(context.Background()))
	for range 100 {
		require.NoError(t, ws.Shutdown(done), "all have ended")
	}
}

// What Shutdown no longer waited for leaves nothing behind.
func TestServerShutdownGivenUpLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws := &wsd.Server{}
		judging, judge := make(chan struct{}), make(chan struct{})
		ws.CheckOrigin = func(*http.Request) bool { close(judging); <-judge; return false }
		go ws.ServeHTTP(httptest.NewRecorder(), handshakeRequest())
		<-judging
		before := goroutines()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for range 10 {
			require.ErrorIs(t, ws.Shutdown(ctx), context.Canceled)
		}
		synctest.Wait()
		require.LessOrEqual(t, goroutines(), before)
		close(judge)
		require.NoError(t, ws.Shutdown(context.Background()))
	})
}

// A handshake that is under way when Shutdown begins makes a connection that is closed as all others are, as the
// documentation of Shutdown says.
func TestServerShutdownDuringAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws := &wsd.Server{Handler: echo}
		ws.PingInterval = -1
		judging, judge := make(chan struct{}), make(chan struct{})
		ws.CheckOrigin = func(*http.Request) bool { close(judging); <-judge; return true }
		client, server := net.Pipe()
		go ws.ServeHTTP(hijacked{httptest.NewRecorder(), server, nil}, handshakeRequest())
		<-judging
		shut := make(chan error, 1)
		go func() { shut <- ws.Shutdown(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-shut:
			t.Fatal("the handshake was not waited for: ", err)
		default:
		}
		close(judge)
		reader := bufio.NewReader(client)
		_, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		conn := wsd.NewConn(readFrom{reader, client}, wsd.ClientRole, wsd.Config{PingInterval: -1})
		begin := time.Now()
		<-conn.Closed()
		require.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
		require.True(t, conn.CloseEvent().Clean)
		require.NoError(t, <-shut)
		require.Zero(t, time.Since(begin))
		require.Zero(t, ws.Connections())
	})
}

// readFrom is a connection of which a reader holds bytes.
type readFrom struct {
	*bufio.Reader
	net.Conn
}

func (r readFrom) Read(b []byte) (int, error) { return r.Reader.Read(b) }

// A handshake that outlasts a Shutdown whose context is done makes no connection that outlasts it.
func TestServerShutdownGivenUpDuringAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws := &wsd.Server{Handler: echo}
		ws.CloseTimeout, ws.PingInterval = time.Hour, -1 // what does not answer would stay
		judging, judge := make(chan struct{}), make(chan struct{})
		ws.CheckOrigin = func(*http.Request) bool { close(judging); <-judge; return true }
		silent, b := wsdtest.Transport()
		defer silent.Close()
		go ws.ServeHTTP(hijacked{httptest.NewRecorder(), memoryConn{b}, nil}, handshakeRequest())
		<-judging
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, ws.Shutdown(ctx), context.DeadlineExceeded)
		close(judge)
		given := time.Now()
		require.NoError(t, ws.Shutdown(t.Context()))
		require.Zero(t, time.Since(given))
	})
}

// Connections that are made while the server shuts down are refused or closed, never forgotten.
func TestServerShutdownRacesWithDials(t *testing.T) {
	ws := &wsd.Server{Handler: echo}
	_, url := serve(t, ws)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			c, _, err := wsd.Dial(t.Context(), url, nil)
			if err != nil {
				return
			}
			<-c.Closed()
			if code := c.CloseEvent().Code; code != wsd.StatusGoingAway {
				t.Error(code)
			}
		})
	}
	for ws.Connections() == 0 {
		runtime.Gosched()
	}
	require.NoError(t, ws.Shutdown(t.Context()))
	require.Zero(t, ws.Connections())
	all.Wait()
}
