// Package marks keeps the marks of repositories whose journals are to be folded: files that
// have their names, from which the next process learns about those that one leaves behind.
// Marks are an optimization: they are not synced, and a journal without a mark is folded when
// its repository is used.
package marks

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Dir is the directory of marks. It and its parent are made when they are first needed.
type Dir struct {
	FS   disk.FS
	Path string
}

// File returns the path of a repository's mark.
func (d Dir) File(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(d.Path, hex.EncodeToString(sum[:]))
}

// Add marks a repository.
func (d Dir) Add(name string) error {
	f, err := d.FS.OpenFile(d.File(name), os.O_WRONLY|os.O_CREATE, disk.FilePerm)
	if disk.IsAbsent(err) {
		if err = disk.MakeDirs(d.FS, filepath.Dir(d.Path), d.Path); err == nil {
			f, err = d.FS.OpenFile(d.File(name), os.O_WRONLY|os.O_CREATE, disk.FilePerm)
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(name), 0)
	return err
}

// Remove removes the mark of a repository, if it has one.
func (d Dir) Remove(name string) { d.FS.Remove(d.File(name)) }

// Has reports whether a repository may have a mark: it has, or the system cannot tell. A
// mark that somebody is about to write its name to is none yet.
func (d Dir) Has(name string) bool {
	info, err := disk.Lstat(d.FS, d.File(name))
	return err != nil || info != nil && info.Size() > 0
}

// minAge is the minimum age of a mark that may be removed when its repository does not
// exist, or when it has no name: a younger one may belong to a repository that is just being
// created, or to somebody who is about to write the name.
const minAge = time.Second

// IsOld reports whether a mark may be removed although its repository does not exist.
func (d Dir) IsOld(name string) bool { return d.isOld(d.File(name)) }

func (d Dir) isOld(path string) bool {
	info, err := disk.Lstat(d.FS, path)
	return err == nil && (info == nil || time.Since(info.ModTime()) > minAge)
}

// Names returns the names of the repositories that have a mark of any process. It removes
// the marks of processes that died before they wrote the name, if it may.
func (d Dir) Names(mayRemove bool) ([]string, error) {
	entries, err := d.FS.ReadDir(d.Path, 0)
	if err != nil && !disk.IsAbsent(err) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		path := filepath.Join(d.Path, e.Name())
		name, err := d.read(path)
		switch {
		case err != nil:
		case ociregistry.CheckRepository(name) == nil:
			names = append(names, name)
		case mayRemove && d.isOld(path):
			d.FS.Remove(path)
		}
	}
	return names, nil
}

func (d Dir) read(path string) (string, error) {
	f, err := d.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return disk.ReadFrom(f, 0)
}
