package origin

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/ascii"
	"github.com/seed62836080/wsd/internal/wsurl"
)

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
			problem := Check([]string{test.origin}, test.host, test.tls, test.patterns)
			require.Equal(t, test.want, problem == "", problem)
		})
	}
	require.Empty(t, Check(nil, "example.com", true, nil), "a request without Origin")
	two := []string{"http://example.com", "http://example.com"}
	require.NotEmpty(t, Check(two, "example.com", false, []string{"example.com"}), "two Origin headers")
}

func TestOriginOfAURL(t *testing.T) {
	for first, second := range map[string]string{
		"http://Example.com/a?b": "http://example.com:80", "https://example.com": "https://example.com:443/c", "http://[::1]:9": "http://[::1]:9/",
	} {
		a, err := url.Parse(first)
		require.NoError(t, err)
		b, err := url.Parse(second)
		require.NoError(t, err)
		require.Equal(t, Of(a), Of(b))
		b.Scheme = "ftp"
		require.NotEqual(t, Of(a), Of(b))
	}
}

func TestOriginPatternsThatNeverMatchAreMistakes(t *testing.T) {
	for _, pattern := range []string{
		":80", "a b", "http://user@a.example", "a.example:http",
		"a:b:c", "[::1", "[::1]x", "::1", "4://a", "http://[a.example]", "a.example?x",
	} {
		require.NotEmpty(t, CheckPattern(pattern), "%q", pattern)
	}
	for _, pattern := range []string{
		"*", "null", "file://", "", "https://a.example/", "a.example/path", "https//a.example", "a.example", "*.a.example:*", "https://*.a.example:8443", "[::1]:*", "*://a.example", "http*://a",
		"moz-extension://*",
	} {
		require.Empty(t, CheckPattern(pattern), "%q", pattern)
	}
}

// FuzzOrigin checks the handwritten parser of origins against net/url: what it accepts means the same there, and an
// origin passes without patterns only if its host is that of the request.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"http://example.com", "https://[::1]:8443", "null", "http://a@b", "chrome-extension://x", "http://a:080"} {
		f.Add(s, "example.com")
	}
	f.Fuzz(func(t *testing.T, s, host string) {
		o, ok := parse(s)
		if ok {
			u, err := url.Parse(s)
			if err != nil || strings.ContainsRune(s, '%') {
				return // net/url accepts escapes that an origin may not have
			}
			require.True(t, ascii.EqualFold(u.Scheme, o.scheme))
			require.Equal(t, u.Hostname(), o.host)
			require.Nil(t, u.User)
			require.Empty(t, u.Path+u.RawQuery+u.Fragment)
			if p := u.Port(); p != "" {
				require.Equal(t, p, o.port)
			}
		}
		if Check([]string{s}, host, false, nil) == "" {
			require.True(t, ok)
			name, _, _ := wsurl.SplitHostPort(host)
			require.True(t, equalHost(name, o.host))
		}
		// A pattern that is the origin itself, or has its host go, lets it pass.
		if ok && !slices.Contains([]string{"http", "https"}, o.scheme) {
			require.Empty(t, Check([]string{s}, host, true, []string{s}))
		}
	})
}
