// Tests of the command: its flags, exit statuses, what it prints where, and when.

package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/conformance/suite"
)

// server returns the URL of a server that answers every message with what answer makes of it.
func server(t *testing.T, answer func(wsd.Message) wsd.Message) (url string) {
	t.Helper()
	s := &wsd.Server{Handler: func(conn *wsd.Conn) {
		for m := range conn.Messages() {
			if conn.Send(context.Background(), answer(m)) != nil {
				return
			}
		}
	}}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		require.NoError(t, s.Shutdown(context.Background()))
	})
	return "ws" + strings.TrimPrefix(h.URL, "http") + "/"
}

func same(m wsd.Message) wsd.Message { return m }

func call(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr strings.Builder
	status = run(t.Context(), args, &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

func TestPassingServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	status, out, errs := call(t, "-url", server(t, same), "-run", "^a close frame with 1000|^RSV1 on a pong$", "-json", file)
	require.Zero(t, status, out)
	require.Empty(t, errs)
	require.NotContains(t, out, ": close/", "what passed is not listed")
	require.Regexp(t, `(?m)^ +topic +passed +failed +not applicable +cases$`, out)
	require.Regexp(t, `(?m)^ +close +2 +0 +0 +2$`, out)
	require.Regexp(t, `(?m)^ +compression +0 +0 +1 +1$`, out)
	require.Regexp(t, `(?m)^ +all +2 +0 +1 +3$`, out)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var results []suite.Result
	require.NoError(t, json.Unmarshal(b, &results))
	require.Len(t, results, 3)
	require.Equal(t, suite.Passed, results[0].Verdict)
}

func TestFailingServer(t *testing.T) {
	wrong := func(wsd.Message) wsd.Message { return wsd.Text("wrong") }
	args := []string{"-url", server(t, wrong), "-run", "^close/3$|^close/1$"}
	status, out, errs := call(t, args...)
	require.Equal(t, 1, status)
	require.Empty(t, errs)
	require.Contains(t, out, "failed: close/3: a message and a close frame in one write (RFC 6455, 5.5.1)\n\ttext of 5 bytes")

	status, out, _ = call(t, append(args, "-v")...)
	require.Equal(t, 1, status)
	require.Equal(t, 1, strings.Count(out, "failed: close/3"), "not once as it ends and again in the report")
	require.Contains(t, out, "passed: close/1")

	status, out, errs = call(t, append(args, "-v", "-json", "-")...)
	require.Equal(t, 1, status)
	require.Contains(t, errs, "passed: close/1")
	var results []suite.Result
	require.NoError(t, json.Unmarshal([]byte(out), &results), "nothing else is on the standard output")
	require.Len(t, results, 2)
	require.Equal(t, "close/1", results[0].Case)
}

// notify calls then for the first text that matches.
type notify struct {
	strings.Builder
	pattern *regexp.Regexp
	then    func(match []string)
	once    sync.Once
}

func (n *notify) Write(p []byte) (int, error) {
	if match := n.pattern.FindStringSubmatch(string(p)); match != nil {
		n.once.Do(func() { n.then(match) })
	}
	return n.Builder.Write(p)
}

// A client comes for two cases; the other cases, for which none came, are one line.
func TestClientsThatGo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var client sync.WaitGroup
	var stdout strings.Builder
	stderr := notify{pattern: regexp.MustCompile(`^(\d+) cases wait for clients at (ws://.*/)\n`), then: func(match []string) {
		client.Go(func() {
			defer cancel()
			for range 2 {
				conn, _, err := wsd.Dial(ctx, match[2], nil)
				if err != nil {
					return
				}
				for m := range conn.Messages() {
					if conn.Send(ctx, m) != nil {
						break
					}
				}
				<-conn.Closed()
			}
		})
	}}
	status := run(ctx, []string{"-serve", "127.0.0.1:0", "-run", "^reserved opcodes/", "-v", "-parallel", "1"}, &stdout, &stderr)
	client.Wait()
	require.Equal(t, 1, status, "nobody can say that all is well")
	out := stdout.String()
	require.Contains(t, out, "passed: reserved opcodes/1:")
	require.Equal(t, 1, strings.Count(out, "no client came"), out)
	require.Contains(t, out, "\nnot run: 78 of 80 cases: no client came\n")
	require.Regexp(t, `(?m)^ +topic +passed +failed +not applicable +not run +cases$`, out)
	require.Regexp(t, `(?m)^ +all +[12] +0 +0 +7[89] +80$`, out)
}

func TestServerThatIsGone(t *testing.T) {
	status, out, errs := call(t, "-url", "ws://127.0.0.1:1/")
	require.Equal(t, 2, status)
	require.Empty(t, out)
	require.Contains(t, errs, "cannot be reached")
}

func TestList(t *testing.T) {
	status, out, _ := call(t, "-list", "-run", "^framing/|^every code from 0")
	require.Zero(t, status)
	require.Contains(t, out, "framing/1: text of 1 bytes in one write (RFC 6455, 5.2; judges servers and clients)")
	require.Regexp(t, `every code from 0 .*judges servers\)`, out)
	require.Regexp(t, `fresh masking key .*judges clients\)`, out)
	require.Regexp(t, `\d+ cases, 169 of them judge servers, 161 clients\n$`, out)
}

func TestHelp(t *testing.T) {
	status, out, errs := call(t, "-h")
	require.Zero(t, status)
	require.Empty(t, errs)
	for _, flag := range []string{"-url URL", "-serve address", "-run regexp", "conformance -list"} {
		require.Contains(t, out, flag)
	}
}

func TestBadFlagsAreToldInOneLine(t *testing.T) {
	url := server(t, same)
	for _, bad := range [][]string{
		{}, {"-nonsense"}, {"-url", url, "-serve", ":0"}, {"-url", url, "left over"}, {"-url", "ftp://localhost/"}, {"-url", "%"},
		{"-url", url, "-run", "("}, {"-url", url, "-run", "no such case"}, {"-url", url, "-parallel", "0"}, {"-url", url, "-timeout", "x"},
		{"-url", url, "-volume", "-1"}, {"-serve", "nowhere:at:all"}, {"-url", url, "-run", "^close/1$", "-json", t.TempDir()},
	} {
		status, _, errs := call(t, bad...)
		require.Equal(t, 2, status, "%q", bad)
		require.Regexp(t, "^conformance: .+\n$", errs, "%q", bad)
		require.Equal(t, 1, strings.Count(errs, "\n"), "%q", bad)
	}
}

func TestProgress(t *testing.T) {
	results := []suite.Result{
		{Verdict: suite.Passed}, {Verdict: suite.Failed}, {Verdict: suite.NotApplicable}, {Verdict: suite.Passed}, {Verdict: suite.NotRun},
	}
	watched := func(live bool) string {
		var w strings.Builder
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan suite.Result)
			go func() {
				defer close(ended)
				for _, r := range results {
					time.Sleep(7 * time.Second)
					ended <- r
				}
			}()
			p := newProgress(&w, len(results))
			p.live = live
			p.watch(ended, func(r suite.Result) { w.WriteString("<" + string(r.Verdict) + ">\n") })
		})
		return w.String()
	}
	require.Equal(t, "<passed>\n"+
		"1 of 5 cases after 10s\n"+
		"<failed>\n"+
		"2 of 5 cases after 20s, 1 failed\n"+
		"<not applicable>\n<passed>\n"+
		"4 of 5 cases after 30s, 1 failed, 1 not applicable\n", watched(false))

	live := watched(true)
	require.NotContains(t, live, "cases after 7s<", "a case has a line of its own")
	screen := ""
	for line := range strings.Lines(live) {
		// What the terminal shows of a line: the last text that was written over it.
		parts := strings.Split(line, "\r")
		screen += parts[len(parts)-1]
	}
	require.Equal(t, "<passed>\n<failed>\n<not applicable>\n<passed>\n", screen, "the live line leaves nothing behind")
	require.Contains(t, live, "\r1 of 5 cases after 8s")
	require.Contains(t, live, "\r4 of 5 cases after 35s, 1 failed, 1 not applicable")
}

func TestFilesAreNoTerminals(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer f.Close()
	require.False(t, isTerminal(f))
	require.False(t, isTerminal(&strings.Builder{}))
}

// Progress goes to standard error, unless -q is set.
func TestQuiet(t *testing.T) {
	defer func(was time.Duration) { lineInterval = was }(lineInterval)
	lineInterval = time.Microsecond
	told := make(chan struct{})
	url := server(t, func(m wsd.Message) wsd.Message {
		<-told
		return m
	})
	stderr := notify{pattern: regexp.MustCompile("^0 of 1 cases after 0s\n"), then: func([]string) { close(told) }}
	var stdout strings.Builder
	args := []string{"-url", url, "-run", "^framing/1$"}
	require.Zero(t, run(t.Context(), args, &stdout, &stderr))
	require.NotContains(t, stdout.String(), "after")

	status, _, errs := call(t, append(args, "-q")...)
	require.Zero(t, status)
	require.Empty(t, errs)
}
