// errors_test.go checks the texts of errors and what matches them.

package websocket_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
)

func TestCloseErrors(t *testing.T) {
	for text, err := range map[string]*websocket.CloseError{
		"websocket: close 1000 (normal): bye":                      {Code: websocket.CloseNormalClosure, Text: "bye"},
		"websocket: close 1001 (going away)":                       {Code: websocket.CloseGoingAway},
		"websocket: close 1006 (abnormal closure): unexpected EOF": {Code: websocket.CloseAbnormalClosure, Text: "unexpected EOF"},
		"websocket: close 1013":                                    {Code: websocket.CloseTryAgainLater},
		"websocket: close 4000: mine":                              {Code: 4000, Text: "mine"},
	} {
		require.EqualError(t, err, text)
	}
	going := error(&websocket.CloseError{Code: websocket.CloseGoingAway})
	require.True(t, websocket.IsCloseError(going, 1000, 1001))
	require.False(t, websocket.IsCloseError(going, 1000))
	require.False(t, websocket.IsCloseError(going))
	require.False(t, websocket.IsCloseError(fmt.Errorf("in %w", going), 1001))
	require.False(t, websocket.IsCloseError(nil, 1001))
	require.True(t, websocket.IsUnexpectedCloseError(going, 1000))
	require.True(t, websocket.IsUnexpectedCloseError(going))
	require.False(t, websocket.IsUnexpectedCloseError(going, 1001))
	require.False(t, websocket.IsUnexpectedCloseError(websocket.ErrCloseSent))
}

func TestFormatCloseMessage(t *testing.T) {
	require.Equal(t, []byte("\x03\xE8bye"), websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye"))
	require.Equal(t, []byte{}, websocket.FormatCloseMessage(websocket.CloseNoStatusReceived, "ignored"))
}
