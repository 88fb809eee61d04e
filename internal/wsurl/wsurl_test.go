// wsurl_test.go checks which URLs can be those of WebSockets, and that what is said of the others has no secrets.

package wsurl_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/internal/wsurl"
)

func TestParse(t *testing.T) {
	for _, row := range []struct {
		section string
		url     string
		problem string // empty for none
	}{
		{"RFC 6455, 3", "ws://host", ""},
		{"RFC 6455, 3", "wss://user:secret@[::1]:1/path?secret", ""},
		{"RFC 6455, 4.1: http and https", "http://host", ""},
		{"RFC 6455, 4.1: http and https", "HTTPS://host:0443/%23", ""},
		{"RFC 6455, 3: scheme", "ftp://user:secret@host", "expected the scheme ws, wss, http or https"},
		{"no scheme", "host", "expected the scheme ws, wss, http or https"},
		{"RFC 6455, 3: host", "ws:secret", "expected a host"},
		{"RFC 6455, 3: host", "ws://:80", "expected a host"},
		{"RFC 3986, 3.2.2: host", "ws://ho<st", "expected a host name or address"},
		{"RFC 9293, 3.1: port", "ws://host:65536", "expected a port from 1 to 65535"},
		{"RFC 9293, 3.1: port", "ws://host:0", "expected a port from 1 to 65535"},
		{"RFC 6455, 3: fragment", "ws://host/?secret#", "expected no fragment"},
	} {
		u, err := wsurl.Parse(row.url)
		require.NotNil(t, u, row)
		if row.problem == "" {
			require.NoError(t, err, row)
		} else {
			require.EqualError(t, err, row.problem, row)
		}
	}
	for _, raw := range []string{"ws://ho st", "ws://host:port", "ws://host/%zz", "ws://host/\r\n"} {
		u, err := wsurl.Parse(raw)
		require.Nil(t, u, raw)
		require.Error(t, err, raw)
		require.NotContains(t, err.Error(), "ws:", "%s: the whole URL is not in the error", raw)
	}
}

func TestDefaultPort(t *testing.T) {
	for scheme, port := range map[string]string{"http": "80", "HTTPS": "443", "http\u017F": "", "ws": "", "": ""} {
		require.Equal(t, port, wsurl.DefaultPort(scheme), scheme)
	}
}
