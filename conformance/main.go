// Command conformance tests a WebSocket peer, byte by byte, against RFC 6455 and RFC 7692.
//
// A server under test must echo every message with its type:
//
//	go run ./conformance -url ws://127.0.0.1:8080/echo
//
// A client under test must connect again and again to the address given here, and echo every message on each connection
// until that ends; each connection is a case. When no case is left, a connection is refused with 410:
//
//	go run ./conformance -serve 127.0.0.1:9001
//
// The report is written to standard output, and how far the run has come to standard error. The exit status is 0 if
// nothing speaks against the peer, 1 if a case failed or was not run, and 2 if the suite could not run at all. Package
// suite is the same for programs.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/seed62836080/wsd/conformance/suite"
)

const usage = `Conformance tests a WebSocket server or client, byte by byte, against RFC 6455 and RFC 7692.

	conformance -url ws://127.0.0.1:8080/echo     # a server that echoes every message
	conformance -serve 127.0.0.1:9001             # clients that connect until they are told 410, and echo
	conformance -url URL -run '^close/' -v        # one topic, each case as it ends
	conformance -list -run utf                    # the cases, without running them

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the report
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// settings are what the flags say.
type settings struct {
	url, serve    string
	list, verbose bool
	quiet         bool
	json          string
	pattern       *regexp.Regexp
	load          suite.Load
	options       suite.Options
}

// parse reads the flags. Where they ask for help, that is written to stdout and the error is flag.ErrHelp.
func parse(args []string, stdout io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is told in one line
	flags.StringVar(&s.url, "url", "", "judge the echo server at this `URL`")
	flags.StringVar(&s.serve, "serve", "", "judge the echo clients that connect to this `address`")
	flags.BoolVar(&s.list, "list", false, "list the cases and run none")
	only := flags.String("run", "", "run the cases whose topic/number or name matches this `regexp`")
	flags.BoolVar(&s.verbose, "v", false, "print every case as it ends, not the failed ones alone")
	flags.BoolVar(&s.quiet, "q", false, "do not say how far the run has come")
	flags.StringVar(&s.json, "json", "", "write all results to this `file` (- is the standard output, in place of the report)")
	flags.IntVar(&s.options.Parallel, "parallel", 16, "cases at a time")
	flags.DurationVar(&s.options.Timeout, "timeout", 5*time.Second, "how long a peer may be silent where an answer is due")
	flags.IntVar(&s.load.Messages, "messages", 1000, "messages in a compression case")
	flags.IntVar(&s.load.Bytes, "volume", 1<<30, "at most so many bytes of messages in a compression case, which cuts -messages short")
	insecure := flags.Bool("insecure", false, "do not verify the certificate of a wss URL")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, usage)
			flags.SetOutput(stdout)
			flags.PrintDefaults()
		}
		return s, err
	}
	if *insecure {
		s.options.TLS = &tls.Config{InsecureSkipVerify: true}
	}
	var err error
	switch s.pattern, err = regexp.Compile(*only); {
	case err != nil:
		return s, fmt.Errorf("-run: %w", err)
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.options.Parallel < 1 || s.load.Messages < 1 || s.load.Bytes < 1 || s.options.Timeout <= 0:
		return s, errors.New("-parallel, -messages, -volume and -timeout must be positive")
	case !s.list && (s.url == "") == (s.serve == ""):
		return s, errors.New("expected either -url or -serve (-h shows examples)")
	}
	return s, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(stderr, "conformance:", err)
		return 2
	}
	s, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return fail(err)
	}
	var role suite.Role
	switch {
	case s.list:
	case s.url != "":
		role = suite.Server
	default:
		role = suite.Client
	}
	cases := suite.Select(suite.Cases(s.load), role, s.pattern)
	if len(cases) == 0 {
		return fail(fmt.Errorf("no case matches %q", s.pattern))
	}
	if s.list {
		printList(stdout, cases)
		return 0
	}

	var listener net.Listener
	if role == suite.Client {
		if listener, err = net.Listen("tcp", s.serve); err != nil {
			return fail(err)
		}
		fmt.Fprintf(stderr, "%d cases wait for clients at ws://%v/\n", len(cases), listener.Addr())
	}
	ended := make(chan suite.Result) // closed when the run is over
	s.options.Ended = func(r suite.Result) { ended <- r }
	var results []suite.Result
	go func() {
		defer close(ended)
		if role == suite.Server {
			results, err = suite.JudgeServer(ctx, s.url, cases, &s.options)
		} else {
			results, err = suite.JudgeClients(ctx, listener, cases, &s.options)
		}
	}()
	shown := stderr
	if s.quiet {
		shown = io.Discard
	}
	var print func(suite.Result)
	switch {
	case s.verbose && s.json == "-":
		print = func(r suite.Result) { printResult(stderr, r) }
	case s.verbose:
		print = func(r suite.Result) { printResult(stdout, r) }
	}
	newProgress(shown, len(cases)).watch(ended, print)
	if err != nil && ctx.Err() == nil {
		if len(results) == 0 {
			return fail(err)
		}
		fmt.Fprintln(stderr, "conformance:", err)
	}

	if s.json != "-" {
		printReport(stdout, results, s.verbose)
	}
	if s.json != "" {
		if err := saveJSON(s.json, stdout, results); err != nil {
			return fail(err)
		}
	}
	if _, all := suite.Tallies(results); all.Failed+all.NotRun > 0 {
		return 1
	}
	return 0
}
