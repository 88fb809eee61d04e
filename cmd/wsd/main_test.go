// main_test.go builds the command once and runs it as a process, as its users do.

package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

const (
	// patience bounds what a test waits for one thing to happen. A process that prints has it anew.
	patience = 30 * time.Second
	// whole bounds a run of a process, and a conversation.
	whole = 2 * time.Minute
)

// shared is a directory with the built command, for the time of the run; binary is its path.
var shared, binary string

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		if err := role(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(func() int {
		var err error
		if shared, err = os.MkdirTemp("", "wsd-command-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(shared)
		binary = filepath.Join(shared, "wsd")
		if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// environment is that of tests, without what would change how the command writes or connects.
func environment() []string {
	env := []string{"TERM=xterm-256color"}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch strings.ToUpper(name) {
		case "NO_COLOR", "TERM", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY":
		default:
			env = append(env, variable)
		}
	}
	return env
}

// result is what came of a run.
type result struct {
	stdout, stderr string
	status         int
}

// run runs the command to its end.
func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return runWith(t, strings.NewReader(stdin), args...)
}

func runWith(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), whole)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment()
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.NoError(t, ctx.Err(), "wsd %v did not end\n%s\n%s", args, &stdout, &stderr)
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// output collects what a process prints, and lets others wait for it.
type output struct {
	mu      sync.Mutex
	b       strings.Builder
	changed chan struct{} // closed and replaced when there is more; nil while nobody waits
	over    chan struct{} // closed when no more comes; nil where that is not known
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// wait waits until what was printed matches a pattern, and returns the match and its groups. It fails when no more can come,
// or nothing has come for a while.
func (o *output) wait(t testing.TB, pattern string) []string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	silence := time.NewTimer(patience)
	defer silence.Stop()
	over := o.over
	for {
		o.mu.Lock()
		printed := o.b.String()
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if found := expression.FindStringSubmatch(printed); found != nil {
			return found
		}
		if over == nil && o.over != nil {
			require.Failf(t, "not printed", "the process has ended without %q, and printed:\n%s", pattern, visible(printed))
		}
		select {
		case <-changed:
			silence.Reset(patience)
		case <-over:
			over = nil // what came last is looked at once more
		case <-silence.C:
			require.Failf(t, "not printed", "nothing has come for %v, waiting for %q behind:\n%s", patience, pattern, visible(printed))
		}
	}
}

// visible spells out what a terminal would not show.
func visible(printed string) string {
	return strings.NewReplacer("\x1b", "␛", "\r\n", "\n", "\r", "␍", "\a", "␇", "\b", "␈").Replace(printed)
}

// process is a program that runs until it is stopped, or the test ends.
type process struct {
	*exec.Cmd
	stdout, stderr *output
	stdin          io.WriteCloser
	exited         chan struct{}
}

// start starts the command in the background.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return startProgram(t, binary, args...)
}

func startProgram(t testing.TB, path string, args ...string) *process {
	t.Helper()
	exited := make(chan struct{})
	p := &process{Cmd: exec.Command(path, args...), stdout: &output{over: exited}, stderr: &output{over: exited}, exited: exited}
	p.Env = environment()
	p.Stdout, p.Stderr = p.stdout, p.stderr
	p.WaitDelay = time.Second
	var err error
	p.stdin, err = p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	go func() {
		defer close(p.exited)
		_ = p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%s %v:\n%s\n%s", path, args, p.stdout, p.stderr)
		}
	})
	return p
}

// interrupt sends Ctrl-C's signal, and returns the exit status.
func (p *process) interrupt(t *testing.T) int {
	t.Helper()
	require.NoError(t, p.Process.Signal(os.Interrupt))
	return p.end(t)
}

// end waits for the end and returns the exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		require.FailNow(t, "the process did not end", "%s\n%s", p.stdout, p.stderr)
	}
	return p.ProcessState.ExitCode()
}

// serve starts wsd serve on a free port and returns its URL.
func serve(t testing.TB, args ...string) string {
	t.Helper()
	url, _ := serveProcess(t, args...)
	return url
}

func serveProcess(t testing.TB, args ...string) (string, *process) {
	t.Helper()
	p := start(t, append([]string{"serve", "127.0.0.1:0"}, args...)...)
	return p.stderr.wait(t, `listening on (wss?://[^,\s]+)`)[1], p
}

// terminal is a process on a pseudo terminal.
type terminal struct {
	*process
	screen *output
	pty    *os.File
}

// startTerminal starts the command on a terminal.
func startTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	return startOnTerminal(t, env, binary, args...)
}

func startOnTerminal(t *testing.T, env []string, path string, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(environment(), env...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	require.NoError(t, err)
	exited := make(chan struct{})
	x := &terminal{&process{Cmd: cmd, stdout: new(output), stderr: new(output), exited: exited}, &output{over: exited}, f}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(x.screen, f) // which ends with EIO when the process has
	}()
	go func() {
		defer close(x.exited)
		_ = cmd.Wait()
		<-copied
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-x.exited
		_ = f.Close()
		if t.Failed() {
			t.Logf("%s %v on a terminal:\n%s", path, args, visible(x.screen.String()))
		}
	})
	return x
}

// enter types a line.
func (x *terminal) enter(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(x.pty, line+"\r")
	require.NoError(t, err)
}

// freePort returns a port on which nothing listens, for programs that cannot take any and tell which.
func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// reachable waits until the program listens on a port. Programs that do not tell can only be tried.
func (p *process) reachable(t *testing.T, port int) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, patience, 20*time.Millisecond)
}
