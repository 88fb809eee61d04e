// program_test.go starts programs that were not made for these tests, and follows what they print.

package interop

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// output collects what a process prints, and lets others wait for it.
type output struct {
	mu      sync.Mutex
	b       strings.Builder
	changed chan struct{} // closed and replaced when there is more; nil while nobody waits
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

// len returns how much has been printed, to look behind it later.
func (o *output) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Len()
}

// wait waits until what was printed behind from contains text.
func (o *output) wait(ctx context.Context, from int, text string) error {
	for {
		o.mu.Lock()
		printed := o.b.String()
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if strings.Contains(printed[from:], text) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %q: %w; printed so far:\n%s", text, ctx.Err(), printed)
		}
	}
}

// running is a program that was not made for these tests.
type running struct {
	*exec.Cmd
	stdin  io.WriteCloser
	output *output // both standard output and standard error
	exited chan struct{}
}

// runProgram starts a program until the test ends.
func runProgram(t *testing.T, path string, args ...string) *running {
	t.Helper()
	r := &running{Cmd: exec.Command(path, args...), output: new(output), exited: make(chan struct{})}
	r.Stdout, r.Stderr = r.output, r.output
	r.Env = append(r.Environ(), "NODE_EXTRA_CA_CERTS="+authorityFile(), "XDG_DATA_HOME="+shared, "XDG_CONFIG_HOME="+shared)
	var err error
	r.stdin, err = r.StdinPipe()
	require.NoError(t, err)
	// What it forks may hold on to its output for longer than itself.
	r.WaitDelay = time.Second
	require.NoError(t, r.Start())
	go func() {
		defer close(r.exited)
		_ = r.Wait()
	}()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.exited
		if t.Failed() {
			t.Logf("%s:\n%s", path, r.output)
		}
	})
	return r
}

// bounded returns a context that ends with the test, and at the latest when patience does.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// freePort returns a port on which nothing listens, for programs that cannot take any and tell which.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// reachable waits until the program listens on port. Programs that do not tell can only be tried.
func (r *running) reachable(t *testing.T, port int) {
	t.Helper()
	ctx := bounded(t)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-r.exited:
			require.FailNow(t, "the program has ended", "%s", r.output)
		case <-ctx.Done():
			require.NoError(t, err)
		}
	}
}

// typeLine types a line into the program.
func (r *running) typeLine(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(r.stdin, line+"\n")
	require.NoError(t, err)
}

// versionOf returns the version that a program prints of itself.
func versionOf(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	version := regexp.MustCompile(`[0-9]+(\.[0-9]+)+`).FindString(string(out))
	require.NotEmpty(t, version, "%s", out)
	return version
}
