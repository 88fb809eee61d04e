// Tests of the runs through the public API: what is reported when, and how a run ends early.

package suite_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/conformance/suite"
)

// light keeps compression cases short where they are not what is tested.
var light = suite.Load{Messages: 4, Bytes: 4096}

func chosen(role suite.Role, pattern string) []suite.Case {
	return suite.Select(suite.Cases(light), role, regexp.MustCompile(pattern))
}

// byID returns results by their cases' IDs, after looking that each is there once.
func byID(t *testing.T, results []suite.Result) map[string]suite.Result {
	t.Helper()
	m := make(map[string]suite.Result)
	for _, r := range results {
		require.NotContains(t, m, r.Case)
		m[r.Case] = r
	}
	return m
}

func TestSelect(t *testing.T) {
	all := suite.Cases(light)
	require.Equal(t, len(all), len(suite.Select(all, "", nil)))
	inOrder := suite.Topics()
	for _, c := range all {
		for inOrder[0] != c.Topic {
			inOrder = inOrder[1:] // panics where a topic comes twice
		}
	}

	one := chosen(suite.Client, "^close/3$")
	require.Len(t, one, 1)
	require.Equal(t, "close/3", one[0].ID, "a case keeps its number whatever is selected")
	require.Equal(t, one[0].Name, chosen(suite.Server, regexp.QuoteMeta(one[0].Name))[0].Name, "names match, too")
	require.Empty(t, chosen(suite.Client, "^every code from 0"), "only servers can be judged so")
	require.NotEmpty(t, chosen(suite.Server, "^every code from 0"))
	require.Empty(t, chosen("", "no such case"))

	heavy := suite.Cases(suite.Load{})
	require.Len(t, heavy, len(all))
	for i := range all {
		require.Equal(t, heavy[i].ID, all[i].ID, "the load does not number cases")
	}
	require.Contains(t, heavy[len(heavy)-60].Name, "1000 messages")
}

// Each result is told as it comes, and never two at a time.
func TestEnded(t *testing.T) {
	for _, role := range []suite.Role{suite.Server, suite.Client} {
		t.Run(string(role), func(t *testing.T) {
			var told []suite.Result
			var telling atomic.Int32
			o := suite.Options{Parallel: 4, Timeout: patient.Timeout, Ended: func(r suite.Result) {
				require.EqualValues(t, 1, telling.Add(1))
				told = append(told, r)
				telling.Add(-1)
			}}
			cases := chosen(role, "^reserved opcodes/")
			results := judgeWSD(t, role, cases, &o)
			require.Len(t, results, len(cases))
			for i, r := range results {
				require.Equal(t, cases[i].ID, r.Case, "the order is that of the cases")
				require.Equal(t, role, r.Role)
				require.Equal(t, suite.Passed, r.Verdict, r.Detail)
				require.NotZero(t, r.Took)
			}
			require.Equal(t, byID(t, results), byID(t, told))
		})
	}
}

func judgeWSD(t *testing.T, role suite.Role, cases []suite.Case, o *suite.Options) []suite.Result {
	t.Helper()
	if role == suite.Server {
		results, err := suite.JudgeServer(t.Context(), echoServer(t, false).URL, cases, o)
		require.NoError(t, err)
		return results
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	wait := echoClients(t, 4, l.Addr().String())
	defer wait()
	results, err := suite.JudgeClients(t.Context(), l, cases, o)
	require.NoError(t, err)
	return results
}

func TestOverTLS(t *testing.T) {
	h := echoServer(t, true)
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	cases := chosen(suite.Server, "^(handshake|limits)/|the connection ends|direction ends|^the code")
	o := patient
	o.TLS = &tls.Config{RootCAs: roots}
	for _, scheme := range []string{"https", "wss"} {
		results, err := suite.JudgeServer(t.Context(), scheme+strings.TrimPrefix(h.URL, "https")+"/echo?x=y", cases, &o)
		require.NoError(t, err)
		requireAllPassed(t, results)
		cases = cases[:1]
	}
	for _, config := range []*tls.Config{nil, {}} {
		_, err := suite.JudgeServer(t.Context(), h.URL, cases, &suite.Options{TLS: config})
		require.ErrorContains(t, err, "certificate", "certificates are verified")
	}
}

func TestServersThatCannotBeJudged(t *testing.T) {
	for url, want := range map[string]string{
		"ftp://127.0.0.1/":       "expected ws://",
		"ws:///path":             "expected ws://",
		"127.0.0.1:8080":         "",
		"%":                      "",
		"ws://127.0.0.1:1/echo":  "cannot be reached",
		"wss://127.0.0.1:1/echo": "cannot be reached",
	} {
		results, err := suite.JudgeServer(t.Context(), url, chosen(suite.Server, "^limits/"), nil)
		require.ErrorContains(t, err, want, url)
		require.NotContains(t, err.Error(), "\n")
		require.Nil(t, results)
	}
}

// muteServer accepts connections, shows each to the hook and answers nothing.
func muteServer(t *testing.T, hook func(net.Conn)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			hook(conn)
			serving.Go(func() {
				defer conn.Close()
				io.Copy(io.Discard, conn)
			})
		}
	})
	return l.Addr().String()
}

var errEnough = errors.New("that is enough")

// A run ends with its context at once, although its peers are silent and its timeout is long.
func TestContextEndsJudgingAServer(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	connections := 0
	address := muteServer(t, func(net.Conn) {
		if connections++; connections == 4 { // the first is no case's
			cancel(errEnough)
		}
	})
	cases := chosen(suite.Server, "^framing/")
	told := 0
	results, err := suite.JudgeServer(ctx, "ws://"+address, cases, &suite.Options{Parallel: 3, Timeout: time.Hour, Ended: func(suite.Result) { told++ }})
	require.ErrorIs(t, err, errEnough)
	require.Len(t, results, len(cases))
	require.Equal(t, len(cases), told)
	for _, r := range results {
		require.Equal(t, suite.NotRun, r.Verdict)
		require.Equal(t, "the run was ended", r.Detail)
	}
}

func TestContextEndsJudgingClients(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cases := chosen(suite.Client, "^utf-8/")
	var clients sync.WaitGroup
	clients.Go(func() {
		silent := takeCase(t, l.Addr().String())
		defer silent.Close()
		echoClients(t, 1, l.Addr().String())()
		io.Copy(io.Discard, silent)
	})
	results, err := suite.JudgeClients(ctx, l, cases, &suite.Options{Parallel: 2, Timeout: time.Hour, Ended: func(r suite.Result) {
		if r.Verdict == suite.Passed {
			cancel(errEnough)
		}
	}})
	require.ErrorIs(t, err, errEnough)
	require.Len(t, results, len(cases))
	details := make(map[string]int)
	for _, r := range results {
		require.NotEqual(t, suite.Failed, r.Verdict)
		details[r.Detail]++
	}
	require.NotZero(t, details[""], "the second client passed")
	require.NotZero(t, details["the run was ended"], "the silent client's case")
	require.Greater(t, details["no client came"], len(cases)-10)
	clients.Wait()
}

// takeCase connects to the suite as a client that is given a case and does nothing about it.
func takeCase(t *testing.T, address string) net.Conn {
	conn, err := net.Dial("tcp", address)
	if !assert.NoError(t, err) {
		return conn
	}
	_, err = conn.Write([]byte("GET / HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n"))
	assert.NoError(t, err)
	line := make([]byte, len("HTTP/1.1 101"))
	_, err = io.ReadFull(conn, line)
	assert.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 101", string(line))
	return conn
}

// A server that is gone has not failed the cases that were left.
func TestServerThatGoes(t *testing.T) {
	h := echoServer(t, false)
	cases := chosen(suite.Server, "^reserved bits/|^every code from 0 to 999")
	results, err := suite.JudgeServer(t.Context(), h.URL, cases, &suite.Options{Parallel: 1, Timeout: patient.Timeout, Ended: func(r suite.Result) {
		if r.Case == cases[4].ID {
			h.Listener.Close()
		}
	}})
	require.NoError(t, err)
	for i, r := range results {
		switch {
		case i < 5:
			require.Equal(t, suite.Passed, r.Verdict, r.Detail)
		case i > 5: // that one may have begun already
			require.Equal(t, suite.NotRun, r.Verdict)
			require.Contains(t, r.Detail, "the server cannot be reached")
		}
	}
}

func TestListenerThatFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	results, err := suite.JudgeClients(t.Context(), l, chosen(suite.Client, "^limits/"), nil)
	require.ErrorIs(t, err, net.ErrClosed)
	for _, r := range results {
		require.Equal(t, suite.NotRun, r.Verdict)
		require.Equal(t, "no client came", r.Detail)
	}
}

func TestNoCases(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	results, err := suite.JudgeClients(t.Context(), l, nil, nil)
	require.NoError(t, err)
	require.Empty(t, results)
	results, err = suite.JudgeServer(t.Context(), "ws://"+muteServer(t, func(net.Conn) {}), nil, nil)
	require.NoError(t, err)
	require.Empty(t, results)
}

// A client that comes when no case is left is told so.
func TestClientsAreRefusedInTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cases := chosen(suite.Client, "^framing/1$")
	done := make(chan error, 1)
	go func() {
		_, err := suite.JudgeClients(t.Context(), l, cases, &suite.Options{Timeout: 10 * time.Second})
		done <- err
	}()
	// The first takes the only case and keeps it, until the second has been refused.
	first := takeCase(t, l.Addr().String())
	defer first.Close()
	response, err := http.Get("http://" + l.Addr().String())
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusGone, response.StatusCode)
	first.Close()
	require.NoError(t, <-done)
}

func TestTallies(t *testing.T) {
	byTopic, all := suite.Tallies([]suite.Result{
		{Topic: "close", Verdict: suite.Failed}, {Topic: "close", Verdict: suite.Passed}, {Topic: "framing", Verdict: suite.NotRun},
		{Topic: "close", Verdict: suite.NotApplicable}, {Topic: "close", Verdict: suite.Passed},
	})
	require.Equal(t, []suite.Tally{
		{Topic: "framing", NotRun: 1},
		{Topic: "close", Passed: 2, Failed: 1, NotApplicable: 1},
	}, byTopic)
	require.Equal(t, suite.Tally{Topic: "all", Passed: 2, Failed: 1, NotApplicable: 1, NotRun: 1}, all)
	require.Equal(t, 5, all.Cases())
}

// The suite must not share code with what it judges: a mistake of wsd's would excuse itself.
func TestSuiteSharesNoCode(t *testing.T) {
	for _, pattern := range []string{"*.go", "../*.go"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, paths)
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, spec := range file.Imports {
				name := strings.Trim(spec.Path.Value, `"`)
				host, _, _ := strings.Cut(name, "/")
				require.True(t, !strings.Contains(host, ".") || name == "github.com/seed62836080/wsd/conformance/suite", "%s imports %s", path, name)
			}
		}
	}
}
