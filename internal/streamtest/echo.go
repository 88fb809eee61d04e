// echo.go is what tests of carriers ask of a server that echoes.

package streamtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// EchoAll is a handler that sends back what it receives.
func EchoAll(conn *wsd.Conn) {
	for m := range conn.Messages() {
		if conn.Send(context.Background(), m) != nil {
			return
		}
		m.Release()
	}
}

// RequireEcho has a server echo a text.
func RequireEcho(t *testing.T, conn *wsd.Conn, text string) {
	t.Helper()
	require.NoError(t, conn.Send(t.Context(), wsd.Text(text)))
	m, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.True(t, string(m.Data) == text)
}

// RequireStreamedEcho has a server that passes on what comes echo a message which neither side holds whole.
func RequireStreamedEcho(t *testing.T, conn *wsd.Conn) {
	t.Helper()
	sent := []byte(strings.Repeat("what does not fit in memory ", 200_000))
	written := make(chan error, 1)
	go func() {
		w := conn.Writer(t.Context(), wsd.TextMessage, nil)
		_, err := w.Write(sent)
		written <- errors.Join(err, w.Close())
	}()
	m, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.True(t, m.Streamed())
	got, err := io.ReadAll(m.Body())
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
	require.NoError(t, <-written)
	RequireEcho(t, conn, "behind it")
}
