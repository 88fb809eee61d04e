// gorilla_behaviour_test.go compares package gorilla with gorilla/websocket itself: what both declare, and what a program
// that does things wrong or at odd times sees of either.

package interop

import (
	"bufio"
	"bytes"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGorillaBehavesAsGorillaDoes runs one program over both.
func TestGorillaBehavesAsGorillaDoes(t *testing.T) {
	door := filepath.Join(t.TempDir(), "websocket")
	standIn(t, door)
	source, err := os.ReadFile("testdata/gorilla/main.go")
	require.NoError(t, err)
	printed := func(replacements ...string) string {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), source, 0o644))
		mod := "module program\n\ngo 1.26\n\nrequire github.com/gorilla/websocket v1.5.3\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644))
		for _, replacement := range replacements {
			out, err := goIn(dir, "mod", "edit", "-replace", replacement)
			require.NoError(t, err, "%s", out)
		}
		out, err := goIn(dir, "build", "-o", "program", ".")
		require.NoError(t, err, "%s", out)
		out, err = exec.CommandContext(t.Context(), filepath.Join(dir, "program")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	want := printed()
	require.Contains(t, want, "none is left")
	require.Equal(t, want, printed("github.com/gorilla/websocket="+door, "github.com/seed62836080/wsd="+repository(t)))
}

// TestGorillaDeclaresWhatGorillaDoes compares every exported name, field and method.
func TestGorillaDeclaresWhatGorillaDoes(t *testing.T) {
	const theirs, ours = "github.com/gorilla/websocket", "github.com/seed62836080/wsd/gorilla"
	packages := imported(t, theirs, ours)
	want, got := declarations(packages[theirs]), declarations(packages[ours])
	require.Greater(t, len(want), 90)
	for name, shape := range want {
		require.Equal(t, shape, got[name], name)
	}
}

// imported type-checks packages by what the compiler exports of them.
func imported(t *testing.T, paths ...string) map[string]*types.Package {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-export", "-deps", "-f={{.ImportPath}} {{.Export}}"}, paths...)...).Output()
	require.NoError(t, err)
	files := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		path, file, _ := strings.Cut(lines.Text(), " ")
		files[path] = file
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	packages := map[string]*types.Package{}
	for _, path := range paths {
		packages[path], err = imports.Import(path)
		require.NoError(t, err)
	}
	return packages
}

// declarations returns what a package exports, by name, without its own path and the names of parameters.
func declarations(p *types.Package) map[string]string {
	all := map[string]string{}
	for _, name := range p.Scope().Names() {
		object := p.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		switch object := object.(type) {
		case *types.Const:
			all[name] = "const " + object.Val().ExactString() + " " + shape(p, object.Type())
		case *types.TypeName:
			all[name] = "type"
			fields, _ := object.Type().Underlying().(*types.Struct)
			for i := 0; fields != nil && i < fields.NumFields(); i++ {
				if field := fields.Field(i); field.Exported() {
					all[name+"."+field.Name()] = shape(p, field.Type())
				}
			}
			methods(p, object, all)
		default: // a function may be a variable as well
			all[name] = shape(p, object.Type())
		}
	}
	return all
}

// methods adds a type's, or its pointer's, and whether the value has them, too.
func methods(p *types.Package, object *types.TypeName, all map[string]string) {
	value := types.NewMethodSet(object.Type())
	set := value
	if !types.IsInterface(object.Type()) {
		set = types.NewMethodSet(types.NewPointer(object.Type()))
	}
	for method := range set.Methods() {
		if method.Obj().Exported() {
			all[object.Name()+"."+method.Obj().Name()] = shape(p, method.Type())
			if value.Lookup(p, method.Obj().Name()) != nil {
				all[object.Name()+"."+method.Obj().Name()+" of the value"] = "yes"
			}
		}
	}
}

// shape is a type as text that is the same for both packages.
func shape(p *types.Package, of types.Type) string {
	signature, ok := of.(*types.Signature)
	if !ok {
		text := types.TypeString(of, func(other *types.Package) string {
			if other == p {
				return "websocket"
			}
			return other.Path()
		})
		return strings.ReplaceAll(text, "interface{}", "any")
	}
	text := "func("
	for v := range signature.Params().Variables() {
		text += shape(p, v.Type()) + ", "
	}
	if signature.Variadic() {
		text += "..."
	}
	text += ")"
	for v := range signature.Results().Variables() {
		text += " " + shape(p, v.Type())
	}
	return text
}
