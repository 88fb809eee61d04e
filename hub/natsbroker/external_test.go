// external_test.go runs servers of NATS in processes of their own.

package natsbroker_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/hub/natsbroker"
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
	}, patience, 5*time.Millisecond)
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// While the server is away, what has no history is delivered here, what has fails, and both come back by themselves.
func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	p.start(t)
	opts := natsbroker.Options{Dead: 2 * time.Second, Timeout: patience, File: true, Logger: quiet}
	near, far := connected(t, p, opts), connected(t, p, opts)
	a, err := near.Listen(">")
	require.NoError(t, err)
	b, err := far.Listen(">")
	require.NoError(t, err)
	publish(t, near, "kept.a", "1")
	requireNext(t, a, "1")
	requireNext(t, b, "1")
	p.kill()
	brief := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	require.ErrorIs(t, near.Publish(brief(), "kept.a", wsd.Text("x")), hub.ErrBroker)
	_, err = near.History(brief(), "kept.a", hub.Position{}, 10)
	require.ErrorIs(t, err, hub.ErrBroker)
	publish(t, near, "live", "2")
	requireNext(t, a, "2")
	p.start(t)
	publish(t, near, "kept.a", "3")
	requireSoon(t, a, "3") // ahead of it perhaps x: what failed may have been kept after all
	requireSoon(t, b, "3") // ahead of it perhaps 2, unless that was given to a connection that was just dying
	page, err := far.History(t.Context(), "kept.a", hub.Position{}, 10)
	require.NoError(t, err)
	var texts []string
	for _, p := range page.Publications {
		texts = append(texts, string(p.Message.Data))
	}
	require.Subset(t, []string{"1", "x", "3"}, texts)
	require.Subset(t, texts, []string{"1", "3"}, "in files")
	publish(t, far, "live", "4")
	requireNext(t, a, "4")
}

func connected(t *testing.T, p *process, opts natsbroker.Options) *hub.Hub {
	t.Helper()
	b, err := natsbroker.Connect(p.url(), &opts)
	require.NoError(t, err)
	h := hub.New(&hub.Options{Broker: b, History: faultHistory})
	t.Cleanup(func() {
		require.NoError(t, h.Close())
		require.NoError(t, b.Close())
	})
	return h
}

func publish(t *testing.T, h *hub.Hub, topic, text string) {
	t.Helper()
	require.NoError(t, h.Publish(t.Context(), topic, wsd.Text(text)))
}

// requireSoon is requireNext behind whatever else comes first.
func requireSoon(t *testing.T, l *hub.Listener, text string) {
	t.Helper()
	for limit := time.After(patience); ; {
		select {
		case p := <-l.C():
			if string(p.Message.Data) == text {
				return
			}
		case <-limit:
			require.Fail(t, "expected "+text)
		}
	}
}

func requireNext(t *testing.T, l *hub.Listener, text string) {
	t.Helper()
	select {
	case p := <-l.C():
		require.Equal(t, text, string(p.Message.Data))
	case <-time.After(patience):
		require.Fail(t, "expected "+text)
	}
}
