// client_js_test.go is what the tests have in common: where the server is, and what it has seen.

package jsclient

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// server returns the URL of a place on the server.
func server(path string) string { return os.Getenv("WSD_SERVER") + path }

// dial returns a connection that the test closes at the end.
func dial(t *testing.T, path string, opts *wsd.DialOptions) *wsd.Conn {
	t.Helper()
	conn, _, err := wsd.Dial(t.Context(), server(path), opts)
	require.NoError(t, err)
	t.Cleanup(conn.CloseNow)
	return conn
}

var records atomic.Int64

// recorded is an end as the server saw it.
type recorded struct {
	Code   wsd.StatusCode
	Reason string
	Clean  bool
}

// record returns a path with a name under which the server records the connection's end, and what waits for that.
func record(t *testing.T, path string) (named string, ended func() recorded) {
	name := os.Getenv("WSD_RUN") + "-" + strconv.FormatInt(records.Add(1), 10)
	return path + "record=" + url.QueryEscape(name), func() (end recorded) {
		t.Helper()
		conn := dial(t, "/recorded?name="+url.QueryEscape(name), nil)
		msg, err := conn.Receive(t.Context())
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(msg.Data, &end))
		return end
	}
}

// receive returns the next message.
func receive(t *testing.T, conn *wsd.Conn) wsd.Message {
	t.Helper()
	msg, err := conn.Receive(t.Context())
	require.NoError(t, err)
	return msg
}

func send(t *testing.T, conn *wsd.Conn, msg wsd.Message) {
	t.Helper()
	require.NoError(t, conn.Send(context.Background(), msg))
}
