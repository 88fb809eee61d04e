// hostile_test.go plays servers that break HTTP/3, or use it against the client, and clients that ask a server in wrong ways.

package h3_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/h3"
	"github.com/seed62836080/wsd/internal/streamtest"
)

// playServer runs script for each connection of QUIC that comes, until the test ends, and returns how to dial there.
func playServer(t *testing.T, script func(*quic.Conn)) (string, *wsd.DialOptions) {
	t.Helper()
	certificates := httptest.NewUnstartedServer(nil)
	certificates.StartTLS()
	certificates.Close()
	listener, err := quic.ListenAddr("127.0.0.1:0", http3.ConfigureTLSConfig(certificates.TLS), nil)
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			go script(conn)
		}
	}()
	transport := &h3.Transport{TLSClientConfig: certificates.Client().Transport.(*http.Transport).TLSClientConfig}
	t.Cleanup(func() {
		require.NoError(t, transport.Close())
		require.NoError(t, listener.Close())
		<-served
	})
	return "wss://" + listener.Addr().String(), &wsd.DialOptions{HTTPClient: &http.Client{Transport: transport}}
}

// Frames of HTTP/3 (RFC 9114, section 7.2), and fields of QPACK's static table (RFC 9204, appendix A).
var (
	control          = []byte{0x00}                         // the type of a stream
	settings         = []byte{0x04, 0x02, 0x08, 0x01}       // extended CONNECT
	nothingOffered   = []byte{0x04, 0x00}                   // no settings
	ok               = []byte{0x01, 0x03, 0x00, 0x00, 0xD9} // :status 200
	earlyHints       = []byte{0x01, 0x03, 0x00, 0x00, 0xD8} // :status 103
	dataAheadOfOK    = []byte{0x00, 0x01, 'x'}
	headersTooLarge  = []byte{0x01, 0xBF, 0xFF, 0xFF, 0xFF} // a billion bytes of them
	settingsOnStream = settings
)

// say opens the control stream with these bytes.
func say(conn *quic.Conn, first ...[]byte) {
	stream, err := conn.OpenUniStream()
	if err != nil {
		return
	}
	for _, b := range first {
		_, _ = stream.Write(b)
	}
}

// answering answers every request with these bytes, again and again if it is to go on, until the stream or the connection
// ends.
func answering(again bool, answer ...[]byte) func(*quic.Conn) {
	return func(conn *quic.Conn) {
		say(conn, control, settings)
		for {
			stream, err := conn.AcceptStream(context.Background())
			if err != nil {
				return
			}
			for first := true; first || again; first = false {
				for _, b := range answer {
					if _, err := stream.Write(b); err != nil {
						again = false
					}
				}
			}
		}
	}
}

func TestHostileServersFailTheHandshakeOverHTTP3(t *testing.T) {
	for what, test := range map[string]struct {
		script func(*quic.Conn)
		check  func(error)
	}{
		"no SETTINGS": {func(*quic.Conn) {}, func(err error) { require.ErrorIs(t, err, context.DeadlineExceeded) }},
		"no answer":   {answering(false), func(err error) { require.ErrorIs(t, err, context.DeadlineExceeded) }},
		"no extended CONNECT": {func(conn *quic.Conn) { say(conn, control, nothingOffered) },
			func(err error) { require.ErrorIs(t, err, h3.ErrNotOffered) }},
		"the end of the connection": {func(conn *quic.Conn) { _ = conn.CloseWithError(0x107, "go away") },
			func(err error) { require.ErrorContains(t, err, "go away") }},
		"a reset of each stream": {func(conn *quic.Conn) {
			say(conn, control, settings)
			for {
				stream, err := conn.AcceptStream(context.Background())
				if err != nil {
					return
				}
				stream.CancelRead(0x10b)
				stream.CancelWrite(0x10b)
			}
		}, func(err error) {
			reset := new(http3.Error)
			require.ErrorAs(t, err, &reset)
			require.Equal(t, http3.ErrCodeRequestRejected, reset.ErrorCode)
		}},
		"DATA ahead of an answer":     {answering(false, dataAheadOfOK), func(err error) { require.ErrorContains(t, err, "HEADERS") }},
		"interim answers for ever":    {answering(true, earlyHints), func(err error) { require.ErrorContains(t, err, "interim") }},
		"a header too large":          {answering(false, headersTooLarge), func(err error) { require.ErrorContains(t, err, "too large") }},
		"SETTINGS on another stream":  {answering(false, settingsOnStream), func(error) {}},
		"the end ahead of the answer": {answering(false, ok[:2]), func(err error) { require.ErrorIs(t, err, context.DeadlineExceeded) }},
	} {
		t.Run(what, func(t *testing.T) {
			url, opts := playServer(t, test.script)
			opts.HandshakeTimeout = time.Minute
			if what == "no SETTINGS" || what == "no answer" || what == "the end ahead of the answer" {
				opts.HandshakeTimeout = 300 * time.Millisecond // is to run out
			}
			_, _, err := wsd.Dial(t.Context(), url, opts)
			require.Error(t, err)
			test.check(err)
		})
	}
}

func TestInterimAnswersOverHTTP3ArePassedOver(t *testing.T) {
	url, opts := playServer(t, answering(false, earlyHints, earlyHints, ok))
	conn, resp, err := wsd.Dial(t.Context(), url, opts)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode, "as Dial tells of success over any version")
	conn.CloseNow()
}

func TestCloseEndsADialOverHTTP3(t *testing.T) {
	began := make(chan struct{})
	url, opts := playServer(t, func(*quic.Conn) { close(began) })
	failed := make(chan error, 1)
	go func() {
		_, _, err := wsd.Dial(t.Context(), url, opts)
		failed <- err
	}()
	<-began
	require.NoError(t, opts.HTTPClient.Transport.(*h3.Transport).Close())
	require.ErrorIs(t, <-failed, h3.ErrTransportClosed)
}

// TestHandshakesThatAreNoneOverHTTP3 has a client of quic-go ask for what is no WebSocket, or not quite one.
func TestHandshakesThatAreNoneOverHTTP3(t *testing.T) {
	address, opts := serve(t, &wsd.Server{Handler: streamtest.EchoAll}, nil)
	target, err := url.Parse("https" + address[len("wss"):])
	require.NoError(t, err)
	config := opts.HTTPClient.Transport.(*h3.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{http3.NextProtoH3}
	ask := func(method, protocol string, header http.Header) int {
		t.Helper()
		raw, err := quic.DialAddr(t.Context(), target.Host, config.Clone(), nil)
		require.NoError(t, err)
		defer func() { _ = raw.CloseWithError(0, "") }()
		stream, err := new(http3.Transport).NewClientConn(raw).OpenRequestStream(t.Context())
		require.NoError(t, err)
		require.NoError(t, stream.SendRequestHeader(&http.Request{
			Method: method, Proto: protocol, URL: target, Host: target.Host, Header: header,
		}))
		resp, err := stream.ReadResponse()
		require.NoError(t, err)
		return resp.StatusCode
	}
	version := http.Header{"Sec-Websocket-Version": {"13"}}
	require.Equal(t, 200, ask("CONNECT", "websocket", version))
	require.Equal(t, 501, ask("CONNECT", "connect-udp", version), "RFC 9220, section 3")
	require.Equal(t, 405, ask("CONNECT", "", version))
	require.Equal(t, 505, ask("GET", "", version))
	require.Equal(t, 405, ask("POST", "", version))
	require.Equal(t, 400, ask("CONNECT", "websocket", http.Header{}))
	require.Equal(t, 400, ask("CONNECT", "websocket", http.Header{"Sec-Websocket-Version": {"8"}}))
	require.Equal(t, 403, ask("CONNECT", "websocket", http.Header{"Sec-Websocket-Version": {"13"}, "Origin": {"https://evil.example"}}))
	require.Equal(t, 200, ask("CONNECT", "websocket", http.Header{"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"nonsense"}}),
		"a key is ignored")
}
