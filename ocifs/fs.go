package ocifs

import (
	"io"
	"io/fs"
	"os"
	"time"
)

// filesystem is what the backend asks of the operating system. Paths are those
// of package os, and so are the errors. Tests put their own between, to make
// calls fail and to cut the power.
type filesystem interface {
	// OpenFile is [os.OpenFile]. It does not follow a symbolic link in the last
	// element of name where the system can be told so.
	OpenFile(name string, flag int, perm fs.FileMode) (file, error)

	Lstat(name string) (fs.FileInfo, error)
	Mkdir(name string, perm fs.FileMode) error
	Link(oldname, newname string) error
	Rename(oldname, newname string) error
	Remove(name string) error
	Chtimes(name string, modified time.Time) error

	// ReadDir returns up to n entries of a directory, in no order; all of them
	// if n is not positive.
	ReadDir(name string, n int) ([]fs.DirEntry, error)

	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error

	// SyncAll makes everything durable that was written to the filesystem that
	// has the directory name. Where the system has no such call, it returns
	// [errors.ErrUnsupported].
	SyncAll(name string) error

	// StartSync lets the system begin to write n bytes of an open file, from off
	// on, to the disk. It promises nothing, and does not wait.
	StartSync(f file, off, n int64)

	// TryLock takes the lock of an open file, which excludes every other open
	// file of the same name, in this process or another. It does not wait: if
	// another has the lock, it reports false. Closing the file gives the lock
	// back, and so does the end of the process.
	TryLock(f file) (bool, error)
}

// file is an open file: an [*os.File], but for tests.
type file interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// osFS is the filesystem of the operating system. The methods that differ
// between systems are in fs_unix.go, fs_linux.go, fs_windows.go and so on.
type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	f, err := openFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Lstat(name string) (fs.FileInfo, error)    { return os.Lstat(name) }
func (osFS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }
func (osFS) Link(oldname, newname string) error        { return os.Link(oldname, newname) }
func (osFS) Rename(oldname, newname string) error      { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                  { return os.Remove(name) }

func (osFS) Chtimes(name string, modified time.Time) error {
	return os.Chtimes(name, time.Time{}, modified)
}

func (osFS) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	f, err := openDir(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(n)
	if err == io.EOF {
		err = nil
	}
	return entries, err
}
