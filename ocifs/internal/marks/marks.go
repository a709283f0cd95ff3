// Package marks keeps the marks of repositories whose journals are to be folded: files that
// are called after them, from which the next process learns about those that one leaves behind.
// Marks are an optimization: they are not synced, and a journal without a mark is folded when
// its repository is used.
package marks

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Dir is the directory of marks. It and its parent are made when they are first needed. While
// somebody watches the marks, it is elsewhere: see watcher.go.
type Dir struct {
	FS   disk.FS
	Path string
	ID   string // of this process, without spaces
}

// slash stands for a slash in the name of a mark. No name of a repository has it.
const slash = "!"

// File returns the path of a repository's mark.
func (d Dir) File(name string) string { return filepath.Join(d.Path, fileName(name)) }

func (d Dir) watchedFile(name string) string { return filepath.Join(d.watched(), fileName(name)) }

func fileName(name string) string { return strings.ReplaceAll(name, "/", slash) }

// repository returns the name of the repository that a mark is called after, if it is a mark.
func repository(fileName string) (name string, ok bool) {
	name = strings.ReplaceAll(fileName, slash, "/")
	return name, ociregistry.CheckRepository(name) == nil
}

// Add marks a repository. A mark that is there is young again.
func (d Dir) Add(name string) error {
	open := func(file string) (disk.File, error) {
		return d.FS.OpenFile(file, os.O_WRONLY|os.O_CREATE, disk.FilePerm)
	}
	f, err := open(d.File(name))
	if disk.IsAbsent(err) {
		f, err = open(d.watchedFile(name))
	}
	if disk.IsAbsent(err) {
		if err = disk.MakeDirs(d.FS, filepath.Dir(d.Path), d.Path); err == nil {
			f, err = open(d.File(name))
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte("\n"), 0)
	return err
}

// Remove removes the mark of a repository, if it has one.
func (d Dir) Remove(name string) {
	if err := d.FS.Remove(d.File(name)); disk.IsAbsent(err) {
		d.note(name)
		d.FS.Remove(d.watchedFile(name))
	}
}

// Has reports whether a repository may have a mark: it has, or the system cannot tell.
func (d Dir) Has(name string) bool {
	info, err := d.stat(name)
	return info != nil || err != nil
}

func (d Dir) stat(name string) (fs.FileInfo, error) {
	info, err := disk.Lstat(d.FS, d.File(name))
	if info == nil && err == nil {
		info, err = disk.Lstat(d.FS, d.watchedFile(name))
	}
	return info, err
}

// minAge is the minimum age of a mark that may be removed when its repository does not
// exist: a younger one may belong to a repository that is just being created.
const minAge = time.Second

// IsOld reports whether a mark may be removed although its repository does not exist.
func (d Dir) IsOld(name string) bool {
	info, err := d.stat(name)
	return err == nil && (info == nil || time.Since(info.ModTime()) > minAge)
}

// Names returns the names of the repositories that have a mark of any process. It removes what
// is called after none, if it may.
func (d Dir) Names(mayRemove bool) ([]string, error) {
	var names []string
	for _, dir := range []string{d.Path, d.watched()} { // which may be moved meanwhile
		some, others, err := d.namesIn(dir)
		if err != nil {
			return nil, err
		}
		names = append(names, some...)
		if mayRemove {
			for _, other := range others {
				d.FS.Remove(filepath.Join(dir, other))
			}
		}
	}
	return names, nil
}

// namesIn returns the names of the repositories that have a mark in a directory, and what else
// there is.
func (d Dir) namesIn(dir string) (names, others []string, err error) {
	entries, err := d.FS.ReadDir(dir, 0)
	if err != nil && !disk.IsAbsent(err) {
		return nil, nil, err
	}
	for _, e := range entries {
		if name, ok := repository(e.Name()); ok {
			names = append(names, name)
		} else {
			others = append(others, e.Name())
		}
	}
	return names, others, nil
}
