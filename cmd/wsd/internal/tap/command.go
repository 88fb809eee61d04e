// Package tap is the verb tap: a proxy between any client and any server that shows every frame of both directions. The bytes
// behind the handshake pass as they came.
package tap

import (
	"context"
	"crypto/tls"
	"fmt"
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
	address, err := client.URL(args[1])
	if err != nil {
		return err
	}
	target, err := url.Parse(address)
	if err != nil {
		return err
	}
	p := &proxy{target: target, keepHost: o.keepHost, sinks: &sinks{notes: env.Stderr}}
	if p.security, err = o.TLS(); err != nil {
		return err
	}
	network, listen, err := serve.Address(args[0])
	if err != nil {
		return err
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
	listener, err := serve.Listen(network, listen)
	if err != nil {
		return err
	}
	scheme := "ws"
	if o.selfSigned || o.certFile != "" {
		security, err := serve.Certificate(o.certFile, o.keyFile, listen)
		if err != nil {
			return err
		}
		fmt.Fprintf(env.Stderr, "certificate %s\n", security.Fingerprint)
		listener, scheme = tls.NewListener(listener, security.Config), "wss"
	}
	where := fmt.Sprintf("%s://%s/", scheme, listener.Addr())
	if network == "unix" {
		where = "unix:" + listen
	}
	fmt.Fprintf(env.Stderr, "listening on %s, passing on to %s\n", where, target.Redacted())
	if p.sinks.page != nil {
		stop, address, err := p.sinks.page.serve(o.uiPort)
		if err != nil {
			return fmt.Errorf("-ui: %w", err)
		}
		defer stop()
		fmt.Fprintf(env.Stderr, "frames are shown at %s\n", address)
	}
	err = p.serve(ctx, listener)
	select {
	case failure := <-broken:
		return failure
	default:
		return err
	}
}

// open opens what takes the events.
func (o *options) open(s *sinks, env cli.Env, failed func(error)) (closeAll func(), err error) {
	var closers []func()
	if !o.quiet {
		s.lines, s.colours = newSpool(env.Stdout, failed), tty.Colours(env.Stdout)
		closers = append(closers, s.lines.close)
	}
	if o.record != "" {
		f, err := os.OpenFile(o.record, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err == nil {
			err = f.Chmod(0o600) // it may have been there
		}
		if err != nil {
			return nil, fmt.Errorf("-record: %w", err)
		}
		s.record = newSpool(f, func(err error) { failed(fmt.Errorf("-record: %w", err)) })
		closers = append(closers, func() { s.record.close(); f.Close() })
	}
	if o.ui {
		s.page = newGallery()
	}
	return func() {
		for _, c := range closers {
			c()
		}
	}, nil
}
