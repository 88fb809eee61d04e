// interop_test.go runs the command against programs that others have made, and the invocations in docs/command.md.

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const pythonEcho = `
import asyncio, sys, websockets
async def echo(ws, path=None):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
`

const pythonClient = `
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1], origin=None) as ws:
        await ws.send("from python")
        print(await ws.recv())
asyncio.run(main())
`

// python returns Debian's Python with websockets, which another Python in the PATH may not have.
func python(t *testing.T) string {
	t.Helper()
	const path = "/usr/bin/python3"
	if exec.Command(path, "-c", "import websockets").Run() != nil {
		missing(t, "python3-websockets")
	}
	return path
}

// exercise runs the verbs that need an echo server.
func exercise(t *testing.T, url string) {
	t.Helper()
	assert.Equal(t, "one\ntwo\n", run(t, "one\ntwo\n", "dial", "-compress", url).stdout)
	large := strings.Repeat("large ", 100_000)
	r := run(t, large, "dial", "-whole", url)
	assert.True(t, strings.TrimSpace(large) == strings.TrimSpace(r.stdout), "%d bytes, %s", len(r.stdout), r.stderr)
	b, status := benchmark(t, "-c", "5", "-inflight", "4", url)
	assert.Equal(t, 0, status, "%v", b.Errors)
	assert.Positive(t, b.Latency["count"])
	proxy, p := tap(t, url)
	assert.Equal(t, "through\n", run(t, "", "dial", "-compress", "-x", "through", proxy).stdout)
	p.stdout.wait(t, `← text .* through`)
	r = run(t, "", "check", "-run", "^(pings and pongs|fragmentation)/[0-9]$", url)
	assert.Contains(t, r.stdout, "topic")
}

func TestWithPythonWebsockets(t *testing.T) {
	t.Parallel()
	p := startProgram(t, python(t), "-c", pythonEcho)
	exercise(t, "ws://127.0.0.1:"+p.stdout.wait(t, `port (\d+)`)[1]+"/")
	proxy, _ := tap(t, serve(t))
	for _, url := range []string{serve(t), proxy} {
		out, err := exec.CommandContext(bounded(t), python(t), "-c", pythonClient, url).CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Equal(t, "from python\n", string(out))
	}
}

// npm returns node, and where a package is installed.
func npm(t *testing.T, name string) (node, modules string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node")
	}
	modules, err = filepath.Abs("peers/node_modules")
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(modules, name)); err != nil {
		missing(t, "the npm package "+name)
	}
	return node, modules
}

func TestWithWsOfNode(t *testing.T) {
	t.Parallel()
	node, modules := npm(t, "ws")
	script := filepath.Join(t.TempDir(), "echo.cjs")
	require.NoError(t, os.WriteFile(script, []byte(fmt.Sprintf(`
const { WebSocketServer, WebSocket } = require(%q);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: true }, () => console.log("port", server.address().port));
server.on("connection", ws => ws.on("message", (data, binary) => ws.send(data, { binary })));
if (process.argv[2]) {
	const ws = new WebSocket(process.argv[2]);
	ws.on("open", () => ws.send("from node"));
	ws.on("message", data => { console.log(String(data)); ws.close(); });
}`, filepath.Join(modules, "ws"))), 0o600))
	p := startProgram(t, node, script, serve(t, "-compress"))
	exercise(t, "ws://127.0.0.1:"+p.stdout.wait(t, `port (\d+)`)[1]+"/")
	p.stdout.wait(t, "from node")
}

func TestBehindNginx(t *testing.T) {
	t.Parallel()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			missing(t, "nginx")
		}
	}
	dir, port := t.TempDir(), freePort(t)
	target := strings.Trim(strings.TrimPrefix(serve(t, "-compress"), "ws://"), "/")
	config := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf(`
daemon off; pid %[1]s/pid; error_log %[1]s/error.log; events {}
http { access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
server { listen 127.0.0.1:%[2]d; location / { proxy_pass http://%[3]s; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade; proxy_set_header Host $host; } } }`, dir, port, target)), 0o600))
	p := startProgram(t, nginx, "-p", dir, "-c", config)
	p.reachable(t, port)
	exercise(t, fmt.Sprintf("ws://127.0.0.1:%d/", port))
}

// manualsTable returns the lines of the table in docs/command.md that has other programs' invocations beside ours.
func manualsTable(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../docs/command.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(content), "| what | wscat | websocat | wsd |\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	return table
}

// TestManualsTableOfWscat runs what the table has for wscat: the lines are its own, and they do what ours do.
func TestManualsTableOfWscat(t *testing.T) {
	t.Parallel()
	_, modules := npm(t, "wscat")
	wscat := filepath.Join(modules, ".bin", "wscat")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("from the file\n"), 0o600))
	secure, plain := serve(t, "-tls"), serve(t, "-subprotocol", "NAME", "-origin", "*")
	authority := filepath.Join(t.TempDir(), "authority.pem")
	require.NoError(t, os.WriteFile(authority, certificateOf(t, secure), 0o600))
	n := 0
	var work sync.WaitGroup
	for _, match := range regexp.MustCompile("(?m)^[^`]*\\| `(wscat -c [^`]*)` \\|").FindAllStringSubmatch(manualsTable(t), -1) {
		n++
		line, want := match[1], "hello"
		url := plain
		if strings.HasSuffix(line, " -n") || strings.Contains(line, "--ca") {
			url = secure
		}
		if strings.Contains(line, "<") {
			want = "" // without a terminal it does not print what comes
		} else if !strings.Contains(line, "-x") {
			line += " -x TEXT -w 1"
		}
		command := strings.NewReplacer("URL", url, "TEXT", "hello", "--ca FILE", "--ca "+authority, "FILE", file, "ORIGIN", "https://page.example",
			"USER:PASSWORD", "me:secret", "-w 5", "-w 1").Replace(line)
		cmd := exec.CommandContext(bounded(t), "bash", "-c", strings.Replace(command, "wscat", wscat, 1))
		cmd.Env = environment()
		stdin, err := cmd.StdinPipe() // its end would be the end of wscat
		require.NoError(t, err)
		work.Go(func() {
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, "%s\n%s", line, out)
			assert.Contains(t, string(out), want, line)
			stdin.Close()
		})
	}
	work.Wait()
	assert.GreaterOrEqual(t, n, 9)
}

// TestManualsTableOfOtherPrograms runs each line of ours in the table of docs/command.md.
func TestManualsTableOfOtherPrograms(t *testing.T) {
	t.Parallel()
	table := manualsTable(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("from the file\n"), 0o600))
	socket := filepath.Join(dir, "socket")
	start(t, "serve", "unix:"+socket).stderr.wait(t, "listening")
	secure := serve(t, "-tls")
	authority := filepath.Join(dir, "authority.pem")
	require.NoError(t, os.WriteFile(authority, certificateOf(t, secure), 0o600))
	plain := serve(t, "-subprotocol", "NAME", "-origin", "*")
	n := 0
	for _, match := range regexp.MustCompile("(?m)\\| `(wsd [^`]*)` \\|$").FindAllStringSubmatch(table, -1) {
		n++
		line := match[1]
		url := plain
		if strings.Contains(line, "-insecure") || strings.Contains(line, "-cacert") {
			url = secure
		}
		command := strings.NewReplacer("wsd ", binary+" ", "URL", url, "TEXT", "hello", "-cacert FILE", "-cacert "+authority, "FILE", file, "PATH", socket,
			"ORIGIN", "https://page.example", "USER:PASSWORD", "me:secret", "HOST:PORT", "127.0.0.1:1", "8080", "127.0.0.1:0", "CMD", "cat", "5s", "300ms").Replace(line)
		if strings.Contains(line, "wsd serve") {
			p := startProgram(t, "bash", "-c", "exec "+command)
			address := p.stderr.wait(t, `listening on (ws://[^,]+)`)[1]
			if !strings.Contains(line, "-tcp") {
				assert.Equal(t, "hi\n", run(t, "", "dial", "-x", "hi", address).stdout, line)
			}
			continue
		}
		input := ""
		want := ""
		if !strings.Contains(line, "<") && !strings.Contains(line, "-x") && !strings.Contains(line, "-for") {
			input, want = "printf 'typed\\n' | ", "typed"
		}
		switch {
		case strings.Contains(line, "<"):
			want = "from the file"
		case strings.Contains(line, "-x"):
			want = "hello"
		}
		cmd := exec.CommandContext(bounded(t), "bash", "-c", "set -o pipefail; "+input+"timeout 50 "+command)
		cmd.Env = environment()
		if strings.Contains(line, "-reconnect") {
			cmd.Args[2] += " -n 1"
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, out)
		assert.Contains(t, string(out), want, line)
	}
	assert.GreaterOrEqual(t, n, 20)
}
