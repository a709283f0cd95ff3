package repostate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// reopen returns the state that the snapshot of s has.
func reopen(t testing.TB, s *State) *State {
	t.Helper()
	snap, err := s.Snapshot(IndexSum{}, new(sync.Mutex))
	qt.Assert(t, qt.IsNil(err))
	opened, err := Open(string(snap.Text))
	qt.Assert(t, qt.IsNil(err))
	return opened
}

// next returns a state that knows as much as s, in one of three ways.
func next(t testing.TB, way int, s *State) *State {
	switch way {
	case 0:
		return reopen(t, s)
	case 1:
		next := reopen(t, s)
		next.Inherit(s)
		return next
	}
	snap, err := s.Snapshot(IndexSum{}, new(sync.Mutex))
	qt.Assert(t, qt.IsNil(err))
	snap.State.Continue(s)
	return snap.State
}

// randomOp returns an operation that can be applied to s.
func randomOp(rnd *rand.Rand, s *State) Op {
	some := func() ociregistry.Digest { return digestOfN(rnd.IntN(40)) }
	refs := func() (refs []manifest.Ref) {
		for range rnd.IntN(4) {
			r := manifest.Ref{MediaType: ocispec.MediaTypeImageManifest, Digest: some(), Size: 10}
			if rnd.IntN(8) == 0 {
				r.Size = rnd.Int64N(3)
			}
			refs = append(refs, r)
		}
		return refs
	}
	tags := func() (tags []string) {
		for range rnd.IntN(3) {
			tags = append(tags, fmt.Sprint("v", rnd.IntN(20)))
		}
		return tags
	}
	switch o := (Op{Digest: some()}); rnd.IntN(10) {
	case 0:
		o.Kind, o.Tags = DeleteTags, tags()
		return o
	case 1, 2:
		o.Kind = DeleteManifest
		return o
	case 3:
		o.Kind, o.Text = PutBlob, "blob"
		return o
	default:
		o.Kind, o.MediaType, o.Size, o.Tags = PutManifest, fmt.Sprint("type/", rnd.IntN(2)), 10, tags()
		o.Blob = rnd.IntN(8) == 0
		if s.Manifest(o.Digest) == nil {
			o.Text = "text"
		}
		if rnd.IntN(3) > 0 {
			o.Info = &manifest.Info{Blobs: refs(), Manifests: refs(), ArtifactType: fmt.Sprint("a/", rnd.IntN(2))}
			if rnd.IntN(2) == 0 {
				o.Info.Subject = some()
			}
		}
		return o
	}
}

// agree checks that two states answer the same.
func agree(t testing.TB, rnd *rand.Rand, got, want *State) {
	t.Helper()
	fold := func(s *State) string {
		var text strings.Builder
		qt.Assert(t, qt.IsNil(s.WriteIndex(&text, new(sync.Mutex))))
		return text.String()
	}
	qt.Assert(t, qt.Equals(fold(got), fold(want)))
	qt.Assert(t, qt.Equals(got.IsEmpty(), want.IsEmpty()))
	qt.Assert(t, qt.Equals(got.HasUnread(), want.HasUnread()))
	digests := func(s *State) (digests []ociregistry.Digest) {
		for m := range s.Unread() {
			digests = append(digests, m.Digest)
		}
		slices.Sort(digests)
		return digests
	}
	qt.Assert(t, qt.DeepEquals(digests(got), digests(want)))
	for range 4 {
		after, n := fmt.Sprint("v", rnd.IntN(20)), rnd.IntN(8)
		if rnd.IntN(3) == 0 {
			after = ""
		}
		qt.Assert(t, qt.DeepEquals(got.AppendTags([]string{"x"}, after, n), want.AppendTags([]string{"x"}, after, n)))
	}
	for i := range 20 {
		tag := fmt.Sprint("v", i)
		a, b := got.Tag(tag), want.Tag(tag)
		qt.Assert(t, qt.Equals(a == nil, b == nil))
		if a != nil {
			qt.Assert(t, qt.Equals(a.Digest, b.Digest))
			qt.Assert(t, qt.Equals(a, got.Manifest(a.Digest)))
		}
	}
	for i := range 42 {
		agreeOn(t, rnd, got, want, digestOfN(i))
	}
}

func agreeOn(t testing.TB, rnd *rand.Rand, got, want *State, d ociregistry.Digest) {
	t.Helper()
	type facts struct {
		named, asManifest, notBlob, there, tagged, shared bool
		size                                              int64
		mediaType, artifactType                           string
		text                                              string
		blob, read                                        bool
		tags, onlyNamed, referrers                        []string
	}
	after, n := string(digestOfN(rnd.IntN(40))), rnd.IntN(6)
	of := func(s *State) (f facts) {
		f.named, f.asManifest, f.notBlob = s.IsNamed(d), s.IsNamedAsManifest(d), s.RulesOutBlob(d)
		f.referrers = append(s.AppendReferrers(nil, d, after, n), s.AppendReferrers(nil, d, "", 100)...)
		m := s.Manifest(d)
		if f.there = m != nil; f.there {
			f.tagged, f.shared, f.size, f.mediaType, f.artifactType = m.IsTagged(), m.IsShared(), m.Size, m.MediaType, m.ArtifactType
			f.blob, f.read, f.text, f.tags = m.Blob, m.IsRead(), m.Text, s.TagsOf(m)
			for _, child := range s.OnlyNamedBy(m) {
				f.onlyNamed = append(f.onlyNamed, string(child.Digest))
			}
			slices.Sort(f.tags)
		}
		return f
	}
	qt.Assert(t, qt.DeepEquals(fmt.Sprint(of(got)), fmt.Sprint(of(want))))
	// A table has forgotten what a manifest said that is gone.
	if size := want.NamedSize(d); size >= 0 {
		qt.Assert(t, qt.Equals(got.NamedSize(d), size))
	}
}

// A state that begins with a snapshot answers as the one that the snapshot is of, whatever
// changes after that.
func TestState_AnswersFromSnapshotAsBefore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 3))
			got, want := New(), New()
			for i := range 300 {
				o := randomOp(rnd, want)
				got.Apply(&o)
				want.Apply(&o)
				child := NewManifest(digestOfN(rnd.IntN(40)), "type/0", 10)
				if child.Implicit = true; rnd.IntN(10) == 0 && want.Manifest(child.Digest) == nil {
					twin := NewManifest(child.Digest, "type/0", 10)
					twin.Implicit = true
					got.Add(child)
					want.Add(twin)
				}
				if rnd.IntN(20) == 0 {
					got.ClearPending()
					want.ClearPending()
					got = next(t, rnd.IntN(3), got)
				}
				if i%7 == 0 {
					agree(t, rnd, got, want)
				}
			}
		})
	}
}

// A state knows after a snapshot what is only known of what is stored as long as its process
// lives, and no longer.
func TestState_SnapshotSaysNothingOfFiles(t *testing.T) {
	t.Parallel()
	s := New()
	first, second := put(digestA, "text", "v1"), put(digestB, "text", "v2")
	first.Info = &manifest.Info{Blobs: []manifest.Ref{{Digest: digestC, Size: 1}}}
	s.Apply(&first)
	s.Apply(&second)
	s.SetSize(digestC, 2)
	s.ClearPending()
	s.SetObscure(s.Tag("v2"))
	qt.Check(t, qt.IsFalse(s.HasUnread()))
	qt.Check(t, qt.HasLen(s.Unsure([]string{"v1", "v2"}), 0))

	other := reopen(t, s)
	qt.Check(t, qt.HasLen(other.Unsure([]string{"v1", "v2"}), 2))
	qt.Check(t, qt.IsFalse(other.Tag("v1").Present()))
	qt.Check(t, qt.Equals(other.NamedSize(digestC), 1))
	qt.Check(t, qt.IsTrue(other.HasUnread()))

	for _, way := range []int{1, 2} {
		same := next(t, way, s)
		qt.Check(t, qt.Equals(same.HasUnread(), way == 1)) // it may have come back
		knowsFiles(t, same, s)
	}
}

func knowsFiles(t *testing.T, same, s *State) {
	qt.Check(t, qt.HasLen(same.Unsure([]string{"v1", "v2"}), 0))
	qt.Check(t, qt.IsTrue(same.Tag("v1").Present()))
	qt.Check(t, qt.Equals(same.NamedSize(digestC), -1))
	same.SetUnsure(same.Tag("v1"))
	qt.Check(t, qt.DeepEquals(len(same.Unsure([]string{"v1", "v2"})), 2))
	same.Tag("v1").SetPresent(true)
	same.SetSure(same.Tag("v1"))
	same.SetSure(s.Tag("v1")) // of another state
	qt.Check(t, qt.IsNil(same.Unsure([]string{"v1", "v2"})))
}

// The children of an index that were not there may come later.
func TestState_KnowsWhichChildrenWereMissing(t *testing.T) {
	t.Parallel()
	s := New()
	parent, cache := put(digestA, "text", "v1"), put(digestB, "text", "v2")
	parent.Info = &manifest.Info{Manifests: []manifest.Ref{{MediaType: ocispec.MediaTypeImageManifest, Digest: digestC, Size: 1}}}
	cache.Info = &manifest.Info{Manifests: []manifest.Ref{{MediaType: ocispec.MediaTypeImageLayer, Digest: digestC, Size: 1}}}
	s.Apply(&cache)
	s.ClearPending()
	qt.Check(t, qt.HasLen(reopen(t, s).Partial(), 0))
	s.Apply(&parent)
	qt.Check(t, qt.IsFalse(s.MayBeStored(digestC))) // it was looked for

	opened := reopen(t, s)
	qt.Check(t, qt.IsTrue(slices.Equal(opened.Partial(), []*Manifest{opened.Tag("v1")})))
	qt.Check(t, qt.IsTrue(opened.MayBeStored(digestC)))
	qt.Check(t, qt.IsFalse(opened.MayBeStored(digestA)))
	opened.SetWhole()
	qt.Check(t, qt.IsFalse(opened.MayBeStored(digestC)))
	qt.Check(t, qt.HasLen(opened.Partial(), 0))

	child := put(digestC, "text")
	s.Apply(&child)
	qt.Check(t, qt.HasLen(reopen(t, s).Partial(), 0))
}
