package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const tests = `package some_test

func TestPlain(t *testing.T)    { check(t) }
func TestDials(t *testing.T)    { wsd.Dial(nil, "", nil) }
func TestServes(t *testing.T)   { helper(t) }
func TestIsGiven(t *testing.T)  { use(helper) }
func TestMethod(t *testing.T)   { new(peer).reach() }
func TestRuns(t *testing.T)     { exec.CommandContext(nil, "true") }
func TestReads(t *testing.T)    { net.ParseIP("") }
func TestMain(m *testing.M)     {}
func ExampleOther()             {}
func helper(t *testing.T)       { deeper(t) }
func deeper(t *testing.T)       { defer httptest.NewServer(nil).Close() }
func (p *peer) reach()          { net.Dial("tcp", "") }
func check(t *testing.T)        { testing.Short() }
`

func TestSocketless(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "some_test.go"), []byte(tests), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "some.go"), []byte("package some\n\nfunc TestNothing() {}\n"), 0o600))
	var out strings.Builder
	require.NoError(t, run([]string{dir}, &out))
	require.Equal(t, "^(TestPlain|TestReads)$\n", out.String())
}

func TestManyNamesAreSeveralLines(t *testing.T) {
	dir := t.TempDir()
	var many strings.Builder
	many.WriteString("package some_test\n\n")
	for i := range 500 {
		fmt.Fprintf(&many, "func TestOf%03d(t *testing.T) {}\n", i)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "some_test.go"), []byte(many.String()), 0o600))
	var out strings.Builder
	require.NoError(t, run([]string{dir}, &out))
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 2)
	found := 0
	for _, line := range lines {
		require.Less(t, len(line), 5<<10)
		expression, err := regexp.Compile(line)
		require.NoError(t, err)
		for i := range 500 {
			if expression.MatchString(fmt.Sprintf("TestOf%03d", i)) {
				found++
			}
		}
	}
	require.Equal(t, 500, found)
}

func TestProblems(t *testing.T) {
	dir := t.TempDir()
	require.ErrorContains(t, run(nil, nil), "expected a directory")
	require.ErrorContains(t, run([]string{dir}, nil), "no test is without a socket")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "some_test.go"), []byte("package"), 0o600))
	require.ErrorContains(t, run([]string{dir}, nil), "some_test.go")
}
