// main_test.go runs the example as a program: what it sends and prints, its exit status, and Ctrl-C.
package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
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

// serve starts a server with the given handler and returns its URL.
func serve(t *testing.T, handler func(*wsd.Conn)) string {
	t.Helper()
	ws := &wsd.Server{Handler: handler}
	server := httptest.NewServer(ws)
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, ws.Shutdown(context.Background()))
	})
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// program prepares the example in a process of its own.
func program(args ...string) (cmd *exec.Cmd, stdout, stderr *strings.Builder) {
	cmd, stdout, stderr = exec.Command(os.Args[0], args...), new(strings.Builder), new(strings.Builder)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

func TestAnswerIsPrinted(t *testing.T) {
	url := serve(t, func(conn *wsd.Conn) {
		for msg := range conn.Messages() {
			_ = conn.Send(context.Background(), wsd.Text(msg.Type.String()+": "+string(msg.Data)))
		}
		// The end is the client's, with a proper close.
		if event := conn.CloseEvent(); event.Code != wsd.StatusNormalClosure {
			t.Errorf("closed with %v", event.Code)
		}
	})
	for _, test := range []struct{ args, want string }{
		{"", "text: Hi\n"},
		{"good morning", "text: good morning\n"},
	} {
		args := []string{url}
		if test.args != "" {
			args = append(args, test.args)
		}
		cmd, stdout, stderr := program(args...)
		require.NoError(t, cmd.Run(), stderr)
		require.Equal(t, test.want, stdout.String())
		require.Empty(t, stderr.String())
	}
}

func TestExitStatus(t *testing.T) {
	closing := serve(t, func(conn *wsd.Conn) { _ = conn.Close(wsd.StatusTryAgainLater, "come back") })
	notThere := httptest.NewServer(nil)
	defer notThere.Close()
	for name, test := range map[string]struct {
		args   []string
		status int
		stderr string
	}{
		"no URL":             {nil, 2, "usage: client URL [TEXT]"},
		"too many arguments": {[]string{"ws://127.0.0.1", "a", "b"}, 2, "usage: client URL [TEXT]"},
		"no such scheme":     {[]string{"gopher://127.0.0.1"}, 1, "gopher"},
		"not a WebSocket":    {[]string{notThere.URL}, 1, "404"},
		"closed instead":     {[]string{closing}, 1, "come back"},
		"not UTF-8":          {[]string{closing, "\xff"}, 1, "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, stdout, stderr := program(test.args...)
			err := cmd.Run()
			var exit *exec.ExitError
			require.True(t, errors.As(err, &exit), "%v", err)
			require.Equal(t, test.status, exit.ExitCode())
			require.Contains(t, stderr.String(), test.stderr)
			require.Empty(t, stdout.String())
		})
	}
}

func TestInterruptClosesCleanly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent an interrupt there")
	}
	waiting := make(chan struct{})
	ended := make(chan wsd.CloseEvent, 1)
	url := serve(t, func(conn *wsd.Conn) {
		<-conn.Messages()
		close(waiting) // the client waits for an answer that does not come
		<-conn.Closed()
		ended <- conn.CloseEvent()
	})
	cmd, stdout, _ := program(url)
	require.NoError(t, cmd.Start())
	<-waiting
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	event := <-ended
	require.Equal(t, wsd.StatusGoingAway, event.Code)
	require.True(t, event.Clean)
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, 1, exit.ExitCode(), "no answer came")
	require.Empty(t, stdout.String())
}
