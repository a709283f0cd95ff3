package repos

import "github.com/seed-40b21970/oci/ociregistry"

// BlobPlace says where the content of a digest is, if it is a blob of the repository.
type BlobPlace struct {
	InText bool   // it came with the journal
	Text   string // if so, its content
	InFile bool   // it is its file, if there is one; else such a file is that of a manifest alone
}

// Blob returns where the content of a digest is if it is a blob of the repository. This is
// the one place that decides it.
func (repo *Repository) Blob(digest ociregistry.Digest) BlobPlace {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	text, pending := repo.state.Blob(digest)
	return BlobPlace{pending, text, !pending && !repo.state.RulesOutBlob(digest)}
}

// HasFileNamed reports whether there is a file of the digest.
func (repo *Repository) HasFileNamed(digest ociregistry.Digest) bool {
	_, err := repo.set.store.Stat(repo.Dir, digest)
	return err == nil
}

// IntactSize returns the size of a blob whose file does not have the size that a
// manifest states. If the file is intact, the manifest is wrong, and its statement is
// disregarded from then on. Otherwise the error is [fs.ErrNotExist].
//
// The call reads the whole file. The result is remembered.
func (repo *Repository) IntactSize(digest ociregistry.Digest) (int64, error) {
	size, err := repo.set.store.IntactSize(repo.set.ctx, repo.Dir, digest)
	if err != nil {
		return 0, err
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	repo.state.SetSize(digest, size)
	return size, nil
}

// HasManifest reports whether the repository has a manifest.
func (repo *Repository) HasManifest(digest ociregistry.Digest) bool {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return repo.state.Manifest(digest) != nil
}
