// main_test.go tests what is found missing, and what is not.
package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	const top = "// A file for tests.\n\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  []string // after the directory
	}{
		"all is well": {map[string]string{
			"a.go": "// Package p is for tests.\npackage p\n\n// F does.\nfunc F() {}\n\n// The numbers.\nconst (\n\tA = 1\n\tB = 2\n)\n",
			"b.go": "//go:build linux\n\n" + top + "package p\n\n// T is.\ntype T struct{ X int }\n\n// M does.\nfunc (*T) M() {}\n\nfunc f() {}\n",
		}, nil},
		"undocumented names": {map[string]string{
			"a.go": "// Package p is for tests.\npackage p\n\nfunc F() {}\n\ntype T[P any] struct{}\n\nfunc (t *T[P]) M() {}\n\n" +
				"const A = 1\n\nvar (\n\tB, c = 2, 3\n\tD = 4 // four\n)\n\ntype (\n\tU int\n)\n",
		}, []string{
			"a.go:10: const A has no doc comment", "a.go:13: var B has no doc comment", "a.go:18: type U has no doc comment",
			"a.go:4: func F has no doc comment", "a.go:6: type T has no doc comment", "a.go:8: func M has no doc comment",
		}},
		"a group's comment is not its types'": {map[string]string{
			"a.go": "// Package p is for tests.\npackage p\n\n// Types.\ntype (\n\tT int\n)\n",
		}, []string{"a.go:6: type T has no doc comment"}},
		"methods of unexported types": {map[string]string{
			"a.go": "// Package p is for tests.\npackage p\n\ntype t struct{}\n\nfunc (t) String() string { return \"\" }\n",
		}, nil},
		"a comment below the package clause": {map[string]string{
			"a.go": "// Package p is for tests.\npackage p\n",
			"b.go": "//go:build linux\n\npackage p\n\n" + top + "import \"fmt\"\n\nvar _ fmt.Stringer\n",
		}, nil},
		"a comment below the first declaration": {map[string]string{
			"a.go": "// Package p is for tests.\npackage p\n",
			"b.go": "package p\n\nimport \"fmt\"\n\n" + top + "var _ fmt.Stringer\n",
			"c.go": "package p\n\n// F does.\nfunc F() {}\n",
		}, []string{
			"b.go:1: the file does not open with a comment that says what it is for",
			"c.go:1: the file does not open with a comment that says what it is for",
		}},
		"no comment at the top": {map[string]string{
			"a.go":      "// Package p is for tests.\npackage p\n",
			"b.go":      "//go:build linux\n\npackage p\n",
			"p_test.go": "package p_test\n\nfunc TestNothing() {}\n\ntype Helper int\n",
		}, []string{
			"b.go:3: the file does not open with a comment that says what it is for",
		}},
		"long doc comments": {map[string]string{
			"a.go": "// Package p is for tests, " + long(200) + "\npackage p\n\n" + // a package has more to say
				"// F " + long(99) + "\n//\n//\tan example\nfunc F() {}\n\n// G " + long(100) + "\nfunc G() {}\n\n// f " + long(100) + "\nfunc f() {}\n\n" +
				"// T " + long(60) + "\n//\n// And " + long(60) + "\ntype T struct {\n\t// X " + long(100) + "\n\tX, y int\n\t// z " + long(100) + "\n\tz int\n}\n\n" +
				"// I is.\ntype I interface {\n\t// M " + long(100) + "\n\tM()\n}\n\n" +
				"// All of them.\nconst (\n\t// A " + long(100) + "\n\tA = 1\n)\n\n" +
				"// Two.\ntype (\n\t// U " + long(100) + "\n\tU int\n)\n\n" +
				"// Send " + long(100) + "\nfunc Send() {}\n",
		}, []string{
			"a.go:15: the doc comment of T has 122 words, expected at most 100", "a.go:19: the doc comment of X has 101 words, expected at most 100",
			"a.go:27: the doc comment of M has 101 words, expected at most 100", "a.go:33: the doc comment of A has 101 words, expected at most 100",
			"a.go:39: the doc comment of U has 101 words, expected at most 100", "a.go:43: the doc comment of Send has 101 words, expected at most 100",
			"a.go:9: the doc comment of G has 101 words, expected at most 100",
		}},
		"no package comment": {map[string]string{"a.go": top + "package p\n"}, []string{"a.go:3: package p has no package comment"}},
		"a file's comment would be the package's": {map[string]string{
			"a.go": "// Package p is for tests.\npackage p\n",
			"b.go": "// b.go is for tests.\npackage p\n",
		}, []string{"b.go:2: an empty line is missing between the file's comment and the package clause"}},
		"a module inside": {map[string]string{
			"a.go":         "// Package p is for tests.\npackage p\n",
			"inner/go.mod": "module inner\n",
			"inner/b.go":   "// Package b is for tests.\npackage b\n\nfunc F() {}\n",
		}, []string{"inner/b.go:4: func F has no doc comment"}},
		"what is not looked at": {map[string]string{
			"a.go":                "// Package p is for tests.\npackage p\n",
			"testdata/b.go":       "package b\n",
			".hidden/b.go":        "package b\n",
			"node_modules/b/b.go": "package b\n",
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, source := range test.files {
				path = filepath.Join(dir, path)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(source), 0o644))
			}
			got, err := check(dir)
			require.NoError(t, err)
			for i := range test.want {
				test.want[i] = filepath.ToSlash(dir) + "/" + test.want[i]
			}
			require.Equal(t, test.want, got)
		})
	}
}

// long is a text of as many words.
func long(words int) string { return strings.TrimSpace(strings.Repeat("word ", words)) }

func TestCheckOfWhatIsNoGo(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.go"), []byte("nonsense"), 0o644))
	_, err := check(dir)
	require.Error(t, err)
}
