package names

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

func TestRepoPath(t *testing.T) {
	t.Parallel()
	tests := []struct{ repo, rel string }{
		{"app", "app"},
		{"team/app", "team/app"},
		{"a.b/c__d/e---f", "a.b/c__d/e---f"},
		{"blobs", "_blobs"},
		{"foo/blobs", "foo/_blobs"},
		{"foo/index.json", "foo/_index.json"},
		{"foo/oci-layout/blobs/sha256", "foo/_oci-layout/_blobs/sha256"},
		{"blobs2/index.jso/oci", "blobs2/index.jso/oci"},
		{"sha256", "sha256"},
		{"ocifs/journal", "ocifs/journal"},
		{strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{strings.Repeat("a/", 124) + "blobs", strings.Repeat("a/", 124) + "_blobs"},
	}
	root := scratch.Kept(t)
	for _, test := range tests {
		qt.Assert(t, qt.IsTrue(ociref.IsValidRepository(test.repo)))
		qt.Check(t, qt.Equals(Path(root, test.repo), filepath.Join(root, filepath.FromSlash(test.rel))))
		checkPath(t, test.repo)
	}
}

func TestNotARepoName(t *testing.T) {
	t.Parallel()
	for _, rel := range []string{
		"", ".", "..", "../a", "a/..", "/a", "a/", "a//b", "A", "a b", "lost+found",
		"blobs", "index.json", "oci-layout", "a/blobs", "a/blobs/sha256", "blobs/a", "a/index.json",
		"__blobs", "_a", "_", "_sync", "a/_b", "_blobs/_b", ".ocifs", "a/.ocifs", ".uploads", "_.ocifs", "_a/b", "_blobs_",
		strings.Repeat("a", 256), strings.Repeat("a/", 127) + "aa", strings.Repeat("a/", 126) + "_blobs",
	} {
		name, ok := Name(filepath.FromSlash(rel))
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%q gives %q", rel, name))
	}
}

// TestIsDevice cannot show what Windows does with a name. It checks that the names in
// the documentation of Windows ("Naming Files, Paths, and Namespaces") are known.
func TestIsDevice(t *testing.T) {
	t.Parallel()
	for _, elem := range []string{"con", "prn", "aux", "nul", "com1", "com9", "lpt1", "lpt9", "con.txt", "nul.tar.gz", "com1.a"} {
		qt.Check(t, qt.IsTrue(isDevice(elem)), qt.Commentf("%q", elem))
	}
	for _, elem := range []string{"a", "cons", "co", "con-a", "con_a", "a.con", "com", "com0", "com10", "comx", "lpt", "lpt0", "console", "nul2", "1com"} {
		qt.Check(t, qt.IsFalse(isDevice(elem)), qt.Commentf("%q", elem))
	}
	qt.Check(t, qt.Equals(isReserved("con"), runtime.GOOS == "windows"))
}

// FuzzRepoPath checks that different names have different paths, and that each path
// satisfies [checkPath].
func FuzzRepoPath(f *testing.F) {
	f.Add("blobs", "a/blobs")
	f.Add("foo/index.json", "foo/_index.json")
	f.Add("a", "a/b")
	f.Add("_blobs", "../a")
	f.Add("con.a/nul", "oci-layout")
	f.Add(strings.Repeat("a", 255), strings.Repeat("a/", 125)+"blobs")
	f.Fuzz(func(t *testing.T, a, b string) {
		checkRel(t, a)
		checkRel(t, b)
		validA, validB := ociref.IsValidRepository(a), ociref.IsValidRepository(b)
		if validA {
			checkPath(t, a)
		}
		if validB {
			checkPath(t, b)
		}
		if validA && validB {
			qt.Assert(t, qt.Equals(Path("root", a) == Path("root", b), a == b))
		}
	})
}

// checkPath checks that the path of a repository is inside the root, can be made,
// is none of what belongs to a layout or to this package, and has the name back.
func checkPath(t *testing.T, repo string) {
	t.Helper()
	rel, err := filepath.Rel("root", Path("root", repo))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(filepath.IsLocal(rel)), qt.Commentf("%q", rel))

	entries := strings.Split(filepath.ToSlash(rel), "/")
	qt.Assert(t, qt.HasLen(entries, strings.Count(repo, "/")+1))
	for i, elem := range strings.Split(repo, "/") {
		entry := entries[i]
		qt.Assert(t, qt.IsFalse(entry == "blobs" || entry == "index.json" || entry == "oci-layout" || entry[0] == '.'))
		qt.Assert(t, qt.IsTrue(len(entry) <= 255 || isDevice(elem)), qt.Commentf("%d bytes", len(entry)))
	}

	name, ok := Name(rel)
	qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%q", rel))
	qt.Assert(t, qt.Equals(name, repo))
}

// checkRel checks that a path, if it is that of a repository, is so in one way
// only.
func checkRel(t *testing.T, rel string) {
	t.Helper()
	name, ok := Name(rel)
	if !ok {
		return
	}
	qt.Assert(t, qt.IsTrue(ociref.IsValidRepository(name)), qt.Commentf("%q", name))
	qt.Assert(t, qt.Equals(Path("", name), filepath.FromSlash(rel)))
}
