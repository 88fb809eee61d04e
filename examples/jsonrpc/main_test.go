// main_test.go runs the example against its own server, and its client against servers that do worse.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// Sums are right, and the subscription outlives its connection, until ctx ends it.
func TestRun(t *testing.T) {
	server := httptest.NewServer(demo(time.Millisecond, 50*time.Millisecond))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, out, server.URL, time.Millisecond)
		_ = out.Close()
	}()
	var sums, times, connections int
	lost := true // the next time is the first on a new connection
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "time "):
			if times++; lost {
				connections++
				lost = false
			}
		case strings.Contains(line, errLost.Error()):
			lost = true
		case strings.Contains(line, " = "):
			sums++
		case strings.Contains(line, "context canceled"):
		default:
			t.Errorf("unexpected line %q", line)
		}
		if connections == 3 && sums > 10 {
			cancel()
		}
	}
	require.NoError(t, <-ended)
}

// running is a client of a server, whose connections are given to handler.
func running(t *testing.T, handler func(*wsd.Conn), notified func(string, json.RawMessage)) *client {
	t.Helper()
	server := httptest.NewServer(&wsd.Server{Handler: handler})
	ctx, cancel := context.WithCancel(t.Context())
	c := newClient(notified)
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx, server.URL, &wsd.RedialOptions{MinBackoff: -1}) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		server.Close()
	})
	return c
}

// Answers come in any order, each to whom it belongs, and errors are told.
func TestConcurrentCalls(t *testing.T) {
	c := running(t, func(conn *wsd.Conn) {
		var got []incoming
		for msg := range conn.Messages() {
			var in incoming
			_ = msg.Decode(&in)
			if got = append(got, in); len(got) < 10 {
				continue
			}
			for i := len(got) - 1; i >= 0; i-- {
				m, _ := wsd.JSON(got[i].answer())
				_ = conn.Send(conn.Context(), m)
			}
			got = nil
		}
	}, nil)
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if i == 9 {
				failed := new(rpcError)
				if err := c.call(t.Context(), "multiply", nil, nil); !errorsAs(err, &failed) || failed.Code != -32601 {
					t.Error(err)
				}
				return
			}
			var sum int
			if err := c.call(t.Context(), "add", []int{i, 100}, &sum); err != nil || sum != 100+i {
				t.Error(i, sum, err)
			}
		})
	}
	all.Wait()
	require.Empty(t, c.waiting)
}

func errorsAs(err error, target **rpcError) bool {
	failed, ok := err.(*rpcError)
	*target = failed
	return ok
}

// A call whose connection ends is not repeated behind the caller's back. One that has not begun waits for a connection.
func TestLostCalls(t *testing.T) {
	visits := make(chan *wsd.Conn, 8)
	c := running(t, func(conn *wsd.Conn) {
		visits <- conn
		for msg := range conn.Messages() {
			var in incoming
			_ = msg.Decode(&in)
			if in.Method == "end" {
				conn.CloseNow()
				return
			}
			m, _ := wsd.JSON(in.answer())
			_ = conn.Send(conn.Context(), m)
		}
	}, nil)
	require.ErrorIs(t, c.call(t.Context(), "end", nil, nil), errLost)
	var sum int
	require.NoError(t, c.call(t.Context(), "add", []int{1, 2}, &sum))
	require.Equal(t, 3, sum)
	require.Len(t, visits, 2)
	require.Empty(t, c.waiting)
}

// What is subscribed to, before there is a connection or on one, is subscribed to once on each.
func TestSubscriptions(t *testing.T) {
	type visit map[string]int
	visits := make(chan visit, 8)
	server := httptest.NewServer(&wsd.Server{Handler: func(conn *wsd.Conn) {
		seen, all := visit{}, 0
		for msg := range conn.Messages() {
			var in incoming
			_ = msg.Decode(&in)
			switch in.Method {
			case "subscribe":
				seen[string(in.Params)]++
				all++
			case "end":
				visits <- seen
				return
			}
			m, _ := wsd.JSON(map[string]any{"id": in.ID, "result": all})
			_ = conn.Send(conn.Context(), m)
		}
	}})
	defer server.Close()
	c := newClient(func(_ string, params json.RawMessage) { t.Errorf("%s", params) })
	subscribed := make(chan error, 1)
	go func() { subscribed <- c.subscribe(t.Context(), "early") }()
	for topics := 0; topics == 0; {
		c.mu.Lock()
		topics = len(c.topics)
		c.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx, server.URL, &wsd.RedialOptions{MinBackoff: -1}) }()
	require.NoError(t, <-subscribed)
	require.NoError(t, c.call(t.Context(), "anything", nil, nil))
	require.NoError(t, c.subscribe(t.Context(), "late"))
	for range 2 {
		for subscriptions := 0; subscriptions < 2; { // until run has subscribed to both, or more
			require.NoError(t, c.call(t.Context(), "anything", nil, &subscriptions))
		}
		require.ErrorIs(t, c.call(t.Context(), "end", nil, nil), errLost)
		require.Equal(t, visit{`"early"`: 1, `"late"`: 1}, <-visits)
	}
	cancel()
	require.NoError(t, <-ended)
}

// A context ends the wait for an answer, and for a connection.
func TestCallsEndWithTheirContext(t *testing.T) {
	c := running(t, func(conn *wsd.Conn) { <-conn.Closed() }, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.call(ctx, "add", []int{1}, nil), context.DeadlineExceeded)
	require.Empty(t, c.waiting)
	require.ErrorIs(t, newClient(nil).call(ctx, "add", []int{1}, nil), context.DeadlineExceeded)
	require.ErrorIs(t, newClient(nil).notify(t.Context(), "done", 1), errLost)
}

func TestRunWhereThereIsNoServer(t *testing.T) {
	server := httptest.NewServer(nil) // 404
	defer server.Close()
	require.ErrorAs(t, run(t.Context(), io.Discard, server.URL, time.Second), new(*wsd.HandshakeError))
}
