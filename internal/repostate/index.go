package repostate

import (
	"encoding/json"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// annotationBlob marks the entry of a manifest that was pushed as a blob, too.
const annotationBlob = "org.ocifs.blob"

// HasUnknownEntries reports whether index.json has entries that this package does not
// understand. A repository that has some is not empty.
func (s *State) HasUnknownEntries() bool { return s.unknown > 0 }

// IsForeign reports whether the index.json that was parsed has anything that
// [State.WriteIndex] does not write. A fold then reads it again, and calls
// [State.MergeIndex].
func (s *State) IsForeign() bool { return s.foreign }

// entry is what an element of index.json's manifests says.
type entry struct {
	MediaType   string             `json:"mediaType"`
	Digest      ociregistry.Digest `json:"digest"`
	Size        int64              `json:"size"`
	Annotations map[string]string  `json:"annotations"`

	tag   string // for which it stands, or ""
	exact bool   // its name is the tag, and not a reference that ends in it
	blob  bool   // its manifest was pushed as a blob, too
	own   bool   // it is as this package writes it
}

// ParseIndex adds to the state, which must be new, what the text of an index.json says
// (image-spec, "OCI Image Layout Specification", section "index.json file"). It keeps no part
// of text. Entries that it does not understand are not an error: [State.MergeIndex] keeps
// them. If text is not an index.json, ParseIndex returns an error, and the state is of
// no use.
func (s *State) ParseIndex(text string) error {
	p := indexParser{state: s}
	err := manifest.ReadIndex(text, func(raw string) {
		e, ok := parseEntry(raw)
		p.add(&e, ok)
	}, p.addField)
	s.foreign = s.foreign || !p.typed
	return err
}

// indexParser adds what an index.json says to a state.
type indexParser struct {
	state   *State
	inexact map[string]struct{} // tags that no entry names exactly so far
	typed   bool                // the index.json has the media type that this package writes
}

func (p *indexParser) addField(name, value string) {
	switch name {
	case "schemaVersion":
	case "mediaType":
		p.typed = value == `"`+ocispec.MediaTypeImageIndex+`"`
	default:
		p.state.foreign = true
	}
}

// add adds an entry, unless it was not understood. Of several for one tag the one that
// names it exactly counts, else the first.
func (p *indexParser) add(e *entry, understood bool) {
	s := p.state
	if !understood {
		s.unknown++
		s.foreign = true
		return
	}
	m := s.manifests[e.Digest]
	if m == nil {
		m = NewManifest(e.Digest, e.MediaType, e.Size)
		m.Blob = e.blob
		s.Add(m)
		m.unsure = true
		s.unsure++
	} else if e.tag == "" || !m.IsTagged() || e.MediaType != m.MediaType || e.Size != m.Size || e.blob != m.Blob {
		s.foreign = true
	}
	s.foreign = s.foreign || !e.own
	m.Blob = m.Blob || e.blob
	if e.tag != "" {
		p.addTag(e.tag, e.exact, m)
	}
}

func (p *indexParser) addTag(tag string, exact bool, m *Manifest) {
	s := p.state
	if s.tags[tag] != nil {
		s.foreign = true
		if _, inexact := p.inexact[tag]; !inexact || !exact {
			return
		}
	}
	s.setTag(tag, m, 0)
	switch {
	case exact:
		delete(p.inexact, tag)
	case p.inexact == nil:
		p.inexact = map[string]struct{}{tag: {}}
	default:
		p.inexact[tag] = struct{}{}
	}
}

// parseEntry reads an entry, and reports whether it understands it.
func parseEntry(raw string) (e entry, ok bool) {
	if e, ok = parseOwnEntry(raw); !ok {
		if json.Unmarshal([]byte(raw), &e) != nil {
			return entry{}, false
		}
		name := e.Annotations[ocispec.AnnotationRefName]
		e.tag = tagOf(name)
		e.exact = e.tag == name
		e.blob = e.Annotations[annotationBlob] != ""
		e.Annotations = nil
		e.own = isOurs(raw, &Manifest{Digest: e.Digest, MediaType: e.MediaType, Size: e.Size, Blob: e.blob}, e.tag)
	}
	return e, ociref.IsValidDigest(string(e.Digest)) && e.Size >= 0
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
	m := Manifest{Digest: ociregistry.Digest(digest), MediaType: mediaType, Size: n}
	if !isOurs(raw, &m, tag) {
		return entry{}, false
	}
	return entry{MediaType: mediaType, Digest: m.Digest, Size: n, tag: tag, exact: true, own: true}, true
}

// isOurs reports whether an entry is as this package writes it.
func isOurs(raw string, m *Manifest, tag string) bool {
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

// appendEntry appends the entry for a manifest and a tag, which may be empty.
func appendEntry(dst []byte, m *Manifest, tag string) []byte {
	dst = append(dst, `{"mediaType":`...)
	dst = appendJSON(dst, m.MediaType)
	dst = append(dst, `,"digest":"`...)
	dst = append(dst, m.Digest...)
	dst = append(dst, `","size":`...)
	dst = strconv.AppendInt(dst, m.Size, 10)
	if tag == "" && !m.Blob {
		return append(dst, '}')
	}
	dst = append(dst, `,"annotations":{`...)
	if m.Blob {
		dst = append(dst, `"`+annotationBlob+`":"true"`...)
	}
	if m.Blob && tag != "" {
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

// EmptyIndex is the text of an index.json without manifests.
const EmptyIndex = ownHead + ownEnd

const (
	ownHead = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[`
	ownEnd  = "\n]}\n"
)
