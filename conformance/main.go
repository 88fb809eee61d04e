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
// It shares no code with the library: frames, handshakes and DEFLATE are the suite's own. The exit status is 0 if nothing
// failed, 1 if something did, and 2 if the suite could not run.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rawURL := flags.String("url", "", "judge the echo server at this `URL`")
	serve := flags.String("serve", "", "judge the echo clients that connect to this `address`")
	list := flags.Bool("list", false, "list the cases and run none")
	only := flags.String("run", "", "run the cases whose topic/number or name matches this `regexp`")
	verbose := flags.Bool("v", false, "list every case, not the failed ones alone")
	asJSON := flags.String("json", "", "write all results to this `file` (- is the standard output, in place of the table)")
	parallel := flags.Int("parallel", 16, "cases at a time")
	timeout := flags.Duration("timeout", 5*time.Second, "how long a peer may be silent where an answer is due")
	messages := flags.Int("messages", 1000, "messages in a compression case")
	volume := flags.Int("volume", 1<<30, "at most so many bytes of messages in a compression case, which cuts -messages short")
	insecure := flags.Bool("insecure", false, "do not verify the certificate of a wss URL")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "conformance:", err)
		return 2
	}
	cases := allCases(*messages, *volume)
	judges := server
	switch {
	case *parallel < 1 || *messages < 1 || *timeout <= 0:
		return fail(fmt.Errorf("-parallel, -messages and -timeout must be positive"))
	case *list:
		judges = either
	case (*rawURL == "") == (*serve == ""):
		return fail(fmt.Errorf("expected either -url or -serve"))
	case *serve != "":
		judges = client
	}
	if judges != either {
		cases = forRole(cases, judges)
	}
	if *only != "" {
		pattern, err := regexp.Compile(*only)
		if err != nil {
			return fail(err)
		}
		var chosen []testCase
		for i, name := range number(cases) {
			if pattern.MatchString(name) || pattern.MatchString(cases[i].name) {
				chosen = append(chosen, cases[i])
			}
		}
		if cases = chosen; len(cases) == 0 {
			return fail(fmt.Errorf("no case matches %q", *only))
		}
	}
	if *list {
		for i, name := range number(cases) {
			fmt.Fprintf(stdout, "%s: %s (%s; judges %v)\n", name, cases[i].name, cases[i].section, cases[i].judges)
		}
		fmt.Fprintf(stdout, "%d cases, %d of them judge servers, %d clients\n", len(cases), len(forRole(cases, server)), len(forRole(cases, client)))
		return 0
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o := options{parallel: *parallel, timeout: *timeout, insecure: *insecure}
	var results []result
	var err error
	if judges == server {
		results, err = judgeServer(ctx, *rawURL, cases, o)
	} else {
		var l net.Listener
		if l, err = net.Listen("tcp", *serve); err == nil {
			fmt.Fprintf(stderr, "%d cases wait for clients at ws://%v/\n", len(cases), l.Addr())
			results, err = judgeClients(ctx, l, cases, o)
		}
	}
	if err != nil && len(results) == 0 {
		return fail(err)
	}
	if *asJSON != "-" {
		printReport(stdout, results, *verbose)
	}
	if *asJSON != "" {
		out := stdout
		if *asJSON != "-" {
			f, err := os.Create(*asJSON)
			if err != nil {
				return fail(err)
			}
			defer f.Close()
			out = f
		}
		if err := writeJSON(out, results); err != nil {
			return fail(err)
		}
	}
	if slices.ContainsFunc(results, func(r result) bool { return r.Verdict == failed }) {
		return 1
	}
	return 0
}
