package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
)

// TestTryLock checks that a lock belongs to an open file, and is released when the
// file is closed.
func TestTryLock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(scratch.Kept(t), "lock")
	open := func() File {
		f, err := OS{}.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
		qt.Assert(t, qt.IsNil(err))
		return f
	}
	tryLock := func(f File) bool {
		ok, err := OS{}.TryLock(f)
		qt.Assert(t, qt.IsNil(err))
		return ok
	}
	f, g := open(), open()
	defer g.Close()
	qt.Assert(t, qt.IsTrue(tryLock(f)))
	if tryLock(g) {
		t.Skip("this system has no lock that belongs to an open file")
	}

	_, err := g.Write([]byte("a lock does not keep others from the content"))
	qt.Check(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(OS{}.Unlock(f)))
	qt.Check(t, qt.IsTrue(tryLock(g)))
	qt.Check(t, qt.IsFalse(tryLock(f)))
	qt.Assert(t, qt.IsNil(OS{}.Unlock(g)))
	qt.Check(t, qt.IsTrue(tryLock(f)))
	qt.Assert(t, qt.IsNil(f.Close()))
	qt.Check(t, qt.IsTrue(tryLock(g)))
}

func TestLinks(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	name := filepath.Join(dir, "a")
	count := func() int {
		info, err := OS{}.Lstat(name)
		qt.Assert(t, qt.IsNil(err))
		return Links(info)
	}
	qt.Assert(t, qt.IsNil(os.WriteFile(name, nil, 0o666)))
	if count() == 0 {
		t.Skip("this system does not tell")
	}
	qt.Check(t, qt.Equals(count(), 1))
	if err := (OS{}).Link(name, filepath.Join(dir, "b")); err != nil {
		t.Skip(err)
	}
	qt.Check(t, qt.Equals(count(), 2))
	qt.Assert(t, qt.IsNil(OS{}.Remove(filepath.Join(dir, "b"))))
	qt.Check(t, qt.Equals(count(), 1))
}

func TestOpenFileFollowsNoLink(t *testing.T) {
	t.Parallel()
	if noFollow == 0 {
		t.Skip("this system cannot be told so")
	}
	dir := scratch.Kept(t)
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	qt.Assert(t, qt.IsNil(os.WriteFile(target, []byte("content"), 0o666)))
	qt.Assert(t, qt.IsNil(os.Symlink("target", link)))
	_, err := OS{}.OpenFile(link, os.O_RDONLY, 0)
	qt.Check(t, qt.IsNotNil(err))
	f, err := OS{}.OpenFile(target, os.O_RDONLY, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(f.Close()))
}

func TestSync(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	qt.Check(t, qt.IsNil(OS{}.SyncDir(dir)))
	if err := (OS{}).SyncAll(dir); err != nil {
		qt.Check(t, qt.ErrorIs(err, errors.ErrUnsupported))
	}
	qt.Check(t, qt.Not(qt.IsNil(OS{}.SyncAll(filepath.Join(dir, "absent")))))
}
