// proxies_test.go has connections go through nginx and haproxy as reverse proxies, and through an HTTP proxy that tunnels
// with CONNECT: every case, what idle connections meet, and reloads while connections are open.

package interop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd"
)

// proxy is a running reverse proxy. Connections with a path under /idle/ may be idle for a second.
type proxy struct {
	*running
	name      string
	ws, wss   int // its ports
	configure func(backend int, cuts bool) string
	config    string
	backend   int
	// renew has it take the configuration anew, and renewed is all that it has printed when what runs by the new one
	// takes connections and what runs by the old one takes no more.
	renew   func() error
	renewed []string
}

func (p *proxy) base(scheme string) string {
	port := p.ws
	if scheme == "wss" {
		port = p.wss
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, port)
}

// write writes the configuration. What it replaces has a second to end where cuts is true, and all the time otherwise.
func (p *proxy) write(t *testing.T, cuts bool) {
	t.Helper()
	require.NoError(t, os.WriteFile(p.config, []byte(p.configure(p.backend, cuts)), 0o600))
}

func (p *proxy) reload(t *testing.T) {
	t.Helper()
	from := p.output.len()
	require.NoError(t, p.renew())
	for _, text := range p.renewed {
		require.NoError(t, p.output.wait(bounded(t), from, text))
	}
}

// stop ends the proxy. Killed, its master process would leave its workers behind.
func (p *proxy) stop() {
	_ = p.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
	}
}

func startNginx(t *testing.T, backend int) *proxy {
	t.Helper()
	path := program(t, "nginx")
	results.version("nginx", versionOf(t, path, "-v"))
	me, err := user.Current()
	require.NoError(t, err)
	dir := t.TempDir()
	p := &proxy{name: "nginx", ws: freePort(t), wss: freePort(t), backend: backend, config: filepath.Join(dir, "nginx.conf"),
		renewed: []string{"gracefully shutting down"}}
	p.renew = func() error { return p.Process.Signal(syscall.SIGHUP) }
	p.configure = func(backend int, cuts bool) string {
		shutdown := ""
		if cuts {
			shutdown = "worker_shutdown_timeout 1s;"
		}
		return strings.NewReplacer("DIR", dir, "USER", me.Username, "BACKEND", strconv.Itoa(backend), "SHUTDOWN", shutdown,
			"WSS", strconv.Itoa(p.wss), "WS", strconv.Itoa(p.ws), "CERTIFICATE", certificateFile(), "KEY", keyFile(),
		).Replace(`
daemon off;
user USER;
worker_processes 1;
pid DIR/nginx.pid;
error_log stderr notice;
SHUTDOWN
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	map $http_upgrade $connection_upgrade { default upgrade; "" close; }
	server {
		listen 127.0.0.1:WS;
		listen 127.0.0.1:WSS ssl;
		ssl_certificate CERTIFICATE;
		ssl_certificate_key KEY;
		proxy_http_version 1.1;
		proxy_set_header Upgrade $http_upgrade;
		proxy_set_header Connection $connection_upgrade;
		proxy_set_header Host $http_host;
		location / { proxy_pass http://127.0.0.1:BACKEND; }
		location /idle/ { proxy_pass http://127.0.0.1:BACKEND; proxy_read_timeout 1s; }
	}
}
`)
	}
	p.write(t, false)
	p.running = runProgram(t, path, "-p", dir, "-e", "stderr", "-c", p.config)
	t.Cleanup(p.stop)
	p.reachable(t, p.wss)
	return p
}

func startHaproxy(t *testing.T, backend int) *proxy {
	t.Helper()
	path := program(t, "haproxy")
	results.version("haproxy", versionOf(t, path, "-v"))
	dir := t.TempDir()
	// A signal that reaches its master process while that starts is lost at times, an order over its socket is not.
	control := filepath.Join(dir, "control")
	p := &proxy{name: "haproxy", ws: freePort(t), wss: freePort(t), backend: backend, config: filepath.Join(dir, "haproxy.cfg"),
		renewed: []string{"Loading success", "Proxy websockets stopped"}}
	p.renew = func() error {
		conn, err := net.Dial("unix", control)
		for again := time.NewTicker(20 * time.Millisecond); errors.Is(err, syscall.ECONNREFUSED) && t.Context().Err() == nil; {
			<-again.C // it starts
			conn, err = net.Dial("unix", control)
		}
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err = io.WriteString(conn, "reload\n"); err == nil {
			_, err = io.Copy(io.Discard, conn) // it ends when the order has been taken
		}
		if errors.Is(err, syscall.ECONNRESET) {
			err = nil
		}
		return err
	}
	p.configure = func(backend int, cuts bool) string {
		shutdown := ""
		if cuts {
			shutdown = "hard-stop-after 1s"
		}
		return strings.NewReplacer("BACKEND", strconv.Itoa(backend), "SHUTDOWN", shutdown,
			"WSS", strconv.Itoa(p.wss), "WS", strconv.Itoa(p.ws), "BUNDLE", bundleFile(),
		).Replace(`
global
	SHUTDOWN
defaults
	mode http
	timeout connect 10s
	timeout client 60s
	timeout server 60s
	timeout tunnel 1h
frontend websockets
	bind 127.0.0.1:WS
	bind 127.0.0.1:WSS ssl crt BUNDLE
	use_backend idle if { path_beg /idle/ }
	default_backend busy
backend busy
	server wsd 127.0.0.1:BACKEND
backend idle
	timeout tunnel 1s
	server wsd 127.0.0.1:BACKEND
`)
	}
	p.write(t, false)
	p.running = runProgram(t, path, "-W", "-S", control, "-f", p.config)
	t.Cleanup(p.stop)
	p.reachable(t, p.wss)
	return p
}

var reverseProxies = map[string]func(t *testing.T, backend int) *proxy{"nginx": startNginx, "haproxy": startHaproxy}

// TestReverseProxies runs every case with wsd on both sides of a proxy.
func TestReverseProxies(t *testing.T) {
	for name, start := range reverseProxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := peerNamed(t, "wsd").start(t, "server")
			p := start(t, run.ready.WS)
			for _, scheme := range []string{"ws", "wss"} {
				t.Run(scheme, func(t *testing.T) { runCases(t, "proxy", name, dialing(run, p.base(scheme))) })
			}
		})
	}
}

// TestClientsThroughReverseProxies runs every case with another client, and wsd's server behind a proxy.
func TestClientsThroughReverseProxies(t *testing.T) {
	for name, start := range reverseProxies {
		for _, client := range []string{"ws", "websockets"} {
			t.Run(name+"/"+client, func(t *testing.T) {
				t.Parallel()
				run := peerNamed(t, client).start(t, "client")
				s := startServer(t, false)
				p := start(t, portOf(t, s.base))
				for _, scheme := range []string{"ws", "wss"} {
					t.Run(scheme, func(t *testing.T) {
						results.addExtra(t, name, client+"'s client to wsd's server, every case", scheme)
						for _, c := range cases {
							t.Run(c.name, func(t *testing.T) { c.run(t, accepting(run, s, p.base(scheme))) })
						}
					})
				}
			})
		}
	}
}

func portOf(t *testing.T, rawURL string) int {
	t.Helper()
	target, err := url.Parse(rawURL)
	require.NoError(t, err)
	port, err := strconv.Atoi(target.Port())
	require.NoError(t, err)
	return port
}

// bothEnds opens a connection between wsd's client and wsd's server by way of a proxy.
func bothEnds(t *testing.T, s *server, base, path string, opts wsd.DialOptions) (client, serving *wsd.Conn) {
	t.Helper()
	ctx := bounded(t)
	path += newID()
	result := s.expect(path, wsd.AcceptOptions{Config: wsd.Config{PingInterval: -1}})
	if opts.HTTPClient == nil {
		opts.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(t)}}
	}
	client, _, err := wsd.Dial(ctx, base+path, &opts)
	require.NoError(t, err)
	t.Cleanup(client.CloseNow)
	got := <-result
	require.NoError(t, got.err)
	t.Cleanup(got.conn.CloseNow)
	return client, got.conn
}

// talk sends a message each way.
func talk(t *testing.T, a, b *wsd.Conn) {
	t.Helper()
	ctx := bounded(t)
	for range 2 {
		require.NoError(t, a.Send(ctx, wsd.Text("hello")))
		msg, err := b.Receive(ctx)
		require.NoError(t, err)
		require.Equal(t, wsd.Text("hello"), msg)
		a, b = b, a
	}
}

// cut expects that a connection ends without a close frame.
func cut(t *testing.T, conn *wsd.Conn) {
	t.Helper()
	select {
	case <-conn.Closed():
	case <-bounded(t).Done():
		require.FailNow(t, "the connection did not end")
	}
	event := conn.CloseEvent()
	require.Equal(t, wsd.StatusAbnormalClosure, event.Code)
	require.False(t, event.Clean)
	_, err := conn.Receive(t.Context())
	require.ErrorIs(t, err, wsd.ErrClosed)
}

func withPings(every time.Duration) wsd.DialOptions {
	return wsd.DialOptions{Config: wsd.Config{PingInterval: every, PongTimeout: -1}}
}

// TestIdleTimeoutOfReverseProxies has a proxy end connections on which nothing travels, and spare those with a keepalive.
func TestIdleTimeoutOfReverseProxies(t *testing.T) {
	for name, start := range reverseProxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, false)
			p := start(t, portOf(t, s.base))
			for _, scheme := range []string{"ws", "wss"} {
				t.Run(scheme, func(t *testing.T) {
					results.addExtra(t, name, "idle timeout of 1 s, without a keepalive and with one", scheme)
					idleTimeout(t, s, p.base(scheme))
				})
			}
		})
	}
}

func idleTimeout(t *testing.T, s *server, base string) {
	t.Helper()
	alive, aliveServing := bothEnds(t, s, base, "/idle", withPings(100*time.Millisecond))
	idle, idleServing := bothEnds(t, s, base, "/idle", withPings(-1))
	talk(t, idle, idleServing)
	// The one that began later has been idle for the whole second when it ends.
	cut(t, idle)
	cut(t, idleServing)
	talk(t, alive, aliveServing)
	require.NoError(t, alive.Close(4000, "done"))
	<-aliveServing.Closed()
	require.Equal(t, wsd.StatusCode(4000), aliveServing.CloseEvent().Code)
}

// TestReloadOfReverseProxies reloads a proxy while connections are open: they go on, or end as the proxy is told.
func TestReloadOfReverseProxies(t *testing.T) {
	for name, start := range reverseProxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, scheme := range []string{"ws", "wss"} {
				t.Run(scheme, func(t *testing.T) {
					s := startServer(t, false)
					p := start(t, portOf(t, s.base))
					results.addExtra(t, name, "reload while connections are open, which are spared, then cut", scheme)
					before, beforeServing := bothEnds(t, s, p.base(scheme), "", wsd.DialOptions{})
					talk(t, before, beforeServing)
					p.write(t, true)
					p.reload(t)
					talk(t, before, beforeServing)
					after, afterServing := bothEnds(t, s, p.base(scheme), "", wsd.DialOptions{})
					talk(t, after, afterServing)
					require.NoError(t, before.Close(4001, "moving"))
					<-beforeServing.Closed()
					require.Equal(t, wsd.CloseEvent{Code: 4001, Reason: "moving", SentCode: 4001, Clean: true, Err: beforeServing.CloseEvent().Err},
						beforeServing.CloseEvent())

					p.reload(t)
					cut(t, after)
					cut(t, afterServing)
					again, againServing := bothEnds(t, s, p.base(scheme), "", wsd.DialOptions{})
					talk(t, again, againServing)
				})
			}
		})
	}
}

// tinyproxy starts a proxy that wants a name and a password, and returns its URL with them.
func tinyproxy(t *testing.T) (*running, *url.URL) {
	t.Helper()
	path := program(t, "tinyproxy")
	results.version("tinyproxy", versionOf(t, path, "-v"))
	port := freePort(t)
	config := filepath.Join(t.TempDir(), "tinyproxy.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
Port %d
Listen 127.0.0.1
Timeout 600
Allow 127.0.0.1
LogLevel Connect
BasicAuth somebody secret
`, port), 0o600))
	r := runProgram(t, path, "-d", "-c", config)
	r.reachable(t, port)
	return r, &url.URL{Scheme: "http", User: url.UserPassword("somebody", "secret"), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
}

// TestConnectProxy runs every case through a tunnel.
func TestConnectProxy(t *testing.T) {
	t.Parallel()
	program, proxy := tinyproxy(t)
	run := peerNamed(t, "wsd").start(t, "server")
	for scheme, port := range map[string]int{"ws": run.ready.WS, "wss": run.ready.WSS} {
		target := fmt.Sprintf("127.0.0.1:%d", port)
		t.Run(scheme, func(t *testing.T) {
			runCases(t, "proxy", "tinyproxy", dialingThrough(run, scheme+"://"+target, proxy))
			require.Contains(t, program.output.String(), "CONNECT "+target)
		})
		t.Run(scheme+" without the password", func(t *testing.T) {
			results.addExtra(t, "tinyproxy", "CONNECT without a password is refused with 407", scheme)
			stranger := *proxy
			stranger.User = nil
			_, _, err := wsd.Dial(bounded(t), scheme+"://"+target, &wsd.DialOptions{HTTPClient: &http.Client{
				Transport: &http.Transport{TLSClientConfig: clientTLS(t), Proxy: http.ProxyURL(&stranger)},
			}})
			var refused *wsd.HandshakeError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, "Proxy Authentication Required")
		})
	}
}
