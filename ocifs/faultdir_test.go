//go:build unix

package ocifs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
)

// dirSystem is a faultSystem of the operating system: root is in dir.
type dirSystem struct {
	osFS
	dir string
}

func (s dirSystem) at(name string) string {
	if rest, ok := strings.CutPrefix(name, root); ok {
		return filepath.Join(s.dir, rest)
	}
	return name
}

func (s dirSystem) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	return s.osFS.OpenFile(s.at(name), flag, perm)
}

func (s dirSystem) Lstat(name string) (fs.FileInfo, error)    { return s.osFS.Lstat(s.at(name)) }
func (s dirSystem) Mkdir(name string, perm fs.FileMode) error { return s.osFS.Mkdir(s.at(name), perm) }
func (s dirSystem) Link(oldname, newname string) error {
	return s.osFS.Link(s.at(oldname), s.at(newname))
}
func (s dirSystem) Rename(oldname, newname string) error {
	return s.osFS.Rename(s.at(oldname), s.at(newname))
}
func (s dirSystem) Remove(name string) error { return s.osFS.Remove(s.at(name)) }
func (s dirSystem) Chtimes(name string, modified time.Time) error {
	return s.osFS.Chtimes(s.at(name), modified)
}
func (s dirSystem) SyncDir(name string) error { return s.osFS.SyncDir(s.at(name)) }
func (s dirSystem) SyncAll(name string) error { return s.osFS.SyncAll(s.at(name)) }

func (s dirSystem) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	return s.osFS.ReadDir(s.at(name), n)
}

func (s dirSystem) clone(t *testing.T) faultSystem {
	return copyTo(t, s, scratch.Dir(t))
}

// copyTo copies what is in the root of a filesystem to a directory.
func copyTo(t *testing.T, fsys filesystem, dir string) dirSystem {
	copies := make(map[uint64]string) // names of files by number, for their other names
	for _, name := range listFiles(fsys, root) {
		target := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			qt.Assert(t, qt.IsNil(os.Mkdir(target, 0o777)))
			continue
		}
		info, err := fsys.Lstat(filepath.Join(root, name))
		qt.Assert(t, qt.IsNil(err))
		number := info.Sys().(*syscall.Stat_t).Ino
		if first := copies[number]; first != "" {
			qt.Assert(t, qt.IsNil(os.Link(first, target)))
			continue
		}
		copies[number] = target
		text, err := readText(fsys, root, name)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.WriteFile(target, []byte(text), 0o666)))
	}
	return dirSystem{dir: dir}
}
