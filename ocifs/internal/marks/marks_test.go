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
	d := Dir{disk.OS{}, filepath.Join(scratch.Kept(t), "private", "unfolded")}
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

// An old mark without the name of a repository is removed if it may be, and never counts.
func TestDir_LeavesOutWhatIsNoMark(t *testing.T) {
	t.Parallel()
	d := Dir{disk.OS{}, filepath.Join(scratch.Kept(t), "unfolded")}
	qt.Assert(t, qt.IsNil(d.Add("a")))
	for file, text := range map[string]string{"empty": "", "other": "../a"} {
		path := filepath.Join(d.Path, file)
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(text), disk.FilePerm)))
		past := time.Now().Add(-time.Hour)
		qt.Assert(t, qt.IsNil(os.Chtimes(path, past, past)))
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

// Somebody may have made a mark, and not yet written the name to it. It stays, and whoever
// relies on the mark meanwhile writes the name as well.
func TestDir_LeavesMarksThatAreBeingWritten(t *testing.T) {
	t.Parallel()
	d := Dir{disk.OS{}, scratch.Kept(t)}
	f, err := os.Create(d.File("a"))
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	names, err := d.Names(true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
	qt.Check(t, qt.IsFalse(d.Has("a")))
	_, err = f.WriteAt([]byte("a"), 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(d.Has("a")))
	names, err = d.Names(true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{"a"}))
}

func TestDir_KnowsWhichMarksAreOld(t *testing.T) {
	t.Parallel()
	d := Dir{disk.OS{}, filepath.Join(scratch.Kept(t), "unfolded")}
	qt.Check(t, qt.IsTrue(d.IsOld("a"))) // there is none
	qt.Assert(t, qt.IsNil(d.Add("a")))
	soon := time.Now().Add(time.Hour)
	qt.Assert(t, qt.IsNil(os.Chtimes(d.File("a"), soon, soon)))
	qt.Check(t, qt.IsFalse(d.IsOld("a")))
	past := time.Now().Add(-time.Hour)
	qt.Assert(t, qt.IsNil(os.Chtimes(d.File("a"), past, past)))
	qt.Check(t, qt.IsTrue(d.IsOld("a")))
}
