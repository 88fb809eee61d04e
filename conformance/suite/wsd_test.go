// The whole suite against wsd, in one process: an echo server judged, and then a client.

package suite_test

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
	"github.com/seed62836080/wsd/conformance/suite"
)

var (
	messagesFlag = flag.Int("messages", 1000, "messages in a compression case")
	volumeFlag   = flag.Int("volume", 64<<10, "bytes of messages in a compression case, at most")
)

// patient is for peers on a slow machine: an answer that is due at once is given a quarter of a minute.
var patient = suite.Options{Parallel: 8, Timeout: 15 * time.Second}

var config = wsd.Config{Compression: &wsd.Compression{}}

// wholeSuite leaves the 16 MiB messages to runs without the race detector, under which they take half a minute each, and
// shortens the compression cases there.
func wholeSuite(role suite.Role) []suite.Case {
	load := suite.Load{Messages: *messagesFlag, Bytes: *volumeFlag}
	if underRace {
		load = suite.Load{Messages: min(load.Messages, 100), Bytes: min(load.Bytes, 16<<10)}
	}
	return slices.DeleteFunc(suite.Select(suite.Cases(load), role, nil), func(c suite.Case) bool {
		return underRace && strings.Contains(c.Name, "16777216")
	})
}

func echoAll(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
	}
}

// echoServer returns an echo server of wsd's that ends with the test, over TLS or not.
func echoServer(t *testing.T, overTLS bool) *httptest.Server {
	t.Helper()
	s := &wsd.Server{Handler: echoAll}
	s.AcceptOptions.Config = config
	h := httptest.NewUnstartedServer(s)
	if overTLS {
		h.StartTLS()
	} else {
		h.Start()
	}
	t.Cleanup(func() {
		h.Close()
		require.NoError(t, s.Shutdown(context.Background()))
	})
	return h
}

// echoClients are n clients of wsd's that connect to the address until they are told that no case is left.
func echoClients(t *testing.T, n int, address string) (wait func()) {
	var clients sync.WaitGroup
	for range n {
		clients.Go(func() {
			for {
				conn, response, err := wsd.Dial(t.Context(), "ws://"+address+"/echo", &wsd.DialOptions{Config: config})
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
	return clients.Wait
}

// refusedConnection says whether err is that nobody listens: the suite has ended.
func refusedConnection(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func requireAllPassed(t *testing.T, results []suite.Result) {
	t.Helper()
	require.NotEmpty(t, results)
	for _, r := range results {
		switch {
		case r.Verdict == suite.Failed || r.Verdict == suite.NotRun:
			t.Errorf("%s: %s: %s (%s): %s", r.Verdict, r.Case, r.Name, r.Section, r.Detail)
		case r.Note != "" && !strings.Contains(r.Note, "no echo was compressed"):
			t.Errorf("%s: %s: %s", r.Case, r.Name, r.Note)
		}
	}
	_, all := suite.Tallies(results)
	t.Logf("%d passed, %d failed, %d not applicable", all.Passed, all.Failed, all.NotApplicable)
	slices.SortFunc(results, func(a, b suite.Result) int { return cmp.Compare(b.Took, a.Took) })
	for _, r := range results[:min(5, len(results))] {
		t.Logf("%v for %s: %s", r.Took.Round(time.Millisecond), r.Case, r.Name)
	}
}

func TestServer(t *testing.T) {
	results, err := suite.JudgeServer(t.Context(), echoServer(t, false).URL+"/echo", wholeSuite(suite.Server), &patient)
	require.NoError(t, err)
	requireAllPassed(t, results)
}

func TestClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	wait := echoClients(t, patient.Parallel, l.Addr().String())
	results, err := suite.JudgeClients(t.Context(), l, wholeSuite(suite.Client), &patient)
	require.NoError(t, err)
	requireAllPassed(t, results)
	wait()
}
