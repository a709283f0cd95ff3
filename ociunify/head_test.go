package ociunify_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// pullByHead pulls an image as containerd and docker do.
func pullByHead(t testing.TB, c *ociunify.Cache, repo, tag string, want *ocitest.Artifact) {
	t.Helper()
	desc, err := c.ResolveTag(t.Context(), repo, tag)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(desc.Digest, want.Descriptor.Digest))
	got, err := readAll(c.GetManifest(t.Context(), repo, desc.Digest))
	wantBytes(t, got, err, want.Manifest)
}

func tagsOf(t testing.TB, r ociregistry.Interface, repo string) []string {
	t.Helper()
	tags, err := ociregistry.All(r.Tags(t.Context(), repo, ""))
	qt.Assert(t, qt.IsNil(err))
	return tags
}

// A tag that was resolved by HEAD, and whose manifest was read by its digest, is served
// and listed when the origin is down, and points where it has moved.
func TestCache_KnowsTagsFromHead(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	origin := count(mem)
	one := pushed(t, mem, "foo", 1, "v1")
	c := newCache(t, ocimem.New(), origin, nil)
	pullByHead(t, c, "foo", "v1", one)
	qt.Check(t, qt.Equals(origin.took(), "ResolveTag GetManifest"))

	origin.set("", errBroken)
	wantTag(t, c, "foo", "v1", one)
	pullByHead(t, c, "foo", "v1", one)
	qt.Check(t, qt.DeepEquals(tagsOf(t, c, "foo"), []string{"v1"}))

	origin.set("", nil)
	two := pushed(t, mem, "foo", 2, "v1")
	pullByHead(t, c, "foo", "v1", two)
	origin.set("", errBroken)
	wantTag(t, c, "foo", "v1", two)
	pullByHead(t, c, "foo", "v1", two)
}

// A HEAD is enough if the manifest is kept already.
func TestCache_MovesATagToAKeptManifestByHead(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	origin := count(mem)
	one, two := pushed(t, mem, "foo", 1, "v1"), pushed(t, mem, "foo", 2, "v2")
	c := newCache(t, ocimem.New(), origin, nil)
	wantTag(t, c, "foo", "v1", one)
	wantTag(t, c, "foo", "v2", two)
	pushed(t, mem, "foo", 2, "v1", "v3")
	for _, tag := range []string{"v1", "v3"} {
		origin.took()
		_, err := c.ResolveTag(t.Context(), "foo", tag)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(origin.took(), "ResolveTag"))
	}
	origin.set("", errBroken)
	wantTag(t, c, "foo", "v1", two)
	wantTag(t, c, "foo", "v3", two)
	qt.Check(t, qt.DeepEquals(tagsOf(t, c, "foo"), []string{"v1", "v2", "v3"}))
}

// Within its TTL a tag is resolved once, whether its manifest is kept or not.
func TestCache_ResolvesATagOnceWithinItsTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin := count(mem)
		one := pushed(t, mem, "foo", 1, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{TagTTL: time.Minute})
		want, err := mem.ResolveTag(t.Context(), "foo", "v1")
		qt.Assert(t, qt.IsNil(err))
		for range 3 {
			desc, err := c.ResolveTag(t.Context(), "foo", "v1")
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(desc, want))
		}
		qt.Check(t, qt.Equals(origin.took(), "ResolveTag"))
		wantTag(t, c, "foo", "v1", one)
		qt.Check(t, qt.Equals(origin.took(), "GetManifest"))
		pullByHead(t, c, "foo", "v1", one)
		wantTag(t, c, "foo", "v1", one)
		qt.Check(t, qt.Equals(origin.took(), ""))

		two := pushed(t, mem, "foo", 2, "v1")
		time.Sleep(time.Minute)
		pullByHead(t, c, "foo", "v1", two)
		wantTag(t, c, "foo", "v1", two)
		qt.Check(t, qt.Equals(origin.took(), "ResolveTag GetManifest"))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// A change through the cache replaces what was learned from HEAD.
func TestCache_HeadYieldsToChanges(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	one, two := pushed(t, mem, "foo", 1, "v1", "v2"), pushed(t, mem, "foo", 2)
	c := newCache(t, ocimem.New(), mem, &ociunify.CacheOptions{WriteThrough: true, TagTTL: time.Hour})
	for _, tag := range []string{"v1", "v2"} {
		_, err := c.ResolveTag(t.Context(), "foo", tag)
		qt.Check(t, qt.IsNil(err))
	}
	_, err := c.PushManifest(t.Context(), "foo", "v1", two.Manifest, two.Descriptor.MediaType)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(c.DeleteTag(t.Context(), "foo", "v2")))
	got, err := readAll(c.GetManifest(t.Context(), "foo", one.Descriptor.Digest))
	wantBytes(t, got, err, one.Manifest)
	wantTag(t, c, "foo", "v1", two)
	_, err = c.GetTag(t.Context(), "foo", "v2")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
}

// A deleted tag does not come back when its manifest is kept.
func TestCache_DoesNotBringBackADeletedTag(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	origin := count(mem)
	one := pushed(t, mem, "foo", 1, "v1")
	c := newCache(t, ocimem.New(), origin, nil)
	_, err := c.ResolveTag(t.Context(), "foo", "v1")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(mem.DeleteTag(t.Context(), "foo", "v1")))
	_, err = c.ResolveTag(t.Context(), "foo", "v1")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	_, err = c.GetManifest(t.Context(), "foo", one.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	origin.set("", errBroken)
	_, err = c.GetTag(t.Context(), "foo", "v1")
	qt.Check(t, qt.ErrorIs(err, errBroken))
}
