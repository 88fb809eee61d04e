// Package serve is the verb serve: a server that echoes, broadcasts, runs programs or is a bridge to TCP.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
)

// options are the verb's flags.
type options struct {
	echo         bool
	broadcast    bool
	exec         string
	tcp          string
	dir          string
	binary       bool
	selfSigned   bool
	certFile     string
	keyFile      string
	origins      []string
	subprotocols []string
	compress     bool
	maxSize      int64
	pingInterval time.Duration
	limits       wsd.Limits
	log          string
	quiet        bool
	nodes        nodes
}

// Command returns the verb.
func Command() *cli.Command {
	return &cli.Command{
		Name: "serve", Args: "[ADDR]",
		Summary: "echo, broadcast, run programs, or bridge to TCP",
		Text: "It listens on 127.0.0.1:8080 unless told otherwise: 9000 and :9000 are ports of 127.0.0.1, 0.0.0.0:9000 is one of all " +
			"addresses, unix:PATH a socket. Web pages of other origins are refused unless -origin lets them in. Beside WebSockets it answers /debug/vars " +
			"with its counters as JSON and /metrics in Prometheus' format. Each connection is a line in the log when it ends.",
		Examples: []cli.Example{
			{Line: "wsd serve", Does: "echo on ws://127.0.0.1:8080/"},
			{Line: "wsd serve -exec 'bc -l' 9000", Does: "lines to a program, and back"},
			{Line: "wsd serve -tcp 127.0.0.1:5900 -dir novnc", Does: "VNC for browsers, with the pages for it"},
			{Line: "wsd serve -broadcast 0.0.0.0:8080", Does: "what comes to a path goes to all who are there"},
			{Line: "wsd serve -broadcast -cluster 6222 8080", Does: "the same by many processes: the first of them"},
			{Line: "wsd serve -broadcast -cluster 6223 -join 6222 8081", Does: "and one more"},
			{Line: "wsd serve -tls -log json", Does: "wss, with a certificate made now"},
			{Line: "wsd serve -origin 'https://*.example.com'", Does: "let pages of these origins connect"},
		},
		Meant: map[string]string{
			"l": "the address needs no flag: wsd serve 8080", "listen": "the address needs no flag: wsd serve 8080",
			"p": "the port needs no flag: wsd serve 8080", "port": "the port needs no flag: wsd serve 8080",
			"staticdir": "-dir DIR serves files", "web": "-dir DIR serves files", "ssl": "-tls makes a certificate, -cert and -key take yours",
			"json": "-log json is it",
		},
		New: func(f *cli.Flags) func(context.Context, cli.Env, []string) error {
			o := &options{log: "text"}
			o.declare(f)
			return func(ctx context.Context, env cli.Env, args []string) error { return o.run(ctx, env, args) }
		},
	}
}

func (o *options) declare(f *cli.Flags) {
	f.Group("What is served")
	f.Bool(&o.echo, "echo", "send every message back; that is what happens by default").Common()
	f.Bool(&o.broadcast, "broadcast", "send every message to all who are connected to the same path").Common()
	f.String(&o.exec, "exec", "'CMD ARGS'", "run a program for each connection, with lines as messages").Common()
	f.Bool(&o.binary, "binary", "with -exec: bytes as binary messages, not lines")
	f.String(&o.tcp, "tcp", "HOST:PORT", "bridge to a TCP server; binary messages are its byte stream").Common()
	f.String(&o.dir, "dir", "DIR", "serve files, too").Common().File()
	o.nodes.declare(f)
	f.Group("Who may connect")
	f.Strings(&o.origins, "origin", "ORIGIN", "let web pages of an origin connect, * for any, repeatable").Common()
	f.Strings(&o.subprotocols, "subprotocol", "NAME", "a subprotocol to agree on, repeatable")
	f.Int(&o.limits.Connections, "max-conns", "COUNT", "at most so many connections", 1).Common()
	f.Int(&o.limits.AddressConnections, "max-conns-per-address", "COUNT", "at most so many from one address", 1)
	f.Float(&o.limits.AddressHandshakes, "rate-per-address", "NUMBER", "at most so many handshakes a second from one address")
	f.Group("Connections")
	f.Bool(&o.compress, "compress", "agree to permessage-deflate").Common()
	f.Size(&o.maxSize, "max-size", "the longest message to take; 0 means 64 MiB - 1")
	f.Duration(&o.pingInterval, "ping-interval", "the time between pings; 0 means 30s")
	f.Group("TLS and logs")
	f.Bool(&o.selfSigned, "tls", "serve wss, with a certificate made now unless -cert has one").Common()
	f.String(&o.certFile, "cert", "FILE", "serve wss with this certificate, PEM").File()
	f.String(&o.keyFile, "key", "FILE", "its key, PEM, where that is not in the same file").File()
	f.Choice(&o.log, "log", "how to log", "text", "json").Common()
	f.Bool(&o.quiet, "q", "log errors only")
}

// check finds flags that contradict each other.
func (o *options) check() error {
	var modes []string
	for _, mode := range []struct {
		name string
		set  bool
	}{{"-echo", o.echo}, {"-broadcast", o.broadcast}, {"-exec", o.exec != ""}, {"-tcp", o.tcp != ""}} {
		if mode.set {
			modes = append(modes, mode.name)
		}
	}
	switch {
	case len(modes) > 1:
		return cli.Usagef("%s: expected one of them", strings.Join(modes, " and "))
	case o.binary && o.exec == "":
		return cli.Usagef("-binary: expected -exec, too")
	case o.keyFile != "" && o.certFile == "":
		return cli.Usagef("-key: expected -cert, too")
	}
	if err := o.nodes.check(o.broadcast); err != nil {
		return err
	}
	if o.tcp != "" {
		if host, port, err := net.SplitHostPort(o.tcp); err != nil || host == "" || !isPort(port) {
			return cli.Usagef("-tcp: expected HOST:PORT, got %q", o.tcp)
		}
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// Address returns network and address of what was typed.
func Address(typed string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(typed, "unix:"); ok && path != "" {
		return "unix", path, nil
	}
	if strings.Trim(typed, "0123456789") == "" {
		typed = ":" + typed
	}
	host, port, err := net.SplitHostPort(typed)
	if err != nil && !strings.Contains(typed, ":") {
		host, port, err = typed, "8080", nil
	}
	if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil {
		return "", "", cli.Usagef("expected an address such as 8080, 0.0.0.0:8080 or unix:PATH, got %q", typed)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

func (o *options) run(ctx context.Context, env cli.Env, args []string) error {
	if err := cli.Operands("an address at most", args, 0, 1); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	typed := "127.0.0.1:8080"
	if len(args) > 0 {
		typed = args[0]
	}
	network, address, err := Address(typed)
	if err != nil {
		return err
	}
	security, err := o.tls(address)
	if err != nil {
		return err
	}
	s := &server{options: o, log: cli.Logger(env, o.log, o.quiet), ws: &wsd.Server{Limits: o.limits}}
	s.ws.Logger = s.log
	s.ws.AcceptOptions = o.accept()
	if s.files, err = openDir(o.dir); err != nil {
		return cli.Usagef("-dir: %v", err)
	}
	if err := s.nodes.open(s.log); err != nil {
		return err
	}
	defer s.nodes.close()
	if s.serve, err = s.mode(); err != nil {
		return err
	}
	listener, err := Listen(network, address)
	if err != nil {
		return err
	}
	scheme := "ws"
	if security.Config != nil {
		scheme = "wss"
		fmt.Fprintf(env.Stderr, "certificate %s\n", security.Fingerprint)
		listener = tls.NewListener(listener, security.Config)
	}
	where := fmt.Sprintf("%s://%s/", scheme, listener.Addr())
	if network == "unix" {
		where = "unix:" + address
	}
	fmt.Fprintf(env.Stderr, "listening on %s, %s\n", where, s.what())
	return s.run(ctx, listener)
}

// Listen listens. A unix socket that nobody serves any more is taken over.
func Listen(network, address string) (net.Listener, error) {
	listener, err := net.Listen(network, address)
	if err == nil || network != "unix" {
		return listener, err
	}
	if conn, dialErr := net.Dial(network, address); dialErr == nil {
		conn.Close()
		return nil, err
	}
	if info, statErr := os.Stat(address); statErr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	if os.Remove(address) != nil {
		return nil, err
	}
	return net.Listen(network, address)
}

func (o *options) accept() wsd.AcceptOptions {
	accept := wsd.AcceptOptions{
		Config:       wsd.Config{MaxMessageSize: o.maxSize, PingInterval: o.pingInterval},
		Subprotocols: o.subprotocols,
		Origins:      o.origins,
	}
	if o.tcp != "" && len(o.subprotocols) == 0 {
		accept.Subprotocols = []string{"binary"} // what VNC clients in browsers ask for
	}
	if o.compress {
		accept.Compression = &wsd.Compression{}
	}
	return accept
}

// run serves until ctx is done, and then ends all connections with the closing handshake.
func (s *server) run(ctx context.Context, listener net.Listener) error {
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	web.RegisterOnShutdown(func() { _ = s.ws.Shutdown(limit) })
	err := errors.Join(web.Shutdown(limit), s.ws.Shutdown(limit))
	<-failed
	return err
}
