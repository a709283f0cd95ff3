package disk

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrNoDirectory means that a directory was removed as often as it was created. It is
// also an [fs.ErrNotExist].
var ErrNoDirectory = fmt.Errorf("the directory does not stay: %w", fs.ErrNotExist)

// LinkNew gives a file an additional name, in a directory that makeDir creates if
// necessary. If the directory is removed again meanwhile, LinkNew calls makeDir
// again.
//
// Errors: [fs.ErrExist] if the name is taken, ErrNoDirectory, and those of makeDir
// and of the system.
func (w *Workspace) LinkNew(source, name string, makeDir func() error) error {
	for range 100 {
		err := w.FS.Link(source, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := w.FS.Lstat(source); err != nil {
			return err
		}
		if err := makeDir(); err != nil {
			return err
		}
	}
	return ErrNoDirectory
}

// NameNew renames a staged file to a name that is not taken, in a directory that
// makeDir creates if necessary. If the name is taken, the error is an [fs.ErrExist].
// Without hard links, the last of two concurrent calls wins.
func (w *Workspace) NameNew(tmp, name string, makeDir func() error) error {
	err := w.LinkNew(tmp, name, makeDir)
	if CannotLink(err) {
		if err = w.renameNew(tmp, name, makeDir); err == nil {
			return nil
		}
	}
	w.FS.Remove(tmp)
	return err
}

func (w *Workspace) renameNew(tmp, name string, makeDir func() error) error {
	_, err := w.FS.Lstat(name)
	if err == nil {
		return fs.ErrExist
	}
	if !IsAbsent(err) {
		return err
	}
	err = w.FS.Rename(tmp, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(); err != nil {
		return err
	}
	return w.FS.Rename(tmp, name)
}
