// middleware_test.go checks what middleware around an http.Handler sees of a handshake.

package wsd_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// A middleware is a ResponseWriter around another one, made like those of well-known libraries. Each keeps the first
// status it sees, 200 if it sees none, and adds a cookie when that is written.
type middleware interface {
	http.ResponseWriter
	counted() int
}

// unwrapping shows what it wraps by Unwrap alone, as the session manager scs does.
type unwrapping struct {
	inner  http.ResponseWriter
	status int
}

func (m *unwrapping) Header() http.Header         { return m.inner.Header() }
func (m *unwrapping) Write(b []byte) (int, error) { return m.inner.Write(b) }
func (m *unwrapping) Unwrap() http.ResponseWriter { return m.inner }
func (m *unwrapping) counted() int                { return m.status }
func (m *unwrapping) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
		m.inner.Header().Add("Set-Cookie", "session=1")
	}
	m.inner.WriteHeader(status)
}

// hijacking also has a Hijack of its own, as those of httpsnoop, chi and echo have.
type hijacking struct{ unwrapping }

func (m *hijacking) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(m.inner).Hijack()
}

// embedding is what programs write for themselves: no Unwrap, but a Hijack.
type embedding struct {
	http.ResponseWriter
	status int
}

func (m *embedding) counted() int { return m.status }
func (m *embedding) WriteHeader(status int) {
	m.status = status
	m.Header().Add("Set-Cookie", "session=1")
	m.ResponseWriter.WriteHeader(status)
}

func (m *embedding) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return m.ResponseWriter.(http.Hijacker).Hijack()
}

// nested embeds by value, behind an unexported name, as chi's writers do.
type nested struct{ embedding }

// late writes its header with the first bytes of a body, and marks it as written when the connection is handed over, as
// gin does.
type late struct {
	http.ResponseWriter
	status  int
	written bool
}

func (m *late) counted() int                { return m.status }
func (m *late) Unwrap() http.ResponseWriter { return m.ResponseWriter }
func (m *late) WriteHeader(status int) {
	if !m.written {
		m.status = status
		m.Header().Add("Set-Cookie", "session=1")
	}
}

func (m *late) Write(b []byte) (int, error) {
	if !m.written {
		m.written = true
		m.ResponseWriter.WriteHeader(m.status)
	}
	return m.ResponseWriter.Write(b)
}

func (m *late) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	m.written = true
	return m.ResponseWriter.(http.Hijacker).Hijack()
}

// closed shows nothing of what it wraps.
type closed struct{ inner middleware }

func (m closed) Header() http.Header         { return m.inner.Header() }
func (m closed) Write(b []byte) (int, error) { return m.inner.Write(b) }
func (m closed) WriteHeader(status int)      { m.inner.WriteHeader(status) }
func (m closed) counted() int                { return m.inner.counted() }
func (m closed) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(m.inner).Hijack()
}

// locked is a buffer that goroutines share.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Middleware that wraps the ResponseWriter sees the 101, and what it adds to the header with it is sent, as the
// documentation of Accept says.
func TestAcceptAnnouncesTheAnswerToMiddleware(t *testing.T) {
	for name, test := range map[string]struct {
		wrap func(http.ResponseWriter) middleware
		seen bool
	}{
		"by Unwrap":          {func(w http.ResponseWriter) middleware { return &unwrapping{inner: w} }, true},
		"with a Hijack":      {func(w http.ResponseWriter) middleware { return &hijacking{unwrapping{inner: w}} }, true},
		"that embeds":        {func(w http.ResponseWriter) middleware { return &embedding{ResponseWriter: w} }, true},
		"that embeds deeper": {func(w http.ResponseWriter) middleware { return nested{embedding{ResponseWriter: w}}.pointer() }, true},
		"that writes late":   {func(w http.ResponseWriter) middleware { return &late{ResponseWriter: w} }, true},
		"over another": {func(w http.ResponseWriter) middleware {
			return &hijacking{unwrapping{inner: hidden{hidden{w}}}}
		}, true},
		"that hides": {func(w http.ResponseWriter) middleware { return closed{&unwrapping{inner: w}} }, false},
	} {
		for _, keepAlives := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				var noise locked
				statuses, results := make(chan int, 1), make(chan error, 1)
				inner := echoHandler(&wsd.AcceptOptions{
					Header:       http.Header{"X-Server": {"wsd"}, "Set-Cookie": {"a=b"}, "x-MINE": {"1"}},
					Subprotocols: []string{"v1"},
					Config:       wsd.Config{Compression: &wsd.Compression{}},
				}, results)
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Vary", "Origin")
					w.Header()["connection"] = []string{"close"} // not for a 101
					w.Header().Set("Content-Length", "5")
					m := test.wrap(w)
					defer func() { statuses <- m.counted() }()
					inner.ServeHTTP(m, r)
				}))
				server.Config.ErrorLog = log.New(&noise, "", 0)
				server.Config.SetKeepAlivesEnabled(keepAlives)
				server.Start()
				defer server.Close()

				// The first frame is there before the answer is.
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				require.NoError(t, err)
				defer func() { _ = conn.Close() }()
				_, err = io.WriteString(conn, rawRequest("", "Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Extensions: permessage-deflate")+maskedHello)
				require.NoError(t, err)
				require.NoError(t, <-results)
				reader := bufio.NewReader(conn)
				var head strings.Builder
				for !strings.HasSuffix(head.String(), "\r\n\r\n") {
					line, err := reader.ReadString('\n')
					require.NoError(t, err)
					head.WriteString(line)
				}
				var echoed [7]byte
				_, err = io.ReadFull(reader, echoed[:])
				require.NoError(t, err)
				require.Equal(t, "\x81\x05Hello", string(echoed[:]), "nothing is between the answer and the frames")
				_ = conn.Close()
				require.True(t, strings.HasPrefix(head.String(), "HTTP/1.1 101 Switching Protocols\r\n"), head.String())
				want := []string{
					"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: " + exampleAccept, "Sec-WebSocket-Protocol: v1",
					"Sec-WebSocket-Extensions: permessage-deflate", "Vary: Origin", "X-Server: wsd", "x-MINE: 1", "Set-Cookie: a=b",
				}
				status := 0
				if test.seen {
					want, status = append(want, "Set-Cookie: session=1"), http.StatusSwitchingProtocols
				}
				var got []string
				for line := range strings.SplitSeq(strings.TrimSpace(head.String()), "\r\n") {
					if !strings.HasPrefix(line, "HTTP/") && !strings.HasPrefix(line, "Date: ") {
						got = append(got, line)
					}
				}
				require.ElementsMatch(t, want, got)
				require.Equal(t, status, <-statuses)
				require.Empty(t, noise.String())
			})
		}
	}
}

func (m nested) pointer() *nested { return &m }

// What cannot be taken over is refused before middleware has seen a status, whoever says so.
func TestAcceptRefusesBeforeItAnnounces(t *testing.T) {
	no := errors.New("no")
	for name, test := range map[string]struct {
		wrap func(http.ResponseWriter) middleware
		with func(http.Handler) http.Handler
		err  error
	}{
		"embedded and without a Hijack": {func(w http.ResponseWriter) middleware { return &unhijackable{ResponseWriter: w} }, nil, http.ErrNotSupported},
		"a Hijack that refuses, and nothing to see below": {func(w http.ResponseWriter) middleware {
			return refusing{closed{&unwrapping{inner: w}}, no}
		}, nil, no},
		"a Hijack that refuses, and a header that is written late": {func(w http.ResponseWriter) middleware {
			return &lateRefusing{late{ResponseWriter: w}, no}
		}, nil, no},
		"http.TimeoutHandler": {func(w http.ResponseWriter) middleware { return &unwrapping{inner: w} },
			func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "") }, http.ErrNotSupported},
		"a Hijack over http.TimeoutHandler": {func(w http.ResponseWriter) middleware { return &hijacking{unwrapping{inner: w}} },
			func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "") }, http.ErrNotSupported},
	} {
		t.Run(name, func(t *testing.T) {
			var noise locked
			results, statuses := make(chan error, 1), make(chan int, 1)
			inner := echoHandler(&wsd.AcceptOptions{Header: http.Header{"X-Server": {"wsd"}}}, results)
			var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				m := test.wrap(w)
				inner.ServeHTTP(m, r)
				statuses <- m.counted()
			})
			if test.with != nil {
				handler = test.with(handler)
			}
			server := httptest.NewUnstartedServer(handler)
			server.Config.ErrorLog = log.New(&noise, "", 0)
			server.Start()
			defer server.Close()
			resp, _ := exchange(t, server.Listener.Addr().String(), rawRequest(""))
			require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
			require.Empty(t, resp.Header.Values("Sec-WebSocket-Accept"))
			require.Empty(t, resp.Header.Values("X-Server"))
			var refused *wsd.HandshakeError
			err := <-results
			require.ErrorAs(t, err, &refused)
			require.ErrorIs(t, err, test.err)
			require.Equal(t, http.StatusInternalServerError, refused.StatusCode)
			require.Equal(t, http.StatusInternalServerError, <-statuses)
			require.Empty(t, noise.String())
		})
	}
}

// unhijackable embeds, and has no Hijack.
type unhijackable struct {
	http.ResponseWriter
	status int
}

func (m *unhijackable) counted() int { return m.status }
func (m *unhijackable) WriteHeader(status int) {
	m.status = status
	m.ResponseWriter.WriteHeader(status)
}

// refusing has a Hijack that fails.
type refusing struct {
	closed
	err error
}

func (m refusing) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, m.err }

// lateRefusing is late, and has a Hijack that fails.
type lateRefusing struct {
	late
	err error
}

func (m *lateRefusing) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, m.err }

// A middleware between, which does not hand the connection over although net/http would, is found too late for another
// answer: the connection is closed.
func TestAcceptWhereMiddlewareKeepsTheConnectionAfterTheAnswer(t *testing.T) {
	no := errors.New("no")
	results := make(chan error, 1)
	inner := echoHandler(nil, results)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(keeping{&unwrapping{inner: w}, no}, r)
	}))
	defer server.Close()
	_, reader := exchange(t, server.Listener.Addr().String(), rawRequest(""))
	err := <-results
	require.ErrorIs(t, err, no)
	var failed *wsd.HandshakeError
	require.ErrorAs(t, err, &failed)
	require.Zero(t, failed.StatusCode)
	_, err = reader.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

// keeping shows what it wraps, but does not hand its connection over.
type keeping struct {
	*unwrapping
	err error
}

func (m keeping) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, m.err }

// HandshakeTimeout bounds an answer that net/http writes because of middleware, as any other, and is over when Accept
// returns.
func TestAcceptBoundsTheAnswerThroughMiddleware(t *testing.T) {
	serve := func(t *testing.T, timeout time.Duration) (client net.Conn, results <-chan error) {
		listener := listenInMemory(net.Pipe)
		errs := make(chan error, 1)
		inner := echoHandler(&wsd.AcceptOptions{HandshakeTimeout: timeout, Config: wsd.Config{PingInterval: -1}}, errs)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(&embedding{ResponseWriter: w}, r)
		}), WriteTimeout: 5 * time.Second}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
		client, err := listener.dial(t.Context())
		require.NoError(t, err)
		_, err = io.WriteString(client, rawRequest(""))
		require.NoError(t, err)
		return client, errs
	}
	t.Run("a client that does not read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, results := serve(t, 3*time.Second)
			begin := time.Now()
			err := <-results
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			var failed *wsd.HandshakeError
			require.ErrorAs(t, err, &failed)
			require.Zero(t, failed.StatusCode)
			require.Equal(t, 3*time.Second, time.Since(begin))
			_, err = client.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, "the connection is closed")
		})
	})
	t.Run("no bound", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, results := serve(t, -1)
			<-time.After(time.Hour)
			go func() { _, _ = io.Copy(io.Discard, client) }()
			require.NoError(t, <-results)
			_ = client.Close()
		})
	})
	t.Run("afterwards", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, results := serve(t, time.Second)
			reader := bufio.NewReader(client)
			_, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			require.NoError(t, <-results)
			<-time.After(time.Hour)
			_, err = io.WriteString(client, maskedHello)
			require.NoError(t, err)
			var echoed [7]byte
			_, err = io.ReadFull(reader, echoed[:])
			require.NoError(t, err)
			require.Equal(t, "\x81\x05Hello", string(echoed[:]))
			_ = client.Close()
		})
	})
}
