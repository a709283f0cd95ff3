package marks

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

func TestMain(m *testing.M) { scratch.Main(m) }

func TestDir_HasNamesUntilTheyAreRemoved(t *testing.T) {
	t.Parallel()
	d := Dir{FS: disk.OS{}, Path: filepath.Join(scratch.Kept(t), "private", "unfolded")}
	names := func() []string {
		t.Helper()
		names, err := d.Names(true)
		qt.Assert(t, qt.IsNil(err))
		slices.Sort(names)
		return names
	}
	qt.Check(t, qt.HasLen(names(), 0))
	for _, name := range []string{"b/c", "a", "a"} {
		qt.Assert(t, qt.IsNil(d.Add(name)))
	}
	qt.Check(t, qt.DeepEquals(names(), []string{"a", "b/c"}))
	d.Remove("a")
	d.Remove("a")
	qt.Check(t, qt.DeepEquals(names(), []string{"b/c"}))
}

// A file that is called after no repository is removed if it may be, and never counts.
func TestDir_LeavesOutWhatIsNoMark(t *testing.T) {
	t.Parallel()
	d := Dir{FS: disk.OS{}, Path: filepath.Join(scratch.Kept(t), "unfolded")}
	qt.Assert(t, qt.IsNil(d.Add("a")))
	for _, file := range []string{"A", "..a", "a!", "!a"} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(d.Path, file), nil, disk.FilePerm)))
	}
	for _, mayRemove := range []bool{false, true} {
		names, err := d.Names(mayRemove)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(names, []string{"a"}))
		entries, err := os.ReadDir(d.Path)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(len(entries) == 1, mayRemove))
	}
}

// A mark counts from the moment at which it is made, and any repository can have one.
func TestDir_MarksRepositoriesWithAnyName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a/", 127) + "b"
	d := Dir{FS: disk.OS{}, Path: scratch.Kept(t)}
	f, err := os.Create(d.File(long))
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	qt.Check(t, qt.IsTrue(d.Has(long)))
	names, err := d.Names(true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{long}))
	qt.Check(t, qt.IsNil(d.Add(long)))
}

func TestDir_KnowsWhichMarksAreOld(t *testing.T) {
	t.Parallel()
	d := Dir{FS: disk.OS{}, Path: filepath.Join(scratch.Kept(t), "unfolded")}
	qt.Check(t, qt.IsTrue(d.IsOld("a"))) // there is none
	qt.Assert(t, qt.IsNil(d.Add("a")))
	soon := time.Now().Add(time.Hour)
	qt.Assert(t, qt.IsNil(os.Chtimes(d.File("a"), soon, soon)))
	qt.Check(t, qt.IsFalse(d.IsOld("a")))
	past := time.Now().Add(-time.Hour)
	qt.Assert(t, qt.IsNil(os.Chtimes(d.File("a"), past, past)))
	qt.Check(t, qt.IsTrue(d.IsOld("a")))
}
