//go:build unix

package ocifs

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// faultFS is a filesystem whose calls fail when they are told to. It counts the
// calls of itself and of its files, from the last call of arm on.
type faultFS struct {
	filesystem
	quiet bool // syncs are not passed on: what they do cannot be seen, but for the time they take

	mu    sync.Mutex
	calls []string
	fault fault
	hits  []string // the calls that failed
}

// fault says which calls fail.
type fault struct {
	call  int    // fails, counted from 1; 0 is none
	op    string // only calls of this operation are counted, if not empty
	errno syscall.Errno
	short bool // a Write or WriteAt writes half before it fails, a Read reads half
	stays bool // so do all calls after it
}

func (f fault) String() string {
	s := fmt.Sprintf("call %d fails with %v", f.call, f.errno)
	if f.op != "" {
		s = fmt.Sprintf("%s %d fails with %v", f.op, f.call, f.errno)
	}
	if f.short {
		s += " half way"
	}
	if f.stays {
		s += ", and all that follow"
	}
	return s
}

// arm makes calls fail from now on. The zero fault heals.
func (f *faultFS) arm(fault fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.hits, f.fault = nil, nil, fault
}

// record returns the calls since the last arm, and those of them that failed.
func (f *faultFS) record() (calls, hits []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls), slices.Clone(f.hits)
}

// fails counts a call and returns what it fails with, or 0.
func (f *faultFS) fails(op, name string) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault.op != "" && f.fault.op != op {
		return 0
	}
	f.calls = append(f.calls, op+" "+name)
	n := len(f.calls)
	if f.fault.call == 0 || n < f.fault.call || n > f.fault.call && !f.fault.stays {
		return 0
	}
	f.hits = append(f.hits, op+" "+name)
	return f.fault.errno
}

func (f *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	if errno := f.fails("open", name); errno != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errno}
	}
	below, err := f.filesystem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{below, f, name}, nil
}

func (f *faultFS) Lstat(name string) (fs.FileInfo, error) {
	if errno := f.fails("lstat", name); errno != 0 {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: errno}
	}
	return f.filesystem.Lstat(name)
}

func (f *faultFS) Mkdir(name string, perm fs.FileMode) error {
	if errno := f.fails("mkdir", name); errno != 0 {
		return &fs.PathError{Op: "mkdir", Path: name, Err: errno}
	}
	return f.filesystem.Mkdir(name, perm)
}

func (f *faultFS) Link(oldname, newname string) error {
	if errno := f.fails("link", newname); errno != 0 {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: errno}
	}
	return f.filesystem.Link(oldname, newname)
}

func (f *faultFS) Rename(oldname, newname string) error {
	if errno := f.fails("rename", newname); errno != 0 {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: errno}
	}
	return f.filesystem.Rename(oldname, newname)
}

func (f *faultFS) Remove(name string) error {
	if errno := f.fails("remove", name); errno != 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: errno}
	}
	return f.filesystem.Remove(name)
}

func (f *faultFS) Chtimes(name string, modified time.Time) error {
	if errno := f.fails("chtimes", name); errno != 0 {
		return &fs.PathError{Op: "chtimes", Path: name, Err: errno}
	}
	return f.filesystem.Chtimes(name, modified)
}

// ReadDir that fails returns the half of the entries, as package os can.
func (f *faultFS) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	errno := f.fails("readdir", name)
	entries, err := f.filesystem.ReadDir(name, n)
	if errno != 0 {
		return entries[:len(entries)/2], &fs.PathError{Op: "readdirent", Path: name, Err: errno}
	}
	return entries, err
}

func (f *faultFS) SyncDir(name string) error {
	if errno := f.fails("syncdir", name); errno != 0 {
		return &fs.PathError{Op: "sync", Path: name, Err: errno}
	}
	if f.quiet {
		_, err := f.filesystem.Lstat(name)
		return err
	}
	return f.filesystem.SyncDir(name)
}

func (f *faultFS) SyncAll(name string) error {
	if errno := f.fails("syncall", name); errno != 0 {
		return os.NewSyscallError("syncfs", errno)
	}
	if f.quiet {
		_, err := f.filesystem.Lstat(name)
		return err
	}
	return f.filesystem.SyncAll(name)
}

func (f *faultFS) TryLock(locked file) (bool, error) {
	of := locked.(*faultFile)
	if errno := f.fails("lock", of.name); errno != 0 {
		return false, os.NewSyscallError("flock", errno)
	}
	return f.filesystem.TryLock(of.file)
}

// faultFile is a file of a faultFS.
type faultFile struct {
	file
	fs   *faultFS
	name string
}

func (f *faultFile) fails(op string) error {
	if errno := f.fs.fails(op, f.name); errno != 0 {
		return &fs.PathError{Op: op, Path: f.name, Err: errno}
	}
	return nil
}

// half does a part of a read or a write that fails.
func (f *faultFile) half(p []byte, do func([]byte) (int, error)) int {
	f.fs.mu.Lock()
	short := f.fs.fault.short
	f.fs.mu.Unlock()
	if !short {
		return 0
	}
	n, _ := do(p[:len(p)/2])
	return n
}

func (f *faultFile) Read(p []byte) (int, error) {
	if err := f.fails("read"); err != nil {
		return f.half(p, f.file.Read), err
	}
	return f.file.Read(p)
}

func (f *faultFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.fails("readat"); err != nil {
		return f.half(p, func(p []byte) (int, error) { return f.file.ReadAt(p, offset) }), err
	}
	return f.file.ReadAt(p, offset)
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.fails("write"); err != nil {
		return f.half(p, f.file.Write), err
	}
	return f.file.Write(p)
}

func (f *faultFile) WriteAt(p []byte, offset int64) (int, error) {
	if err := f.fails("writeat"); err != nil {
		return f.half(p, func(p []byte) (int, error) { return f.file.WriteAt(p, offset) }), err
	}
	return f.file.WriteAt(p, offset)
}

func (f *faultFile) Seek(offset int64, whence int) (int64, error) {
	if err := f.fails("seek"); err != nil {
		return 0, err
	}
	return f.file.Seek(offset, whence)
}

func (f *faultFile) Stat() (fs.FileInfo, error) {
	if err := f.fails("stat"); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

func (f *faultFile) Sync() error {
	if err := f.fails("sync"); err != nil || f.fs.quiet {
		return err
	}
	return f.file.Sync()
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fails("truncate"); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

// Close that fails has closed the file all the same, as close(2) has.
func (f *faultFile) Close() error {
	err := f.fails("close")
	if closed := f.file.Close(); err == nil {
		err = closed
	}
	return err
}
