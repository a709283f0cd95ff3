package ocifs

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-40b21970/oci/ociregistry"
)

// What is damaged is not removed but set aside, where it is in nobody's way and can
// be looked at: in ROOT/.ocifs/damaged, by its path below the root and a few random
// letters. Nothing reads it. It may be deleted at any time.

// setAside moves a file or a directory, which is below the root, and returns its new
// name.
func (s *store) setAside(name string) (moved string, err error) {
	rel, err := filepath.Rel(filepath.Dir(s.private), name)
	if err != nil {
		return "", err
	}
	moved = filepath.Join(s.private, "damaged", rel+"."+rand.Text()[:8])
	if err := s.makeAllDirs(filepath.Dir(moved)); err != nil {
		return "", err
	}
	if err := s.fs.Rename(name, moved); err != nil {
		return "", err
	}
	return moved, nil
}

// makeAllDirs makes a directory below the private one, and those that lead to it.
func (s *store) makeAllDirs(dir string) error {
	if dir != s.private {
		if err := s.makeAllDirs(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return makeDirs(s.fs, dir)
}

// setAsideBlob moves the file of a blob, which was found damaged when it looked as
// info says, out of a layout directory or the pool, and lets go of what the pool has
// of the same file. If the file was replaced meanwhile, that stays, and moved is
// empty.
func (s *store) setAsideBlob(dir string, d ociregistry.Digest, info fs.FileInfo) (moved string, err error) {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	name := blobPath(dir, d)
	now, err := s.fs.Lstat(name)
	if isAbsent(err) || err == nil && !sameFile(now, info) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if moved, err = s.setAside(name); err != nil {
		return "", err
	}
	if now, err = s.fs.Lstat(moved); err == nil && !os.SameFile(now, info) {
		return "", s.putBack(moved, name) // another process has just put it there
	}
	names := links(info) - 1
	if pool := s.poolPath(d); pool != name && s.sameFile(pool, moved) && s.fs.Remove(pool) == nil {
		names--
	}
	if names == 0 && info.Mode().IsRegular() {
		s.release(info.Size())
	}
	return moved, s.syncDir(filepath.Dir(name))
}

// putBack gives a file its name back, unless another has it by now.
func (s *store) putBack(moved, name string) error {
	err := s.fs.Link(moved, name)
	if cannotLink(err) {
		return s.fs.Rename(moved, name)
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		return s.fs.Remove(moved)
	}
	return err
}

// moveOver gives a file another name. A directory that has it, and that no file can
// replace, is set aside.
func (s *store) moveOver(source, name string) error {
	err := s.fs.Rename(source, name)
	if err == nil || !s.isDir(name) {
		return err
	}
	if _, asideErr := s.setAside(name); asideErr != nil {
		return errors.Join(err, asideErr)
	}
	return s.fs.Rename(source, name)
}

func (s *store) isDir(name string) bool {
	info, err := s.fs.Lstat(name)
	return err == nil && info.IsDir()
}
