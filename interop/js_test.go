// js_test.go builds clients for js/wasm, and runs them where their users do: in node, in a page of each browser, and in a
// worker.

package interop

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// jsPatience bounds a run of all tests in a browser.
const jsPatience = 6 * time.Minute

// jsArguments are those of the test binary.
var jsArguments = []string{"-test.v", "-test.timeout=330s"}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	out, err := cmd.Output()
	require.NoError(t, err, "%s", name)
	return out
}

// buildJSTests builds the tests of jsclient. They look at a variable of syscall/js, which the linker has to be told.
func buildJSTests(t *testing.T) string {
	t.Helper()
	path := filepath.Join(shared, "jsclient.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-checklinkname=0", "-o", path, "./jsclient")
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// TestJSClients runs the same tests of a client in every host of JavaScript.
func TestJSClients(t *testing.T) {
	binary := buildJSTests(t)
	for name, host := range map[string]func(*testing.T, *jsServer, string) string{
		"node":     inNode,
		"chromium": func(t *testing.T, s *jsServer, run string) string { return inChromium(t, s, run, "") },
		"worker":   func(t *testing.T, s *jsServer, run string) string { return inChromium(t, s, run, "&worker") },
	} {
		t.Run(name, func(t *testing.T) {
			server := startJSServer(t, binary)
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

func inNode(t *testing.T, s *jsServer, name string) string {
	node := program(t, "node")
	results.version("node", versionOf(t, node, "--version"))
	// From version 22 on, the flag changes nothing.
	args := []string{"--experimental-websocket", "--stack-size=8192", filepath.Join(goroot(t), "lib/wasm/wasm_exec_node.js"),
		filepath.Join(shared, "jsclient.wasm")}
	cmd := exec.CommandContext(t.Context(), node, append(args, jsArguments...)...)
	cmd.Env = append(os.Environ(), "WSD_SERVER="+s.hostOf(t), "WSD_RUN="+name)
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	_ = cmd.Run() // the status tells
	return strconv.Itoa(cmd.ProcessState.ExitCode())
}

// pageURL is the page that runs the tests.
func (s *jsServer) pageURL(t *testing.T, name, more string) string {
	t.Helper()
	query := url.Values{"arg": jsArguments, "server": {s.hostOf(t)}, "run": {name}}
	return s.URL + "/gotest.html?" + query.Encode() + more
}

func inChromium(t *testing.T, s *jsServer, name, more string) string {
	ctx := browser(t)
	tab{t, ctx}.do(chromedp.Navigate(s.pageURL(t, name, more)))
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
