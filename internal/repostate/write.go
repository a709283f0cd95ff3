package repostate

import (
	"bufio"
	"io"
	"slices"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// WriteIndex writes the text of an index.json that says what the state does. It has a line
// for each entry: tags in byte order, then manifests without one.
//
// WriteIndex holds lock, for one who reads the state, for a part at a time. If the state is
// changed in between, the text is of no use.
func (s *State) WriteIndex(to io.Writer, lock sync.Locker) error {
	lock.Lock()
	defer lock.Unlock()
	w := newIndexWriter(to)
	w.WriteString(ownHead)
	s.eachTag(lock, func(name string, m *Manifest) { w.writeEntry(m, name) })
	s.each(s.untagged(), lock, func(m *Manifest) { w.writeEntry(m, "") })
	return w.end()
}

// writeBatch is how many entries are written before others get the lock.
const writeBatch = 256

// pause lets those who want to change a state do it.
func pause(lock sync.Locker) {
	lock.Unlock()
	lock.Lock()
}

// eachTag calls f with each tag, in byte order, and its manifest. f keeps neither.
func (s *State) eachTag(lock sync.Locker, f func(name string, m *Manifest)) {
	var tags []someTag
	var spare Manifest
	for after := ""; ; after = tags[len(tags)-1].name {
		pause(lock)
		tags = s.someTags(tags[:0], after, writeBatch)
		if len(tags) == 0 {
			return
		}
		var digests digestText
		for _, t := range tags {
			if t.number < 0 {
				f(t.name, s.tags[t.name].manifest)
				continue
			}
			i := int(s.base.targets.at(t.number))
			m := s.base.peek(i, &spare)
			if m == &spare {
				m.Digest = digests.of(s.base.key(i), len(tags))
			}
			f(t.name, m)
		}
	}
}

// untagged returns the digests of the manifests that have an entry without a tag, in byte
// order.
func (s *State) untagged() []ociregistry.Digest {
	var digests []ociregistry.Digest
	for digest, m := range s.manifests {
		if !m.IsTagged() && !m.Implicit {
			digests = append(digests, digest)
		}
	}
	var spare Manifest
	var text digestText
	for i := range s.base.rows {
		if m := s.base.peek(i, &spare); m != nil && !m.IsTagged() && !m.Implicit {
			digests = append(digests, text.of(s.base.key(i), writeBatch))
		}
	}
	slices.Sort(digests)
	return digests
}

// list returns the digests of the manifests for which f reports true, in byte order. f does
// not keep them.
func (s *State) list(f func(m *Manifest) bool) []ociregistry.Digest {
	var digests []ociregistry.Digest
	for digest, m := range s.manifests {
		if f(m) {
			digests = append(digests, digest)
		}
	}
	var spare Manifest
	for i := range s.base.rows {
		m := s.base.peek(i, &spare)
		if m == &spare {
			m.Digest = s.base.digest(i)
		}
		if m != nil && f(m) {
			digests = append(digests, m.Digest)
		}
	}
	slices.Sort(digests)
	return digests
}

// each calls f with those of the manifests that are still there. f does not keep them.
func (s *State) each(digests []ociregistry.Digest, lock sync.Locker, f func(m *Manifest)) {
	var spare Manifest
	for i, digest := range digests {
		if i%writeBatch == 0 {
			pause(lock)
		}
		if m := s.peek(digest, &spare); m != nil {
			f(m)
		}
	}
}

// indexWriter writes an index.json. Errors come with end.
type indexWriter struct {
	*bufio.Writer
	buf   []byte
	comma bool
}

func newIndexWriter(to io.Writer) *indexWriter {
	return &indexWriter{Writer: bufio.NewWriterSize(to, 64<<10)}
}

// writeEntry writes the entry for a manifest and a tag, which may be empty.
func (w *indexWriter) writeEntry(m *Manifest, tag string) {
	w.beginEntry()
	w.buf = appendEntry(w.buf[:0], m, tag)
	w.Write(w.buf)
}

// writeRaw writes an entry as it is.
func (w *indexWriter) writeRaw(raw string) {
	w.beginEntry()
	w.WriteString(raw)
}

func (w *indexWriter) beginEntry() {
	if w.comma {
		w.WriteByte(',')
	}
	w.comma = true
	w.WriteByte('\n')
}

func (w *indexWriter) end() error {
	w.WriteString(ownEnd)
	return w.Flush()
}
