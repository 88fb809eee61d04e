// check_test.go runs wsd check, for a server and for clients.

package main_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/conformance/suite"
)

func TestCheckJudgesAServer(t *testing.T) {
	t.Parallel()
	url := serve(t, "-compress")
	junit := filepath.Join(t.TempDir(), "junit.xml")
	r := run(t, "", "check", url, "-run", "^(pings and pongs|compression handshake)/", "-junit", junit)
	assert.Equal(t, 0, r.status, r.stderr)
	assert.Regexp(t, `pings and pongs +60 +0 +0 +60\n`, r.stdout)
	assert.Regexp(t, `all +146 +0 +0 +146\n`, r.stdout)
	var report struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Cases []struct {
				Name string `xml:"name,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	content, err := os.ReadFile(junit)
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(content, &report))
	assert.Equal(t, 146, report.Tests)
	assert.Zero(t, report.Failures)
	assert.Len(t, report.Suites[0].Cases, 60)
}

func TestCheckFindsAServerThatFails(t *testing.T) {
	t.Parallel()
	shouting := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		for m := range conn.Messages() {
			_ = conn.Send(conn.Context(), wsd.Binary(m.Data)) // of another type than it came
		}
	})
	r := run(t, "", "check", shouting, "-run", "^framing/[0-9]$")
	assert.Equal(t, 3, r.status, r.stderr)
	assert.Contains(t, r.stdout, "failed: framing/1: text of 1 bytes")
	r = run(t, "", "check", "-json", shouting, "-run", "^framing/1$")
	assert.Equal(t, 3, r.status)
	var results []suite.Result
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &results))
	require.Len(t, results, 1)
	assert.Equal(t, suite.Failed, results[0].Verdict)
}

func TestCheckJudgesClients(t *testing.T) {
	t.Parallel()
	p := start(t, "check", "-serve", "127.0.0.1:0", "-run", "^limits/", "-v")
	url := p.stderr.wait(t, `wait for clients at (ws://\S+)`)[1]
	for {
		conn, response, err := wsd.Dial(context.Background(), url, nil)
		if err != nil {
			if response != nil && response.StatusCode == http.StatusGone {
				break
			}
			select {
			case <-p.exited:
			default:
				continue
			}
			break
		}
		for m := range conn.Messages() {
			_ = conn.Send(conn.Context(), m)
		}
		<-conn.Closed()
	}
	assert.Equal(t, 0, p.end(t))
	assert.Contains(t, p.stdout.String(), "passed: limits/1: ")
	assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "no progress but on terminals")

	x := startTerminal(t, nil, "check", "-serve", "127.0.0.1:0", "-run", "^limits/")
	x.screen.wait(t, `\r0 of 13 cases after \ds`)
	assert.Equal(t, 1, x.interrupt(t))
	x.screen.wait(t, `interrupted before all cases were run`)
}

func TestCheckSaysInOneLineWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "expected a URL, or -serve ADDR"},
		{[]string{"ws://127.0.0.1:1/"}, 1, "cannot be reached"},
		{[]string{"ws://x", "-run", "("}, 2, "-run: missing closing )"},
		{[]string{"ws://x", "-run", "nothing like it"}, 2, "no case matches"},
		{[]string{"ws://x", "-serve", "0"}, 2, "not both"},
		{[]string{"-url", "ws://x"}, 2, "the URL needs no flag"},
		{[]string{"ws://x", "-junit", "/no/such/dir/file"}, 1, "-junit: open /no/such/dir/file"},
	} {
		r := run(t, "", append([]string{"check"}, c.args...)...)
		assert.Equal(t, c.status, r.status, "%v: %s", c.args, r.stderr)
		assert.Contains(t, r.stderr, c.want)
		assert.Empty(t, r.stdout)
	}
	r := run(t, "", "check", "-list", "-run", "^limits/")
	assert.Equal(t, 0, r.status)
	assert.Contains(t, r.stdout, "13 cases, 13 of them judge servers, 13 clients")
}

func TestCheckEndsWhenItsOutputIsClosed(t *testing.T) {
	t.Parallel()
	cases := make(chan struct{}, 10_000)
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		cases <- struct{}{}
		for m := range conn.Messages() {
			_ = conn.Send(conn.Context(), m)
		}
	})
	cmd := exec.Command("bash", "-c", `set -o pipefail; "$0" check -q -v -parallel 1 "$1" | head -1`, binary, url)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Regexp(t, `^passed: .*\n$`, string(out))
	assert.Less(t, len(cases), 500, "of 2,000")
}
