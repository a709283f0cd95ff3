package disk_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

// workspaceTest is a workspace whose files are looked at.
type workspaceTest struct{ *disktest.Bed }

func newWorkspaceTest(t *testing.T) workspaceTest { return workspaceTest{disktest.NewBed(t)} }

// stage returns the name of a staged file that has text.
func (t workspaceTest) stage(text string) string {
	t.Helper()
	name, err := t.Work.CreateText([]byte(text), disk.FilePerm)
	qt.Assert(t, qt.IsNil(err))
	return name
}

func (t workspaceTest) check(name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), want))
}

func (t workspaceTest) checkAbsent(name string) {
	t.Helper()
	_, err := os.Lstat(name)
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
}

func TestNameNew(t *testing.T) {
	t.Parallel()
	for name, hook := range disktest.Links() {
		t.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newWorkspaceTest(tt)
			dir := t.Path("dir")
			makeDir := func() error { return disk.MakeDirs(t.FS, dir) }
			first, second := t.stage("first"), t.stage("second")
			t.FS.Set(hook)
			qt.Check(t, qt.IsNil(t.Work.NameNew(first, filepath.Join(dir, "name"), makeDir)))
			qt.Check(t, qt.ErrorIs(t.Work.NameNew(second, filepath.Join(dir, "name"), makeDir), fs.ErrExist))
			t.check(filepath.Join(dir, "name"), "first")
			t.checkAbsent(first)
			t.checkAbsent(second)
		})
	}
}

func TestLinkNew_GivesUpOnADirectoryThatDoesNotStay(t *testing.T) {
	t.Parallel()
	tt := newWorkspaceTest(t)
	made := 0
	err := tt.Work.LinkNew(tt.stage("text"), filepath.Join(tt.Path("dir"), "name"), func() error { made++; return nil })
	qt.Check(t, qt.ErrorIs(err, disk.ErrNoDirectory))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
	qt.Check(t, qt.Not(qt.Equals(made, 0)))

	err = tt.Work.LinkNew(tt.Path("absent"), filepath.Join(tt.Path("dir"), "name"), func() error { return errors.New("made a directory for nothing") })
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist))
}

func TestSetAsideAndPutBack(t *testing.T) {
	t.Parallel()
	for name, hook := range disktest.Links() {
		t.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newWorkspaceTest(tt)
			name := t.Path("name")
			qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("text"), 0o644)))
			t.FS.Set(hook)
			moved, err := t.Work.SetAside(name)
			qt.Assert(t, qt.IsNil(err))
			t.checkAbsent(name)
			t.check(moved, "text")
			qt.Check(t, qt.Equals(filepath.Dir(moved), filepath.Join(t.Work.Dir, "damaged")))
			qt.Check(t, qt.IsNil(t.Work.PutBack(moved, name)))
			t.check(name, "text")
			t.checkAbsent(moved)
		})
	}
}

func TestPutBack_LeavesWhatHasComeMeanwhile(t *testing.T) {
	t.Parallel()
	tt := newWorkspaceTest(t)
	name := tt.Path("name")
	qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("old"), 0o644)))
	moved, err := tt.Work.SetAside(name)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("new"), 0o644)))
	qt.Check(t, qt.IsNil(tt.Work.PutBack(moved, name)))
	tt.check(name, "new")
	tt.checkAbsent(moved)
}

func TestMoveOver_SetsADirectoryAside(t *testing.T) {
	t.Parallel()
	tt := newWorkspaceTest(t)
	name := tt.Path("name")
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(name, "sub"), 0o755)))
	qt.Check(t, qt.IsNil(tt.Work.MoveOver(tt.stage("text"), name)))
	tt.check(name, "text")
	qt.Check(t, qt.IsNil(tt.Work.MoveOver(tt.stage("next"), name)))
	tt.check(name, "next")
	aside, err := filepath.Glob(filepath.Join(tt.Work.Dir, "damaged", "name.*", "sub"))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(aside, 1))
}

func TestSpares(t *testing.T) {
	t.Parallel()
	tt := newWorkspaceTest(t)
	name := tt.Path("name")
	qt.Assert(t, qt.IsNil(os.Rename(tt.stage("\x00\x00\x00"), name)))
	info, err := os.Lstat(name)
	qt.Assert(t, qt.IsNil(err))
	f, err := tt.FS.OpenFile(name, os.O_RDWR, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(tt.Work.KeepSpare(name, f)))
	tt.checkAbsent(name)
	tt.FS.CheckOpen(t, 2) // the lock of the staging directory, too

	f, spare, err := tt.Work.FillSpare([]byte("a"))
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	tt.check(spare, "a\x00\x00")
	now, err := os.Lstat(spare)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(os.SameFile(now, info)))
	g, other, err := tt.Work.FillSpare([]byte("b"))
	qt.Assert(t, qt.IsNil(err))
	defer g.Close()
	tt.check(other, "b")
}

func TestLock(t *testing.T) {
	t.Parallel()
	tt := newWorkspaceTest(t)
	name := tt.stage("")
	open := func() disk.File {
		f, err := tt.FS.OpenFile(name, os.O_RDWR, 0)
		qt.Assert(t, qt.IsNil(err))
		return f
	}
	f, g := open(), open()
	defer g.Close()
	qt.Assert(t, qt.IsNil(disk.Lock(t.Context(), tt.FS, f, time.Millisecond, time.Millisecond)))
	if ok, err := tt.FS.TryLock(g); ok || err != nil {
		t.Skip("this system has no lock that belongs to an open file")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	qt.Check(t, qt.ErrorIs(disk.Lock(ctx, tt.FS, g, time.Hour, time.Hour), context.Canceled))
	tt.FS.Set(disktest.Failing("TryLock", syscall.EIO))
	qt.Check(t, qt.ErrorIs(disk.Lock(t.Context(), tt.FS, g, time.Hour, time.Hour), syscall.EIO))
	tt.FS.Set(nil)
	locked := make(chan error)
	go func() { locked <- disk.Lock(t.Context(), tt.FS, g, time.Microsecond, time.Millisecond) }()
	qt.Check(t, qt.IsNil(f.Close()))
	qt.Check(t, qt.IsNil(<-locked))
}

func TestTrim(t *testing.T) {
	t.Parallel()
	tt := newWorkspaceTest(t)
	name := tt.stage("content")
	f, err := tt.FS.OpenFile(name, os.O_RDWR, 0)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	qt.Check(t, qt.ErrorIs(disk.Trim(f, 8), io.ErrUnexpectedEOF))
	qt.Check(t, qt.IsNil(disk.Trim(f, 7)))
	tt.check(name, "content")
	qt.Check(t, qt.IsNil(disk.Trim(f, 4)))
	tt.check(name, "cont")
	text, err := disk.ReadFrom(f, 1)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(text, "ont"))
}
