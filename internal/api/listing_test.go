package api

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// listing is the exported API of some packages: a line for each name, field and method.
type listing map[string]struct{}

// lines returns the lines in order.
func (l listing) lines() []string { return slices.Sorted(maps.Keys(l)) }

// list returns the API of all packages that others can import, those of nested modules
// too. It reads the files of all systems: what one of them has more than another is in
// the listing.
func list(tree fs.FS) (listing, error) {
	l := make(listing)
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "internal" || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution)
		if err == nil && parsed.Name.Name != "main" {
			l.addFile(path.Dir(file), parsed)
		}
		return err
	})
	return l, err
}

func (l listing) addFile(pkg string, file *ast.File) {
	add := func(format string, args ...any) { l[pkg+": "+fmt.Sprintf(format, args...)] = struct{}{} }
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			addFunc(add, decl)
		case *ast.GenDecl:
			addNames(add, decl)
		}
	}
}

func addFunc(add func(format string, args ...any), decl *ast.FuncDecl) {
	switch {
	case !decl.Name.IsExported():
	case decl.Recv == nil:
		add("func %s%s%s", decl.Name, typeParams(decl.Type.TypeParams), signature(decl.Type))
	default:
		receiver := text(decl.Recv.List[0].Type)
		if ast.IsExported(strings.TrimLeft(receiver, "*")) {
			add("method (%s) %s%s", receiver, decl.Name, signature(decl.Type))
		}
	}
}

// addNames adds the constants, variables or types of a declaration.
func addNames(add func(format string, args ...any), decl *ast.GenDecl) {
	var last *ast.ValueSpec // which has the type of the constants that follow
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() {
				addType(add, spec)
			}
		case *ast.ValueSpec:
			if decl.Tok != token.CONST || spec.Type != nil || spec.Values != nil {
				last = spec
			}
			for i, name := range spec.Names {
				if name.IsExported() {
					add("%s %s%s", decl.Tok, name, value(decl.Tok, last, spec, i))
				}
			}
		}
	}
}

// value returns what is known of a constant or variable: its type, and the value of a
// constant that has one of its own.
func value(tok token.Token, typed, spec *ast.ValueSpec, i int) (s string) {
	if typed.Type != nil {
		s = " " + text(typed.Type)
	}
	if tok == token.CONST && i < len(spec.Values) {
		s += " = " + text(spec.Values[i])
	}
	return s
}

func addType(add func(format string, args ...any), spec *ast.TypeSpec) {
	name := spec.Name.Name + typeParams(spec.TypeParams)
	fields, kind := (*ast.FieldList)(nil), ""
	switch t := spec.Type.(type) {
	case *ast.StructType:
		fields, kind = t.Fields, "struct"
	case *ast.InterfaceType:
		fields, kind = t.Methods, "interface"
	default:
		if spec.Assign.IsValid() {
			name += " ="
		}
		add("type %s %s", name, text(t))
		return
	}
	add("type %s %s", name, kind)
	for _, field := range fields.List {
		if len(field.Names) == 0 {
			add("type %s %s, embeds %s", spec.Name, kind, text(field.Type))
		}
		for _, f := range field.Names {
			switch t, isFunc := field.Type.(*ast.FuncType); {
			case !f.IsExported() && kind == "interface":
				add("type %s %s, unexported methods", spec.Name, kind)
			case !f.IsExported():
			case kind == "interface" && isFunc:
				add("type %s %s, %s%s", spec.Name, kind, f, signature(t))
			default:
				add("type %s %s, %s %s", spec.Name, kind, f, text(field.Type))
			}
		}
	}
}

// signature returns the parameters and results of a function, without their names.
func signature(t *ast.FuncType) string {
	types := func(fields *ast.FieldList) (list []string) {
		if fields == nil {
			return nil
		}
		for _, field := range fields.List {
			for range max(len(field.Names), 1) {
				list = append(list, text(field.Type))
			}
		}
		return list
	}
	s := "(" + strings.Join(types(t.Params), ", ") + ")"
	switch results := types(t.Results); len(results) {
	case 0:
		return s
	case 1:
		return s + " " + results[0]
	default:
		return s + " (" + strings.Join(results, ", ") + ")"
	}
}

func typeParams(fields *ast.FieldList) string {
	if fields == nil {
		return ""
	}
	var list []string
	for _, field := range fields.List {
		for _, name := range field.Names {
			list = append(list, name.Name+" "+text(field.Type))
		}
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// text returns a type or an expression as it is written, in one line.
func text(expr ast.Expr) string {
	if t, ok := expr.(*ast.FuncType); ok {
		return "func" + signature(t)
	}
	var b strings.Builder
	if err := printer.Fprint(&b, token.NewFileSet(), expr); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
