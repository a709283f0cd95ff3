package blobs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Algorithms has the algorithms that the digest of a blob may use.
var Algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

func (s *Store) poolPath(d ociregistry.Digest) string {
	return filepath.Join(s.pool, string(d.Algorithm()), d.Encoded())
}

// Path returns the path of a blob in a layout directory (OCI image layout
// specification, "Blobs").
func Path(dir string, d ociregistry.Digest) string {
	return filepath.Join(dir, "blobs", string(d.Algorithm()), d.Encoded())
}

// syncBlobDir makes durable the names in a layout directory that lead to d. The
// directory for SHA-256 is as old as the layout, or was made durable before it was
// used. Those for other algorithms may just have been created, by anybody.
func (s *Store) syncBlobDir(dir string, d ociregistry.Digest) error {
	sub := filepath.Dir(Path(dir, d))
	if err := s.work.SyncDir(sub); err != nil || d.Algorithm() == digest.SHA256 {
		return err
	}
	return s.work.SyncDir(filepath.Dir(sub))
}

// makeBlobDir creates the directory for blobs of the algorithm of d, durably.
func (s *Store) makeBlobDir(dir string, d ociregistry.Digest) error {
	sub := filepath.Dir(Path(dir, d))
	err := s.work.FS.Mkdir(sub, disk.DirPerm)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNoLayout, err)
	case err != nil:
		return err
	}
	if err := s.work.SyncDir(filepath.Dir(sub)); err != nil {
		s.work.FS.Remove(sub)
		return err
	}
	return nil
}

func (s *Store) makePoolDir(d ociregistry.Digest) error {
	return disk.MakeDirs(s.work.FS, s.work.Dir, s.pool, filepath.Join(s.pool, string(d.Algorithm())))
}

// SyncBlobDirs makes durable the names of the blobs of a layout directory, and of the
// directories that lead to them.
func (s *Store) SyncBlobDirs(dir string) error {
	for _, alg := range Algorithms {
		err := s.syncBlobDir(dir, digest.NewDigestFromEncoded(alg, "any"))
		if err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	return nil
}
