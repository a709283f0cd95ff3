// Package usage counts the bytes that a registry has on its disk.
package usage

import (
	"errors"
	"io/fs"
	"log/slog"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ocifs/internal/uploads"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Counter has what a registry consists of.
type Counter struct {
	Repos   *repos.Set
	Store   *blobs.Store
	Uploads *uploads.Sessions
	Quota   *blobs.Quota
	Log     *slog.Logger
}

// Count accounts for all existing content.
func (c *Counter) Count() error {
	counted := make(map[ociregistry.Digest]bool)
	count := func(digest ociregistry.Digest, size int64) {
		if !counted[digest] {
			counted[digest] = true
			c.Quota.Add(size)
		}
	}
	uncounted := func(name string, err error) {
		c.Log.Warn("what is in a directory cannot be counted", "repository", name, "error", err)
	}
	err := c.Repos.EachDir("", func(name, dir string) (bool, error) {
		err := c.Store.Each(dir, func(digest ociregistry.Digest, info fs.FileInfo) error {
			switch {
			case !info.Mode().IsRegular():
			case disk.Links(info) == 1:
				c.Quota.Add(info.Size())
			default:
				count(digest, info.Size())
			}
			return nil
		})
		if errors.Is(err, fs.ErrPermission) {
			uncounted(name, err)
			err = nil
		}
		return true, err
	}, uncounted)
	if err != nil {
		return err
	}
	for _, repo := range c.Repos.Unfolded() {
		repo.View(func(s *repostate.State) {
			for digest, text := range s.Blobs() {
				count(digest, int64(len(text)))
			}
			for m := range s.Unwritten() {
				if c.onlyName(repo, m.Digest) == 0 { // else its file was counted
					count(m.Digest, m.Size)
				}
			}
			for digest := range s.Deleted() {
				c.Quota.Add(-c.onlyName(repo, digest)) // the next fold removes the file
			}
		})
	}
	size, err := c.Uploads.Bytes()
	c.Quota.Add(size)
	return err
}

// onlyName returns the size of a file of a repository if the file has no other name,
// and zero otherwise.
func (c *Counter) onlyName(repo *repos.Repository, digest ociregistry.Digest) int64 {
	return c.Store.OnlyName(repo.Dir, digest)
}

// IsCounted reports whether the bytes of a manifest, which is not a blob, are
// accounted for. They are not if its file is missing, for example after Repair has
// set it aside. Without a limit, the answer does not matter.
func (c *Counter) IsCounted(repo *repos.Repository, m *repostate.Manifest) bool {
	if c.Quota.Max <= 0 {
		return true
	}
	inMemory := false
	repo.View(func(*repostate.State) { inMemory = m.Text != "" })
	if inMemory {
		return true
	}
	modified, _, err := c.Store.Age(repo.Dir, m.Digest)
	return err != nil || !modified.IsZero()
}
