// js_test.go builds clients for js/wasm, and runs them where their users do: in node, in a page of each browser, and in a
// worker.

package interop

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// jsPatience bounds a run of a program in a browser.
const jsPatience = 6 * time.Minute

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	out, err := cmd.Output()
	require.NoError(t, err, "%s", name)
	return out
}

// buildJS has the go command build a package for js/wasm, and returns the path of what that gave.
func buildJS(t *testing.T, dir string, command ...string) string {
	t.Helper()
	path := filepath.Join(shared, strings.ReplaceAll(dir, "/", "-")+".wasm")
	cmd := exec.CommandContext(t.Context(), "go", append(command, "-o", path, "./"+dir)...)
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// jsHosts are where programs for js/wasm run. Each returns the exit status of the program that the server serves.
var jsHosts = map[string]func(t *testing.T, s *jsServer, name string) string{
	"node": inNode,
	"chromium": func(t *testing.T, s *jsServer, name string) string {
		return inChromium(t, browserIn(t.Context(), t), s, name, "")
	},
	"worker": func(t *testing.T, s *jsServer, name string) string {
		return inChromium(t, browserIn(t.Context(), t), s, name, "&worker")
	},
	"firefox": inFirefox,
}

// TestJSClients runs the same tests of a client in every host of JavaScript.
func TestJSClients(t *testing.T) {
	// The tests look at a variable of syscall/js, which the linker has to be told.
	binary := buildJS(t, "jsclient", "test", "-c", "-ldflags=-checklinkname=0")
	for name, host := range jsHosts {
		t.Run(name, func(t *testing.T) {
			server := startJSServer(t, binary, "-test.v", "-test.timeout=330s")
			status := host(t, server, name)
			output := server.output.String()
			if status != "0" || testing.Verbose() {
				t.Log(output)
			}
			require.Equal(t, "0", status)
			require.Regexp(t, regexp.MustCompile(`(?m)^PASS$`), output)
			require.NotContains(t, output, "--- SKIP")
		})
	}
}

// nodeCommand is node, running what the server serves.
func (s *jsServer) nodeCommand(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	node := program(t, "node")
	results.version("node", versionOf(t, node, "--version"))
	// From version 22 on, the first flag changes nothing.
	args := []string{"--experimental-websocket", "--stack-size=8192", filepath.Join(goroot(t), "lib/wasm/wasm_exec_node.js"), s.binary}
	cmd := exec.CommandContext(t.Context(), node, append(args, s.args...)...)
	cmd.Env = append(os.Environ(), "WSD_SERVER="+s.hostOf(t), "WSD_RUN="+name)
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	return cmd
}

func inNode(t *testing.T, s *jsServer, name string) string {
	cmd := s.nodeCommand(t, name)
	_ = cmd.Run() // the status tells
	return strconv.Itoa(cmd.ProcessState.ExitCode())
}

// pageURL is the page that runs the program.
func (s *jsServer) pageURL(t *testing.T, name, more string) string {
	t.Helper()
	query := url.Values{"arg": s.args, "server": {s.hostOf(t)}, "run": {name}}
	return s.URL + "/gotest.html?" + query.Encode() + more
}

func inChromium(t *testing.T, ctx context.Context, s *jsServer, name, more string) string {
	tab{t, ctx}.do(chromedp.Navigate(s.pageURL(t, name, more)))
	return s.await(t)
}

// reconnectAtOnce keeps Firefox from holding back a connection to where others have just failed, for up to a minute, as RFC
// 6455, section 7.2.3, asks of clients: here many fail, and on purpose.
const reconnectAtOnce = `user_pref("network.websocket.delay-failed-reconnects", false);`

// manyPending keeps Firefox from waiting where six handshakes with one server are on their way: it goes on waiting for the
// answer to one that a program has given up.
const manyPending = `user_pref("network.http.max-persistent-connections-per-server", 250);`

func inFirefox(t *testing.T, s *jsServer, name string) string {
	startFirefox(t, s.pageURL(t, name, ""), reconnectAtOnce, manyPending)
	return s.await(t)
}

// await waits for the page's result.
func (s *jsServer) await(t *testing.T) string {
	t.Helper()
	select {
	case status := <-s.result:
		return status
	case <-time.After(jsPatience):
		return "none: the page does not come to an end"
	}
}
