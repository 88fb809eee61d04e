// terminal_test.go types into wsd dial on a pseudo terminal.

package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
