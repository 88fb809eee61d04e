// Package dial is the verb dial: a connection for people at a terminal, for pipes and for scripts.
package dial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
)

// options are the verb's flags.
type options struct {
	client.Options
	texts     []string
	count     int
	limit     time.Duration
	wait      time.Duration
	binary    bool
	whole     bool
	hex       bool
	pretty    bool
	nul       bool
	json      bool
	times     bool
	quiet     bool
	verbose   bool
	showPings bool
	stream    string
	reconnect bool
	preamble  []string
}

// Command returns the verb.
func Command() *cli.Command {
	return &cli.Command{
		Name: "dial", Args: "URL",
		Summary: "talk to a server, by hand or from a script",
		Text: "On a terminal, what is typed is sent line by line, and what comes is shown as it comes: > is sent, < has been " +
			"received, * is about the connection. Lines that begin with / are commands, /help lists them. Otherwise each line of the " +
			"standard input is a message, and each message that comes is a line of the standard output. The connection is closed behind " +
			"the last line once as many messages have come as were sent, or none has come for the time of -wait; with /dev/null as standard input it only listens. A URL without a scheme is ws://, and " +
			":8080 is ws://127.0.0.1:8080. The exit status is 1 if the connection failed, was closed with a code other than 1000, " +
			"1001 and 1005, or before everything was sent and answered.",
		Examples: []cli.Example{
			{Line: "wsd dial wss://example.com/feed", Does: "talk by hand, /help in there"},
			{Line: "wsd dial -x '{\"id\":1}' :8080/rpc", Does: "send, print the answer"},
			{Line: "wsd dial -n 10 -jsonpp URL", Does: "print ten messages"},
			{Line: "tail -f log | wsd dial -reconnect URL", Does: "a message for each line"},
			{Line: "wsd dial -binary -whole URL < photo.jpg", Does: "a file as one message"},
			{Line: "wsd dial -json URL | jq .data", Does: "for programs: a JSON object for each message"},
			{Line: "wsd dial -v -H 'X-Key: 1' -subprotocol mqtt URL", Does: "show the handshake of both sides"},
		},
		Meant: map[string]string{
			"c": "the URL needs no flag: wsd dial URL", "connect": "the URL needs no flag: wsd dial URL", "l": "wsd serve is what listens",
			"listen": "wsd serve is what listens", "k": "-insecure accepts any certificate", "no-check": "-insecure accepts any certificate",
			"header": "-H 'NAME: VALUE' adds a header field", "s": "-subprotocol NAME asks for one", "protocol": "-subprotocol NAME asks for one",
			"o": "-origin ORIGIN is it", "execute": "-x TEXT sends a text", "w": "-for TIME ends after a time",
			"P": "-ping-interval TIME pings", "p": "-proxy URL or -subprotocol NAME?", "b": "-binary sends binary messages", "t": "text is what is sent unless -binary is given",
			"1": "-n 1 ends behind one message", "E": "the end of either side ends both already", "ca": "-cacert FILE trusts an authority",
			"passphrase": "keys with a passphrase are not read: openssl pkey takes it off",
		},
		New: func(f *cli.Flags) func(context.Context, cli.Env, []string) error {
			o := &options{wait: time.Second}
			o.declare(f)
			return func(ctx context.Context, env cli.Env, args []string) error { return o.run(ctx, env, args) }
		},
	}
}

func (o *options) declare(f *cli.Flags) {
	f.Group("What is sent and shown")
	f.Strings(&o.texts, "x", "TEXT", "send a text and print what answers it, repeatable").Common()
	f.Int(&o.count, "n", "COUNT", "end behind so many messages", 1).Common()
	f.Duration(&o.limit, "for", "end after a time").Common()
	f.Duration(&o.wait, "wait", "how long to wait for answers behind the last line")
	f.Bool(&o.binary, "binary", "send binary messages").Common()
	f.Bool(&o.whole, "whole", "send the whole standard input as one message, of any size")
	f.Bool(&o.hex, "hex", "type and show binary messages as hexadecimal digits")
	f.Bool(&o.pretty, "jsonpp", "show JSON with indentation").Common()
	f.Bool(&o.nul, "0", "messages end with a zero byte, not a line end")
	f.Bool(&o.json, "json", "write a JSON object for each message, and for the end").Common()
	f.String(&o.stream, "stream", "FILE", "write messages to a file, of any size and with little memory, one behind the other").File()
	f.Bool(&o.times, "time", "show when each message was sent or came")
	f.Bool(&o.quiet, "q", "do not tell how the connection was closed, unless it failed")
	f.Bool(&o.verbose, "v", "show the handshake of both sides").Common()
	o.Declare(f)
	o.DeclareConfig(f)
	f.Bool(&o.showPings, "show-pings", "show pings and pongs, with their round trips")
	f.Bool(&o.reconnect, "reconnect", "connect again whenever the connection ends").Common()
	f.Strings(&o.preamble, "preamble", "TEXT", "send a text first on every connection, repeatable")
}

func (o *options) run(ctx context.Context, env cli.Env, args []string) error {
	if err := cli.Operands("a URL", args, 1, 1); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	target, err := client.URL(args[0])
	if err != nil {
		return err
	}
	dial, err := o.DialOptions()
	if err != nil {
		return err
	}
	if o.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.limit, errOver)
		defer cancel()
	}
	d := &dialer{options: o, target: target, dial: dial, stderr: env.Stderr}
	d.out = newPrinter(o, env)
	if o.showPings {
		d.pings = make(chan string, 16)
		dial.Trace = traceOf(d.pings)
	}
	if o.stream != "" {
		if d.file, err = os.Create(o.stream); err != nil {
			return cli.Usagef("-stream: %v", err)
		}
		defer d.file.Close()
		dial.StreamAbove = streamAbove
		if o.MaxSize == 0 {
			dial.MaxMessageSize = -1
		}
	}
	switch {
	case len(o.texts) > 0:
		d.input = texts(o)
	case !o.whole && tty.Is(env.Stdin) && tty.Is(env.Stdout):
		screen, err := openScreen(o, env.Stdin, env.Stdout.(*os.File), env.Impatient)
		if err != nil {
			return err
		}
		defer screen.close()
		d.input, d.out, d.interactive = screen.input, screen.printer, true
		d.stderr = screen
		d.screen = screen
	case o.whole || !isNull(env.Stdin):
		d.input = readInput(ctx, o, env.Stdin)
	}
	err = d.connect(ctx)
	return errors.Join(err, o.SaveCookies())
}

// isNull reports whether a file is no input at all, as /dev/null is: then there is only listening.
func isNull(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && !tty.Is(f)
}

// check finds flags that contradict each other.
func (o *options) check() error {
	switch {
	case o.whole && o.nul:
		return cli.Usagef("-whole and -0: expected one of them")
	case o.whole && len(o.texts) > 0:
		return cli.Usagef("-whole and -x: expected one of them")
	case o.whole && o.reconnect:
		return cli.Usagef("-whole and -reconnect: the standard input can be sent once only")
	case o.hex && o.json:
		return cli.Usagef("-hex and -json: expected one of them; -json has binary messages in base64")
	}
	if o.hex {
		for _, text := range slices.Concat(o.texts, o.preamble) {
			if _, err := o.message(text); err != nil {
				return cli.Usagef("-hex: %v", err)
			}
		}
	}
	return nil
}

// errOver is the cause of the end when the time of -for is over.
var errOver = errors.New("the time of -for is over")

// message makes a message of a line.
func (o *options) message(text string) (wsd.Message, error) {
	switch {
	case o.hex:
		data, err := unhex(text)
		return wsd.Binary(data), err
	case o.binary:
		return wsd.Binary([]byte(text)), nil
	}
	if !validText(text) {
		return wsd.Message{}, fmt.Errorf("%w (-binary sends any bytes)", errNotText)
	}
	return wsd.Text(text), nil
}
