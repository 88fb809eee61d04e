// process_test.go starts peers and follows what they tell; peers/peer.mjs has how they do.

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// peer is a library that wsd is tested against.
type peer struct {
	name string
	// servers and clients say which roles it has.
	server, client bool
	// http2 says that it speaks nothing else.
	http2 bool
	// command returns what starts it but for the role, or ends the test where it is not installed.
	command func(t *testing.T) []string
}

var peers = []peer{
	{"wsd", true, true, false, golang("wsd")},
	{"gorilla", true, true, false, golang("gorilla")},
	{"coder", true, true, false, golang("coder")},
	{"gws", true, true, false, golang("gws")},
	{"gobwas", true, true, false, golang("gobwas")},
	{"ws", true, true, false, node("ws")},
	{"websocket-driver", true, true, false, node("websocket-driver")},
	{"undici", false, true, false, node("undici")},
	{"websockets", true, true, false, python("websockets")},
	{"aiohttp", true, true, false, python("aiohttp")},
	{"tornado", true, true, false, python("tornado")},
	{"node-http2", true, true, true, nodeWith("ws", "node-http2")},
	{"h2", false, true, true, python("h2")},
}

func peerNamed(t *testing.T, name string) peer {
	t.Helper()
	for _, p := range peers {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("no peer %s", name)
	return peer{}
}

func golang(library string) func(*testing.T) []string {
	return func(t *testing.T) []string { return []string{build(t, "peers/golang"), library} }
}

func node(npmPackage string) func(*testing.T) []string { return nodeWith(npmPackage, npmPackage) }

// nodeWith runs a program that needs a package.
func nodeWith(npmPackage, script string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		path := program(t, "node")
		if _, err := os.Stat(filepath.Join("peers", "node_modules", npmPackage)); err != nil {
			missing(t, "the npm package "+npmPackage)
		}
		return []string{path, "peers/" + script + ".mjs"}
	}
}

// debianPython has the packages of Debian, which another Python in the PATH has not.
const debianPython = "/usr/bin/python3"

func python(module string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		path := program(t, debianPython)
		if exec.Command(path, "-c", "import "+module).Run() != nil {
			missing(t, "python3-"+module)
		}
		return []string{path, "-B", "peers/" + module + "_peer.py"}
	}
}

// event is what a peer tells of a connection, or of itself when it is ready.
type event struct {
	Event       string            `json:"event"`
	ID          string            `json:"id"`
	Version     string            `json:"version"`
	WS          int               `json:"ws"`
	WSS         int               `json:"wss"`
	Cannot      map[string]string `json:"cannot"`
	Subprotocol string            `json:"subprotocol"`
	Extensions  *string           `json:"extensions"` // nil where the library does not tell
	Code        int               `json:"code"`
	Reason      string            `json:"reason"`
	Data        string            `json:"data"`
	Error       string            `json:"error"`
}

// process is a running peer.
type process struct {
	peer
	role   string
	ready  event
	stdin  io.WriteCloser
	stderr *output

	mu     sync.Mutex
	events map[string]chan event // by the connection's id; "" has those of the process
}

// start starts a peer in a role, "server" or "client", until the test ends.
func (p peer) start(t *testing.T, role string) *process {
	t.Helper()
	command := append(p.command(t), role)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "WSD_CERT="+certificateFile(), "WSD_KEY="+keyFile(), "WSD_CA="+authorityFile())
	run := &process{peer: p, role: role, stderr: new(output), events: map[string]chan event{}}
	cmd.Stderr = run.stderr
	var err error
	run.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		run.follow(stdout)
	}()
	t.Cleanup(func() {
		_ = run.stdin.Close()
		_ = cmd.Process.Kill()
		<-followed
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, run.stderr)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run.ready, err = run.next(ctx, "", "ready")
	require.NoError(t, err)
	return run
}

// cannot returns why the peer cannot take part in something, empty where it can.
func (p *process) cannot(what string) string {
	if why := p.ready.Cannot[p.role+": "+what]; why != "" {
		return why
	}
	return p.ready.Cannot[what]
}

// channel returns the channel of a connection's events.
func (p *process) channel(id string) chan event {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.events[id] == nil {
		p.events[id] = make(chan event, 1024) // more than any connection has
	}
	return p.events[id]
}

// follow hands out what the process tells, until it ends.
func (p *process) follow(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Event: "failed", Error: fmt.Sprintf("%v: %s", err, lines.Bytes())}
		}
		p.channel(e.ID) <- e
	}
	p.channel("") <- event{Event: "failed", Error: "the process has ended"}
}

// next waits for an event of a connection. Events of other kinds before it are left out, but for the failure to connect.
func (p *process) next(ctx context.Context, id, kind string) (event, error) {
	for {
		select {
		case e := <-p.channel(id):
			if e.Event == kind {
				return e, nil
			}
			if e.Event == "failed" {
				return e, fmt.Errorf("%s: %s\n%s", p.name, e.Error, p.stderr)
			}
		case e := <-p.channel(""):
			if e.Event == kind && id == "" {
				return e, nil
			}
			return e, fmt.Errorf("%s: %s\n%s", p.name, e.Error, p.stderr)
		case <-ctx.Done():
			return event{}, fmt.Errorf("%s did not tell %q of %q: %w\n%s", p.name, kind, id, ctx.Err(), p.stderr)
		}
	}
}

// connect tells a client where to connect.
func (p *process) connect(url string, subprotocols []string, compress bool) error {
	if subprotocols == nil {
		subprotocols = []string{}
	}
	line, err := json.Marshal(map[string]any{"url": url, "subprotocols": subprotocols, "compress": compress})
	if err != nil {
		return err
	}
	_, err = p.stdin.Write(append(line, '\n'))
	return err
}
