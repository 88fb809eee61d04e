// jsrates_test.go holds wsd's client in browsers beside coder/websocket's.

package interop

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed62836080/wsd/interop/jsrates"
)

var jsRounds = flag.Int("js-rounds", 0, "measure clients in browsers in so many rounds, for docs/browser.md; 0 only runs them")

// TestJSRates runs the programs of jsrates, which print the rates of wsd's client and of coder's. Without -js-rounds it only
// holds that they work.
func TestJSRates(t *testing.T) {
	rounds, percent := max(*jsRounds, 1), 1
	if *jsRounds > 0 {
		percent = 100
	}
	binaries := map[string]string{"wsd": buildJS(t, "jsrates/wsd", "build"), "coder": buildJS(t, "jsrates/coder", "build")}
	clients := []rated{
		{"wsd", "wsd", nil},
		{"wsd, unbounded", "wsd", []string{strconv.Itoa(1 << 30)}}, // a SendQueue that nobody waits for, as with coder's
		{"coder", "coder", nil},
	}
	hosts := map[string]func(*testing.T, *jsServer, string) string{
		"node":     inNode,
		"chromium": inChromiumAlone,
	}
	var rows []string
	measured := make(map[string]map[string][]float64) // by host and row, and client: the rates of all rounds
	for _, host := range []string{"node", "chromium"} {
		for round := range rounds {
			for i := range clients {
				client := clients[(i+round)%len(clients)]
				args := append([]string{strconv.Itoa(percent)}, client.args...)
				for _, result := range ratesOf(t, hosts[host], binaries[client.program], args...) {
					row := host + " | " + result.Row
					if measured[row] == nil {
						measured[row] = make(map[string][]float64)
						rows = append(rows, row)
					}
					measured[row][client.name] = append(measured[row][client.name], result.Rate())
				}
			}
		}
	}
	var table strings.Builder
	for program, binary := range binaries {
		plain, zipped := sizesOf(t, binary)
		fmt.Fprintf(&table, "%s: %.2f MB, %.2f MB with gzip\n", program, float64(plain)/1e6, float64(zipped)/1e6)
	}
	for _, row := range rows {
		coder := median(measured[row]["coder"])
		fmt.Fprintf(&table, "| %s", row)
		for _, client := range clients {
			rate := median(measured[row][client.name])
			fmt.Fprintf(&table, " | %s %.0f, %.2f", client.name, rate, rate/coder)
		}
		table.WriteString(" |\n")
	}
	t.Log("\n" + table.String())
}

// rated is a client whose rates are measured.
type rated struct {
	name    string
	program string
	args    []string // behind those of jsrates.Main
}

// inChromiumAlone runs a program in a Chromium that nobody looks into: one that a test drives tells of each frame as it passes.
func inChromiumAlone(t *testing.T, s *jsServer, name string) string {
	path := program(t, "chromium")
	results.version("chromium", versionOf(t, path, "--version", "--no-sandbox"))
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-component-update",
		"--disable-background-networking", "--no-proxy-server", "--user-data-dir="+t.TempDir(), s.pageURL(t, name, ""))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // with all that it has started
	cmd.WaitDelay = 10 * time.Second
	require.NoError(t, cmd.Start())
	defer func() {
		stop()
		_ = cmd.Wait()
	}()
	return s.await(t)
}

// ratesOf returns what one run of a program has measured.
func ratesOf(t *testing.T, host func(*testing.T, *jsServer, string) string, binary string, args ...string) (measured []jsrates.Result) {
	t.Helper()
	s := startJSServer(t, binary)
	s.args = append([]string{s.hostOf(t)}, args...)
	status := host(t, s, "rates")
	require.Equal(t, "0", status, s.output.String())
	for line := range strings.Lines(s.output.String()) {
		var result jsrates.Result
		require.NoError(t, json.Unmarshal([]byte(line), &result), line)
		measured = append(measured, result)
	}
	require.NotEmpty(t, measured)
	return measured
}

func median[T cmp.Ordered](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}
