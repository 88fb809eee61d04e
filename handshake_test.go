package wsd

import (
	"bufio"
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
