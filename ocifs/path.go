package ocifs

import (
	"path/filepath"
	"runtime"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// The directory of a repository has the path of its name below the root, except
// that a "_" is put before each path element that is reserved. No element of a
// name begins with "_" itself, so that different names have different paths, and
// none begins with ".", so that all else can be kept below such names.
//
// A path element is at most as long as a name, which is 255 bytes: what file
// systems allow. The "_" makes no layout's own name too long. On Windows there
// is one family of names for which it does, "con." and 251 bytes more and the
// like: there the system refuses to make the directory.

// repoPath returns the directory of a repository, whose name is valid.
func repoPath(root, repo string) string {
	elems := strings.Split(repo, "/")
	for i, elem := range elems {
		elems[i] = entryName(elem)
	}
	return filepath.Join(root, filepath.Join(elems...))
}

// repoName returns the name of the repository whose directory is at the path
// rel below the root: the one that [repoPath] maps there, if there is one.
func repoName(rel string) (name string, ok bool) {
	elems := strings.Split(filepath.ToSlash(rel), "/")
	for i, entry := range elems {
		if elems[i], ok = elemOf(entry); !ok {
			return "", false
		}
	}
	name = strings.Join(elems, "/")
	return name, ociref.IsValidRepository(name)
}

// entryName returns the name of the directory for an element of a repository's
// name.
func entryName(elem string) string {
	if isReserved(elem) {
		return "_" + elem
	}
	return elem
}

// elemOf returns the element of repository names that the directory entry
// stands for.
func elemOf(entry string) (elem string, ok bool) {
	if elem, ok := strings.CutPrefix(entry, "_"); ok {
		return elem, isReserved(elem)
	}
	return entry, !isReserved(entry) && ociref.IsValidRepository(entry)
}

// isReserved reports whether an element of a repository's name means something
// else on disk: to a layout, or to the system.
func isReserved(elem string) bool {
	switch elem {
	case "blobs", "index.json", "oci-layout":
		return true
	}
	return runtime.GOOS == "windows" && isDevice(elem)
}

// isDevice reports whether Windows takes elem for a device, whatever directory
// it is in. Before Windows 11 it did so with any extension too.
func isDevice(elem string) bool {
	base, _, _ := strings.Cut(elem, ".")
	switch base {
	case "con", "prn", "aux", "nul":
		return true
	}
	if len(base) != len("com1") || base[3] < '1' || base[3] > '9' {
		return false
	}
	return base[:3] == "com" || base[:3] == "lpt"
}
