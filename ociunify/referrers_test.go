package ociunify_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// Offline, a list of referrers that was never asked for is an error, one that was
// empty is empty.
func TestCache_UnknownReferrersAreNotNone(t *testing.T) {
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

	// What does not exist leaves nothing.
	origin.set("", nil)
	records := tagsOf(t, kept, "ociunify.cache")
	none, err = list(ocitest.NewImage(ocitest.Spec{Seed: 77}), "")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(none, 0))
	qt.Check(t, qt.DeepEquals(tagsOf(t, kept, "ociunify.cache"), records))
}

// That a list was empty is known of what is not kept as well, as long as that is the last
// that the origin has said.
func TestCache_NoReferrersOfWhatIsNotKept(t *testing.T) {
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

	// Since then it was signed, which is seen by who does not read the list to its end.
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

// A signature that was pushed through the cache since the list was kept is in it.
func TestCache_PushedReferrersAreListedOffline(t *testing.T) {
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
