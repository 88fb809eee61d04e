package wsd

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// RFC 6455, section 7.4, and the IANA registry of close codes.
func TestCloseCodes(t *testing.T) {
	sendable := func(code int) bool {
		switch {
		case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
			return true
		}
		return false
	}
	for code := range 1 << 16 {
		payload := []byte{byte(code >> 8), byte(code)}
		got, reason, err := parseClosePayload(payload)
		if !sendable(code) {
			var violation *ProtocolError
			require.ErrorAs(t, err, &violation, "%d", code)
			require.Equal(t, StatusProtocolError, violation.Code)
			continue
		}
		require.NoError(t, err, "%d", code)
		require.Equal(t, StatusCode(code), got)
		require.Empty(t, reason)
		require.Equal(t, payload, appendClosePayload(nil, StatusCode(code), ""))
	}
}

func TestClosePayload(t *testing.T) {
	code, reason, err := parseClosePayload(nil)
	require.NoError(t, err)
	require.Equal(t, StatusNoStatus, code)
	require.Empty(t, reason)
	require.Empty(t, appendClosePayload(nil, StatusNoStatus, ""))

	code, reason, err = parseClosePayload([]byte("\x03\xE8κόσμε"))
	require.NoError(t, err)
	require.Equal(t, StatusNormalClosure, code)
	require.Equal(t, "κόσμε", reason)

	for payload, want := range map[string]StatusCode{
		"\x03":             StatusProtocolError,
		"\x03\xE8\xC3":     StatusInvalidPayload,
		"\x03\xE8\xFF":     StatusInvalidPayload,
		"\x03\xED":         StatusProtocolError,
		"\x00\x00\xFF\xFF": StatusProtocolError,
	} {
		_, _, err = parseClosePayload([]byte(payload))
		var violation *ProtocolError
		require.ErrorAs(t, err, &violation, "%q", payload)
		require.Equal(t, want, violation.Code, "%q", payload)
	}
}

func TestCloseArguments(t *testing.T) {
	for _, row := range []struct {
		code   StatusCode
		reason string
		says   string
	}{
		{1004, "", "may not be sent"},
		{1006, "", "may not be sent"},
		{1015, "", "may not be sent"},
		{999, "", "may not be sent"},
		{2999, "", "may not be sent"},
		{5000, "", "may not be sent"},
		{0, "", "may not be sent"},
		{StatusNoStatus, "why", "needs a code"},
		{1000, strings.Repeat("x", 124), "at most 123"},
		{1000, "\xFF", "not UTF-8"},
	} {
		err := validateClose(row.code, row.reason)
		var argument *CloseArgumentError
		require.ErrorAs(t, err, &argument, "%d %q", row.code, row.reason)
		require.Contains(t, err.Error(), row.says)
	}
	require.NoError(t, validateClose(StatusNoStatus, ""))
	require.NoError(t, validateClose(4999, strings.Repeat("x", 123)))
}

func FuzzClosePayload(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3})
	f.Add([]byte("\x03\xE8bye"))
	f.Add([]byte("\x0F\xA0\xF0\x9F\x98"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		code, reason, err := parseClosePayload(payload)
		if err != nil {
			var violation *ProtocolError
			require.ErrorAs(t, err, &violation)
			return
		}
		if len(payload) <= maxControlPayload {
			require.NoError(t, validateClose(code, reason), "what may come may be sent")
		}
		require.Equal(t, append([]byte{}, payload...), appendClosePayload([]byte{}, code, reason))
	})
}
