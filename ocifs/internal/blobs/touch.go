package blobs

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The modification time of a file says from when the delay counts that garbage stays: the time
// at which its content was last pushed, linked or reported as present. All names of a file
// share it, so that content is as young in each layout as it is in the youngest.

// Clock says how the age of files is measured.
type Clock struct {
	Now func() time.Time

	// Grain is how much older a file may look than its content is. Twice in that time, at
	// most, it is said of a file that it is young again.
	Grain time.Duration
}

// isOld reports whether content that was used just now looks too old with this time.
func (c *Clock) isOld(modified time.Time) bool { return c.Now().Sub(modified) > c.Grain/2 }

// Touch makes the file of a blob or a manifest in a layout directory young, and returns its
// size. Its errors are those of Stat. A file that belongs to another user, or is on a
// filesystem that cannot be written to, stays as old as it is.
func (s *Store) Touch(dir string, d ociregistry.Digest) (size int64, err error) {
	name := Path(dir, d)
	info, err := s.work.FS.Lstat(name)
	if err == nil {
		err = s.check(name, info, d)
	}
	if err == nil && s.Clock.isOld(info.ModTime()) {
		if err = s.touch(name); err == nil {
			s.keepVerdict(d, name, info)
		}
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// keepVerdict keeps what is known of a file that was touched, and not written to. It had the
// given information just before.
func (s *Store) keepVerdict(d ociregistry.Digest, name string, before fs.FileInfo) {
	if !s.verdicts.isIntact(d, before) {
		return
	}
	now, err := s.work.FS.Lstat(name)
	if err == nil && os.SameFile(now, before) && now.Size() == before.Size() {
		s.verdicts.replace(d, before, now)
	}
}

// freshen makes a file young, if it exists.
func (s *Store) freshen(name string) error {
	info, err := disk.Lstat(s.work.FS, name)
	if err != nil || info == nil || !s.Clock.isOld(info.ModTime()) {
		return err
	}
	return s.touch(name)
}

func (s *Store) touch(name string) error {
	err := s.work.FS.Chtimes(name, s.Clock.Now())
	if errors.Is(err, fs.ErrPermission) || disk.IsReadOnly(err) {
		return nil
	}
	return err
}

// OnlyName returns the size of a file in a layout directory if the file has no other name, and
// zero otherwise.
func (s *Store) OnlyName(dir string, d ociregistry.Digest) int64 {
	info, err := disk.Lstat(s.work.FS, Path(dir, d))
	if err != nil || info == nil || disk.Links(info) != 1 || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// Age returns the modification time of a file in a layout directory, or its pool if dir is
// that of the workspace, and its size. They are zero if there is no such file, or if it is not
// regular.
func (s *Store) Age(dir string, d ociregistry.Digest) (modified time.Time, size int64, err error) {
	info, err := disk.Lstat(s.work.FS, Path(dir, d))
	if err != nil || info == nil || !info.Mode().IsRegular() {
		return time.Time{}, 0, err
	}
	return info.ModTime(), info.Size(), nil
}
