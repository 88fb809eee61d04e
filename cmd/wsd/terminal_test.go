// terminal_test.go types into wsd dial on a pseudo terminal.

package main_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

func TestTerminalTalks(t *testing.T) {
	t.Parallel()
	x := startTerminal(t, nil, "dial", serve(t))
	x.screen.wait(t, `connected`)
	x.enter(t, "hello")
	x.screen.wait(t, `\x1b\[36m<\x1b\[0m hello\r\n`)
	x.enter(t, "//slash")
	x.screen.wait(t, `< ?\S* /slash\r\n`)
	x.enter(t, "\x1b[A\x1b[A") // the history, up twice
	x.screen.wait(t, `(?s)hello\r\n.*slash.*hello\r\n`)
	x.enter(t, "/ping")
	x.screen.wait(t, `pong after \d`)
	x.enter(t, "/json")
	x.screen.wait(t, `with indentation`)
	x.enter(t, `{"a":1}`)
	x.screen.wait(t, `< ?\S* \{\r\n +"a": 1\r\n +\}`)
	file := filepath.Join(t.TempDir(), "bytes")
	require.NoError(t, os.WriteFile(file, []byte("\x00\x1b[2J"), 0o600))
	x.enter(t, "/binary "+file)
	x.screen.wait(t, `binary, 5 bytes\r\n +00000000  00 1b 5b 32 4a +\.\.\[2J`)
	x.enter(t, "/stats")
	x.screen.wait(t, `messages: \d sent`)
	x.enter(t, "/nonsense")
	x.screen.wait(t, `no command /nonsense`)
	x.enter(t, "/help")
	x.screen.wait(t, `/close \[CODE`)
	x.enter(t, "/")
	x.screen.wait(t, `no command /,`)
	for _, code := range []string{"99", "1005", "1006", "1015", "2999", "5000", "99999", "soon"} {
		x.enter(t, "/close "+code)
		x.screen.wait(t, `expected a code .*, got "?`+code)
	}
	x.enter(t, "still here")
	x.screen.wait(t, `< ?\S* still here\r\n`)
	x.enter(t, "/close 4000 bye now")
	x.screen.wait(t, `closed by this side: 4000: bye now`)
	assert.Equal(t, 0, x.end(t))
}

func TestTerminalIsNotTornByWhatArrives(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		<-release
		_ = conn.Send(conn.Context(), wsd.Text("first\nsecond"))
		for m := range conn.Messages() {
			_ = conn.Send(conn.Context(), m)
		}
	})
	x := startTerminal(t, []string{"NO_COLOR=1"}, "dial", url)
	x.screen.wait(t, `connected`)
	_, err := x.pty.WriteString("half a li")
	require.NoError(t, err)
	x.screen.wait(t, `half a li`)
	close(release)
	x.screen.wait(t, `(?s)< first\r\n  second\r\n.*> half a li`) // what is typed is shown again below
	x.enter(t, "ne")
	x.screen.wait(t, `< half a line\r\n`)
	assert.NotContains(t, x.screen.String(), "\x1b[3", "no colours where NO_COLOR is set")
	_, err = x.pty.WriteString("\x03")
	require.NoError(t, err)
	x.screen.wait(t, `closed by this side: 1000`)
	assert.Equal(t, 0, x.end(t))
}

func TestTerminalIsNotControlledByThePeer(t *testing.T) {
	t.Parallel()
	evil := "\x1b]0;owned\x07\x1b[2J\u009b31m\u202egnp.\r\b"
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		_ = conn.Send(conn.Context(), wsd.Text(evil))
		_ = conn.Send(conn.Context(), wsd.Binary([]byte(evil)))
		_ = conn.Close(4001, evil)
	})
	for _, args := range [][]string{nil, {"-json"}, {"-jsonpp"}, {"-x", "hi"}, {"-v"}} {
		x := startTerminal(t, []string{"NO_COLOR=1"}, append([]string{"dial", url}, args...)...)
		x.screen.wait(t, `closed by (the server:|this side: .*; the server sent) 4001`) // with -x this side closes too, behind the first answer
		assert.NotEqual(t, 2, x.end(t))
		for _, sequence := range []string{"\x1b]0", "\x07", "\x1b[2J", "\u009b", "\u202e", "\b"} {
			assert.NotContains(t, x.screen.String(), sequence, "%v", args)
		}
	}
}

func TestTerminalEndsOnItsSecondInterruptAtOnce(t *testing.T) {
	t.Parallel()
	url := server(t, &wsd.AcceptOptions{Config: wsd.Config{MessageBuffer: -1}}, func(conn *wsd.Conn, _ *http.Request) {
		_ = conn.Send(conn.Context(), wsd.Text("never reads"))
		<-conn.Closed()
	})
	x := startTerminal(t, []string{"NO_COLOR=1"}, "dial", url)
	x.screen.wait(t, "never reads")
	x.enter(t, strings.Repeat("fills", 10)) // waits in the server, ahead of the close frame
	x.screen.wait(t, "fillsfills")
	_, err := x.pty.WriteString("\x03")
	require.NoError(t, err)
	x.screen.wait(t, `closing`) // and the terminal takes Ctrl-C for a signal again
	_, err = x.pty.WriteString("\x03")
	require.NoError(t, err)
	assert.NotEqual(t, 0, x.end(t))
}

// tmux is a terminal that tells what its screen shows.
type tmux struct {
	t      *testing.T
	socket string
}

func startTmux(t *testing.T, args ...string) tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		missing(t, "tmux")
	}
	m := tmux{t, filepath.Join(t.TempDir(), "tmux")}
	m.do(append([]string{"-f", "/dev/null", "new-session", "-d", "-x", "60", "-y", "20", binary}, args...)...)
	t.Cleanup(func() { _ = m.command("kill-server").Run() })
	return m
}

func (m tmux) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(m.t.Context()), "tmux", append([]string{"-u", "-S", m.socket}, args...)...)
	cmd.Env = append(environment(), "LC_ALL=C.UTF-8", "NO_COLOR=1")
	return cmd
}

func (m tmux) do(args ...string) string {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	require.NoError(m.t, err, "tmux %v: %s", args, out)
	return string(out)
}

// shows waits until the screen matches a pattern.
func (m tmux) shows(pattern string) {
	m.t.Helper()
	expression, last := regexp.MustCompile(pattern), time.Now()
	shown := ""
	for {
		now := m.do("capture-pane", "-p")
		if expression.MatchString(now) {
			return
		}
		if now != shown {
			shown, last = now, time.Now()
		}
		if time.Since(last) > patience {
			require.Failf(m.t, "not shown", "waiting for %q, the screen shows:\n%s", pattern, now)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Times are shown of all that is sent, received or told, and what is typed meanwhile stays whole.
func TestTerminalShowsTimes(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	m := startTmux(t, "dial", "-time", server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		for m := range conn.Messages() {
			_ = conn.Send(conn.Context(), m)
			if m.String() == "go on" {
				<-release
				_ = conn.Send(conn.Context(), wsd.Text("meanwhile"))
			}
		}
	}))
	const at = `\d\d:\d\d:\d\d\.\d{3} `
	m.shows(`(?m)^` + at + `\* connected`)
	long := strings.Repeat("long line ", 11) + "!"
	m.do("send-keys", "-l", long)
	m.do("send-keys", "Enter")
	const wrapped = `[long ie\n]+`
	m.shows(`^` + at + `\* connected[^>]+\n` + at + `> ` + wrapped + `!\n` + at + `< ` + wrapped + `!\n>`)
	m.do("send-keys", "-l", "日本語 ✓")
	m.do("send-keys", "Enter")
	m.shows(`(?m)^> 日本語 ✓\n` + at + `> 日本語 ✓\n` + at + `< 日本語 ✓\n>`)
	m.do("send-keys", "-l", "go on")
	m.do("send-keys", "Enter")
	m.shows(`(?m)^` + at + `> go on\n` + at + `< go on\n>`)
	m.do("send-keys", "-l", "half a")
	m.shows(`(?m)^> half a`)
	close(release)
	m.shows(`(?m)^` + at + `< meanwhile\n> half a`)
	m.do("send-keys", "-l", " line")
	m.do("send-keys", "Enter")
	m.shows(`(?m)^` + at + `< meanwhile\n` + at + `> half a line\n` + at + `< half a line\n>`)
	m.do("send-keys", "C-c")
}
