package disk

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
)

// TestRemoveDead_RemovesOnlyUnlockedDirectories has a staging directory whose lock is
// free, like that of a process that ended, beside one that is in use.
func TestRemoveDead_RemovesOnlyUnlockedDirectories(t *testing.T) {
	t.Parallel()
	private := filepath.Join(scratch.Kept(t), "private")
	open := func() *Workspace { return NewWorkspace(OS{}, private, true) }
	stage := func(w *Workspace) (f File, name string) {
		f, name, err := w.Create()
		qt.Assert(t, qt.IsNil(err))
		return f, name
	}
	qt.Assert(t, qt.IsNil(open().RemoveDead())) // there is nothing yet

	dead, live := open(), open()
	deadFile, _ := stage(dead)
	liveFile, liveName := stage(live)
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dead.staging.dir, "repo", "blobs"), 0o755)))
	qt.Assert(t, qt.IsNil(os.Symlink(filepath.Dir(private), filepath.Join(dead.staging.dir, "link"))))
	unlocked := filepath.Join(dead.staging.top, "without")
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(unlocked, "x"), 0o755)))
	qt.Assert(t, qt.IsNil(dead.staging.lock.Close()))
	qt.Assert(t, qt.IsNil(deadFile.Close()))

	next := open()
	qt.Assert(t, qt.IsNil(next.RemoveDead()))
	names, err := filepath.Glob(filepath.Join(next.staging.top, "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{live.staging.dir, live.staging.dir + lockSuffix}))
	_, err = os.Lstat(liveName)
	qt.Check(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(liveFile.Close()))
	qt.Assert(t, qt.IsNil(live.Close()))
	names, err = filepath.Glob(filepath.Join(next.staging.top, "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
}

// TestStaging_SurvivesRemovalOfItsDirectory removes the directory while it is in use.
func TestStaging_SurvivesRemovalOfItsDirectory(t *testing.T) {
	t.Parallel()
	private := filepath.Join(scratch.Kept(t), "private")
	w := NewWorkspace(OS{}, private, true)
	for range 2 {
		f, _, err := w.Create()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(f.Close()))
		_, err = w.CreateDir()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.RemoveAll(private)))
	}
	_, err := w.CreateDir()
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(w.Close()))
}

// TestStaging_LeavesNothingAfterClose stages files after Close, as a push does that
// was under way.
func TestStaging_LeavesNothingAfterClose(t *testing.T) {
	t.Parallel()
	private := filepath.Join(scratch.Kept(t), "private")
	w := NewWorkspace(OS{}, private, true)
	before, _, err := w.Create()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	_, _, err = w.Create()
	qt.Check(t, qt.ErrorIs(err, os.ErrClosed))
	_, err = w.CreateDir()
	qt.Check(t, qt.ErrorIs(err, os.ErrClosed))
	qt.Check(t, qt.IsNil(before.Close()))
	names, err := filepath.Glob(filepath.Join(private, "staging", "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
}

// TestStaging_BeginsBesideRemoveDead creates staging directories while others keep
// removing those of dead processes.
func TestStaging_BeginsBesideRemoveDead(t *testing.T) {
	t.Parallel()
	private := filepath.Join(scratch.Kept(t), "private")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				w := NewWorkspace(OS{}, private, true)
				qt.Check(t, qt.IsNil(w.RemoveDead()))
				f, name, err := w.Create()
				if !qt.Check(t, qt.IsNil(err)) {
					return
				}
				_, err = os.Lstat(name)
				qt.Check(t, qt.IsNil(err))
				f.Close()
				qt.Check(t, qt.IsNil(w.Close()))
			}
		})
	}
	wg.Wait()
	names, err := filepath.Glob(filepath.Join(private, "staging", "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
}

func TestHasOthers(t *testing.T) {
	t.Parallel()
	private := filepath.Join(scratch.Kept(t), "private")
	a, b := NewWorkspace(OS{}, private, true), NewWorkspace(OS{}, private, true)
	qt.Check(t, qt.IsFalse(a.HasOthers()))
	_, err := a.NewName()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(a.HasOthers()))
	qt.Check(t, qt.IsTrue(b.HasOthers()))
	qt.Assert(t, qt.IsNil(a.Close()))
	qt.Check(t, qt.IsFalse(b.HasOthers()))
}
