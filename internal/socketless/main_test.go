package main

import (
	"os"
	"path/filepath"
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

func TestProblems(t *testing.T) {
	dir := t.TempDir()
	require.ErrorContains(t, run(nil, nil), "expected a directory")
	require.ErrorContains(t, run([]string{dir}, nil), "no test is without a socket")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "some_test.go"), []byte("package"), 0o600))
	require.ErrorContains(t, run([]string{dir}, nil), "some_test.go")
}
