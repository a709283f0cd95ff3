package repostate

import (
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Before one who collects garbage looks how old something is, he announces that he may delete
// it. Who makes something young that is in use, and then does not see it announced, can be
// sure that it will be found young. An announcement is over with the next record of the
// journal, whoever writes it.

func (s *State) announce(digest ociregistry.Digest) {
	if digest == "" {
		clear(s.announced)
		return
	}
	s.announced[cloneDigest(digest)] = struct{}{}
}

// IsAnnounced reports whether something may be about to be deleted.
func (s *State) IsAnnounced(digest ociregistry.Digest) bool {
	_, announced := s.announced[digest]
	return announced
}

// HasAnnounced reports whether IsAnnounced does for any digest.
func (s *State) HasAnnounced() bool { return len(s.announced) > 0 }

// Each calls f with all manifests and their subjects, in no order. f does not keep the
// manifest. Each holds lock, for one who reads the state, for a part at a time, so that what
// changes meanwhile may be missing.
func (s *State) Each(lock sync.Locker, f func(m *Manifest, subject ociregistry.Digest)) {
	lock.Lock()
	defer lock.Unlock()
	n := 0
	next := func() {
		if n++; n%writeBatch == 0 {
			pause(lock)
		}
	}
	for _, m := range s.manifests {
		f(m, s.base.subjectOf(m))
		next()
	}
	var spare Manifest
	var text digestText
	for i := range s.base.rows {
		m := s.base.peek(i, &spare)
		if m == &spare {
			m.Digest = text.of(s.base.key(i), writeBatch)
		}
		if m != nil {
			f(m, s.base.subjectOf(m))
		}
		next()
	}
}

// EachTag calls f with each tag, in byte order, and its manifest. f keeps neither. Like Each, it
// holds lock.
func (s *State) EachTag(lock sync.Locker, f func(name string, m *Manifest)) {
	lock.Lock()
	defer lock.Unlock()
	s.eachTag(lock, f)
}

// EachName calls yield with each digest that a manifest names.
func (s *State) EachName(digest ociregistry.Digest, yield func(ociregistry.Digest)) {
	var spare Manifest
	m := s.peek(digest, &spare)
	if m == nil {
		return
	}
	if !m.tableRead {
		for i := range m.blobs {
			yield(m.blobs[i].digest)
		}
		for i := range m.manifests {
			yield(m.manifests[i].digest)
		}
		return
	}
	r := s.base.record(int(m.number))
	d := s.base.details(&r)
	var text digestText
	for n, ok := d.names.next(); ok; n, ok = d.names.next() {
		yield(text.of(s.base.key(n.number), 1+d.names.blobs+d.names.manifests))
	}
}

// Names returns how often manifests that were read name a digest.
func (s *State) Names(digest ociregistry.Digest) int {
	if ref := s.refOf(digest); ref != nil {
		return ref.blobs + ref.manifests
	}
	return 0
}

// SubjectOf returns the subject of a manifest, or "".
func (s *State) SubjectOf(m *Manifest) ociregistry.Digest { return s.base.subjectOf(m) }

// IsWhole reports whether it is known of all manifests what they name.
func (s *State) IsWhole() bool {
	return !s.HasUnread() && len(s.obscure) == 0 && (s.base.whole || s.base.partial.len() == 0)
}

// MayBeGarbage reports whether something that is stored is a blob, and whether an index names
// it as a manifest, and it is not known to be one: it may have come later than the index.
func (s *State) MayBeGarbage(digest ociregistry.Digest) (blob, late bool) {
	if _, pending := s.blobs[digest]; pending || s.IsDeleted(digest) {
		return false, false
	}
	var spare Manifest
	if m := s.peek(digest, &spare); m != nil {
		return m.Blob, false
	}
	if ref, changed := s.refs[digest]; changed {
		return true, ref != nil && ref.manifests > 0
	}
	i, found := s.base.find(digest)
	return true, found && s.base.record(i).manifests > 0
}

// IsParent reports whether a manifest names something that is a manifest if it is there.
func (m *Manifest) IsParent() bool { return m.parent }
