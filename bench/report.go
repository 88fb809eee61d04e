//go:build linux

package main

// This file keeps the readings and writes them down as tables.

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// outcome is what a case gave for one library.
type outcome struct {
	readings []reading
	note     string // why there are none
}

// median is the middle reading of one key, and whether there is any.
func (o *outcome) median(key string) (float64, bool) {
	if o == nil {
		return 0, false
	}
	var values []float64
	for _, r := range o.readings {
		if v, ok := r[key]; ok {
			values = append(values, v)
		}
	}
	return median(values), len(values) > 0
}

// report is a run: what was measured, on what, with which results.
type report struct {
	libraries []library
	set       settings
	began     time.Time
	busy      string     // how busy the machine was with other things
	workloads []workload // those measured
	outcomes  map[string]*outcome
}

func newReport(libs []library, set settings) *report {
	return &report{libraries: libs, set: set, began: time.Now(), busy: loadAverage(), outcomes: make(map[string]*outcome)}
}

// outcome finds a result by its names, nil where it was not measured.
func (r *report) outcome(workload, name, library string) *outcome {
	return r.outcomes[workload+"/"+name+"/"+library]
}

// measure runs a case: in each round the libraries take turns, and each round another one begins.
func (r *report) measure(w workload, c benchCase) {
	for _, l := range r.libraries {
		if !l.plays(c.role) {
			continue
		}
		o := &outcome{}
		if o.note = l.cannot(c.role); o.note != "" {
			o.note = "cannot: " + o.note
		}
		r.outcomes[w.name+"/"+c.name+"/"+l.name] = o
	}
	for round := range r.set.rounds {
		for i := range r.libraries {
			l := r.libraries[(i+round)%len(r.libraries)]
			o := r.outcome(w.name, c.name, l.name)
			if o == nil || o.note != "" {
				continue
			}
			result, err := c.run(l, r.set)
			if err != nil {
				o.readings = nil
				if reason, skip := reasonSkipped(err); skip {
					o.note = "skipped: " + reason
				} else {
					o.note = "failed: " + strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", "; "), "bench: ")
				}
				continue
			}
			o.readings = append(o.readings, result)
		}
	}
}

// table is a case's results in Markdown, aligned for the eye.
func (r *report) table(w workload, c benchCase) string {
	rows := [][]string{{w.title + ": " + c.name}, {"---"}}
	for _, col := range w.columns {
		rows[0] = append(rows[0], col.name)
		rows[1] = append(rows[1], "---:")
	}
	for _, l := range r.libraries {
		if !l.plays(c.role) {
			continue
		}
		o := r.outcome(w.name, c.name, l.name)
		row := []string{l.name}
		for i, col := range w.columns {
			switch value, ok := o.median(col.key); {
			case ok:
				row = append(row, fmt.Sprintf(col.format, value/col.scale))
			case i == 0:
				row = append(row, o.note)
			default:
				row = append(row, "")
			}
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// markdown aligns rows of cells, the second of which is the rule below the head.
func markdown(rows [][]string) string {
	var out strings.Builder
	tw := tabwriter.NewWriter(&out, 0, 0, 1, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, "| ", strings.ReplaceAll(cell, "|", "/"))
		}
		fmt.Fprint(tw, "\t|\n")
	}
	tw.Flush()
	return out.String()
}

// heading says what was measured on which machine.
func (r *report) heading() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. %s, %d cores, %s memory, Linux %s, %s. ", r.began.UTC().Format("2 January 2006"),
		procField("/proc/cpuinfo", "model name"), runtime.NumCPU(), memorySize(), kernel(), runtime.Version())
	rounds := fmt.Sprintf("Medians of %d rounds", r.set.rounds)
	if r.set.rounds == 1 {
		rounds = "One round"
	}
	fmt.Fprintf(&b, "Open files: %s at most. Load average before the run: %s. %s of %v a measurement, libraries in turn.\n\n",
		thousands(int(r.set.files)), r.busy, rounds, r.set.duration)
	rows := [][]string{{"library", "module", "version"}, {"---", "---", "---"}}
	for _, l := range r.libraries {
		if l.module == "" {
			rows = append(rows, []string{l.name, "no library: see each workload", ""})
			continue
		}
		rows = append(rows, []string{l.name, l.module, moduleVersion(l.module)})
	}
	return b.String() + markdown(rows)
}

// procField is a field of a file that has one a line.
func procField(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func memorySize() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))
}

// loadAverage is how many threads were running or ready to run, on average of the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// moduleVersion is the version this program was built with; of the module that lies in the same repository, its commit.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path != path {
				continue
			}
			if module.Replace != nil {
				module = module.Replace // by another version, as in go.work, or by a directory
			}
			if module.Path == path && strings.HasPrefix(module.Version, "v") {
				return module.Version
			}
		}
	}
	commit, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "this repository"
	}
	return "this repository at " + strings.TrimSpace(string(commit))
}

// write writes results.md and the charts into a directory.
func (r *report) write(dir string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\nWritten by `go run ./bench` in %v; README.md next to this file says how it measures.\n\n",
		time.Since(r.began).Round(time.Second))
	b.WriteString(r.heading() + "\n## Goals\n\n" + r.goalTable())
	drawn, err := r.drawAll(dir)
	if err != nil {
		return err
	}
	for _, w := range r.workloads {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", w.title, w.about)
		if drawn[w.name] {
			fmt.Fprintf(&b, "\n![%s](charts/%s.svg)\n", w.title, w.name)
		}
		for _, c := range w.cases {
			b.WriteString("\n" + r.table(w, c))
		}
	}
	if err := os.WriteFile(filepath.Join(dir, resultsFile), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// drawAll draws the charts into a directory's charts and says by workload which there are.
func (r *report) drawAll(dir string) (drawn map[string]bool, err error) {
	if err := os.MkdirAll(filepath.Join(dir, "charts"), 0o755); err != nil {
		return nil, fmt.Errorf("bench: a directory for the charts: %w", err)
	}
	drawn = make(map[string]bool)
	for _, w := range r.workloads {
		if drawn[w.name], err = r.draw(w, filepath.Join(dir, "charts", w.name+".svg")); err != nil {
			return nil, err
		}
	}
	return drawn, nil
}
