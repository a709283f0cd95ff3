package ocifs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestTryLock checks that a lock belongs to an open file, and leaves with it.
func TestTryLock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(KeptDir(t), "lock")
	open := func() file {
		f, err := osFS{}.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
		qt.Assert(t, qt.IsNil(err))
		return f
	}
	tryLock := func(f file) bool {
		ok, err := osFS{}.TryLock(f)
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
	qt.Assert(t, qt.IsNil(f.Close()))
	qt.Check(t, qt.IsTrue(tryLock(g)))
}

func TestLinks(t *testing.T) {
	t.Parallel()
	dir := KeptDir(t)
	name := filepath.Join(dir, "a")
	count := func() int {
		info, err := osFS{}.Lstat(name)
		qt.Assert(t, qt.IsNil(err))
		return links(info)
	}
	qt.Assert(t, qt.IsNil(os.WriteFile(name, nil, 0o666)))
	if count() == 0 {
		t.Skip("this system does not tell")
	}
	qt.Check(t, qt.Equals(count(), 1))
	if err := (osFS{}).Link(name, filepath.Join(dir, "b")); err != nil {
		t.Skip(err)
	}
	qt.Check(t, qt.Equals(count(), 2))
	qt.Assert(t, qt.IsNil(osFS{}.Remove(filepath.Join(dir, "b"))))
	qt.Check(t, qt.Equals(count(), 1))
}

func TestOpenFileFollowsNoLink(t *testing.T) {
	t.Parallel()
	if noFollow == 0 {
		t.Skip("this system cannot be told so")
	}
	dir := KeptDir(t)
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	qt.Assert(t, qt.IsNil(os.WriteFile(target, []byte("content"), 0o666)))
	qt.Assert(t, qt.IsNil(os.Symlink("target", link)))
	_, err := osFS{}.OpenFile(link, os.O_RDONLY, 0)
	qt.Check(t, qt.IsNotNil(err))
	f, err := osFS{}.OpenFile(target, os.O_RDONLY, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(f.Close()))
}

func TestSync(t *testing.T) {
	t.Parallel()
	dir := KeptDir(t)
	qt.Check(t, qt.IsNil(osFS{}.SyncDir(dir)))
	if err := (osFS{}).SyncAll(dir); err != nil {
		qt.Check(t, qt.ErrorIs(err, errors.ErrUnsupported))
	}
	qt.Check(t, qt.Not(qt.IsNil(osFS{}.SyncAll(filepath.Join(dir, "absent")))))
}
