// help_test.go checks what all verbs have in common: help, completion, exit statuses, the manual.

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// verbs returns the verbs that the overview lists.
func verbs(t *testing.T) []string {
	t.Helper()
	r := run(t, "", "-h")
	require.Equal(t, 0, r.status)
	var names []string
	for line := range strings.Lines(r.stdout) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "  ") && len(fields) > 1 && fields[0] != "wsd" && fields[0] != "help" && fields[0] != "completion" {
			names = append(names, fields[0])
		}
	}
	require.GreaterOrEqual(t, len(names), 3)
	return names
}

func TestHelpFitsAScreenAndBeginsWithExamples(t *testing.T) {
	t.Parallel()
	for _, verb := range verbs(t) {
		r := run(t, "", verb, "-h")
		assert.Equal(t, 0, r.status)
		assert.Empty(t, r.stderr)
		lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
		assert.LessOrEqual(t, len(lines), 24, "%s\n%s", verb, r.stdout)
		for _, line := range lines {
			assert.LessOrEqual(t, utf8.RuneCountInString(line), 80, line)
		}
		for _, example := range lines[:3] {
			assert.True(t, strings.Contains(example, "wsd "+verb), "an example: %q", example)
		}
		for _, other := range [][]string{{verb, "--help"}, {verb, "x", "-h"}} {
			assert.Equal(t, r, run(t, "", other...))
		}
		full := run(t, "", "help", verb)
		assert.Equal(t, 0, full.status)
		assert.Greater(t, len(full.stdout), len(r.stdout))
	}
}

func TestOverviewFitsAScreen(t *testing.T) {
	t.Parallel()
	r := run(t, "", "help")
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	assert.LessOrEqual(t, len(lines), 24, r.stdout)
	for _, line := range lines {
		assert.LessOrEqual(t, utf8.RuneCountInString(line), 80, line)
	}
	for _, other := range [][]string{{"-h"}, {"--help"}, {"help", "help"}, {"help", "version"}} {
		assert.Equal(t, r, run(t, "", other...), other)
	}
	assert.Equal(t, result{stderr: r.stdout, status: 2}, run(t, ""))
	completion := run(t, "", "help", "completion")
	assert.Contains(t, completion.stdout, "source <(wsd completion bash)")
	assert.Equal(t, completion, run(t, "", "completion", "-h"))
}

// What all verbs need to begin with is little: a script may call the command often.
func TestStartsWithLittle(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary, "version")
	cmd.Env = append(environment(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	bytes := 0
	for _, match := range regexp.MustCompile(`(?m)^init \S+ @.* (\d+) bytes, \d+ allocs$`).FindAllStringSubmatch(string(out), -1) {
		n, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		bytes += n
	}
	assert.Positive(t, bytes)
	assert.Less(t, bytes, 2<<20, "bytes that packages take at the start:\n%s", out)
}

func TestWhatIsNoVerbIsAnsweredWithWhatWasMeant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"dail"}, "did you mean dial?"},
		{[]string{"ws://127.0.0.1:8080"}, "expected a verb before the URL, as in: wsd dial ws://127.0.0.1:8080"},
		{[]string{"-x", "hi"}, "expected a verb before -x"},
		{[]string{"zzzzzz"}, "expected one of dial, serve"},
		{[]string{"help", "sevre"}, "did you mean serve?"},
		{[]string{"completion", "tcsh"}, "expected the name of a shell"},
		{[]string{}, "wsd dial"},
	} {
		r := run(t, "", c.args...)
		assert.Equal(t, 2, r.status, c.args)
		assert.Contains(t, r.stderr, c.want)
		assert.Empty(t, r.stdout)
	}
	assert.Regexp(t, `^wsd \S+.* go1\.`, run(t, "", "version").stdout)
}

// shell returns the path of a shell, or ends the test where it is not installed.
func shell(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return path
}

// missing ends a test that needs what is not installed.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("WSD_INTEROP") == "required" {
		t.Fatalf("%s is not installed, run cmd/wsd/setup.sh", what)
	}
	t.Skipf("%s is not installed", what)
}

func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"wsd d": "dial", "wsd dial -subp": "-subprotocol", "wsd dial --subp": "--subprotocol", "wsd serve -log ": "text json",
		"wsd completion f": "fish", "wsd help ser": "serve", "wsd check -cac": "-cacert",
	} {
		list := strings.Split(words, " ")
		script := `source <("$0" completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _wsd; echo "${COMPREPLY[*]}"`
		cmd := exec.Command(shell(t, "bash"), append([]string{"--norc", "-c", script, binary}, list...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Equal(t, want+"\n", string(out), words)
	}
}

func TestCompletionInFish(t *testing.T) {
	t.Parallel()
	script := run(t, "", "completion", "fish").stdout
	file := filepath.Join(t.TempDir(), "wsd.fish")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o600))
	for words, want := range map[string]string{"wsd d": "dial", "wsd dial -subp": "-subprotocol", "wsd serve -log ": "text", "wsd help ser": "serve",
		"wsd dial --subp": "--subprotocol", "wsd serve --log ": "text", "wsd check --junit " + file[:len(file)-5]: file} {
		cmd := exec.Command(shell(t, "fish"), "--no-config", "-c", `source $argv[1]; complete -C $argv[2]`, file, words)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "PATH="+shared+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, strings.Fields(string(out)), want, "%s: %s", words, out)
	}
}

func TestCompletionInZsh(t *testing.T) {
	t.Parallel()
	x := startOnTerminal(t, []string{"HOME=" + t.TempDir(), "PATH=" + shared + ":" + os.Getenv("PATH")}, shell(t, "zsh"), "-f", "-i")
	x.enter(t, `autoload -U compinit; compinit -D -u; source <(wsd completion zsh); echo rea""dy`)
	x.screen.wait(t, `ready`)
	_, err := x.pty.WriteString("wsd dial -subp\t")
	require.NoError(t, err)
	x.screen.wait(t, `-subp[^\n]*rotocol`)
	_, err = x.pty.WriteString("one -rec\t")
	require.NoError(t, err)
	x.screen.wait(t, `one -rec[^\n]*onnect`)
	_, err = x.pty.WriteString("--max\t")
	require.NoError(t, err)
	x.screen.wait(t, `--max[^\n]*-size`)
	_, err = x.pty.WriteString("10 --cacert /etc/passw\t")
	require.NoError(t, err)
	x.screen.wait(t, `/etc/passw[^\n]*d`)
	_, err = x.pty.WriteString("\x15wsd serve --log t\t")
	require.NoError(t, err)
	x.screen.wait(t, `--log t[^\n]*ext`)
}
