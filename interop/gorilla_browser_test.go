// gorilla_browser_test.go has Chromium use the pages of gorilla's own examples, whose servers run over package gorilla.

package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// gorillaExample builds files of one of gorilla's examples over package gorilla, runs them until the test ends, and returns
// the URL of its page.
func gorillaExample(t *testing.T, name string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	door := filepath.Join(dir, "websocket")
	standIn(t, door)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(moduleDir(t, "github.com/gorilla/websocket"), "examples", name, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), data, 0o644))
	}
	mod := "module example\n\ngo 1.25\n\nrequire github.com/gorilla/websocket v1.5.3\n\nreplace (\n\tgithub.com/gorilla/websocket => " + door +
		"\n\tgithub.com/seed62836080/wsd => " + repository(t) + "\n)\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644))
	out, err := goIn(dir, "mod", "tidy")
	require.NoError(t, err, "%s", out)
	var sources []string
	for _, file := range files {
		if strings.HasSuffix(file, ".go") {
			sources = append(sources, file)
		}
	}
	out, err = goIn(dir, append([]string{"build", "-o", "server"}, sources...)...)
	require.NoError(t, err, "%s", out)

	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cmd := exec.Command(filepath.Join(dir, "server"), "-addr", addr)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond)
	return "http://" + addr + "/"
}

func TestGorillasEchoExample(t *testing.T) {
	page := gorillaExample(t, "echo", "server.go")
	p := tab{t, browser(t)}
	shows := func(text string) {
		p.await(fmt.Sprintf("document.getElementById('output').textContent.includes(%q)", text))
	}
	p.do(chromedp.Navigate(page))
	p.do(chromedp.Click(chromedp.CSS("#open")))
	shows("OPEN")
	p.do(chromedp.Click(chromedp.CSS("#send")))
	shows("RESPONSE: Hello world!")
	p.do(chromedp.Click(chromedp.CSS("#close")))
	shows("CLOSE")
}

func TestGorillasChatExample(t *testing.T) {
	page := gorillaExample(t, "chat", "main.go", "hub.go", "client.go", "home.html")
	tabs := []tab{{t, browser(t)}, {t, browser(t)}}
	for _, p := range tabs {
		p.do(chromedp.Navigate(page))
		p.await("typeof conn === 'undefined' || conn.readyState === 1")
	}
	for i, p := range tabs {
		text := fmt.Sprintf("said by %d", i)
		said := fmt.Sprintf("(document.getElementById('msg').value = %q, document.getElementById('form').requestSubmit(), true)", text)
		for _, other := range tabs {
			// A page says nothing of whether it is connected: what is said before that is lost, so it is said again.
			require.Eventually(t, func() bool {
				evaluate[bool](p, said)
				return evaluate[bool](other, fmt.Sprintf("document.getElementById('log').textContent.includes(%q)", text))
			}, patience, 50*time.Millisecond)
		}
	}
}
