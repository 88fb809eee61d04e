// Package tunnel is the verb tunnel: a local TCP port whose connections go through WebSockets, the other end of serve -tcp.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
	"github.com/seed62836080/wsd/cmd/wsd/internal/serve"
	"github.com/seed62836080/wsd/cmd/wsd/internal/stream"
)

// options are the verb's flags.
type options struct {
	client.Options
	log   string
	quiet bool
}

// Command returns the verb.
func Command() *cli.Command {
	return &cli.Command{
		Name: "tunnel", Args: "LISTEN URL",
		Summary: "a local port through a WebSocket: the other end of serve -tcp",
		Text: "Each connection to LISTEN becomes a WebSocket to the URL, whose binary messages are the byte stream both ways, as websockify and " +
			"wsd serve -tcp have it. LISTEN is a port of 127.0.0.1, an address with a port, unix:PATH, or - for the standard input and output, as " +
			"ssh's ProxyCommand wants it. A WebSocket ends as a whole: when one side has ended its bytes, the other " +
			"side's end there, too, behind what has been sent.",
		Examples: []cli.Example{
			{Line: "wsd tunnel 5900 wss://example.com/vnc", Does: "a VNC viewer connects to port 5900"},
			{Line: "ssh -o ProxyCommand='wsd tunnel - URL' me@host", Does: "ssh through it"},
			{Line: "wsd tunnel unix:mqtt.sock URL -subprotocol mqtt", Does: "from a unix socket"},
		},
		Meant: map[string]string{
			"L": "the address needs no flag: wsd tunnel PORT URL", "l": "the address needs no flag: wsd tunnel PORT URL", "json": "-log json is it",
		},
		New: func(f *cli.Flags) func(context.Context, cli.Env, []string) error {
			o := &options{log: "text"}
			o.Declare(f)
			o.DeclareConfig(f)
			f.Group("Logs")
			f.Choice(&o.log, "log", "how to log", "text", "json").Common()
			f.Bool(&o.quiet, "q", "log errors only").Common()
			return func(ctx context.Context, env cli.Env, args []string) error { return o.run(ctx, env, args) }
		},
	}
}

func (o *options) run(ctx context.Context, env cli.Env, args []string) error {
	if err := cli.Operands("LISTEN and a URL", args, 2, 2); err != nil {
		return err
	}
	target, err := client.URL(args[1])
	if err != nil {
		return err
	}
	dial, err := o.DialOptions()
	if err != nil {
		return err
	}
	if len(dial.Subprotocols) == 0 {
		dial.Subprotocols = []string{"binary"} // some bridges for VNC insist on it
	}
	t := &tunnel{target: target, dial: dial, log: cli.Logger(env, o.log, o.quiet)}
	if args[0] == "-" {
		err := t.single(ctx, env)
		return errors.Join(err, o.SaveCookies())
	}
	network, address, err := serve.Address(args[0])
	if err != nil {
		return err
	}
	listener, err := serve.Listen(network, address)
	if err != nil {
		return err
	}
	where := listener.Addr().String()
	if network == "unix" {
		where = "unix:" + address
	}
	fmt.Fprintf(env.Stderr, "listening on %s, tunnel to %s\n", where, client.Shown(target))
	err = t.serve(ctx, listener)
	return errors.Join(err, o.SaveCookies())
}

// tunnel is the verb at work.
type tunnel struct {
	target string
	dial   *wsd.DialOptions
	log    *slog.Logger
}

// serve takes connections until ctx is done, closes those that are left, and waits for their end.
func (t *tunnel) serve(ctx context.Context, listener net.Listener) error {
	var connections sync.WaitGroup
	defer connections.Wait()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	pause := time.Millisecond
	for {
		raw, err := listener.Accept()
		switch {
		case err == nil:
			pause = time.Millisecond
			connections.Go(func() { t.connection(ctx, raw) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // too many open files, say
			t.log.Error("a connection cannot be accepted", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, time.Second)
		}
	}
}

// connection passes one connection on.
func (t *tunnel) connection(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	began := time.Now()
	conn, _, err := wsd.Dial(ctx, t.target, t.dial)
	if err != nil {
		t.log.Error("no connection to the server", "from", raw.RemoteAddr().String(), "error", client.Describe(err))
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.StartClose(wsd.StatusGoingAway, "") })
	defer stop()
	err = stream.Couple(conn, raw)
	<-conn.Closed()
	stats := conn.Stats()
	attributes := []any{"from", raw.RemoteAddr().String(), "took", time.Since(began).Round(time.Microsecond), "sent_bytes", stats.BytesSent,
		"received_bytes", stats.BytesReceived, "end", conn.CloseEvent()}
	if err != nil {
		attributes = append(attributes, "error", err)
	}
	t.log.Info("connection", attributes...)
}

// single passes the standard input and output on.
func (t *tunnel) single(ctx context.Context, env cli.Env) error {
	conn, _, err := wsd.Dial(ctx, t.target, t.dial)
	if err != nil {
		return errors.New(client.Describe(err))
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.StartClose(wsd.StatusNormalClosure, "") })
	defer stop()
	go stream.Send(conn, env.Stdin) // may stay in a read until the process ends
	err = stream.Receive(conn, env.Stdout)
	<-conn.Closed()
	return err
}
