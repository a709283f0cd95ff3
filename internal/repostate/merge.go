package repostate

import (
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// MergeIndex writes, like [State.WriteIndex], the text of an index.json that says what the
// state does. old is the text that [State.ParseIndex] has read. What is still right of it is
// kept as it is written, in its order:
//
//   - Fields and entries that this package does not understand.
//   - The entries of a tag, if it still points at the same manifest. Otherwise all of them
//     go, also those that did not count.
//   - The entries without a tag of the manifests that are still there.
//
// An entry that says something else of its manifest than the state is written anew. New
// entries follow the old ones.
//
// Errors: those of the writer, and one that says that old is not an index.json.
func (s *State) MergeIndex(to io.Writer, old string, lock sync.Locker) error {
	m := merge{
		state:       s,
		indexWriter: newIndexWriter(to),
		said:        make(map[ociregistry.Digest]said),
		anew:        make(map[string]struct{}),
	}
	if err := m.read(old); err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	m.writeHead()
	for i := range m.entries {
		if i%writeBatch == 0 {
			pause(lock)
		}
		m.writeOld(&m.entries[i])
	}
	s.eachTag(lock, func(name string, now *Manifest) {
		if !m.isKept(name) {
			m.writeNew(now, name)
		}
	})
	s.each(s.list(m.lacks), lock, func(now *Manifest) { m.writeNew(now, "") })
	return m.end()
}

// merge merges a state into an index.json.
type merge struct {
	state *State
	*indexWriter

	// The old text, and what it says.
	fields  map[string]string
	entries []oldEntry
	before  *State

	said map[ociregistry.Digest]said // what was written of manifests
	anew map[string]struct{}         // tags whose entry was written anew
}

// oldEntry is an entry of the old text.
type oldEntry struct {
	raw        string
	understood bool
	entry
}

// said is what entries say of a manifest.
type said struct {
	entry bool // there is one
	blob  bool // that it was pushed as a blob, too
}

// read reads the old text.
func (m *merge) read(old string) error {
	m.fields, m.before = make(map[string]string), New()
	p := indexParser{state: m.before}
	return manifest.ReadIndex(old, func(raw string) {
		e, ok := parseEntry(raw)
		p.add(&e, ok)
		m.entries = append(m.entries, oldEntry{raw, ok, e})
	}, func(name, value string) { m.fields[name] = value })
}

func (m *merge) writeHead() {
	m.WriteString(`{"schemaVersion":2`)
	for _, name := range slices.Sorted(maps.Keys(m.fields)) {
		if name != "schemaVersion" {
			m.Write(append(appendJSON([]byte{','}, name), ':'))
			m.WriteString(m.fields[name])
		}
	}
	m.WriteString(`,"manifests":[`)
}

// writeOld writes an old entry as it is, or anew, or not at all.
func (m *merge) writeOld(e *oldEntry) {
	if !e.understood {
		m.writeRaw(e.raw)
		return
	}
	now := m.state.Manifest(e.Digest)
	switch {
	case now == nil || e.tag != "" && !m.isKept(e.tag): // it goes
	case e.tag == "" && e.own && m.isNewlyTagged(now): // it has another entry now
	case m.isStale(e, now):
		_, twice := m.anew[e.tag]
		if m.state.Tag(e.tag) == now && !twice {
			m.anew[e.tag] = struct{}{}
			m.writeNew(now, e.tag)
		}
	default:
		m.writeRaw(e.raw)
		m.note(e.Digest, e.blob)
	}
}

// writeNew writes an entry for a manifest and a tag, which may be empty.
func (m *merge) writeNew(now *Manifest, tag string) {
	m.writeEntry(now, tag)
	m.note(now.Digest, now.Blob)
}

func (m *merge) note(digest ociregistry.Digest, blob bool) {
	m.said[digest] = said{true, blob || m.said[digest].blob}
}

// isKept reports whether a tag points at what it did before.
func (m *merge) isKept(tag string) bool {
	was, now := m.before.Tag(tag), m.state.Tag(tag)
	return was != nil && now != nil && was.Digest == now.Digest
}

// isNewlyTagged reports whether a manifest has a tag that it did not have before.
func (m *merge) isNewlyTagged(now *Manifest) bool {
	return slices.ContainsFunc(m.state.TagsOf(now), func(tag string) bool { return !m.isKept(tag) })
}

// isStale reports whether an entry says something else of its manifest than the state. Of
// several entries the first tells the media type and the size.
func (m *merge) isStale(e *oldEntry, now *Manifest) bool {
	was := m.before.Manifest(e.Digest)
	if was.Blob != now.Blob || !now.agrees(was.MediaType, was.Size) {
		return true
	}
	return !m.said[e.Digest].entry && !now.agrees(e.MediaType, e.Size)
}

// agrees reports whether an entry with this media type and size is right for m.
func (m *Manifest) agrees(mediaType string, size int64) bool {
	return size == m.Size && (mediaType == m.MediaType || mediaType == "" && m.found)
}

// lacks reports whether something of a manifest was not said that must be.
func (m *merge) lacks(now *Manifest) bool {
	said := m.said[now.Digest]
	return !said.entry && !now.Implicit || said.entry && now.Blob && !said.blob
}
