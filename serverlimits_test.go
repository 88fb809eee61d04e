// serverlimits_test.go tests whom a server refuses for having too much, and whom it takes a client for.

package wsd_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// refused serves a request and returns the status of the refusal, and after how many seconds it may come again.
func refusedWith(t *testing.T, ws *wsd.Server, r *http.Request) (status, after int) {
	t.Helper()
	w := httptest.NewRecorder()
	err := ws.Serve(w, r, nil, echo)
	var refused *wsd.HandshakeError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, w.Code, refused.StatusCode)
	after, _ = strconv.Atoi(w.Header().Get("Retry-After"))
	return w.Code, after
}

func TestLimitsInAll(t *testing.T) {
	ws := &wsd.Server{Handler: echo, Limits: wsd.Limits{Connections: 3}}
	dial, url := serve(t, ws)
	conns := []*wsd.Conn{dial(), dial(), dial()}
	for range 3 {
		_, resp, err := wsd.Dial(t.Context(), url, nil)
		require.ErrorContains(t, err, "the server is full")
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(t, "1", resp.Header.Get("Retry-After"))
	}
	require.NoError(t, conns[0].Close(wsd.StatusNormalClosure, ""))
	for ws.Connections() == 3 {
	}
	var again *wsd.Conn
	for again == nil { // the handler has yet to return
		again, _, _ = wsd.Dial(t.Context(), url, nil)
	}
	t.Cleanup(again.CloseNow)
	requireEcho(t, again, "in the place of another")

	// A request that fails takes no place, nor does one whose check panics.
	failing := &wsd.Server{Limits: wsd.Limits{Connections: 1, AddressConnections: 1}}
	failing.CheckOrigin = func(*http.Request) bool { panic("a check's own") }
	for range 3 {
		require.Panics(t, func() { failing.ServeHTTP(httptest.NewRecorder(), handshakeRequest()) })
	}
}

func TestLimitsByAddress(t *testing.T) {
	ws := &wsd.Server{Handler: echo, Limits: wsd.Limits{AddressConnections: 2,
		ClientAddr: wsd.TrustedProxies("X-Forwarded-For", netip.MustParsePrefix("127.0.0.0/8"))}}
	server := httptest.NewServer(ws)
	defer server.Close()
	from := func(addr string) (*wsd.Conn, error) {
		conn, resp, err := wsd.Dial(t.Context(), server.URL, &wsd.DialOptions{Header: http.Header{"X-Forwarded-For": {addr}}})
		if err == nil {
			t.Cleanup(conn.CloseNow)
		} else {
			require.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
			require.NotEmpty(t, resp.Header.Get("Retry-After"))
		}
		return conn, err
	}
	first, err := from("192.0.2.1")
	require.NoError(t, err)
	_, err = from("10.0.0.1, 192.0.2.1")
	require.NoError(t, err)
	_, err = from("10.0.0.2, 192.0.2.1")
	require.ErrorContains(t, err, "too many connections from this address", "whatever the client claims")
	_, err = from("192.0.2.2")
	require.NoError(t, err)
	require.NoError(t, first.Close(wsd.StatusNormalClosure, ""))
	for again := err; again == nil; { // until the handler has returned
		if _, err := from("192.0.2.1"); err == nil {
			break
		}
	}
	for i := range 2 {
		_, err = from("2001:db8::" + strconv.Itoa(i+1))
		require.NoError(t, err)
	}
	_, err = from("2001:db8::ffff")
	require.Error(t, err, "of the same /64")
	_, err = from("2001:db8:0:1::ffff")
	require.NoError(t, err)
	require.NoError(t, ws.Shutdown(t.Context()))
}

func TestLimitsHandshakesByAddress(t *testing.T) {
	ws := &wsd.Server{Limits: wsd.Limits{AddressHandshakes: 0.1, AddressBurst: 5}}
	ask := func(remote string) (status, after int) {
		r := handshakeRequest()
		r.Header.Del("Upgrade") // refused, but it counts
		r.RemoteAddr = remote
		return refusedWith(t, ws, r)
	}
	for range 5 {
		status, _ := ask("192.0.2.1:4711")
		require.Equal(t, http.StatusUpgradeRequired, status)
	}
	status, after := ask("192.0.2.1:4712")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, 10, after)
	status, _ = ask("192.0.2.2:4711")
	require.Equal(t, http.StatusUpgradeRequired, status)
	for range 10 {
		status, _ = ask("@") // a unix socket
		require.Equal(t, http.StatusUpgradeRequired, status)
	}
}

func TestTrustedProxies(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:172.16.0.0/108"),
		netip.MustParsePrefix("fd00::/8")}
	for _, row := range []struct {
		name, header, remote string
		lines                []string
		want                 string
	}{
		{"no header", "X-Forwarded-For", "10.0.0.1:1", nil, "10.0.0.1"},
		{"not a proxy", "X-Forwarded-For", "192.0.2.9:1", []string{"203.0.113.1"}, "192.0.2.9"},
		{"one", "X-Forwarded-For", "10.0.0.1:1", []string{"203.0.113.1"}, "203.0.113.1"},
		{"spelled otherwise", "x-forwarded-for", "10.0.0.1:1", []string{"203.0.113.1"}, "203.0.113.1"},
		{"claimed by the client", "X-Forwarded-For", "10.0.0.1:1", []string{"198.51.100.7, 203.0.113.1"}, "203.0.113.1"},
		{"a proxy's address claimed", "X-Forwarded-For", "10.0.0.1:1", []string{"198.51.100.7, 10.0.0.9, 203.0.113.1"}, "203.0.113.1"},
		{"claimed on a line of its own", "X-Forwarded-For", "10.0.0.1:1", []string{"198.51.100.7", "203.0.113.1"}, "203.0.113.1"},
		{"two proxies", "X-Forwarded-For", "10.0.0.1:1", []string{"198.51.100.7, 203.0.113.1, 10.0.0.2"}, "203.0.113.1"},
		{"two proxies, two lines", "X-Forwarded-For", "10.0.0.1:1", []string{"198.51.100.7, 203.0.113.1", "10.0.0.2"}, "203.0.113.1"},
		{"nobody but proxies", "X-Forwarded-For", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"garbage", "X-Forwarded-For", "10.0.0.1:1", []string{"203.0.113.1, nonsense"}, "10.0.0.1"},
		{"garbage behind a proxy", "X-Forwarded-For", "10.0.0.1:1", []string{"nonsense, 10.0.0.2"}, "10.0.0.2"},
		{"garbage on a line of its own", "X-Forwarded-For", "10.0.0.1:1", []string{"203.0.113.1", "nonsense"}, "10.0.0.1"},
		{"an empty entry", "X-Forwarded-For", "10.0.0.1:1", []string{"203.0.113.1,"}, "10.0.0.1"},
		{"an empty line", "X-Forwarded-For", "10.0.0.1:1", []string{"203.0.113.1", ""}, "203.0.113.1"},
		{"with ports", "X-Forwarded-For", "10.0.0.1:1", []string{"203.0.113.1:4711"}, "203.0.113.1"},
		{"IPv6 with a port", "X-Forwarded-For", "[fd00::1]:1", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"IPv6", "X-Forwarded-For", "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"a zone", "X-Forwarded-For", "10.0.0.1:1", []string{"fe80::1%eth0"}, "fe80::1"},
		{"IPv4 in IPv6", "X-Forwarded-For", "[::ffff:10.0.0.1]:1", []string{"::ffff:203.0.113.1"}, "203.0.113.1"},
		{"a prefix of IPv4 in IPv6", "X-Forwarded-For", "172.16.3.4:1", []string{"203.0.113.1"}, "203.0.113.1"},
		{"another header", "X-Real-Ip", "10.0.0.1:1", []string{"203.0.113.1"}, "203.0.113.1"},
		{"a unix socket", "X-Forwarded-For", "@", []string{"198.51.100.7, 203.0.113.1"}, "203.0.113.1"},

		{"Forwarded", "Forwarded", "10.0.0.1:1", []string{"for=203.0.113.1"}, "203.0.113.1"},
		{"Forwarded with more", "forwarded", "10.0.0.1:1", []string{`for=198.51.100.7, proto=https; For="203.0.113.1:4711" ;by=10.0.0.1`}, "203.0.113.1"},
		{"Forwarded, IPv6", "Forwarded", "10.0.0.1:1", []string{`for="[2001:db8::1]:4711"`}, "2001:db8::1"},
		{"Forwarded, two proxies", "Forwarded", "10.0.0.1:1", []string{"for=203.0.113.1, for=10.0.0.2"}, "203.0.113.1"},
		{"Forwarded, a quote that the client opened", "Forwarded", "10.0.0.1:1", []string{`for=198.51.100.7, for="x, for=203.0.113.1`}, "203.0.113.1"},
		{"Forwarded, a host that the client made up", "Forwarded", "10.0.0.1:1", []string{`for=203.0.113.1;host="x;for=198.51.100.7"`}, "203.0.113.1"},
		{"Forwarded, a host with a comma", "Forwarded", "10.0.0.1:1", []string{`for=203.0.113.1;host="x, for=198.51.100.7"`}, "203.0.113.1"},
		{"Forwarded, quotes in quotes", "Forwarded", "10.0.0.1:1", []string{`for=203.0.113.1;host="x\", for=198.51.100.7;y=\""`}, "203.0.113.1"},
		{"Forwarded, a quoted backslash", "Forwarded", "10.0.0.1:1", []string{`for=203.0.113.1;host="x\\";proto="http"`}, "203.0.113.1"},
		{"Forwarded, quotes on both sides", "Forwarded", "10.0.0.1:1", []string{`for="y, for=203.0.113.1;host="x", for=10.0.0.2;host="x"`}, "203.0.113.1"},
		{"Forwarded, twice in one element", "Forwarded", "10.0.0.1:1", []string{`for=203.0.113.1;host=x;for=198.51.100.7`}, "10.0.0.1"},
		{"Forwarded, two lines", "Forwarded", "10.0.0.1:1", []string{"for=198.51.100.7, for=203.0.113.1", "for=10.0.0.2"}, "203.0.113.1"},
		{"Forwarded, hidden with a port", "Forwarded", "10.0.0.1:1", []string{`for=203.0.113.1, for="_hidden:4711"`}, "10.0.0.1"},
		{"Forwarded, a hidden port", "Forwarded", "10.0.0.1:1", []string{`for="203.0.113.1:_hidden"`}, "203.0.113.1"},
		{"Forwarded, nothing but a quote", "Forwarded", "10.0.0.1:1", []string{`"`}, "10.0.0.1"},
		{"Forwarded, hidden", "Forwarded", "10.0.0.1:1", []string{"for=203.0.113.1, for=_hidden"}, "10.0.0.1"},
		{"Forwarded, unknown", "Forwarded", "10.0.0.1:1", []string{"for=unknown"}, "10.0.0.1"},
		{"Forwarded, by alone", "Forwarded", "10.0.0.1:1", []string{"by=203.0.113.1"}, "10.0.0.1"},
		{"Forwarded, not a proxy", "Forwarded", "192.0.2.9:1", []string{"for=203.0.113.1"}, "192.0.2.9"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = row.remote
			r.Header[http.CanonicalHeaderKey(row.header)] = row.lines
			for _, other := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
				if !strings.EqualFold(other, row.header) {
					r.Header.Set(other, "for=198.51.100.99, 198.51.100.99") // not the one that is believed
				}
			}
			require.Equal(t, row.want, wsd.TrustedProxies(row.header, proxies...)(r).String())
		})
	}
}

// A header as long as net/http lets it be, from a client, takes one step for each trusted entry.
func FuzzTrustedProxies(f *testing.F) {
	f.Add("10.0.0.2, 203.0.113.1", "10.0.0.1:1")
	f.Add(`for="[2001:db8::1]:4711", for=x`, "@")
	f.Fuzz(func(t *testing.T, line, remote string) {
		for _, header := range []string{"X-Forwarded-For", "Forwarded"} {
			r := &http.Request{RemoteAddr: remote, Header: http.Header{header: {line}}}
			believed := wsd.TrustedProxies(header, netip.MustParsePrefix("10.0.0.0/8"))(r)
			if direct := wsd.TrustedProxies(header)(r); direct.IsValid() && !netip.MustParsePrefix("10.0.0.0/8").Contains(direct) {
				require.Equal(t, direct, believed, "of who is no proxy, nothing is believed")
			}
		}
	})
}
