// The report: a table by topic, the cases that failed, and all of it as JSON.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// tally counts a topic's verdicts.
type tally struct{ passed, failed, notApplicable int }

func (t *tally) count(v verdict) {
	switch v {
	case passed:
		t.passed++
	case failed:
		t.failed++
	case notApplicable:
		t.notApplicable++
	}
}

func (t tally) row(w io.Writer, name string) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t\n", name, t.passed, t.failed, t.notApplicable, t.passed+t.failed+t.notApplicable)
}

// printReport writes what failed, with verbose every case, and the table.
func printReport(w io.Writer, results []result, verbose bool) {
	byTopic := make(map[string]*tally)
	var all tally
	for _, r := range results {
		if byTopic[r.Topic] == nil {
			byTopic[r.Topic] = &tally{}
		}
		byTopic[r.Topic].count(r.Verdict)
		all.count(r.Verdict)
		if verbose || r.Verdict == failed {
			fmt.Fprintf(w, "%s: %s: %s (%s)", r.Verdict, r.Case, r.Name, r.Section)
			if r.Detail != "" {
				fmt.Fprintf(w, "\n\t%s", r.Detail)
			}
			if r.Note != "" {
				fmt.Fprintf(w, "\n\tnote: %s", r.Note)
			}
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "topic\tpassed\tfailed\tnot applicable\tcases\t\n")
	for _, topic := range topics {
		if byTopic[topic] != nil {
			byTopic[topic].row(t, topic)
		}
	}
	all.row(t, "all")
	t.Flush()
}

func writeJSON(w io.Writer, results []result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(results)
}
