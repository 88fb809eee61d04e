// The report: what failed, what was not run, a table by topic, and all of it as JSON.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/seed62836080/wsd/conformance/suite"
)

// printList writes a line for each case, and how many there are.
func printList(w io.Writer, cases []suite.Case) {
	for _, c := range cases {
		judges := "servers and clients"
		switch {
		case !c.Judges(suite.Client):
			judges = "servers"
		case !c.Judges(suite.Server):
			judges = "clients"
		}
		fmt.Fprintf(w, "%s: %s (%s; judges %s)\n", c.ID, c.Name, c.Section, judges)
	}
	fmt.Fprintf(w, "%d cases, %d of them judge servers, %d clients\n", len(cases),
		len(suite.Select(cases, suite.Server, nil)), len(suite.Select(cases, suite.Client, nil)))
}

// printResult writes one result, with what belongs to it on lines of its own.
func printResult(w io.Writer, r suite.Result) {
	fmt.Fprintf(w, "%s: %s: %s (%s)\n", r.Verdict, r.Case, r.Name, r.Section)
	if r.Detail != "" {
		fmt.Fprintf(w, "\t%s\n", r.Detail)
	}
	if r.Note != "" {
		fmt.Fprintf(w, "\tnote: %s\n", r.Note)
	}
}

// printReport writes what failed, unless every result has been printed already, what was not run, and the table.
func printReport(w io.Writer, results []suite.Result, printed bool) {
	var reasons []string
	notRun := make(map[string]int) // by reason
	for _, r := range results {
		switch {
		case r.Verdict == suite.NotRun:
			if notRun[r.Detail] == 0 {
				reasons = append(reasons, r.Detail)
			}
			notRun[r.Detail]++
		case r.Verdict == suite.Failed && !printed:
			printResult(w, r)
		}
	}
	for _, reason := range reasons {
		fmt.Fprintf(w, "not run: %d of %d cases: %s\n", notRun[reason], len(results), reason)
	}
	fmt.Fprintln(w)

	byTopic, all := suite.Tallies(results)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(topic string, columns ...any) {
		if all.NotRun == 0 { // nearly always, and then it says nothing
			columns = append(columns[:3:3], columns[4:]...)
		}
		fmt.Fprintf(t, "%s\t", topic)
		for _, c := range columns {
			fmt.Fprintf(t, "%v\t", c)
		}
		fmt.Fprintln(t)
	}
	row("topic", suite.Passed, suite.Failed, suite.NotApplicable, suite.NotRun, "cases")
	for _, topic := range append(byTopic, all) {
		row(topic.Topic, topic.Passed, topic.Failed, topic.NotApplicable, topic.NotRun, topic.Cases())
	}
	t.Flush()
}

// saveJSON writes all results to a file, or to stdout in place of "-".
func saveJSON(path string, stdout io.Writer, results []suite.Result) error {
	all, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	all = append(all, '\n')
	if path == "-" {
		_, err = stdout.Write(all)
		return err
	}
	return os.WriteFile(path, all, 0o666)
}
