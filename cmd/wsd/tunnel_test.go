// tunnel_test.go runs wsd tunnel between programs that know nothing of WebSockets.

package main_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// echoes starts a TCP server that sends bytes back until their end, and returns its address.
func echoes(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				_, _ = io.Copy(raw, raw)
			}()
		}
	}()
	return listener.Addr().String()
}

// roundTrip sends bytes through a connection and requires them back.
func roundTrip(t *testing.T, raw io.ReadWriter, size int) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	go func() { _, _ = raw.Write(data) }()
	got := make([]byte, size)
	_, err := io.ReadFull(raw, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got), "other bytes came back")
}

func TestTunnelIsTheOtherEndOfServeTCP(t *testing.T) {
	t.Parallel()
	url := serve(t, "-tcp", echoes(t))
	socket := filepath.Join(t.TempDir(), "socket")
	for network, listen := range map[string]string{"tcp": "127.0.0.1:0", "unix": "unix:" + socket} {
		p := start(t, "tunnel", listen, url)
		address := strings.TrimPrefix(p.stderr.wait(t, `listening on ([^,]+), tunnel to ws://`)[1], "unix:")
		for range 3 {
			raw, err := net.Dial(network, address)
			require.NoError(t, err)
			roundTrip(t, raw, 3<<20)
			require.NoError(t, raw.Close())
		}
		p.stderr.wait(t, `(?s)(msg=connection.*received_bytes=3145728.*){3}`)
		raw, err := net.Dial(network, address)
		require.NoError(t, err)
		roundTrip(t, raw, 10)
		assert.Equal(t, 0, p.interrupt(t))
		_, err = io.ReadAll(raw)
		assert.NoError(t, err, "the end of the bytes")
	}
}

func TestTunnelPassesTheEndOnBehindAllBytes(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	data := bytes.Repeat([]byte("last words\n"), 500_000)
	go func() {
		raw, err := listener.Accept()
		if err == nil {
			_, _ = raw.Write(data)
			raw.Close()
		}
	}()
	p := start(t, "tunnel", "127.0.0.1:0", serve(t, "-tcp", listener.Addr().String()))
	raw, err := net.Dial("tcp", p.stderr.wait(t, `listening on ([^,]+),`)[1])
	require.NoError(t, err)
	got, err := io.ReadAll(raw)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, got), "%d of %d bytes", len(got), len(data))
}

func TestTunnelOfStandardInputAndOutput(t *testing.T) {
	t.Parallel()
	url := serve(t, "-tcp", echoes(t))
	p := start(t, "tunnel", "-", url)
	_, err := io.WriteString(p.stdin, "hello\n")
	require.NoError(t, err)
	p.stdout.wait(t, "hello\n")
	require.NoError(t, p.stdin.Close())
	assert.Equal(t, 0, p.end(t))
	p = start(t, "tunnel", "-", server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		_ = conn.Send(conn.Context(), wsd.Binary([]byte("only this")))
	}))
	assert.Equal(t, 0, p.end(t), "the server's end, while the input is open")
	assert.Equal(t, "only this", p.stdout.String())
	r := run(t, "", "tunnel", "-", "ws://127.0.0.1:1/")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "cannot connect to 127.0.0.1:1")
	assert.Equal(t, 2, run(t, "", "tunnel", "8080").status)
}

func TestTunnelSpeaksWithWebsockify(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("websockify")
	if err != nil {
		missing(t, "websockify")
	}
	port := freePort(t)
	p := startProgram(t, path, fmt.Sprint(port), echoes(t))
	p.reachable(t, port)
	tunnel := start(t, "tunnel", "127.0.0.1:0", fmt.Sprintf("ws://127.0.0.1:%d/", port))
	raw, err := net.Dial("tcp", tunnel.stderr.wait(t, `listening on ([^,]+),`)[1])
	require.NoError(t, err)
	defer raw.Close()
	roundTrip(t, raw, 300_000)
}

func TestTunnelCarriesSSH(t *testing.T) {
	t.Parallel()
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		if sshd, err = exec.LookPath("/usr/sbin/sshd"); err != nil {
			missing(t, "sshd")
		}
	}
	me, err := user.Current()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, key := range []string{"host", "mine"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	public, err := os.ReadFile(filepath.Join(dir, "mine.pub"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "authorized"), public, 0o600))
	_ = os.Mkdir("/run/sshd", 0o755) // where Debian's sshd looks for it, if that may be made
	port := freePort(t)
	server := startProgram(t, sshd, "-D", "-e", "-f", "/dev/null", "-p", fmt.Sprint(port), "-h", filepath.Join(dir, "host"),
		"-o", "ListenAddress=127.0.0.1", "-o", "AuthorizedKeysFile="+filepath.Join(dir, "authorized"), "-o", "StrictModes=no",
		"-o", "PidFile=none", "-o", "UsePAM=no", "-o", "PermitRootLogin=yes")
	server.reachable(t, port)
	url := serve(t, "-tcp", fmt.Sprintf("127.0.0.1:%d", port))
	cmd := exec.CommandContext(bounded(t), "ssh", "-F", "none", "-i", filepath.Join(dir, "mine"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ProxyCommand="+binary+" tunnel -q - "+url,
		me.Username+"@host", "echo through; head -c 2000000 /dev/zero")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	assert.True(t, bytes.HasPrefix(out, []byte("through\n")))
	assert.Len(t, out, len("through\n")+2_000_000)
}
