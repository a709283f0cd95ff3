//go:build unix

package ocifs

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const noFollow = syscall.O_NOFOLLOW

// openFile is [os.OpenFile]. It does not wait, as it else would where there is a named
// pipe and nobody at its other end. Files and directories are not concerned. What is
// none has no bytes at an offset, which is how this package reads and writes.
func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag|noFollow|syscall.O_NONBLOCK, perm)
}

// openDir opens a directory, to which a symbolic link may lead.
func openDir(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (osFS) SyncDir(name string) error {
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

// links returns how many names a file has, or 0 if that is not known.
func links(info fs.FileInfo) int {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return int(stat.Nlink)
}
