//go:build linux

package main

// These tests run every library as it is measured, for a moment each: the tables are worth what these are worth.

import (
	"os"
	"path/filepath"
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
		handshakeCase(),
		clientCase(true, "lonely client", 1, 1, 64),
		clientCase(true, "clients", 3, 16, 1<<10),
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, l := range libraries {
				if l.cannot(c.role) != "" {
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
	for _, l := range []string{wsdName, "gorilla"} {
		require.Contains(t, colours, l)
	}
	r.libraries = []library{{name: wsdName}, {name: "gorilla"}, {name: rawName}}
	for _, w := range workloads(1 << 20) {
		for _, c := range w.cases {
			r.outcomes[w.name+"/"+c.name+"/"+wsdName] = &outcome{readings: []reading{{
				rateKey: 4, cpuKey: 0.25, p50Key: 2, memoryKey: 1 << 10,
			}}}
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
	for _, name := range []string{"echo.svg", "growth.svg"} {
		chart, err := os.ReadFile(filepath.Join(dir, "charts", name))
		require.NoError(t, err)
		require.Contains(t, string(chart), "<svg")
		require.Contains(t, string(chart), "gorilla")
	}
}

func TestLibrariesAreFoundByName(t *testing.T) {
	for _, l := range libraries {
		found, err := libraryNamed(l.name)
		require.NoError(t, err)
		require.Equal(t, l.name, found.name)
		require.Contains(t, colours, l.name)
	}
	_, err := libraryNamed("none")
	require.ErrorContains(t, err, `got "none"`)
}
