// browser_test.go has Chromium use the page of the echo example as a person would, and keeps screenshots of it.

package interop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// startEcho starts the echo example and returns the URL of its page.
func startEcho(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(build(t, filepath.Join("..", "examples", "echo")), "-addr", "127.0.0.1:0", "-compress")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		// It ends by itself, with all its connections.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the echo example: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

// browser starts Chromium with an empty profile, and returns a context for chromedp with one tab.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := program(t, "chromium")
	results.version("chromium", versionOf(t, path, "--version", "--no-sandbox"))
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1000, 800),
		chromedp.NoSandbox, // whoever runs it in CI is root
		chromedp.DisableGPU,
		// What it would look for in the network is not there.
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.IgnoreCertErrors,
	)
	allocator, cancelAllocator := chromedp.NewExecAllocator(bounded(t), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		cancel()
		cancelAllocator()
	})
	require.NoError(t, chromedp.Do(ctx)) // which starts it
	return ctx
}

// tab is the page that a person has before them.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// do does what a person would, in order.
func (p tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, steps...))
}

// text returns what an element shows.
func (p tab) text(selector string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Text(chromedp.CSS(selector)))
	require.NoError(p.t, err)
	return text
}

// screenshot keeps what the tab shows.
func (p tab) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("WSD_SCREENSHOTS")
	if dir == "" {
		dir = "screenshots"
	}
	require.NoError(p.t, os.MkdirAll(dir, 0o755))
	image, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	require.NoError(p.t, err)
	_, err = png.Decode(bytes.NewReader(image))
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(filepath.Join(dir, name+".png"), image, 0o644))
}

// await waits until the page's JavaScript finds the expression true.
func (p tab) await(expression string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience)))
	require.NoError(p.t, err, expression)
}

// awaitLine waits until the last line of the log has all of the texts.
func (p tab) awaitLine(texts ...string) {
	p.t.Helper()
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = strconv.Quote(text)
	}
	p.await(fmt.Sprintf(`[%s].every(text => document.querySelector("#log li:last-child")?.textContent.includes(text))`,
		strings.Join(quoted, ", ")))
}

// TestBrowser clicks and types on the page of the echo example, served by itself and by proxies with TLS.
func TestBrowser(t *testing.T) {
	echo := startEcho(t)
	ctx := browser(t)
	// What the page's console complains of, an uncaught exception above all.
	complaints := new(output)
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			fmt.Fprintf(complaints, "%+v\n", event.ExceptionDetails)
		case *log.EventEntryAdded:
			fmt.Fprintf(complaints, "%s: %s\n", event.Entry.Level, event.Entry.Text)
		}
	}))

	pages := []struct{ name, scheme, url string }{{"echo", "ws", echo}}
	for _, start := range []func(*testing.T, int) *proxy{startNginx, startHaproxy} {
		p := start(t, portOf(t, echo))
		pages = append(pages, struct{ name, scheme, url string }{"echo-" + p.name, "wss", fmt.Sprintf("https://127.0.0.1:%d/", p.wss)})
	}
	for _, page := range pages {
		t.Run(page.name, func(t *testing.T) {
			what := "the echo example's page: connect, subprotocol, compression, text, binary, 1 MiB, disconnect"
			if page.scheme == "wss" {
				what += ", through " + strings.TrimPrefix(page.name, "echo-")
			}
			results.addExtra(t, "chromium", what, page.scheme)
			const connect, subprotocol, text, send chromedp.CSS = "#connect", "#subprotocol", "#text", "#send"
			tab := tab{t, ctx}

			tab.do(chromedp.Navigate(page.url), chromedp.WaitVisible(connect))
			require.Equal(t, "closed", tab.text("#state"))
			disabled, err := chromedp.Run(ctx, chromedp.JavascriptAttribute[bool](send, "disabled"))
			require.NoError(t, err)
			require.True(t, disabled, "nothing can be sent before there is a connection")
			tab.screenshot(page.name + "-1-before")

			tab.do(chromedp.Click(subprotocol), chromedp.SendKeys(subprotocol, "echo"), chromedp.Click(connect))
			tab.awaitLine("connected to " + page.scheme + "://" + strings.SplitN(page.url, "://", 2)[1] + "echo")
			require.Equal(t, "open", tab.text("#state"))
			require.Equal(t, "echo", tab.text("#agreed-subprotocol"))
			require.Contains(t, tab.text("#agreed-extensions"), "permessage-deflate")

			// A message is typed and sent with Enter, and again as binary, with a click.
			tab.do(chromedp.Clear(text), chromedp.SendKeys(text, "Gr\u00fc\u00dfe, \u03ba\u03cc\u03c3\u03bc\u03b5\r"))
			tab.awaitLine("\u2190", "Gr\u00fc\u00dfe, \u03ba\u03cc\u03c3\u03bc\u03b5", "text, 19 bytes")
			tab.do(chromedp.Click(chromedp.CSS("input[value=binary]")), chromedp.Click(send))
			tab.awaitLine("\u2190", "47 72 c3 bc c3 9f", "binary, 19 bytes")
			tab.screenshot(page.name + "-2-messages")

			// As much as nobody types, pasted.
			tab.do(chromedp.Click(chromedp.CSS("input[value=text]")),
				chromedp.SetValue(text, strings.Repeat("0123456789abcdef", 1<<16)), chromedp.Click(send))
			tab.awaitLine("\u2190", "text, 1,048,576 bytes")
			require.Equal(t, "3", tab.text("#received-count"))

			tab.do(chromedp.Click(chromedp.CSS("#disconnect")))
			tab.awaitLine("closed with code 1000", "clean")
			require.Equal(t, "closed", tab.text("#state"))
			tab.screenshot(page.name + "-3-after")
			require.Empty(t, complaints.String(), "what the browser's console has")
		})
	}
}

// TestBrowserOfForeignOrigin has a page of another origin try to reach the echo example.
func TestBrowserOfForeignOrigin(t *testing.T) {
	echo := startEcho(t)
	foreign := startEcho(t)
	tab := tab{t, browser(t)}
	results.addExtra(t, "chromium", "a page of another origin is refused", "ws")
	tab.do(chromedp.Navigate(foreign), chromedp.WaitVisible(chromedp.CSS("#connect")),
		chromedp.SetValue(chromedp.CSS("#url"), "ws"+strings.TrimPrefix(echo, "http")+"echo"), chromedp.Click(chromedp.CSS("#connect")))
	tab.awaitLine("closed with code 1006", "not clean")
	require.Equal(t, "closed", tab.text("#state"))
	tab.screenshot("foreign-origin")
}
