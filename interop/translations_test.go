// translations_test.go has WebSockets go through haproxy from one version of HTTP to another, all four ways.

package interop

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// translator is haproxy, which takes HTTP/1.1 and HTTP/2 at each of its ports, and speaks HTTP/1.1 or HTTP/2 with the server
// behind it.
type translator struct {
	*running
	ports map[int]int // of TLS, by the version that the server is spoken to in
}

func startTranslator(t *testing.T, backend int) translator {
	t.Helper()
	path := program(t, "haproxy")
	results.version("haproxy", versionOf(t, path, "-v"))
	ports := map[int]int{1: freePort(t), 2: freePort(t)}
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(config, []byte(strings.NewReplacer(
		"BACKEND", strconv.Itoa(backend), "PORT1", strconv.Itoa(ports[1]), "PORT2", strconv.Itoa(ports[2]), "BUNDLE", bundleFile(),
	).Replace(`
defaults
	mode http
	timeout connect 10s
	timeout client 60s
	timeout server 60s
	timeout tunnel 1h
frontend to-1
	bind 127.0.0.1:PORT1 ssl crt BUNDLE alpn h2,http/1.1
	default_backend http-1
frontend to-2
	bind 127.0.0.1:PORT2 ssl crt BUNDLE alpn h2,http/1.1
	default_backend http-2
backend http-1
	server wsd 127.0.0.1:BACKEND
backend http-2
	server wsd 127.0.0.1:BACKEND proto h2 ws h2
`)), 0o600))
	r := runProgram(t, path, "-f", config)
	r.reachable(t, ports[2])
	return translator{r, ports}
}

// TestHaproxyTranslates runs every case with wsd on both sides.
func TestHaproxyTranslates(t *testing.T) {
	t.Parallel()
	run := peerNamed(t, "wsd").start(t, "server")
	p := startTranslator(t, run.ready.WS)
	for client, dialing := range map[int]func(*process, string) opener{1: dialing, 2: dialingHTTP2} {
		for _, server := range []int{1, 2} {
			t.Run(fmt.Sprintf("from %d to %d", client, server), func(t *testing.T) {
				results.addExtra(t, "haproxy", fmt.Sprintf("every case, from HTTP/%d at the client to HTTP/%d at the server", client, server), "wss")
				for _, c := range cases {
					t.Run(c.name, func(t *testing.T) {
						c.run(t, dialing(run, fmt.Sprintf("wss://127.0.0.1:%d", p.ports[server])))
					})
				}
			})
		}
	}
}

// TestHaproxyTranslatesForChromium has Chromium open WebSockets over HTTP/2, as the page came that way.
func TestHaproxyTranslatesForChromium(t *testing.T) {
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprintf("to %d", major), func(t *testing.T) {
			s := newSite()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			server := &http.Server{Handler: s.handler(), Protocols: new(http.Protocols)}
			server.Protocols.SetHTTP1(true)
			server.Protocols.SetUnencryptedHTTP2(true)
			wsd.ConfigureHTTP2(server)
			server.Handler = s.noting(server.Handler)
			served := make(chan struct{})
			go func() {
				defer close(served)
				_ = server.Serve(listener)
			}()
			t.Cleanup(func() {
				_ = server.Close()
				<-served
			})
			p := startTranslator(t, listener.Addr().(*net.TCPAddr).Port)
			tab := tab{t, browser(t)}
			results.addExtra(t, "chromium", fmt.Sprintf(whatBrowsersDo, fmt.Sprintf("HTTP/2, by way of haproxy to HTTP/%d", major)), "wss")
			tab.do(chromedp.Navigate(fmt.Sprintf("https://127.0.0.1:%d/", p.ports[major])))
			s.expect(t, "h2", major)
		})
	}
}
