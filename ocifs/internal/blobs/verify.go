package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ErrDamaged means that the bytes of a file do not match the digest in its name.
var ErrDamaged = errors.New("content is not what its digest says")

// Verify reads the file of a blob. If its bytes do not match its name, the error is
// [ErrDamaged].
func (s *Store) Verify(ctx context.Context, dir string, d ociregistry.Digest) error {
	f, info, err := s.Open(dir, d)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.verifyFile(ctx, f, info, d)
}

func (s *Store) verifyFile(ctx context.Context, f disk.File, info fs.FileInfo, d ociregistry.Digest) error {
	at := time.Now()
	h := d.Algorithm().Hash()
	if err := HashFile(ctx, h, f, info.Size()); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrDamaged
		}
		return err
	}
	right := hasSum(h, d)
	s.verdicts.note(d, info, at, right)
	if !right {
		return ErrDamaged
	}
	return nil
}

// IntactSize returns the size of a blob whose file has the bytes that its name says.
// For any other file, the error is [fs.ErrNotExist]. It reads the file unless the
// result is already known.
func (s *Store) IntactSize(ctx context.Context, dir string, d ociregistry.Digest) (int64, error) {
	f, info, err := s.Open(dir, d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if !s.verdicts.isIntact(d, info) {
		err = s.verifyFile(ctx, f, info, d)
	}
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return info.Size(), err
}
