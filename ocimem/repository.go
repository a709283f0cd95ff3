package ocimem

import (
	"strings"
	"sync"

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
	tags      map[string]*tag
	tagNames  ordered.Set

	// How many times the manifests here name a digest, and which are about it.
	blobRefs  refCounts
	childRefs refCounts
	referrers map[ociregistry.Digest]*ordered.Set
}

// storedManifest is a manifest and the tags that point at it. It is small, since
// there may be very many: what is seldom asked for is parsed again.
type storedManifest struct {
	mediaType    string
	digest       ociregistry.Digest
	contents     string
	subject      ociregistry.Digest // part of contents, as is artifactType
	artifactType string
	tags         *tag // the first of them
}

// tag points at a manifest. The tags of a manifest are a list.
type tag struct {
	name       string
	manifest   *storedManifest
	prev, next *tag
}

func (m *storedManifest) size() int64 { return int64(len(m.contents)) }

func (m *storedManifest) desc() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: m.size()}
}

// info returns what was found in the manifest when it was pushed.
func (m *storedManifest) info() manifest.Info {
	info, _ := manifest.Parse(m.mediaType, m.contents) // there was no error then
	return info
}

func newRepository(name string) *repository {
	return &repository{
		name:      strings.Clone(name),
		blobs:     make(map[ociregistry.Digest]*content),
		manifests: make(map[ociregistry.Digest]*storedManifest),
		tags:      make(map[string]*tag),
		blobRefs:  make(refCounts),
		childRefs: make(refCounts),
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
	t := repo.tags[name]
	if t == nil {
		return nil, ociregistry.ErrManifestUnknown
	}
	return t.manifest, nil
}

// addManifest adds a manifest that is not there yet.
func (repo *repository) addManifest(m *storedManifest, info manifest.Info) {
	repo.manifests[m.digest] = m
	repo.countRefs(info, 1)
	if m.subject != "" {
		if repo.referrers[m.subject] == nil {
			repo.referrers[repo.own(m.subject)] = new(ordered.Set)
		}
		repo.referrers[m.subject].Add(string(m.digest))
	}
}

// removeManifest removes a manifest, but not its tags.
func (repo *repository) removeManifest(m *storedManifest) {
	delete(repo.manifests, m.digest)
	repo.countRefs(m.info(), -1)
	if m.subject != "" {
		repo.referrers[m.subject].Delete(string(m.digest))
		if repo.referrers[m.subject].Len() == 0 {
			delete(repo.referrers, m.subject)
		}
	}
}

// refCounts has how many times digests are named.
type refCounts map[ociregistry.Digest]*int

func (refs refCounts) has(digest ociregistry.Digest) bool { return refs[digest] != nil }

// countRefs adds n to the counts of all that a manifest names.
func (repo *repository) countRefs(info manifest.Info, n int) {
	for i := range info.Blobs {
		repo.count(repo.blobRefs, info.Blobs[i].Digest, n)
	}
	for i := range info.Manifests {
		repo.count(repo.childRefs, info.Manifests[i].Digest, n)
	}
}

func (repo *repository) count(refs refCounts, digest ociregistry.Digest, n int) {
	count := refs[digest]
	if count == nil {
		count = new(int)
		refs[repo.own(digest)] = count
	}
	if *count += n; *count == 0 {
		delete(refs, digest)
	}
}

// own returns a digest that is no part of a manifest, but equal to one that is.
func (repo *repository) own(digest ociregistry.Digest) ociregistry.Digest {
	if c := repo.blobs[digest]; c != nil {
		return c.digest
	}
	if m := repo.manifests[digest]; m != nil {
		return m.digest
	}
	return cloneDigest(digest)
}

// setTag points a tag at m.
func (repo *repository) setTag(name string, m *storedManifest) {
	t := repo.tags[name]
	switch {
	case t == nil:
		t = &tag{name: strings.Clone(name)}
		repo.tags[t.name] = t
		repo.tagNames.Add(t.name)
	case t.manifest == m:
		return
	default:
		t.detach()
	}
	t.manifest, t.prev, t.next = m, nil, m.tags
	if m.tags != nil {
		m.tags.prev = t
	}
	m.tags = t
}

func (repo *repository) removeTag(t *tag) {
	t.detach()
	delete(repo.tags, t.name)
	repo.tagNames.Delete(t.name)
}

// detach takes t from the tags of its manifest.
func (t *tag) detach() {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		t.manifest.tags = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
}

// referrer returns the descriptor that m is listed with as a referrer.
func (m *storedManifest) referrer() ociregistry.Descriptor {
	desc := m.desc()
	desc.ArtifactType = m.artifactType
	desc.Annotations = m.info().Annotations
	return desc
}
