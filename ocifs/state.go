package ocifs

import (
	"strings"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

// state is what is known of the content of a repository: what index.json says,
// and what the journal has added to it since. It is guarded by repository.mu.
//
// Blobs that are files are not in it: the directory is the truth about them.
type state struct {
	manifests map[ociregistry.Digest]*stored
	tags      map[string]*tag
	tagNames  ordered.Set
	blobs     map[ociregistry.Digest]string   // small ones that are not files yet
	fresh     []*stored                       // manifests that are not files yet
	named     map[ociregistry.Digest]struct{} // of these two, what has become a file since
	deleted   map[ociregistry.Digest]struct{} // manifests whose files may still be there
	unsure    map[*stored]struct{}            // manifests in index.json whose files were not seen yet

	// What manifests name is counted when it is first asked for. Until they are
	// read, manifests wait in unread. Those whose contents are missing or damaged
	// are found in obscure then: nobody knows what they name.
	unread    map[ociregistry.Digest]*stored
	obscure   map[ociregistry.Digest]*stored
	refs      map[ociregistry.Digest]*refCount
	referrers map[ociregistry.Digest]*ordered.Set

	index indexRest // what else index.json has
}

// stored is a manifest and the tags that point at it.
type stored struct {
	digest    ociregistry.Digest
	mediaType string
	size      int64       // in bytes
	contents  string      // while it is not a file yet
	raws      []string    // its entries without a tag in index.json that another program wrote
	plain     bool        // it has one as this package writes it, too
	blob      bool        // the same bytes were pushed as a blob, too
	implicit  bool        // only an index names it, and index.json does not
	present   atomic.Bool // its file was seen
	tags      *tag        // the first of them

	// What it names; only if it was read.
	read         bool
	blobs        []claim
	manifests    []claim
	subject      ociregistry.Digest
	artifactType string
}

// claim is what a manifest says of a blob or a manifest that it names.
type claim struct {
	digest ociregistry.Digest
	size   int64
}

// tag points at a manifest. The tags of a manifest are a list.
type tag struct {
	name       string
	manifest   *stored
	prev, next *tag
	exact      bool     // its entry in index.json names it, and not a reference that ends in it
	raw        string   // its entry in index.json, if another program wrote that
	shadowed   []shadow // further entries that stand for the same tag, less exactly
}

// shadow is an entry of index.json that does not count while another does.
type shadow struct {
	digest ociregistry.Digest
	raw    string
}

// refCount says how many times a digest is named, and of which size it must be.
type refCount struct {
	digest           ociregistry.Digest
	blobs, manifests int
	size             int64 // -1 if manifests disagree
}

func newState() *state {
	return &state{
		manifests: make(map[ociregistry.Digest]*stored),
		tags:      make(map[string]*tag),
		blobs:     make(map[ociregistry.Digest]string),
		named:     make(map[ociregistry.Digest]struct{}),
		deleted:   make(map[ociregistry.Digest]struct{}),
		unsure:    make(map[*stored]struct{}),
		unread:    make(map[ociregistry.Digest]*stored),
		obscure:   make(map[ociregistry.Digest]*stored),
		refs:      make(map[ociregistry.Digest]*refCount),
		referrers: make(map[ociregistry.Digest]*ordered.Set),
	}
}

// inherit takes over from an older state what was found out about manifests,
// whose contents never change. Indexes are read again: what they name may have
// come or gone.
func (s *state) inherit(old *state) {
	for digest, m := range s.manifests {
		o := old.manifests[digest]
		if o == nil {
			continue
		}
		if m.mediaType == "" {
			m.mediaType = o.mediaType
		}
		if o.present.Load() {
			m.present.Store(true)
			delete(s.unsure, m)
		}
		if o.read && !m.read && o.mediaType == m.mediaType && o.manifests == nil {
			m.blobs, m.subject, m.artifactType = o.blobs, o.subject, o.artifactType
			s.countIn(m)
		}
	}
}

func (m *stored) desc() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: m.size}
}

// empty reports whether nothing is known to be there. There may still be files.
func (s *state) empty() bool { return len(s.manifests) == 0 && len(s.blobs) == 0 }

// add adds a manifest that is not there yet. It is to be read later.
func (s *state) add(m *stored) {
	s.manifests[m.digest] = m
	s.unread[m.digest] = m
	if m.contents != "" {
		s.fresh = append(s.fresh, m)
	}
	delete(s.deleted, m.digest)
}

// readAgain lets a manifest be read, unless it was.
func (s *state) readAgain(m *stored) {
	if s.obscure[m.digest] == m {
		delete(s.obscure, m.digest)
		s.unread[m.digest] = m
	}
}

// setInfo tells what a manifest names.
func (s *state) setInfo(m *stored, info manifest.Info) {
	if m.read || s.manifests[m.digest] != m {
		return
	}
	m.blobs, m.manifests = s.claims(info.Blobs), s.claims(info.Manifests)
	m.artifactType = strings.Clone(info.ArtifactType)
	if info.Subject != "" {
		m.subject = s.own(info.Subject)
	}
	s.countIn(m)
}

// countIn notes that m was read.
func (s *state) countIn(m *stored) {
	m.read = true
	delete(s.unread, m.digest)
	delete(s.obscure, m.digest)
	s.count(m, 1)
	if m.subject != "" {
		if s.referrers[m.subject] == nil {
			s.referrers[m.subject] = new(ordered.Set)
		}
		s.referrers[m.subject].Add(string(m.digest))
	}
}

func (s *state) claims(refs []manifest.Ref) []claim {
	if len(refs) == 0 {
		return nil
	}
	claims := make([]claim, len(refs))
	for i := range refs {
		claims[i] = claim{s.own(refs[i].Digest), refs[i].Size}
	}
	return claims
}

// own returns a digest that is no part of a manifest, but equal to one that is.
func (s *state) own(digest ociregistry.Digest) ociregistry.Digest {
	if m := s.manifests[digest]; m != nil {
		return m.digest
	}
	if ref := s.refs[digest]; ref != nil {
		return ref.digest
	}
	return ociregistry.Digest(strings.Clone(string(digest)))
}

// count adds n to the counts of all that m names.
func (s *state) count(m *stored, n int) {
	for _, c := range m.blobs {
		s.ref(c).blobs += n
		s.unref(c.digest)
	}
	for _, c := range m.manifests {
		s.ref(c).manifests += n
		s.unref(c.digest)
	}
}

func (s *state) ref(c claim) *refCount {
	ref := s.refs[c.digest]
	switch {
	case ref == nil:
		ref = &refCount{digest: c.digest, size: c.size}
		s.refs[c.digest] = ref
	case ref.size != c.size:
		ref.size = -1
	}
	return ref
}

func (s *state) unref(digest ociregistry.Digest) {
	if ref := s.refs[digest]; ref.blobs+ref.manifests == 0 {
		delete(s.refs, digest)
	}
}

// remove removes a manifest and its tags.
func (s *state) remove(m *stored) {
	for m.tags != nil {
		s.removeTag(m.tags)
	}
	delete(s.manifests, m.digest)
	delete(s.unsure, m)
	delete(s.unread, m.digest)
	delete(s.obscure, m.digest)
	if !m.read {
		return
	}
	s.count(m, -1)
	if m.subject != "" {
		s.referrers[m.subject].Delete(string(m.digest))
		if s.referrers[m.subject].Len() == 0 {
			delete(s.referrers, m.subject)
		}
	}
}

// setTag points a tag at m.
func (s *state) setTag(name string, m *stored) {
	t := s.tags[name]
	switch {
	case t == nil:
		t = &tag{name: strings.Clone(name)}
		s.tags[t.name] = t
		s.tagNames.Add(t.name)
	case t.manifest == m:
		return
	default:
		t.detach()
	}
	*t = tag{name: t.name, exact: true, manifest: m, next: m.tags}
	if m.tags != nil {
		m.tags.prev = t
	}
	m.tags = t
}

func (s *state) removeTag(t *tag) {
	t.detach()
	delete(s.tags, t.name)
	s.tagNames.Delete(t.name)
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

// apply makes the change of an operation that was checked. It can be applied
// again to a state that has it already, or has what came after it.
func (s *state) apply(o *op) {
	delete(s.named, o.digest)
	switch o.kind {
	case opPut:
		s.applyPut(o)
	case opUntag:
		for _, name := range o.tags {
			if t := s.tags[name]; t != nil {
				s.removeTag(t)
			}
		}
	case opDelete:
		if m := s.manifests[o.digest]; m != nil {
			s.remove(m)
			if m.blob {
				return // as which it stays
			}
		}
		if s.blobs[o.digest] == "" {
			s.deleted[cloneDigest(o.digest)] = struct{}{}
		}
	case opBlob:
		if o.contents != "" {
			s.blobs[cloneDigest(o.digest)] = o.contents
		}
		if m := s.manifests[o.digest]; m != nil {
			m.markBlob()
		}
		delete(s.deleted, o.digest)
	case opDeleteBlob:
		delete(s.blobs, o.digest)
	}
}

func (s *state) applyPut(o *op) {
	m := s.manifests[o.digest]
	if m == nil {
		m = &stored{digest: cloneDigest(o.digest), mediaType: ownMediaType(o.mediaType), size: o.size, contents: o.contents}
		s.add(m)
	} else if m.contents == "" && o.contents != "" {
		m.contents = o.contents // its file was damaged
		s.readAgain(m)
		s.fresh = append(s.fresh, m)
	}
	if m.mediaType != o.mediaType || m.size != o.size {
		m = s.retype(m, o)
	}
	m.implicit = false
	if o.blob {
		m.markBlob()
	}
	if o.info != nil {
		s.setInfo(m, *o.info)
	}
	for _, tag := range o.tags {
		s.setTag(tag, m)
		m.plain = false // it has another entry now
	}
}

// markBlob notes that the bytes of m are a blob's, too. Its entries in index.json
// are written anew, to say that.
func (m *stored) markBlob() {
	if m.blob {
		return
	}
	m.blob, m.raws = true, nil
	for t := m.tags; t != nil; t = t.next {
		t.raw = ""
	}
}

// retype gives a manifest the media type and the size of o. With another type it
// may name other things than before; the size was wrong if it was another.
func (s *state) retype(m *stored, o *op) *stored {
	next := &stored{digest: m.digest, mediaType: ownMediaType(o.mediaType), size: o.size, contents: m.contents, blob: m.blob}
	var tags []string
	for t := m.tags; t != nil; t = t.next {
		tags = append(tags, t.name)
	}
	s.remove(m)
	s.add(next)
	for _, tag := range tags {
		s.setTag(tag, next)
	}
	return next
}

func cloneDigest(digest ociregistry.Digest) ociregistry.Digest {
	return ociregistry.Digest(strings.Clone(string(digest)))
}

// ownMediaType returns a copy to be kept, of which there is one for each of the
// usual types.
func ownMediaType(mediaType string) string {
	if known, ok := manifest.Known(mediaType); ok {
		return known
	}
	return strings.Clone(mediaType)
}
