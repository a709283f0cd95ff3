package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Put makes staged content, whose digest d was checked, a blob of a layout directory.
// It is durable when Put returns. If the pool or the directory already has the same
// bytes as d, Put uses that file. If they have different bytes, those are corrupt,
// and st replaces them. The caller discards st.
//
// Errors: [ErrNoLayout] if the directory is not a layout, [ErrBroken], and those of
// ctx and of the system. After any of them except ErrBroken, Put can be called again.
func (s *Store) Put(ctx context.Context, dir string, d ociregistry.Digest, st *Staged) error {
	if err := st.syncAndClose(); err != nil {
		return err
	}
	if err := s.name(ctx, dir, d, st); err != nil {
		return err
	}
	return s.syncBlobDir(dir, d)
}

// name gives staged content its names.
func (s *Store) name(ctx context.Context, dir string, d ociregistry.Digest, st *Staged) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	pool, target := s.poolPath(d), Path(dir, d)
	if done, err := s.nameNew(dir, d, st); done {
		return err
	}
	counted := s.counted(pool, target)
	for _, old := range []string{pool, target} {
		same, err := s.same(ctx, old, d, st)
		if err != nil {
			return err
		}
		if !same {
			continue
		}
		if s.sameFile(old, st.name) {
			st.share.HandOver() // named by an earlier Put
		}
		err = s.replace(old, dir, d)
		if err == nil || !disk.CannotLink(err) && !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoLayout) {
			return err
		}
		break // it cannot have more names, or was removed just now
	}
	err := s.replace(st.name, dir, d)
	if disk.CannotLink(err) {
		err = s.move(st.name, dir, d)
	}
	if err == nil && st.share.Size() > 0 {
		st.share.HandOver()
		s.quota.Release(counted)
	}
	return err
}

// nameNew gives staged content its names if it is new, as it usually is. It reports
// whether there is nothing more to do.
func (s *Store) nameNew(dir string, d ociregistry.Digest, st *Staged) (done bool, err error) {
	if _, err := s.work.FS.Lstat(s.poolPath(d)); !disk.IsAbsent(err) {
		return false, nil
	}
	err = s.add(st.name, Path(dir, d), func() error { return s.makeBlobDir(dir, d) })
	if errors.Is(err, fs.ErrExist) || disk.CannotLink(err) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	st.share.HandOver()
	return true, s.linkToPool(st.name, d)
}

// counted returns the size of the first of the files that exists. That many bytes are
// accounted for its content.
func (s *Store) counted(names ...string) int64 {
	for _, name := range names {
		if info, err := s.work.FS.Lstat(name); err == nil {
			return info.Size()
		}
	}
	return 0
}

// same reports whether a file, which may not exist, has the bytes of st. If so, they
// are durable. A file that was found damaged is not trusted again.
func (s *Store) same(ctx context.Context, name string, d ociregistry.Digest, st *Staged) (bool, error) {
	info, err := s.work.FS.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() != st.size || s.verdicts.isDamaged(d, info) {
		return false, nil
	}
	f, err := s.work.FS.OpenFile(st.name, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if own, err := f.Stat(); err == nil && os.SameFile(info, own) {
		return true, nil
	}
	// A file that cannot be read or synced is not the same: it is to be replaced.
	old, err := s.work.FS.OpenFile(name, disk.ForSync, 0)
	if err != nil {
		return false, nil
	}
	defer old.Close()
	c := comparison{old: old}
	_, err = ReadPieces(ctx, io.NewSectionReader(f, 0, st.size), st.size, c.compare)
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return c.offset == st.size && s.work.SyncFile(old, st.size) == nil, nil
}

// replace makes the file source, which is durable, the blob d of a layout directory
// and of the pool, and replaces any other file there. The lock of d is held.
func (s *Store) replace(source, dir string, d ociregistry.Digest) error {
	if err := s.replaceOne(source, Path(dir, d), func() error { return s.makeBlobDir(dir, d) }); err != nil {
		return err
	}
	return s.linkToPool(source, d)
}

// linkToPool makes a file, which is the blob d of a layout directory, that of the pool.
func (s *Store) linkToPool(source string, d ociregistry.Digest) error {
	return s.pooled(d, s.replaceOne(source, s.poolPath(d), func() error { return s.makePoolDir(d) }))
}

// pooled returns the error to report when linking a blob of a layout directory into
// the pool failed with err. A blob that is not in the pool does no harm. But if the
// source did not exist, somebody has just removed the blob, and it is nowhere.
func (s *Store) pooled(d ociregistry.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoLayout) {
		return err
	}
	if err != nil {
		s.log.Warn("a blob is not in the pool", "digest", d, "error", err)
	}
	return nil
}

func (s *Store) replaceOne(source, name string, makeDir func() error) error {
	if source == name {
		return nil
	}
	err := s.add(source, name, makeDir)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.sameFile(source, name) {
		return nil
	}
	tmp, err := s.work.NewName()
	if err != nil {
		return err
	}
	if err := s.work.FS.Link(source, tmp); err != nil {
		return err
	}
	if err := s.work.MoveOver(tmp, name); err != nil {
		s.work.FS.Remove(tmp)
		return err
	}
	return nil
}

func (s *Store) sameFile(name1, name2 string) bool {
	info1, err1 := s.work.FS.Lstat(name1)
	info2, err2 := s.work.FS.Lstat(name2)
	return err1 == nil && err2 == nil && os.SameFile(info1, info2)
}

// add gives a file an additional name, in a directory that makeDir creates if
// necessary. If the directory is removed again meanwhile, add calls makeDir again.
func (s *Store) add(source, name string, makeDir func() error) error {
	err := s.work.LinkNew(source, name, makeDir)
	if err == disk.ErrNoDirectory {
		return ErrNoLayout
	}
	return err
}

// move renames a file into a layout directory, for a system where it can have only
// one name.
func (s *Store) move(source, dir string, d ociregistry.Digest) error {
	name := Path(dir, d)
	err := s.work.MoveOver(source, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.makeBlobDir(dir, d); err != nil {
		return err
	}
	if err = s.work.MoveOver(source, name); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNoLayout, err) // the layout was removed meanwhile
	}
	return err
}
