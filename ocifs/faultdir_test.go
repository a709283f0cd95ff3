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
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// dirSystem is a faultSystem of the operating system: root is in dir.
type dirSystem struct {
	disk.OS
	dir string
}

func (s dirSystem) at(name string) string {
	if rest, ok := strings.CutPrefix(name, root); ok {
		return filepath.Join(s.dir, rest)
	}
	return name
}

func (s dirSystem) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	return s.OS.OpenFile(s.at(name), flag, perm)
}

func (s dirSystem) Lstat(name string) (fs.FileInfo, error)    { return s.OS.Lstat(s.at(name)) }
func (s dirSystem) Mkdir(name string, perm fs.FileMode) error { return s.OS.Mkdir(s.at(name), perm) }
func (s dirSystem) Link(oldname, newname string) error {
	return s.OS.Link(s.at(oldname), s.at(newname))
}
func (s dirSystem) Rename(oldname, newname string) error {
	return s.OS.Rename(s.at(oldname), s.at(newname))
}
func (s dirSystem) Remove(name string) error { return s.OS.Remove(s.at(name)) }
func (s dirSystem) Chtimes(name string, modified time.Time) error {
	return s.OS.Chtimes(s.at(name), modified)
}
func (s dirSystem) SyncDir(name string) error { return s.OS.SyncDir(s.at(name)) }
func (s dirSystem) SyncAll(name string) error { return s.OS.SyncAll(s.at(name)) }

func (s dirSystem) ReadDir(name string, n int) ([]fs.DirEntry, error) {
	return s.OS.ReadDir(s.at(name), n)
}

func (s dirSystem) clone(t *testing.T) faultSystem {
	return copyTo(t, s, scratch.Dir(t))
}

// copyTo copies what is in the root of a filesystem to a directory.
func copyTo(t *testing.T, fsys disk.FS, dir string) dirSystem {
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
