// Package repostate has the state of a repository and the operations that change it, in
// the form that the backends which keep a journal of operations share.
//
// A backend reads an index.json ([State.ParseIndex]), applies the operations of its journal
// since ([ParseOps], [State.Apply]), and answers calls from the [State]. Now and then it
// folds the journal: it stores what is pending ([State.Pending]), makes a new index.json of the
// old one and the state, and begins the journal anew ([State.ClearPending]). A State does not
// carry what other programs wrote into index.json. If there is such a thing
// ([State.IsForeign]), the fold reads the old text again, and merges the state into it
// ([State.MergeIndex]). Otherwise it needs the state alone ([State.WriteIndex]).
//
// The package knows nothing of files, objects and requests. That content is stored means
// that the backend has it by its digest, and not in the journal alone.
package repostate

import (
	"iter"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A State is what a backend knows of the content of a repository: what index.json says, and
// what the journal has added to it since. Stored blobs are not part of it: the backend knows
// them.
//
// A State is not safe for concurrent use: the backend has a lock. Methods that change
// nothing may run at the same time.
type State struct {
	base base // what the state began with; the maps have what is not in it, or hide a part of it

	manifests map[ociregistry.Digest]*Manifest // but those of base
	tags      map[string]*tag                  // nil for a tag of base that is no more
	tagNames  ordered.Set                      // the names of those in tags that are not nil
	unsure    int                              // how many manifests are: see Unsure

	// What came with operations since index.json was written: see pending.go.
	blobs     map[ociregistry.Digest]string
	unwritten []*Manifest
	stored    map[ociregistry.Digest]struct{}
	deleted   map[ociregistry.Digest]struct{}
	announced map[ociregistry.Digest]struct{} // see garbage.go

	// What manifests name: see named.go.
	unread    map[ociregistry.Digest]*Manifest
	obscure   map[ociregistry.Digest]*Manifest
	refs      map[ociregistry.Digest]*refCount // nil for what only base says is named
	referrers map[ociregistry.Digest]*ordered.Set
	sizes     map[ociregistry.Digest]int64 // of content of which manifests have said something else

	foreign bool // see IsForeign
	timed   bool // see HasTimes
	unknown int  // how many entries of index.json are not understood
}

// New returns the state of an empty repository.
func New() *State {
	return &State{
		base:      base{table: new(table)},
		manifests: make(map[ociregistry.Digest]*Manifest),
		tags:      make(map[string]*tag),
		blobs:     make(map[ociregistry.Digest]string),
		stored:    make(map[ociregistry.Digest]struct{}),
		deleted:   make(map[ociregistry.Digest]struct{}),
		announced: make(map[ociregistry.Digest]struct{}),
		unread:    make(map[ociregistry.Digest]*Manifest),
		obscure:   make(map[ociregistry.Digest]*Manifest),
		refs:      make(map[ociregistry.Digest]*refCount),
		referrers: make(map[ociregistry.Digest]*ordered.Set),
		sizes:     make(map[ociregistry.Digest]int64),
	}
}

// Inherit takes from an older state of the same repository what was found out about
// manifests, whose text never changes. Indexes must be read again: what they name may have
// come or gone.
func (s *State) Inherit(old *State) {
	var spare Manifest
	for digest, m := range s.manifests {
		o := old.peek(digest, &spare)
		if o == nil {
			continue
		}
		if m.MediaType == "" {
			m.MediaType, m.found = o.MediaType, true
		}
		if o.Present() {
			m.SetPresent(true)
			s.SetSure(m)
		}
		s.inheritInfo(m, old, o)
	}
	s.inheritStored(old)
	s.inheritUnread(old)
	s.InheritTimes(old)
	s.sizes = old.sizes
}

// inheritUnread takes what old knows of the unread manifests of the table that s begins with.
func (s *State) inheritUnread(old *State) {
	if s.base.unreadLeft == 0 {
		return
	}
	var spare Manifest
	for m := range s.Unread() {
		if o := old.peek(m.Digest, &spare); o != nil {
			s.inheritInfo(m, old, o)
		}
	}
}

// inheritInfo takes what o, a manifest of old, is known to name for m.
func (s *State) inheritInfo(m *Manifest, old *State, o *Manifest) {
	if !o.read || m.read || o.MediaType != m.MediaType {
		return
	}
	if blobs, manifests := old.base.namesOf(o); manifests == nil {
		m.blobs, m.subject, m.ArtifactType = blobs, old.base.subjectOf(o), o.ArtifactType
		s.countIn(m)
	}
}

// inheritStored notes which manifests of the table that s begins with old has found to be
// stored.
func (s *State) inheritStored(old *State) {
	s.base.stored = newBitSet(len(s.base.rows))
	note := func(i int) {
		if !s.base.stored.has(i) {
			s.base.stored.add(i)
			s.unsure--
		}
	}
	for _, o := range old.manifests {
		if i, found := s.base.findManifest(o.Digest); found && o.Present() {
			note(i)
		}
	}
	for i, j := 0, 0; i < len(s.base.rows) && j < len(old.base.rows); {
		switch c := compareKeys(s.base.key(i), old.base.key(j)); {
		case c < 0:
			i++
		case c > 0:
			j++
		default:
			if old.base.isStored(j) {
				note(i)
			}
			i, j = i+1, j+1
		}
	}
}

// IsEmpty reports whether the state has neither manifests nor pending blobs. There may be
// stored blobs.
func (s *State) IsEmpty() bool {
	return len(s.manifests)+s.base.rowsLeft == 0 && len(s.blobs) == 0
}

// Manifest returns a manifest, or nil if the state has none of that digest.
func (s *State) Manifest(digest ociregistry.Digest) *Manifest {
	if m := s.manifests[digest]; m != nil || len(s.base.rows) == 0 {
		return m
	}
	if i, found := s.base.findManifest(digest); found {
		return s.base.row(i)
	}
	return nil
}

// peek returns a manifest as Manifest does, or writes it into spare: see [base.peek].
func (s *State) peek(digest ociregistry.Digest, spare *Manifest) *Manifest {
	if m := s.manifests[digest]; m != nil || len(s.base.rows) == 0 {
		return m
	}
	i, found := s.base.findManifest(digest)
	if !found {
		return nil
	}
	m := s.base.peek(i, spare)
	if m == spare {
		m.Digest = digest
	}
	return m
}

// has reports whether m is a manifest of the state: it was not removed or replaced.
func (s *State) has(m *Manifest) bool {
	if m.inTable {
		return int(m.number) < len(s.base.rows) && s.base.rows[m.number].Load() == m
	}
	return s.manifests[m.Digest] == m
}

// Manifests returns all manifests, in no order.
func (s *State) Manifests() []*Manifest {
	manifests := make([]*Manifest, 0, len(s.manifests)+s.base.rowsLeft)
	for _, m := range s.manifests {
		manifests = append(manifests, m)
	}
	for i := range s.base.rows {
		if m := s.base.row(i); m != nil {
			manifests = append(manifests, m)
		}
	}
	return manifests
}

// Unsure returns, for each of the given tags, the manifest that it points at if that is
// known from index.json alone, else nil. Another program may have written an entry for a
// manifest that is not stored. If there is no such manifest in the whole state, the result
// is nil. All the tags must exist.
func (s *State) Unsure(tags []string) []*Manifest {
	if s.unsure == 0 {
		return nil
	}
	manifests := make([]*Manifest, len(tags))
	for i, name := range tags {
		if m := s.Tag(name); m.unsure {
			manifests[i] = m
		}
	}
	return manifests
}

// SetSure notes that the text of m was found, if it is still there.
func (s *State) SetSure(m *Manifest) {
	if m.unsure && (m.Text != "" || m.Present()) && s.has(m) {
		m.unsure = false
		s.unsure--
	}
}

// SetUnsure notes that m may not be stored any more.
func (s *State) SetUnsure(m *Manifest) {
	m.SetPresent(false)
	if !m.unsure && s.has(m) {
		m.unsure = true
		s.unsure++
	}
}

// Add adds a manifest that the state does not have. It has no tags, and what it names is
// unknown until [State.SetInfo] says it.
func (s *State) Add(m *Manifest) {
	s.manifests[m.Digest] = m
	s.unread[m.Digest] = m
	if m.Text != "" {
		s.unwritten = append(s.unwritten, m)
	}
	delete(s.deleted, m.Digest)
}

// Untyped returns the manifests that were not read yet and whose media type is unknown, in no
// order.
func (s *State) Untyped() iter.Seq[*Manifest] {
	return func(yield func(*Manifest) bool) {
		for _, m := range s.unread {
			if m.MediaType == "" && !yield(m) {
				return
			}
		}
		for i := range s.base.unread.len() {
			number := int(s.base.unread.at(i))
			if s.base.record(number).mediaType != "" {
				continue
			}
			if m := s.base.row(number); m != nil && m.tableUnread && m.MediaType == "" && !yield(m) {
				return
			}
		}
	}
}

// SetMediaType sets the media type that the content of a manifest has, for one of which
// index.json has none. It is for a State that nobody else knows yet.
func (s *State) SetMediaType(m *Manifest, mediaType string) {
	m.MediaType, m.found, m.changed = manifest.OwnMediaType(mediaType), true, true
}

// remove removes a manifest and its tags.
func (s *State) remove(m *Manifest) {
	for _, tag := range s.TagsOf(m) {
		s.removeTag(tag)
	}
	if m.unsure {
		s.unsure--
	}
	s.takeUnread(m)
	delete(s.obscure, m.Digest)
	if m.inTable {
		s.base.drop(m)
	} else {
		delete(s.manifests, m.Digest)
	}
	if m.read {
		s.countOut(m)
	}
}

// OnlyNamedBy returns the manifests that are in the state only because m, an index, names
// them.
func (s *State) OnlyNamedBy(m *Manifest) []*Manifest {
	var children []*Manifest
	_, manifests := s.base.namesOf(m)
	for _, c := range manifests {
		if child := s.Manifest(c.digest); child != nil && child.Implicit {
			children = append(children, child)
		}
	}
	return children
}
