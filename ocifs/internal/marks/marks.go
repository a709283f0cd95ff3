// Package marks keeps the marks of repositories whose journals are to be folded: files that
// are called after them, from which the next process learns about those that one leaves behind.
// Marks are an optimization: they are not synced, and a journal without a mark is folded when
// its repository is used.
package marks

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Dir is the directory of marks. It and its parent are made when they are first needed.
type Dir struct {
	FS   disk.FS
	Path string
}

// slash stands for a slash in the name of a mark. No name of a repository has it.
const slash = "!"

// File returns the path of a repository's mark.
func (d Dir) File(name string) string {
	return filepath.Join(d.Path, strings.ReplaceAll(name, "/", slash))
}

// Add marks a repository. A mark that is there is young again.
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
	_, err = f.WriteAt([]byte("\n"), 0)
	return err
}

// Remove removes the mark of a repository, if it has one.
func (d Dir) Remove(name string) { d.FS.Remove(d.File(name)) }

// Has reports whether a repository may have a mark: it has, or the system cannot tell.
func (d Dir) Has(name string) bool {
	info, err := disk.Lstat(d.FS, d.File(name))
	return info != nil || err != nil
}

// minAge is the minimum age of a mark that may be removed when its repository does not
// exist: a younger one may belong to a repository that is just being created.
const minAge = time.Second

// IsOld reports whether a mark may be removed although its repository does not exist.
func (d Dir) IsOld(name string) bool {
	info, err := disk.Lstat(d.FS, d.File(name))
	return err == nil && (info == nil || time.Since(info.ModTime()) > minAge)
}

// Names returns the names of the repositories that have a mark of any process. It removes what
// is called after none, if it may.
func (d Dir) Names(mayRemove bool) ([]string, error) {
	entries, err := d.FS.ReadDir(d.Path, 0)
	if err != nil && !disk.IsAbsent(err) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := strings.ReplaceAll(e.Name(), slash, "/")
		switch {
		case ociregistry.CheckRepository(name) == nil:
			names = append(names, name)
		case mayRemove:
			d.FS.Remove(filepath.Join(d.Path, e.Name()))
		}
	}
	return names, nil
}
