// network_test.go reaches servers through proxies, and servers that want a certificate of the client.

package main_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	encoding "encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// proxyServer accepts connections, and couples each with the address that ask finds out.
func proxyServer(t *testing.T, ask func(conn net.Conn, from *bufio.Reader) (address string, ok bool)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				from := bufio.NewReader(conn)
				address, ok := ask(conn, from)
				if !ok {
					return
				}
				target, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				defer target.Close()
				go func() { _, _ = io.Copy(target, from) }()
				_, _ = io.Copy(conn, target)
			}()
		}
	}()
	return listener.Addr().String()
}

func TestDialGoesThroughAProxy(t *testing.T) {
	t.Parallel()
	url := serve(t)
	target := strings.Trim(strings.TrimPrefix(url, "ws:"), "/")
	var asked atomic.Int64
	connecting := proxyServer(t, func(conn net.Conn, from *bufio.Reader) (string, bool) {
		r, err := http.ReadRequest(from)
		if err != nil || r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != "Basic bWU6c2VjcmV0" {
			fmt.Fprint(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return "", false
		}
		asked.Add(1)
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		return target, r.Host == "feed.example:80"
	})
	socks := proxyServer(t, func(conn net.Conn, from *bufio.Reader) (string, bool) {
		head := make([]byte, 5) // RFC 1928: a greeting with methods, then a request for a name
		if _, err := io.ReadFull(from, head[:2]); err != nil {
			return "", false
		}
		_, _ = from.Discard(int(head[1]))
		_, _ = conn.Write([]byte{5, 0})
		if _, err := io.ReadFull(from, head); err != nil || head[3] != 3 {
			return "", false
		}
		name := make([]byte, int(head[4])+2)
		_, _ = io.ReadFull(from, name)
		_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		asked.Add(1)
		return target, string(name[:head[4]]) == "feed.example" && encoding.BigEndian.Uint16(name[head[4]:]) == 80
	})
	for n, proxy := range []string{"http://me:secret@" + connecting, "socks5://" + socks, "socks5h://" + socks} {
		r := run(t, "", "dial", "-proxy", proxy, "-x", "hi", "ws://feed.example/")
		assert.Equal(t, "hi\n", r.stdout, "%s: %s", proxy, r.stderr)
		assert.Equal(t, int64(n+1), asked.Load(), proxy)
	}
	r := run(t, "", "dial", "-proxy", "http://"+connecting, "-x", "hi", "ws://feed.example/")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "407")
	r = run(t, "", "dial", "-proxy", "none", "-x", "hi", url)
	assert.Equal(t, "hi\n", r.stdout, r.stderr)
	assert.Equal(t, int64(3), asked.Load())
}

func TestDialShowsACertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority, stranger := newAuthority(t, dir, "ours"), newAuthority(t, dir, "theirs")
	pool := x509.NewCertPool()
	content, err := os.ReadFile(authority.file)
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(content))
	pair := authority.sign(t, "server")
	certificate, err := tls.LoadX509KeyPair(pair, pair)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = new(wsd.Server).Serve(w, r, nil, func(conn *wsd.Conn) {
			_ = conn.Send(conn.Context(), wsd.Text("hello "+r.TLS.PeerCertificates[0].Subject.CommonName))
			for range conn.Messages() {
			}
		})
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	url := strings.Replace(server.URL, "https", "wss", 1)

	mine := authority.sign(t, "client")
	r := run(t, "", "dial", "-n", "1", "-cacert", authority.file, "-cert", mine, url)
	assert.Equal(t, "hello client\n", r.stdout, r.stderr)
	content, err = os.ReadFile(mine)
	require.NoError(t, err)
	begin := strings.Index(string(content), "-----BEGIN PRIVATE KEY")
	require.NoError(t, os.WriteFile(mine+".crt", content[:begin], 0o600))
	require.NoError(t, os.WriteFile(mine+".key", content[begin:], 0o600))
	r = run(t, "", "dial", "-n", "1", "-cacert", authority.file, "-cert", mine+".crt", "-key", mine+".key", url)
	assert.Equal(t, "hello client\n", r.stdout, r.stderr)
	for _, args := range [][]string{{}, {"-cert", stranger.sign(t, "other")}} {
		r = run(t, "", append([]string{"dial", "-n", "1", "-cacert", authority.file, url}, args...)...)
		assert.Equal(t, 1, r.status, args)
		assert.Contains(t, r.stderr, "certificate")
	}
	r = run(t, "", "dial", "-cert", mine+".crt", url)
	assert.Equal(t, 2, r.status, "there is no key")
}
