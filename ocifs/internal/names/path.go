package names

import (
	"path/filepath"
	"runtime"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// The directory of a repository is its name as a path below the root, with a "_"
// before each path element that is reserved. No element of a name begins with "_", so
// different names have different paths. None begins with "." either, so everything
// else can be kept under such names.
//
// A path element is at most as long as a name, which is 255 bytes, the limit of file
// systems. The "_" makes no reserved name of a layout too long. On Windows it does so
// for one family of names, such as "con." followed by 251 bytes: there the system
// refuses to make the directory.

// Path returns the directory of the repository with the given valid name.
func Path(root, repo string) string {
	elems := strings.Split(repo, "/")
	for i, elem := range elems {
		elems[i] = entryName(elem)
	}
	return filepath.Join(root, filepath.Join(elems...))
}

// Name returns the name of the repository whose directory is the path rel below
// the root. It is the inverse of [Path], and returns false for any other path.
func Name(rel string) (name string, ok bool) {
	elems := strings.Split(filepath.ToSlash(rel), "/")
	for i, entry := range elems {
		if elems[i], ok = elemOf(entry); !ok {
			return "", false
		}
	}
	name = strings.Join(elems, "/")
	return name, ociref.IsValidRepository(name)
}

// entryName returns the name of the directory for an element of a repository name.
func entryName(elem string) string {
	if isReserved(elem) {
		return "_" + elem
	}
	return elem
}

// elemOf returns the element of repository names that a directory entry stands for.
// It is the inverse of [entryName].
func elemOf(entry string) (elem string, ok bool) {
	if elem, ok := strings.CutPrefix(entry, "_"); ok {
		return elem, isReserved(elem)
	}
	return entry, !isReserved(entry) && ociref.IsValidRepository(entry)
}

// isReserved reports whether an element of a repository name has another meaning on
// disk, to a layout or to the system.
func isReserved(elem string) bool {
	switch elem {
	case "blobs", "index.json", "oci-layout":
		return true
	}
	return runtime.GOOS == "windows" && isDevice(elem)
}

// isDevice reports whether Windows takes elem for a device, in any directory. Before
// Windows 11 it did so with any extension, too.
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
