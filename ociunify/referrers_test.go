package ociunify_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// When the origin is down, a list of referrers that was never asked for is an error, and
// a list that was empty is empty.
func TestCache_DoesNotTakeUnknownReferrersForNone(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	origin := count(mem)
	signed, unsigned := pushed(t, mem, "foo", 1, "v1"), pushed(t, mem, "foo", 2, "v2")
	const signature = "application/vnd.example.signature"
	ocitest.NewRegistry(t, mem).MustPush("foo", ocitest.NewImage(ocitest.Spec{Seed: 3, ArtifactType: signature, Subject: &signed.Descriptor}))
	kept := ocimem.New()
	c := newCache(t, kept, origin, nil)
	wantTag(t, c, "foo", "v1", signed)
	wantTag(t, c, "foo", "v2", unsigned)
	list := func(a *ocitest.Artifact, artifactType string) ([]ociregistry.Descriptor, error) {
		return ociregistry.All(c.Referrers(ctx, "foo", a.Descriptor.Digest, artifactType))
	}
	origin.set("", errBroken)
	for _, artifactType := range []string{"", signature} {
		_, err := list(signed, artifactType)
		qt.Check(t, qt.ErrorIs(err, errBroken))
	}
	origin.set("", nil)
	none, err := list(unsigned, "")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(none, 0))
	_, err = list(signed, signature)
	qt.Check(t, qt.IsNil(err))

	origin.set("", errBroken)
	for _, artifactType := range []string{"", signature} {
		none, err := list(unsigned, artifactType)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(none, 0))
	}
	some, err := list(signed, signature)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(some, 1))
	_, err = list(signed, "") // signatures are all that was asked for
	qt.Check(t, qt.ErrorIs(err, errBroken))

	// Nothing is kept for a manifest that does not exist.
	origin.set("", nil)
	records := tagsOf(t, kept, "ociunify.cache")
	none, err = list(ocitest.NewImage(ocitest.Spec{Seed: 77}), "")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(none, 0))
	qt.Check(t, qt.DeepEquals(tagsOf(t, kept, "ociunify.cache"), records))
}

// The cache remembers that a list was empty even if the manifest is not kept, until the
// origin says something else.
func TestCache_RemembersEmptyReferrersOfWhatIsNotKept(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	origin := count(mem)
	image, other := pushed(t, mem, "foo", 1, "v1"), pushed(t, mem, "foo", 2, "v2")
	c := newCache(t, ocimem.New(), origin, nil)
	const signature = "application/vnd.example.signature"
	list := func(a *ocitest.Artifact, artifactType string) ([]ociregistry.Descriptor, error) {
		return ociregistry.All(c.Referrers(ctx, "foo", a.Descriptor.Digest, artifactType))
	}
	_, err := c.ResolveTag(ctx, "foo", "v1") // by HEAD alone
	qt.Assert(t, qt.IsNil(err))
	for _, artifactType := range []string{"", signature} {
		none, err := list(image, artifactType)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(none, 0))
	}

	origin.set("", errBroken)
	for _, artifactType := range []string{"", signature, "application/vnd.example.other"} {
		none, err := list(image, artifactType)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(none, 0))
		_, err = list(other, artifactType) // of which nothing is known
		qt.Check(t, qt.ErrorIs(err, errBroken))
	}

	// A signature was pushed since. A caller that reads only the start of the list sees it.
	origin.set("", nil)
	ocitest.NewRegistry(t, mem).MustPush("foo", ocitest.NewImage(ocitest.Spec{Seed: 3, ArtifactType: signature, Subject: &image.Descriptor}))
	for _, artifactType := range []string{"", signature} {
		for range c.Referrers(ctx, "foo", image.Descriptor.Digest, artifactType) {
			break
		}
	}
	origin.set("", errBroken)
	for _, artifactType := range []string{"", signature} {
		_, err = list(image, artifactType)
		qt.Check(t, qt.ErrorIs(err, errBroken))
	}
}

// A list that is kept includes a signature that was pushed through the cache later.
func TestCache_ListsPushedReferrersOffline(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	c := newCache(t, ocimem.New(), origin, &ociunify.CacheOptions{WriteThrough: true})
	old := ocitest.NewImage(ocitest.Spec{Seed: 2, ArtifactType: "application/vnd.example", Subject: &image.Descriptor})
	qt.Assert(t, qt.IsNil(old.Push(ctx, mem, "foo")))
	_, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(ocitest.NewImage(ocitest.Spec{Seed: 3, ArtifactType: "application/vnd.example", Subject: &image.Descriptor}).Push(ctx, c, "foo")))
	want, err := ociregistry.All(mem.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	origin.set("", errBroken)
	got, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, want))
}

// Asking for the last page of referrers keeps the whole list.
func TestCache_KeepsAllReferrersWhenItIsAskedForTheEnd(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	for seed := range uint64(3) {
		ocitest.NewRegistry(t, mem).MustPush("foo", ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{10}, ArtifactType: "a/b", Subject: &image.Descriptor}))
	}
	all, err := ociregistry.All(mem.Referrers(t.Context(), "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(all, 3))
	c := newCache(t, ocimem.New(), origin, nil)
	after := ociregistry.WithReferrersAfter(t.Context(), all[1].Digest)
	end, err := ociregistry.All(c.Referrers(after, "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(end[len(end)-1], all[2]))
	origin.set("", errBroken)
	kept, err := ociregistry.All(c.Referrers(t.Context(), "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(kept, all))
}

func TestCache_ListsKeptReferrersWhenOriginIsDown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	mem := ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	d := image.Descriptor.Digest
	var log logLines
	c := newCache(t, ocimem.New(), origin, &ociunify.CacheOptions{Logger: log.logger()})
	list := func(artifactType string) []ociregistry.Descriptor {
		t.Helper()
		all, err := ociregistry.All(c.Referrers(ctx, "foo", d, artifactType))
		qt.Assert(t, qt.IsNil(err))
		return all
	}
	qt.Assert(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	qt.Check(t, qt.HasLen(list(""), 0))

	// Signed after it was cached.
	signature := ocitest.NewImage(ocitest.Spec{Seed: 2, ArtifactType: "application/vnd.example.signature", Subject: &image.Descriptor, Annotations: map[string]string{"a": "b"}})
	bom := ocitest.NewImage(ocitest.Spec{Seed: 3, ArtifactType: "application/vnd.example.bom", Subject: &image.Descriptor})
	reg := ocitest.NewRegistry(t, mem)
	reg.MustPush("foo", signature)
	reg.MustPush("foo", bom)
	cosign := "sha256-" + d.Encoded() + ".sig"
	reg.MustPush("foo", pushed(t, mem, "foo", 4, cosign))
	all := list("")
	qt.Check(t, qt.HasLen(all, 2))
	signed := list("application/vnd.example.signature")
	qt.Check(t, qt.HasLen(signed, 1))
	qt.Check(t, qt.DeepEquals(signed[0].Annotations, map[string]string{"a": "b"}))
	_, err := c.GetTag(ctx, "foo", cosign)
	qt.Check(t, qt.IsNil(err))

	// A signature that cannot be fetched affects nothing else.
	origin.set("GetManifest", errBroken)
	qt.Check(t, qt.ErrorIs(signature.Verify(ctx, c, "foo"), errBroken))
	qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	wantTag(t, c, "foo", "v1", image)
	origin.set("GetManifest", nil)
	qt.Check(t, qt.IsNil(signature.Verify(ctx, c, "foo")))

	origin.set("", errBroken)
	qt.Check(t, qt.DeepEquals(list(""), all))
	qt.Check(t, qt.DeepEquals(list("application/vnd.example.signature"), signed))
	qt.Check(t, qt.HasLen(list("application/vnd.example.bom"), 1)) // from the list of all
	qt.Check(t, qt.HasLen(list("application/vnd.example.other"), 0))
	qt.Check(t, qt.IsNil(signature.Verify(ctx, c, "foo")))
	_, err = c.GetTag(ctx, "foo", cosign)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(log.has("listing what is kept")))
}
