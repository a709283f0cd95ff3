package ocifs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// walkRepos calls yield for each directory below root that has the path of a
// repository name greater than startAfter, in byte order of the names, until
// yield returns false or an error. Whether there is a repository is for yield
// to find out.
//
// A directory is read when its turn comes, so that an early end saves the rest.
// Symbolic links are not followed, and a directory that has gone when its turn
// comes is passed over. If another cannot be read, skip is called, and what is below
// it is left out; of root it is an error.
func walkRepos(fsys filesystem, root, startAfter string, yield func(name, dir string) (more bool, err error), skip func(name string, err error)) error {
	w := walk{fsys, yield, skip}
	elems, err := w.elems(root, startAfter)
	if err != nil {
		return err
	}
	_, err = w.visit(root, "", startAfter, elems)
	return err
}

type walk struct {
	fs    filesystem
	yield func(name, dir string) (more bool, err error)
	skip  func(name string, err error)
}

// visit calls yield for the directories elems of dir, and for what is below
// them. Their names begin with prefix; what follows is greater than after.
//
// An element X stands for the name X, and for the names X/…, which do not follow
// at once: X-… and X.… come between, because '-' and '.' are less than '/'. So
// the second part waits on a stack. What is pushed later comes out sooner,
// since it begins with all that it is pushed upon.
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
			continue // too long, as is all below
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

// descend visits what is below the directory elem of dir.
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
	if isExhausted(err) {
		return false, err
	}
	if err != nil {
		w.skip(prefix+elem, err)
		return true, nil
	}
	return w.visit(dir, prefix+elem+"/", after, elems)
}

// afterBelow returns what the rest of a name that begins with elem and "/" must
// be greater than, for the name to be greater than after. It reports false if
// no such name is.
func afterBelow(elem, after string) (string, bool) {
	below := elem + "/"
	if rest, ok := strings.CutPrefix(after, below); ok {
		return rest, true
	}
	return "", after < below
}

// elems returns the names' elements that the directories in dir stand for, in
// byte order: those that have a name greater than after.
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
	return slices.Compact(elems), nil // what is renamed meanwhile may be read twice
}
