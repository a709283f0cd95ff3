//go:build unix

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const noFollow = syscall.O_NOFOLLOW

// openFile is like [os.OpenFile], but does not block on a named pipe that nobody has
// open at the other end. O_NONBLOCK makes no difference for files and directories.
// Files are read and written at offsets here, which fails for anything that is not a
// file.
func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag|noFollow|syscall.O_NONBLOCK, perm)
}

// Rename is [os.Rename] without its look for a directory in the way. The system refuses
// to replace a directory that has anything in it.
func (OS) Rename(oldname, newname string) error {
	for {
		err := syscall.Rename(oldname, newname)
		if err == nil {
			return nil
		}
		if err != syscall.EINTR {
			return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
		}
	}
}

// openDir opens a directory. The name may be a symbolic link.
func openDir(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (OS) SyncDir(name string) error {
	f, err := openDir(name)
	if err != nil {
		return err
	}
	defer f.Close()
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // some filesystems do not sync directories
	}
	return err
}

// Links returns the number of names of a file, or 0 if it is unknown.
func Links(info fs.FileInfo) int {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return int(stat.Nlink)
}
