package names

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// TestWalkOrder checks the byte order of names, which is not the order of paths.
func TestWalkOrder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		dirs, want string
		after      string
	}{
		{"", "", ""},
		{"b a c", "a b c", ""},
		{"a/b a-b a0 a.b a", "a a-b a.b a/b a0", ""},
		{"a/z a-b/z a-b-c/z a-b.d/z a.b/z a_b/z", "a a-b a-b-c a-b-c/z a-b.d a-b.d/z a-b/z a.b a.b/z a/z a_b a_b/z", ""},
		{"a/b/c a/b-c a/b.c a/b0", "a a/b a/b-c a/b.c a/b/c a/b0", ""},
		{"a-1/a a-2/a a1/a", "a-1 a-1/a a-2 a-2/a a1 a1/a", ""},
		{"_blobs a/_index.json blob a/_oci-layout/_blobs", "a a/index.json a/oci-layout a/oci-layout/blobs blob blobs", ""},

		// What has no name of a repository.
		{"blobs/sha256 index.json/a oci-layout/a a", "a", ""},
		{".ocifs/a .git _sync/a Team/a a+b/a a-/b a__b a___b", "a__b", ""},

		// After a name, there or not.
		{"a a-b a/b a/c b", "a-b a/b a/c b", "a"},
		{"a a-b a/b a/c b", "a/b a/c b", "a-b"},
		{"a a-b a/b a/c b", "a/b a/c b", "a-z"},
		{"a a-b a/b a/c b", "a/b a/c b", "a."},
		{"a a-b a/b a/c b", "a/b a/c b", "a/"},
		{"a a-b a/b a/c b", "a/c b", "a/b"},
		{"a a-b a/b a/c b", "a/c b", "a/b/"},
		{"a a-b a/b a/c b", "b", "a/c"},
		{"a a-b a/b a/c b", "b", "a0"},
		{"a a-b a/b a/c b", "b", "aa"},
		{"a a-b a/b a/c b", "a a-b a/b a/c b", "A"},
		{"a a-b a/b a/c b", "a a-b a/b a/c b", "../x"},
		{"a a-b a/b a/c b", "", "b"},
		{"a a-b a/b a/c b", "", "\xff"},
		{"a/b/c/d a/b/c-d", "a/b/c-d a/b/c/d", "a/b/c"},
		{"a/_blobs/x a/c", "a/blobs/x a/c", "a/blobs"},
	}
	for _, test := range tests {
		t.Run(test.dirs+" after "+test.after, func(t *testing.T) {
			t.Parallel()
			root := makeTree(t, strings.Fields(test.dirs))
			qt.Check(t, qt.Equals(strings.Join(walkAll(t, root, test.after), " "), test.want))
		})
	}
}

// TestWalkRandom compares walks with a sorted list.
func TestWalkRandom(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		seen := map[string]bool{}
		for range 60 {
			name := randomName(rnd)
			for ociref.IsValidRepository(name) {
				seen[name] = true
				name = name[:max(strings.LastIndexByte(name, '/'), 0)]
			}
		}
		var names, dirs []string
		for name := range seen {
			names = append(names, name)
			dirs = append(dirs, Path("", name))
		}
		slices.Sort(names)
		root := makeTree(t, dirs)
		qt.Assert(t, qt.DeepEquals(walkAll(t, root, ""), names))
		for range 40 {
			after := randomName(rnd)
			i, found := slices.BinarySearch(names, after)
			if found {
				i++
			}
			qt.Assert(t, qt.DeepEquals(walkAll(t, root, after), slices.Clip(names[i:])), qt.Commentf("after %q", after))
		}
	}
}

// randomName returns a string that is now and then the name of a repository.
func randomName(rnd *rand.Rand) string {
	if rnd.IntN(20) == 0 {
		return "a/blobs"[:1+rnd.IntN(7)]
	}
	name := make([]byte, 1+rnd.IntN(7))
	for i := range name {
		name[i] = "aaab0//-._"[rnd.IntN(10)]
	}
	return string(name)
}

// TestWalkIsLazy checks that a walk reads only the directories that it needs for the
// names that it has yielded, on later pages too.
func TestWalkIsLazy(t *testing.T) {
	t.Parallel()
	root := makeTree(t, strings.Fields("a/b/c a-b/c d/e/f g/h i"))
	tests := []struct {
		after, until string
		want         string
	}{
		{"", "a", "."},
		{"", "a-b/c", ". a-b"},
		{"", "a/b/c", ". a-b a-b/c a a/b"},
		{"a-b", "a-b/c", ". a-b"},
		{"a/b", "a/b/c", ". a a/b"},
		{"a/b/c", "d", ". a a/b a/b/c"}, // a/b/c/… can be greater, a-b/… cannot
		{"a0", "d", "."},
		{"d/e", "d/e/f", ". d d/e"},
		{"i", "", ". i"},
		{"j", "", "."},
	}
	for _, test := range tests {
		fsys := &readCounter{root: root}
		err := walkEverything(fsys, root, test.after, func(name, dir string) (bool, error) { return name != test.until, nil })
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(strings.Join(fsys.read, " "), test.want), qt.Commentf("from %q to %q", test.after, test.until))
	}
}

// readCounter notes what directories are read.
type readCounter struct {
	disk.OS
	root string
	read []string
}

func (c *readCounter) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	rel, err := filepath.Rel(c.root, name)
	if err != nil {
		return nil, err
	}
	c.read = append(c.read, filepath.ToSlash(rel))
	return c.OS.ReadDir(name, n)
}

// TestWalkOfLayouts checks that the walk ignores the files of layouts, and does not
// read their blob directories.
func TestWalkOfLayouts(t *testing.T) {
	t.Parallel()
	root := makeTree(t, strings.Fields("a/blobs/sha256 a/.ocifs a/b/blobs/sha256 .ocifs/blobs/sha256 .ocifs/uploads"))
	for _, name := range []string{"a/index.json", "a/oci-layout", "a/b/index.json", "file", "a/blobs/sha256/aa"} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(root, name), nil, 0o666)))
	}
	fsys := &readCounter{root: root}
	var names []string
	err := walkEverything(fsys, root, "", func(name, dir string) (bool, error) {
		names = append(names, name)
		return true, nil
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{"a", "a/b"}))
	qt.Check(t, qt.DeepEquals(fsys.read, []string{".", "a", "a/b"}))
}

func TestWalkFollowsNoLinks(t *testing.T) {
	t.Parallel()
	root := makeTree(t, []string{"a/b"})
	outside := makeTree(t, []string{"x/y"})
	for _, name := range []string{"link", "a/link"} {
		if err := os.Symlink(outside, filepath.Join(root, name)); err != nil {
			t.Skip(err)
		}
	}
	qt.Assert(t, qt.IsNil(os.Symlink("a", filepath.Join(root, "self"))))
	qt.Check(t, qt.DeepEquals(walkAll(t, root, ""), []string{"a", "a/b"}))
}

// TestWalkLongNames checks that the walk ignores paths that are too long for a name.
func TestWalkLongNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a/", 126) + "a" // 253 bytes
	root := makeTree(t, []string{long + "/b/c", long + "/bb"})
	names := walkAll(t, root, long)
	qt.Check(t, qt.DeepEquals(names, []string{long + "/b"}))
}

func TestWalkWhileDirectoriesGo(t *testing.T) {
	t.Parallel()
	root := makeTree(t, strings.Fields("a/b b/c c/d"))
	var names []string
	err := walkEverything(disk.OS{}, root, "", func(name, dir string) (bool, error) {
		names = append(names, name)
		switch name {
		case "a":
			qt.Check(t, qt.IsNil(os.RemoveAll(dir)))
		case "b":
			qt.Check(t, qt.IsNil(os.RemoveAll(dir)))
			qt.Check(t, qt.IsNil(os.WriteFile(dir, nil, 0o666)))
		}
		return true, nil
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{"a", "b", "c", "c/d"}))
}

// TestWalkEntriesReadTwice checks that each directory is yielded once, even if the
// system lists it twice, as it may if the directory is renamed meanwhile.
func TestWalkEntriesReadTwice(t *testing.T) {
	t.Parallel()
	root := makeTree(t, strings.Fields("a/b a-b c"))
	var names []string
	err := walkEverything(doubledReads{}, root, "", func(name, dir string) (bool, error) {
		names = append(names, name)
		return true, nil
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{"a", "a-b", "a/b", "c"}))
}

// doubledReads lists each entry twice.
type doubledReads struct{ disk.OS }

func (f doubledReads) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	entries, err := f.OS.ReadDir(name, n)
	return append(entries, entries...), err
}

func TestWalkErrors(t *testing.T) {
	t.Parallel()
	root := makeTree(t, strings.Fields("a/b b/c c"))
	all := func(name, dir string) (bool, error) { return true, nil }

	err := walkEverything(disk.OS{}, filepath.Join(root, "absent"), "", all)
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))

	err = walkEverything(failingReads{name: "b"}, root, "", all)
	qt.Check(t, qt.ErrorIs(err, error(syscall.EIO)))
	var names []string
	err = Walk(failingReads{name: "b"}, root, "", func(name, dir string) (bool, error) {
		names = append(names, name)
		return true, nil
	}, func(name string, err error) { names = append(names, "not below "+name) })
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{"a", "a/b", "not below a/b", "b", "not below b", "c"}))
	err = walkEverything(failingReads{name: "b"}, root, "c", all)
	qt.Check(t, qt.IsNil(err))

	errStop := errors.New("stop")
	for _, last := range []string{"a", "a/b", "b", "b/c"} {
		var got string
		err = walkEverything(disk.OS{}, root, "", func(name, dir string) (bool, error) {
			got = name
			if name == last {
				return true, errStop
			}
			return true, nil
		})
		qt.Check(t, qt.ErrorIs(err, errStop))
		qt.Check(t, qt.Equals(got, last))
	}
}

// failingReads cannot read directories of one name.
type failingReads struct {
	disk.OS
	name string
}

func (f failingReads) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	if filepath.Base(name) == f.name {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.EIO}
	}
	return f.OS.ReadDir(name, n)
}

// makeTree returns a new directory that has the given ones.
func makeTree(tb testing.TB, dirs []string) (root string) {
	tb.Helper()
	root = scratch.Kept(tb)
	for _, dir := range dirs {
		qt.Assert(tb, qt.IsNil(os.MkdirAll(filepath.Join(root, filepath.FromSlash(dir)), 0o777)))
	}
	return root
}

// walkEverything is Walk where a directory that cannot be read is an error.
func walkEverything(fsys disk.FS, root, after string, yield func(name, dir string) (bool, error)) error {
	var unread error
	err := Walk(fsys, root, after, yield, func(_ string, err error) { unread = errors.Join(unread, err) })
	return errors.Join(err, unread)
}

// walkAll returns the names of a whole walk. It checks the directories that come
// with them.
func walkAll(t *testing.T, root, after string) []string {
	t.Helper()
	names := []string{}
	err := walkEverything(disk.OS{}, root, after, func(name, dir string) (bool, error) {
		qt.Assert(t, qt.Equals(dir, Path(root, name)))
		names = append(names, name)
		return true, nil
	})
	qt.Assert(t, qt.IsNil(err))
	return names
}

// BenchmarkWalk takes the first and a middle page of 100 names from 10,000
// repositories, without the checks that they exist.
func BenchmarkWalk(b *testing.B) {
	flat := make([]string, 10000)
	deep := make([]string, 10000)
	for i := range flat {
		flat[i] = fmt.Sprintf("repo%04d", i)
		deep[i] = fmt.Sprintf("team%02d/repo%02d", i/100, i%100)
	}
	for _, tree := range []struct {
		name, middle string
		dirs         []string
	}{
		{"10000", "repo4999", flat},
		{"100x100", "team49/repo99", deep},
	} {
		if testing.Short() {
			tree.dirs = tree.dirs[:1000]
		}
		root := makeTree(b, tree.dirs)
		for _, after := range []string{"", tree.middle} {
			page := "first"
			if after != "" {
				page = "middle"
			}
			b.Run(tree.name+"/"+page, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					n := 0
					err := walkEverything(disk.OS{}, root, after, func(name, dir string) (bool, error) {
						n++
						return n < 100, nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
