// examples_test.go builds all examples and holds what they have in common: that they explain themselves, refuse what they
// do not understand, and that their pages look alike.

package examples

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// programs are all examples, each with command lines that it must refuse.
var programs = map[string][][]string{
	"browser": {{"extra"}},
	"chat":    {{"extra"}},
	"client":  {{}, {"ws://127.0.0.1:1/", "text", "extra"}},
	"echo":    {{"-compress", "extra"}},
	"feed":    {{"tea", "-url", "ws://127.0.0.1:1/"}},
	"inbox":   {{"extra"}, {"-players", "0"}},
	"jsonrpc": {{"extra"}},
	"pool":    {{"-requests", "1", "extra"}, {"-requests", "0"}, {"-outage", "-1s"}},
	"prices":  {{"extra"}, {"-changes", "0"}, {"-slow", "0"}},
}

// patience ends a program that should have ended by itself.
const patience = 30 * time.Second

// runProgram runs a built example to its end, which must be soon, and returns its exit status and what it printed.
func runProgram(t *testing.T, path string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestCommandLines(t *testing.T) {
	dir := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir+string(filepath.Separator), "./...").CombinedOutput()
	require.NoError(t, err, "%s", output)
	built, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, built, len(programs), "every example is in the table")
	for _, path := range built {
		name := strings.TrimSuffix(filepath.Base(path), ".exe")
		t.Run(name, func(t *testing.T) {
			status, stdout, help := runProgram(t, path, "-help")
			require.Zero(t, status)
			require.Empty(t, stdout)
			require.Regexp(t, `^usage: `+name+` (\S.*\n\n)`+strings.ToUpper(name[:1])+name[1:]+` \w`, help, "says how, then what")

			require.Contains(t, programs, name)
			// Read here, it also keeps go test from trusting a result that it got before the source changed.
			source, err := os.ReadFile(filepath.Join(name, "main.go"))
			require.NoError(t, err)
			require.Contains(t, string(source), "//\tgo run ./examples/"+name)

			for _, args := range programs[name] {
				status, stdout, stderr := runProgram(t, path, args...)
				require.Equal(t, 2, status, "%q", args)
				require.Empty(t, stdout, "it has not begun")
				require.Regexp(t, `^`+name+`: .*expected .*, got `, stderr)
			}

			status, stdout, stderr := runProgram(t, path, "-nosuch")
			require.Equal(t, 2, status)
			require.Empty(t, stdout)
			require.Contains(t, stderr, "-nosuch")
			require.Contains(t, stderr, help)
		})
	}
}

// The pages share one look, though each is whole by itself, for whoever copies it.
func TestPagesShareOneLook(t *testing.T) {
	pages, err := filepath.Glob("*/page.html")
	require.NoError(t, err)
	require.Len(t, pages, 5)
	var looks []string
	for _, name := range pages {
		page, err := os.ReadFile(name)
		require.NoError(t, err)
		_, look, begun := strings.Cut(string(page), "/* The look that the examples' pages share. */")
		look, _, ended := strings.Cut(look, "/* The look of this page. */")
		require.True(t, begun && ended, name)
		looks = append(looks, look)
	}
	for _, look := range looks {
		require.Equal(t, looks[0], look)
	}
	require.Contains(t, looks[0], "prefers-color-scheme: dark")
}
