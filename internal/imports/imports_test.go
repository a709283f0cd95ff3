// Package imports has no code. Its test holds the packages of this module to
// the order of the design: imports point down only.
package imports

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

const module = "github.com/seed-40b21970/oci"

// layers has the packages that may exist, the lowest first. A package may
// import packages of lower layers.
var layers = [][]string{
	{"ociregistry/ociref", "internal/httpfield", "internal/uploadid"},
	{"ociregistry"},
	{"internal/call"}, // which others below internal import
	{"internal/*"},
	{"ociregistry/ocigc"},
	{"ocifs/internal/journal", "ocifs/internal/queue", "ocifs/internal/disk"},
	{"ocifs/internal/blobs", "ocifs/internal/names", "ocifs/internal/marks", "ocifs/internal/pulls", "ocifs/internal/secret", "ocifs/internal/snapshots", "ocifs/internal/tally"},
	{"ocifs/internal/uploads", "ocifs/internal/layout"},
	{"ocifs/internal/repos"},
	{"ocifs/internal/content"},
	{"ocifs/internal/refs"},
	{"ocifs/internal/garbage", "ocifs/internal/usage"},
	{"ociserver", "ociclient", "ocimem", "ocifs", "ociregistry/ociauth", "ociregistry/ocicerts"},
	{"ocifs/internal/disk/disktest"}, // which is for tests only
	{"ociunify", "ociregistry/ocicopy", "ociregistry/ocifilter", "ociregistry/ocidebug", "ociregistry/ocitest", "ociregistry/ociweb"},
	{"internal/serve"},
	{"cmd/ociserve"},
	// Nested modules that users import have an order of their own.
	{"ociregistry/ocibucket/objstore", "ociregistry/ocibucket/objstore/internal/*"},
	{"ociregistry/ocibucket/objstore/internal/httpstatus"},
	{"ociregistry/ocibucket/objstore/*"},
	{"ociregistry/ocibucket/internal/model", "ociregistry/ocibucket/internal/htpasswd", "ociregistry/ocibucket/internal/keys", "ociregistry/ocibucket/internal/bucket", "ociregistry/ocibucket/internal/counted", "ociregistry/ocibucket/internal/parts", "ociregistry/ocibucket/internal/texts"},
	{"ociregistry/ocibucket/internal/formats"},
	{"ociregistry/ocibucket/internal/pulls", "ociregistry/ocibucket/internal/repos", "ociregistry/ocibucket/internal/news", "ociregistry/ocibucket/internal/tally"},
	{"ociregistry/ocibucket/internal/blobs"},
	{"ociregistry/ocibucket/internal/uploads", "ociregistry/ocibucket/internal/usage"},
	{"ociregistry/ocibucket/internal/sweep"},
	{"ociregistry/ocibucket"},
	{"ociregistry/ocibucket/cmd/ociserve"},
	{"ociregistry/ociotel"},
}

// nested are the modules below this one that users import. The others are not looked at.
var nested = []string{"ociregistry/ocibucket", "ociregistry/ociotel"}

// beside has the imports within a layer that are meant.
var beside = map[string][]string{
	"ociclient":          {"ociregistry/ociauth"},
	"internal/repostate": {"internal/manifest", "internal/ordered", "internal/parallel"},
	"internal/gc":        {"internal/rules", "ociregistry/ocigc"},
	"internal/watched":   {"internal/verified"},
}

// dependencies are the modules that packages (not their tests) may import.
var dependencies = []string{
	"github.com/opencontainers/go-digest",
	"github.com/opencontainers/image-spec",
}

// clients has what packages of nested modules import beside dependencies.
var clients = map[string][]string{
	"ociregistry/ocibucket/cmd/ociserve":        {"github.com/Azure/azure-sdk-for-go/sdk/azidentity"},
	"ociregistry/ocibucket/objstore/azurestore": {"github.com/Azure/azure-sdk-for-go/sdk"},
	"ociregistry/ocibucket/objstore/s3store":    {"github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go"},
	"ociregistry/ocibucket/objstore/storetest":  {"github.com/go-quicktest/qt"},
	"ociregistry/ociotel":                       {"go.opentelemetry.io/otel", "go.opentelemetry.io/contrib"},
	"ociregistry/ocibucket/internal/htpasswd":   {"golang.org/x/crypto/bcrypt"},
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
			if file != root && (strings.HasPrefix(d.Name(), ".") || isModule(file) && !isNested(root, file)) {
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

// isNested reports whether dir is a nested module that users import.
func isNested(root, dir string) bool {
	name, err := filepath.Rel(root, dir)
	return err == nil && slices.Contains(nested, filepath.ToSlash(name))
}

func checkFile(t *testing.T, root, file string) error {
	dir, err := filepath.Rel(root, filepath.Dir(file))
	if err != nil {
		return err
	}
	pkg := filepath.ToSlash(dir)
	from := layer(pkg)
	if from < 0 {
		t.Errorf("%s: the design has no package %s: CONTRIBUTING.md says how one is added", file, pkg)
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
			t.Errorf("%s imports %s: %s: see \"A package\" in CONTRIBUTING.md", file, imported, problem)
		}
	}
	return nil
}

func check(pkg string, from int, imported string) string {
	target, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case ours && slices.Contains(beside[pkg], target):
		return ""
	case ours && layer(target) < 0:
		return "the design has no such package"
	case ours && layer(target) >= from:
		return "it is not in a lower layer"
	case ours || !strings.Contains(strings.Split(imported, "/")[0], "."):
		return ""
	}
	for _, dependency := range slices.Concat(dependencies, clients[pkg]) {
		if imported == dependency || strings.HasPrefix(imported, dependency+"/") {
			return ""
		}
	}
	return "it is no dependency of this module"
}

// layer returns the layer of a package: the one that has its name, or else the first with a
// pattern for it.
func layer(pkg string) int {
	found := -1
	for i, packages := range layers {
		for _, pattern := range packages {
			if pattern == pkg {
				return i
			}
			if ok, _ := path.Match(pattern, pkg); ok && found < 0 {
				found = i
			}
		}
	}
	return found
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
		{"ocifs", module + "/ocifs/internal/journal", true},
		{"ocifs", module + "/ocifs/internal/disk/disktest", false},
		{"ocifs/internal/blobs", module + "/ocifs/internal/disk", true},
		{"ocifs/internal/blobs", module + "/ocifs/internal/disk/disktest", false},
		{"ocifs/internal/blobs", module + "/ocifs/internal/uploads", false},
		{"ocifs/internal/disk", module + "/ocifs/internal/blobs", false},
		{"ocifs/internal/repos", module + "/ocifs/internal/layout", true},
		{"ocifs/internal/layout", module + "/ocifs/internal/repos", false},
		{"ocifs/internal/uploads", module + "/ocifs/internal/repos", false},
		{"ocifs/internal/journal", module + "/ocifs", false},
		{"internal/manifest", module + "/ocifs/internal/journal", false},
		{"internal/wire", module + "/internal/call", true},
		{"internal/call", module + "/internal/wire", false},
		{"internal/manifest", module + "/internal/wire", false},
		{"internal/repostate", module + "/internal/manifest", true},
		{"internal/repostate", module + "/internal/wire", false},
		{"internal/manifest", module + "/internal/repostate", false},
		{"internal/gc", module + "/ociregistry/ocigc", true},
		{"internal/gc", module + "/internal/manifest", false},
		{"ociregistry/ocigc", module + "/internal/rules", true},
		{"ociregistry/ocigc", module + "/ocimem", false},
		{"ocimem", module + "/ociregistry/ocigc", true},
		{"ociserver", module + "/ociregistry/ociauth", false},
		{"ociregistry", module + "/internal/httpfield", true},
		{"ociregistry", module + "/internal/wire", false},
		{"internal/httpfield", module + "/ociregistry/ociref", false},
		{"ociregistry/ociref", module + "/ociregistry", false},
		{"cmd/ociserve", module + "/elsewhere", false},
		{"internal/serve", module + "/ocifs", true},
		{"ociserver", module + "/internal/serve", false},
		{"ociregistry/ocibucket/objstore/s3store", "github.com/aws/aws-sdk-go-v2/aws", true},
		{"ociregistry/ocibucket/objstore/s3store", "github.com/Azure/azure-sdk-for-go/sdk/azcore", false},
		{"ociregistry/ocibucket/objstore", "github.com/aws/aws-sdk-go-v2/aws", false},
		{"ociregistry/ocibucket/objstore/s3store", module + "/ociregistry/ocibucket/objstore/internal/loan", true},
		{"ociregistry/ocibucket/objstore", module + "/ociregistry/ocibucket/objstore/memstore", false},
		{"ocimem", module + "/ociregistry/ocibucket/objstore", false},
	}
	for _, test := range tests {
		problem := check(test.pkg, layer(test.pkg), test.imported)
		qt.Check(t, qt.Equals(problem == "", test.ok), qt.Commentf("%s imports %s: %s", test.pkg, test.imported, problem))
	}
}
