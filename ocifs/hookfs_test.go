package ocifs

import (
	"io/fs"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
)

// hookFS is the filesystem of the operating system, where a function sees each
// call first and can make it fail. Calls on files have names such as
// "file.WriteAt".
type hookFS struct {
	osFS

	mu    sync.Mutex
	hook  func(op, name string) error // may be nil
	calls map[string]int
	open  int // files
}

func (h *hookFS) call(op, name string) error {
	h.mu.Lock()
	if h.calls == nil {
		h.calls = make(map[string]int)
	}
	h.calls[op]++
	hook := h.hook
	h.mu.Unlock()
	if hook == nil {
		return nil
	}
	if err := hook(op, name); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (h *hookFS) set(hook func(op, name string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = hook
	h.calls = nil
}

// count returns how many calls there were since the last set.
func (h *hookFS) count(op string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[op]
}

// checkClosed fails the test unless all files were closed.
func (h *hookFS) checkClosed(t *testing.T) {
	t.Helper()
	h.checkOpen(t, 0)
}

func (h *hookFS) checkOpen(t *testing.T, want int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	qt.Check(t, qt.Equals(h.open, want), qt.Commentf("open files"))
}

// failing returns a hook that makes an operation fail.
func failing(op string, err error) func(string, string) error {
	return func(got, name string) error {
		if got == op {
			return err
		}
		return nil
	}
}

func (h *hookFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	if err := h.call("OpenFile", name); err != nil {
		return nil, err
	}
	f, err := h.osFS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open++
	return &hookFile{file: f, fs: h, name: name}, nil
}

func (h *hookFS) Lstat(name string) (fs.FileInfo, error) {
	if err := h.call("Lstat", name); err != nil {
		return nil, err
	}
	return h.osFS.Lstat(name)
}

func (h *hookFS) Mkdir(name string, perm fs.FileMode) error {
	if err := h.call("Mkdir", name); err != nil {
		return err
	}
	return h.osFS.Mkdir(name, perm)
}

func (h *hookFS) Link(oldname, newname string) error {
	if err := h.call("Link", newname); err != nil {
		return err
	}
	return h.osFS.Link(oldname, newname)
}

func (h *hookFS) Rename(oldname, newname string) error {
	if err := h.call("Rename", newname); err != nil {
		return err
	}
	return h.osFS.Rename(oldname, newname)
}

func (h *hookFS) Remove(name string) error {
	if err := h.call("Remove", name); err != nil {
		return err
	}
	return h.osFS.Remove(name)
}

func (h *hookFS) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	if err := h.call("ReadDir", name); err != nil {
		return nil, err
	}
	return h.osFS.ReadDir(name, n)
}

func (h *hookFS) SyncDir(name string) error {
	if err := h.call("SyncDir", name); err != nil {
		return err
	}
	return h.osFS.SyncDir(name)
}

func (h *hookFS) SyncAll(name string) error {
	if err := h.call("SyncAll", name); err != nil {
		return err
	}
	return h.osFS.SyncAll(name)
}

func (h *hookFS) StartSync(f file, off, n int64) {
	h.call("StartSync", f.(*hookFile).name)
	h.osFS.StartSync(f.(*hookFile).file, off, n)
}

func (h *hookFS) TryLock(f file) (bool, error) {
	if err := h.call("TryLock", f.(*hookFile).name); err != nil {
		return false, err
	}
	return h.osFS.TryLock(f.(*hookFile).file)
}

type hookFile struct {
	file
	fs     *hookFS
	name   string
	closed bool
}

func (f *hookFile) Read(p []byte) (int, error) {
	if err := f.fs.call("file.Read", f.name); err != nil {
		return 0, err
	}
	return f.file.Read(p)
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.call("file.ReadAt", f.name); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

// WriteAt writes the first half when it is made to fail.
func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.call("file.WriteAt", f.name); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *hookFile) Write(p []byte) (int, error) {
	if err := f.fs.call("file.Write", f.name); err != nil {
		return 0, err
	}
	return f.file.Write(p)
}

func (f *hookFile) Stat() (fs.FileInfo, error) {
	if err := f.fs.call("file.Stat", f.name); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

func (f *hookFile) Sync() error {
	if err := f.fs.call("file.Sync", f.name); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *hookFile) Truncate(size int64) error {
	if err := f.fs.call("file.Truncate", f.name); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *hookFile) Close() error {
	f.fs.mu.Lock()
	if !f.closed {
		f.closed = true
		f.fs.open--
	}
	f.fs.mu.Unlock()
	return f.file.Close()
}
