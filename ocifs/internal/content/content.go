// Package content reads what a repository has as files: the texts of manifests, and whether
// blobs are what their digests say.
package content

import (
	"errors"
	"io/fs"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Text returns the text of a manifest. If its file is not there, or is not what it should be,
// the error is [fs.ErrNotExist].
func Text(repo *repos.Repository, m *repostate.Manifest) (string, error) {
	if text := textInMemory(repo, m); text != "" {
		return text, nil
	}
	if text, ok := repo.Texts().Get(m.Digest); ok && m.Present() {
		return text, nil
	}
	text, err := Read(repo, m.Digest, m.Size)
	if errors.Is(err, fs.ErrNotExist) {
		m.SetPresent(false)
	}
	if err != nil {
		return "", err
	}
	m.SetPresent(true)
	repo.Texts().Add(m.Digest, text)
	repo.Update(func(s *repostate.State) { s.ReadAgain(m) })
	return text, nil
}

// textInMemory returns the text of a manifest that only the journal has, or "".
func textInMemory(repo *repos.Repository, m *repostate.Manifest) (text string) {
	repo.View(func(*repostate.State) { text = m.Text })
	return text
}

// Read returns the verified text of a small file.
func Read(repo *repos.Repository, digest ociregistry.Digest, size int64) (string, error) {
	return repo.Store().ReadText(repo.Dir, digest, size, repos.MaxManifest)
}

// IsReadable reports whether there is a small file that can be read and is not damaged.
// If so, it is made durable: whoever wrote it may be another program, or have died
// before it was.
func IsReadable(repo *repos.Repository, digest ociregistry.Digest, size int64) (bool, error) {
	_, err := Read(repo, digest, size)
	switch {
	case disk.IsExhausted(err):
		return false, err
	case err != nil:
		return false, nil
	}
	return true, repo.Store().MakeDurable(repo.Dir, digest)
}

// IsPresent reports whether the text of a manifest is there.
func IsPresent(repo *repos.Repository, m *repostate.Manifest) (bool, error) {
	if m.Present() || textInMemory(repo, m) != "" {
		return true, nil
	}
	size, err := repo.Store().Stat(repo.Dir, m.Digest)
	if errors.Is(err, fs.ErrNotExist) || err == nil && size != m.Size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m.SetPresent(true)
	return true, nil
}

// IntactSize returns the size of a blob whose file does not have the size that a
// manifest states. If the file is intact, the manifest is wrong, and its statement is
// disregarded from then on. Otherwise the error is [fs.ErrNotExist].
//
// The call reads the whole file. The result is remembered.
func IntactSize(repo *repos.Repository, digest ociregistry.Digest) (int64, error) {
	size, err := repo.Store().IntactSize(repo.Context(), repo.Dir, digest)
	if err != nil {
		return 0, err
	}
	repo.Update(func(s *repostate.State) { s.SetSize(digest, size) })
	return size, nil
}

// Child returns the manifest that an index names, if it is in the directory and
// nothing else says that it is a manifest. An index may be there without all that
// it names; but if there is something in the place of a child, that is one.
func Child(repo *repos.Repository, ref manifest.Ref) *repostate.Manifest {
	if _, known := manifest.Known(ref.MediaType); !known || ociregistry.CheckDigest(ref.Digest) != nil {
		return nil
	}
	if repo.HasManifest(ref.Digest) || !repo.Blob(ref.Digest).InFile {
		return nil
	}
	store := repo.Store()
	if store.IsVacant(repo.Dir, ref.Digest) {
		return nil
	}
	m := repostate.NewManifest(ref.Digest, ref.MediaType, ref.Size)
	m.Implicit = true
	size, err := store.Stat(repo.Dir, ref.Digest)
	if err == nil && size != ref.Size {
		err = store.Verify(repo.Context(), repo.Dir, ref.Digest)
	}
	if err == nil {
		m.Size = size
		m.SetPresent(true)
	}
	return m
}
