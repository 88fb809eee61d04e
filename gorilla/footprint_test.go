//go:build !js && !race

// footprint_test.go measures what idle connections need.

package websocket_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	websocket "github.com/seed62836080/wsd/gorilla"
)

// An idle connection, whose handler is one of net/http's, takes 10 KiB, its raw client included. Over gorilla that is 17: its
// stack is as small, but net/http's buffers stay.
func TestIdleConnectionsNeedLittle(t *testing.T) {
	const conns = 200
	upgrader := websocket.Upgrader{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for {
			kind, p, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, p) != nil {
				return
			}
		}
	}))
	defer server.Close()
	taken := func() (heap, stack int64) {
		runtime.GC()
		runtime.GC() // what the first has moved out of pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc), int64(m.StackInuse)
	}
	heap, stack := taken()
	for range conns {
		peer, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer peer.Close()
		_, err = peer.Write([]byte("GET / HTTP/1.1\r\nHost: example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x82\x82\x00\x00\x00\x00hi"))
		require.NoError(t, err)
		reader := bufio.NewReader(peer)
		_, err = http.ReadResponse(reader, nil)
		require.NoError(t, err)
		echo := make([]byte, 4)
		_, err = io.ReadFull(reader, echo)
		require.NoError(t, err)
		require.Equal(t, "\x82\x02hi", string(echo))
	}
	heapNow, stackNow := taken()
	require.Less(t, (heapNow-heap)/conns, int64(8<<10))
	require.Less(t, (stackNow-stack)/conns, int64(6<<10))
}

// What a connection has read into goes back when there is nothing more to read: it is 64 KiB, which the next one would have to
// allocate.
func TestEndsGiveBackWhatWasReadInto(t *testing.T) {
	const conns = 50
	for name, last := range map[string]string{
		"the end of the bytes": "",
		"a close frame":        "\x88\x80\x00\x00\x00\x00 and what is no frame",
		"a violation":          "\x83\x80\x00\x00\x00\x00 and more",
	} {
		t.Run(name, func(t *testing.T) {
			before := held()
			var ended []*websocket.Conn
			for range conns {
				client, server := overTCP(t, &websocket.Upgrader{}, &websocket.Dialer{})
				_, err := client.NetConn().Write([]byte(last))
				require.NoError(t, err)
				require.NoError(t, client.NetConn().Close())
				_, _, err = server.ReadMessage()
				require.Error(t, err)
				ended = append(ended, server)
			}
			require.Less(t, int64(held())-int64(before), int64(conns*32<<10))
			runtime.KeepAlive(ended)
		})
	}
}
