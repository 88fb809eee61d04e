// Package tap is the verb tap: a proxy between any client and any server that shows every frame of both directions. The bytes
// behind the handshake pass as they came.
package tap

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"

	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
	"github.com/seed62836080/wsd/cmd/wsd/internal/serve"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// options are the verb's flags.
type options struct {
	client.Options
	record     string
	ui         bool
	uiPort     int
	json       bool
	quiet      bool
	keepHost   bool
	selfSigned bool
	certFile   string
	keyFile    string
}

// Command returns the verb.
func Command() *cli.Command {
	return &cli.Command{
		Name: "tap", Args: "LISTEN URL",
		Summary: "a proxy that shows every frame between a client and a server",
		Text: "Clients connect to LISTEN instead of the URL. Each frame is a line: when, which connection, which way, what, how long " +
			"(compressed and inflated), and its beginning; pongs say how long the round trip took, and what breaks the protocol is marked with !. " +
			"In the handshake, Host and an Origin of the proxy's own become the target's unless -keep-host; everything behind it " +
			"passes as it came, whatever it breaks. -record writes all of it for wsd replay, readable by you alone, as it holds cookies; -ui shows it in a browser.",
		Examples: []cli.Example{
			{Line: "wsd tap 9000 wss://example.com/feed", Does: "then connect to ws://127.0.0.1:9000"},
			{Line: "wsd tap -ui 9000 ws://127.0.0.1:8080", Does: "in the browser"},
			{Line: "wsd tap -record FILE 9000 URL", Does: "for wsd replay FILE URL"},
			{Line: "wsd tap -tls 9000 URL", Does: "TLS towards clients, too, with a certificate made now"},
		},
		Meant: map[string]string{"l": "the address needs no flag: wsd tap PORT URL", "o": "-record FILE writes a file", "w": "-record FILE writes a file"},
		New: func(f *cli.Flags) func(context.Context, cli.Env, []string) error {
			o := new(options)
			o.declare(f)
			return func(ctx context.Context, env cli.Env, args []string) error { return o.run(ctx, env, args) }
		},
	}
}

func (o *options) declare(f *cli.Flags) {
	f.Group("What becomes of frames")
	f.Bool(&o.ui, "ui", "show them in a browser, at an address that is printed").Common()
	f.Int(&o.uiPort, "ui-port", "PORT", "the port of that page, on 127.0.0.1; 0 is any that is free", 0)
	f.String(&o.record, "record", "FILE", "write them as JSON, a line for each").Common().File()
	f.Bool(&o.json, "json", "write JSON in place of lines for people").Common()
	f.Bool(&o.quiet, "q", "write no lines").Common()
	f.Group("Towards the server")
	f.Bool(&o.keepHost, "keep-host", "pass Host and Origin on as they came").Common()
	o.DeclareTLS(f)
	f.Group("Towards clients")
	f.Bool(&o.selfSigned, "tls", "speak TLS, with a certificate made now unless -listen-cert has one").Common()
	f.String(&o.certFile, "listen-cert", "FILE", "speak TLS with this certificate, PEM").Common().File()
	f.String(&o.keyFile, "listen-key", "FILE", "its key, PEM, where that is not in the same file").File()
}

func (o *options) run(ctx context.Context, env cli.Env, args []string) error {
	if err := cli.Operands("LISTEN and a URL", args, 2, 2); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	address, err := client.URL(args[1])
	if err != nil {
		return err
	}
	target, err := url.Parse(address)
	if err != nil {
		return err
	}
	if target.User != nil {
		return cli.Usagef("the URL %q: expected no user in it, as what clients send is passed on", target.Redacted())
	}
	p := &proxy{target: target, keepHost: o.keepHost, sinks: &sinks{notes: env.Stderr}}
	if p.security, err = o.TLS(); err != nil {
		return err
	}
	listener, where, err := o.listen(env, args[0])
	if err != nil {
		return err
	}
	defer listener.Close()
	shown := ""
	if o.ui {
		p.sinks.page = newGallery()
		stop, address, err := p.sinks.page.serve(o.uiPort)
		if err != nil {
			return fmt.Errorf("-ui: %w", err)
		}
		defer stop()
		shown = fmt.Sprintf("frames are shown at %s\n", address)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	broken := make(chan error, 2) // outputs that failed
	closeSinks, err := o.open(p.sinks, env, func(err error) {
		broken <- err
		cancel()
	})
	if err != nil {
		return err
	}
	defer closeSinks()
	fmt.Fprintf(env.Stderr, "listening on %s, passing on to %s\n%s", where, target, shown)
	err = p.serve(ctx, listener)
	select {
	case failure := <-broken:
		return failure
	default:
		return err
	}
}

// listen listens for clients, and returns where.
func (o *options) listen(env cli.Env, typed string) (listener net.Listener, where string, err error) {
	network, address, err := serve.Address(typed)
	if err != nil {
		return nil, "", err
	}
	scheme, security := "ws", serve.Security{}
	if o.selfSigned || o.certFile != "" {
		scheme = "wss"
		if security, err = serve.Certificate("listen-", o.certFile, o.keyFile, address); err != nil {
			return nil, "", err
		}
	}
	if listener, err = serve.Listen(network, address); err != nil {
		return nil, "", err
	}
	where = fmt.Sprintf("%s://%s/", scheme, listener.Addr())
	if network == "unix" {
		where = "unix:" + address
	}
	if security.Config != nil {
		fmt.Fprintf(env.Stderr, "certificate %s\n", security.Fingerprint)
		listener = tls.NewListener(listener, security.Config)
	}
	return listener, where, nil
}

// check finds flags that contradict each other.
func (o *options) check() error {
	switch {
	case o.json && o.quiet:
		return cli.Usagef("-json and -q: expected one of them")
	case o.uiPort != 0 && !o.ui:
		return cli.Usagef("-ui-port: expected -ui, too")
	case o.uiPort > 65535:
		return cli.Usagef("-ui-port: expected a port up to 65535, got %d", o.uiPort)
	case o.keyFile != "" && o.certFile == "":
		return cli.Usagef("-listen-key: expected -listen-cert, too")
	}
	return nil
}

// openRecord opens a file that its owner alone may read. A device or a pipe stays as it is.
func openRecord(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = f.Chmod(0o600) // it may have been there
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open opens what takes the events.
func (o *options) open(s *sinks, env cli.Env, failed func(error)) (closeAll func(), err error) {
	var closers []func()
	switch {
	case o.json:
		r := record{newSpool(env.Stdout, failed), tty.Is(env.Stdout)}
		s.records = append(s.records, r)
		closers = append(closers, r.close)
	case !o.quiet:
		s.lines, s.colours = newSpool(env.Stdout, failed), tty.Colours(env.Stdout)
		closers = append(closers, s.lines.close)
	}
	if o.record != "" {
		f, err := openRecord(o.record)
		if err != nil {
			return nil, fmt.Errorf("-record: %w", err)
		}
		r := record{newSpool(f, func(err error) { failed(fmt.Errorf("-record: %w", err)) }), tty.Is(f)}
		s.records = append(s.records, r)
		closers = append(closers, func() { r.close(); f.Close() })
	}
	return func() {
		for _, c := range closers {
			c()
		}
	}, nil
}
