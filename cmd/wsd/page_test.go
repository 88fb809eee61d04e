// page_test.go looks at the page of wsd tap -ui in a browser.

package main_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// browser starts Chromium until the test ends.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "chromium")
	}
	allocator, cancel := chromedp.NewExecAllocator(bounded(t), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for its end
		cancel()
	})
	return ctx
}

// frames sends messages through a proxy, and returns when all have come back.
func frames(t *testing.T, proxy string, n int) {
	t.Helper()
	conn := connect(t, proxy, nil)
	go func() {
		for i := range n / 2 {
			if conn.Send(conn.Context(), wsd.Text(fmt.Sprintf(`{"number":%d,"kind":"tick"}`, i))) != nil {
				return
			}
		}
	}()
	for range n / 2 {
		_ = receive(t, conn)
	}
}

func TestPageShowsFramesLive(t *testing.T) {
	t.Parallel()
	proxy, p := tap(t, serve(t), "-ui", "-q")
	address := p.stderr.wait(t, `frames are shown at (http://\S+)`)[1]
	frames(t, proxy, 6)
	ctx := browser(t)
	var rows, title, full, state string
	var onPage int
	row := func(text string) string {
		return fmt.Sprintf(`[...document.querySelectorAll(".row")].some(r => r.textContent.includes(%q))`, text)
	}
	require.NoError(t, chromedp.Run(ctx,
		emulation.SetEmulatedMedia(),
		chromedp.EmulateViewport(1280, 800),
		chromedp.Navigate(address),
		chromedp.Poll(row(`{"number":2,"kind":"tick"}`), nil),
		chromedp.Text("#rows", &rows, chromedp.ByID),
	))
	assert.Contains(t, rows, "GET / HTTP/1.1")
	// What passes now comes by itself; the filter, by keyboard alone.
	sendText(t, connect(t, proxy, nil), "needle in the hay")
	require.NoError(t, chromedp.Run(ctx,
		chromedp.Poll(row("needle"), nil),
		chromedp.KeyEvent("/"),
		chromedp.KeyEvent("needle from:client"),
		chromedp.Poll(`document.querySelectorAll(".row").length === 1`, nil),
		chromedp.KeyEvent(kb.Enter),
		chromedp.KeyEvent(kb.ArrowDown),
		chromedp.Poll(`document.getElementById("full").textContent === "needle in the hay"`, nil),
		chromedp.Text("#title", &title, chromedp.ByID),
	))
	assert.Equal(t, "#2, text from the client", title)
	// A pause holds what comes, and gives it back.
	require.NoError(t, chromedp.Run(ctx, chromedp.KeyEvent(" ")))
	sendText(t, connect(t, proxy, nil), "needle while it is paused")
	require.NoError(t, chromedp.Run(ctx,
		chromedp.Poll(`/paused, \d+ wait/.test(document.getElementById("state").textContent) && !`+row("while it is paused"), nil),
		chromedp.KeyEvent(" "),
		chromedp.Poll(row("while it is paused"), nil),
	))
	// 100,000 frames: few of them are elements of the page.
	frames(t, proxy, 100_000)
	require.NoError(t, chromedp.Run(ctx,
		chromedp.KeyEvent("/"), chromedp.SetValue("#filter", "", chromedp.ByID), chromedp.SendKeys("#filter", kb.Enter, chromedp.ByID),
		chromedp.Evaluate(`document.getElementById("filter").dispatchEvent(new Event("input"))`, nil),
		chromedp.Poll(row(`{"number":49999,"kind":"tick"}`), nil),
		chromedp.Evaluate(`document.querySelectorAll(".row").length`, &onPage),
		chromedp.Text("#state", &state, chromedp.ByID),
		chromedp.KeyEvent(kb.ArrowUp),
		chromedp.Poll(`document.getElementById("full").textContent.includes("\"kind\": \"tick\"")`, nil),
		chromedp.Text("#full", &full, chromedp.ByID),
	))
	assert.Less(t, onPage, 100)
	assert.Contains(t, state, "100,000 shown")
	look(t, ctx)
}

// look saves pictures of the page where WSD_PICTURES says, for eyes to look at.
func look(t *testing.T, ctx context.Context) {
	t.Helper()
	dir := os.Getenv("WSD_PICTURES")
	if dir == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390} {
			var picture []byte
			require.NoError(t, chromedp.Run(ctx,
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.EmulateViewport(width, 800), chromedp.Evaluate(`new Promise(r => setTimeout(r, 200))`, nil),
				chromedp.CaptureScreenshot(&picture)))
			require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("tap-%d-%s.png", width, scheme)), picture, 0o644))
		}
	}
}

func TestPageIsForNobodyElse(t *testing.T) {
	t.Parallel()
	_, p := tap(t, serve(t), "-ui", "-q")
	address := p.stderr.wait(t, `frames are shown at (http://127\.0\.0\.1:\d+/[0-9a-f]{32}/)\n`)[1]
	u, err := url.Parse(address)
	require.NoError(t, err)
	status := func(path, host string) int {
		request, err := http.NewRequest(http.MethodGet, "http://"+u.Host+path, nil)
		require.NoError(t, err)
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode
	}
	assert.Equal(t, 200, status(u.Path, u.Host))
	assert.Equal(t, 404, status("/", u.Host))
	assert.Equal(t, 404, status("/"+strings.Repeat("0", 32)+"/", u.Host))
	assert.Equal(t, 404, status(u.Path, "evil.example"), "a name of somebody else's that leads here")
	for origin, want := range map[string]int{"https://evil.example": 403, "null": 403, "http://" + u.Host: 0} {
		conn, response, err := wsd.Dial(bounded(t), address+"events", &wsd.DialOptions{Header: http.Header{"Origin": {origin}}})
		if want == 0 {
			require.NoError(t, err)
			conn.CloseNow()
			continue
		}
		require.Error(t, err)
		assert.Equal(t, want, response.StatusCode)
	}
	_, _, err = wsd.Dial(bounded(t), "ws://"+u.Host+"/events", nil)
	assert.Error(t, err)
}
