// report.go writes what came of the cases: what failed, what was not run, a table by topic, and all of it for programs.

package check

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/seed62836080/wsd/cmd/wsd/internal/tty"
	"github.com/seed62836080/wsd/conformance/suite"
)

// printList writes a line for each case, and how many there are.
func printList(w io.Writer, cases []suite.Case) error {
	var b strings.Builder
	for _, c := range cases {
		judges := "servers and clients"
		switch {
		case !c.Judges(suite.Client):
			judges = "servers"
		case !c.Judges(suite.Server):
			judges = "clients"
		}
		fmt.Fprintf(&b, "%s: %s (%s; judges %s)\n", c.ID, c.Name, c.Section, judges)
	}
	fmt.Fprintf(&b, "%d cases, %d of them judge servers, %d clients\n", len(cases),
		len(suite.Select(cases, suite.Server, nil)), len(suite.Select(cases, suite.Client, nil)))
	_, err := io.WriteString(w, b.String())
	return err
}

// printResult writes one result, with what belongs to it on lines of its own.
func printResult(w io.Writer, r suite.Result) error {
	style := tty.Green
	switch r.Verdict {
	case suite.Failed:
		style = tty.Red
	case suite.NotApplicable, suite.NotRun:
		style = tty.Dim
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s (%s)\n", tty.Paint(tty.Colours(w), style, string(r.Verdict)), r.Case, r.Name, r.Section)
	if r.Detail != "" {
		fmt.Fprintf(&b, "\t%s\n", tty.Safe(r.Detail))
	}
	if r.Note != "" {
		fmt.Fprintf(&b, "\tnote: %s\n", tty.Safe(r.Note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printReport writes what failed, unless every result has been printed already, what was not run, and the table.
func printReport(w io.Writer, results []suite.Result, printed bool) error {
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
			if err := printResult(w, r); err != nil {
				return err
			}
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
	return t.Flush()
}

// printJSON writes all results.
func printJSON(w io.Writer, results []suite.Result, _ bool) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(results)
}

// The elements of JUnit's format, as far as programs that read it agree on them.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure"`
		Skipped *junitMessage `xml:"skipped"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
	}
)

// saveJUnit writes all results to a file, a suite for each topic.
func saveJUnit(path string, results []suite.Result) error {
	topics, all := suite.Tallies(results)
	report := junitSuites{Tests: all.Cases(), Failures: all.Failed}
	for _, t := range topics {
		s := junitSuite{Name: t.Topic, Tests: t.Cases(), Failures: t.Failed, Skipped: t.NotApplicable + t.NotRun}
		took := 0.0
		for _, r := range results {
			if r.Topic != t.Topic {
				continue
			}
			took += r.Took.Seconds()
			c := junitCase{Class: "conformance." + strings.ReplaceAll(r.Topic, " ", "-"), Name: r.Case + ": " + r.Name + " (" + r.Section + ")",
				Time: fmt.Sprintf("%.6f", r.Took.Seconds())}
			switch r.Verdict {
			case suite.Failed:
				c.Failure = &junitMessage{r.Detail}
			case suite.NotApplicable, suite.NotRun:
				c.Skipped = &junitMessage{string(r.Verdict) + ": " + r.Detail}
			}
			s.Cases = append(s.Cases, c)
		}
		s.Time = fmt.Sprintf("%.6f", took)
		report.Suites = append(report.Suites, s)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, xml.Header)
	encoder := xml.NewEncoder(f)
	encoder.Indent("", "\t")
	return errors.Join(err, encoder.Encode(report), f.Close())
}
