// browser_test.go has Chromium use the pages of the examples as a person would, and keeps screenshots of them.

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
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// example is a server of examples/, running.
type example struct {
	url  string // of its page
	end  func(os.Signal)
	addr string
}

// startExample starts an example until the test ends, or its end is called.
func startExample(t *testing.T, name string, args ...string) example {
	t.Helper()
	cmd := exec.Command(build(t, filepath.Join("..", "examples", name)), args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var once sync.Once
	end := func(signal os.Signal) {
		once.Do(func() {
			// On SIGTERM it ends by itself, with all its connections.
			_ = cmd.Process.Signal(signal)
			_, _ = io.Copy(io.Discard, stdout)
			if err := cmd.Wait(); err != nil && signal == syscall.SIGTERM {
				t.Errorf("the %s example: %v", name, err)
			}
		})
	}
	t.Cleanup(func() { end(syscall.SIGTERM) })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	page := strings.TrimSpace(line)
	return example{page, end, strings.TrimSuffix(strings.TrimPrefix(page, "http://"), "/")}
}

// startEcho starts the echo example and returns the URL of its page.
func startEcho(t *testing.T) string {
	t.Helper()
	return startExample(t, "echo", "-addr", "127.0.0.1:0", "-compress").url
}

// browser starts Chromium with an empty profile, for as long as one waits for a peer, and returns a context for chromedp with
// one tab.
func browser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	return browserIn(bounded(t), t, more...)
}

// browserIn is browser until ctx is done.
func browserIn(ctx context.Context, t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
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
	allocator, cancelAllocator := chromedp.NewExecAllocator(ctx, append(options, more...)...)
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

// evaluate returns what an expression of the page's JavaScript gives.
func evaluate[T any](p tab, expression string) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	require.NoError(p.t, err, expression)
	return value
}

// complaintsOf collects what the page's console complains of, an uncaught exception above all.
func complaintsOf(t *testing.T, ctx context.Context) *output {
	t.Helper()
	complaints := new(output)
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			fmt.Fprintf(complaints, "%+v\n", event.ExceptionDetails)
		case *log.EventEntryAdded:
			fmt.Fprintf(complaints, "%s: %s\n", event.Entry.Level, event.Entry.Text)
		}
	}))
	return complaints
}

// awaitLine waits until the last line of the log has all of the texts.
func (p tab) awaitLine(texts ...string) {
	p.t.Helper()
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = strconv.Quote(text)
	}
	p.await(fmt.Sprintf(`[%s].every(text => document.querySelector("[role=log] li:last-child")?.textContent.includes(text))`,
		strings.Join(quoted, ", ")))
}

// TestBrowser clicks and types on the page of the echo example, served by itself and by proxies with TLS.
func TestBrowser(t *testing.T) {
	echo := startEcho(t)
	ctx := browser(t)
	complaints := complaintsOf(t, ctx)

	pages := []struct{ name, scheme, url string }{{"echo", "ws", echo}}
	for _, start := range []func(*testing.T, int) *proxy{startNginx, startHaproxy} {
		p := start(t, portOf(t, echo))
		pages = append(pages, struct{ name, scheme, url string }{"echo-" + p.name, "wss", fmt.Sprintf("https://127.0.0.1:%d/", p.wss)})
	}
	for _, page := range pages {
		t.Run(page.name, func(t *testing.T) {
			what := "the echo example's page: connect, subprotocol, compression, text, binary, 1 MiB, a telephone's screen, disconnect"
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
			require.True(t, evaluate[bool](tab, `document.querySelector("#log li:last-child details").open === false`),
				"what is long is folded")
			tab.do(chromedp.Click(chromedp.CSS("input[value=binary]")), chromedp.Click(send))
			tab.awaitLine("\u2190", "30 31 32", "binary, 1,048,576 bytes")
			require.Less(t, evaluate[float64](tab, `document.querySelector("#log li:last-child").offsetHeight`), 60.0, "folded, too")
			tab.do(chromedp.Click(chromedp.CSS("#log li:last-child summary")))
			tab.await(`document.querySelector("#log li:last-child").offsetHeight > 300`)

			// On a telephone the log keeps the greatest part, and nothing is wider than the screen.
			tab.do(chromedp.EmulateViewport(390, 844))
			tab.await("innerWidth === 390")
			require.True(t, evaluate[bool](tab, `document.documentElement.scrollWidth <= innerWidth`))
			require.Greater(t, evaluate[float64](tab, `document.querySelector("#log").clientHeight`), 844/2.0, "half of the screen is the log")
			require.True(t, evaluate[bool](tab, `new Set(["connect", "disconnect"].map(id => $(id).offsetTop)).size === 1`),
				"the buttons are in one row")
			tab.screenshot(page.name + "-telephone")
			tab.do(chromedp.EmulateViewport(1000, 800))

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

// TestBrowserChats has a person chat on the page of the chat example.
func TestBrowserChats(t *testing.T) {
	chat := startExample(t, "chat", "-addr", "127.0.0.1:0")
	ctx := browser(t)
	complaints := complaintsOf(t, ctx)
	results.addExtra(t, "chromium", "the chat example's page: enter, chat, follow, longest line, another room, server gone and back, leave", "ws")
	const enter, name, room, text chromedp.CSS = "#enter", "#name", "#room", "#text"
	tab := tab{t, ctx}
	state := func(want string) {
		t.Helper()
		tab.await(fmt.Sprintf(`$("state").textContent === %q`, want))
	}
	// beyond is how many pixels of the lines are below what is shown of them.
	const beyond = `(list => list.scrollHeight - list.scrollTop - list.clientHeight)($("lines"))`

	tab.do(chromedp.Navigate(chat.url), chromedp.WaitVisible(enter))
	state("closed")
	require.True(t, evaluate[bool](tab, `$("text").disabled && $("send").disabled`), "nothing can be said outside of a room")
	tab.do(chromedp.SendKeys(name, "Ann"), chromedp.SetValue(room, "tea"), chromedp.SendKeys(room, "\r"))
	state("open")
	tab.awaitLine("Ann comes in")
	require.Equal(t, "text", evaluate[string](tab, "document.activeElement.id"), "one can type at once")
	tab.do(chromedp.SendKeys(text, "Is it ready?\r"))
	tab.awaitLine("Ann", "Is it ready?")
	require.Empty(t, evaluate[string](tab, `$("text").value`))

	// What others say is followed, unless the reader has scrolled up.
	bob, _, err := wsd.Dial(bounded(t), chat.url+"rooms/tea?name=Bob", nil)
	require.NoError(t, err)
	t.Cleanup(bob.CloseNow)
	go func() {
		for range bob.Messages() {
		}
	}()
	say := func(what string) {
		t.Helper()
		require.NoError(t, bob.Send(bounded(t), wsd.Text(what)))
	}
	for i := range 60 {
		say(fmt.Sprint("Not yet ", i))
	}
	tab.awaitLine("Bob", "Not yet 59")
	require.Less(t, evaluate[float64](tab, beyond), 2.0, "the newest line is shown")
	require.True(t, evaluate[bool](tab, `$("text").getBoundingClientRect().bottom <= innerHeight`), "one can still type")
	tab.screenshot("chat-1-follows")
	tab.do(chromedp.EmulateViewport(390, 500))
	tab.await(beyond + ` < 2`)
	require.True(t, evaluate[bool](tab, `document.documentElement.scrollWidth <= innerWidth`))
	require.True(t, evaluate[bool](tab, `$("text").getBoundingClientRect().bottom <= innerHeight`))
	tab.do(chromedp.EmulateViewport(1000, 800))
	evaluate[float64](tab, `$("lines").scrollTop = 0`)
	tab.await(`!following`)
	say("Now it is")
	tab.awaitLine("Bob", "Now it is")
	require.Zero(t, evaluate[float64](tab, `$("lines").scrollTop`), "who reads is left alone")
	tab.do(chromedp.Click(chromedp.CSS("#newest")))
	tab.await(beyond + ` < 2 && $("newest").hidden`)

	// The page takes no more than the server does.
	tab.do(chromedp.SetValue(text, strings.Repeat("x", 990)), chromedp.SendKeys(text, strings.Repeat("y", 20)))
	require.Equal(t, "0 left", tab.text("#left"))
	tab.do(chromedp.SendKeys(text, "\r"))
	tab.awaitLine("Ann", strings.Repeat("x", 990)+strings.Repeat("y", 10))
	state("open")

	// Another room shows nothing of the first.
	tab.do(chromedp.SetValue(room, "coffee"), chromedp.SendKeys(room, "\r"))
	tab.await(`$("lines").textContent.includes("Ann comes in")`)
	state("open")
	say("Where is she?")
	tab.do(chromedp.SendKeys(text, "Black, please\r"))
	tab.awaitLine("Ann", "Black, please")
	require.Equal(t, "Ann in coffee", tab.text("#where"))
	require.Equal(t, 2, evaluate[int](tab, `$("lines").childElementCount`))

	// Without its server it tries again, and says so once.
	tab.do(chromedp.SendKeys(text, "And some sug"))
	chat.end(syscall.SIGKILL)
	state("reconnecting")
	tab.awaitLine("1006", "trying again")
	require.Equal(t, "Try now", tab.text("#enter"))
	tab.await(`tries > 1`)
	tab.awaitLine("the connection broke off")
	tab.screenshot("chat-2-reconnects")
	startExample(t, "chat", "-addr", chat.addr)
	state("open")
	tab.await(`$("lines").textContent.includes("connected again")`)
	tab.awaitLine("Ann comes in")
	tab.do(chromedp.SendKeys(text, "ar\r"))
	tab.awaitLine("Ann", "And some sugar")
	tab.screenshot("chat-3-connected-again")

	// Left is left, and so is what the server would not have otherwise.
	tab.do(chromedp.Click(chromedp.CSS("#leave")))
	state("closed")
	tab.awaitLine("you have left")
	tab.do(chromedp.Click(enter))
	state("open")
	evaluate[any](tab, `socket.send(new Uint8Array(1))`)
	state("closed")
	tab.awaitLine("closed with 1003: expected text")
	for line := range strings.Lines(complaints.String()) {
		require.Contains(t, line, "ERR_CONNECTION_REFUSED", "all that the console complains of is the server that was away")
	}
}
