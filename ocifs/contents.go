package ocifs

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

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

// writers is how many files are written at a time when there are many. More of
// them would wait for the lock of the directory.
const writers = 2

// putContents makes files of contents in a layout directory, durably. Their bytes
// are synced together, before any of them gets its name.
func (s *store) putContents(dir string, contents []content) error {
	if len(contents) == 0 {
		return nil
	}
	names := make([]string, len(contents)) // of staged files
	defer func() {
		for _, name := range names {
			if name != "" {
				s.fs.Remove(name)
			}
		}
	}()
	err := parallel(writers, len(contents), func(i int) (err error) {
		names[i], err = s.stageContent(dir, contents[i])
		return err
	})
	if err != nil {
		return err
	}
	if err := s.syncStaged(names); err != nil {
		return err
	}
	err = parallel(writers, len(contents), func(i int) error {
		c := contents[i]
		if names[i] == "" {
			return s.putContent(dir, c)
		}
		if err := s.move(names[i], dir, c.digest); err != nil {
			return err
		}
		names[i] = ""
		if c.blob {
			s.addToPool(dir, c.digest)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.syncBlobDirs(dir)
}

// syncBlobDirs makes the names of a layout directory's blobs durable.
func (s *store) syncBlobDirs(dir string) error {
	for _, alg := range algorithms {
		err := s.syncDir(filepath.Join(dir, "blobs", alg.String()))
		if err != nil && !isAbsent(err) {
			return err
		}
	}
	return nil
}

// stageContent writes c to a staged file and returns its name. It returns "" if
// there is a file of c already, or if the pool has it: then that is to be looked
// at.
func (s *store) stageContent(dir string, c content) (name string, err error) {
	for _, known := range []string{blobPath(dir, c.digest), s.poolPath(c.digest)} {
		if _, err := s.fs.Lstat(known); !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
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

// syncStaged makes the bytes of staged files durable.
func (s *store) syncStaged(names []string) error {
	if !s.syncs.on {
		return nil
	}
	if len(names) > crowd {
		err := s.fs.SyncAll(s.private)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return parallel(2*writers, len(names), func(i int) error {
		if names[i] == "" {
			return nil
		}
		f, err := s.fs.OpenFile(names[i], forSync, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

// putContent makes a file of c where there may be one.
func (s *store) putContent(dir string, c content) error {
	st, err := s.stage(c.digest.Algorithm())
	if err != nil {
		return err
	}
	defer st.discard()
	if err := st.append([]byte(c.text)); err != nil {
		return err
	}
	if c.blob {
		return s.put(context.Background(), dir, c.digest, st)
	}
	if err := st.settle(); err != nil {
		return err
	}
	return s.move(st.name, dir, c.digest)
}

// addToPool gives a blob its name in the pool, unless that has the blob.
func (s *store) addToPool(dir string, d ociregistry.Digest) {
	err := s.add(blobPath(dir, d), s.poolPath(d), func() error { return s.makePoolDir(d) })
	if err != nil && !errors.Is(err, fs.ErrExist) && !cannotLink(err) {
		s.log.Warn("a blob is not in the pool", "digest", d, "error", err)
	}
}

// removeFile removes the file of a manifest, if it is there.
func (s *store) removeFile(dir string, d ociregistry.Digest) error {
	err := s.fs.Remove(blobPath(dir, d))
	if isAbsent(err) {
		return nil
	}
	return err
}

// statPool returns the size of a blob of the pool.
func (s *store) statPool(d ociregistry.Digest) (int64, error) {
	name := s.poolPath(d)
	info, err := s.fs.Lstat(name)
	if err == nil {
		err = checkBlob(name, info, d)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// hasPool reports whether there is a pool, which there is not where a file can
// have one name only.
func (s *store) hasPool(d ociregistry.Digest) bool {
	info, err := s.fs.Lstat(filepath.Dir(s.poolPath(d)))
	return err == nil && info.IsDir()
}
