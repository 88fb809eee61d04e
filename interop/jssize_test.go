// jssize_test.go bounds the size of programs for the browser, which everybody who opens a page has to load.

package interop

import (
	"bytes"
	"compress/gzip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// sizesOf returns the size of a file in bytes, and that of it behind gzip.
func sizesOf(t *testing.T, path string) (plain, zipped int) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return len(data), b.Len()
}

// TestJSSize bounds the size of a program for the browser, and holds that net/http's client is none of it.
func TestJSSize(t *testing.T) {
	const most, mostZipped = 6_500_000, 1_800_000
	binary := buildJS(t, "jsecho", "build")
	plain, zipped := sizesOf(t, binary)
	t.Logf("%d bytes, %d with gzip", plain, zipped)
	require.LessOrEqual(t, plain, most)
	require.LessOrEqual(t, zipped, mostZipped)
	data, err := os.ReadFile(binary)
	require.NoError(t, err)
	linked := func(function string) bool { return bytes.Contains(data, []byte(function)) }
	require.True(t, linked("github.com/seed62836080/wsd.(*Parser).Parse"), "the names of functions can be found in it")
	for _, methods := range []string{
		"net/http.(*Client).", "net/http.(*Transport).", "net/http.(*Server).", "crypto/tls.(*Conn).", "net.(*TCPConn).",
		"compress/flate.(*Writer).", "encoding/json.(*Encoder).", "log/slog.(*Logger).",
	} {
		require.False(t, linked(methods), methods)
	}
}
