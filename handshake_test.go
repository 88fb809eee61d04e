package wsd

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/wsurl"
)

// rfcKey and rfcAccept are the example of RFC 6455, section 1.3.
const (
	rfcKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	rfcAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func TestAcceptValueOfTheRFC(t *testing.T) {
	require.Equal(t, rfcAccept, string(appendAccept(nil, rfcKey)))
}

func TestHasToken(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"alone", []string{"websocket"}, true},
		{"any case", []string{"WebSocket"}, true},
		{"in a list", []string{"keep-alive, websocket"}, true},
		{"without space", []string{"a,websocket,b"}, true},
		{"tab as white space", []string{"a,\twebsocket\t,b"}, true},
		{"empty elements", []string{",, ,websocket,"}, true},
		{"second line", []string{"a, b", "c, websocket"}, true},
		{"no header", nil, false},
		{"empty header", []string{""}, false},
		{"prefix", []string{"websockets"}, false},
		{"suffix", []string{"xwebsocket"}, false},
		{"with a version", []string{"websocket/13"}, false},
		{"two words", []string{"a websocket"}, false},
		{"folds to k, but is no ASCII letter", []string{"websoc\u212Aet"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, hasToken(test.lines, "websocket"))
		})
	}
}

func TestChooseSubprotocol(t *testing.T) {
	for _, test := range []struct {
		name      string
		lines     []string
		preferred []string
		want      string
		malformed bool
	}{
		{"server's preference", []string{"a, b, c"}, []string{"c", "a"}, "c", false},
		{"over several lines", []string{"a", "b,c"}, []string{"c", "b"}, "c", false},
		{"none in common", []string{"a"}, []string{"b"}, "", false},
		{"none asked for", nil, []string{"b"}, "", false},
		{"server has none", []string{"a"}, nil, "", false},
		{"letters count", []string{"Chat"}, []string{"chat"}, "", false},
		{"empty elements", []string{" , ,a,"}, []string{"a"}, "a", false},
		{"white space inside", []string{"a b"}, []string{"a"}, "", true},
		{"separator", []string{"a, b(c)"}, []string{"a"}, "", true},
		{"not ASCII", []string{"é"}, nil, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, refused := chooseSubprotocol(test.lines, test.preferred, isToken)
			require.Equal(t, test.want, got)
			require.Equal(t, test.malformed, refused != nil)
			if refused != nil {
				require.Equal(t, http.StatusBadRequest, refused.StatusCode)
				require.Equal(t, "Sec-WebSocket-Protocol", refused.Header)
			}
		})
	}
}

func TestCheckAnswerHeader(t *testing.T) {
	answer := func(change func(http.Header)) http.Header {
		h := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, mapAccept: {rfcAccept}}
		change(h)
		return h
	}
	for _, test := range []struct {
		name   string
		change func(http.Header)
		at     string // the header at fault, empty for none
	}{ // all RFC 6455, section 4.1, "the client MUST validate the server's response"
		{"right", func(http.Header) {}, ""},
		{"any case", func(h http.Header) { h.Set("Upgrade", "WebSocket"); h.Set("Connection", "keep-alive, upgrade") }, ""},
		{"subprotocol", func(h http.Header) { h.Set(mapProtocol, "b") }, ""},
		{"close beside Upgrade", func(h http.Header) { h.Set("Connection", "close, Upgrade") }, ""},
		{"empty extensions", func(h http.Header) { h[mapExtensions] = []string{"", " \t"} }, ""},
		{"no Upgrade", func(h http.Header) { h.Del("Upgrade") }, "Upgrade"},
		{"other Upgrade", func(h http.Header) { h.Set("Upgrade", "h2c") }, "Upgrade"},
		{"two Upgrades", func(h http.Header) { h.Add("Upgrade", "h2c") }, "Upgrade"},
		{"no Connection", func(h http.Header) { h.Del("Connection") }, "Connection"},
		{"other Connection", func(h http.Header) { h.Set("Connection", "close") }, "Connection"},
		{"no Accept", func(h http.Header) { h.Del(mapAccept) }, wireAccept},
		{"wrong Accept", func(h http.Header) { h.Set(mapAccept, "AAAA"+rfcAccept[4:]) }, wireAccept},
		{"Accept in other case", func(h http.Header) { h.Set(mapAccept, strings.ToUpper(rfcAccept)) }, wireAccept},
		{"two Accepts", func(h http.Header) { h.Add(mapAccept, rfcAccept) }, wireAccept},
		{"subprotocol not asked for", func(h http.Header) { h.Set(mapProtocol, "c") }, wireProtocol},
		{"subprotocol in other case", func(h http.Header) { h.Set(mapProtocol, "B") }, wireProtocol},
		{"two subprotocols", func(h http.Header) { h.Set(mapProtocol, "a, b") }, wireProtocol},
		{"two subprotocol lines", func(h http.Header) { h[mapProtocol] = []string{"a", "b"} }, wireProtocol},
		{"empty subprotocol", func(h http.Header) { h.Set(mapProtocol, "") }, wireProtocol},
		{"extension not offered", func(h http.Header) { h.Set(mapExtensions, "permessage-deflate") }, wireExtensions},
	} {
		t.Run(test.name, func(t *testing.T) {
			agreed, problem := checkAnswerHeader(answer(test.change), rfcKey, []string{"a", "b"}, nil)
			if test.at != "" {
				require.NotNil(t, problem)
				require.Equal(t, test.at, problem.Header)
				require.Contains(t, problem.Problem, "expected ")
				return
			}
			require.Nil(t, problem)
			require.Equal(t, answer(test.change).Get(mapProtocol), agreed.subprotocol)
		})
	}
	t.Run("empty extensions where some were offered", func(t *testing.T) {
		agreed, problem := checkAnswerHeader(answer(func(h http.Header) { h.Set(mapExtensions, "") }), rfcKey, nil, new(Compression))
		require.Nil(t, problem)
		require.Nil(t, agreed.compression)
		require.Empty(t, agreed.extensions)
	})
	t.Run("subprotocol where none was asked for", func(t *testing.T) {
		_, problem := checkAnswerHeader(answer(func(h http.Header) { h.Set(mapProtocol, "a") }), rfcKey, nil, nil)
		require.NotNil(t, problem)
		require.Equal(t, wireProtocol, problem.Header)
	})
}

func TestCheckExtraHeader(t *testing.T) {
	for name, values := range map[string][]string{
		"Upgrade": {"x"}, "connection": {"close"}, "Sec-Websocket-Key": {"x"}, "sec-webSocket-Anything": {"x"},
		"Content-Length": {"5"}, "Transfer-Encoding": {"chunked"}, "Trailer": {"X"},
		"X-Split": {"a\r\nSet-Cookie: b=c"}, "X-Newline": {"ok", "a\nb"}, "X-Null": {"\x00"}, "X-Del": {"\x7F"},
		"X Space": {"a"}, "": {"a"}, "X:": {"a"}, "X\r\nY": {"a"}, "É": {"a"},
	} {
		require.NotNil(t, checkExtraHeader(http.Header{name: values}), "%q", name)
	}
	require.Nil(t, checkExtraHeader(http.Header{"X-Fine": {"a", "", "\té"}, "Set-Cookie": {"a=b", "c=d"}, "Sec-Fetch-Mode": {"websocket"}}))
	require.Nil(t, checkExtraHeader(nil))
}

func TestAppendHeaderLeavesOutWhatDoesNotBelong(t *testing.T) {
	got := appendHeader(nil, http.Header{
		"Set-Cookie": {"a=b", "c=d", "e\r\nf"}, "Content-Length": {"0"}, "A": {"1"}, "Connection": {"close"}, "B\r\n": {"2"},
	})
	require.Equal(t, "A: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n", string(got))
}

func TestErrorMessagesQuoteABoundedPart(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	refused := checkRequestHeader(http.Header{"Upgrade": {long, long}})
	require.Less(t, len(refused.Error()), 200)
}

// RFC 6454, section 7, and RFC 6455, section 10.2.
func TestOrigin(t *testing.T) {
	const no, yes = false, true
	for _, test := range []struct {
		name, origin, host string
		tls, want          bool
		patterns           []string
	}{
		{"same", "http://example.com", "example.com", no, yes, nil},
		{"same with port", "http://example.com:8080", "example.com:8080", no, yes, nil},
		{"case", "HTTP://EXAMPLE.com", "Example.COM", no, yes, nil},
		{"default port in the origin", "http://example.com:80", "example.com", no, yes, nil},
		{"default port in Host", "http://example.com", "example.com:80", no, yes, nil},
		{"empty port in Host", "http://example.com", "example.com:", no, yes, nil},
		{"other host", "http://evil.example", "example.com", no, no, nil},
		{"subdomain", "http://www.example.com", "example.com", no, no, nil},
		{"host as a prefix", "http://example.com.evil.example", "example.com", no, no, nil},
		{"host as a suffix", "http://evilexample.com", "example.com", no, no, nil},
		{"trailing dot is another host", "http://example.com.", "example.com", no, no, nil},
		{"other port", "http://example.com:8080", "example.com", no, no, nil},
		{"other port in Host", "http://example.com", "example.com:8080", no, no, nil},
		{"default port of the other scheme", "http://example.com:443", "example.com", no, no, nil},
		{"IPv6", "http://[::1]:8080", "[::1]:8080", no, yes, nil},
		{"IPv6 without port", "http://[2001:db8::1]", "[2001:DB8::1]", no, yes, nil},
		{"IPv6 with default port", "http://[::1]:80", "[::1]", no, yes, nil},
		{"IPv6 written differently", "http://[0:0:0:0:0:0:0:1]", "[::1]", no, yes, nil},
		{"IPv6, other address", "http://[::2]", "[::1]", no, no, nil},
		{"IPv6 without brackets", "http://::1", "[::1]", no, no, nil},
		{"IPv4", "http://127.0.0.1:1", "127.0.0.1:1", no, yes, nil},

		{"TLS", "https://example.com", "example.com", yes, yes, nil},
		{"TLS, default port", "https://example.com:443", "example.com", yes, yes, nil},
		{"TLS, default port in Host", "https://example.com", "example.com:443", yes, yes, nil},
		{"TLS, http page", "http://example.com", "example.com", yes, no, nil},
		{"TLS, http page with TLS's port", "http://example.com:443", "example.com:443", yes, no, nil},
		{"behind a TLS proxy", "https://example.com", "example.com", no, yes, nil},
		{"behind a TLS proxy, with port", "https://example.com:8443", "example.com:8443", no, yes, nil},
		{"behind a TLS proxy, other port", "https://example.com:8443", "example.com", no, no, nil},
		{"behind a TLS proxy, Host with http's port", "https://example.com", "example.com:80", no, no, nil},

		{"null", "null", "example.com", no, no, nil},
		{"null as Host", "null", "null", no, no, nil},
		{"empty", "", "example.com", no, no, nil},
		{"opaque", "file://", "example.com", no, no, nil},
		{"extension", "chrome-extension://example.com", "example.com", no, no, nil},
		{"ws", "ws://example.com", "example.com", no, yes, nil},
		{"ws with port", "ws://example.com:8080", "example.com:8080", no, yes, nil},
		{"ws, default port in Host", "WS://example.com", "example.com:80", no, yes, nil},
		{"ws, other host", "ws://evil.example", "example.com", no, no, nil},
		{"ws, other port", "ws://example.com:81", "example.com", no, no, nil},
		{"ws on a TLS server", "ws://example.com", "example.com", yes, no, nil},
		{"wss", "wss://example.com", "example.com", yes, yes, nil},
		{"wss behind a TLS proxy", "wss://example.com", "example.com:443", no, yes, nil},
		{"wss, other host", "wss://evil.example", "example.com", yes, no, nil},
		{"ws, foreign host that is allowed", "ws://a.example", "example.com", no, no, []string{"a.example"}},
		{"no scheme", "example.com", "example.com", no, no, nil},
		{"no host", "http://", "example.com", no, no, nil},
		{"scheme that starts with a digit", "4http://example.com", "example.com", no, no, nil},
		{"scheme with a dash", "web-app://a", "example.com", no, yes, []string{"web-*://a"}},
		{"Host with two ports", "http://example.com", "example.com:80:80", no, no, nil},
		{"Host with a broken address", "http://[::1]", "[::1", no, no, nil},
		{"pattern behind the last *", "http://abcd", "example.com", no, no, []string{"*b"}},
		{"no host, no Host", "http://:80", ":80", no, no, nil},
		{"slash", "http://example.com/", "example.com", no, yes, nil},
		{"path", "https://example.com:8080/a/b?c", "example.com:8080", yes, yes, nil},
		{"path, other host", "http://evil.example/example.com", "example.com", no, no, nil},
		{"path, other port", "http://example.com:81/", "example.com", no, no, nil},
		{"path with user info", "http://example.com@evil.example/", "example.com", no, no, nil},
		{"path of an allowed host", "http://a.example/", "example.com", no, no, []string{"a.example"}},
		{"entry with a path", "https://a.example/app", "example.com", no, yes, []string{"https://a.example/app"}},
		{"entry with a slash is no pattern", "https://a.example", "example.com", no, no, []string{"https://a.example/"}},
		{"entry with a path and *", "https://a.example/app", "example.com", no, no, []string{"https://*.example/app", "*/app"}},
		{"query", "http://example.com?a", "example.com", no, no, nil},
		{"fragment", "http://example.com#a", "example.com", no, no, nil},
		{"user info", "http://a@example.com", "example.com", no, no, nil},
		{"user info that looks like a host", "http://example.com@evil.example", "example.com", no, no, nil},
		{"backslash", `http://example.com\.evil.example`, "example.com", no, no, nil},
		{"list of origins", "http://example.com http://evil.example", "example.com", no, no, nil},
		{"port without number", "http://example.com:x", "example.com:x", no, no, nil},
		{"port 0", "http://example.com:0", "example.com", no, no, nil},
		{"port too big", "http://example.com:65616", "example.com", no, no, nil},
		{"port with sign", "http://example.com:+80", "example.com", no, no, nil},

		{"pattern", "http://a.example", "example.com", no, yes, []string{"b.example", "a.example"}},
		{"pattern, own host still passes", "http://example.com", "example.com", no, yes, []string{"a.example"}},
		{"pattern, any case", "http://A.example", "example.com", no, yes, []string{"a.EXAMPLE"}},
		{"pattern, https", "https://a.example", "example.com", no, yes, []string{"a.example"}},
		{"pattern, http page on a TLS server", "http://a.example", "example.com", yes, no, []string{"a.example"}},
		{"pattern with scheme, http page on a TLS server", "http://a.example", "example.com", yes, yes, []string{"http://a.example"}},
		{"pattern, other port", "http://a.example:81", "example.com", no, no, []string{"a.example"}},
		{"pattern with port", "http://a.example:81", "example.com", no, yes, []string{"a.example:81"}},
		{"pattern with any port", "http://a.example:81", "example.com", no, yes, []string{"a.example:*"}},
		{"pattern with scheme", "http://a.example", "example.com", no, no, []string{"https://a.example"}},
		{"pattern with scheme and port", "https://a.example:444", "example.com", no, yes, []string{"https://a.example:*"}},
		{"wildcard", "http://x.y.a.example", "example.com", no, yes, []string{"*.a.example"}},
		{"wildcard does not eat the dot", "http://a.example", "example.com", no, no, []string{"*.a.example"}},
		{"wildcard does not reach past the end", "http://b.a.example.evil", "example.com", no, no, []string{"*.a.example"}},
		{"wildcard inside", "http://pr-7.dev.example", "example.com", no, yes, []string{"pr-*.dev.example"}},
		{"two wildcards", "http://aXbXc", "example.com", no, yes, []string{"a*b*c"}},
		{"IPv6 pattern", "http://[::1]:99", "example.com", no, yes, []string{"[::1]:99"}},
		{"IPv6 pattern written differently", "http://[0::1]", "example.com", no, yes, []string{"http://[::1]"}},
		{"IPv6 is no wildcard", "http://[::2]", "example.com", no, no, []string{"[::1]"}},
		{"everything", "http://evil.example:7", "example.com", yes, yes, []string{"*"}},
		{"everything, null too", "null", "example.com", yes, yes, []string{"*"}},
		{"every host is not null", "null", "example.com", no, no, []string{"*.example", "*://*:*"}},
		{"null by name", "null", "example.com", no, yes, []string{"null"}},
		{"file by name", "file://", "example.com", no, yes, []string{"file://"}},
		{"extension by name", "chrome-extension://abc", "example.com", yes, yes, []string{"chrome-extension://abc"}},
		{"empty pattern", "", "example.com", no, yes, []string{""}},
		{"empty pattern, some origin", "https://a.example", "example.com", no, no, []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			refused := checkOrigin(http.Header{"Origin": {test.origin}}, test.host, test.tls, test.patterns)
			require.Equal(t, test.want, refused == nil, "%v", refused)
			if refused != nil {
				require.Equal(t, http.StatusForbidden, refused.StatusCode)
				require.Equal(t, "Origin", refused.Header)
			}
		})
	}
	require.Nil(t, checkOrigin(http.Header{}, "example.com", true, nil), "a request without Origin")
	two := http.Header{"Origin": {"http://example.com", "http://example.com"}}
	require.NotNil(t, checkOrigin(two, "example.com", false, []string{"example.com"}), "two Origin headers")
}

func TestOriginOfAURL(t *testing.T) {
	for first, second := range map[string]string{
		"http://Example.com/a?b": "http://example.com:80", "https://example.com": "https://example.com:443/c", "http://[::1]:9": "http://[::1]:9/",
	} {
		a, err := url.Parse(first)
		require.NoError(t, err)
		b, err := url.Parse(second)
		require.NoError(t, err)
		require.Equal(t, originOf(a), originOf(b))
		b.Scheme = "ftp"
		require.NotEqual(t, originOf(a), originOf(b))
	}
}

func TestOriginPatternsThatNeverMatchAreMistakes(t *testing.T) {
	for _, pattern := range []string{
		":80", "a b", "http://user@a.example", "a.example:http",
		"a:b:c", "[::1", "[::1]x", "::1", "4://a", "http://[a.example]", "a.example?x",
	} {
		require.NotNil(t, checkOriginPattern(pattern), "%q", pattern)
	}
	for _, pattern := range []string{
		"*", "null", "file://", "", "https://a.example/", "a.example/path", "https//a.example", "a.example", "*.a.example:*", "https://*.a.example:8443", "[::1]:*", "*://a.example", "http*://a",
		"moz-extension://*",
	} {
		require.Nil(t, checkOriginPattern(pattern), "%q", pattern)
	}
}

func TestJudgingAHandshakeAllocatesNothing(t *testing.T) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n" +
		"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + rfcKey + "\r\n" +
		"Origin: https://example.com\r\nSec-WebSocket-Protocol: a, b\r\n\r\n")))
	require.NoError(t, err)
	options := &AcceptOptions{Subprotocols: []string{"b"}}
	room := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		agreed, refused := options.judge(r)
		if refused != nil || agreed.subprotocol != "b" {
			t.Error(refused)
		}
		room = appendAnswer(room[:0], r.Header[mapKey][0], &agreed)
	}))
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(append(room, "\r\n"...))), r)
	require.NoError(t, err)
	_, problem := checkAnswerHeader(answer.Header, rfcKey, []string{"b"}, nil)
	require.Nil(t, problem)
}

func BenchmarkJudgeAndAnswer(b *testing.B) {
	h := http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, mapVersion: {"13"}, mapKey: {rfcKey}, "Origin": {"http://example.com"},
	}
	r := &http.Request{Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "example.com", Header: h}
	room := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		agreed, refused := defaultAcceptOptions.judge(r)
		if refused != nil {
			b.Fatal(refused)
		}
		room = appendAnswer(room[:0], rfcKey, &agreed)
	}
}

// FuzzHandshakeHeaders reads requests off the wire: each is accepted, or refused with one of the statuses that Accept
// promises, and what is accepted has everything that RFC 6455, section 4.2.1, asks for.
func FuzzHandshakeHeaders(f *testing.F) {
	const valid = "GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + rfcKey + "\r\nSec-WebSocket-Version: 13\r\n"
	f.Add([]byte(valid + "\r\n"))
	f.Add([]byte(valid + "Origin: https://example.com:443\r\nSec-WebSocket-Protocol: a, chat\r\n\r\n"))
	f.Add([]byte(valid + "Origin: http://[::1]\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"))
	f.Add([]byte(strings.Replace(valid, "websocket", "h2c, ,WebSocket", 1) + "Connection: close\r\n\r\n"))
	f.Add([]byte(valid + "Content-Length: 4\r\n\r\nabcd"))
	f.Add([]byte("POST / HTTP/1.0\r\n\r\n"))
	options := &AcceptOptions{Subprotocols: []string{"chat", "a"}, Origins: []string{"*.example.org:*"}}
	statuses := []int{http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusUpgradeRequired, http.StatusHTTPVersionNotSupported}
	f.Fuzz(func(t *testing.T, wire []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			return
		}
		agreed, refused := options.judge(r)
		if refused != nil {
			require.Contains(t, statuses, refused.StatusCode)
			require.NotEmpty(t, refused.Problem)
			require.Less(t, len(refused.Error()), 1024)
			return
		}
		require.Equal(t, http.MethodGet, r.Method)
		require.Equal(t, []string{"13"}, r.Header.Values("Sec-WebSocket-Version"))
		require.Contains(t, strings.ToLower(strings.Join(r.Header.Values("Upgrade"), ",")), "websocket")
		require.Contains(t, strings.ToLower(strings.Join(r.Header.Values("Connection"), ",")), "upgrade")
		if agreed.subprotocol != "" {
			require.Contains(t, strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), agreed.subprotocol)
		}
		answer := append(appendAnswer(nil, r.Header.Get("Sec-WebSocket-Key"), &agreed), "\r\n"...)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), r)
		require.NoError(t, err)
		got, problem := checkAnswerHeader(resp.Header, r.Header.Get("Sec-WebSocket-Key"), options.Subprotocols, nil)
		require.Nil(t, problem)
		require.Equal(t, agreed, got)
	})
}

// FuzzOrigin checks the handwritten parser of origins against net/url: what it accepts means the same there, and an
// origin passes without patterns only if its host is that of the request.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"http://example.com", "https://[::1]:8443", "null", "http://a@b", "chrome-extension://x", "http://a:080"} {
		f.Add(s, "example.com")
	}
	f.Fuzz(func(t *testing.T, s, host string) {
		o, ok := parseOrigin(s)
		if ok {
			u, err := url.Parse(s)
			if err != nil || strings.ContainsRune(s, '%') {
				return // net/url accepts escapes that an origin may not have
			}
			require.True(t, equalFold(u.Scheme, o.scheme))
			require.Equal(t, u.Hostname(), o.host)
			require.Nil(t, u.User)
			require.Empty(t, u.Path+u.RawQuery+u.Fragment)
			if p := u.Port(); p != "" {
				require.Equal(t, p, o.port)
			}
		}
		if checkOrigin(http.Header{"Origin": {s}}, host, false, nil) == nil {
			require.True(t, ok)
			name, _, _ := wsurl.SplitHostPort(host)
			require.True(t, equalHost(name, o.host))
		}
		// A pattern that is the origin itself, or has its host go, lets it pass.
		if ok && !slices.Contains([]string{"http", "https"}, o.scheme) {
			require.Nil(t, checkOrigin(http.Header{"Origin": {s}}, host, true, []string{s}))
		}
	})
}

// FuzzTokenList checks the list reader against plain splitting.
func FuzzTokenList(f *testing.F) {
	f.Add("keep-alive, Upgrade", "upgrade")
	f.Add(",,\t Upgrade ,", "UPGRADE")
	f.Fuzz(func(t *testing.T, list, token string) {
		if !isToken(token) {
			return
		}
		want := slices.ContainsFunc(strings.Split(list, ","), func(element string) bool {
			element = strings.Trim(element, "\t ")
			return len(element) == len(token) && strings.EqualFold(element, token)
		})
		require.Equal(t, want, hasToken([]string{list}, token))
		require.Equal(t, want, hasToken(strings.Split(list, ","), token))
	})
}
