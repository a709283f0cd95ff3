package marks

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

// watchBed is a directory of marks that one process watches and others change.
type watchBed struct {
	*testing.T
	watcher     Watcher
	mine, other Dir
}

func newWatchBed(t *testing.T) *watchBed {
	b := &watchBed{T: t, mine: Dir{FS: disk.OS{}, Path: filepath.Join(scratch.Kept(t), ".ocifs", "unfolded"), ID: "MINE"}}
	b.other = b.mine
	b.other.ID = "OTHER"
	b.watcher.Dir = b.mine
	return b
}

func (b *watchBed) want(all bool, marked, unmarked string) {
	b.Helper()
	c, err := b.watcher.Changes()
	qt.Assert(b, qt.IsNil(err))
	slices.Sort(c.Marked)
	qt.Check(b, qt.Equals(c.All, all))
	qt.Check(b, qt.Equals(strings.Join(c.Marked, " "), marked))
	qt.Check(b, qt.Equals(strings.Join(c.Unmarked, " "), unmarked))
}

func (b *watchBed) add(d Dir, name string) {
	b.Helper()
	qt.Assert(b, qt.IsNil(d.Add(name)))
	qt.Check(b, qt.IsTrue(d.Has(name)))
}

func TestWatcher_FindsMarksAndThoseThatOthersHaveRemoved(t *testing.T) {
	t.Parallel()
	b := newWatchBed(t)
	b.add(b.other, "before")
	b.want(true, "before", "")
	b.want(false, "before", "")
	b.add(b.other, "a")
	b.add(b.mine, "b/c")
	b.want(false, "a b/c before", "")
	for _, name := range []string{"a", "b/c", "before"} {
		b.other.Remove(name)
		qt.Check(t, qt.IsFalse(b.other.Has(name)))
	}
	b.want(false, "", "a b/c before")
	b.want(false, "", "")
	b.add(b.other, "short")
	b.other.Remove("short")
	b.add(b.mine, "own")
	b.mine.Remove("own")
	b.want(false, "", "short")
}

// A mark that this process removes may be another one's, too. One that is there at a call may
// have its name in the log already, and is told of again when it is gone.
func TestWatcher_FindsMarksThatItsProcessRemoves(t *testing.T) {
	t.Parallel()
	b := newWatchBed(t)
	b.want(true, "", "")
	b.add(b.other, "a")
	b.mine.Remove("a")
	b.wantFolded("a")
	b.wantFolded("")
	b.add(b.other, "b")
	b.wantFolded("")
	b.other.note("b")
	b.wantFolded("b")
	b.other.Remove("b")
	b.wantFolded("b")
	b.wantFolded("")
}

func (b *watchBed) wantFolded(want string) {
	b.Helper()
	c, err := b.watcher.Changes()
	qt.Assert(b, qt.IsNil(err))
	qt.Check(b, qt.Equals(strings.Join(c.Folded, " "), want))
}

// A second watcher finds the same, whenever it begins.
func TestWatcher_IsOneOfSeveral(t *testing.T) {
	t.Parallel()
	b := newWatchBed(t)
	b.want(true, "", "")
	second := *b
	second.watcher = Watcher{Dir: b.mine}
	second.want(true, "", "")
	b.add(b.other, "a")
	b.other.Remove("a")
	b.want(false, "", "a")
	second.want(false, "", "a")
}

// A process that had not seen that somebody watches makes the directory anew. Its marks are
// found, and whoever removes one from now on says so.
func TestWatcher_MovesMarksThatAreElsewhere(t *testing.T) {
	t.Parallel()
	b := newWatchBed(t)
	b.want(true, "", "")
	b.add(b.other, "a")
	qt.Assert(t, qt.IsNil(os.Mkdir(b.mine.Path, disk.DirPerm)))
	b.add(b.other, "b")
	names, err := b.mine.Names(true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 2))
	b.want(true, "a b", "")
	b.other.Remove("b")
	b.want(false, "a", "b")
}

// Whatever happens to the log, the watcher learns that something may have changed.
func TestWatcher_LooksAtAllIfTheLogIsLost(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(log string) error{
		"removed":  os.Remove,
		"cut":      func(log string) error { return os.Truncate(log, 3) },
		"replaced": func(log string) error { return os.WriteFile(log, []byte(strings.Repeat("x", 500)), disk.FilePerm) },
		"garbage": func(log string) error {
			f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, err = f.WriteString("what is this\n")
				f.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newWatchBed(t)
			b.want(true, "", "")
			b.add(b.other, "a")
			b.other.Remove("a")
			b.want(false, "", "a")
			qt.Assert(t, qt.IsNil(damage(b.mine.log())))
			b.want(true, "", "")
			b.add(b.other, "b")
			b.other.Remove("b")
			c, err := b.watcher.Changes()
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(c.All || slices.Contains(c.Unmarked, "b")))
		})
	}
}

// What a call does not tell because it fails, the next one does.
func TestWatcher_TellsLaterWhatACallThatFailsHasFound(t *testing.T) {
	t.Parallel()
	failed := 0
	for at := 1; ; at++ {
		b := newWatchBed(t)
		hooks := &disktest.Hooks{}
		b.watcher.Dir.FS = hooks
		b.add(b.other, "a")
		b.want(true, "a", "")
		b.other.Remove("a")
		b.add(b.other, "b")
		b.mine.Remove("b")
		qt.Assert(t, qt.IsNil(os.Mkdir(b.mine.Path, disk.DirPerm))) // so that the next call tells of all
		calls := 0
		hooks.Set(func(string, string) error {
			if calls++; calls == at {
				return fs.ErrInvalid
			}
			return nil
		})
		c, err := b.watcher.Changes()
		if err == nil {
			qt.Check(t, qt.IsTrue(c.All))
			if calls < at {
				break
			}
			continue
		}
		failed++
		hooks.Set(nil)
		c, err = b.watcher.Changes()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(c.All), qt.Commentf("call %d", at))
	}
	qt.Check(t, qt.IsTrue(failed > 3))
}

// A log that nobody reads any more does not grow without bound.
func TestWatcher_ALongLogIsRemoved(t *testing.T) {
	t.Parallel()
	b := newWatchBed(t)
	b.want(true, "", "")
	name := strings.Repeat("a", 200)
	for i := range maxLog/200 + 10 {
		b.other.note(fmt.Sprint(name, i))
		if info, _ := os.Lstat(b.mine.log()); info == nil {
			b.want(true, "", "")
			return
		}
	}
	t.Error("the log is still there")
}
