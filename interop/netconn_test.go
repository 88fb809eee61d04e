// netconn_test.go tests wsd.NetConn by the rules for a net.Conn, and with protocols that were made for TCP.

package interop

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/wsdtest"
)

// streamConfigs are the settings under which a stream of bytes has to hold.
var streamConfigs = map[string]wsd.Config{
	"plain":      {},
	"streamed":   {StreamAbove: 100},
	"compressed": {StreamAbove: 100, Compression: &wsd.Compression{}},
	"few wait":   {MessageBuffer: -1, SendQueue: 1000},
}

// overLoopback returns both ends of a connection from Dial to Accept.
func overLoopback(cfg wsd.Config) (client, server *wsd.Conn, stop func(), err error) {
	accepted := make(chan *wsd.Conn, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := wsd.Accept(w, r, &wsd.AcceptOptions{Config: cfg}); err == nil {
			accepted <- conn
		}
	}))
	client, _, err = wsd.Dial(context.Background(), "ws"+strings.TrimPrefix(web.URL, "http"), &wsd.DialOptions{Config: cfg})
	if err != nil {
		web.Close()
		return nil, nil, nil, err
	}
	server = <-accepted
	return client, server, func() {
		client.CloseNow()
		server.CloseNow()
		web.Close()
	}, nil
}

func overPipe(cfg wsd.Config) (client, server *wsd.Conn, stop func(), err error) {
	client, server = wsdtest.Pipe(cfg)
	return client, server, func() {
		client.CloseNow()
		server.CloseNow()
	}, nil
}

func TestNetConnByTheRules(t *testing.T) {
	for transport, open := range map[string]func(wsd.Config) (client, server *wsd.Conn, stop func(), err error){
		"pipe": overPipe, "loopback": overLoopback,
	} {
		for name, cfg := range streamConfigs {
			t.Run(transport+"/"+name, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					client, server, stop, err := open(cfg)
					if err != nil {
						return nil, nil, nil, err
					}
					return wsd.NetConn(client, wsd.BinaryMessage), wsd.NetConn(server, wsd.BinaryMessage), stop, nil
				})
			})
		}
	}
}

// streams returns both ends of a stream over loopback.
func streams(t *testing.T, cfg wsd.Config) (client, server net.Conn) {
	t.Helper()
	a, b, stop, err := overLoopback(cfg)
	require.NoError(t, err)
	t.Cleanup(stop)
	return wsd.NetConn(a, wsd.BinaryMessage), wsd.NetConn(b, wsd.BinaryMessage)
}

// eachStream calls f with both ends of a stream under each of the settings.
func eachStream(t *testing.T, f func(t *testing.T, client, server net.Conn)) {
	for name, cfg := range streamConfigs {
		t.Run(name, func(t *testing.T) {
			client, server := streams(t, cfg)
			f(t, client, server)
		})
	}
}
