package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Link makes a blob of the layout directory fromDir, or of the pool if fromDir is
// empty, a blob of toDir as well. It is durable when Link returns.
//
// If a file cannot have more names, Link copies it. The copy stops when ctx ends.
//
// Errors: [ErrNoSource], [ErrNoLayout], and those of ctx and of the system.
func (s *Store) Link(ctx context.Context, fromDir, toDir string, d ociregistry.Digest) error {
	source := s.poolPath(d)
	if fromDir != "" {
		source = Path(fromDir, d)
	}
	f, size, err := s.openBlob(source, d, disk.ForSync)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoSource, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// The writer may have been another program, or may have crashed before it synced.
	if err := s.work.SyncFile(f, size); err != nil {
		return err
	}
	if err := s.checkSource(ctx, f, size, toDir, d); err != nil {
		return err
	}
	err = s.linkFile(source, toDir, d, size)
	if disk.CannotLink(err) {
		return s.copyFile(ctx, f, size, toDir, d)
	}
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoLayout) {
		return fmt.Errorf("%w: %w", ErrNoSource, err)
	}
	if err != nil {
		return err
	}
	return s.syncBlobDir(toDir, d)
}

// MakeDurable makes durable a blob that was found in a layout directory, and its
// name.
func (s *Store) MakeDurable(dir string, d ociregistry.Digest) error {
	f, size, err := s.openBlob(Path(dir, d), d, disk.ForSync)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.work.SyncFile(f, size); err != nil {
		return err
	}
	return s.syncBlobDir(dir, d)
}

// checkSource verifies the bytes of f if the layout directory has the blob with
// another size, which means that one of them is damaged.
func (s *Store) checkSource(ctx context.Context, f io.ReaderAt, size int64, dir string, d ociregistry.Digest) error {
	if there, err := s.Stat(dir, d); err != nil || there == size {
		return nil
	}
	h := d.Algorithm().Hash()
	hashed := func(p []byte) error { h.Write(p); return nil }
	if _, err := ReadPieces(ctx, io.NewSectionReader(f, 0, size), size, hashed); err != nil {
		return err
	}
	if !hasSum(h, d) {
		return fmt.Errorf("%w: its bytes are not those that its name says", ErrNoSource)
	}
	return nil
}

// linkFile links a file of that size into a layout directory and into the pool,
// unless they have the blob.
func (s *Store) linkFile(source, dir string, d ociregistry.Digest, size int64) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	makeDir := func() error { return s.makeBlobDir(dir, d) }
	if there, err := s.Stat(dir, d); err != nil || there != size {
		if err := s.replaceOne(source, Path(dir, d), makeDir); err != nil {
			return err
		}
	}
	var err error
	for _, file := range []string{source, Path(dir, d)} { // the first may be gone by now
		err = s.add(file, s.poolPath(d), func() error { return s.makePoolDir(d) })
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if errors.Is(err, fs.ErrExist) && s.isDamaged(s.poolPath(d), d) {
		err = s.replaceOne(Path(dir, d), s.poolPath(d), func() error { return s.makePoolDir(d) })
	}
	if errors.Is(err, fs.ErrExist) || disk.CannotLink(err) {
		return nil
	}
	return s.pooled(d, err)
}

// isDamaged reports whether a file was found damaged.
func (s *Store) isDamaged(name string, d ociregistry.Digest) bool {
	if !s.verdicts.some.Load() {
		return false
	}
	_, err := s.statNamed(name, d)
	return errors.Is(err, ErrDamaged)
}

// copyFile puts a copy of a file into a layout directory.
func (s *Store) copyFile(ctx context.Context, f io.ReaderAt, size int64, dir string, d ociregistry.Digest) error {
	st, err := s.Stage(d.Algorithm())
	if err != nil {
		return err
	}
	defer st.Discard()
	if _, err := ReadPieces(ctx, io.NewSectionReader(f, 0, size), size, st.Append); err != nil {
		return err
	}
	if !hasSum(st.hash, d) {
		return fmt.Errorf("%w: its bytes are not those that its name says", ErrNoSource)
	}
	return s.Put(ctx, dir, d, st)
}
