//go:build !js

// upgrade_test.go checks which requests are upgraded, and how the others are answered.

package websocket_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
)

// request returns a request that asks for a WebSocket, changed by what changes says: a value of "" takes the field out.
func request(t *testing.T, method, url string, changes map[string]string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	for name, value := range changes {
		if r.Header.Set(name, value); value == "" {
			r.Header.Del(name)
		}
	}
	return r
}

// upgraded sends a request to a server with an Upgrader, and returns the answer and what Upgrade returned.
func upgraded(t *testing.T, u *websocket.Upgrader, h http.Header, method string, changes map[string]string) (*http.Response, string, error) {
	t.Helper()
	results := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := u.Upgrade(w, r, h)
		if err == nil {
			_ = conn.Close()
		}
		results <- err
	}))
	defer server.Close()
	resp, err := server.Client().Do(request(t, method, server.URL, changes))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body), <-results
}

func TestRequestsThatAreNotUpgraded(t *testing.T) {
	for _, row := range []struct {
		method, field, value string
		status               int
	}{
		{"GET", "Upgrade", "", http.StatusBadRequest},
		{"GET", "Connection", "", http.StatusBadRequest},
		{"GET", "Sec-WebSocket-Version", "8", http.StatusBadRequest},
		{"GET", "Sec-WebSocket-Key", "short", http.StatusBadRequest},
		{"GET", "Origin", "http://elsewhere.example", http.StatusForbidden},
		{"GET", "Origin", "null", http.StatusForbidden},
		{"GET", "Origin", "://", http.StatusForbidden},
		{"POST", "", "", http.StatusMethodNotAllowed},
	} {
		changes := map[string]string{}
		if row.field != "" {
			changes[row.field] = row.value
		}
		resp, body, err := upgraded(t, &websocket.Upgrader{}, nil, row.method, changes)
		require.Equal(t, row.status, resp.StatusCode, "%v", row)
		require.Equal(t, http.StatusText(row.status)+"\n", body)
		require.Equal(t, "13", resp.Header.Get("Sec-Websocket-Version"))
		_, ok := err.(websocket.HandshakeError)
		require.True(t, ok, "%T", err)

		var reason error
		u := websocket.Upgrader{Error: func(w http.ResponseWriter, _ *http.Request, status int, r error) {
			reason = r
			http.Error(w, "mine", status)
		}}
		resp, body, err = upgraded(t, &u, nil, row.method, changes)
		require.Equal(t, row.status, resp.StatusCode)
		require.Equal(t, "mine\n", body)
		require.Equal(t, err, reason)
	}
}

// TestOriginsOfTheSameHost holds origins to what parsing them as URLs says.
func TestOriginsOfTheSameHost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := websocket.Upgrader{}
		if conn, err := u.Upgrade(w, r, nil); err == nil {
			_ = conn.Close()
		}
	}))
	defer server.Close()
	for _, host := range []string{"example.com", "example.com:8080", "example.com:80a", "ex_ample.com", "EXAMPLE.com", "[::1]:80", "1.2.3.4"} {
		for _, origin := range []string{
			"http://HOST", "https://HOST", "HTTPS://HOST", "ftp://HOST", "1http://HOST", "http:HOST", "HOST", "//HOST", "http://HOST/", "http://HOST/path",
			"http://me@HOST", "http://HOST.", "http://HOST:80", "http://sub.HOST", "http://HOST#", "http://HOST?", "http://other.example/HOST",
		} {
			r := request(t, "GET", server.URL, map[string]string{"Origin": strings.ReplaceAll(origin, "HOST", host)})
			r.Host = host
			want := http.StatusForbidden
			if page, err := url.Parse(r.Header.Get("Origin")); err == nil && strings.EqualFold(page.Host, host) {
				want = http.StatusSwitchingProtocols
			}
			resp, err := server.Client().Do(r)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Equal(t, want, resp.StatusCode, "%s at %s", r.Header.Get("Origin"), host)
		}
	}
}

func TestOriginsThatMayConnect(t *testing.T) {
	host := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := websocket.Upgrader{}
		conn, err := u.Upgrade(w, r, nil)
		if err == nil {
			_ = conn.Close()
		}
	}))
	defer server.Close()
	host["Origin"] = "https" + strings.ToUpper(strings.TrimPrefix(server.URL, "http"))
	resp, err := server.Client().Do(request(t, "GET", server.URL, host))
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode, "the scheme does not matter")

	u := websocket.Upgrader{CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "http://elsewhere.example" }}
	resp, _, err = upgraded(t, &u, nil, "GET", map[string]string{"Origin": "http://elsewhere.example"})
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	resp, _, err = upgraded(t, &u, nil, "GET", nil)
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}

func TestSubprotocols(t *testing.T) {
	asked := map[string]string{"Sec-WebSocket-Protocol": "a, b ,c"}
	for _, row := range []struct {
		upgrader []string
		header   string
		agreed   string
	}{
		{nil, "", ""},
		{[]string{"c", "b"}, "", "c"},
		{[]string{"x"}, "", ""},
		{[]string{}, "b", ""},
		{nil, "b", "b"},
		{nil, "x", ""},
		{[]string{"c", "not a token", "c"}, "", "c"},
	} {
		h := http.Header{"Set-Cookie": {"a=b"}}
		if row.header != "" {
			h.Set("Sec-WebSocket-Protocol", row.header)
		}
		resp, _, err := upgraded(t, &websocket.Upgrader{Subprotocols: row.upgrader}, h, "GET", asked)
		require.NoError(t, err)
		require.Equal(t, row.agreed, resp.Header.Get("Sec-WebSocket-Protocol"), "%v", row)
		require.Equal(t, "a=b", resp.Header.Get("Set-Cookie"))
	}
	r := request(t, "GET", "http://example.com", asked)
	require.Equal(t, []string{"a", "b", "c"}, websocket.Subprotocols(r))
	require.True(t, websocket.IsWebSocketUpgrade(r))
	require.False(t, websocket.IsWebSocketUpgrade(request(t, "GET", "http://example.com", map[string]string{"Upgrade": ""})))
}

func TestTheApplicationCannotChooseExtensions(t *testing.T) {
	resp, _, err := upgraded(t, &websocket.Upgrader{}, http.Header{"sec-websocket-extensions": {"x"}}, "GET", nil)
	require.Error(t, err)
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
}

func TestTheHandshakesOwnFieldsAreNotSentTwice(t *testing.T) {
	h := http.Header{"upgrade": {"x"}, "Connection": {"close"}, "Sec-Websocket-Accept": {"x"}, "X-Mine": {"y"}}
	resp, _, err := upgraded(t, &websocket.Upgrader{}, h, "GET", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"websocket"}, resp.Header["Upgrade"])
	require.Equal(t, []string{"y"}, resp.Header["X-Mine"])
	require.Contains(t, h, "upgrade", "the caller's header is not changed")
}

func TestTheOldUpgradeLeavesTheAnswerToItsCaller(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Upgrade(w, r, nil, 1024, 1024)
		var refused websocket.HandshakeError
		if errors.As(err, &refused) {
			http.Error(w, "the caller's", http.StatusTeapot)
			return
		}
		_ = conn.Close()
	}))
	defer server.Close()
	for upgrade, status := range map[string]int{"": http.StatusTeapot, "websocket": http.StatusSwitchingProtocols} {
		resp, err := server.Client().Do(request(t, "GET", server.URL, map[string]string{"Upgrade": upgrade, "Origin": "http://any.example"}))
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, status, resp.StatusCode)
	}
}

// recorder is a ResponseWriter that hands no connection over.
func TestThereIsNoHTTP2(t *testing.T) {
	w, r := httptest.NewRecorder(), request(t, "CONNECT", "http://example.com", nil)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	u := websocket.Upgrader{}
	_, err := u.Upgrade(w, r, nil)
	require.IsType(t, websocket.HandshakeError{}, err)
	require.Equal(t, http.StatusBadRequest, w.Code)
}

func TestAWriterThatHandsNothingOver(t *testing.T) {
	w := httptest.NewRecorder()
	u := websocket.Upgrader{}
	_, err := u.Upgrade(w, request(t, "GET", "http://example.com", nil), nil)
	require.IsType(t, websocket.HandshakeError{}, err)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, "Internal Server Error\n", w.Body.String())
}
