package blobs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Content is small content that is to become a file, together with others.
type Content struct {
	Digest ociregistry.Digest
	Text   string
	Blob   bool // the pool gets the content, too
}

// Written is content that is in a durable file: a staged file or, if there is none,
// the pool's.
type Written struct {
	Content
	name string    // of the staged file, until it is renamed
	at   time.Time // when it was written
}

// syncers is the number of files that are synced concurrently.
const syncers = 4

// WriteContents writes contents to staged files and syncs them together. The caller
// must pass the result to DiscardContents, even after an error.
//
// The files are created one after another: the directory has a lock, for which a
// second processor would only spin.
func (s *Store) WriteContents(contents []Content) ([]Written, error) {
	written := make([]Written, len(contents))
	for i, c := range contents {
		var err error
		written[i].Content, written[i].at = c, s.Clock.Now()
		if written[i].name, err = s.writeContent(c); err != nil {
			return written, err
		}
	}
	return written, s.syncContents(written)
}

// writeContent writes c to a staged file and returns its name. If c is a blob that
// the pool has, it returns "".
func (s *Store) writeContent(c Content) (name string, err error) {
	if c.Blob && s.poolHas(c) {
		return "", nil
	}
	f, name, err := s.work.Create()
	if err != nil {
		return "", err
	}
	_, err = f.Write([]byte(c.Text))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		s.work.FS.Remove(name)
		return "", err
	}
	return name, nil
}

// poolHas reports whether the pool has exactly the bytes of c.
func (s *Store) poolHas(c Content) bool {
	if size, err := s.StatPool(c.Digest); err != nil || size != int64(len(c.Text)) {
		return false
	}
	f, _, err := s.openBlob(s.poolPath(c.Digest), c.Digest, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	text := make([]byte, len(c.Text))
	_, err = io.ReadFull(f, text)
	return err == nil && string(text) == c.Text
}

// syncContents makes the bytes of written contents durable.
func (s *Store) syncContents(written []Written) error {
	if !s.work.IsDurable() {
		return nil
	}
	if done, err := s.work.SyncTogether(len(written)); done {
		return err
	}
	return parallel.Do(syncers, len(written), func(i int) error {
		name := written[i].name
		if name == "" {
			name = s.poolPath(written[i].Digest)
		}
		f, err := s.work.FS.OpenFile(name, disk.ForSync, 0)
		if errors.Is(err, fs.ErrNotExist) && written[i].name == "" {
			return nil // nameFromPool will not find it in the pool either
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

// NameContents gives written contents their names in a layout directory. To make the
// names durable, call SyncBlobDirs.
func (s *Store) NameContents(dir string, written []*Written) error {
	for _, w := range written {
		if w.name == "" {
			err := s.nameFromPool(dir, w.Content)
			if err == nil {
				err = s.freshen(Path(dir, w.Digest))
			}
			if err != nil {
				return err
			}
			continue
		}
		if s.Clock.isOld(w.at) {
			if err := s.touch(w.name); err != nil {
				return err
			}
		}
		if err := s.move(w.name, dir, w.Digest); err != nil {
			return err
		}
		w.name = ""
		if w.Blob {
			s.addToPool(dir, w.Digest)
		}
	}
	return nil
}

// nameFromPool links c from the pool, where its bytes were compared, or writes it if
// it has been removed from the pool.
func (s *Store) nameFromPool(dir string, c Content) error {
	err := s.linkFromPool(dir, c.Digest)
	if err == nil || !disk.CannotLink(err) && !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoLayout) {
		return err
	}
	st, err := s.Stage(c.Digest.Algorithm())
	if err != nil {
		return err
	}
	defer st.Discard()
	if err := st.Append([]byte(c.Text)); err != nil {
		return err
	}
	return s.Put(context.Background(), dir, c.Digest, st)
}

// linkFromPool makes the pool's file the blob d of a layout directory, and replaces
// any other file there.
func (s *Store) linkFromPool(dir string, d ociregistry.Digest) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	return s.replaceOne(s.poolPath(d), Path(dir, d), func() error { return s.makeBlobDir(dir, d) })
}

// DiscardContents removes the staged files of contents that have no other names.
func (s *Store) DiscardContents(written []Written) {
	for _, w := range written {
		if w.name != "" {
			s.work.FS.Remove(w.name)
		}
	}
}

// addToPool adds a blob that was just written to the pool.
func (s *Store) addToPool(dir string, d ociregistry.Digest) {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	err := s.replaceOne(Path(dir, d), s.poolPath(d), func() error { return s.makePoolDir(d) })
	if err != nil && !disk.CannotLink(err) {
		s.log.Warn("a blob is not in the pool", "digest", d, "error", err)
	}
}

// RemoveFile removes the file of content that is not in the pool, if it exists.
func (s *Store) RemoveFile(dir string, d ociregistry.Digest) error {
	name := Path(dir, d)
	err := s.work.FS.Remove(name)
	if err == nil || disk.IsAbsent(err) {
		return nil
	}
	if s.work.IsDir(name) {
		_, err = s.work.SetAside(name)
	}
	return err
}
