// Package bench is the verb bench: a load of messages, their rate, and how long they took.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
)

// options are the verb's flags.
type options struct {
	client.Options
	conns    int
	inflight int
	rate     float64
	sizes    sizes
	text     bool
	binary   bool
	template string
	limit    time.Duration
	ramp     time.Duration
	sub      bool
	json     bool
	html     string
	quiet    bool
}

// Command returns the verb.
func Command() *cli.Command {
	return &cli.Command{
		Name: "bench", Args: "URL",
		Summary: "load a server with messages, and measure rate and latency",
		Text: "The server must echo. Without -rate each connection keeps -inflight messages under way, and a latency is a round trip. With -rate, " +
			"messages have a timetable, and a latency counts from when a message was due, so that a server that stalls is charged with all " +
			"that it delayed (coordinated omission). With -sub the server must broadcast: one more connection publishes, the others receive, and a latency is " +
			"the time from one to the other, from a stamp in the message; it begins once a trial has come to every subscriber. Connections that fail are counted by reason. " +
			"The exit status is 1 if one failed or a message went missing.",
		Examples: []cli.Example{
			{Line: "wsd bench :8080/echo", Does: "how fast, one message at a time on each of 10"},
			{Line: "wsd bench -c 1000 -rate 20000 -for 30s URL", Does: "how long 20,000/s take"},
			{Line: "wsd bench -c 500 -sub -rate 100 -html r.html URL", Does: "a broadcast, as a page"},
			{Line: "wsd bench -c 64 -inflight 64 -size 64 URL", Does: "as many as go"},
			{Line: "wsd bench -template '{\"id\":{{n}},\"pad\":\"{{pad}}\"}' -size 1KiB URL", Does: "JSON of a kilobyte"},
			{Line: "wsd bench -c 10000 -ramp 30s -rate 1000 URL", Does: "many connections that do little"},
		},
		Meant: map[string]string{
			"n": "-for TIME says how long", "d": "-for TIME says how long", "duration": "-for TIME says how long", "connections": "-c COUNT says how many",
			"t": "-c COUNT says how many connections", "r": "-rate NUMBER is messages a second", "payload": "-size BYTES is the length of a message",
			"message": "-template TEXT is what is sent",
		},
		New: func(f *cli.Flags) func(context.Context, cli.Env, []string) error {
			o := &options{conns: 10, inflight: 1, sizes: sizes{least: []int{64}, most: []int{64}}, limit: 10 * time.Second}
			o.declare(f)
			return func(ctx context.Context, env cli.Env, args []string) error { return o.run(ctx, env, args) }
		},
	}
}

func (o *options) declare(f *cli.Flags) {
	f.Group("The load")
	f.Int(&o.conns, "c", "COUNT", "connections", 1).Common()
	f.Duration(&o.limit, "for", "how long, once all are connected").Common()
	f.Int(&o.inflight, "inflight", "COUNT", "messages under way on each connection", 1).Common()
	f.Float(&o.rate, "rate", "NUMBER", "messages a second on all connections, by timetable").Common()
	size := f.Set("size", "BYTES", "the length of a message; 64,1KiB takes turns, 64-4096 is a range", o.sizes.set).Common()
	size.Default = "64"
	f.Bool(&o.sub, "sub", "measure a broadcast: one publishes, the others receive").Common()
	f.Duration(&o.ramp, "ramp", "connect evenly over this time, sending from the first connection on").Common()
	f.Group("Messages")
	f.Bool(&o.text, "text", "send text")
	f.Bool(&o.binary, "binary", "send binary messages, as happens by default")
	f.String(&o.template, "template", "TEXT", "send this, JSON say; {{n}} is a number, {{pad}} fills up to -size, {{stamp}} is for -sub").Common()
	f.Group("Results")
	f.Bool(&o.json, "json", "write the results as JSON").Common()
	f.String(&o.html, "html", "FILE", "write the results as a page with charts").Common().File()
	f.Bool(&o.quiet, "q", "do not tell how the run goes").Common()
	f.Rare()
	o.Declare(f)
	o.DeclareConfig(f)
}

// check finds flags that contradict each other.
func (o *options) check() error {
	switch {
	case o.text && o.binary:
		return cli.Usagef("-text and -binary: expected one of them")
	case o.template != "" && o.binary:
		return cli.Usagef("-template and -binary: a template is sent as text")
	case o.sub && o.template != "" && !strings.Contains(o.template, "{{stamp}}"):
		return cli.Usagef("-template: expected {{stamp}} in it, by which -sub takes the time")
	case o.rate > 0 && o.inflight > 1:
		return cli.Usagef("-rate and -inflight: with a timetable, as many messages are under way as it takes")
	case o.limit == 0:
		return cli.Usagef("-for: expected more than 0")
	}
	return nil
}

func (o *options) run(ctx context.Context, env cli.Env, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], "{") && o.json {
		return cli.Usagef("-json writes the results as JSON, -template TEXT is what is sent")
	}
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
	payload, err := newPayload(o)
	if err != nil {
		return err
	}
	if o.html != "" {
		if err := cli.Writable(o.html); err != nil {
			return fmt.Errorf("-html: %w", err)
		}
	}
	if err := checkFiles(o.conns); err != nil {
		return err
	}
	r := &run{options: o, target: target, dial: dial, payload: payload, recorder: newRecorder(), failures: make(map[string]int)}
	summary := r.do(ctx, newLive(env.Stderr, o.quiet))
	err = o.report(env.Stdout, r, summary)
	return errors.Join(err, o.SaveCookies())
}

// report writes the results, and returns what they amount to.
func (o *options) report(stdout io.Writer, r *run, summary *summary) (err error) {
	if summary.Opened == 0 {
		if len(r.failures) == 0 {
			return fmt.Errorf("no connection was opened")
		}
		return fmt.Errorf("no connection was opened: %s", summary.Errors[0].Reason)
	}
	write := writeTable
	if o.json {
		write = writeJSON
	}
	err = write(stdout, summary)
	if o.html != "" {
		page, err := htmlReport(summary)
		if err == nil {
			err = os.WriteFile(o.html, page, 0o644)
		}
		if err != nil {
			return fmt.Errorf("-html: %w", err)
		}
	}
	if err == nil && len(summary.Errors) > 0 {
		err = cli.ErrTold
	}
	return err
}

// message returns a message of the type that was asked for.
func (o *options) message(data []byte) wsd.Message {
	if o.text || o.template != "" {
		return wsd.TextBytes(data)
	}
	return wsd.Binary(data)
}
