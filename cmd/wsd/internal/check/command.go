// Package check is the verb check: the conformance suite, for servers and for clients.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/seed62836080/wsd/cmd/wsd/internal/cli"
	"github.com/seed62836080/wsd/cmd/wsd/internal/client"
	"github.com/seed62836080/wsd/cmd/wsd/internal/serve"
	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
	"github.com/seed62836080/wsd/conformance/suite"
)

// options are the verb's flags.
type options struct {
	client.Options
	serve    string
	pattern  *regexp.Regexp
	list     bool
	verbose  bool
	quiet    bool
	json     bool
	junit    string
	parallel int
	silence  time.Duration
	messages int
	volume   int64
}

// Command returns the verb.
func Command() *cli.Command {
	return &cli.Command{
		Name: "check", Args: "URL",
		Summary: "test a server or a client byte by byte: RFC 6455 and RFC 7692",
		Text: "A server under test must echo every message with its type. A client under test must connect again and again to the " +
			"address of -serve and echo every message until its connection ends; each connection is a case, and when no case is left it is " +
			"refused with 410. The exit status is 0 if nothing speaks against the peer, 3 if a case failed, and 1 if the peer cannot be reached or a case was not run.",
		Examples: []cli.Example{
			{Line: "wsd check ws://127.0.0.1:8080/echo", Does: "test an echo server"},
			{Line: "wsd check -run '^close/' -v URL", Does: "one topic, each case as it ends"},
			{Line: "wsd check -serve 9001", Does: "test clients that connect there"},
			{Line: "wsd check -junit report.xml URL", Does: "for continuous integration"},
			{Line: "wsd check -list -run utf", Does: "the cases, without running them"},
		},
		Meant: map[string]string{
			"url": "the URL needs no flag: wsd check URL", "case": "-run REGEXP chooses cases", "filter": "-run REGEXP chooses cases",
		},
		New: func(f *cli.Flags) func(context.Context, cli.Env, []string) error {
			o := &options{parallel: 16, silence: 5 * time.Second, messages: 1000, volume: 1 << 30}
			o.declare(f)
			return func(ctx context.Context, env cli.Env, args []string) error { return o.run(ctx, env, args) }
		},
	}
}

func (o *options) declare(f *cli.Flags) {
	f.Group("What is tested")
	f.String(&o.serve, "serve", "ADDR", "test clients that connect to this address, instead of a server").Common()
	f.Set("run", "REGEXP", "run the cases whose topic/number or name matches", func(s string) (err error) {
		if o.pattern, err = regexp.Compile(s); err != nil {
			err = errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		return err
	}).Common()
	f.Bool(&o.list, "list", "list the cases and run none").Common()
	f.Int(&o.messages, "messages", "COUNT", "messages in a compression case", 1)
	f.Size(&o.volume, "volume", "at most so many bytes of messages in a compression case")
	f.Group("How")
	f.Int(&o.parallel, "parallel", "COUNT", "cases at a time", 1).Common()
	f.Duration(&o.silence, "timeout", "how long the peer may be silent where an answer is due").Common()
	o.DeclareTLS(f)
	f.Group("What is shown")
	f.Bool(&o.verbose, "v", "show every case as it ends, not the failed ones alone").Common()
	f.Bool(&o.quiet, "q", "do not tell how far the run has come").Common()
	f.Bool(&o.json, "json", "write all results as JSON in place of the report").Common()
	f.String(&o.junit, "junit", "FILE", "write the results for programs that read JUnit's format").Common().File()
}

// cases returns what is to be run, and as which role.
func (o *options) cases(args []string) ([]suite.Case, suite.Role, error) {
	var role suite.Role
	switch {
	case o.list:
	case o.serve != "":
		role = suite.Client
		if err := cli.Operands("a URL or -serve, not both", args, 0, 0); err != nil {
			return nil, role, err
		}
	default:
		role = suite.Server
		if err := cli.Operands("a URL, or -serve ADDR", args, 1, 1); err != nil {
			return nil, role, err
		}
	}
	if o.silence == 0 {
		return nil, role, cli.Usagef("-timeout: expected more than 0")
	}
	cases := suite.Select(suite.Cases(suite.Load{Messages: o.messages, Bytes: int(o.volume)}), role, o.pattern)
	if len(cases) == 0 {
		return nil, role, cli.Usagef("-run: no case matches %q (-list shows all)", o.pattern)
	}
	return cases, role, nil
}

func (o *options) run(ctx context.Context, env cli.Env, args []string) error {
	cases, role, err := o.cases(args)
	if err != nil {
		return err
	}
	if o.list {
		return printList(env.Stdout, cases)
	}
	if o.junit != "" {
		if err := cli.Writable(o.junit); err != nil {
			return fmt.Errorf("-junit: %w", err)
		}
	}
	judge, err := o.judge(env.Stderr, cases, role, args)
	if err != nil {
		return err
	}
	results, err, broken := o.watch(ctx, env, cases, judge)
	switch {
	case broken != nil:
		return broken
	case err != nil && ctx.Err() == nil && len(results) == 0:
		return err
	}
	return o.report(env.Stdout, results, err, ctx.Err() != nil)
}

// judge returns what runs the cases.
func (o *options) judge(stderr io.Writer, cases []suite.Case, role suite.Role, args []string) (func(context.Context, *suite.Options) ([]suite.Result, error), error) {
	if role == suite.Server {
		target, err := client.URL(args[0])
		if err != nil {
			return nil, err
		}
		security, err := o.TLS()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, settings *suite.Options) ([]suite.Result, error) {
			settings.TLS = security
			return suite.JudgeServer(ctx, target, cases, settings)
		}, nil
	}
	network, address, err := serve.Address(o.serve)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(stderr, "%d cases wait for clients at ws://%v/\n", len(cases), listener.Addr())
	return func(ctx context.Context, settings *suite.Options) ([]suite.Result, error) {
		return suite.JudgeClients(ctx, listener, cases, settings)
	}, nil
}

// watch runs the cases and shows how far that has come. broken is the error of an output that cannot be written to, which
// ends the run.
func (o *options) watch(ctx context.Context, env cli.Env, cases []suite.Case, judge func(context.Context, *suite.Options) ([]suite.Result, error)) (results []suite.Result, err, broken error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan suite.Result) // closed when the run is over
	go func() {
		defer close(ended)
		results, err = judge(ctx, &suite.Options{
			Parallel: o.parallel, Timeout: o.silence,
			Ended: func(r suite.Result) { ended <- r },
		})
	}()
	shown := env.Stderr
	if o.quiet || !tty.Is(shown) {
		shown = io.Discard
	}
	var print func(suite.Result)
	switch {
	case o.verbose && o.json:
		print = func(r suite.Result) { _ = printResult(env.Stderr, r) }
	case o.verbose:
		print = func(r suite.Result) {
			if broken == nil {
				if broken = printResult(env.Stdout, r); broken != nil {
					cancel()
				}
			}
		}
	}
	newProgress(shown, len(cases)).watch(ended, print)
	return results, err, broken
}

// report writes the results, and returns what they amount to.
func (o *options) report(stdout io.Writer, results []suite.Result, err error, interrupted bool) error {
	write := printReport
	if o.json {
		write = printJSON
	}
	if err := write(stdout, results, o.verbose); err != nil {
		return err
	}
	if o.junit != "" {
		if err := saveJUnit(o.junit, results); err != nil {
			return fmt.Errorf("-junit: %w", err)
		}
	}
	switch _, all := suite.Tallies(results); {
	case all.Failed > 0:
		return cli.ErrCheck
	case interrupted:
		return errors.New("interrupted before all cases were run")
	case err != nil:
		return err
	case all.NotRun > 0:
		return fmt.Errorf("%d of %d cases were not run", all.NotRun, all.Cases())
	}
	return nil
}
