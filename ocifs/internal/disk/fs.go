package disk

import (
	"io"
	"io/fs"
	"os"
	"time"
)

// FS is a filesystem. Paths and errors are those of package os. Tests use
// implementations that make calls fail or cut the power.
type FS interface {
	// OpenFile is like [os.OpenFile], but does not follow a symbolic link in the last
	// element of name, on systems that allow this.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)

	Lstat(name string) (fs.FileInfo, error)
	Mkdir(name string, perm fs.FileMode) error
	Link(oldname, newname string) error
	Rename(oldname, newname string) error
	Remove(name string) error
	Chtimes(name string, modified time.Time) error

	// ReadDir returns up to n entries of a directory, in no particular order, or all
	// of them if n is not positive.
	ReadDir(name string, n int) ([]fs.DirEntry, error)

	// EachEntry calls f for each entry of a directory, in no particular order, without having
	// all of them in memory. Of those that come or go meanwhile, some may be missing.
	EachEntry(name string, f func(fs.DirEntry)) error

	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error

	// SyncAll makes everything durable that was written to the filesystem of the
	// directory name. If the system has no such call, it returns
	// [errors.ErrUnsupported].
	SyncAll(name string) error

	// StartSync hints that the system should begin to write n bytes of an open file,
	// from off on, to the disk. It does not wait, and guarantees nothing.
	StartSync(f File, off, n int64)

	// TryLock locks an open file, excluding every other open file of the same name in
	// any process. It does not wait: if the file is locked, it returns false. Closing
	// the file releases the lock, and so does the end of the process.
	TryLock(f File) (bool, error)

	// Unlock releases the lock of an open file. If it fails, closing the file
	// releases the lock.
	Unlock(f File) error
}

// File is an open file: an [*os.File], except in tests.
type File interface {
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

// OS is the filesystem of the operating system. The methods that differ between
// systems are in fs_unix.go, fs_linux.go, fs_windows.go and so on.
type OS struct{}

func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := openFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (OS) Lstat(name string) (fs.FileInfo, error)    { return os.Lstat(name) }
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }
func (OS) Link(oldname, newname string) error        { return os.Link(oldname, newname) }
func (OS) Remove(name string) error                  { return os.Remove(name) }

func (OS) Chtimes(name string, modified time.Time) error {
	return os.Chtimes(name, time.Time{}, modified)
}

func (OS) ReadDir(name string, n int) ([]fs.DirEntry, error) {
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

func (OS) EachEntry(name string, f func(fs.DirEntry)) error {
	dir, err := openDir(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(1024)
		for _, e := range entries {
			f(e)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
