// serve_test.go runs wsd serve in all its modes.

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// connect connects to a server until the test ends.
func connect(t testing.TB, url string, opts *wsd.DialOptions) *wsd.Conn {
	t.Helper()
	conn, _, err := wsd.Dial(bounded(t), url, opts)
	require.NoError(t, err)
	t.Cleanup(conn.CloseNow)
	return conn
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), whole)
	t.Cleanup(cancel)
	return ctx
}

func sendText(t *testing.T, conn *wsd.Conn, text string) {
	t.Helper()
	require.NoError(t, conn.Send(bounded(t), wsd.Text(text)))
}

func receive(t *testing.T, conn *wsd.Conn) string {
	t.Helper()
	m, err := conn.Receive(bounded(t))
	require.NoError(t, err)
	return m.String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(strings.Replace(url, "ws", "http", 1))
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestServeBroadcastsByPath(t *testing.T) {
	t.Parallel()
	url := serve(t, "-broadcast")
	a, b := connect(t, url+"room/1", nil), connect(t, url+"room/1", nil)
	var others []*wsd.Conn
	for _, path := range []string{"room/2", "room/*", "*/1", ">", "room/%3e", "room.1", "ROOM/1", "room=2F1", ""} {
		others = append(others, connect(t, url+path, nil))
	}
	for _, conn := range append(others, a, b) { // who is answered is subscribed
		sendText(t, conn, "ready")
		require.Equal(t, "ready", receive(t, conn))
	}
	sendText(t, a, "news")
	for _, conn := range []*wsd.Conn{a, b} {
		text := receive(t, conn)
		for text == "ready" { // what the other of the two has sent
			text = receive(t, conn)
		}
		assert.Equal(t, "news", text)
	}
	for _, conn := range others {
		sendText(t, conn, "own")
		assert.Equal(t, "own", receive(t, conn), "no path is a pattern")
	}
}

func TestServeRunsAProgramForEachConnection(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(script, []byte(`#!/bin/bash
echo "$1|$PATH_INFO|$QUERY_STRING|$REQUEST_METHOD|$HTTP_X_TEST|${HTTP_PROXY-unset}|${REMOTE_ADDR}|$GATEWAY_INTERFACE"
while read -r line; do
	[[ $line == fail ]] && exit 7
	[[ $line == children ]] && { sleep 1000 & echo $!; wait; }
	echo "got $line"
done
`), 0o700))
	url := serve(t, "-exec", script+` 'one word'`)
	conn := connect(t, url+"a/b?c=d", &wsd.DialOptions{Header: http.Header{"X-Test": {"yes"}, "Proxy": {"http://evil"}}})
	assert.Equal(t, "one word|/a/b|c=d|GET|yes|unset|127.0.0.1|CGI/1.1", receive(t, conn))
	sendText(t, conn, "hello")
	assert.Equal(t, "got hello", receive(t, conn))
	sendText(t, conn, "fail")
	_, err := conn.Receive(bounded(t))
	assert.ErrorContains(t, err, "exit status 7")
	<-conn.Closed()
	assert.Equal(t, wsd.StatusInternalError, conn.CloseEvent().Code)

	conn = connect(t, url, nil)
	_ = receive(t, conn)
	sendText(t, conn, "children")
	pid, err := strconv.Atoi(receive(t, conn))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0), "the child is there")
	require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
	require.Eventually(t, func() bool { return gone(pid) }, patience, 10*time.Millisecond, "and then it is not")
}

// gone reports whether a process has ended, whether or not somebody has asked for its status.
func gone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(status), ") Z")
}

func TestServeLogsWhatAProgramComplainsOf(t *testing.T) {
	t.Parallel()
	url, p := serveProcess(t, "-exec", `bash -c 'echo "a line" >&2; read; printf "no line end" >&2'`)
	conn := connect(t, url, nil)
	p.stderr.wait(t, `msg=program remote=\S+ stderr="a line"\n`)
	sendText(t, conn, "go on")
	p.stderr.wait(t, `msg=program remote=\S+ stderr="no line end"\n`)
}

func TestServePassesBytesToAProgram(t *testing.T) {
	t.Parallel()
	conn := connect(t, serve(t, "-exec", "cat", "-binary"), nil)
	data := bytes.Repeat([]byte("\x00\xff\n"), 100_000)
	require.NoError(t, conn.Send(bounded(t), wsd.Binary(data)))
	var got []byte
	for len(got) < len(data) {
		m, err := conn.Receive(bounded(t))
		require.NoError(t, err)
		require.Equal(t, wsd.BinaryMessage, m.Type)
		got = append(got, m.Data...)
	}
	assert.True(t, bytes.Equal(data, got))
}

func TestServeBridgesToTCP(t *testing.T) {
	t.Parallel()
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
				fmt.Fprint(raw, "RFB 003.008\n") // a server may speak first
				line, _ := bufio.NewReader(raw).ReadString('\n')
				fmt.Fprint(raw, strings.ToUpper(line))
			}()
		}
	}()
	url := serve(t, "-tcp", listener.Addr().String())
	conn := connect(t, url, &wsd.DialOptions{Subprotocols: []string{"base64", "binary"}})
	assert.Equal(t, "binary", conn.Subprotocol())
	assert.Equal(t, "RFB 003.008\n", receive(t, conn))
	require.NoError(t, conn.Send(bounded(t), wsd.Binary([]byte("shout\n"))))
	assert.Equal(t, "SHOUT\n", receive(t, conn))
	_, err = conn.Receive(bounded(t))
	require.ErrorIs(t, err, wsd.ErrClosed)
	<-conn.Closed()
	assert.Equal(t, wsd.StatusNormalClosure, conn.CloseEvent().Code, "the end of the bytes")

	_, response, err := wsd.Dial(bounded(t), serve(t, "-tcp", "127.0.0.1:1"), nil)
	require.Error(t, err)
	assert.Equal(t, http.StatusBadGateway, response.StatusCode)
}

func TestServeHasFilesBesideItAndNoOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "site"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "site", ".git"), 0o700))
	for name, text := range map[string]string{"secret": "secret", "site/page.html": "<p>page", "site/.git/config": "secret", "site/.env": "secret"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	require.NoError(t, os.Symlink(filepath.Join(dir, "secret"), filepath.Join(dir, "site", "link")))
	url := serve(t, "-dir", filepath.Join(dir, "site"))
	_, body := get(t, url+"page.html")
	assert.Equal(t, "<p>page", body)
	_, body = get(t, url)
	assert.Contains(t, body, "page.html")
	assert.NotContains(t, body, ".env")
	for _, path := range []string{"link", ".env", ".git/config", "../secret", "%2e%2e/secret", "..%2fsecret"} {
		_, body := get(t, url+path)
		assert.NotEqual(t, "secret", body, path)
	}
	conn := connect(t, url+"page.html", nil)
	sendText(t, conn, "a socket, too")
	assert.Equal(t, "a socket, too", receive(t, conn))
}

func TestServeCountsAndLogs(t *testing.T) {
	t.Parallel()
	url, p := serveProcess(t, "-log", "json")
	conn := connect(t, url+"path?query", nil)
	sendText(t, conn, "hello")
	_ = receive(t, conn)
	require.NoError(t, conn.Close(4000, "enough"))
	line := p.stderr.wait(t, `(?m)^(\{.*"msg":"connection".*\})$`)[1]
	var entry struct {
		Path     string
		Received int
		End      struct {
			Code   int
			Reason string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(line), &entry))
	assert.Equal(t, "/path", entry.Path)
	assert.Equal(t, 1, entry.Received)
	assert.Equal(t, 4000, entry.End.Code)
	assert.Equal(t, "enough", entry.End.Reason)

	_, body := get(t, url+"debug/vars")
	var vars struct {
		WSD wsd.ServerStats `json:"wsd"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &vars))
	assert.Equal(t, uint64(1), vars.WSD.MessagesReceived)
	_, body = get(t, url+"metrics")
	assert.Contains(t, body, "# TYPE wsd_accepted_total counter\nwsd_accepted_total 1\n")
}

func TestServeRefusesOriginsAndWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	url := serve(t, "-origin", "https://*.example.com", "-max-conns", "2")
	from := func(origin string) error {
		conn, _, err := wsd.Dial(bounded(t), url, &wsd.DialOptions{Header: http.Header{"Origin": {origin}}})
		if err == nil {
			t.Cleanup(conn.CloseNow)
		}
		return err
	}
	assert.ErrorContains(t, from("https://evil.example"), "403")
	assert.NoError(t, from("https://www.example.com"))
	assert.NoError(t, from("https://app.example.com"))
	assert.ErrorContains(t, from("https://www.example.com"), "503")
}

func TestServeEndsConnectionsOnInterrupt(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-echo"}, {"-broadcast"}, {"-exec", "cat"}} {
		url, p := serveProcess(t, args...)
		conn := connect(t, url, nil)
		sendText(t, conn, "there")
		_ = receive(t, conn)
		assert.Equal(t, 0, p.interrupt(t), args)
		<-conn.Closed()
		assert.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code, args)
	}
}

func TestServeSaysInOneLineWhatIsWrong(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{taken.Addr().String()}, 1, "address already in use"},
		{[]string{"nonsense:port"}, 2, "expected an address such as 8080"},
		{[]string{"99999"}, 2, "expected an address such as 8080"},
		{[]string{"unix:"}, 2, "expected an address such as 8080"},
		{[]string{""}, 2, "expected an address such as 8080"},
		{[]string{"-json"}, 2, "-log json"},
		{[]string{"1", "2"}, 2, `unexpected argument "2"`},
		{[]string{"-echo", "-broadcast"}, 2, "-echo and -broadcast: expected one of them"},
		{[]string{"-exec", "/no/such/program"}, 2, "-exec: "},
		{[]string{"-exec", "'open"}, 2, "expected a closing quote"},
		{[]string{"-tcp", "nowhere"}, 2, "-tcp: expected HOST:PORT"},
		{[]string{"-dir", "/no/such/dir"}, 2, "-dir: "},
		{[]string{"-cert", "/no/such/file"}, 2, "/no/such/file"},
		{[]string{"-log", "xml"}, 2, `-log: expected text or json, got "xml"`},
		{[]string{"-port", "1"}, 2, "the port needs no flag"},
	} {
		r := run(t, "", append([]string{"serve"}, c.args...)...)
		assert.Equal(t, c.status, r.status, "%v: %s", c.args, r.stderr)
		assert.True(t, strings.HasPrefix(r.stderr, "wsd serve: "), r.stderr)
		assert.Contains(t, strings.SplitN(r.stderr, "\n", 2)[0], c.want)
	}
}
