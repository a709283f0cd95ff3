// Package layout makes and removes the directories of image layouts (image-spec, "OCI Image
// Layout Specification"), each with a place for a journal. It knows nothing of what
// index.json and the journal say.
package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

const (
	// PrivateDir is the directory for what is not part of a layout: the journal in a
	// layout, and everything else in the root.
	PrivateDir = ".ocifs"

	// FileName is the name of the file that marks a layout, and FileText is its text.
	FileName = ocispec.ImageLayoutFile
	FileText = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`
)

// IndexPath returns the path of a layout's index.json.
func IndexPath(dir string) string { return filepath.Join(dir, "index.json") }

// JournalPath returns the path of a layout's journal.
func JournalPath(dir string) string { return filepath.Join(dir, PrivateDir, "journal") }

// SnapshotPath returns the path of a layout's snapshot.
func SnapshotPath(dir string) string { return filepath.Join(dir, PrivateDir, "snapshot") }

// Tree is the directory below which layouts are. It may be a layout itself.
type Tree struct {
	Root string
	Work *disk.Workspace
}

// Made has the file information of a layout that was just made.
type Made struct{ Index, Journal fs.FileInfo }

// Make creates a layout together with everything that it has. Its name is durable after
// [Tree.SyncParents]. Errors that wrap [fs.ErrExist] or [fs.ErrNotExist] mean that somebody
// else has just made it, or removed a directory that leads to it.
func (t Tree) Make(dir string) (made Made, err error) {
	staged, err := t.Work.CreateDir()
	if err != nil {
		return made, err
	}
	made, err = t.write(staged)
	if err == nil {
		err = t.MakeDirs(filepath.Dir(dir))
	}
	if err == nil {
		err = t.Work.FS.Rename(staged, dir)
	}
	if err != nil {
		t.Remove(staged)
	}
	return made, err
}

// write creates everything that a layout has in an empty directory.
func (t Tree) write(dir string) (made Made, err error) {
	journal, err := t.OpenJournal(dir)
	if err != nil {
		return made, err
	}
	made.Journal, err = journal.Stat()
	journal.Close() // some systems do not rename a directory with open files
	if err != nil {
		return made, err
	}
	if made.Index, err = t.writeNew(IndexPath(dir), repostate.EmptyIndex); err != nil {
		return made, err
	}
	if err := t.makeBlobDirs(dir); err != nil {
		return made, err
	}
	if _, err := t.writeNew(filepath.Join(dir, FileName), FileText); err != nil {
		return made, err
	}
	return made, t.sync(dir)
}

// writeNew creates a file with the given text, durably.
func (t Tree) writeNew(name, text string) (fs.FileInfo, error) {
	f, err := t.Work.FS.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, disk.FilePerm)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return nil, err
	}
	if err := t.Work.SyncFile(f, int64(len(text))); err != nil {
		return nil, err
	}
	return f.Stat()
}

// OpenJournal opens the journal of a layout, and creates it if it does not exist.
func (t Tree) OpenJournal(dir string) (disk.File, error) {
	name := JournalPath(dir)
	if err := disk.MakeDirs(t.Work.FS, filepath.Dir(name)); err != nil {
		return nil, err
	}
	return t.Work.FS.OpenFile(name, os.O_RDWR|os.O_CREATE, disk.FilePerm)
}

// Fill adds what is missing from a layout, except the journal. It keeps to an
// order: where there is a blob, there is an index.json, and where there is an
// oci-layout, there is everything else.
func (t Tree) Fill(dir string) error {
	if err := t.Provide(IndexPath(dir), repostate.EmptyIndex); err != nil {
		return err
	}
	if err := t.makeBlobDirs(dir); err != nil {
		return err
	}
	if err := t.provideFile(dir); err != nil {
		return err
	}
	return t.sync(dir)
}

// makeBlobDirs makes the directories for blobs of a layout.
func (t Tree) makeBlobDirs(dir string) error {
	blobs := filepath.Join(dir, "blobs")
	return disk.MakeDirs(t.Work.FS, blobs, filepath.Join(blobs, "sha256"))
}

// sync makes durable the names of everything in a layout.
func (t Tree) sync(dir string) error {
	for _, name := range []string{"blobs", PrivateDir, "."} {
		if err := t.Work.SyncDir(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// provideFile creates the oci-layout file of a layout, unless it exists. A file that has
// nothing but zeros was left by a power cut, after which it was not synced.
func (t Tree) provideFile(dir string) error {
	name := filepath.Join(dir, FileName)
	info, err := disk.Lstat(t.Work.FS, name)
	if err != nil || info != nil && !info.Mode().IsRegular() {
		return err
	}
	if info != nil {
		f, err := t.Work.FS.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			return nil // Verify reports it
		}
		defer f.Close()
		text := make([]byte, len(FileText))
		n, err := f.ReadAt(text, 0)
		if err != nil && err != io.EOF || len(bytes.Trim(text[:n], "\x00")) > 0 {
			return nil
		}
	}
	return t.replace(name, FileText)
}

// Provide creates a file with the given text, unless it exists.
func (t Tree) Provide(name, text string) error {
	info, err := disk.Lstat(t.Work.FS, name)
	if err != nil || info != nil {
		return err
	}
	return t.replace(name, text)
}

// replace replaces a file by one with the given text.
func (t Tree) replace(name, text string) error {
	return t.Work.WriteFile(name, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// MakeDirs creates a directory and its parents, durably. A directory that exists may
// have been created by a process that died before it was durable, but then its parent
// was durable.
func (t Tree) MakeDirs(dir string) error {
	parent := filepath.Dir(dir)
	info, err := disk.Lstat(t.Work.FS, dir)
	if err != nil {
		return err
	}
	if info != nil {
		err := t.Work.SyncDir(parent)
		if errors.Is(err, fs.ErrPermission) {
			return nil // the parent belongs to somebody else
		}
		return err
	}
	if err := t.MakeDirs(parent); err != nil {
		return err
	}
	if err := disk.MakeDirs(t.Work.FS, dir); err != nil {
		return err
	}
	return t.Work.SyncDir(parent)
}

// SyncParents makes durable the names of a layout and of the directories that lead to
// it from the root.
func (t Tree) SyncParents(dir string) error {
	for len(dir) > len(t.Root) {
		dir = filepath.Dir(dir)
		if err := t.Work.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// CheckDirs reports whether a layout's directory is there. It returns an error if one of the
// layout, or one that leads to it, is a symbolic link, which could lead out of the root.
func (t Tree) CheckDirs(layout string) (there bool, err error) {
	there = layout == t.Root
	for dir := layout; len(dir) > len(t.Root); dir = filepath.Dir(dir) {
		is, err := t.checkDir(dir)
		if err != nil {
			return false, err
		}
		there = there || dir == layout && is
	}
	if !there {
		return false, nil
	}
	dirs := []string{filepath.Join(layout, PrivateDir), filepath.Join(layout, "blobs")}
	for _, alg := range blobs.Algorithms {
		dirs = append(dirs, filepath.Join(layout, "blobs", alg.String()))
	}
	for _, dir := range dirs {
		if _, err := t.checkDir(dir); err != nil {
			return false, err
		}
	}
	return true, nil
}

// checkDir returns an error if a directory is a symbolic link, and reports whether
// there is anything with its name.
func (t Tree) checkDir(dir string) (there bool, err error) {
	info, err := disk.Lstat(t.Work.FS, dir)
	if err == nil && info != nil && info.Mode()&fs.ModeSymlink != 0 {
		err = fmt.Errorf("%s is a symbolic link", dir)
	}
	return info != nil, err
}

// Remove removes a layout that has no blobs. It removes directories only if
// they are empty, so nothing can be lost. If a blob directory is not empty, it
// removes nothing.
func (t Tree) Remove(dir string) bool {
	for _, name := range []string{filepath.Join("blobs", "sha256"), filepath.Join("blobs", "sha512"), "blobs"} {
		if err := t.Work.FS.Remove(filepath.Join(dir, name)); err != nil && !disk.IsAbsent(err) {
			return false
		}
	}
	for _, name := range []string{FileName, "index.json"} {
		if err := t.Work.FS.Remove(filepath.Join(dir, name)); err != nil && !disk.IsAbsent(err) {
			return false
		}
	}
	// An index.json that came back without the journal would bring back deleted content.
	if err := t.Work.SyncDir(dir); err != nil && !disk.IsAbsent(err) {
		return false
	}
	for _, name := range []string{filepath.Join(PrivateDir, "snapshot"), filepath.Join(PrivateDir, "journal"), PrivateDir} {
		if err := t.Work.FS.Remove(filepath.Join(dir, name)); err != nil && !disk.IsAbsent(err) {
			return false
		}
	}
	t.Work.FS.Remove(dir) // fails if there are other repositories below
	t.Work.SyncDir(filepath.Dir(dir))
	return true
}

// RemoveParents removes the parents of a repository's directory, as long as they are
// empty.
func (t Tree) RemoveParents(dir string) {
	for dir = filepath.Dir(dir); dir != t.Root && len(dir) > len(t.Root); dir = filepath.Dir(dir) {
		if t.Work.FS.Remove(dir) != nil {
			return
		}
	}
}

// ReadRegular returns the text of a regular file. If the file is not regular, the error is
// [blobs.ErrDamaged].
func (t Tree) ReadRegular(name string) (string, error) {
	info, err := t.Work.FS.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = blobs.ErrDamaged
	}
	if err != nil {
		return "", err
	}
	f, err := t.Work.FS.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return disk.ReadFrom(f, 0)
}
