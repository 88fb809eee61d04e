// external_test.go runs servers of NATS in processes of their own.

package natsbroker_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// natsServer builds the server that this module requires, once.
var natsServer = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "natsbroker-test-")
	if err != nil {
		return "", err
	}
	built := filepath.Join(dir, "nats-server")
	output, err := exec.Command("go", "build", "-o", built, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: "go build: " + string(output), Err: err}
	}
	return built, nil
})

// process is a server that can be killed and started again.
type process struct {
	args []string
	port string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// external starts a server, and returns its URL.
func external(t *testing.T) string {
	t.Helper()
	p := newProcess(t)
	p.start(t)
	return p.url()
}

func newProcess(t *testing.T) *process {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddresses(t, 1)[0])
	require.NoError(t, err)
	return &process{port: port, args: []string{"-a", "127.0.0.1", "-p", port, "-js", "-sd", t.TempDir()}}
}

func (p *process) url() string { return "nats://127.0.0.1:" + p.port }

func (p *process) start(t *testing.T) {
	t.Helper()
	built, err := natsServer()
	require.NoError(t, err)
	p.cmd = exec.Command(built, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+p.port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}
