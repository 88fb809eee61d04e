// Doccheck reports what Go source lacks by the project's documentation rules.
//
//	go run ./internal/doccheck [DIR]
//
// Below DIR, the current directory by default, and in the modules nested there, every exported function, method, type, constant and variable needs a doc
// comment, every package a package comment, and every file other than tests a comment at its top that says what the file
// is for. Only one file of a package may have that comment directly above the package clause: go doc prints it as the
// package's. The doc comment of an exported name, fields included, has at most 100 words besides examples. The program
// prints a line for each finding and exits with status 1 if there are any.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	findings, err := check(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "doccheck:", err)
		os.Exit(2)
	}
	for _, finding := range findings {
		fmt.Println(finding)
	}
	if len(findings) > 0 {
		os.Exit(1)
	}
}

// check returns what is missing below root, each finding with its position.
func check(root string) ([]string, error) {
	fset := token.NewFileSet()
	packages := map[string][]*ast.File{} // by directory and name
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if name := entry.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".go":
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		key := filepath.Dir(path) + " " + file.Name.Name
		packages[key] = append(packages[key], file)
		return nil
	})
	var findings []string
	for _, files := range packages {
		findings = append(findings, checkPackage(fset, files)...)
	}
	slices.Sort(findings)
	return findings, err
}

// checkPackage checks the files of one package, except tests: their documentation is read only together with the code.
func checkPackage(fset *token.FileSet, files []*ast.File) (findings []string) {
	report := func(pos token.Pos, problem string) {
		at := fset.Position(pos)
		findings = append(findings, fmt.Sprintf("%s:%d: %s", filepath.ToSlash(at.Filename), at.Line, problem))
	}
	var documented []*ast.File
	code := 0
	for _, file := range files {
		if strings.HasSuffix(fset.Position(file.Package).Filename, "_test.go") {
			continue
		}
		code++
		if !opensWithComment(file) {
			report(file.Package, "the file does not open with a comment that says what it is for")
		}
		if file.Doc != nil {
			documented = append(documented, file)
		}
		for _, decl := range file.Decls {
			checkDecl(decl, report)
		}
	}
	switch {
	case code > 0 && len(documented) == 0:
		report(files[0].Package, "package "+files[0].Name.Name+" has no package comment")
	case len(documented) > 1:
		for _, file := range documented {
			if !isPackageComment(file) {
				report(file.Package, "an empty line is missing between the file's comment and the package clause")
			}
		}
	}
	return findings
}

// opensWithComment reports whether there is a comment in words above the package clause, or directly below it.
func opensWithComment(file *ast.File) bool {
	end := file.FileEnd
	if len(file.Decls) > 0 {
		end = file.Decls[0].Pos()
		switch first := file.Decls[0].(type) {
		case *ast.FuncDecl:
			if first.Doc != nil {
				end = first.Doc.Pos()
			}
		case *ast.GenDecl:
			if first.Doc != nil {
				end = first.Doc.Pos()
			}
		}
	}
	for _, group := range file.Comments {
		if group.Pos() < end && strings.TrimSpace(group.Text()) != "" {
			return true
		}
	}
	return false
}

// isPackageComment reports whether a comment is meant as the package's: a command's may begin differently.
func isPackageComment(file *ast.File) bool {
	return strings.HasPrefix(file.Doc.Text(), "Package "+file.Name.Name+" ")
}

// maxWords is how long a doc comment may be. What takes longer to say belongs into the package comment.
const maxWords = 100

// checkLength checks the doc comment of an exported name.
func checkLength(name string, doc *ast.CommentGroup, report func(token.Pos, string)) {
	words := 0
	for line := range strings.Lines(doc.Text()) {
		if !strings.HasPrefix(line, "\t") { // an example
			words += len(strings.Fields(line))
		}
	}
	if words > maxWords {
		report(doc.Pos(), fmt.Sprintf("the doc comment of %s has %d words, expected at most %d", name, words, maxWords))
	}
}

// checkFields checks the doc comments of a type's exported fields and methods.
func checkFields(typ ast.Expr, report func(token.Pos, string)) {
	var fields *ast.FieldList
	switch typ := typ.(type) {
	case *ast.StructType:
		fields = typ.Fields
	case *ast.InterfaceType:
		fields = typ.Methods
	default:
		return
	}
	for _, field := range fields.List {
		for _, name := range field.Names {
			if name.IsExported() {
				checkLength(name.Name, field.Doc, report)
			}
		}
	}
}

func checkDecl(decl ast.Decl, report func(token.Pos, string)) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if !decl.Name.IsExported() || !receiverExported(decl) {
			return
		}
		if decl.Doc == nil {
			report(decl.Pos(), "func "+decl.Name.Name+" has no doc comment")
		}
		checkLength(decl.Name.Name, decl.Doc, report)
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if !spec.Name.IsExported() {
					continue
				}
				if decl.Lparen.IsValid() {
					checkLength(spec.Name.Name, spec.Doc, report)
				} else {
					checkLength(spec.Name.Name, decl.Doc, report)
				}
				checkFields(spec.Type, report)
				if spec.Doc == nil && (decl.Doc == nil || decl.Lparen.IsValid()) {
					report(spec.Pos(), "type "+spec.Name.Name+" has no doc comment")
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() {
						checkLength(name.Name, spec.Doc, report)
					}
					if name.IsExported() && spec.Doc == nil && spec.Comment == nil && decl.Doc == nil {
						report(name.Pos(), decl.Tok.String()+" "+name.Name+" has no doc comment")
					}
				}
			}
		}
	}
}

// receiverExported reports whether a function is not a method of an unexported type, which go doc does not show.
func receiverExported(decl *ast.FuncDecl) bool {
	if decl.Recv == nil {
		return true
	}
	receiver := decl.Recv.List[0].Type
	for {
		switch t := receiver.(type) {
		case *ast.StarExpr:
			receiver = t.X
		case *ast.IndexExpr:
			receiver = t.X
		case *ast.IndexListExpr:
			receiver = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return true
		}
	}
}
