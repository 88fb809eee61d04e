// compression_test.go checks when messages are compressed: by what the wire carries.

package websocket_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
	"github.com/seed62836080/wsd/wsdtest"
)

// counted counts the bytes that are written.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// compressing returns both ends of a connection and how many bytes the client has written.
func compressing(t *testing.T, server, client bool) (c, s *websocket.Conn, written *atomic.Int64) {
	t.Helper()
	written = new(atomic.Int64)
	u, d := &websocket.Upgrader{EnableCompression: server}, &websocket.Dialer{EnableCompression: client}
	c, s = over(t, u, d, func(handler http.Handler) (string, func()) {
		served := wsdtest.Serve(handler)
		dial := served.Client().Transport.(*http.Transport).DialContext
		d.NetDialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			return counted{conn, written}, err
		}
		return "", served.Close
	})
	return c, s, written
}

func TestMessagesAreCompressedIfBothSaySo(t *testing.T) {
	text := strings.Repeat("compress me ", 2000)
	for _, row := range []struct{ server, client, compressed bool }{
		{true, true, true}, {true, false, false}, {false, true, false},
	} {
		client, server, written := compressing(t, row.server, row.client)
		before := written.Load()
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte(text)))
		read(t, server, websocket.TextMessage, text)
		require.Equal(t, row.compressed, written.Load()-before < int64(len(text)/2), "%v", row)
	}
}

func TestCompressionCanBeTurnedOff(t *testing.T) {
	text := strings.Repeat("compress me ", 2000)
	client, server, written := compressing(t, true, true)
	pm, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(text))
	require.NoError(t, err)
	ways := map[string]func(){
		"message":  func() { require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte(text))) },
		"prepared": func() { require.NoError(t, client.WritePreparedMessage(pm)) },
		"writer": func() {
			w, err := client.NextWriter(websocket.TextMessage)
			require.NoError(t, err)
			for _, part := range strings.SplitAfter(text, " ") {
				_, err = w.Write([]byte(part))
				require.NoError(t, err)
			}
			require.NoError(t, w.Close())
		},
	}
	for name, write := range ways {
		for _, row := range []struct {
			set        func()
			compressed bool
		}{
			{func() { client.EnableWriteCompression(false) }, false},
			{func() { client.EnableWriteCompression(true) }, true},
			{func() { require.NoError(t, client.SetCompressionLevel(0)) }, false},
			{func() { require.NoError(t, client.SetCompressionLevel(-1)) }, true},
			{func() { require.NoError(t, client.SetCompressionLevel(-2)) }, true},
			{func() { require.NoError(t, client.SetCompressionLevel(9)) }, true},
		} {
			row.set()
			before := written.Load()
			write()
			read(t, server, websocket.TextMessage, text)
			require.Equal(t, row.compressed, written.Load()-before < int64(len(text)/2), name)
		}
	}
}

func TestALevelMakesADifference(t *testing.T) {
	var text strings.Builder
	for i := range 3000 {
		text.WriteString(strings.Repeat("abcdefgh"[i%7:], 1+i*i%5))
	}
	client, server, written := compressing(t, true, true)
	size := func(level int) int64 {
		require.NoError(t, client.SetCompressionLevel(level))
		before := written.Load()
		require.NoError(t, client.WriteMessage(websocket.TextMessage, []byte(text.String())))
		read(t, server, websocket.TextMessage, text.String())
		return written.Load() - before
	}
	require.Less(t, size(9), size(1))
}
