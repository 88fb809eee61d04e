// tap_test.go runs wsd tap between clients and servers, and wsd replay behind it.

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// tap starts wsd tap in front of a server, and returns the URL for clients.
func tap(t testing.TB, target string, args ...string) (string, *process) {
	t.Helper()
	p := start(t, append([]string{"tap", "127.0.0.1:0", target}, args...)...)
	return p.stderr.wait(t, `listening on (wss?://[^,\s]+)`)[1], p
}

func TestTapShowsEveryFrame(t *testing.T) {
	t.Parallel()
	target := serve(t, "-compress")
	proxy, p := tap(t, target)
	conn := connect(t, proxy, &wsd.DialOptions{Config: wsd.Config{Compression: &wsd.Compression{}}})
	sendText(t, conn, "short")
	assert.Equal(t, "short", receive(t, conn))
	for i := range 3 {
		long := fmt.Sprintf("message %d: %s", i, strings.Repeat("again and ", 200))
		sendText(t, conn, long)
		assert.Equal(t, long, receive(t, conn))
	}
	w := conn.Writer(bounded(t), wsd.BinaryMessage, &wsd.WriterOptions{Compress: wsd.CompressNever})
	for range 2 {
		_, err := w.Write([]byte{0, 1, 2, 0xff})
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	_ = receive(t, conn)
	_, err := conn.Ping(bounded(t), []byte("are you there"))
	require.NoError(t, err)
	require.NoError(t, conn.Close(4000, "bye\x1b[2J"))
	p.stdout.wait(t, `#1 \* the end\n`)
	for _, line := range []string{
		`#1 \* 127\.0\.0\.1:\d+ GET / HTTP/1\.1, HTTP/1\.1 101 Switching Protocols`,
		`#1 → text +5 short`, `#1 ← text +5 short`,
		`#1 → text +\d+/2011 \[deflate\] message 0: again and`, `#1 ← text +\d+/2011 \[deflate\] message 2: again and`,
		`#1 → binary +4 \[more follows\] 000102ff`, `#1 → cont +4 \[more follows\] 000102ff`,
		`#1 → ping +13 are you there`, `#1 ← pong +13 after \S+s are you there`,
		`#1 → close +9 4000: bye\\x1b\[2J`,
	} {
		assert.Regexp(t, line, p.stdout.String())
	}
	// Every answer is listed behind what it answers.
	for _, word := range []string{"short", "message 1", "close"} {
		assert.Less(t, strings.Index(p.stdout.String(), word), strings.LastIndex(p.stdout.String(), word))
	}
	assert.NotContains(t, p.stdout.String(), "!")
}

func TestTapWritesJSONForPrograms(t *testing.T) {
	t.Parallel()
	target := serve(t)
	file := filepath.Join(t.TempDir(), "record")
	proxy, p := tap(t, target, "-json", "-record", file)
	conn := connect(t, proxy, nil)
	sendText(t, conn, "to all\u202e")
	_ = receive(t, conn)
	require.NoError(t, conn.Close(4001, "done"))
	p.stdout.wait(t, `"event":"end"`)
	assert.Equal(t, 0, p.interrupt(t))
	var told []string
	for line := range strings.Lines(p.stdout.String()) {
		var e struct {
			Event, From, Text string
			Code              int
		}
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		told = append(told, strings.TrimRight(fmt.Sprintf("%s %s %s %d", e.Event, e.From, e.Text, e.Code), " 0"))
	}
	assert.Equal(t, []string{"open", "frame client to all\u202e", "frame server to all\u202e", "frame client  4001", "frame server  4001", "end"}, told)
	recorded, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(recorded), p.stdout.String())

	x := startTerminal(t, nil, "tap", "127.0.0.1:0", target, "-json")
	conn = connect(t, x.screen.wait(t, `listening on (ws://[^,\s]+)`)[1], nil)
	sendText(t, conn, "\u202egnp.\u009b31m")
	x.screen.wait(t, `"text":"\\\\?u202egnp`)
	assert.NotContains(t, x.screen.String(), "\u202e")
	assert.NotContains(t, x.screen.String(), "\u009b")
}

func TestTapRecordsIntoAPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	require.NoError(t, os.Chmod(pipe, 0o644))
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	require.NoError(t, err)
	defer reader.Close()
	proxy, _ := tap(t, serve(t), "-q", "-record", pipe)
	connect(t, proxy, nil)
	line, err := bufio.NewReader(reader).ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, `"event":"open"`)
	info, err := os.Stat(pipe)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "what is no file of its own keeps its mode, /dev/null say")
}

func TestTapSaysInOneLineWhatIsWrong(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	dir := t.TempDir()
	garbage, recording := filepath.Join(dir, "garbage"), filepath.Join(dir, "recording")
	for _, file := range []string{garbage, recording} {
		require.NoError(t, os.WriteFile(file, []byte("kept"), 0o600))
	}
	const listen, url = "127.0.0.1:0", "ws://127.0.0.1:1/"
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "expected LISTEN and a URL"},
		{[]string{listen}, 2, "expected LISTEN and a URL"},
		{[]string{listen, "ftp://x"}, 2, "expected ws:// or wss://, got ftp://"},
		{[]string{listen, "ws://me:secret@x/"}, 2, `the URL "ws://me:xxxxx@x/": expected no user in it`},
		{[]string{"nonsense:port", url}, 2, "expected an address such as 8080"},
		{[]string{taken.Addr().String(), url, "-record", recording}, 1, "address already in use"},
		{[]string{listen, url, "-ui", "-ui-port", port, "-record", recording}, 1, "-ui: listen tcp 127.0.0.1:" + port + ": bind: address already in use"},
		{[]string{listen, url, "-ui", "-ui-port", "99999"}, 2, "-ui-port: expected a port up to 65535, got 99999"},
		{[]string{listen, url, "-ui-port", "8080"}, 2, "-ui-port: expected -ui, too"},
		{[]string{listen, url, "-json", "-q"}, 2, "-json and -q: expected one of them"},
		{[]string{listen, url, "-record", "/no/such/dir/file"}, 1, "-record: open /no/such/dir/file"},
		{[]string{listen, url, "-listen-key", garbage}, 2, "-listen-key: expected -listen-cert, too"},
		{[]string{listen, url, "-listen-cert", garbage, "-record", recording}, 2, "-listen-cert " + garbage + ", -listen-key " + garbage + ": tls: "},
		{[]string{listen, url, "-cacert", garbage}, 2, "-cacert: " + garbage + ": expected certificates in PEM"},
		{[]string{listen, url, "-cert", garbage}, 2, "-cert " + garbage},
		{[]string{listen, url, "-w", "file"}, 2, "-record FILE writes a file"},
	} {
		r := run(t, "", append([]string{"tap"}, c.args...)...)
		assert.Equal(t, c.status, r.status, "%v: %s", c.args, r.stderr)
		first, rest, _ := strings.Cut(r.stderr, "\n")
		assert.True(t, strings.HasPrefix(first, "wsd tap: "), r.stderr)
		assert.Contains(t, first, c.want)
		assert.True(t, rest == "" || rest == "wsd tap -h shows examples and flags\n", "more than a line: %q", r.stderr)
	}
	content, err := os.ReadFile(recording)
	require.NoError(t, err)
	assert.Equal(t, "kept", string(content), "what was recorded is not lost by what never began")
	full, p := tap(t, serve(t), "-q", "-record", "/dev/full")
	conn, _, err := wsd.Dial(bounded(t), full, nil)
	if err == nil { // it may end sooner
		conn.CloseNow()
	}
	assert.Equal(t, 1, p.end(t))
	assert.Contains(t, p.stderr.String(), "wsd tap: -record: write /dev/full: no space left on device")
}

func TestTapPassesTheBytesAsTheyCame(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	garbage := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	down, up := garbage(1<<20), garbage(1<<20)
	up[0], up[1] = 0x83, 0x05 // a reserved opcode, and no mask
	const handshake = "HTTP/1.1 101 Whatever\r\nupgrade:websocket\r\nX-Spelled-So: yes\r\n\r\n"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	type passed struct {
		request string
		bytes   []byte
	}
	got := make(chan passed, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		r := bufio.NewReader(raw)
		var request strings.Builder
		for !strings.HasSuffix(request.String(), "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			request.WriteString(line)
		}
		_, _ = raw.Write(append([]byte(handshake), down...))
		_ = raw.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(r)
		got <- passed{request.String(), all}
	}()
	proxy, p := tap(t, "ws://"+listener.Addr().String()+"/base?key=1")
	u, err := url.Parse(proxy)
	require.NoError(t, err)
	raw, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer raw.Close()
	request := "GET /x?y=%2f HTTP/1.1\r\nhost: " + u.Host + "\r\nUPGRADE: WebSocket\r\nOrigin: http://" + u.Host + "\r\nSec-WebSocket-Key: not one\r\nX-Mine:  kept \r\n\r\n"
	_, err = raw.Write(append([]byte(request), up...)) // ahead of the answer
	require.NoError(t, err)
	all, err := io.ReadAll(raw)
	require.NoError(t, err, "the server's end of bytes is passed on, while this side's is open")
	assert.True(t, bytes.Equal(append([]byte(handshake), down...), all))
	require.NoError(t, raw.(*net.TCPConn).CloseWrite())
	server := <-got
	assert.True(t, bytes.Equal(up, server.bytes))
	target := listener.Addr().String()
	assert.Equal(t, "GET /base/x?y=%2f&key=1 HTTP/1.1\r\nhost: "+target+"\r\nUPGRADE: WebSocket\r\nOrigin: http://"+target+
		"\r\nSec-WebSocket-Key: not one\r\nX-Mine:  kept \r\n\r\n", server.request)
	p.stdout.wait(t, `! an unmasked frame from the client, a reserved opcode`)
}

func TestTapIsNotSeenByTheConformanceSuite(t *testing.T) {
	t.Parallel()
	proxy, p := tap(t, serve(t, "-compress", "-q"), "-record", filepath.Join(t.TempDir(), "r"))
	r := run(t, "", "check", "-run", "^(close|reserved bits|limits|pings and pongs|fragmentation/1|compression/[0-9]*0$|compression handshake)", "-volume", "64KiB", proxy)
	assert.Equal(t, 0, r.status, "%s%s", r.stdout, r.stderr)
	assert.Equal(t, 0, p.interrupt(t))
}

func TestTapKeepsTheHostWhereToldTo(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	target := server(t, &wsd.AcceptOptions{Origins: []string{"*"}}, func(_ *wsd.Conn, r *http.Request) { got <- r })
	for _, c := range []struct {
		args          []string
		origin        string // %s is the proxy's address
		host, origins string // %s is the proxy's or the target's
	}{
		{nil, "http://%s", "target", "target"},
		{nil, "https://elsewhere.example", "target", "https://elsewhere.example"},
		{[]string{"-keep-host"}, "http://%s", "proxy", "proxy"},
	} {
		proxy, _ := tap(t, target, c.args...)
		u, err := url.Parse(proxy)
		require.NoError(t, err)
		v, err := url.Parse(target)
		require.NoError(t, err)
		hosts := map[string]string{"target": v.Host, "proxy": u.Host}
		connect(t, proxy, &wsd.DialOptions{Header: http.Header{"Origin": {strings.Replace(c.origin, "%s", u.Host, 1)}}})
		r := <-got
		assert.Equal(t, hosts[c.host], r.Host)
		want := c.origins
		if hosts[want] != "" {
			want = "http://" + hosts[want]
		}
		assert.Equal(t, want, r.Header.Get("Origin"))
	}
}

func TestTapSpeaksTLSOnEitherSide(t *testing.T) {
	t.Parallel()
	secure, _ := tap(t, serve(t, "-tls"), "-tls", "-insecure")
	assert.True(t, strings.HasPrefix(secure, "wss://"))
	assert.Equal(t, "hi\n", run(t, "", "dial", "-insecure", "-x", "hi", secure).stdout)
	distrusting, p := tap(t, serve(t, "-tls"))
	r := run(t, "", "dial", "-x", "hi", distrusting)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "502")
	p.stderr.wait(t, `signed by (an )?unknown authority`)
}

func TestTapPassesPlainHTTPAndRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "page.txt"), []byte("a page"), 0o600))
	proxy, p := tap(t, serve(t, "-dir", dir, "-origin", "https://only.example"))
	for range 3 {
		_, body := get(t, proxy+"page.txt")
		assert.Equal(t, "a page", body)
	}
	_, response, err := wsd.Dial(bounded(t), proxy, &wsd.DialOptions{Header: http.Header{"Origin": {"https://evil.example"}}})
	require.Error(t, err)
	assert.Equal(t, http.StatusForbidden, response.StatusCode)
	p.stdout.wait(t, `GET / HTTP/1.1, HTTP/1.1 403 Forbidden`)
	gone, _ := tap(t, "ws://127.0.0.1:1/")
	_, response, err = wsd.Dial(bounded(t), gone, nil)
	require.Error(t, err)
	assert.Equal(t, http.StatusBadGateway, response.StatusCode)
}

func TestTapKeepsItsMemoryBounded(t *testing.T) {
	t.Parallel()
	record := filepath.Join(t.TempDir(), "record")
	proxy, p := tap(t, serve(t, "-max-size", "1GiB"), "-ui", "-record", record)
	const size = 200 << 20
	conn := connect(t, proxy, &wsd.DialOptions{Config: wsd.Config{MaxMessageSize: -1, MaxFrameSize: -1}})
	require.NoError(t, conn.Send(bounded(t), wsd.Binary(make([]byte, size)))) // one frame
	m, err := conn.Receive(bounded(t))
	require.NoError(t, err)
	assert.Len(t, m.Data, size)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	require.NoError(t, err)
	peak, err := strconv.Atoi(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(string(status))[1])
	require.NoError(t, err)
	assert.Less(t, peak, 160<<10, "KiB, of 400 MiB that passed")
}

func TestTapClosesBothSidesOnInterrupt(t *testing.T) {
	t.Parallel()
	ended := make(chan wsd.CloseEvent, 1)
	target := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		for m := range conn.Messages() {
			_ = conn.Send(conn.Context(), m)
		}
		<-conn.Closed()
		ended <- conn.CloseEvent()
	})
	proxy, p := tap(t, target)
	conn := connect(t, proxy, nil)
	sendText(t, conn, "there")
	_ = receive(t, conn)
	assert.Equal(t, 0, p.interrupt(t))
	<-conn.Closed()
	assert.Equal(t, wsd.StatusGoingAway, conn.CloseEvent().Code)
	assert.Equal(t, wsd.StatusGoingAway, (<-ended).Code)
}

// recordSession records a conversation, and returns the file.
func recordSession(t *testing.T, target string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "session.jsonl")
	proxy, p := tap(t, target, "-record", file, "-q")
	compressed := &wsd.DialOptions{Config: wsd.Config{Compression: &wsd.Compression{}}, Subprotocols: []string{"chat"},
		Header: http.Header{"Cookie": {"session=secret"}}}
	for _, opts := range []*wsd.DialOptions{nil, compressed} {
		conn := connect(t, proxy+"room?x=1", opts)
		for _, text := range []string{"one", "two", strings.Repeat("three ", 50_000)} {
			sendText(t, conn, text)
			_ = receive(t, conn)
		}
		_, err := conn.Ping(bounded(t), nil)
		require.NoError(t, err)
		require.NoError(t, conn.Close(4001, "done"))
	}
	assert.Equal(t, 0, p.interrupt(t))
	assert.Empty(t, p.stdout.String())
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	return file
}

func TestReplayTellsWhereAnswersDiffer(t *testing.T) {
	t.Parallel()
	answer := func(prefix string, requests chan<- *http.Request) string {
		return server(t, &wsd.AcceptOptions{Subprotocols: []string{"chat"}, Config: wsd.Config{Compression: &wsd.Compression{}}}, func(conn *wsd.Conn, r *http.Request) {
			if requests != nil {
				requests <- r
			}
			for m := range conn.Messages() {
				_ = conn.Send(conn.Context(), wsd.Text(prefix+m.String()))
			}
		})
	}
	file := recordSession(t, answer("at 10:00 ", nil))
	requests := make(chan *http.Request, 2)
	for _, args := range []string{"", "-fast"} {
		r := run(t, "", append([]string{"replay", file, answer("at 10:00 ", requests)}, strings.Fields(args)...)...)
		assert.Equal(t, 0, r.status, "%s%s", r.stdout, r.stderr)
		assert.Equal(t, "2 connections, 6 messages sent, 6 answers the same, 0 differences\n", r.stdout)
		cookies := 0
		for range 2 {
			request := <-requests
			assert.Equal(t, "/room?x=1", request.RequestURI)
			if request.Header.Get("Cookie") == "session=secret" {
				assert.Equal(t, "chat", request.Header.Get("Sec-WebSocket-Protocol"))
				cookies++
			}
		}
		assert.Equal(t, 1, cookies)
	}
	other := answer("at 11:00 ", nil)
	r := run(t, "", "replay", "-fast", file, other)
	assert.Equal(t, 3, r.status)
	assert.Contains(t, r.stdout, `#1: answer 1: expected text "at 10:00 one", got text "at 11:00 one"; byte 4 is the first that differs`)
	assert.Contains(t, r.stdout, "0 answers the same, 6 differences")
	r = run(t, "", "replay", "-fast", "-ignore", `\d+:\d+`, "-conn", "2", file, other)
	assert.Equal(t, 0, r.status, r.stdout)
	r = run(t, "", "replay", "-fast", "-wait", "200ms", file, server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		for range conn.Messages() {
		}
	}))
	assert.Equal(t, 3, r.status)
	assert.Contains(t, r.stdout, "3 answers are missing")
	r = run(t, "", "replay", "-json", "-fast", file, other)
	var outcomes []struct{ Differences []string }
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &outcomes))
	assert.Len(t, outcomes[1].Differences, 3)
}

func TestReplaySaysInOneLineWhatIsWrong(t *testing.T) {
	t.Parallel()
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "recording")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	open := `{"conn":1,"event":"open","request":"GET / HTTP/1.1\r\nHost: x\r\n\r\n"}` + "\n"
	for _, c := range []struct {
		file   string
		status int
		want   string
	}{
		{write(""), 1, "no connection was recorded"},
		{write("nonsense"), 1, "recording, line 1: expected a JSON object"},
		{write(open + "[]"), 1, "line 2: expected a JSON object"},
		{write(open + `{"conn":2,"event":"frame"}`), 1, "line 2: connection 2 has not been opened"},
		{write(open + `{"conn":1,"event":"dance"}`), 1, `line 2: expected open, end, or a frame`},
		{write(open + `{"conn":1,"event":"frame","from":"client","opcode":2,"fin":true,"base64":"!"}`), 1, "line 2: base64"},
		{write(`{"conn":1,"event":"open","request":"POST"}`), 1, "line 1: the request"},
		{write(open), 1, "cannot connect to 127.0.0.1:1"},
		{"/no/such/file", 2, "/no/such/file"},
	} {
		r := run(t, "", "replay", c.file, "ws://127.0.0.1:1/")
		assert.Equal(t, c.status, r.status, r.stderr)
		assert.Contains(t, r.stderr+r.stdout, c.want)
		assert.LessOrEqual(t, strings.Count(r.stderr, "\n"), 2)
	}
}
