// protocols_test.go runs protocols that were made for TCP over wsd.NetConn, with the programs and libraries that speak them.

package interop

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/hashicorp/yamux"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/seed62836080/wsd"
)

// oneConn is a listener that has one connection to give.
type oneConn struct {
	conn   chan net.Conn
	addr   net.Addr
	closed chan struct{}
	once   sync.Once
}

func listenOnce(conn net.Conn) *oneConn {
	l := &oneConn{conn: make(chan net.Conn, 1), addr: conn.LocalAddr(), closed: make(chan struct{})}
	l.conn <- conn
	return l
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Addr() net.Addr { return l.addr }
func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// echoHTTP answers each request with its body, of which HTTP/1.1 wants all to be read first.
var echoHTTP = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Version", r.Proto)
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
})

func TestHTTPOverNetConn(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			eachStream(t, func(t *testing.T, client, server net.Conn) {
				var protocols http.Protocols
				protocols.SetHTTP1(version == "HTTP/1.1")
				protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
				listener := listenOnce(server)
				web := &http.Server{Handler: echoHTTP, Protocols: &protocols}
				served := make(chan error, 1)
				go func() { served <- web.Serve(listener) }()
				dialed := listenOnce(client)
				transport := &http.Transport{Protocols: &protocols, MaxConnsPerHost: 1,
					DialContext: func(context.Context, string, string) (net.Conn, error) { return dialed.Accept() }}
				var requests sync.WaitGroup
				for i := range 10 {
					requests.Go(func() {
						sent := strings.Repeat(fmt.Sprint(i), 300_000)
						request, err := http.NewRequestWithContext(bounded(t), http.MethodPost, "http://over.websocket/", strings.NewReader(sent))
						if err != nil {
							t.Error(err)
							return
						}
						answer, err := transport.RoundTrip(request)
						if err != nil {
							t.Error(err)
							return
						}
						defer answer.Body.Close()
						got, err := io.ReadAll(answer.Body)
						if err != nil || string(got) != sent || answer.Header.Get("Version") != version {
							t.Error(err, len(got), answer.Header)
						}
					})
				}
				requests.Wait()
				transport.CloseIdleConnections()
				require.NoError(t, web.Shutdown(bounded(t)))
				require.ErrorIs(t, <-served, http.ErrServerClosed)
			})
		})
	}
}

// serveSSH answers each exec request on conn with what its input was.
func serveSSH(conn net.Conn, config *ssh.ServerConfig) error {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		channel, requests, err := asked.Accept()
		if err != nil {
			return err
		}
		go func() {
			for request := range requests {
				_ = request.Reply(request.Type == "exec", nil)
				if request.Type == "exec" {
					go func() {
						_, _ = io.Copy(channel, channel)
						_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
						_ = channel.Close()
					}()
				}
			}
		}()
	}
	return nil
}

func TestSSHOverNetConn(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromSigner(key)
	require.NoError(t, err)
	eachStream(t, func(t *testing.T, client, server net.Conn) {
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(signer)
		served := make(chan error, 1)
		go func() { served <- serveSSH(server, config) }()
		conn, channels, requests, err := ssh.NewClientConn(client, "over.websocket", &ssh.ClientConfig{User: "someone",
			HostKeyCallback: ssh.FixedHostKey(signer.PublicKey())})
		require.NoError(t, err)
		session, err := ssh.NewClient(conn, channels, requests).NewSession()
		require.NoError(t, err)
		sent := bytes.Repeat([]byte("0123456789"), 100_000)
		session.Stdin = bytes.NewReader(sent)
		got, err := session.Output("echo")
		require.NoError(t, err)
		require.True(t, bytes.Equal(sent, got))
		require.NoError(t, conn.Close())
		require.NoError(t, <-served)
	})
}

func TestMultiplexerOverNetConn(t *testing.T) {
	eachStream(t, func(t *testing.T, client, server net.Conn) {
		config := yamux.DefaultConfig()
		config.LogOutput = io.Discard
		serving, err := yamux.Server(server, config)
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() {
			for {
				stream, err := serving.Accept()
				if err != nil {
					served <- err
					return
				}
				go func() {
					_, _ = io.Copy(stream, stream)
					_ = stream.Close()
				}()
			}
		}()
		calling, err := yamux.Client(client, config)
		require.NoError(t, err)
		var streams sync.WaitGroup
		for i := range 20 {
			streams.Go(func() {
				stream, err := calling.Open()
				if err != nil {
					t.Error(err)
					return
				}
				defer stream.Close()
				sent := bytes.Repeat([]byte{byte(i)}, 200_000)
				go func() { _, _ = stream.Write(sent) }()
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(stream, got); err != nil || !bytes.Equal(sent, got) {
					t.Error(err)
				}
			})
		}
		streams.Wait()
		require.NoError(t, calling.Close())
		require.Error(t, <-served)
	})
}

// TestMQTTOverNetConn has paho's client speak MQTT with mosquitto, which has WebSockets of its own.
func TestMQTTOverNetConn(t *testing.T) {
	path := program(t, "mosquitto")
	port := freePort(t)
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	// Debian's does not count listeners for WebSockets, and ends if there is no other.
	settings := fmt.Sprintf("allow_anonymous true\nlistener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets\nsocket_domain ipv4\n",
		freePort(t), port)
	require.NoError(t, os.WriteFile(config, []byte(settings), 0o644))
	runProgram(t, path, "-c", config).reachable(t, port)
	for name, cfg := range streamConfigs {
		t.Run(name, func(t *testing.T) {
			options := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("ws://127.0.0.1:%d", port)).SetClientID(name).SetConnectRetry(false)
			options.SetCustomOpenConnectionFn(func(uri *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
				conn, _, err := wsd.Dial(bounded(t), uri.String(), &wsd.DialOptions{Subprotocols: []string{"mqtt"}, Config: cfg})
				if err != nil {
					return nil, err
				}
				if conn.Subprotocol() != "mqtt" {
					return nil, errors.New("another subprotocol than mqtt")
				}
				return wsd.NetConn(conn, wsd.BinaryMessage), nil
			})
			client := mqtt.NewClient(options)
			settled := func(token mqtt.Token) {
				t.Helper()
				require.True(t, token.WaitTimeout(patience))
				require.NoError(t, token.Error())
			}
			settled(client.Connect())
			got := make(chan mqtt.Message, 100)
			settled(client.Subscribe("a/+", 1, func(_ mqtt.Client, m mqtt.Message) { got <- m }))
			payload := bytes.Repeat([]byte("0123456789"), 200) // mosquitto 2.0.11 stalls at ten times that, whatever the client
			for i := range 20 {
				settled(client.Publish(fmt.Sprintf("a/%d", i), 1, false, payload))
			}
			for i := range 20 {
				select {
				case m := <-got:
					require.Equal(t, fmt.Sprintf("a/%d", i), m.Topic())
					require.True(t, bytes.Equal(payload, m.Payload()))
				case <-bounded(t).Done():
					require.FailNow(t, "a message did not come back")
				}
			}
			client.Disconnect(0)
		})
	}
}

// TestNetConnToWebsockify has websockify, known from noVNC, pass a stream on to TCP.
func TestNetConnToWebsockify(t *testing.T) {
	path := program(t, "websockify")
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = echo.Close() })
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	port := freePort(t)
	runProgram(t, path, fmt.Sprintf("127.0.0.1:%d", port), echo.Addr().String()).reachable(t, port)
	for name, cfg := range streamConfigs {
		t.Run(name, func(t *testing.T) {
			conn, _, err := wsd.Dial(bounded(t), fmt.Sprintf("ws://127.0.0.1:%d", port), &wsd.DialOptions{Subprotocols: []string{"binary"}, Config: cfg})
			require.NoError(t, err)
			t.Cleanup(conn.CloseNow)
			stream := wsd.NetConn(conn, wsd.BinaryMessage)
			sent := bytes.Repeat([]byte("0123456789"), 50_000)
			go func() { _, _ = stream.Write(sent) }()
			got := make([]byte, len(sent))
			_, err = io.ReadFull(stream, got)
			require.NoError(t, err)
			require.True(t, bytes.Equal(sent, got))
			require.NoError(t, stream.Close())
			require.True(t, awaitEnd(t, conn).Clean)
		})
	}
}
