package blobs

import (
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Each calls f for everything in a layout directory that has the path of a blob. It
// may not be a regular file.
func (s *Store) Each(dir string, f func(digest ociregistry.Digest, info fs.FileInfo) error) error {
	for _, alg := range Algorithms {
		err := s.eachOf(filepath.Join(dir, "blobs", alg.String()), alg, f)
		if err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	return nil
}

// EachName calls f for each digest whose path in a layout directory, or in the pool if that is
// the directory of the workspace, is that of a file. It looks at the names alone.
func (s *Store) EachName(dir string, f func(digest ociregistry.Digest)) error {
	for _, alg := range Algorithms {
		err := s.work.FS.EachEntry(filepath.Join(dir, "blobs", alg.String()), func(e fs.DirEntry) {
			digest := digest.NewDigestFromEncoded(alg, e.Name())
			if e.Type().IsRegular() && ociregistry.CheckDigest(digest) == nil {
				f(digest)
			}
		})
		if err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	return nil
}

// HasAny reports whether there is a regular file in a layout directory that has the path of a
// blob for which is reports true.
func (s *Store) HasAny(dir string, is func(digest ociregistry.Digest) bool) (bool, error) {
	for _, alg := range Algorithms {
		// The first few files are enough, unless none of them is one.
		for _, n := range []int{64, 0} {
			entries, err := s.work.FS.ReadDir(filepath.Join(dir, "blobs", alg.String()), n)
			if err != nil && !disk.IsAbsent(err) {
				return false, err
			}
			for _, e := range entries {
				digest := digest.NewDigestFromEncoded(alg, e.Name())
				if e.Type().IsRegular() && ociregistry.CheckDigest(digest) == nil && is(digest) {
					return true, nil
				}
			}
			if len(entries) < n {
				break
			}
		}
	}
	return false, nil
}

func (s *Store) eachOf(dir string, alg digest.Algorithm, f func(digest ociregistry.Digest, info fs.FileInfo) error) error {
	entries, err := s.work.FS.ReadDir(dir, 0)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digest := digest.NewDigestFromEncoded(alg, e.Name())
		if ociregistry.CheckDigest(digest) != nil {
			continue
		}
		info, err := s.work.FS.Lstat(filepath.Join(dir, e.Name()))
		if disk.IsAbsent(err) {
			continue // deleted just now
		}
		if err == nil {
			err = f(digest, info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
