package ocimem

import (
	"iter"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
)

// repository has the content of one repository. Its methods are called with mu held.
//
// Its strings are copies. A string of a caller may be a part of a long request, and a
// string in a manifest a part of a manifest that is deleted later; the copies let both
// be freed.
type repository struct {
	name string

	mu        sync.RWMutex
	dropped   bool // no longer in Registry.repos
	blobs     map[ociregistry.Digest]*blob
	manifests map[ociregistry.Digest]*manifestEntry
	tags      map[string]*tag
	tagNames  ordered.Set

	// How often the manifests here name a digest as a blob or as a child, and which
	// manifests have it as their subject.
	blobRefs  refCounts
	childRefs refCounts
	referrers map[ociregistry.Digest]*ordered.Set
}

// blob is a blob of one repository.
type blob struct {
	*content
	time atomic.Int64 // from which its delay counts, for Registry.GC; in nanoseconds since 1970
}

// manifestEntry is a manifest and the tags that point at it. It is small, since there
// may be very many: what is rarely needed is parsed again.
type manifestEntry struct {
	mediaType    string
	digest       ociregistry.Digest
	contents     string
	subject      ociregistry.Digest // part of contents, as is artifactType
	artifactType string
	tags         *tag         // the first of them
	time         atomic.Int64 // as that of a blob
	pulled       atomic.Int64 // when it was last read, in the same form; 0 if it never was
}

// tag points at a manifest. The tags of a manifest are a list.
type tag struct {
	name       string
	manifest   *manifestEntry
	prev, next *tag
	pushed     int64 // when it was last set, in nanoseconds since 1970
}

func (m *manifestEntry) size() int64 { return int64(len(m.contents)) }

func (m *manifestEntry) desc() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: m.size()}
}

// info parses the manifest again.
func (m *manifestEntry) info() manifest.Info {
	info, _ := manifest.Parse(m.mediaType, m.contents) // it was parsed without an error when it was pushed
	return info
}

func newRepository(name string) *repository {
	return &repository{
		name:      strings.Clone(name),
		blobs:     make(map[ociregistry.Digest]*blob),
		manifests: make(map[ociregistry.Digest]*manifestEntry),
		tags:      make(map[string]*tag),
		blobRefs:  make(refCounts),
		childRefs: make(refCounts),
		referrers: make(map[ociregistry.Digest]*ordered.Set),
	}
}

func (repo *repository) empty() bool {
	return len(repo.blobs) == 0 && len(repo.manifests) == 0
}

func (repo *repository) blob(digest ociregistry.Digest) (*blob, error) {
	b := repo.blobs[digest]
	if b == nil {
		return nil, ociregistry.ErrBlobUnknown
	}
	return b, nil
}

func (repo *repository) manifest(digest ociregistry.Digest) (*manifestEntry, error) {
	m := repo.manifests[digest]
	if m == nil {
		return nil, ociregistry.ErrManifestUnknown
	}
	return m, nil
}

func (repo *repository) tag(name string) (*manifestEntry, error) {
	t := repo.tags[name]
	if t == nil {
		return nil, ociregistry.ErrManifestUnknown
	}
	return t.manifest, nil
}

// addManifest adds a manifest that is not there yet.
func (repo *repository) addManifest(m *manifestEntry, info manifest.Info) {
	repo.manifests[m.digest] = m
	repo.countRefs(info, 1)
	if m.subject != "" {
		if repo.referrers[m.subject] == nil {
			repo.referrers[repo.own(m.subject)] = new(ordered.Set)
		}
		repo.referrers[m.subject].Add(string(m.digest))
	}
}

// removeManifest removes a manifest, but not its tags. It returns what the manifest named.
func (repo *repository) removeManifest(m *manifestEntry) manifest.Info {
	info := m.info()
	delete(repo.manifests, m.digest)
	repo.countRefs(info, -1)
	if m.subject != "" {
		repo.referrers[m.subject].Delete(string(m.digest))
		if repo.referrers[m.subject].Len() == 0 {
			delete(repo.referrers, m.subject)
		}
	}
	return info
}

// orphan makes the delay of those that a removed manifest kept count from now.
func (repo *repository) orphan(digest ociregistry.Digest, info manifest.Info, now int64) {
	for i := range info.Manifests {
		if child := repo.manifests[info.Manifests[i].Digest]; child != nil {
			child.time.Store(now)
		}
	}
	if set := repo.referrers[digest]; set != nil {
		for _, referrer := range set.AppendAfter(nil, "", set.Len()) {
			repo.manifests[ociregistry.Digest(referrer)].time.Store(now)
		}
	}
	for _, name := range rules.TagsAbout(digest) {
		if t := repo.tags[name]; t != nil {
			t.manifest.time.Store(now)
		}
	}
}

// refCounts counts how often digests are named.
type refCounts map[ociregistry.Digest]*int

func (refs refCounts) has(digest ociregistry.Digest) bool { return refs[digest] != nil }

// of returns how often a digest is named.
func (refs refCounts) of(digest ociregistry.Digest) int {
	if n := refs[digest]; n != nil {
		return *n
	}
	return 0
}

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

// own returns a copy of digest that is not a part of a manifest.
func (repo *repository) own(digest ociregistry.Digest) ociregistry.Digest {
	if c := repo.blobs[digest]; c != nil {
		return c.digest
	}
	if m := repo.manifests[digest]; m != nil {
		return m.digest
	}
	return cloneDigest(digest)
}

// setTag points a tag at m. A manifest that the tag pointed at is an orphan from now on.
func (repo *repository) setTag(name string, m *manifestEntry, now int64) {
	t := repo.tags[name]
	switch {
	case t == nil:
		t = &tag{name: strings.Clone(name)}
		repo.tags[t.name] = t
		repo.tagNames.Add(t.name)
	case t.manifest == m:
		t.pushed = now
		return
	default:
		t.manifest.time.Store(now)
		t.detach()
	}
	t.manifest, t.prev, t.next, t.pushed = m, nil, m.tags, now
	if m.tags != nil {
		m.tags.prev = t
	}
	m.tags = t
}

// removeTag removes a tag. Its manifest is an orphan from now on.
func (repo *repository) removeTag(t *tag, now int64) {
	t.manifest.time.Store(now)
	t.detach()
	delete(repo.tags, t.name)
	repo.tagNames.Delete(t.name)
}

// tagNames returns the tags of a manifest.
func (m *manifestEntry) tagNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for t := m.tags; t != nil; t = t.next {
			if !yield(t.name) {
				return
			}
		}
	}
}

// detach removes t from the tags of its manifest.
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

// referrer returns the descriptor of m in a list of referrers.
func (m *manifestEntry) referrer() ociregistry.Descriptor {
	desc := m.desc()
	desc.ArtifactType = m.artifactType
	desc.Annotations = m.info().Annotations
	return desc
}
