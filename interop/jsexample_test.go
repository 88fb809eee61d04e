// jsexample_test.go has two people use the page of the browser example, whose client is Go, while its server goes and comes
// back, and keeps screenshots of it on every screen.

package interop

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

func TestBrowserRunsGo(t *testing.T) {
	example := startExample(t, "browser", "-addr", "127.0.0.1:0")
	ctx := browserIn(t.Context(), t)
	complaints := complaintsOf(t, ctx)
	results.addExtra(t, "chromium", "the browser example's page, whose client is Go: round trips, a room, server gone and back", "ws")
	second, cancel := chromedp.NewContext(ctx)
	defer cancel()
	ann, bob := tab{t, ctx}, tab{t, second}
	const text chromedp.CSS = "#text"
	for _, p := range []tab{ann, bob} {
		p.do(chromedp.Navigate(example.url))
		p.await(`document.getElementById("state").textContent === "open"`)
		p.awaitLine("connected to " + example.addr)
	}

	ann.do(chromedp.Clear(text), chromedp.SendKeys(text, "Gr\u00fc\u00dfe an alle\r"))
	bob.awaitLine("\u2190", "Gr\u00fc\u00dfe an alle")
	ann.awaitLine("\u2190", "Gr\u00fc\u00dfe an alle")
	require.Empty(t, evaluate[string](ann, `document.getElementById("text").value`))
	const drawn = `(document.getElementById("line").getAttribute("d") ?? "").split("L").length`
	ann.await(drawn + ` > 4`)
	require.Regexp(t, `^\d+\.\d ms$`, ann.text("#last-trip"))
	ann.screens("browser-1-open")

	// The longest line that can be typed, and more of them than the screen shows: the newest is in sight.
	for range 4 {
		evaluate[any](bob, `document.getElementById("text").value = "0123456789".repeat(100)`)
		bob.do(chromedp.SendKeys(text, "\r"))
		bob.await(`document.getElementById("text").value === ""`)
	}
	ann.await(`document.querySelectorAll("li.received").length === 5`)
	ann.screens("browser-2-long")

	example.end(syscall.SIGTERM)
	for _, p := range []tab{ann, bob} {
		p.await(`document.getElementById("state").textContent === "reconnecting"`)
		p.await(`document.getElementById("log").textContent.includes("the browser got no connection")`)
		require.True(t, evaluate[bool](p, `document.getElementById("say").disabled`))
		require.Equal(t, "\u2013", p.text("#last-trip"))
	}
	ann.screens("browser-3-reconnecting")
	startExample(t, "browser", "-addr", example.addr)
	for _, p := range []tab{ann, bob} {
		p.await(`document.getElementById("state").textContent === "open"`)
	}
	bob.do(chromedp.SendKeys(text, "Back again\r"))
	ann.awaitLine("\u2190", "Back again")
	ann.await(`document.getElementById("last-trip").textContent.endsWith(" ms")`)
	require.Greater(t, evaluate[int](ann, `document.getElementById("line").getAttribute("d").split("M").length`), 2, "the graph has a gap")
	ann.screens("browser-4-back")
	for line := range strings.Lines(complaints.String()) {
		// The second is of what the page sent after the server's end, and before the browser told of that.
		require.Regexp(t, "ERR_CONNECTION_REFUSED|already in CLOSING or CLOSED state", line,
			"all that the console complains of is the server that was away")
	}
}

// screens keeps what the tab shows on a desk's and a telephone's screen, light and dark, and holds that nothing is wider than
// the screen, and that the newest line and the form are on it.
func (p tab) screens(name string) {
	p.t.Helper()
	for _, size := range [][2]int64{{1280, 800}, {390, 844}} {
		p.do(chromedp.EmulateViewport(size[0], size[1]))
		p.await(fmt.Sprintf("innerWidth === %d", size[0]))
		for _, scheme := range []string{"light", "dark"} {
			_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			require.NoError(p.t, err)
			require.True(p.t, evaluate[bool](p, `document.documentElement.scrollWidth <= innerWidth`))
			require.True(p.t, evaluate[bool](p, `document.getElementById("say").getBoundingClientRect().bottom <= innerHeight`))
			// The newest line comes in sight once the page has been told of its size, with the next picture.
			p.await(`(list => list.scrollHeight - list.scrollTop - list.clientHeight < 2)(document.getElementById("log"))`)
			p.screenshot(fmt.Sprintf("%s-%d-%s", name, size[0], scheme))
		}
	}
}
