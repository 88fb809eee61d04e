// main_test.go runs the example as a program: the page, the socket, and what Ctrl-C does to clients.
package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// asProgram has the test binary be the example itself.
const asProgram = "WSD_TEST_RUN_EXAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is the example in a process of its own.
type program struct {
	*exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer
	url    string // the first line it printed
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(os.Args[0], args...)}
	p.Env = append(os.Environ(), asProgram+"=1")
	p.Cmd.Stderr = &p.stderr
	pipe, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	p.stdout = bufio.NewReader(pipe)
	line, err := p.stdout.ReadString('\n')
	require.NoError(t, err, "%s", &p.stderr)
	p.url = strings.TrimSuffix(line, "\n")
	return p
}

// socket is the URL of the echo.
func (p *program) socket() string { return "ws" + strings.TrimPrefix(p.url, "http") + "echo" }

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func TestPageAndPaths(t *testing.T) {
	p := start(t, "-addr", "127.0.0.1:0")
	require.Regexp(t, `^http://127\.0\.0\.1:[1-9][0-9]*/$`, p.url)

	resp, body := get(t, p.url)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
	require.Contains(t, body, `id="connect"`)
	require.NotRegexp(t, `(src|href)="(https?:)?//`, body, "the page must not need anything from elsewhere")

	resp, _ = get(t, p.url+"nowhere")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	resp, _ = get(t, p.url+"echo")
	require.Equal(t, http.StatusUpgradeRequired, resp.StatusCode, "a plain request is told to upgrade")
}

func TestEcho(t *testing.T) {
	p := start(t, "-addr", "127.0.0.1:0")
	ctx := t.Context()
	conn, resp, err := wsd.Dial(ctx, p.socket(), &wsd.DialOptions{
		Config:       wsd.Config{MaxMessageSize: -1},
		Subprotocols: []string{"other", "echo"},
		// What a browser sends for the page that the program serves.
		Header: http.Header{"Origin": {strings.TrimSuffix(p.url, "/")}},
	})
	require.NoError(t, err)
	defer conn.CloseNow()
	require.Equal(t, "echo", conn.Subprotocol())
	require.Empty(t, resp.Header.Get("Sec-WebSocket-Extensions"), "compression was not asked of the program")

	const largest = 64<<20 - 1 // bytes, the default of MaxMessageSize
	for name, msg := range map[string]wsd.Message{
		"text":         wsd.Text("h\u00e9llo, \u4e16\u754c"),
		"empty text":   wsd.Text(""),
		"binary":       wsd.Binary([]byte{0, 0xFF, 0x80}),
		"empty binary": wsd.Binary(nil),
		"large":        wsd.Binary(bytes.Repeat([]byte{'x'}, largest)),
	} {
		require.NoError(t, conn.Send(ctx, msg), name)
		got, err := conn.Receive(ctx)
		require.NoError(t, err, name)
		require.Equal(t, msg.Type, got.Type, name)
		require.True(t, bytes.Equal(msg.Data, got.Data), name)
	}
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, "done"))
	require.Equal(t, wsd.StatusNormalClosure, conn.CloseEvent().Code)
}

func TestForeignPagesAreRefused(t *testing.T) {
	p := start(t, "-addr", "127.0.0.1:0")
	_, resp, err := wsd.Dial(t.Context(), p.socket(), &wsd.DialOptions{
		Header: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}

func TestCompressFlag(t *testing.T) {
	p := start(t, "-addr", "127.0.0.1:0", "-compress")
	ctx := t.Context()
	conn, _, err := wsd.Dial(ctx, p.socket(), &wsd.DialOptions{Config: wsd.Config{Compression: &wsd.Compression{}}})
	require.NoError(t, err)
	defer conn.CloseNow()
	require.True(t, strings.HasPrefix(conn.Extensions(), "permessage-deflate"), "%q", conn.Extensions())
	text := strings.Repeat("wsd ", 10_000)
	require.NoError(t, conn.Send(ctx, wsd.Text(text)))
	got, err := conn.Receive(ctx)
	require.NoError(t, err)
	require.Equal(t, text, string(got.Data))
}

func TestSignalsShutItDown(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent an interrupt there")
	}
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			p := start(t, "-addr", "127.0.0.1:0")
			ctx := t.Context()
			conns := make([]*wsd.Conn, 3)
			for i := range conns {
				conn, _, err := wsd.Dial(ctx, p.socket(), nil)
				require.NoError(t, err)
				defer conn.CloseNow()
				// An answer says that the handler runs.
				require.NoError(t, conn.Send(ctx, wsd.Text("hello")))
				_, err = conn.Receive(ctx)
				require.NoError(t, err)
				conns[i] = conn
			}
			require.NoError(t, p.Process.Signal(signal))
			for _, conn := range conns {
				<-conn.Closed()
				event := conn.CloseEvent()
				require.Equal(t, wsd.StatusGoingAway, event.Code)
				require.True(t, event.Clean)
			}
			rest, err := io.ReadAll(p.stdout)
			require.NoError(t, err)
			require.Empty(t, rest, "the URL is all there is on standard output")
			require.NoError(t, p.Wait(), "exit status")
			require.Empty(t, p.stderr.String())
		})
	}
}

func TestAddressInUse(t *testing.T) {
	p := start(t, "-addr", "127.0.0.1:0")
	addr := strings.TrimSuffix(strings.TrimPrefix(p.url, "http://"), "/")
	err := run(context.Background(), io.Discard, addr, false)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

func TestPageURLOfAllInterfaces(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var first lineWriter
	first.onWrite = cancel
	require.NoError(t, run(ctx, &first, ":0", false))
	require.Regexp(t, `^http://localhost:[1-9][0-9]*/\n$`, first.String())
}

// lineWriter calls back when it is written to.
type lineWriter struct {
	bytes.Buffer
	onWrite func()
}

func (w *lineWriter) Write(b []byte) (int, error) {
	defer w.onWrite()
	return w.Buffer.Write(b)
}
