package disk

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
)

// Damaged files are not removed but set aside, so that they block nothing and can be
// inspected. They are in ROOT/.ocifs/damaged, under their path below the root with a
// few random letters appended. Nothing reads them. They may be deleted at any time.

// SetAside moves a file or a directory, which is below the root, and returns its new
// name.
func (w *Workspace) SetAside(name string) (moved string, err error) {
	rel, err := filepath.Rel(filepath.Dir(w.Dir), name)
	if err != nil {
		return "", err
	}
	moved = filepath.Join(w.Dir, "damaged", rel+"."+rand.Text()[:8])
	if err := w.makeAllDirs(filepath.Dir(moved)); err != nil {
		return "", err
	}
	if err := w.FS.Rename(name, moved); err != nil {
		return "", err
	}
	return moved, nil
}

// makeAllDirs creates a directory below the private one, and its parents.
func (w *Workspace) makeAllDirs(dir string) error {
	if dir != w.Dir {
		if err := w.makeAllDirs(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return MakeDirs(w.FS, dir)
}

// PutBack gives a file its name back, unless another file has taken it.
func (w *Workspace) PutBack(moved, name string) error {
	err := w.FS.Link(moved, name)
	if CannotLink(err) {
		return w.FS.Rename(moved, name)
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		return w.FS.Remove(moved)
	}
	return err
}

// MoveOver renames a file. A directory with that name, which no file can replace, is
// set aside.
func (w *Workspace) MoveOver(source, name string) error {
	err := w.FS.Rename(source, name)
	if err == nil || !w.IsDir(name) {
		return err
	}
	if _, asideErr := w.SetAside(name); asideErr != nil {
		return errors.Join(err, asideErr)
	}
	return w.FS.Rename(source, name)
}

// IsDir reports whether name is a directory.
func (w *Workspace) IsDir(name string) bool {
	info, err := w.FS.Lstat(name)
	return err == nil && info.IsDir()
}
