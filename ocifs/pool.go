package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// put makes staged content, whose digest d was checked, a blob of a layout
// directory. It is durable when put returns. If the pool or the directory has
// the same bytes as d already, that file is used; if they have others, those were
// corrupt, and st replaces them. The caller discards st.
//
// If the directory is no layout, the error is errNoLayout. After that, as after
// other errors but errBroken, put can be called again.
func (s *store) put(ctx context.Context, dir string, d ociregistry.Digest, st *staged) error {
	if err := st.settle(); err != nil {
		return err
	}
	if err := s.place(ctx, dir, d, st); err != nil {
		return err
	}
	return s.syncBlobDir(dir, d)
}

func (s *store) place(ctx context.Context, dir string, d ociregistry.Digest, st *staged) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	pool, target := s.poolPath(d), blobPath(dir, d)
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
			st.reserved = 0 // an earlier put got so far
		}
		err = s.replace(old, dir, d)
		if err == nil || !cannotLink(err) && !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoLayout) {
			return err
		}
		break // it has names enough, or somebody removed it just now
	}
	err := s.replace(st.name, dir, d)
	if cannotLink(err) {
		err = s.move(st.name, dir, d)
	}
	if err == nil && st.reserved > 0 {
		st.reserved = 0 // they are the blob's now
		s.release(counted)
	}
	return err
}

// counted returns the size of the first of the files that exists: so many bytes
// are counted for their content.
func (s *store) counted(names ...string) int64 {
	for _, name := range names {
		if info, err := s.fs.Lstat(name); err == nil {
			return info.Size()
		}
	}
	return 0
}

// same reports whether a file, which may not exist, has the bytes of st. If so,
// they are durable. One that was found to be damaged is not believed again.
func (s *store) same(ctx context.Context, name string, d ociregistry.Digest, st *staged) (bool, error) {
	info, err := s.fs.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() != st.size || s.verdicts.isDamaged(d, info) {
		return false, nil
	}
	f, err := s.fs.OpenFile(st.name, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if own, err := f.Stat(); err == nil && os.SameFile(info, own) {
		return true, nil
	}
	// What cannot be read or synced is not the same: it is to be replaced.
	old, err := s.fs.OpenFile(name, forSync, 0)
	if err != nil {
		return false, nil
	}
	defer old.Close()
	c := comparison{old: old}
	_, err = readBuffers(ctx, io.NewSectionReader(f, 0, st.size), st.size, c.compare)
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return c.offset == st.size && s.syncs.file(old, st.size) == nil, nil
}

// replace makes the file source, which is durable, the blob d of a layout
// directory and of the pool, whatever they had as d before. Its lock is held.
func (s *store) replace(source, dir string, d ociregistry.Digest) error {
	if err := s.replaceOne(source, blobPath(dir, d), func() error { return s.makeBlobDir(dir, d) }); err != nil {
		return err
	}
	return s.pooled(d, s.replaceOne(source, s.poolPath(d), func() error { return s.makePoolDir(d) }))
}

// pooled returns what an error means that came when a blob of a layout directory
// was linked into the pool: that it cannot be there does no harm, but if there was
// nothing to link, somebody has just removed the blob, and it is nowhere.
func (s *store) pooled(d ociregistry.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoLayout) {
		return err
	}
	if err != nil {
		s.log.Warn("a blob is not in the pool", "digest", d, "error", err)
	}
	return nil
}

func (s *store) replaceOne(source, name string, makeDir func() error) error {
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
	tmp, err := s.staging.name()
	if err != nil {
		return err
	}
	if err := s.fs.Link(source, tmp); err != nil {
		return err
	}
	if err := s.moveOver(tmp, name); err != nil {
		s.fs.Remove(tmp)
		return err
	}
	return nil
}

func (s *store) sameFile(name1, name2 string) bool {
	info1, err1 := s.fs.Lstat(name1)
	info2, err2 := s.fs.Lstat(name2)
	return err1 == nil && err2 == nil && os.SameFile(info1, info2)
}

// add gives a file one more name, in a directory that is made if need be. If that
// is removed again meanwhile, it makes it again.
func (s *store) add(source, name string, makeDir func() error) error {
	for range 100 {
		err := s.fs.Link(source, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := s.fs.Lstat(source); err != nil {
			return err
		}
		if err := makeDir(); err != nil {
			return err
		}
	}
	return errNoLayout
}

// nameNew gives a staged file a name that nothing has, in a directory that is made if
// need be, in place of its own. If something has the name, the error is an
// [fs.ErrExist]. Where there are no links, of two at the same time the last wins.
func (s *store) nameNew(tmp, name string, makeDir func() error) error {
	err := s.add(tmp, name, makeDir)
	if cannotLink(err) {
		if err = s.renameNew(tmp, name, makeDir); err == nil {
			return nil
		}
	}
	s.fs.Remove(tmp)
	return err
}

func (s *store) renameNew(tmp, name string, makeDir func() error) error {
	_, err := s.fs.Lstat(name)
	if err == nil {
		return fs.ErrExist
	}
	if !isAbsent(err) {
		return err
	}
	err = s.fs.Rename(tmp, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(); err != nil {
		return err
	}
	return s.fs.Rename(tmp, name)
}

// move gives a file another name, where it can have only one.
func (s *store) move(source, dir string, d ociregistry.Digest) error {
	name := blobPath(dir, d)
	err := s.moveOver(source, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.makeBlobDir(dir, d); err != nil {
		return err
	}
	if err = s.moveOver(source, name); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", errNoLayout, err) // it was removed meanwhile
	}
	return err
}

// syncBlobDir makes the names durable that lead to d in a layout directory. That
// for SHA-256 is as old as the layout, or was made durable before it was used;
// others may just have been made, by anybody.
func (s *store) syncBlobDir(dir string, d ociregistry.Digest) error {
	sub := filepath.Dir(blobPath(dir, d))
	if err := s.syncDir(sub); err != nil || d.Algorithm() == digest.SHA256 {
		return err
	}
	return s.syncDir(filepath.Dir(sub))
}

// makeBlobDir makes the directory for blobs of an algorithm, durably.
func (s *store) makeBlobDir(dir string, d ociregistry.Digest) error {
	sub := filepath.Dir(blobPath(dir, d))
	err := s.fs.Mkdir(sub, dirPerm)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", errNoLayout, err)
	case err != nil:
		return err
	}
	if err := s.syncDir(filepath.Dir(sub)); err != nil {
		s.fs.Remove(sub)
		return err
	}
	return nil
}

func (s *store) makePoolDir(d ociregistry.Digest) error {
	return makeDirs(s.fs, s.private, s.pool, filepath.Join(s.pool, string(d.Algorithm())))
}

// link makes a blob of the layout directory fromDir, or of the pool if fromDir
// is empty, a blob of toDir as well. It is durable when link returns.
//
// Where a file cannot have more names it is copied, which ends with ctx.
//
// Errors: errNoSource, errNoLayout.
func (s *store) link(ctx context.Context, fromDir, toDir string, d ociregistry.Digest) error {
	source := s.poolPath(d)
	if fromDir != "" {
		source = blobPath(fromDir, d)
	}
	f, size, err := s.openBlob(source, d, forSync)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errNoSource, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// Its writer may have been another program, or have crashed before it synced.
	if err := s.syncs.file(f, size); err != nil {
		return err
	}
	if err := s.checkSource(ctx, f, size, toDir, d); err != nil {
		return err
	}
	err = s.linkFile(source, toDir, d, size)
	if cannotLink(err) {
		return s.copyFile(ctx, f, size, toDir, d)
	}
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoLayout) {
		return fmt.Errorf("%w: %w", errNoSource, err)
	}
	if err != nil {
		return err
	}
	return s.syncBlobDir(toDir, d)
}

// makeDurable makes a file that was found durable, and its name.
func (s *store) makeDurable(dir string, d ociregistry.Digest) error {
	f, size, err := s.openBlob(blobPath(dir, d), d, forSync)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.syncs.file(f, size); err != nil {
		return err
	}
	return s.syncBlobDir(dir, d)
}

// checkSource checks the bytes of f, of which a blob of a layout directory that
// has another size says that one of both is damaged.
func (s *store) checkSource(ctx context.Context, f io.ReaderAt, size int64, dir string, d ociregistry.Digest) error {
	if there, err := s.stat(dir, d); err != nil || there == size {
		return nil
	}
	h := d.Algorithm().Hash()
	hashed := func(p []byte) error { h.Write(p); return nil }
	if _, err := readBuffers(ctx, io.NewSectionReader(f, 0, size), size, hashed); err != nil {
		return err
	}
	if !hasSum(h, d) {
		return fmt.Errorf("%w: its bytes are not those that its name says", errNoSource)
	}
	return nil
}

// linkFile links a file of that size into a layout directory, unless that has
// the blob, and into the pool, unless that has it.
func (s *store) linkFile(source, dir string, d ociregistry.Digest, size int64) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	makeDir := func() error { return s.makeBlobDir(dir, d) }
	if there, err := s.stat(dir, d); err != nil || there != size {
		if err := s.replaceOne(source, blobPath(dir, d), makeDir); err != nil {
			return err
		}
	}
	var err error
	for _, file := range []string{source, blobPath(dir, d)} { // the first may be gone by now
		err = s.add(file, s.poolPath(d), func() error { return s.makePoolDir(d) })
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if errors.Is(err, fs.ErrExist) && s.isDamaged(s.poolPath(d), d) {
		err = s.replaceOne(blobPath(dir, d), s.poolPath(d), func() error { return s.makePoolDir(d) })
	}
	if errors.Is(err, fs.ErrExist) || cannotLink(err) {
		return nil
	}
	return s.pooled(d, err)
}

// isDamaged reports whether a file was found to be damaged.
func (s *store) isDamaged(name string, d ociregistry.Digest) bool {
	if !s.verdicts.some.Load() {
		return false
	}
	_, err := s.statNamed(name, d)
	return errors.Is(err, ErrDamaged)
}

// copyFile puts a copy of a file.
func (s *store) copyFile(ctx context.Context, f io.ReaderAt, size int64, dir string, d ociregistry.Digest) error {
	st, err := s.stage(d.Algorithm())
	if err != nil {
		return err
	}
	defer st.discard()
	if _, err := readBuffers(ctx, io.NewSectionReader(f, 0, size), size, st.append); err != nil {
		return err
	}
	if !hasSum(st.hash, d) {
		return fmt.Errorf("%w: its bytes are not those that its name says", errNoSource)
	}
	return s.put(ctx, dir, d, st)
}
