package repostate

import (
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

// What a manifest names is known of those that were pushed here. The others, which came
// from index.json or a journal, are unread until the backend reads them and calls SetInfo.
// Those that it finds missing or damaged are obscure: nobody knows what they name.

// claim is what a manifest says of a blob or a manifest that it names.
type claim struct {
	digest ociregistry.Digest
	size   int64
}

// refCount says how many times a digest is named, and of which size it must be.
type refCount struct {
	digest           ociregistry.Digest
	blobs, manifests int
	size             int64 // -1 if manifests disagree
}

// HasUnread reports whether there are manifests that were not read yet.
func (s *State) HasUnread() bool { return len(s.unread)+s.base.unreadLeft > 0 }

// Unread returns the manifests that were not read yet, in no order.
func (s *State) Unread() iter.Seq[*Manifest] {
	return func(yield func(*Manifest) bool) {
		for _, m := range s.unread {
			if !yield(m) {
				return
			}
		}
		if s.base.unreadLeft == 0 {
			return
		}
		for i := range s.base.unread.len() {
			m := s.base.row(int(s.base.unread.at(i)))
			if m != nil && m.tableUnread && !yield(m) {
				return
			}
		}
	}
}

// InDoubt returns a manifest for which may reports true and of which nobody knows what it
// names, or nil.
func (s *State) InDoubt(may func(*Manifest) bool) *Manifest {
	for m := range s.Unread() {
		if may(m) {
			return m
		}
	}
	for _, m := range s.obscure {
		if may(m) {
			return m
		}
	}
	return nil
}

// SetObscure notes that m is missing or damaged. It is not one of [State.Unread] then, until
// [State.ReadAgain].
func (s *State) SetObscure(m *Manifest) {
	if s.has(m) && s.takeUnread(m) {
		s.obscure[m.Digest] = m
	}
}

// takeUnread takes m, which the state has, from those that were not read yet, and reports
// whether it was one.
func (s *State) takeUnread(m *Manifest) bool {
	if m.tableUnread {
		m.tableUnread = false
		s.base.unreadLeft--
		return true
	}
	if s.unread[m.Digest] == nil {
		return false
	}
	delete(s.unread, m.Digest)
	return true
}

// ReadAgain makes m one of [State.Unread] if it was missing or damaged, and is not any more.
func (s *State) ReadAgain(m *Manifest) {
	if s.obscure[m.Digest] == m {
		delete(s.obscure, m.Digest)
		s.unread[m.Digest] = m
	}
}

// SetInfo tells what m names, unless that is known. It keeps no part of info's strings.
func (s *State) SetInfo(m *Manifest, info manifest.Info) {
	if m.read || !s.has(m) {
		return
	}
	m.blobs, m.manifests = s.claims(info.Blobs), s.claims(info.Manifests)
	m.parent = slices.ContainsFunc(info.Manifests, func(ref manifest.Ref) bool {
		_, known := manifest.Known(ref.MediaType)
		return known
	})
	m.ArtifactType = strings.Clone(info.ArtifactType)
	if info.Subject != "" {
		m.subject = s.own(info.Subject)
	}
	s.countIn(m)
}

// refOf returns what manifests say of a digest, as the caller must not change it, or nil if
// none names it.
func (s *State) refOf(digest ociregistry.Digest) *refCount {
	if ref, changed := s.refs[digest]; changed {
		return ref
	}
	return s.base.refOf(digest)
}

// refOf returns what the table says of a digest, or nil.
func (b *base) refOf(digest ociregistry.Digest) *refCount {
	i, found := b.find(digest)
	if !found {
		return nil
	}
	r := b.record(i)
	if r.head&isNamed == 0 {
		return nil
	}
	return &refCount{digest, r.blobs, r.manifests, r.size}
}

// ownRef returns what manifests say of a digest, to be changed, or nil if none names it.
func (s *State) ownRef(digest ociregistry.Digest) *refCount {
	ref, changed := s.refs[digest]
	if changed {
		return ref
	}
	if ref = s.base.refOf(digest); ref != nil {
		ref.digest = cloneDigest(digest)
		s.refs[ref.digest] = ref
	}
	return ref
}

// IsNamed reports whether a manifest that was read names the digest, as a blob or as a
// manifest.
func (s *State) IsNamed(digest ociregistry.Digest) bool { return s.refOf(digest) != nil }

// IsNamedAsManifest reports whether an index that was read names the digest.
func (s *State) IsNamedAsManifest(digest ociregistry.Digest) bool {
	ref := s.refOf(digest)
	return ref != nil && ref.manifests > 0
}

// NamedSize returns the size in bytes that manifests say the digest has, or -1 if none names
// it, they disagree, or they are known to be wrong.
func (s *State) NamedSize(digest ociregistry.Digest) int64 {
	ref := s.refOf(digest)
	if ref == nil {
		return -1
	}
	if size, known := s.sizes[digest]; known && size != ref.size {
		return -1
	}
	return ref.size
}

// SetSize tells the true size of intact content, in bytes. What manifests say of it is
// ignored from now on if it is another.
func (s *State) SetSize(digest ociregistry.Digest, size int64) {
	if ref := s.refOf(digest); ref != nil && ref.size != size {
		s.sizes[cloneDigest(digest)] = size
	}
}

// AppendReferrers appends up to n digests that follow after, in byte order, of manifests
// that were read and have the given subject.
func (s *State) AppendReferrers(dst []string, subject ociregistry.Digest, after string, n int) []string {
	var added []string
	if set := s.referrers[subject]; set != nil {
		added = set.AppendAfter(nil, after, n)
	}
	i, found := s.base.find(subject)
	if !found {
		return append(dst, added...)
	}
	referrers := s.base.record(i).referrers
	at := sort.Search(referrers.len(), func(i int) bool {
		digest := s.base.referrer(referrers, i)
		return digest == "" || digest > after
	})
	for ; n > 0; n-- {
		next := s.base.nextReferrer(referrers, &at, after)
		if next == "" {
			return append(dst, added[:min(n, len(added))]...)
		}
		if len(added) > 0 && added[0] < next {
			next, added = added[0], added[1:]
		} else {
			at++
		}
		dst = append(dst, next)
		after = next
	}
	return dst
}

// nextReferrer returns the first one from at on that follows after and is not gone, where it
// leaves at, or "".
func (b *base) nextReferrer(referrers column, at *int, after string) string {
	for ; *at < referrers.len(); *at++ {
		if digest := b.referrer(referrers, *at); digest > after && !b.isGone(int(referrers.at(*at))) {
			return digest
		}
	}
	return ""
}

// referrer returns the digest of a referrer, or "" for a number that is not a manifest's.
func (b *base) referrer(referrers column, i int) string {
	number := uint64(referrers.at(i))
	if number >= uint64(len(b.rows)) {
		return ""
	}
	return string(b.digest(int(number)))
}

// countIn notes that m was read.
func (s *State) countIn(m *Manifest) {
	m.read, m.changed = true, true
	s.takeUnread(m)
	delete(s.obscure, m.Digest)
	s.count(m, 1)
	if m.subject != "" {
		if s.referrers[m.subject] == nil {
			s.referrers[m.subject] = new(ordered.Set)
		}
		s.referrers[m.subject].Add(string(m.Digest))
	}
}

// countOut takes back what countIn did for a manifest that is removed. If a table has it as a
// referrer, it is gone from there already.
func (s *State) countOut(m *Manifest) {
	s.count(m, -1)
	if set := s.referrers[m.subject]; set != nil && m.subject != "" {
		set.Delete(string(m.Digest))
		if set.Len() == 0 {
			delete(s.referrers, m.subject)
		}
	}
}

func (s *State) claims(refs []manifest.Ref) []claim {
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
func (s *State) own(digest ociregistry.Digest) ociregistry.Digest {
	if m := s.manifests[digest]; m != nil {
		return m.Digest
	}
	if ref := s.refs[digest]; ref != nil {
		return ref.digest
	}
	return cloneDigest(digest)
}

// count adds n to the counts of all that m names.
func (s *State) count(m *Manifest, n int) {
	blobs, manifests := s.base.namesOf(m)
	for _, c := range blobs {
		s.ref(c).blobs += n
		s.unref(c.digest)
	}
	for _, c := range manifests {
		s.ref(c).manifests += n
		s.unref(c.digest)
	}
}

func (s *State) ref(c claim) *refCount {
	ref := s.ownRef(c.digest)
	switch {
	case ref == nil:
		ref = &refCount{digest: c.digest, size: c.size}
		s.refs[c.digest] = ref
	case ref.size != c.size:
		ref.size = -1
	}
	return ref
}

// unref removes the counts of a digest that no manifest names any more.
func (s *State) unref(digest ociregistry.Digest) {
	ref := s.refs[digest]
	switch {
	case ref.blobs+ref.manifests > 0:
	case s.base.refOf(digest) != nil:
		s.refs[ref.digest] = nil
	default:
		delete(s.refs, digest)
	}
}
