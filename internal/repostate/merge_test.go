package repostate

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// fold returns the index.json that replaces old, as a fold does.
func fold(t testing.TB, old string, s *State) string {
	t.Helper()
	var text strings.Builder
	if s.IsForeign() {
		qt.Assert(t, qt.IsNil(s.MergeIndex(&text, old, new(sync.Mutex))))
	} else {
		qt.Assert(t, qt.IsNil(s.WriteIndex(&text, new(sync.Mutex))))
	}
	return text.String()
}

// TestMergeIndex_IsWhatItShouldBe merges random operations into random texts, and compares
// the result with what a plain model of both makes of them.
func TestMergeIndex_IsWhatItShouldBe(t *testing.T) {
	t.Parallel()
	foreign := 0
	for seed := range uint64(4_000) {
		r := rand.New(rand.NewPCG(seed, 1))
		old := randomIndex(r)
		ops := randomOps(r)
		s, before, after := New(), readModel(old), readModel(old)
		qt.Assert(t, qt.IsNil(s.ParseIndex(old)))
		for i := range ops {
			s.Apply(&ops[i])
			after.apply(&ops[i])
		}
		got := fold(t, old, s)
		comment := qt.Commentf("seed %d: %s\n%+v\n%s", seed, old, ops, got)
		if s.IsForeign() {
			foreign++
			qt.Assert(t, qt.DeepEquals(readModel(got).entries, mergeNaively(before, after)), comment)
		}
		// What is read again is what the state says, and folding it changes nothing.
		again := readModel(got)
		qt.Assert(t, qt.DeepEquals(again.manifests, after.manifests), comment)
		qt.Assert(t, qt.DeepEquals(again.tags, after.tags), comment)
		next := New()
		qt.Assert(t, qt.IsNil(next.ParseIndex(got)))
		qt.Assert(t, qt.ContentEquals(readModel(fold(t, got, next)).entries, again.entries), comment)
		qt.Assert(t, qt.Equals(next.HasUnknownEntries(), s.HasUnknownEntries()), comment)
	}
	qt.Check(t, qt.IsTrue(1_000 < foreign && foreign < 3_900), qt.Commentf("%d", foreign))
}

// An entry without a media type stays as it is while its manifest has the type that its
// content says, and is written anew when it was pushed with another.
func TestMergeIndex_PushTellsTheMediaType(t *testing.T) {
	t.Parallel()
	entry := `{"digest":"` + string(digestA) + `","size":4}`
	old := ownHead + entry + ownEnd
	for _, test := range []struct{ pushed, want string }{
		{"", entry},
		{"text/found", entry},
		{"text/other", `{"mediaType":"text/other","digest":"` + string(digestA) + `","size":4}`},
	} {
		s, inherits := New(), New()
		qt.Assert(t, qt.IsNil(s.ParseIndex(old)))
		qt.Assert(t, qt.IsNil(inherits.ParseIndex(old)))
		s.SetMediaType(s.Manifest(digestA), "text/found")
		inherits.Inherit(s)
		for _, s := range []*State{s, inherits} {
			if test.pushed != "" {
				s.Apply(&Op{Kind: PutManifest, Digest: digestA, MediaType: test.pushed, Size: 4})
			}
			qt.Check(t, qt.DeepEquals(readModel(fold(t, old, s)).entries, []string{test.want}), qt.Commentf("%s", test.pushed))
		}
	}
}

func TestMergeIndex_RefusesWhatIsNoIndex(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.IsNotNil(New().MergeIndex(io.Discard, "[]", new(sync.Mutex))))
}

// known is what a model knows of a manifest.
type known struct {
	MediaType string
	Size      int64
	Blob      bool
}

// model is a plain model of a repository.
type model struct {
	entries   []string // those of the index.json that it was read from
	manifests map[string]known
	tags      map[string]string
}

// modelEntry is an entry as a model sees it.
type modelEntry struct {
	Digest      string            `json:"digest"`
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

func readEntry(raw string) (e modelEntry, understood bool) {
	if err := json.Unmarshal([]byte(raw), &e); err != nil {
		panic(err)
	}
	return e, strings.HasPrefix(e.Digest, "sha256:")
}

func (e modelEntry) tag() string {
	name := e.Annotations[ocispec.AnnotationRefName]
	return name[strings.LastIndex(name, ":")+1:]
}

func (e modelEntry) isExact() bool { return e.tag() == e.Annotations[ocispec.AnnotationRefName] }

func (e modelEntry) isBlob() bool { return e.Annotations[annotationBlob] != "" }

func readModel(text string) *model {
	m := &model{manifests: make(map[string]known), tags: make(map[string]string)}
	var index struct{ Manifests []json.RawMessage }
	if err := json.Unmarshal([]byte(text), &index); err != nil {
		panic(err)
	}
	exact := make(map[string]bool)
	for _, raw := range index.Manifests {
		m.entries = append(m.entries, string(raw))
		e, understood := readEntry(string(raw))
		if !understood {
			continue
		}
		k, there := m.manifests[e.Digest]
		if !there {
			k = known{e.MediaType, e.Size, false}
		}
		k.Blob = k.Blob || e.isBlob()
		m.manifests[e.Digest] = k
		if _, there := m.tags[e.tag()]; e.tag() != "" && (!there || e.isExact() && !exact[e.tag()]) {
			m.tags[e.tag()] = e.Digest
			exact[e.tag()] = e.isExact()
		}
	}
	return m
}

func (m *model) apply(o *Op) {
	d := string(o.Digest)
	old, there := m.manifests[d]
	switch o.Kind {
	case PutManifest:
		m.manifests[d] = known{o.MediaType, o.Size, o.Blob || old.Blob}
		for _, tag := range o.Tags {
			m.tags[tag] = d
		}
	case DeleteTags:
		for _, tag := range o.Tags {
			delete(m.tags, tag)
		}
	case DeleteManifest:
		delete(m.manifests, d)
		maps.DeleteFunc(m.tags, func(_, target string) bool { return target == d })
	case PutBlob:
		if there {
			old.Blob = true
			m.manifests[d] = old
		}
	}
}

// ownEntry returns the entry that this package writes.
func (m *model) ownEntry(d, tag string) string {
	k := m.manifests[d]
	return string(appendEntry(nil, &Manifest{Digest: ociregistry.Digest(d), MediaType: k.MediaType, Size: k.Size, Blob: k.Blob}, tag))
}

// mergeNaively returns the entries that the index.json of before has once the state is after.
func mergeNaively(before, after *model) []string {
	var out []string
	has := func(d string, f func(modelEntry) bool) bool {
		return slices.ContainsFunc(out, func(raw string) bool {
			e, understood := readEntry(raw)
			return understood && e.Digest == d && f(e)
		})
	}
	anything := func(modelEntry) bool { return true }
	moved := func(tag string) bool { return after.tags[tag] != before.tags[tag] }
	for _, raw := range before.entries {
		e, understood := readEntry(raw)
		now, there := after.manifests[e.Digest]
		wrong := now != before.manifests[e.Digest] || !has(e.Digest, anything) && (e.MediaType != now.MediaType || e.Size != now.Size)
		newlyTagged := false
		for tag, d := range after.tags {
			newlyTagged = newlyTagged || d == e.Digest && moved(tag)
		}
		own := after.ownEntry(e.Digest, e.tag())
		switch {
		case !understood:
			out = append(out, raw)
		case !there, moved(e.tag()):
		case wrong:
			if e.tag() != "" && after.tags[e.tag()] == e.Digest && !slices.Contains(out, own) {
				out = append(out, own)
			}
		case e.tag() == "" && newlyTagged && raw == string(appendEntry(nil, &Manifest{Digest: ociregistry.Digest(e.Digest), MediaType: e.MediaType, Size: e.Size, Blob: e.isBlob()}, "")):
		default:
			out = append(out, raw)
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(after.tags)) {
		if moved(tag) {
			out = append(out, after.ownEntry(after.tags[tag], tag))
		}
	}
	for _, d := range slices.Sorted(maps.Keys(after.manifests)) {
		if !has(d, anything) || after.manifests[d].Blob && !has(d, modelEntry.isBlob) {
			out = append(out, after.ownEntry(d, ""))
		}
	}
	return out
}

// The random texts and operations are about few things, so that they meet.
var (
	someDigests = []ociregistry.Digest{digestA, digestB, digestC}
	someTags    = []string{"v1", "v2", "v3"}
	someTypes   = []string{"t/a", "t/a", "t/a", "t/b"}
	someSizes   = []int64{4, 4, 4, 5}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomIndex(r *rand.Rand) string {
	head := pick(r, []string{ownHead, ownHead, ownHead, `{"manifests":[`, `{"x":{"a": 1},"manifests":[`})
	var entries []string
	if r.IntN(3) == 0 {
		entries = randomOwnEntries(r)
	} else {
		for range r.IntN(6) {
			entries = append(entries, randomEntry(r))
		}
	}
	return head + strings.Join(entries, ",") + "]}"
}

func randomManifest(r *rand.Rand, d ociregistry.Digest) *Manifest {
	return &Manifest{Digest: d, MediaType: pick(r, someTypes), Size: pick(r, someSizes), Blob: r.IntN(4) == 0}
}

// randomOwnEntries returns entries as this package writes them.
func randomOwnEntries(r *rand.Rand) (entries []string) {
	tags := slices.Clone(someTags)
	for _, d := range someDigests {
		m, n := randomManifest(r, d), r.IntN(len(tags)+1)
		for _, tag := range tags[:n] {
			entries = append(entries, string(appendEntry(nil, m, tag)))
		}
		if n == 0 {
			entries = append(entries, string(appendEntry(nil, m, "")))
		}
		tags = tags[n:]
	}
	return entries
}

// randomEntry returns an entry that any program might have written.
func randomEntry(r *rand.Rand) string {
	m := randomManifest(r, pick(r, someDigests))
	name := ""
	if r.IntN(4) > 0 {
		name = pick(r, []string{"", "", "app:"}) + pick(r, someTags)
	}
	text := string(appendEntry(nil, m, name))
	switch r.IntN(6) {
	case 0:
		text = strings.Replace(text, ":", ": ", 1)
	case 1:
		text = strings.Replace(text, "{", `{"x":[1, 2],`, 1)
	case 2:
		if r.IntN(2) == 0 {
			text = fmt.Sprintf(`{"digest":"md5:%d"}`, r.IntN(3))
		}
	}
	return text
}

func randomOps(r *rand.Rand) (ops []Op) {
	for range r.IntN(5) {
		o := Op{Kind: pick(r, []Kind{PutManifest, PutManifest, DeleteTags, DeleteManifest, PutBlob}), Digest: pick(r, someDigests)}
		m := randomManifest(r, o.Digest)
		switch o.Kind {
		case PutManifest:
			o.MediaType, o.Size, o.Blob, o.Text = m.MediaType, m.Size, m.Blob, "text"
		case PutBlob:
			o.Text = "text"
		}
		if o.Kind == PutManifest && r.IntN(3) > 0 || o.Kind == DeleteTags {
			o.Tags = []string{pick(r, someTags)}
		}
		ops = append(ops, o)
	}
	return ops
}
