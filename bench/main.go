//go:build linux

// Command bench measures wsd next to the other WebSocket libraries for Go.
//
// It prints tables and writes them to results.md, with charts next to it:
//
//	go run ./bench                     # everything, about an hour
//	go run ./bench -quick              # a part of it, within a minute
//	go run ./bench -run echo -rounds 3 # one workload
//
// Each server, and in the client workload each client, is a separate process; this process is the load client, the same
// for all. In every round the libraries take turns, and the tables show the median of the rounds. CPU time is the
// kernel's count for the measured process.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// bench is the whole of a run.
func bench(arguments []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	pattern := flags.String("run", "", "measure the workloads and cases, `workload/case`, that match this regular expression")
	rounds := flags.Int("rounds", 5, "how often each library is measured; the tables show medians")
	libs := flags.String("libs", "", "measure these `libraries` alone, by name, separated by commas")
	duration := flags.Duration("duration", time.Second, "how long one measurement takes")
	quick := flags.Bool("quick", false, "one short round of the most telling cases, within a minute")
	out := flags.String("out", "", "the `directory` for results.md and charts; without it only a run of everything writes, to the bench directory")
	flags.StringVar(&profiles, "profile", "", "write CPU profiles of the measured processes to this `directory`; a profile takes a little of what is measured")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if profiles != "" {
		if err := os.MkdirAll(profiles, 0o755); err != nil {
			return fmt.Errorf("bench: the directory of -profile: %w", err)
		}
	}
	if *rounds < 1 {
		return fmt.Errorf("bench: expected at least one round, got %d", *rounds)
	}
	selected, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("bench: the pattern of -run: %w", err)
	}
	chosen := libraries
	if *libs != "" {
		chosen = nil
		for name := range strings.SplitSeq(*libs, ",") {
			l, err := libraryNamed(strings.TrimSpace(name))
			if err != nil {
				return err
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
	whole := !*quick && *pattern == "" && *libs == ""
	if *out == "" && whole {
		if *out, err = ownDirectory(); err != nil {
			return err
		}
	}

	report := newReport(chosen, set)
	fmt.Println(report.heading())
	for _, w := range workloads(set.files) {
		var cases []benchCase
		for _, c := range w.cases {
			if selected.MatchString(w.name+"/"+c.name) && (c.quick || !*quick) {
				cases = append(cases, c)
			}
		}
		if len(cases) == 0 {
			continue
		}
		w.cases = cases
		fmt.Printf("## %s\n\n%s\n\n", w.title, w.about)
		for _, c := range cases {
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
