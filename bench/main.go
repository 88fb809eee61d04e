//go:build linux

// Command bench measures wsd next to the other WebSocket libraries for Go.
//
// It prints tables. A run of everything also writes them, over results.md and charts/ in its own directory:
//
//	go run ./bench                     # everything, about an hour
//	go run ./bench -quick              # a part of it, within a minute
//	go run ./bench -run echo -rounds 3 # one workload
//	go run ./bench -redraw             # only the charts, from results.md
//
// Each server, and in the client workload each client, is a separate process; this process is the load client, the same
// for all. In every round the libraries take turns, and the tables show the median of the rounds. CPU time is the
// kernel's count for the measured process.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == roleArgument {
		exitOn(serveRole(os.Args[2]))
		return
	}
	exitOn(bench(os.Args[1:]))
}

// usageError is a command line that cannot be run.
type usageError struct{ error }

// usagef is like fmt.Errorf.
func usagef(format string, arguments ...any) error {
	return usageError{fmt.Errorf("bench: "+format, arguments...)}
}

func exitOn(err error) {
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.As(err, new(usageError)) {
		os.Exit(2)
	}
	os.Exit(1)
}

const usage = `usage: bench [flags]

Bench measures wsd next to the other WebSocket libraries for Go and prints tables. Without -quick, -run and -libs it takes
about an hour and overwrites results.md and charts/ in the bench directory; nothing else is written without -out.

`

// bench is the whole of a run.
func bench(arguments []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	pattern := flags.String("run", "", "measure the workloads and cases, `workload/case`, that match this regular expression")
	rounds := flags.Int("rounds", 5, "how often each library is measured; the tables show medians")
	libs := flags.String("libs", "", "measure these `libraries` alone, by name, separated by commas")
	duration := flags.Duration("duration", time.Second, "how long one measurement takes")
	quick := flags.Bool("quick", false, "one short round of the most telling cases, within a minute")
	out := flags.String("out", "", "the `directory` for results.md and charts; without it only a run of everything writes, to the bench directory")
	again := flags.Bool("redraw", false, "measure nothing: draw the charts again from results.md, of -out or the bench directory")
	flags.StringVar(&profiles, "profile", "", "write CPU profiles of the measured processes to this `directory`; a profile takes a little of what is measured")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return usagef("expected flags only, got %q; -help says more", flags.Args())
	}
	if *again {
		if *out == "" {
			var err error
			if *out, err = ownDirectory(); err != nil {
				return err
			}
		}
		return redraw(*out)
	}
	if *rounds < 1 {
		return usagef("expected at least one round, got %d", *rounds)
	}
	if *duration <= 0 {
		return usagef("expected a duration above zero, got %v", *duration)
	}
	selected, err := regexp.Compile(*pattern)
	if err != nil {
		return usagef("the pattern of -run: %w", err)
	}
	chosen := libraries
	if *libs != "" {
		chosen = nil
		for name := range strings.SplitSeq(*libs, ",") {
			l, err := libraryNamed(strings.TrimSpace(name))
			if err != nil {
				return usageError{err}
			}
			chosen = append(chosen, l)
		}
	}
	set := settings{quick: *quick, rounds: *rounds, duration: *duration, warmup: min(*duration/3, 500*time.Millisecond),
		idle: 2500 * time.Millisecond}
	if *quick {
		set.rounds, set.duration, set.warmup, set.idle = 1, 120*time.Millisecond, 40*time.Millisecond, 300*time.Millisecond
	}
	if set.files, err = raiseFileLimit(); err != nil {
		return err
	}
	work := workloadsSelected(set, selected)
	if len(work) == 0 {
		return usagef("expected -run to match a workload/case that is measured, got %q", *pattern)
	}
	if profiles != "" {
		if err := os.MkdirAll(profiles, 0o755); err != nil {
			return fmt.Errorf("bench: the directory of -profile: %w", err)
		}
	}
	whole := !*quick && *pattern == "" && *libs == ""
	if *out == "" && whole {
		if *out, err = ownDirectory(); err != nil {
			return err
		}
	}

	report := newReport(chosen, set)
	fmt.Println(report.heading())
	for _, w := range work {
		fmt.Printf("## %s\n\n%s\n\n", w.title, w.about)
		for _, c := range w.cases {
			report.measure(w, c)
			fmt.Println(report.table(w, c))
		}
		report.workloads = append(report.workloads, w)
	}
	fmt.Println(report.goalTable())
	if *out == "" {
		return nil
	}
	return report.write(*out)
}

// workloadsSelected are the workloads with those of their cases that are to be measured, without the ones that have none.
func workloadsSelected(set settings, selected *regexp.Regexp) []workload {
	var some []workload
	for _, w := range workloads(set.files) {
		w.cases = slices.DeleteFunc(w.cases, func(c benchCase) bool {
			return !selected.MatchString(w.name+"/"+c.name) || set.quick && !c.quick
		})
		if len(w.cases) > 0 {
			some = append(some, w)
		}
	}
	return some
}

// ownDirectory finds this module's directory from the repository's root or from within.
func ownDirectory() (string, error) {
	for _, dir := range []string{"bench", "."} {
		module, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(module), "module github.com/seed62836080/wsd/bench\n") {
			return dir, nil
		}
	}
	return "", fmt.Errorf("bench: expected to be run in the repository's root or in bench; say where to write with -out")
}
