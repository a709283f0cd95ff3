package ocifs

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// annotationBlob marks the entry of a manifest that was pushed as a blob, too.
const annotationBlob = "org.ocifs.blob"

// indexRest is what index.json has beside entries for manifests: it is written
// back as it was read.
type indexRest struct {
	fields  map[string]string // values as they are written
	strange []string          // entries of a kind that this package does not understand
}

// entry is what an element of index.json's manifests says.
type entry struct {
	MediaType   string             `json:"mediaType"`
	Digest      ociregistry.Digest `json:"digest"`
	Size        int64              `json:"size"`
	Annotations map[string]string  `json:"annotations"`

	tag string // instead of Annotations, if that has nothing else
}

// name returns the ref.name that the entry gives its manifest, or "".
func (e *entry) name() string {
	if e.tag != "" {
		return e.tag
	}
	return e.Annotations[ocispec.AnnotationRefName]
}

// parseIndex adds to the state what index.json says (image-spec, "OCI Image
// Layout Specification", section "index.json file").
func (s *state) parseIndex(text string) error {
	s.index.fields = make(map[string]string)
	return manifest.ReadIndex(text, s.addEntry, func(name, value string) {
		s.index.fields[strings.Clone(name)] = strings.Clone(value)
	})
}

// addEntry adds an entry. Of several for one tag the one that names it exactly
// counts, else the first; the others are kept beside it. What is kept of raw, a
// part of the whole index.json, is a copy.
func (s *state) addEntry(raw string) {
	e, ok := parseOwnEntry(raw)
	if !ok && json.Unmarshal([]byte(raw), &e) != nil || !ociref.IsValidDigest(string(e.Digest)) || e.Size < 0 {
		s.index.strange = append(s.index.strange, strings.Clone(raw))
		return
	}
	m := s.manifests[e.Digest]
	if m == nil {
		m = &stored{digest: cloneDigest(e.Digest), mediaType: ownMediaType(e.MediaType), size: e.Size}
		s.add(m)
		s.unsure[m] = struct{}{}
	}
	m.blob = m.blob || e.Annotations[annotationBlob] != ""
	name := e.name()
	tag := tagOf(name)
	if tag == "" {
		if isOurs(raw, m, "") {
			m.plain = true
		} else {
			m.raws = append(m.raws, strings.Clone(raw))
		}
		return
	}
	old, exact := s.tags[tag], name == tag
	if old != nil && (old.exact || !exact) {
		old.shadowed = append(old.shadowed, shadow{m.digest, strings.Clone(raw)})
		return
	}
	var shadowed []shadow
	if old != nil {
		shadowed = append(old.shadowed, shadow{old.manifest.digest, old.text()})
		s.removeTag(old)
	}
	s.setTag(tag, m)
	s.tags[tag].exact, s.tags[tag].shadowed = exact, shadowed
	if !isOurs(raw, m, tag) {
		s.tags[tag].raw = strings.Clone(raw)
	}
}

// parseOwnEntry reads an entry that is written as this package writes those of
// most tags. It is many times as fast as reading any entry, and an index.json may
// have 100,000 of them. It reads without looking closely, and believes what it
// has read if that is written in the same way.
func parseOwnEntry(raw string) (e entry, ok bool) {
	rest, ok1 := strings.CutPrefix(raw, `{"mediaType":"`)
	mediaType, rest, ok2 := strings.Cut(rest, `","digest":"`)
	digest, rest, ok3 := strings.Cut(rest, `","size":`)
	size, rest, ok4 := strings.Cut(rest, `,"annotations":{"`+ocispec.AnnotationRefName+`":"`)
	tag, ok5 := strings.CutSuffix(rest, `"}}`)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ociref.IsValidTag(tag) || !ociref.IsValidDigest(digest) {
		return entry{}, false
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return entry{}, false
	}
	m := stored{digest: ociregistry.Digest(digest), mediaType: mediaType, size: n}
	if !isOurs(raw, &m, tag) {
		return entry{}, false
	}
	return entry{MediaType: mediaType, Digest: m.digest, Size: n, tag: tag}, true
}

// isOurs reports whether an entry is as this package writes it.
func isOurs(raw string, m *stored, tag string) bool {
	var buf [512]byte
	return string(appendEntry(buf[:0], m, tag)) == raw
}

// tagOf returns the tag that a ref.name stands for, or "". What tools write there
// is a tag, or a reference that ends in one (image-spec leaves it open).
func tagOf(name string) string {
	if ociref.IsValidTag(name) {
		return name
	}
	name, _, _ = strings.Cut(name, "@")
	tag := name[strings.LastIndexByte(name, ':')+1:]
	if tag == name || !ociref.IsValidTag(tag) { // also when it is the port of a host
		return ""
	}
	return tag
}

// text returns the entry of a tag in index.json.
func (t *tag) text() string {
	if t.raw != "" {
		return t.raw
	}
	return string(appendEntry(nil, t.manifest, t.name))
}

// appendEntry appends the entry for a manifest and a tag, which may be empty.
func appendEntry(dst []byte, m *stored, tag string) []byte {
	dst = append(dst, `{"mediaType":`...)
	dst = appendJSON(dst, m.mediaType)
	dst = append(dst, `,"digest":"`...)
	dst = append(dst, m.digest...)
	dst = append(dst, `","size":`...)
	dst = strconv.AppendInt(dst, m.size, 10)
	if tag == "" && !m.blob {
		return append(dst, '}')
	}
	dst = append(dst, `,"annotations":{`...)
	if m.blob {
		dst = append(dst, `"`+annotationBlob+`":"true"`...)
	}
	if m.blob && tag != "" {
		dst = append(dst, ',')
	}
	if tag != "" {
		dst = append(dst, `"`+ocispec.AnnotationRefName+`":"`...)
		dst = append(dst, tag...)
		dst = append(dst, '"')
	}
	return append(dst, `}}`...)
}

func appendJSON(dst []byte, s string) []byte {
	if _, ok := manifest.Known(s); ok {
		return append(append(append(dst, '"'), s...), '"')
	}
	text, _ := json.Marshal(s) // of a string there is no error
	return append(dst, text...)
}

// writeIndex writes the text of an index.json that says what the state does. It
// has a line for each entry: tags in byte order, then manifests without one. It
// takes the state's lock for a part at a time. If the state is changed meanwhile,
// the text is of no use.
func (s *state) writeIndex(to io.Writer, mu *sync.RWMutex) error {
	mu.RLock()
	defer mu.RUnlock()
	w := indexWriter{Writer: bufio.NewWriterSize(to, 64<<10)}
	w.WriteString(`{"schemaVersion":2`)
	for _, name := range slices.Sorted(maps.Keys(s.index.fields)) {
		if name != "schemaVersion" {
			w.Write(append(appendJSON([]byte{','}, name), ':'))
			w.WriteString(s.index.fields[name])
		}
	}
	w.WriteString(`,"manifests":[`)
	shadowed := s.writeTags(&w, mu)
	for i, digest := range s.untagged() {
		if i%writeBatch == 0 {
			pause(mu)
		}
		m := s.manifests[digest]
		if m == nil {
			continue // it was just deleted
		}
		for _, raw := range m.raws {
			w.entry(nil, "", raw)
		}
		if m.plain || m.raws == nil && !shadowed[digest] {
			w.entry(m, "", "")
		}
	}
	for _, raw := range s.index.strange {
		w.entry(nil, "", raw)
	}
	w.WriteString("\n]}\n")
	return w.Flush()
}

// writeBatch is how many entries are written before others get the lock.
const writeBatch = 256

// pause lets those who want to change a state do it.
func pause(mu *sync.RWMutex) {
	mu.RUnlock()
	mu.RLock()
}

// writeTags writes the entries of tags. It returns the manifests that have one
// beside that of their tag.
func (s *state) writeTags(w *indexWriter, mu *sync.RWMutex) (shadowed map[ociregistry.Digest]bool) {
	var names []string
	for after := ""; ; after = names[len(names)-1] {
		pause(mu)
		names = s.tagNames.AppendAfter(names[:0], after, writeBatch)
		if len(names) == 0 {
			return shadowed
		}
		for _, name := range names {
			t := s.tags[name]
			w.entry(t.manifest, name, t.raw)
			for _, other := range t.shadowed {
				if s.manifests[other.digest] == nil {
					continue
				}
				w.entry(nil, "", other.raw)
				if shadowed == nil {
					shadowed = make(map[ociregistry.Digest]bool)
				}
				shadowed[other.digest] = true
			}
		}
	}
}

// indexWriter writes the entries of an index.json. Errors come with Flush.
type indexWriter struct {
	*bufio.Writer
	text  []byte
	comma bool
}

// entry writes an entry: raw, or that of a manifest and a tag.
func (w *indexWriter) entry(m *stored, tag, raw string) {
	w.text = w.text[:0]
	if w.comma {
		w.text = append(w.text, ',')
	}
	w.comma = true
	w.text = append(w.text, '\n')
	if raw != "" {
		w.text = append(w.text, raw...)
	} else {
		w.text = appendEntry(w.text, m, tag)
	}
	w.Write(w.text)
}

// untagged returns the manifests that have an entry without a tag.
func (s *state) untagged() []ociregistry.Digest {
	var digests []ociregistry.Digest
	for digest, m := range s.manifests {
		if m.plain || m.raws != nil || m.tags == nil && !m.implicit {
			digests = append(digests, digest)
		}
	}
	slices.Sort(digests)
	return digests
}

// emptyIndex is the index.json of a new layout, and emptyLayout its oci-layout.
const (
	emptyIndex  = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + "\n]}\n"
	emptyLayout = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`
)
