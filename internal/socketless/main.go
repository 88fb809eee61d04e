// Socketless prints, as regular expressions for go test -run, the names of the tests in a directory that open no socket and
// run no program, neither themselves nor through other functions of the tests: those that can also run where there are none,
// built for js/wasm. There are several lines, each an expression, since a program in node is given 12 KiB of arguments and
// environment at most.
//
//	go run ./internal/socketless . | while read -r names; do GOOS=js GOARCH=wasm go test -run "$names" .; done
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// lineMost bounds the names in a line, in bytes.
const lineMost = 4 << 10

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "socketless:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("expected a directory, got %q", args)
	}
	files, err := filepath.Glob(filepath.Join(args[0], "*_test.go"))
	if err != nil {
		return err
	}
	found := make(functions)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found.add(file)
	}
	names := found.socketless()
	if len(names) == 0 {
		return errors.New("no test is without a socket")
	}
	for len(names) > 0 {
		n, size := 0, 0
		for n < len(names) && (n == 0 || size+len(names[n]) < lineMost) {
			size += len(names[n]) + len("|")
			n++
		}
		if _, err := fmt.Fprintf(stdout, "^(%s)$\n", strings.Join(names[:n], "|")); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

// functions are those of the tests, by name, and what each uses: names of its own package, and "package.Name" of others.
type functions map[string]map[string]bool

// add adds those of a file. Methods and functions of one name count as one, which at worst leaves out a test too many.
func (f functions) add(file *ast.File) {
	for _, decl := range file.Decls {
		function, is := decl.(*ast.FuncDecl)
		if !is || function.Body == nil {
			continue
		}
		uses := f[function.Name.Name]
		if uses == nil {
			uses = make(map[string]bool)
			f[function.Name.Name] = uses
		}
		ast.Inspect(function.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if of, is := n.X.(*ast.Ident); is {
					uses[of.Name+"."+n.Sel.Name] = true
				}
				uses[n.Sel.Name] = true
			case *ast.Ident:
				uses[n.Name] = true
			}
			return true
		})
	}
}

// opens are the names of what opens a socket or runs a program; a name that ends with a dot stands for all of that package.
var opens = []string{
	"Dial", "wsd.Dial", "wsd.Redial", "httptest.NewServer", "httptest.NewUnstartedServer", "httptest.NewTLSServer",
	"net.Listen", "net.Dial", "net.DialTimeout", "net.ListenTCP", "http2test.", "exec.", "syscall.", "unix.",
}

// socketless returns the names of the tests that reach none of those.
func (f functions) socketless() []string {
	reaching := make(map[string]bool)
	for again := true; again; {
		again = false
		for name, uses := range f {
			if !reaching[name] && reaches(uses, reaching) {
				reaching[name], again = true, true
			}
		}
	}
	var names []string
	for name := range f {
		if strings.HasPrefix(name, "Test") && name != "TestMain" && !reaching[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func reaches(uses, reaching map[string]bool) bool {
	for name := range uses {
		of, _, qualified := strings.Cut(name, ".")
		if reaching[name] || slices.Contains(opens, name) || qualified && slices.Contains(opens, of+".") {
			return true
		}
	}
	return false
}
