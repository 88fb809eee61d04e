// purity_test.go checks that the sans-I/O core stays what it is, no I/O, no clocks, no goroutines, and that internal
// packages know nothing of what is built on them.

package wsd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pureFiles are the sans-I/O core.
var pureFiles = []string{"frames.go", "message.go", "parser.go"}

// impureImports are what the core must do without.
var impureImports = map[string]bool{
	"bufio": true, "context": true, "io": true, "net": true, "net/http": true, "os": true, "sync": true,
	"sync/atomic": true, "syscall": true, "time": true, "golang.org/x/sync/errgroup": true,
}

// neutralFiles may be used by the core: their code only computes, and shares what that gives.
var neutralFiles = []string{"config.go", "errors.go", "compression.go"}

// purePackages are what the core and the neutral files use of this module. They may synchronize, since they share what
// they lend.
var purePackages = []string{"internal/bufpool", "internal/deflate", "internal/done", "internal/frame", "internal/inflate", "internal/mask", "internal/parts", "internal/quote", "internal/textcheck"}

func parseFile(t *testing.T, path string) *ast.File {
	t.Helper()
	// Object resolution leaves in Unresolved what a file does not declare itself.
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	require.NoError(t, err)
	return file
}

// requirePureImports checks that a file does without I/O, but for what is allowed, and that what it uses of this module
// is among purePackages.
func requirePureImports(t *testing.T, path string, allowed ...string) {
	t.Helper()
	for _, spec := range parseFile(t, path).Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		require.False(t, impureImports[name] && !slices.Contains(allowed, name), "%s imports %s", path, name)
		if inside, ok := strings.CutPrefix(name, "github.com/seed62836080/wsd/"); ok {
			require.Contains(t, purePackages, inside, "%s imports %s", path, name)
		}
	}
}

func TestSansIOCoreImportsNoIO(t *testing.T) {
	for _, path := range pureFiles {
		requirePureImports(t, path)
	}
	for _, pattern := range neutralFiles {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				requirePureImports(t, path, "sync", "time", "net/http") // durations, headers
			}
		}
	}
	for _, name := range purePackages {
		paths, err := filepath.Glob(name + "/*.go")
		require.NoError(t, err)
		require.NotEmpty(t, paths, name)
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				requirePureImports(t, path, "sync", "sync/atomic", "context") // the texts of errors of contexts
			}
		}
	}
	// The handshake's rules know http.Header and nothing else of HTTP, and no transport. SameOrigin alone is given a request.
	handshake := parseFile(t, "handshake.go")
	for _, spec := range handshake.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		require.False(t, name != "net/http" && impureImports[name], "handshake.go imports %s", name)
	}
	sameOrigin := handshake.Scope.Lookup("SameOrigin").Decl.(*ast.FuncDecl)
	ast.Inspect(handshake, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncType); ok && f == sameOrigin.Type {
			return false
		}
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if from, ok := selector.X.(*ast.Ident); ok && from.Name == "http" {
			name := selector.Sel.Name
			require.True(t, name == "Header" || strings.HasPrefix(name, "Status") || strings.HasPrefix(name, "Method") ||
				name == "CanonicalHeaderKey", "handshake.go uses http.%s", name)
		}
		return true
	})
}

// TestSansIOCoreUsesItselfAlone finds uses of the package's own functions, types and variables through which the core
// would reach I/O without importing it.
func TestSansIOCoreUsesItselfAlone(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	declaredIn := map[string]string{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || allowed(t, path) {
			continue
		}
		for name := range parseFile(t, path).Scope.Objects {
			declaredIn[name] = path
		}
	}
	require.Contains(t, declaredIn, "Conn", "the files of the connection were not found")
	for _, path := range pureFiles {
		for _, used := range parseFile(t, path).Unresolved {
			where, impure := declaredIn[used.Name]
			require.False(t, impure, "%s uses %s of %s", path, used.Name, where)
		}
	}
}

// allowed reports whether the core may use what a file declares.
func allowed(t *testing.T, path string) bool {
	for _, pattern := range append(pureFiles, neutralFiles...) {
		matched, err := filepath.Match(pattern, path)
		require.NoError(t, err)
		if matched {
			return true
		}
	}
	return false
}

// TestInternalPackagesKnowNothingOfThoseAbove holds that nothing below internal imports the package that its doors are
// for, but for tests of whole connections, and that sockets and parking need only memory and a clock besides, and no HTTP.
func TestInternalPackagesKnowNothingOfThoseAbove(t *testing.T) {
	const module = "github.com/seed62836080/wsd"
	alone := map[string]bool{"internal/netio": false, "internal/park": false} // whether a file of it was seen
	require.NoError(t, filepath.WalkDir("internal", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(path))
		_, isAlone := alone[room]
		if isAlone {
			alone[room] = true
		}
		for _, spec := range parseFile(t, path).Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			below, ours := strings.CutPrefix(name, module)
			require.False(t, ours && !strings.HasPrefix(below, "/internal/") && room != "internal/streamtest", "%s imports %s", path, name)
			if isAlone && !strings.HasSuffix(path, "_test.go") {
				leaf := below == "/internal/bufpool" || below == "/internal/clock"
				require.False(t, ours && !leaf || name == "net/http", "%s imports %s", path, name)
			}
		}
		return nil
	}))
	for room, seen := range alone {
		require.True(t, seen, "no file of %s was found", room)
	}
}
