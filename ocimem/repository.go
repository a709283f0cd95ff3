package ocimem

import (
	"maps"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

// repository has the content of one repository. Its methods are called with mu
// held.
//
// The strings in it are its own. Those of a caller may be a few bytes of a long
// request, and those of a manifest, of one that is deleted: neither must stay for
// their sake.
type repository struct {
	name string

	mu        sync.RWMutex
	dropped   bool // no longer in Registry.repos
	blobs     map[ociregistry.Digest]*content
	manifests map[ociregistry.Digest]*storedManifest
	tags      map[string]*storedManifest
	tagNames  ordered.Set

	// How many times the manifests here name a digest, and which are about it.
	blobRefs  map[ociregistry.Digest]int
	childRefs map[ociregistry.Digest]int
	referrers map[ociregistry.Digest]*ordered.Set
}

// storedManifest is a manifest and the tags that point at it.
type storedManifest struct {
	desc     ociregistry.Descriptor
	contents string
	info     manifest.Info
	tags     map[string]bool
}

func newRepository(name string) *repository {
	return &repository{
		name:      strings.Clone(name),
		blobs:     make(map[ociregistry.Digest]*content),
		manifests: make(map[ociregistry.Digest]*storedManifest),
		tags:      make(map[string]*storedManifest),
		blobRefs:  make(map[ociregistry.Digest]int),
		childRefs: make(map[ociregistry.Digest]int),
		referrers: make(map[ociregistry.Digest]*ordered.Set),
	}
}

func (repo *repository) empty() bool {
	return len(repo.blobs) == 0 && len(repo.manifests) == 0
}

func (repo *repository) blob(digest ociregistry.Digest) (*content, error) {
	c := repo.blobs[digest]
	if c == nil {
		return nil, ociregistry.ErrBlobUnknown
	}
	return c, nil
}

func (repo *repository) manifest(digest ociregistry.Digest) (*storedManifest, error) {
	m := repo.manifests[digest]
	if m == nil {
		return nil, ociregistry.ErrManifestUnknown
	}
	return m, nil
}

func (repo *repository) tag(name string) (*storedManifest, error) {
	m := repo.tags[name]
	if m == nil {
		return nil, ociregistry.ErrManifestUnknown
	}
	return m, nil
}

// addManifest adds a manifest that is not there yet.
func (repo *repository) addManifest(m *storedManifest) {
	repo.manifests[m.desc.Digest] = m
	for _, ref := range m.info.Blobs {
		repo.count(repo.blobRefs, ref.Digest, 1)
	}
	for _, ref := range m.info.Manifests {
		repo.count(repo.childRefs, ref.Digest, 1)
	}
	if subject := m.info.Subject; subject != "" {
		if repo.referrers[subject] == nil {
			repo.referrers[repo.own(subject)] = new(ordered.Set)
		}
		repo.referrers[subject].Add(string(m.desc.Digest))
	}
}

// removeManifest removes a manifest, but not its tags.
func (repo *repository) removeManifest(m *storedManifest) {
	delete(repo.manifests, m.desc.Digest)
	for _, ref := range m.info.Blobs {
		repo.count(repo.blobRefs, ref.Digest, -1)
	}
	for _, ref := range m.info.Manifests {
		repo.count(repo.childRefs, ref.Digest, -1)
	}
	if subject := m.info.Subject; subject != "" {
		repo.referrers[subject].Delete(string(m.desc.Digest))
		if repo.referrers[subject].Len() == 0 {
			delete(repo.referrers, subject)
		}
	}
}

// count adds n to how many times a digest is named. Also the key of a digest
// that is there is replaced by an assignment, and has to be the repository's.
func (repo *repository) count(refs map[ociregistry.Digest]int, digest ociregistry.Digest, n int) {
	if n += refs[digest]; n == 0 {
		delete(refs, digest)
		return
	}
	refs[repo.own(digest)] = n
}

// own returns a digest that is no part of a manifest, but equal to one that is.
func (repo *repository) own(digest ociregistry.Digest) ociregistry.Digest {
	if c := repo.blobs[digest]; c != nil {
		return c.digest
	}
	if m := repo.manifests[digest]; m != nil {
		return m.desc.Digest
	}
	return cloneDigest(digest)
}

// setTag points a tag at m.
func (repo *repository) setTag(name string, m *storedManifest) {
	name = strings.Clone(name)
	if old := repo.tags[name]; old != nil {
		delete(old.tags, name)
	} else {
		repo.tagNames.Add(name)
	}
	repo.tags[name] = m
	if m.tags == nil {
		m.tags = make(map[string]bool)
	}
	m.tags[name] = true
}

func (repo *repository) removeTag(name string) {
	delete(repo.tags[name].tags, name)
	delete(repo.tags, name)
	repo.tagNames.Delete(name)
}

// referrer returns the descriptor that m is listed with as a referrer.
func (m *storedManifest) referrer() ociregistry.Descriptor {
	return ocispec.Descriptor{
		MediaType:    m.desc.MediaType,
		Digest:       m.desc.Digest,
		Size:         m.desc.Size,
		ArtifactType: m.info.ArtifactType,
		Annotations:  maps.Clone(m.info.Annotations),
	}
}
