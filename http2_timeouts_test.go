//go:build go1.26

// http2_timeouts_test.go has a server over HTTP/2 in a bubble, where net/http of Go 1.25 would share channels with others.

package wsd_test

import (
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/internal/http2test"
)

func TestTimeoutsOfTheServerDoNotEndAWebSocketOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		ws := &wsd.Server{Handler: echoAll}
		server := &http.Server{Handler: ws, Protocols: &protocols, ReadTimeout: time.Second, WriteTimeout: time.Second, IdleTimeout: time.Second}
		wsd.ConfigureHTTP2(server)
		near, far := net.Pipe()
		served := make(chan error)
		listener := &oneListener{conn: far, done: make(chan struct{})}
		go func() { served <- server.Serve(listener) }()
		client, err := http2test.NewClient(near)
		require.NoError(t, err)
		conn, stream := connectHTTP2(t, client)
		for range 5 {
			time.Sleep(time.Minute)
			requireHTTP2Echo(t, conn, "still here")
		}
		require.NoError(t, conn.Close(wsd.StatusNormalClosure, ""))
		clean, _ := stream.End()
		require.True(t, clean)
		client.Close()
		require.NoError(t, ws.Shutdown(t.Context()))
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}
