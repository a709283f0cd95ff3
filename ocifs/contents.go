package ocifs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// What the founding of layouts and the folding of journals need of a store.

// stageDir makes an empty directory in the staging directory.
func (s *store) stageDir() (string, error) {
	for range 2 {
		name, err := s.staging.name()
		if err != nil {
			return "", err
		}
		err = s.fs.Mkdir(name, dirPerm)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return name, err
		}
		s.staging.forget(filepath.Dir(name)) // somebody removed it
	}
	return "", fs.ErrNotExist
}

// content is small content that a journal has, and that is to be a file: of a
// manifest, or of a blob, which goes into the pool.
type content struct {
	digest ociregistry.Digest
	text   string
	blob   bool
}

// writtenContent is content that a durable file has already: a staged one, or,
// if there is none, the pool's.
type writtenContent struct {
	content
	name string // of the staged file, until it has another
}

// writers is how many files are written at a time when there are many. More of
// them would wait for the lock of the directory.
const writers = 2

// writeContents writes contents to files that nobody sees yet, and syncs them
// together. Those that it has written are to be discarded, also when it fails.
func (s *store) writeContents(contents []content) ([]writtenContent, error) {
	written := make([]writtenContent, len(contents))
	err := parallel(writers, len(contents), func(i int) (err error) {
		written[i].content = contents[i]
		written[i].name, err = s.writeContent(contents[i])
		return err
	})
	if err != nil {
		return written, err
	}
	return written, s.syncContents(written)
}

// writeContent writes c to a staged file and returns its name, which is "" if c
// is a blob that the pool has.
func (s *store) writeContent(c content) (name string, err error) {
	if c.blob && s.poolHas(c) {
		return "", nil
	}
	f, name, err := s.staging.create()
	if err != nil {
		return "", err
	}
	_, err = f.Write([]byte(c.text))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		s.fs.Remove(name)
		return "", err
	}
	return name, nil
}

// poolHas reports whether the pool has the very bytes of c.
func (s *store) poolHas(c content) bool {
	if size, err := s.statPool(c.digest); err != nil || size != int64(len(c.text)) {
		return false
	}
	f, _, err := s.openBlob(s.poolPath(c.digest), c.digest, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	text := make([]byte, len(c.text))
	_, err = io.ReadFull(f, text)
	return err == nil && string(text) == c.text
}

// syncContents makes the bytes of written contents durable.
func (s *store) syncContents(written []writtenContent) error {
	if !s.syncs.on {
		return nil
	}
	if len(written) > crowd {
		err := s.fs.SyncAll(s.private)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return parallel(2*writers, len(written), func(i int) error {
		name := written[i].name
		if name == "" {
			name = s.poolPath(written[i].digest)
		}
		f, err := s.fs.OpenFile(name, forSync, 0)
		if errors.Is(err, fs.ErrNotExist) && written[i].name == "" {
			return nil // then the pool does not have it when it is looked for next
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

// nameContents gives written contents their names in a layout directory. That
// these are durable is up to syncBlobDirs.
func (s *store) nameContents(dir string, written []*writtenContent) error {
	return parallel(writers, len(written), func(i int) error {
		w := written[i]
		if w.name == "" {
			return s.nameFromPool(dir, w.content)
		}
		if err := s.move(w.name, dir, w.digest); err != nil {
			return err
		}
		w.name = ""
		if w.blob {
			s.addToPool(dir, w.digest)
		}
		return nil
	})
}

// nameFromPool links c from the pool, whose bytes were looked at, or writes it
// if somebody removed it there.
func (s *store) nameFromPool(dir string, c content) error {
	err := s.linkFromPool(dir, c.digest)
	if err == nil || !cannotLink(err) && !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoLayout) {
		return err
	}
	st, err := s.stage(c.digest.Algorithm())
	if err != nil {
		return err
	}
	defer st.discard()
	if err := st.append([]byte(c.text)); err != nil {
		return err
	}
	return s.put(context.Background(), dir, c.digest, st)
}

// linkFromPool makes the pool's file a blob of a layout directory, whatever that
// had as d before.
func (s *store) linkFromPool(dir string, d ociregistry.Digest) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	return s.replaceOne(s.poolPath(d), blobPath(dir, d), func() error { return s.makeBlobDir(dir, d) })
}

// discardContents removes the files of contents that have got no names.
func (s *store) discardContents(written []writtenContent) {
	for _, w := range written {
		if w.name != "" {
			s.fs.Remove(w.name)
		}
	}
}

// syncBlobDirs makes the names of a layout directory's blobs durable, and those
// that lead to them, as syncBlobDir does.
func (s *store) syncBlobDirs(dir string) error {
	for _, alg := range algorithms {
		err := s.syncBlobDir(dir, digest.NewDigestFromEncoded(alg, "any"))
		if err != nil && !isAbsent(err) {
			return err
		}
	}
	return nil
}

// addToPool gives a blob, which was just written, its name in the pool.
func (s *store) addToPool(dir string, d ociregistry.Digest) {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	err := s.replaceOne(blobPath(dir, d), s.poolPath(d), func() error { return s.makePoolDir(d) })
	if err != nil && !cannotLink(err) {
		s.log.Warn("a blob is not in the pool", "digest", d, "error", err)
	}
}

// removeFile removes the file of a manifest, if it is there.
func (s *store) removeFile(dir string, d ociregistry.Digest) error {
	name := blobPath(dir, d)
	err := s.fs.Remove(name)
	if err == nil || isAbsent(err) {
		return nil
	}
	if s.isDir(name) {
		_, err = s.setAside(name)
	}
	return err
}

// statPool returns the size of a blob of the pool.
func (s *store) statPool(d ociregistry.Digest) (int64, error) {
	return s.statNamed(s.poolPath(d), d)
}

// hasPool reports whether there is a pool, which there is not where a file can
// have one name only.
func (s *store) hasPool(d ociregistry.Digest) bool {
	info, err := s.fs.Lstat(filepath.Dir(s.poolPath(d)))
	return err == nil && info.IsDir()
}
