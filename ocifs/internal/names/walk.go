package names

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Walk calls yield for each directory below root whose path is that of a
// repository name greater than startAfter. It does so in byte order of the names,
// until yield returns false or an error. There need not be a repository in the
// directory.
//
// A directory is read only when the walk reaches it, so ending early saves the rest.
// Symbolic links are not followed, and a directory that has disappeared is ignored.
// If a directory cannot be read, Walk calls skip and omits everything below it.
// If root cannot be read, that is an error.
func Walk(fsys disk.FS, root, startAfter string, yield func(name, dir string) (more bool, err error), skip func(name string, err error)) error {
	w := walk{fsys, yield, skip}
	elems, err := w.elems(root, startAfter)
	if err != nil {
		return err
	}
	_, err = w.visit(root, "", startAfter, elems)
	return err
}

type walk struct {
	fs    disk.FS
	yield func(name, dir string) (more bool, err error)
	skip  func(name string, err error)
}

// visit calls yield for the directories elems of dir, and for the directories below
// them. Their names begin with prefix; the rest of each name is greater than after.
//
// An element X stands for the name X and for the names X/…, which do not follow it
// directly: X-… and X.… come between, because '-' and '.' are less than '/'. The
// names below X therefore wait on a stack. An element that is pushed later is popped
// earlier, because it begins with all the elements below it on the stack.
func (w *walk) visit(dir, prefix, after string, elems []string) (more bool, err error) {
	var waiting []string
	for len(elems) > 0 || len(waiting) > 0 {
		if n := len(waiting); n > 0 && (len(elems) == 0 || !comesBetween(waiting[n-1], elems[0])) {
			if more, err := w.descend(dir, prefix, after, waiting[n-1]); err != nil || !more {
				return false, err
			}
			waiting = waiting[:n-1]
			continue
		}
		elem := elems[0]
		elems = elems[1:]
		name := prefix + elem
		if !ociref.IsValidRepository(name) {
			continue // too long, like all names below it
		}
		if elem > after {
			if more, err := w.yield(name, filepath.Join(dir, entryName(elem))); err != nil || !more {
				return false, err
			}
		}
		waiting = append(waiting, elem)
	}
	return true, nil
}

// comesBetween reports whether the name next, which is greater than elem, comes
// before the names below elem.
func comesBetween(elem, next string) bool {
	rest, ok := strings.CutPrefix(next, elem)
	return ok && rest[0] < '/'
}

// descend visits the directories below the directory elem of dir.
func (w *walk) descend(dir, prefix, after, elem string) (more bool, err error) {
	after, ok := afterBelow(elem, after)
	if !ok {
		return true, nil
	}
	dir = filepath.Join(dir, entryName(elem))
	elems, err := w.elems(dir, after)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true, nil
	}
	if disk.IsExhausted(err) {
		return false, err
	}
	if err != nil {
		w.skip(prefix+elem, err)
		return true, nil
	}
	return w.visit(dir, prefix+elem+"/", after, elems)
}

// afterBelow returns the bound for names below elem: a name elem/X is greater than
// after if X is greater than the bound. It returns false if no such name is greater.
func afterBelow(elem, after string) (string, bool) {
	below := elem + "/"
	if rest, ok := strings.CutPrefix(after, below); ok {
		return rest, true
	}
	return "", after < below
}

// elems returns the elements of names for which dir has directories, in byte order,
// if an element or a name below it can be greater than after.
func (w *walk) elems(dir, after string) ([]string, error) {
	entries, err := w.fs.ReadDir(dir, 0)
	if err != nil {
		return nil, err
	}
	var elems []string
	for _, entry := range entries {
		elem, ok := elemOf(entry.Name())
		if !ok || !entry.IsDir() {
			continue
		}
		if _, ok := afterBelow(elem, after); ok {
			elems = append(elems, elem)
		}
	}
	slices.Sort(elems)
	return slices.Compact(elems), nil // an entry that is renamed meanwhile may be read twice
}
