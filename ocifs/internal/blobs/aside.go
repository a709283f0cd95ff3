package blobs

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// SetAside moves the file of a blob out of a layout directory or the pool, and
// removes the pool's name for the same file. The file was found damaged when it had
// the given information. If it was replaced meanwhile, the new file stays, and moved
// is empty.
func (s *Store) SetAside(dir string, d ociregistry.Digest, info fs.FileInfo) (moved string, err error) {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	name := Path(dir, d)
	now, err := s.work.FS.Lstat(name)
	if disk.IsAbsent(err) || err == nil && !disk.Unchanged(now, info) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if moved, err = s.work.SetAside(name); err != nil {
		return "", err
	}
	if now, err = s.work.FS.Lstat(moved); err == nil && !os.SameFile(now, info) {
		return "", s.work.PutBack(moved, name) // another process has just put it there
	}
	names := disk.Links(info) - 1
	if pool := s.poolPath(d); pool != name && s.sameFile(pool, moved) && s.work.FS.Remove(pool) == nil {
		names--
	}
	if names == 0 && info.Mode().IsRegular() {
		s.quota.Release(info.Size())
	}
	return moved, s.work.SyncDir(filepath.Dir(name))
}
