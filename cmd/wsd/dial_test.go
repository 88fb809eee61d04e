// dial_test.go runs wsd dial in pipes and scripts.

package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// server starts a WebSocket server in this process and returns its URL.
func server(t *testing.T, opts *wsd.AcceptOptions, handler func(*wsd.Conn, *http.Request)) string {
	t.Helper()
	ws := new(wsd.Server)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = ws.Serve(w, r, opts, func(conn *wsd.Conn) { handler(conn, r) })
	}))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http", "ws", 1)
}

func TestDialSendsLinesAndPrintsAnswers(t *testing.T) {
	t.Parallel()
	url := serve(t)
	var lines strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&lines, "line %d ✓\n", i)
	}
	for name, stdin := range map[string]string{"many": lines.String(), "no line end": "a\nb", "empty lines": "\n\nx\n", "nothing": ""} {
		r := run(t, stdin, "dial", url)
		assert.Equal(t, 0, r.status, "%s: %s", name, r.stderr)
		assert.Equal(t, strings.TrimSuffix(stdin, "\n"), strings.TrimSuffix(r.stdout, "\n"), name)
		assert.Equal(t, "closed by this side: 1000 (normal closure)\n", r.stderr, name)
	}
}

func TestDialTakesOneLargeMessageFromItsInput(t *testing.T) {
	t.Parallel()
	url := serve(t)
	data := strings.Repeat("\x00\xff\n0123456789", 1<<20)
	r := run(t, data, "dial", "-binary", "-whole", url)
	assert.Equal(t, 0, r.status, r.stderr)
	assert.True(t, data == r.stdout, "%d bytes came, %d were sent", len(r.stdout), len(data))
}

func TestDialFormats(t *testing.T) {
	t.Parallel()
	url := serve(t)
	for _, c := range []struct {
		name, stdin, want string
		args              []string
	}{
		{"-x", "", "a\nb c\n", []string{"-x", "a", "-x", "b c"}},
		{"flags behind the URL, two dashes, =", "", "a\n", []string{"--x=a", "-q"}},
		{"-jsonpp", "{\"a\":[1]}\nno {json\n", "{\n  \"a\": [\n    1\n  ]\n}\nno {json\n", []string{"-jsonpp"}},
		{"-0", "a\nb\x00c\x00", "a\nb\x00c\x00", []string{"-0"}},
		{"-hex", "00 ff\ncafe\n", "00ff\ncafe\n", []string{"-hex"}},
		{"-binary", "a\nb\n", "ab", []string{"-binary"}},
		{"-n", "a\nb\nc\n", "a\n", []string{"-n", "1"}},
	} {
		for _, order := range [][]string{append([]string{"dial", url}, c.args...), append(append([]string{"dial"}, c.args...), url)} {
			r := run(t, c.stdin, order...)
			assert.Equal(t, 0, r.status, "%s: %s", c.name, r.stderr)
			assert.Equal(t, c.want, r.stdout, c.name)
		}
	}
}

func TestDialWritesJSONForPrograms(t *testing.T) {
	t.Parallel()
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		_ = conn.Send(conn.Context(), wsd.Text("<é>"))
		_ = conn.Send(conn.Context(), wsd.Binary([]byte{0, 255}))
		_ = conn.Close(4001, "that was it")
	})
	r := run(t, "", "dial", "-json", url, "-for", "1m")
	assert.Equal(t, 1, r.status)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, lines, 3)
	var text, bytes, end map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &text))
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &bytes))
	require.NoError(t, json.Unmarshal([]byte(lines[2]), &end))
	assert.Equal(t, []any{"message", "text", "<é>"}, []any{text["event"], text["type"], text["data"]})
	assert.Equal(t, []any{"message", "binary", "AP8="}, []any{bytes["event"], bytes["type"], bytes["base64"]})
	assert.Equal(t, []any{"close", 4001.0, "that was it", true, false}, []any{end["event"], end["code"], end["reason"], end["clean"], end["local"]})
	assert.Contains(t, r.stderr, "closed by the server: 4001: that was it")
}

func TestDialSendsWhatTheHandshakeIsToldTo(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	url := server(t, &wsd.AcceptOptions{Subprotocols: []string{"two"}, Config: wsd.Config{Compression: &wsd.Compression{}},
		Origins: []string{"*"}, Header: http.Header{"Set-Cookie": {"session=abc; Path=/; Max-Age=1000"}}},
		func(conn *wsd.Conn, r *http.Request) {
			got <- r
			for range conn.Messages() {
			}
		})
	jar := filepath.Join(t.TempDir(), "jar")
	r := run(t, "", "dial", url+"/p?q=1", "-v", "-H", "X-One: 1", "-H", "X-One:2", "-H", "x-lower: 3", "-subprotocol", "one,two", "-origin", "https://a.example",
		"-auth", "me:secret", "-compress", "-cookie-jar", jar)
	require.Equal(t, 0, r.status, r.stderr)
	request := <-got
	assert.Equal(t, []string{"1", "2"}, request.Header["X-One"])
	assert.Equal(t, "https://a.example", request.Header.Get("Origin"))
	user, password, _ := request.BasicAuth()
	assert.Equal(t, "me:secret", user+":"+password)
	assert.Equal(t, "/p?q=1", request.RequestURI)
	for _, line := range []string{"> GET /p?q=1 HTTP/1.1", "> X-One: 2", "> x-lower: 3", "> Sec-WebSocket-Protocol: one, two",
		"< HTTP/1.1 101 Switching Protocols", "< Sec-Websocket-Protocol: two", "< Sec-Websocket-Extensions: permessage-deflate"} {
		assert.Contains(t, r.stderr, line)
	}

	info, err := os.Stat(jar)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	r = run(t, "", "dial", url, "-cookie-jar", jar)
	require.Equal(t, 0, r.status, r.stderr)
	assert.Equal(t, "session=abc", (<-got).Header.Get("Cookie"))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(jar, link))
	require.NoError(t, os.WriteFile(jar, nil, 0o600))
	require.Equal(t, 0, run(t, "", "dial", url, "-cookie-jar", link).status)
	<-got
	info, err = os.Lstat(link)
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&os.ModeSymlink, "a link stays one")
	content, err := os.ReadFile(jar)
	require.NoError(t, err)
	assert.Contains(t, string(content), "session\tabc\n")
}

func TestDialReachesServersByOtherWays(t *testing.T) {
	t.Parallel()
	url := serve(t)
	_, port, err := net.SplitHostPort(strings.Trim(strings.TrimPrefix(url, "ws://"), "/"))
	require.NoError(t, err)
	r := run(t, "", "dial", "ws://nowhere.invalid:"+port, "-resolve", "nowhere.invalid:"+port+":127.0.0.1", "-x", "hi")
	assert.Equal(t, result{"hi\n", "closed by this side: 1000 (normal closure)\n", 0}, r)
	assert.Equal(t, "hi\n", run(t, "", "dial", ":"+port, "-x", "hi").stdout, "a port alone")
	assert.Equal(t, "hi\n", run(t, "", "dial", "127.0.0.1:"+port, "-x", "hi").stdout, "no scheme")

	socket := filepath.Join(t.TempDir(), "s")
	p := start(t, "serve", "unix:"+socket)
	p.stderr.wait(t, "listening on unix:")
	assert.Equal(t, "hi\n", run(t, "", "dial", "ws://localhost/", "-unix", socket, "-x", "hi").stdout)

	secure := serve(t, "-tls")
	assert.Equal(t, "hi\n", run(t, "", "dial", secure, "-insecure", "-x", "hi").stdout)
	r = run(t, "", "dial", secure, "-x", "hi")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "signed by an unknown authority")
}

func TestDialSaysInOneLineWhatIsWrong(t *testing.T) {
	t.Parallel()
	status := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/401":
			http.Error(w, "log in\x1b[2J first", http.StatusUnauthorized)
		}
	}))
	t.Cleanup(status.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	rude, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { rude.Close() })
	go func() {
		for {
			conn, err := rude.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096)) // with bytes unread, the end would be a reset
			conn.Close()
		}
	}()
	closes := server(t, nil, func(conn *wsd.Conn, _ *http.Request) { conn.CloseNow() })
	talks := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		_ = conn.Send(conn.Context(), wsd.Text("eleven bytes"))
		<-conn.Closed()
	})
	garbage := filepath.Join(t.TempDir(), "garbage")
	require.NoError(t, os.WriteFile(garbage, []byte("no\tfile\tof\tthis\tkind"), 0o600))
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"ws://127.0.0.1:1/"}, 1, "cannot connect to 127.0.0.1:1: connect: connection refused"},
		{[]string{"ws://127.0.0.1:99999/"}, 1, "port"},
		{[]string{"ftp://x/"}, 2, "expected ws:// or wss://, got ftp://"},
		{[]string{"ws://"}, 2, "expected a host"},
		{[]string{"ws://a b/"}, 2, "invalid character"},
		{[]string{"ws://x/#f"}, 2, "expected no fragment"},
		{[]string{}, 2, "expected a URL"},
		{[]string{"ws://x", "y"}, 2, `unexpected argument "y"`},
		{[]string{status.URL + "/loop"}, 1, "redirects"},
		{[]string{status.URL + "/401"}, 1, "401"},
		{[]string{"ws://" + silent.Addr().String(), "-timeout", "100ms"}, 1, "handshake"},
		{[]string{"ws://" + rude.Addr().String()}, 1, "EOF"},
		{[]string{closes, "-x", "hi"}, 1, "ended without a closing handshake"},
		{[]string{talks, "-max-size", "10"}, 1, "1009 (message too big): message longer than MaxMessageSize (RFC 6455, section 7.4.1), closing with 1009 (message too big) (-max-size BYTES takes longer ones)"},
		{[]string{closes, "-cacert", garbage}, 2, "expected certificates in PEM"},
		{[]string{closes, "-cert", garbage}, 2, "PEM"},
		{[]string{closes, "-cacert", "/no/such"}, 2, "/no/such"},
		{[]string{closes, "-cookie-jar", garbage}, 2, "line 1: expected 7 fields"},
		{[]string{closes, "-H", "no colon"}, 2, "expected 'NAME: VALUE'"},
		{[]string{closes, "-proxy", "nonsense"}, 2, "-proxy: expected a URL"},
		{[]string{closes, "-resolve", "x"}, 2, "expected HOST:PORT:ADDRESS"},
		{[]string{closes, "-hex", "-x", "zz"}, 2, "expected hexadecimal digits"},
		{[]string{closes, "-n", "none"}, 2, `-n: expected a whole number from 1 on, got "none"`},
		{[]string{closes, "-for", "soon"}, 2, `-for: expected a time such as`},
		{[]string{closes, "-max-size", "big"}, 2, `expected a number of bytes`},
		{[]string{closes, "-subprotcol", "x"}, 2, "did you mean -subprotocol"},
		{[]string{closes, "-k"}, 2, "-insecure accepts any certificate"},
		{[]string{closes, "-x"}, 2, "expected TEXT behind it"},
	} {
		r := run(t, "", append([]string{"dial"}, c.args...)...)
		assert.Equal(t, c.status, r.status, "%v: %s", c.args, r.stderr)
		assert.Contains(t, r.stderr, c.want, "%v", c.args)
		first, rest, _ := strings.Cut(r.stderr, "\n")
		assert.True(t, strings.HasPrefix(first, "wsd dial: "), first)
		assert.True(t, rest == "" || rest == "wsd dial -h shows examples and flags\n", "more than a line: %q", r.stderr)
		assert.NotContains(t, r.stderr, "\x1b")
		assert.Empty(t, r.stdout)
	}
}

func TestDialEndsQuietlyWhenItsOutputIsClosed(t *testing.T) {
	t.Parallel()
	ended := make(chan wsd.CloseEvent, 1)
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		go func() {
			for conn.Send(conn.Context(), wsd.Text("more")) == nil {
			}
		}()
		for range conn.Messages() {
		}
		<-conn.Closed()
		ended <- conn.CloseEvent()
	})
	cmd := exec.Command("bash", "-c", `set -o pipefail; "$0" dial "$1" </dev/null | head -2`, binary, url)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, "more\nmore\n", string(out))
	assert.True(t, (<-ended).Clean, "closed with the handshake")
}

func TestDialClosesOnInterrupt(t *testing.T) {
	t.Parallel()
	ended := make(chan wsd.CloseEvent, 1)
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		for range conn.Messages() {
			_ = conn.Send(conn.Context(), wsd.Text("here"))
		}
		<-conn.Closed()
		ended <- conn.CloseEvent()
	})
	for _, more := range []string{"", "-reconnect"} {
		p := start(t, append([]string{"dial", url}, strings.Fields(more)...)...)
		_, err := p.stdin.Write([]byte("hello\n"))
		require.NoError(t, err)
		p.stdout.wait(t, "here")
		assert.Equal(t, 0, p.interrupt(t))
		assert.True(t, (<-ended).Clean)
	}
}

func TestDialReconnects(t *testing.T) {
	t.Parallel()
	n := 0
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		n++ // one connection at a time
		m, err := conn.Receive(conn.Context())
		if err != nil {
			return
		}
		_ = conn.Send(conn.Context(), wsd.Text(fmt.Sprintf("%d: %s", n, m)))
		if n < 3 {
			_ = conn.Close(wsd.StatusServiceRestart, "")
			return
		}
		for range conn.Messages() {
		}
	})
	r := runWith(t, nil, "dial", "-reconnect", "-preamble", "subscribe", "-n", "3", url)
	assert.Equal(t, 0, r.status, r.stderr)
	assert.Equal(t, "1: subscribe\n2: subscribe\n3: subscribe\n", r.stdout)
	assert.Contains(t, r.stderr, "closed by the server: 1012")
}

func TestDialFailsWhereSomethingIsMissing(t *testing.T) {
	t.Parallel()
	deaf := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		for range conn.Messages() {
		}
	})
	r := run(t, "", "dial", "-x", "hello", "-timeout", "200ms", deaf)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "no answer to -x")
	short := server(t, nil, func(conn *wsd.Conn, _ *http.Request) { _, _ = conn.Receive(conn.Context()) })
	r = run(t, "", "dial", "-x", "hello", "-x", "again", short)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "closed before -x was answered")
	r = run(t, "caf\xe9\n", "dial", deaf)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "standard input, line 1: expected text in UTF-8 (-binary sends any bytes)")
}

func TestDialStreamsLargeMessagesToAFile(t *testing.T) {
	t.Parallel()
	const size = 300 << 20
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		w := conn.Writer(conn.Context(), wsd.BinaryMessage, nil)
		piece := make([]byte, 1<<20)
		for i := range size / len(piece) {
			piece[0] = byte(i)
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
		_ = w.Close()
		_ = conn.Send(conn.Context(), wsd.Text("and a short one"))
		for range conn.Messages() {
		}
	})
	file := filepath.Join(t.TempDir(), "out")
	p := start(t, "dial", "-stream", file, url)
	p.stderr.wait(t, `binary message, 300.0 MiB\n(?s:.*)text message, 15 bytes`)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	require.NoError(t, err)
	peak, err := strconv.Atoi(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(string(status))[1])
	require.NoError(t, err)
	assert.Less(t, peak, 80<<10, "KiB")
	assert.Equal(t, 0, p.interrupt(t))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Len(t, content, size+15)
	assert.Equal(t, byte(200), content[200<<20])
	assert.Equal(t, "and a short one", string(content[size:]))
	assert.Empty(t, p.stdout.String())
}

func TestDialShowsPings(t *testing.T) {
	t.Parallel()
	url := server(t, nil, func(conn *wsd.Conn, _ *http.Request) {
		_, _ = conn.Ping(conn.Context(), []byte("knock\x1b"))
		for range conn.Messages() {
		}
	})
	p := start(t, "dial", "-show-pings", "-ping-interval", "20ms", url)
	p.stderr.wait(t, `ping from the server "knock\\x1b"\n`)
	p.stderr.wait(t, `round trip \d`)
	assert.Equal(t, 0, p.interrupt(t))
}
