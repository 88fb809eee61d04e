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
	libraries := []string{"wsd", "coder"}
	binaries := make(map[string]string)
	for _, library := range libraries {
		binaries[library] = buildJS(t, "jsrates/"+library, "build")
	}
	hosts := map[string]func(*testing.T, *jsServer, string) string{
		"node":     inNode,
		"chromium": inChromiumAlone,
	}
	var rows []string
	measured := make(map[string]map[string][]float64) // by host and row, and library: the rates of all rounds
	for _, host := range []string{"node", "chromium"} {
		for round := range rounds {
			for i := range libraries {
				library := libraries[(i+round)%len(libraries)]
				for _, result := range ratesOf(t, hosts[host], binaries[library], percent) {
					row := host + " | " + result.Row
					if measured[row] == nil {
						measured[row] = make(map[string][]float64)
						rows = append(rows, row)
					}
					measured[row][library] = append(measured[row][library], result.Rate())
				}
			}
		}
	}
	var table strings.Builder
	for _, library := range libraries {
		plain, zipped := sizesOf(t, binaries[library])
		fmt.Fprintf(&table, "%s: %.2f MB, %.2f MB with gzip\n", library, float64(plain)/1e6, float64(zipped)/1e6)
	}
	for _, row := range rows {
		wsd, coder := median(measured[row]["wsd"]), median(measured[row]["coder"])
		fmt.Fprintf(&table, "| %s | %.0f | %.0f | %.2f |\n", row, wsd, coder, wsd/coder)
	}
	t.Log("\n" + table.String())
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
func ratesOf(t *testing.T, host func(*testing.T, *jsServer, string) string, binary string, percent int) (measured []jsrates.Result) {
	t.Helper()
	s := startJSServer(t, binary)
	s.args = []string{s.hostOf(t), strconv.Itoa(percent)}
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
