// docs_test.go checks the documents against the code: their Go compiles, their links lead somewhere, the tests they name
// exist.

package wsd_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documents returns the text of every document, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			texts[path] = string(text)
		}
	}
	require.Contains(t, texts, "README.md")
	return texts
}

// TestDocumentedGoCompiles type-checks the Go blocks of the documents, each as the body of a function whose parameters
// are what such a piece of code uses. A block of a nested module names that behind go: the core cannot import it.
func TestDocumentedGoCompiles(t *testing.T) {
	const frame = `package p
import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/seed62836080/wsd"
	"github.com/seed62836080/wsd/hub"
	"github.com/seed62836080/wsd/pool"
)
var _ netip.Addr
var _ io.Reader
var _ net.Conn
var _ hub.Options
var _ pool.Options
var _ = errors.Is
var _ expvar.Var
var _ fmt.Stringer
var _ log.Logger
var _ http.Handler
func f(ctx context.Context, conn *wsd.Conn, ticker *time.Ticker, handle func(wsd.Message), talk func(_ *wsd.Conn, session, room string), login func(context.Context) (string, error), p *pool.Pool, ws *wsd.Server, file io.ReadWriter, url, address string) error {
	{
//line %s:%d
%s
	}
	panic("not run")
}
`
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	found := 0
	imports := exportData(t, "context", "errors", "expvar", "fmt", "io", "log", "net", "net/http", "net/netip", "time",
		"github.com/seed62836080/wsd", "github.com/seed62836080/wsd/hub", "github.com/seed62836080/wsd/pool")
	for path, text := range documents(t) {
		for _, block := range blocks.FindAllStringSubmatchIndex(text, -1) {
			source := text[block[2]:block[3]]
			line := strings.Count(text[:block[2]], "\n") + 1
			found++
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, fmt.Sprintf(frame, path, line, source), 0)
			require.NoError(t, err)
			config := types.Config{
				Importer: importer.ForCompiler(fset, "gc", imports),
				Error: func(err error) {
					if typed, ok := err.(types.Error); !ok || !typed.Soft { // soft: declared and not used
						t.Error(err)
					}
				},
			}
			_, _ = config.Check("p", fset, []*ast.File{file}, nil)
		}
	}
	require.NotZero(t, found)
}

// exportData returns what an importer needs to find packages and all that they import.
func exportData(t *testing.T, packages ...string) importer.Lookup {
	t.Helper()
	list := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}, packages...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	require.NoError(t, err)
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}

func TestDocumentedLinksLeadSomewhere(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for path, text := range documents(t) {
		for _, link := range links.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(link[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(path), target))
			require.NoError(t, err, "%s links to %s", path, link[1])
		}
	}
}

func TestDocumentedTestsExist(t *testing.T) {
	var tests strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "*/*/*_test.go"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			source, err := os.ReadFile(path)
			require.NoError(t, err)
			tests.Write(source)
		}
	}
	names := regexp.MustCompile("`(Test[A-Z0-9]\\w*)(…?)`")
	found := 0
	for path, text := range documents(t) {
		for _, name := range names.FindAllStringSubmatch(text, -1) {
			found++
			end := "("
			if name[2] != "" {
				end = ""
			}
			require.True(t, strings.Contains(tests.String(), "func "+name[1]+end), "%s names %s", path, name[0])
		}
	}
	require.NotZero(t, found)
}

// Tests that name the sentence they hold, by a document and its words, name one that there is.
func TestSentencesThatTestsNameExist(t *testing.T) {
	named := regexp.MustCompile(`(docs/[a-z-]+\.md), "([^"\n]+)"`)
	found, texts := 0, documents(t)
	paths, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, path := range paths {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, name := range named.FindAllStringSubmatch(string(source), -1) {
			found++
			require.Contains(t, texts[name[1]], name[2], "%s names it", path)
		}
	}
	require.NotZero(t, found)
}
