package marks

import (
	"os"
	"path/filepath"
	"slices"
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

// A mark without the name of a repository is removed if it may be, and never counts.
func TestDir_LeavesOutWhatIsNoMark(t *testing.T) {
	t.Parallel()
	d := Dir{FS: disk.OS{}, Path: filepath.Join(scratch.Kept(t), "unfolded")}
	qt.Assert(t, qt.IsNil(d.Add("a")))
	for file, text := range map[string]string{"empty": "", "other": "../a"} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(d.Path, file), []byte(text), disk.FilePerm)))
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
