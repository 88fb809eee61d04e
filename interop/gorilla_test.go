// gorilla_test.go has what others wrote for gorilla/websocket run over package gorilla: its own tests and examples, and
// programs that import it. They are copied from the module cache into a temporary folder, where a module of gorilla's name
// passes everything on to package gorilla.

package interop

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goIn runs a go command in a directory of its own module.
func goIn(dir string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	return cmd.CombinedOutput()
}

// moduleDir returns where the module cache has a module.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// repository returns the root of this repository.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	return root
}

// standIn writes a module named like gorilla's into dir, whose every name is package gorilla's.
func standIn(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	source := "package websocket\n\nimport door \"github.com/seed62836080/wsd/gorilla\"\n\n"
	paths, err := filepath.Glob("../gorilla/*.go")
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, name := range exported(file) {
			source += fmt.Sprintf("%s %s = door.%s\n", name.kind, name.name, name.name)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "websocket.go"), []byte(source), 0o644))
	mod := "module github.com/gorilla/websocket\n\ngo 1.25\n\nrequire github.com/seed62836080/wsd v0.0.0\n\nreplace github.com/seed62836080/wsd => " +
		repository(t) + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644))
	out, err := goIn(dir, "mod", "tidy")
	require.NoError(t, err, "%s", out)
}

// declared is an exported name, with the keyword that declares another for it.
type declared struct{ kind, name string }

func exported(file *ast.File) (names []declared) {
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Recv == nil && decl.Name.IsExported() {
				names = append(names, declared{"var", decl.Name.Name})
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						names = append(names, declared{"type", spec.Name.Name})
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						if name.IsExported() {
							names = append(names, declared{decl.Tok.String(), name.Name})
						}
					}
				}
			}
		}
	}
	return names
}

// complaint is what the compiler says of a place in a file.
var complaint = regexp.MustCompile(`(?m)^(?:vet: )?(?:\./)?([\w.-]+_test\.go):(\d+):\d+: (.*)$`)

// withoutInternals takes out of the test files in dir what does not compile, since it uses what gorilla does not export, until
// the rest does. It returns the tests that are gone.
func withoutInternals(t *testing.T, dir string) (gone []string) {
	t.Helper()
	for range 40 {
		out, err := goIn(dir, "test", "-c", "-o", os.DevNull, "-gcflags=-e")
		if err == nil {
			slices.Sort(gone)
			return gone
		}
		found := complaint.FindAllStringSubmatch(string(out), -1)
		require.NotEmpty(t, found, "%s", out)
		byFile := map[string][]int{}
		for _, c := range found {
			line, err := strconv.Atoi(c[2])
			require.NoError(t, err)
			byFile[c[1]] = append(byFile[c[1]], line)
		}
		for name, lines := range byFile {
			gone = append(gone, takeOut(t, filepath.Join(dir, name), lines)...)
		}
	}
	t.Fatal("what is left of gorilla's tests does not compile")
	return nil
}

// takeOut removes the declarations, or imports, in which the lines are, and returns the names of those that are tests.
func takeOut(t *testing.T, path string, lines []int) (tests []string) {
	t.Helper()
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, 0)
	require.NoError(t, err)
	blank := func(node ast.Node) bool {
		from, to := set.Position(node.Pos()), set.Position(node.End())
		if !slices.ContainsFunc(lines, func(line int) bool { return from.Line <= line && line <= to.Line }) {
			return false
		}
		for i := from.Offset; i < to.Offset; i++ {
			if source[i] != '\n' {
				source[i] = ' '
			}
		}
		return true
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.GenDecl:
			if decl.Tok == token.IMPORT {
				for _, spec := range decl.Specs {
					blank(spec)
				}
			} else {
				blank(decl)
			}
		case *ast.FuncDecl:
			if blank(decl) && decl.Recv == nil && strings.HasPrefix(decl.Name.Name, "Test") {
				tests = append(tests, decl.Name.Name)
			}
		}
	}
	require.NoError(t, os.WriteFile(path, source, 0o644))
	return tests
}

// gorillaVerdicts returns the tests that passed and that failed.
func gorillaVerdicts(output []byte) (passed, failed []string) {
	for line := range bytes.Lines(output) {
		text := string(line)
		if name, ok := strings.CutPrefix(text, "--- PASS: "); ok {
			passed = append(passed, strings.Fields(name)[0])
		} else if name, ok := strings.CutPrefix(text, "--- FAIL: "); ok {
			failed = append(failed, strings.Fields(name)[0])
		}
	}
	return passed, failed
}

// TestGorillasOwnTests runs those of gorilla's tests that use what it exports.
func TestGorillasOwnTests(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "websocket")
	standIn(t, dir)
	source := moduleDir(t, "github.com/gorilla/websocket")
	paths, err := filepath.Glob(filepath.Join(source, "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o644))
	}
	gone := withoutInternals(t, dir)
	out, _ := goIn(dir, "test", "-v", "-timeout", "60s", ".")
	passed, failed := gorillaVerdicts(out)
	require.Equal(t, knownToFail, failed, "%s", out)
	require.Equal(t, internalTests, gone, "what uses gorilla's own insides")
	require.GreaterOrEqual(t, len(passed), 23, "%s", out)
}

// knownToFail ask that the network connection itself has a deadline while the handshake lasts. Here a context ends it.
var knownToFail = []string{"TestHandshakeTimeout", "TestHandshakeTimeoutInContext"}

// internalTests use functions and types that gorilla does not export, most of them a connection over a reader and a writer
// without a handshake. What they are about is tested in package gorilla.
var internalTests = []string{
	"TestAddrs", "TestBufioReadBytes", "TestBufioReuse", "TestCheckSameOrigin", "TestCloseFrameBeforeFinalMessageFrame",
	"TestConcurrentWritePanic", "TestControl", "TestDeprecatedJSON", "TestDeprecatedUnderlyingConn",
	"TestDialExtraTokensInRespHeaders", "TestEOFBeforeFinalFrame", "TestEOFWithinFrame", "TestEqualASCIIFold",
	"TestFailedConnectionReadPanic", "TestFraming", "TestHostPortNoPort", "TestIsValidChallengeKey", "TestJSON",
	"TestJoinMessages", "TestMaskBytes", "TestNetConn", "TestParseExtensions", "TestPartialJSONRead", "TestPreparedMessage",
	"TestReadLimit", "TestTokenListContainsValue", "TestTruncWriter", "TestValidCompressionLevel",
	"TestWriteAfterMessageWriterClose", "TestWriteBufferPool", "TestWriteBufferPoolError", "TestWriteBufferPoolSync",
}
