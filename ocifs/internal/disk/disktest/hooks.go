package disktest

import (
	"io/fs"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// Hooks is the filesystem of the operating system, with a function that sees each
// call first and can make it fail. Calls on files have names such as "file.WriteAt".
type Hooks struct {
	disk.OS

	mu    sync.Mutex
	hook  func(op, name string) error // may be nil
	calls map[string]int
	open  int // number of open files
}

func (h *Hooks) call(op, name string) error {
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

// Set sets the function that sees all further calls, which may be nil, and resets the
// counts. If the function returns an error, the call fails with it.
func (h *Hooks) Set(hook func(op, name string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = hook
	h.calls = nil
}

// Count returns the number of calls of an operation since the last Set.
func (h *Hooks) Count(op string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[op]
}

// Counts returns how many calls of each operation there were since the last Set.
func (h *Hooks) Counts() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.calls)
}

// CheckClosed fails the test unless all files were closed.
func (h *Hooks) CheckClosed(t *testing.T) {
	t.Helper()
	h.CheckOpen(t, 0)
}

// CheckOpen fails the test unless the given number of files is open.
func (h *Hooks) CheckOpen(t *testing.T, want int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open != want {
		t.Errorf("%d files are open, want %d", h.open, want)
	}
}

// Failing returns a hook that makes an operation fail.
func Failing(op string, err error) func(string, string) error {
	return func(got, name string) error {
		if got == op {
			return err
		}
		return nil
	}
}

func (h *Hooks) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := h.call("OpenFile", name); err != nil {
		return nil, err
	}
	f, err := h.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open++
	return &hookFile{File: f, fs: h, name: name}, nil
}

func (h *Hooks) Lstat(name string) (fs.FileInfo, error) {
	if err := h.call("Lstat", name); err != nil {
		return nil, err
	}
	return h.OS.Lstat(name)
}

func (h *Hooks) Mkdir(name string, perm fs.FileMode) error {
	if err := h.call("Mkdir", name); err != nil {
		return err
	}
	return h.OS.Mkdir(name, perm)
}

func (h *Hooks) Link(oldname, newname string) error {
	if err := h.call("Link", newname); err != nil {
		return err
	}
	return h.OS.Link(oldname, newname)
}

func (h *Hooks) Rename(oldname, newname string) error {
	if err := h.call("Rename", newname); err != nil {
		return err
	}
	return h.OS.Rename(oldname, newname)
}

func (h *Hooks) Remove(name string) error {
	if err := h.call("Remove", name); err != nil {
		return err
	}
	return h.OS.Remove(name)
}

func (h *Hooks) Chtimes(name string, modified time.Time) error {
	if err := h.call("Chtimes", name); err != nil {
		return err
	}
	return h.OS.Chtimes(name, modified)
}

func (h *Hooks) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	if err := h.call("ReadDir", name); err != nil {
		return nil, err
	}
	return h.OS.ReadDir(name, n)
}

func (h *Hooks) EachEntry(name string, f func(fs.DirEntry)) error {
	if err := h.call("ReadDir", name); err != nil {
		return err
	}
	return h.OS.EachEntry(name, f)
}

func (h *Hooks) SyncDir(name string) error {
	if err := h.call("SyncDir", name); err != nil {
		return err
	}
	return h.OS.SyncDir(name)
}

func (h *Hooks) SyncAll(name string) error {
	if err := h.call("SyncAll", name); err != nil {
		return err
	}
	return h.OS.SyncAll(name)
}

func (h *Hooks) StartSync(f disk.File, off, n int64) {
	h.call("StartSync", f.(*hookFile).name)
	h.OS.StartSync(f.(*hookFile).File, off, n)
}

func (h *Hooks) TryLock(f disk.File) (bool, error) {
	if err := h.call("TryLock", f.(*hookFile).name); err != nil {
		return false, err
	}
	return h.OS.TryLock(f.(*hookFile).File)
}

func (h *Hooks) Unlock(f disk.File) error {
	if err := h.call("Unlock", f.(*hookFile).name); err != nil {
		return err
	}
	return h.OS.Unlock(f.(*hookFile).File)
}

type hookFile struct {
	disk.File
	fs     *Hooks
	name   string
	closed bool
}

func (f *hookFile) Read(p []byte) (int, error) {
	if err := f.fs.call("file.Read", f.name); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.call("file.ReadAt", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// WriteAt writes the first half of p when it is made to fail.
func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.call("file.WriteAt", f.name); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *hookFile) Write(p []byte) (int, error) {
	if err := f.fs.call("file.Write", f.name); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *hookFile) Stat() (fs.FileInfo, error) {
	if err := f.fs.call("file.Stat", f.name); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *hookFile) Sync() error {
	if err := f.fs.call("file.Sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *hookFile) Truncate(size int64) error {
	if err := f.fs.call("file.Truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *hookFile) Close() error {
	f.fs.mu.Lock()
	if !f.closed {
		f.closed = true
		f.fs.open--
	}
	f.fs.mu.Unlock()
	return f.File.Close()
}
