//go:build linux

package main

// This file reads the tables of results.md back, so that charts can be drawn anew without measuring again.

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// resultsFile is where a run's tables are, in the directory it writes to.
const resultsFile = "results.md"

// redraw draws the charts of a directory from the tables of its results.md.
func redraw(dir string) error {
	path := filepath.Join(dir, resultsFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("bench: the results to draw: %w", err)
	}
	r, err := parseResults(string(text))
	if err != nil {
		return fmt.Errorf("bench: %s: %w", path, err)
	}
	_, err = r.drawAll(dir)
	return err
}

// parseResults makes a report of the tables that report.table wrote. It holds what the charts need: each median as a single
// reading, rounded as the tables are.
func parseResults(text string) (*report, error) {
	r := &report{outcomes: make(map[string]*outcome)}
	for _, w := range workloads(1 << 20) { // how many files were open is of no interest here
		var measured []benchCase
		for _, c := range w.cases {
			found, err := r.parseTable(text, w, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", w.title, c.name, err)
			}
			if found {
				measured = append(measured, c)
			}
		}
		if w.cases = measured; len(measured) > 0 {
			r.workloads = append(r.workloads, w)
		}
	}
	if len(r.workloads) == 0 {
		return nil, fmt.Errorf("expected tables of the workloads, found none")
	}
	return r, nil
}

// parseTable adds one case's table to the report, where there is one.
func (r *report) parseTable(text string, w workload, c benchCase) (found bool, err error) {
	for line := range strings.Lines(text) {
		cells := cellsOf(line)
		switch {
		case !found:
			found = len(cells) == 1+len(w.columns) && cells[0] == w.title+": "+c.name
			continue
		case cells == nil:
			return true, nil // the table has ended
		case cells[0] == "---":
			continue
		case len(cells) != 1+len(w.columns):
			return false, fmt.Errorf("expected %d cells, got %q", 1+len(w.columns), line)
		}
		l, err := libraryNamed(cells[0])
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(r.libraries, func(other library) bool { return other.name == l.name }) {
			r.libraries = append(r.libraries, l)
		}
		o, values := &outcome{}, reading{}
		for i, column := range w.columns {
			value, err := strconv.ParseFloat(cells[1+i], 64)
			if err == nil {
				values[column.key] = value * column.scale
			} else if i == 0 {
				o.note = cells[1]
			}
		}
		if len(values) > 0 {
			o.readings = []reading{values}
		}
		r.outcomes[w.name+"/"+c.name+"/"+l.name] = o
	}
	return found, nil
}

// cellsOf are the cells of a table's line, nil of any other.
func cellsOf(line string) []string {
	line, isTable := strings.CutPrefix(strings.TrimSpace(line), "| ")
	if !isTable {
		return nil
	}
	cells := strings.Split(strings.TrimSuffix(line, "|"), "|")
	for i, cell := range cells {
		cells[i] = strings.TrimSpace(cell)
	}
	return cells
}
