package repos

import (
	"errors"
	"io/fs"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Child returns the manifest that an index names, if it is in the directory and
// nothing else says that it is a manifest. An index may be there without all that
// it names; but if there is something in the place of a child, that is one.
func (repo *Repository) Child(ref manifest.Ref) *repostate.Manifest {
	if _, known := manifest.Known(ref.MediaType); !known || ociregistry.CheckDigest(ref.Digest) != nil {
		return nil
	}
	if repo.HasManifest(ref.Digest) || !repo.Blob(ref.Digest).InFile {
		return nil
	}
	if info, err := disk.Lstat(repo.set.fs, blobs.Path(repo.Dir, ref.Digest)); info == nil && err == nil {
		return nil
	}
	m := repostate.NewManifest(ref.Digest, ref.MediaType, ref.Size)
	m.Implicit = true
	size, err := repo.set.store.Stat(repo.Dir, ref.Digest)
	if err == nil && size != ref.Size {
		err = repo.set.store.Verify(repo.set.ctx, repo.Dir, ref.Digest)
	}
	if err == nil {
		m.Size = size
		m.SetPresent(true)
	}
	return m
}

// Contents returns the contents of a manifest. If its file is not there, or is not
// what it should be, the error is [fs.ErrNotExist].
func (repo *Repository) Contents(m *repostate.Manifest) (string, error) {
	repo.mu.RLock()
	text := m.Text
	repo.mu.RUnlock()
	if text != "" {
		return text, nil
	}
	if text, ok := repo.set.texts.Get(m.Digest); ok && m.Present() {
		return text, nil
	}
	text, err := repo.ReadFile(m.Digest, m.Size)
	if errors.Is(err, fs.ErrNotExist) {
		m.SetPresent(false)
	}
	if err != nil {
		return "", err
	}
	m.SetPresent(true)
	repo.set.texts.Add(m.Digest, text)
	repo.mu.Lock()
	defer repo.mu.Unlock()
	repo.state.ReadAgain(m)
	return text, nil
}

// ReadFile returns the verified contents of a small file.
func (repo *Repository) ReadFile(digest ociregistry.Digest, size int64) (string, error) {
	return repo.set.store.ReadText(repo.Dir, digest, size, maxManifest)
}

// HasFile reports whether there is a small file that can be read and is not damaged.
// If so, it is made durable: whoever wrote it may be another program, or have died
// before it was.
func (repo *Repository) HasFile(digest ociregistry.Digest, size int64) (bool, error) {
	_, err := repo.ReadFile(digest, size)
	switch {
	case disk.IsExhausted(err):
		return false, err
	case err != nil:
		return false, nil
	}
	return true, repo.set.store.MakeDurable(repo.Dir, digest)
}

// maxManifest bounds, in bytes, what is read into memory because an index.json
// says that it is a manifest.
const maxManifest = 64 << 20

// IsPresent reports whether the contents of a manifest are there.
func (repo *Repository) IsPresent(m *repostate.Manifest) (bool, error) {
	if m.Present() {
		return true, nil
	}
	repo.mu.RLock()
	inMemory := m.Text != ""
	repo.mu.RUnlock()
	if inMemory {
		return true, nil
	}
	size, err := repo.set.store.Stat(repo.Dir, m.Digest)
	if errors.Is(err, fs.ErrNotExist) || err == nil && size != m.Size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m.SetPresent(true)
	return true, nil
}

// findTypes finds the media types of manifests of which index.json does not say
// them.
func (repo *Repository) findTypes(s *repostate.State) {
	for m := range s.Untyped() {
		if text, err := repo.ReadFile(m.Digest, m.Size); err == nil {
			s.SetMediaType(m, manifest.GuessType(text))
		}
	}
}
