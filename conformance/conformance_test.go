// The whole suite against wsd, in one process: an echo server judged, and then a client.

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

var (
	messagesFlag = flag.Int("messages", 1000, "messages in a compression case")
	volumeFlag   = flag.Int("volume", 64<<10, "bytes of messages in a compression case, at most")
)

// The limits are generous where the machine is slow: an answer that is due at once is given a quarter of a minute.
var testOptions = options{parallel: 8, timeout: 15 * time.Second}

var config = wsd.Config{Compression: &wsd.Compression{}}

// testCases leaves the 16 MiB messages to runs without the race detector, under which they take half a minute each, and
// shortens the compression cases there.
func testCases(r role) []testCase {
	messages, volume := *messagesFlag, *volumeFlag
	if underRace {
		messages, volume = min(messages, 100), min(volume, 16<<10)
	}
	return slices.DeleteFunc(forRole(allCases(messages, volume), r), func(c testCase) bool {
		return underRace && strings.Contains(c.name, "16777216")
	})
}

func echoAll(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
	}
}

func requireAllPassed(t *testing.T, results []result) {
	counts := make(map[verdict]int)
	for _, r := range results {
		counts[r.Verdict]++
		switch {
		case r.Verdict == failed:
			t.Errorf("%s: %s (%s): %s", r.Case, r.Name, r.Section, r.Detail)
		case r.Note != "" && !strings.Contains(r.Note, "no echo was compressed"):
			t.Errorf("%s: %s: %s", r.Case, r.Name, r.Note)
		}
	}
	t.Logf("%d passed, %d failed, %d not applicable", counts[passed], counts[failed], counts[notApplicable])
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(b.Took, a.Took) })
	for _, r := range results[:5] {
		t.Logf("%v for %s: %s", r.Took.Round(time.Millisecond), r.Case, r.Name)
	}
}

func TestServer(t *testing.T) {
	s := &wsd.Server{Handler: echoAll}
	s.AcceptOptions.Config = config
	h := httptest.NewServer(s)
	defer h.Close()
	results, err := judgeServer(t.Context(), "ws"+strings.TrimPrefix(h.URL, "http")+"/echo", testCases(server), testOptions)
	require.NoError(t, err)
	requireAllPassed(t, results)
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var clients sync.WaitGroup
	for range testOptions.parallel {
		clients.Go(func() {
			for {
				conn, response, err := wsd.Dial(t.Context(), "ws://"+l.Addr().String()+"/echo", &wsd.DialOptions{Config: config})
				if err == nil {
					echoAll(conn)
					<-conn.Closed()
					continue
				}
				if response != nil && response.StatusCode == http.StatusGone || errors.Is(err, context.Canceled) || refusedConnection(err) {
					return
				}
			}
		})
	}
	results, err := judgeClients(t.Context(), l, testCases(client), testOptions)
	require.NoError(t, err)
	requireAllPassed(t, results)
	clients.Wait()
}

// refusedConnection says whether err is that nobody listens: the suite has ended.
func refusedConnection(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
