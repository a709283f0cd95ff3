// Package imports has no code. Its test holds the packages of this module to
// the order of the design: imports point down only.
package imports

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

const module = "github.com/seed-40b21970/oci"

// layers has the packages that may exist, the lowest first. A package may
// import packages of lower layers.
var layers = [][]string{
	{"ociregistry/ociref"},
	{"ociregistry"},
	{"internal/*"},
	{"ociserver", "ociclient", "ocimem", "ocifs", "ociregistry/ociauth"},
	{"ociunify", "ociregistry/ocicopy", "ociregistry/ocifilter", "ociregistry/ocidebug", "ociregistry/ocitest"},
	{"cmd/ociserve"},
}

// beside has the imports within a layer that are meant.
var beside = map[string]string{
	"ociclient": "ociregistry/ociauth",
}

// dependencies are the modules that packages (not their tests) may import.
var dependencies = []string{
	"github.com/opencontainers/go-digest",
	"github.com/opencontainers/image-spec",
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	checked := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != root && (strings.HasPrefix(d.Name(), ".") || isModule(file)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		checked++
		return checkFile(t, root, file)
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(checked > 10))
}

// isModule reports whether dir is a nested module.
func isModule(dir string) bool {
	found, _ := filepath.Glob(filepath.Join(dir, "go.mod"))
	return len(found) > 0
}

func checkFile(t *testing.T, root, file string) error {
	dir, err := filepath.Rel(root, filepath.Dir(file))
	if err != nil {
		return err
	}
	pkg := filepath.ToSlash(dir)
	from := layer(pkg)
	if from < 0 {
		t.Errorf("%s: the design has no package %s", file, pkg)
		return nil
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if problem := check(pkg, from, imported); problem != "" {
			t.Errorf("%s imports %s: %s", file, imported, problem)
		}
	}
	return nil
}

func check(pkg string, from int, imported string) string {
	target, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case ours && beside[pkg] == target:
		return ""
	case ours && layer(target) < 0:
		return "the design has no such package"
	case ours && layer(target) >= from:
		return "it is not in a lower layer"
	case ours || !strings.Contains(strings.Split(imported, "/")[0], "."):
		return ""
	}
	for _, dependency := range dependencies {
		if imported == dependency || strings.HasPrefix(imported, dependency+"/") {
			return ""
		}
	}
	return "it is no dependency of this module"
}

func layer(pkg string) int {
	for i, packages := range layers {
		for _, pattern := range packages {
			if ok, _ := path.Match(pattern, pkg); ok {
				return i
			}
		}
	}
	return -1
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pkg, imported string
		ok            bool
	}{
		{"ocimem", "net/http", true},
		{"ocimem", module + "/ociregistry", true},
		{"ocimem", module + "/internal/manifest", true},
		{"ocimem", "github.com/opencontainers/image-spec/specs-go/v1", true},
		{"ociclient", module + "/ociregistry/ociauth", true},
		{"ocimem", "github.com/go-quicktest/qt", false},
		{"ocimem", module + "/ociserver", false},
		{"ocimem", module + "/ociregistry/ocitest", false},
		{"ociserver", module + "/ociregistry/ociauth", false},
		{"ociregistry", module + "/internal/wire", false},
		{"ociregistry/ociref", module + "/ociregistry", false},
		{"cmd/ociserve", module + "/elsewhere", false},
	}
	for _, test := range tests {
		problem := check(test.pkg, layer(test.pkg), test.imported)
		qt.Check(t, qt.Equals(problem == "", test.ok), qt.Commentf("%s imports %s: %s", test.pkg, test.imported, problem))
	}
}
