package repostate

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

var (
	digestA = digest.FromString("a")
	digestB = digest.FromString("b")
	digestC = digest.FromString("c")
)

// put is the operation of a push of a manifest.
func put(d ociregistry.Digest, text string, tags ...string) Op {
	return Op{Kind: PutManifest, Digest: d, MediaType: ocispec.MediaTypeImageManifest, Size: 4, Text: text, Tags: tags}
}

// index returns the entries of the index.json that WriteIndex writes.
func index(t testing.TB, s *State) []string {
	t.Helper()
	var text strings.Builder
	qt.Assert(t, qt.IsNil(s.WriteIndex(&text, new(sync.Mutex))))
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n]}\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], ",")
	}
	return lines[1:]
}

func pending(s *State) []Content {
	return slices.SortedFunc(s.Pending(), func(a, b Content) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
}

// Operations can be applied again to a state that has them, as after a fold that has written
// index.json and has not begun the journal anew.
func TestState_OperationsCanBeAppliedAgain(t *testing.T) {
	t.Parallel()
	retyped := put(digestA, "text", "v3")
	retyped.MediaType = "text/plain"
	for _, test := range []struct {
		name string
		ops  []Op
	}{
		{"PushAndMoveTag", []Op{put(digestA, "text", "v1"), put(digestB, "text", "v1", "v2"), put(digestA, "", "v2")}},
		{"DeleteTag", []Op{put(digestA, "text", "v1", "v2"), {Kind: DeleteTags, Tags: []string{"v1", "none"}}}},
		{"DeleteManifest", []Op{put(digestA, "text", "v1"), {Kind: DeleteManifest, Digest: digestA}}},
		{"DeleteAndPushAgain", []Op{put(digestA, "text", "v1"), {Kind: DeleteManifest, Digest: digestA}, put(digestA, "text", "v2")}},
		{"OtherMediaType", []Op{put(digestA, "text", "v1"), retyped}},
		{"BlobAndManifest", []Op{put(digestA, "text", "v1"), {Kind: PutBlob, Digest: digestA, Text: "text"}, {Kind: DeleteManifest, Digest: digestA}}},
		{"Blob", []Op{{Kind: PutBlob, Digest: digestA, Text: "text"}, {Kind: DeleteBlob, Digest: digestA}, {Kind: PutBlob, Digest: digestB, Text: "text"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := New()
			qt.Assert(t, qt.IsNil(s.ApplyRecord(string(AppendOps(nil, test.ops)))))
			entries, contents, deleted := index(t, s), pending(s), slices.Sorted(s.Deleted())

			again := New()
			qt.Assert(t, qt.IsNil(again.ParseIndex(`{"manifests":[`+strings.Join(entries, ",")+`]}`)))
			for range 2 {
				qt.Assert(t, qt.IsNil(again.ApplyRecord(string(AppendOps(nil, test.ops)))))
				qt.Check(t, qt.DeepEquals(index(t, again), entries))
				qt.Check(t, qt.DeepEquals(pending(again), contents))
				qt.Check(t, qt.DeepEquals(slices.Sorted(again.Deleted()), deleted))
			}
		})
	}
}

// A manifest that is deleted or replaced before the fold is not stored, and one that comes
// back is stored once.
func TestState_PendingHasEachManifestOnce(t *testing.T) {
	t.Parallel()
	s := New()
	pushed, retyped := put(digestA, "text", "v1"), put(digestA, "text", "v1")
	retyped.MediaType = "text/plain"
	for _, o := range []Op{pushed, retyped, {Kind: DeleteManifest, Digest: digestA}} {
		s.Apply(&o)
	}
	qt.Check(t, qt.HasLen(slices.Collect(s.Unwritten()), 0))
	qt.Check(t, qt.HasLen(pending(s), 0))
	s.Apply(&pushed)
	qt.Check(t, qt.HasLen(slices.Collect(s.Unwritten()), 1))
	qt.Check(t, qt.DeepEquals(pending(s), []Content{{digestA, "text", false}}))
}

func TestState_MalformedRecordChangesNothing(t *testing.T) {
	t.Parallel()
	s := New()
	payload := AppendOps(nil, []Op{put(digestA, "text", "v1")})
	qt.Check(t, qt.ErrorIs(s.ApplyRecord(string(payload)+"?"), ErrMalformed))
	qt.Check(t, qt.IsTrue(s.IsEmpty()))
}

func TestState_KnowsWhatIsInUse(t *testing.T) {
	t.Parallel()
	s := New()
	first, second := put(digestA, "first"), put(digestB, "second")
	first.Info = &manifest.Info{Blobs: []manifest.Ref{{Digest: digestC, Size: 1}}, Subject: digestB, ArtifactType: "a/b"}
	second.Info = &manifest.Info{Manifests: []manifest.Ref{{Digest: digestC, Size: 2}, {Digest: digestA, Size: 5}}}
	s.Apply(&first)
	qt.Check(t, qt.IsTrue(s.IsNamed(digestC)))
	qt.Check(t, qt.IsFalse(s.IsNamedAsManifest(digestC)))
	qt.Check(t, qt.Equals(s.NamedSize(digestC), 1))
	qt.Check(t, qt.Equals(s.NamedSize(digestA), -1))
	qt.Check(t, qt.DeepEquals(s.AppendReferrers(nil, digestB, "", 10), []string{string(digestA)}))
	qt.Check(t, qt.HasLen(s.AppendReferrers(nil, digestB, string(digestA), 10), 0))

	s.Apply(&second)
	qt.Check(t, qt.IsTrue(s.IsNamedAsManifest(digestC)))
	qt.Check(t, qt.Equals(s.NamedSize(digestC), -1)) // they disagree
	s.SetSize(digestA, 4)
	qt.Check(t, qt.Equals(s.NamedSize(digestA), -1)) // the manifest is wrong

	for _, d := range []ociregistry.Digest{digestA, digestB} {
		s.Apply(&Op{Kind: DeleteManifest, Digest: d})
	}
	qt.Check(t, qt.IsFalse(s.IsNamed(digestC)))
	qt.Check(t, qt.HasLen(s.AppendReferrers(nil, digestB, "", 10), 0))
	qt.Check(t, qt.IsTrue(s.IsEmpty()))
}

// What nobody knows of a manifest stays unknown until it is read, and is inherited by the
// next state then.
func TestState_KnowsWhatWasRead(t *testing.T) {
	t.Parallel()
	text := `{"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + string(digestA) + `","size":4,"annotations":{"` + ocispec.AnnotationRefName + `":"v1"}}]}`
	s := New()
	qt.Assert(t, qt.IsNil(s.ParseIndex(text)))
	m := s.Tag("v1")
	all := func(*Manifest) bool { return true }
	qt.Check(t, qt.IsTrue(slices.Equal(slices.Collect(s.Unread()), []*Manifest{m})))
	qt.Check(t, qt.IsTrue(slices.Equal(s.Unsure([]string{"v1"}), []*Manifest{m})))
	s.SetObscure(m)
	qt.Check(t, qt.IsFalse(s.HasUnread()))
	qt.Check(t, qt.Equals(s.InDoubt(all), m))
	s.ReadAgain(m)
	qt.Check(t, qt.IsTrue(s.HasUnread()))
	s.SetInfo(m, manifest.Info{Blobs: []manifest.Ref{{Digest: digestC, Size: 1}}})
	m.SetPresent(true)
	s.SetSure(m)
	qt.Check(t, qt.IsNil(s.InDoubt(all)))
	qt.Check(t, qt.HasLen(s.Unsure([]string{"v1"}), 0))

	next := New()
	qt.Assert(t, qt.IsNil(next.ParseIndex(text)))
	qt.Check(t, qt.IsTrue(next.HasUnread()))
	next.Inherit(s)
	qt.Check(t, qt.IsFalse(next.HasUnread()))
	qt.Check(t, qt.IsTrue(next.IsNamed(digestC)))
	qt.Check(t, qt.HasLen(next.Unsure([]string{"v1"}), 0))
	next.SetUnsure(next.Tag("v1"))
	qt.Check(t, qt.HasLen(next.Unsure([]string{"v1"}), 1))
}

func TestState_ContentIsPendingUntilItIsStored(t *testing.T) {
	t.Parallel()
	s := New()
	blob, pushed := Op{Kind: PutBlob, Digest: digestA, Text: "blob"}, put(digestB, "manifest", "v1")
	s.Apply(&blob)
	s.Apply(&pushed)
	qt.Check(t, qt.ContentEquals(pending(s), []Content{{digestA, "blob", true}, {digestB, "manifest", false}}))

	s.SetStored(digestA)
	qt.Check(t, qt.DeepEquals(pending(s), []Content{{digestB, "manifest", false}}))
	text, ok := s.Blob(digestA)
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(text, "blob"))
	s.Apply(&Op{Kind: DeleteBlob, Digest: digestA})
	s.Apply(&blob) // what was stored may have been removed
	qt.Check(t, qt.HasLen(pending(s), 2))

	qt.Check(t, qt.IsTrue(s.RulesOutBlob(digestB)))
	s.Apply(&Op{Kind: PutBlob, Digest: digestB}) // which makes other content of it
	qt.Check(t, qt.IsFalse(s.RulesOutBlob(digestB)))
	qt.Check(t, qt.IsFalse(s.IsPending(Content{digestB, "manifest", false})))
	qt.Check(t, qt.IsTrue(s.IsPending(Content{digestB, "manifest", true})))

	s.SetStored(digestA)
	s.SetStored(digestB)
	qt.Check(t, qt.IsTrue(s.HasStored()))
	s.ClearPending()
	qt.Check(t, qt.HasLen(pending(s), 0))
	qt.Check(t, qt.IsTrue(s.Tag("v1").Present()))
	_, ok = s.Blob(digestA)
	qt.Check(t, qt.IsFalse(ok))
	s.Apply(&Op{Kind: DeleteManifest, Digest: digestB})
	qt.Check(t, qt.IsFalse(s.RulesOutBlob(digestB))) // it stays as a blob
}
