//go:build unix

package disktest

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// Faults is a filesystem whose calls can be made to fail. It counts its own calls and
// those of its files, starting at the last call of Arm.
type Faults struct {
	disk.FS
	Quiet bool // syncs are not passed on, which shows only in the time that they take

	mu    sync.Mutex
	calls []string
	fault Fault
	hits  []string // the calls that failed
}

// Fault selects the calls that fail.
type Fault struct {
	Call  int    // the number of the call that fails, counted from 1; zero means none
	Op    string // if not empty, only calls of this operation are counted
	Errno syscall.Errno
	Short bool // a write that fails writes the first half, and a read reads it
	Stays bool // all later calls fail, too
}

func (f Fault) String() string {
	s := fmt.Sprintf("call %d fails with %v", f.Call, f.Errno)
	if f.Op != "" {
		s = fmt.Sprintf("%s %d fails with %v", f.Op, f.Call, f.Errno)
	}
	if f.Short {
		s += " half way"
	}
	if f.Stays {
		s += ", and all that follow"
	}
	return s
}

// Arm makes calls fail from now on. The zero Fault makes none fail.
func (f *Faults) Arm(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.hits, f.fault = nil, nil, fault
}

// Record returns the calls since the last Arm, and those of them that failed.
func (f *Faults) Record() (calls, hits []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls), slices.Clone(f.hits)
}

// fails counts a call and returns the error with which it fails, or 0.
func (f *Faults) fails(op, name string) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault.Op != "" && f.fault.Op != op {
		return 0
	}
	f.calls = append(f.calls, op+" "+name)
	n := len(f.calls)
	if f.fault.Call == 0 || n < f.fault.Call || n > f.fault.Call && !f.fault.Stays {
		return 0
	}
	f.hits = append(f.hits, op+" "+name)
	return f.fault.Errno
}

func (f *Faults) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if errno := f.fails("open", name); errno != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errno}
	}
	below, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{below, f, name}, nil
}

func (f *Faults) Lstat(name string) (fs.FileInfo, error) {
	if errno := f.fails("lstat", name); errno != 0 {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: errno}
	}
	return f.FS.Lstat(name)
}

func (f *Faults) Mkdir(name string, perm fs.FileMode) error {
	if errno := f.fails("mkdir", name); errno != 0 {
		return &fs.PathError{Op: "mkdir", Path: name, Err: errno}
	}
	return f.FS.Mkdir(name, perm)
}

func (f *Faults) Link(oldname, newname string) error {
	if errno := f.fails("link", newname); errno != 0 {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: errno}
	}
	return f.FS.Link(oldname, newname)
}

func (f *Faults) Rename(oldname, newname string) error {
	if errno := f.fails("rename", newname); errno != 0 {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: errno}
	}
	return f.FS.Rename(oldname, newname)
}

func (f *Faults) Remove(name string) error {
	if errno := f.fails("remove", name); errno != 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: errno}
	}
	return f.FS.Remove(name)
}

func (f *Faults) Chtimes(name string, modified time.Time) error {
	if errno := f.fails("chtimes", name); errno != 0 {
		return &fs.PathError{Op: "chtimes", Path: name, Err: errno}
	}
	return f.FS.Chtimes(name, modified)
}

// ReadDir returns half of the entries when it fails, as that of package os may do.
func (f *Faults) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	errno := f.fails("readdir", name)
	entries, err := f.FS.ReadDir(name, n)
	if errno != 0 {
		return entries[:len(entries)/2], &fs.PathError{Op: "readdirent", Path: name, Err: errno}
	}
	return entries, err
}

func (f *Faults) EachEntry(name string, each func(fs.DirEntry)) error {
	entries, err := f.ReadDir(name, 0)
	for _, e := range entries {
		each(e)
	}
	return err
}

func (f *Faults) SyncDir(name string) error {
	if errno := f.fails("syncdir", name); errno != 0 {
		return &fs.PathError{Op: "sync", Path: name, Err: errno}
	}
	if f.Quiet {
		_, err := f.FS.Lstat(name)
		return err
	}
	return f.FS.SyncDir(name)
}

func (f *Faults) SyncAll(name string) error {
	if errno := f.fails("syncall", name); errno != 0 {
		return os.NewSyscallError("syncfs", errno)
	}
	if f.Quiet {
		_, err := f.FS.Lstat(name)
		return err
	}
	return f.FS.SyncAll(name)
}

func (f *Faults) TryLock(locked disk.File) (bool, error) {
	of := locked.(*faultFile)
	if errno := f.fails("lock", of.name); errno != 0 {
		return false, os.NewSyscallError("flock", errno)
	}
	return f.FS.TryLock(of.File)
}

func (f *Faults) Unlock(locked disk.File) error {
	of := locked.(*faultFile)
	if errno := f.fails("unlock", of.name); errno != 0 {
		return os.NewSyscallError("flock", errno)
	}
	return f.FS.Unlock(of.File)
}

// faultFile is a file of a Faults.
type faultFile struct {
	disk.File
	fs   *Faults
	name string
}

func (f *faultFile) fails(op string) error {
	if errno := f.fs.fails(op, f.name); errno != 0 {
		return &fs.PathError{Op: op, Path: f.name, Err: errno}
	}
	return nil
}

// half does the first half of a read or a write that fails, if Short is set.
func (f *faultFile) half(p []byte, do func([]byte) (int, error)) int {
	f.fs.mu.Lock()
	short := f.fs.fault.Short
	f.fs.mu.Unlock()
	if !short {
		return 0
	}
	n, _ := do(p[:len(p)/2])
	return n
}

func (f *faultFile) Read(p []byte) (int, error) {
	if err := f.fails("read"); err != nil {
		return f.half(p, f.File.Read), err
	}
	return f.File.Read(p)
}

func (f *faultFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.fails("readat"); err != nil {
		return f.half(p, func(p []byte) (int, error) { return f.File.ReadAt(p, offset) }), err
	}
	return f.File.ReadAt(p, offset)
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.fails("write"); err != nil {
		return f.half(p, f.File.Write), err
	}
	return f.File.Write(p)
}

func (f *faultFile) WriteAt(p []byte, offset int64) (int, error) {
	if err := f.fails("writeat"); err != nil {
		return f.half(p, func(p []byte) (int, error) { return f.File.WriteAt(p, offset) }), err
	}
	return f.File.WriteAt(p, offset)
}

func (f *faultFile) Seek(offset int64, whence int) (int64, error) {
	if err := f.fails("seek"); err != nil {
		return 0, err
	}
	return f.File.Seek(offset, whence)
}

func (f *faultFile) Stat() (fs.FileInfo, error) {
	if err := f.fails("stat"); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *faultFile) Sync() error {
	if err := f.fails("sync"); err != nil || f.fs.Quiet {
		return err
	}
	return f.File.Sync()
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fails("truncate"); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Close closes the file even if it fails, as close(2) does.
func (f *faultFile) Close() error {
	err := f.fails("close")
	if closed := f.File.Close(); err == nil {
		err = closed
	}
	return err
}
