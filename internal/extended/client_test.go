package extended

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTranslateAnswersTheKey(t *testing.T) { // the example of RFC 6455, section 1.3
	r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
	r.Header["Sec-WebSocket-Key"] = []string{"dGhlIHNhbXBsZSBub25jZQ=="}
	r.Header.Set("Upgrade", "WebSocket")
	require.True(t, IsHandshake(r))
	resp := &http.Response{StatusCode: 200, Header: http.Header{}}
	Translate(resp, r)
	require.Equal(t, "101 Switching Protocols", resp.Status)
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", resp.Header.Get("Sec-WebSocket-Accept"))

	resp = &http.Response{StatusCode: 401, Header: http.Header{}}
	Translate(resp, r)
	require.Equal(t, "401 Unauthorized", resp.Status)
	require.Empty(t, resp.Header)
	require.Empty(t, acceptOf(http.Header{}))
}

func TestTranslates(t *testing.T) {
	for _, name := range []string{"Sec-WebSocket-Key", "Host", "Connection", "UPGRADE"} {
		require.False(t, Translates(name), name)
	}
	require.True(t, Translates("Sec-WebSocket-Version"))
}
