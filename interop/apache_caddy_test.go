// apache_caddy_test.go has connections go through Apache and Caddy, which do not reload as nginx and haproxy do.

package interop

import (
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// startApache starts Apache, which takes HTTP/2 at its port of TLS.
func startApache(t *testing.T, backend int) *proxy {
	t.Helper()
	return startApacheWith(t, backend, 60)
}

// startApacheWith says after how many idle seconds it ends a connection.
func startApacheWith(t *testing.T, backend, idle int) *proxy {
	t.Helper()
	path := program(t, "apache2")
	results.version("apache", versionOf(t, path, "-v"))
	me, err := user.Current()
	require.NoError(t, err)
	name, group := me.Username, "#"+me.Gid
	if me.Uid == "0" { // as which it does not serve
		name, group = "www-data", "www-data"
	}
	dir := t.TempDir()
	p := &proxy{name: "apache", ws: freePort(t), wss: freePort(t), backend: backend, config: filepath.Join(dir, "apache.conf")}
	p.configure = func(backend int, _ bool) string {
		return strings.NewReplacer("DIR", dir, "USER", name, "GROUP", group, "BACKEND", strconv.Itoa(backend), "IDLE", strconv.Itoa(idle),
			"WSS", strconv.Itoa(p.wss), "WS", strconv.Itoa(p.ws), "CERTIFICATE", certificateFile(), "KEY", keyFile(),
		).Replace(`
ServerRoot DIR
DefaultRuntimeDir DIR
PidFile DIR/pid
ErrorLog /dev/stderr
User USER
Group GROUP
Timeout IDLE
ServerName localhost
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
Listen 127.0.0.1:WS
Listen 127.0.0.1:WSS
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:BACKEND/ upgrade=websocket
<VirtualHost 127.0.0.1:WS>
</VirtualHost>
<VirtualHost 127.0.0.1:WSS>
	Protocols h2 http/1.1
	H2WebSockets on
	SSLEngine on
	SSLCertificateFile CERTIFICATE
	SSLCertificateKeyFile KEY
</VirtualHost>
`)
	}
	p.write(t, false)
	p.running = runProgram(t, path, "-DFOREGROUND", "-f", p.config)
	t.Cleanup(p.stop)
	p.reachable(t, p.wss)
	return p
}

// startCaddy starts Caddy.
func startCaddy(t *testing.T, backend int) *proxy {
	t.Helper()
	path := program(t, "caddy")
	results.version("caddy", versionOf(t, path, "version"))
	dir := t.TempDir()
	p := &proxy{name: "caddy", ws: freePort(t), wss: freePort(t), backend: backend, config: filepath.Join(dir, "Caddyfile")}
	p.configure = func(backend int, _ bool) string {
		return strings.NewReplacer("DIR", dir, "BACKEND", strconv.Itoa(backend),
			"WSS", strconv.Itoa(p.wss), "WS", strconv.Itoa(p.ws), "CERTIFICATE", certificateFile(), "KEY", keyFile(),
		).Replace(`
{
	admin off
	auto_https off
	storage file_system DIR
}
http://127.0.0.1:WS {
	reverse_proxy 127.0.0.1:BACKEND
}
https://127.0.0.1:WSS {
	tls CERTIFICATE KEY
	reverse_proxy 127.0.0.1:BACKEND
}
`)
	}
	p.write(t, false)
	p.running = runProgram(t, path, "run", "--config", p.config, "--adapter", "caddyfile")
	t.Cleanup(p.stop)
	p.reachable(t, p.wss)
	return p
}

// TestApacheAndCaddy runs every case with wsd on both sides of them.
func TestApacheAndCaddy(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, backend int) *proxy{"apache": startApache, "caddy": startCaddy} {
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

// TestApacheTranslates runs every case over HTTP/2 at Apache, which speaks HTTP/1.1 with the server.
func TestApacheTranslates(t *testing.T) {
	t.Parallel()
	run := peerNamed(t, "wsd").start(t, "server")
	p := startApache(t, run.ready.WS)
	results.addExtra(t, "apache", "every case but the server's end without a close, from HTTP/2 at the client to HTTP/1.1 at the server", "wss")
	for _, c := range cases {
		if c.name == "end by the peer without a close" {
			continue // Apache does not pass it on over HTTP/2: only pings that are not answered tell
		}
		t.Run(c.name, func(t *testing.T) { c.run(t, dialingHTTP2(run, p.base("wss"))) })
	}
}

// TestIdleTimeoutOfApache has Apache end connections on which nothing travels, and spare those with a keepalive.
func TestIdleTimeoutOfApache(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	p := startApacheWith(t, portOf(t, s.base), 1)
	results.addExtra(t, "apache", "idle timeout of 1 s, without a keepalive and with one", "ws")
	idleTimeout(t, s, p.base("ws"))
}
