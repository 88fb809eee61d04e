//go:build linux

package main

// These tests run every library as it is measured, for a moment each: the tables are worth what these are worth.

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain makes the test binary what the program is: also the measured process.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == roleArgument {
		exitOn(serveRole(os.Args[2]))
		return
	}
	os.Exit(m.Run())
}

// moment are settings for a measurement that is only to work.
var moment = settings{quick: true, rounds: 1, warmup: 5 * time.Millisecond, duration: 20 * time.Millisecond, files: 1000}

// Each library passes a small case of each kind: the load client checks the answers.
func TestEveryLibraryInEveryKindOfCase(t *testing.T) {
	deflate := role{Work: serveIdle, Deflate: true}
	takeover := role{Work: serveIdle, Deflate: true, Takeover: true}
	for _, c := range []benchCase{
		echoCase(true, "lonely", 1, 1, 64),
		echoCase(true, "pipelined", 3, 64, 64),
		echoCase(true, "large", 2, 1, 1<<20),
		echoCase(true, "huge", 1, 1, 16<<20),
		tlsCase(true, "TLS", 2, 4, 1<<10),
		deflateCase(true, "deflate", role{Work: serveEcho, Deflate: true}),
		deflateCase(true, "deflate with takeover", role{Work: serveEcho, Deflate: true, Takeover: true}),
		deflateCase(true, "deflate with a small window", role{Work: serveEcho, Deflate: true, Takeover: true, Window: 12}),
		idleCase(true, "idle", 20, role{Work: serveIdle}),
		idleCase(true, "idle deflate", 5, deflate),
		idleCase(true, "idle takeover", 5, takeover),
		broadcastCase(true, "broadcast", 20, 0, 4),
		broadcastCase(true, "slow broadcast", 20, 2, 4),
		hubCase(true, "hub", 20, 0, 4, 128),
		hubCase(true, "hub with slow ones", 20, 2, 4, 128),
		hubCase(true, "hub of large messages", 5, 0, 2, 1<<20),
		topicsCase(true, "hub of many topics", 200, 50, 32),
		latestCase(true, "hub of the latest", 100, 10, 10, 16),
		floodCase(true, "flood", flooding, 0),
		floodCase(true, "flood with a rate", flooding, floodPace),
		floodCase(true, "one at the rate", keepingPace, floodPace),
		deliveryCase(true, "large broadcast", role{Work: serveBroadcast}, 10, 1, 2, 1<<20),
		loopCase(true, "each", "/each", 2, 4, 1<<10),
		loopCase(true, "try", "/try", 2, 4, 1<<10),
		handshakeCase(),
		clientCase(true, "lonely client", 1, 1, 64),
		clientCase(true, "clients", 3, 16, 1<<10),
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, l := range libraries {
				if !l.plays(c.role) || l.cannot(c.role) != "" {
					continue
				}
				got, err := c.run(l, moment)
				require.NoError(t, err, l.name)
				require.NotEmpty(t, got, l.name)
				if _, memory := got[memoryKey]; memory {
					continue // of so few connections it is noise
				}
				for _, key := range []string{rateKey, cpuKey, p50Key} {
					require.Positive(t, got[key], "%s: %s", l.name, key)
				}
				require.GreaterOrEqual(t, got[p99Key], got[p50Key], l.name)
			}
		})
	}
}

// A case too large for the limit of open files says so and fails nobody.
func TestCasesThatTheLimitForbids(t *testing.T) {
	set := moment
	r := newReport(libraries, set)
	w := workload{name: "growth", title: "Growth", columns: timeColumns, cases: []benchCase{
		echoCase(true, "900 connections", 900, 1, 64),
	}}
	r.measure(w, w.cases[0])
	require.Contains(t, r.table(w, w.cases[0]), "skipped: needs a limit of open files above 1100, it is 1000")
}

// Idle connections that are too many for a process are held all the same, by several.
func TestIdleConnectionsAreSpread(t *testing.T) {
	require.Equal(t, []int{5000}, shares(5000, 20_000))
	require.Equal(t, []int{16_666, 16_667, 16_667}, shares(50_000, 20_000))
	require.Equal(t, []int{50_000}, shares(50_000, 50_200))
	set := moment
	set.files = fileMargin + 10
	for _, l := range libraries {
		if l.only != "" {
			continue
		}
		_, err := idleMemory(role{Library: l.name, Work: serveIdle}, 25, set)
		require.NoError(t, err, l.name)
	}
}

func TestEveryGoalNamesACaseThatIsMeasured(t *testing.T) {
	r := newReport(libraries, moment)
	for _, w := range workloads(1 << 20) {
		for _, c := range w.cases {
			for _, l := range libraries {
				// Whatever is measured is 1, for wsd as for everyone.
				r.outcomes[w.name+"/"+c.name+"/"+l.name] = &outcome{readings: []reading{{
					rateKey: 1, cpuKey: 1, p50Key: 1, memoryKey: 1,
				}}}
			}
		}
	}
	r.libraries = []library{{name: wsdName}, {name: "gorilla"}, {name: rawName}}
	for _, w := range workloads(1 << 20) {
		for _, c := range w.cases {
			for _, name := range []string{wsdName, aloneName, pairName} {
				r.outcomes[w.name+"/"+c.name+"/"+name] = &outcome{readings: []reading{{
					rateKey: 4, cpuKey: 0.25, p50Key: 2, memoryKey: 1 << 10,
				}}}
			}
		}
	}
	for _, g := range goals() {
		got, met, known := g.judge(r)
		require.True(t, known, "%s: %s", g.work, g.claim)
		switch {
		case strings.HasPrefix(g.claim, "rate at least 8"), strings.HasPrefix(g.claim, "p50"),
			strings.Contains(g.work, "idle connections"):
			require.False(t, met, "%s: %s: %s", g.work, g.claim, got)
		default:
			require.True(t, met, "%s: %s: %s", g.work, g.claim, got)
		}
	}
}

func TestTablesAndCharts(t *testing.T) {
	libs := []library{{name: wsdName}, {name: "gorilla"}, {name: rawName}}
	r := newReport(libs, moment)
	w := workload{name: "echo", title: "Echo", about: "About it.", columns: timeColumns, chart: rateKey,
		cases: []benchCase{{name: "one"}, {name: "two, of two"}}}
	growth := workload{name: "growth", title: "Growth", columns: timeColumns, chart: rateKey,
		cases: []benchCase{{name: "10 connections"}, {name: "1,000 connections"}}}
	r.workloads = []workload{w, growth}
	for _, w := range r.workloads {
		for _, c := range w.cases {
			for i, l := range libs {
				var o outcome
				for _, v := range []float64{3, 1, 2} {
					o.readings = append(o.readings, reading{rateKey: v * float64(1000*i+1000), cpuKey: v / 8, p50Key: v * 1500})
				}
				r.outcomes[w.name+"/"+c.name+"/"+l.name] = &o
			}
		}
	}
	r.outcomes["echo/one/raw"] = &outcome{note: "cannot: no messages"}
	require.Equal(t, ""+
		"| Echo: one | messages/s          | CPU µs/message | p50 µs | p99 µs | p99.9 µs |\n"+
		"| ---       | ---:                | ---:           | ---:   | ---:   | ---:     |\n"+
		"| wsd       | 2000                | 0.25           | 3.0    |        |          |\n"+
		"| gorilla   | 4000                | 0.25           | 3.0    |        |          |\n"+
		"| raw       | cannot: no messages |                |        |        |          |\n",
		r.table(w, w.cases[0]))

	dir := t.TempDir()
	require.NoError(t, r.write(dir))
	results, err := os.ReadFile(filepath.Join(dir, "results.md"))
	require.NoError(t, err)
	for _, text := range []string{"# Results", "## Goals", "![Echo](charts/echo.svg)", "About it.", "Echo: two, of two"} {
		require.Contains(t, string(results), text)
	}
	require.Len(t, readCharts(t, dir), 2)
}

// What a run writes is enough to draw the same charts again.
func TestRedraw(t *testing.T) {
	r := newReport([]library{{name: wsdName}, {name: "gorilla"}, {name: rawName}}, moment)
	r.workloads = workloads(1 << 20)
	for _, w := range r.workloads {
		for i, c := range w.cases {
			for j, l := range r.libraries {
				// Numbers that the tables need not round.
				each := float64(1 + i + 3*j)
				r.outcomes[w.name+"/"+c.name+"/"+l.name] = &outcome{readings: []reading{{
					rateKey: 1000 * each, cpuKey: each / 4, p50Key: 1000 * each, bytesKey: each * (1 << 20), memoryKey: each * (1 << 10),
				}}}
			}
			r.outcomes[w.name+"/"+c.name+"/raw"] = &outcome{note: "cannot: no messages"}
		}
	}
	dir := t.TempDir()
	require.NoError(t, r.write(dir))
	charts := readCharts(t, dir)
	require.Len(t, charts, len(r.workloads))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "charts")))
	require.NoError(t, bench([]string{"-redraw", "-out", dir}))
	requireSame(t, charts, readCharts(t, dir))
}

// requireSame compares charts, too long to be printed.
func requireSame(t *testing.T, want, got map[string]string) {
	t.Helper()
	require.Len(t, got, len(want))
	for name, chart := range want {
		require.True(t, chart == got[name], name)
	}
}

// readCharts returns what a directory's charts hold, by name.
func readCharts(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "charts", "*.svg"))
	require.NoError(t, err)
	charts := make(map[string]string)
	for _, file := range files {
		chart, err := os.ReadFile(file)
		require.NoError(t, err)
		charts[filepath.Base(file)] = string(chart)
	}
	return charts
}

// The charts in the repository are those of the results next to them.
func TestChartsAreThoseOfTheResults(t *testing.T) {
	results, err := os.ReadFile(resultsFile)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, resultsFile), results, 0o644))
	require.NoError(t, redraw(dir))
	drawn := readCharts(t, dir)
	require.Len(t, drawn, strings.Count(string(results), "](charts/"))
	requireSame(t, readCharts(t, "."), drawn) // if not: go run ./bench -redraw
}

func TestRedrawSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	require.ErrorIs(t, redraw(dir), os.ErrNotExist)
	for text, want := range map[string]string{
		"# Results\n": "expected tables of the workloads, found none",
		"| Idle connections: 5,000 connections | KiB/connection |\n| --- | ---: |\n| nobody | 1 |\n":  `got "nobody"`,
		"| Idle connections: 5,000 connections | KiB/connection |\n| --- | ---: |\n| wsd | 1 | 2 |\n": "expected 2 cells",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, resultsFile), []byte(text), 0o644))
		require.ErrorContains(t, redraw(dir), want)
	}
}

// element is one of a chart's.
type element struct {
	XMLName xml.Name
	Class   string    `xml:"class,attr"`
	X       float64   `xml:"x,attr"`
	Y       float64   `xml:"y,attr"`
	Width   float64   `xml:"width,attr"`
	Height  float64   `xml:"height,attr"`
	Text    string    `xml:",chardata"`
	Inside  []element `xml:",any"`
}

func TestCharts(t *testing.T) {
	values := map[string]map[string]float64{
		"quick & <small>": {wsdName: 0.25, "gorilla": 1, rawName: 0.5},
		"slow, for which the heading is so long that it takes more than one line": {wsdName: 40, "gorilla": 20},
	}
	r := newReport([]library{{name: wsdName}, {name: "gorilla"}, {name: rawName}}, moment)
	w := workload{name: "echo", title: "Echo", columns: timeColumns, chart: cpuKey}
	for name, ofLibraries := range values {
		w.cases = append(w.cases, benchCase{name: name})
		r.outcomes["echo/"+name+"/raw"] = &outcome{note: "cannot: no messages"}
		for library, value := range ofLibraries {
			r.outcomes["echo/"+name+"/"+library] = &outcome{readings: []reading{{cpuKey: value}}}
		}
	}
	slices.SortFunc(w.cases, func(a, b benchCase) int { return strings.Compare(a.name, b.name) })
	path := filepath.Join(t.TempDir(), "echo.svg")

	// bars are the widths of the bars, by class, panel for panel.
	draw := func(oneScale bool) (svg element, bars map[string][]float64, all string) {
		w.oneScale = oneScale
		drawn, err := r.draw(w, path)
		require.NoError(t, err)
		require.True(t, drawn)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(text), "%!")
		require.NoError(t, xml.Unmarshal(text, &svg), "%s", text)
		bars = make(map[string][]float64)
		for _, e := range svg.Inside {
			all += e.Text + "\n"
			if e.XMLName.Local == "rect" && e.Height == barHeight {
				bars[e.Class] = append(bars[e.Class], e.Width)
			}
			if e.XMLName.Local == "rect" || e.XMLName.Local == "text" {
				require.GreaterOrEqual(t, e.X, 0.0)
				require.LessOrEqual(t, e.X+e.Width, svg.Width)
				require.Less(t, e.Y+e.Height, svg.Height)
			}
		}
		return svg, bars, all
	}

	svg, own, all := draw(false)
	require.Equal(t, 830.0, svg.Width, "a README is not wider")
	for _, text := range []string{"Echo: CPU µs/message, less is better", "own scale", "quick & <small>", "no messages", "0.25",
		"40.00", "prefers-color-scheme: dark"} {
		require.Contains(t, all, text)
	}
	for _, size := range regexp.MustCompile(`(\d+)px`).FindAllStringSubmatch(all, -1) {
		pixels, err := strconv.Atoi(size[1])
		require.NoError(t, err)
		require.GreaterOrEqual(t, pixels, 12, "the smallest letters")
	}
	require.Len(t, own[wsdName], 2)
	require.Len(t, own[rawName], 1)
	require.InDelta(t, 0.25, own[wsdName][0]/own["rival"][0], 0.01)
	require.InDelta(t, 2, own[wsdName][1]/own["rival"][1], 0.01)
	require.Equal(t, own["rival"][0], own[wsdName][1], "the longest of a panel fills it")

	_, same, all := draw(true)
	require.Contains(t, all, "same scale")
	require.InDelta(t, 40, same[wsdName][1]/same["rival"][0], 1)
}

func TestCommandLinesThatCannotBeRun(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"-run nosuch", `"nosuch"`},
		{"-quick -run client/.*KiB,.one", `expected -run to match`}, // there is one, but not in a quick run
		{"-run [", "pattern of -run"},
		{"-libs wsd,nosuch", `"nosuch"`},
		{"-rounds 0", "at least one round"},
		{"-duration -1s", "duration above zero"},
		{"-quick extra", `"extra"`},
	} {
		err := bench(strings.Fields(test.line))
		require.ErrorContains(t, err, test.want, test.line)
		require.ErrorAs(t, err, new(usageError), test.line)
	}
}

func TestLibrariesAreFoundByName(t *testing.T) {
	for _, l := range libraries {
		found, err := libraryNamed(l.name)
		require.NoError(t, err)
		require.Equal(t, l.name, found.name)
	}
	_, err := libraryNamed("none")
	require.ErrorContains(t, err, `got "none"`)
}
