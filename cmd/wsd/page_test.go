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

// tab is the page that a person has before them.
type tab struct {
	t     testing.TB
	ctx   context.Context
	close func()
}

// browser starts Chromium with an empty profile until the test ends.
func browser(t testing.TB) tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "chromium")
	}
	allocator, cancelAllocator := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("no-proxy-server", true), chromedp.Flag("disable-background-networking", true))...)
	ctx, cancel := chromedp.NewContext(allocator)
	end := func() {
		cancel()
		cancelAllocator()
	}
	t.Cleanup(end)
	require.NoError(t, chromedp.Do(ctx)) // which starts it
	return tab{t, ctx, end}
}

// do does what a person would, in order.
func (p tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, steps...))
}

// press presses keys.
func (p tab) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// await waits until the page's JavaScript finds an expression true.
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

// frames sends messages through a proxy, and returns when all have come back.
func frames(t testing.TB, proxy string, n int) {
	t.Helper()
	conn := connect(t, proxy, nil)
	go func() {
		for i := range n / 2 {
			if conn.Send(conn.Context(), wsd.Text(fmt.Sprintf(`{"number":%d,"kind":"tick"}`, i))) != nil {
				return
			}
		}
	}()
	ctx := bounded(t)
	for range n / 2 {
		m, err := conn.Receive(ctx)
		require.NoError(t, err)
		m.Release()
	}
}

func TestPageShowsFramesLive(t *testing.T) {
	t.Parallel()
	proxy, p := tap(t, serve(t), "-ui", "-q")
	address := p.stderr.wait(t, `frames are shown at (http://\S+)`)[1]
	frames(t, proxy, 6)
	page := browser(t)
	row := func(text string) string {
		return fmt.Sprintf(`[...document.querySelectorAll(".row")].some(r => r.textContent.includes(%q))`, text)
	}
	page.do(chromedp.EmulateViewport(1280, 800), chromedp.Navigate(address))
	page.await(row(`{"number":2,"kind":"tick"}`))
	page.await(row("GET / HTTP/1.1"))
	// What passes now comes by itself; the filter, by keyboard alone.
	sendText(t, connect(t, proxy, nil), "needle in the hay")
	page.await(row("needle"))
	page.press("/")
	require.Equal(t, "filter", evaluate[string](page, `document.activeElement.id`))
	evaluate[string](page, `document.activeElement.value = ""`) // what is pressed by this way is typed, too, though that was prevented
	page.press("needle from:client")
	page.await(`document.querySelectorAll(".row").length === 1`)
	page.press(kb.Enter)
	page.press(kb.ArrowDown)
	page.await(`document.getElementById("full").textContent === "needle in the hay"`)
	assert.Equal(t, "#2, text from the client", evaluate[string](page, `document.getElementById("title").textContent`))
	// A pause holds what comes, and gives it back.
	page.press(" ")
	sendText(t, connect(t, proxy, nil), "needle while it is paused")
	page.await(`/paused, \d+ wait/.test(document.getElementById("state").textContent)`)
	assert.False(t, evaluate[bool](page, row("while it is paused")))
	page.press(" ")
	page.await(row("while it is paused"))
	// 100,000 frames, of which few are elements of the page, and no more than that.
	frames(t, proxy, 99_900)
	evaluate[bool](page, `document.getElementById("filter").value = "", document.getElementById("filter").dispatchEvent(new Event("input"))`)
	page.await(row(`{"number":49949,"kind":"tick"}`))
	assert.Less(t, evaluate[int](page, `document.querySelectorAll(".row").length`), 100)
	page.await(`/^99,9\d\d shown$/.test(document.getElementById("state").textContent)`)
	frames(t, proxy, 500)
	page.await(`/^100,000 shown, 100,\d{3} in all$/.test(document.getElementById("state").textContent)`)
	page.press(kb.ArrowUp)
	page.await(`document.getElementById("full").textContent.includes('"kind": "tick"')`)
	look(t, page)
	// What a pause holds and connections that are over do not take memory without end.
	page.press(" ")
	assert.Equal(t, []int{120_000, 100_000}, evaluate[[]int](page, `(() => {
		for (let i = 0; i < 60; i++) hold(Array(2000).fill({ n: 0, c: 1, e: "end" }));
		return [waiting, held.reduce((n, b) => n + b.length, 0)];
	})()`))
	assert.Equal(t, []int{200, 305}, evaluate[[]int](page, `(() => {
		for (let i = 0; i < 300; i++) add([{ n: 200000 + i, c: 1000 + i, e: "open", p: "" }]);
		return [conns.size, connected];
	})()`))
}

// look saves pictures of the page where WSD_PICTURES says, for eyes to look at.
func look(t *testing.T, page tab) {
	t.Helper()
	dir := os.Getenv("WSD_PICTURES")
	if dir == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		_, err := chromedp.Call(page.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		require.NoError(t, err)
		for _, width := range []int64{1280, 390} {
			page.do(chromedp.EmulateViewport(width, 800))
			page.await(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
			picture, err := chromedp.Run(page.ctx, chromedp.CaptureScreenshot())
			require.NoError(t, err)
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
