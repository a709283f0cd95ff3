package repos

import (
	"context"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry"
)

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

// HasManifest reports whether the repository has a manifest.
func (repo *Repository) HasManifest(digest ociregistry.Digest) bool {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return repo.state.Manifest(digest) != nil
}

// MaxManifest bounds, in bytes, what is read into memory because an index.json
// says that it is a manifest.
const MaxManifest = 64 << 20

// Store returns the store that has the repository's files.
func (repo *Repository) Store() *blobs.Store { return repo.set.store }

// Texts returns the texts of manifests that were recently read or written, which all
// repositories of the set share.
func (repo *Repository) Texts() *blobs.Texts { return &repo.set.texts }

// Context returns a context that ends when the set is closed.
func (repo *Repository) Context() context.Context { return repo.set.ctx }

// findTypes finds the media types of manifests of which index.json does not say
// them.
func (repo *Repository) findTypes(s *repostate.State) {
	for m := range s.Untyped() {
		if text, err := repo.set.store.ReadText(repo.Dir, m.Digest, m.Size, MaxManifest); err == nil {
			s.SetMediaType(m, manifest.GuessType(text))
		}
	}
}
