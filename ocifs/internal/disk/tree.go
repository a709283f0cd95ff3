package disk

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// The permissions of all new files and directories, before the umask.
const (
	FilePerm   = 0o644
	DirPerm    = 0o755
	SecretPerm = 0o600 // of files that others must not read
)

// MakeDirs creates those of the directories that do not exist, in order.
func MakeDirs(fsys FS, dirs ...string) error {
	for _, dir := range dirs {
		if err := fsys.Mkdir(dir, DirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// removeAll removes a file, or a directory with everything in it. It does not follow
// symbolic links.
func removeAll(fsys FS, name string) error {
	err := fsys.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	info, statErr := fsys.Lstat(name)
	if statErr != nil || !info.IsDir() {
		return err
	}
	entries, err := fsys.ReadDir(name, -1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeAll(fsys, filepath.Join(name, e.Name())); err != nil {
			return err
		}
	}
	err = fsys.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
