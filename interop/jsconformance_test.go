// jsconformance_test.go has the conformance suite judge an echo client of wsd's in the browser, beside one that is a dozen
// lines of JavaScript: what both fail is the browser's, which leaves no program a choice.

package interop

import (
	"context"
	"flag"
	"net"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/conformance/suite"
)

// jsEchoes is how many connections the echo clients have at a time. Node never answers some bad handshakes and frames, so
// that many have to wait together; Chromium makes a handshake wait the longer the more of them are under way.
var jsEchoes = map[string]int{"node": 32, "chromium": 6}

var jsAllCases = flag.Bool("js-all-cases", false, "have the conformance suite judge clients in browsers by every case that can be, for docs/browser.md")

// jsCases are cases for clients in the browser, of all topics but compression, which is the browser's alone: every case, or
// every fourth, and of those about text, most of which is bad and never comes to the program, every sixteenth. What is large
// or arrives by the byte is left to the suite's own tests of wsd.
func jsCases(host string) []suite.Case {
	large := regexp.MustCompile(`\d{6}|65,537|chops of 1\b`)
	seen := 0
	return slices.DeleteFunc(suite.Select(suite.Cases(suite.Load{}), suite.Client, nil), func(c suite.Case) bool {
		if strings.HasPrefix(c.Topic, "compression") || large.MatchString(c.Name) {
			return true
		}
		if host == "node" && c.Name == "refused: a subprotocol that was not offered" {
			return true // Of that node 20 dies, whoever uses its WebSocket.
		}
		seen++
		return !*jsAllCases && (c.Topic == "utf-8" && seen%16 != 0 || seen%4 != 0)
	})
}

// TestJSConformance holds that wsd's client passes whatever the host lets a client pass.
func TestJSConformance(t *testing.T) {
	binary := buildJS(t, "jsstay", "build")
	for _, host := range []string{"node", "chromium"} {
		t.Run(host, func(t *testing.T) {
			cases := jsCases(host)
			plain := judgeJS(t, host, "JavaScript", binary, cases, 2*time.Second)
			possible := slices.DeleteFunc(slices.Clone(cases), func(c suite.Case) bool { return !passes(plain[c.ID]) })
			t.Logf("%d of %d cases can be passed", len(possible), len(cases))
			if *jsAllCases {
				for _, c := range cases {
					t.Log(c.ID, c.Name, plain[c.ID].Verdict, plain[c.ID].Detail)
				}
			}
			require.Greater(t, len(possible), len(cases)/3)

			judged := judgeJS(t, host, "wsd", binary, possible, 2*time.Second)
			again := slices.DeleteFunc(slices.Clone(possible), func(c suite.Case) bool { return passes(judged[c.ID]) })
			if len(again) == 0 {
				return
			}
			// What failed may have been the machine's haste: now there is time.
			for _, result := range judgeJS(t, host, "wsd", binary, again, 15*time.Second) {
				if !passes(result) {
					t.Errorf("%s: %s: %s (%s): %s", result.Verdict, result.Case, result.Name, result.Section, result.Detail)
				}
			}
		})
	}
}

func passes(result suite.Result) bool {
	return result.Verdict == suite.Passed || result.Verdict == suite.NotApplicable
}

// startJSClient starts an echo client that connects to a URL again and again. The func ends it.
func startJSClient(t *testing.T, host, client, binary, target string) (end func()) {
	t.Helper()
	echoes := strconv.Itoa(jsEchoes[host])
	s := startJSServer(t, binary, target, echoes)
	query := url.Values{"url": {target}, "n": {echoes}}.Encode()
	if host == "chromium" {
		ctx, cancel := context.WithCancel(t.Context())
		page := s.URL + "/echo.html?" + query
		if client == "wsd" {
			page = s.pageURL(t, "conformance", "")
		}
		tab{t, browserIn(ctx, t)}.do(chromedp.Navigate(page))
		return cancel
	}
	cmd := s.nodeCommand(t, "conformance")
	if client != "wsd" {
		cmd = exec.CommandContext(t.Context(), program(t, "node"), "--experimental-websocket", "testdata/echo.js", query)
	}
	require.NoError(t, cmd.Start())
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// judgeJS returns the results for an echo client, by case.
func judgeJS(t *testing.T, host, client, binary string, cases []suite.Case, timeout time.Duration) map[string]suite.Result {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer startJSClient(t, host, client, binary, "ws://"+listener.Addr().String()+"/")()
	ctx, cancel := context.WithTimeout(t.Context(), jsPatience)
	defer cancel()
	results, err := suite.JudgeClients(ctx, listener, cases, &suite.Options{Parallel: jsEchoes[host], Timeout: timeout})
	require.NoError(t, err)
	byCase := make(map[string]suite.Result)
	for _, result := range results {
		byCase[result.Case] = result
	}
	return byCase
}
