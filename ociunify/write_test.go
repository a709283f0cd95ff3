package ociunify_test

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

func TestCache_WritesThroughOnlyIfAsked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	mem, cache := ocimem.New(), ocimem.New()
	origin := count(mem)
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{1000}})
	c := newCache(t, cache, origin, nil)
	qt.Check(t, qt.ErrorIs(image.Push(ctx, c, "foo", "v1"), ociregistry.ErrUnsupported))
	qt.Check(t, qt.ErrorIs(c.DeleteTag(ctx, "foo", "v1"), ociregistry.ErrUnsupported))
	qt.Check(t, qt.Equals(origin.took(), ""))

	c = newCache(t, cache, origin, &ociunify.CacheOptions{WriteThrough: true, TagTTL: time.Hour})
	qt.Assert(t, qt.IsNil(image.Push(ctx, c, "foo", "v1")))
	qt.Check(t, qt.IsNil(image.Verify(ctx, mem, "foo")))
	origin.took()
	qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	wantTag(t, c, "foo", "v1", image)
	qt.Check(t, qt.Equals(origin.took(), ""))

	// What the origin refuses is not kept.
	other := ocitest.NewImage(ocitest.Spec{Seed: 7, Layers: []int64{1000}})
	origin.set("PushBlob", ociregistry.ErrDenied)
	origin.set("PushManifest", ociregistry.ErrDenied)
	_, err := c.PushBlob(ctx, "foo", other.Blobs[1].Descriptor, other.Blobs[1].NewReader())
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	_, err = c.PushManifest(ctx, "foo", "v1", other.Manifest, other.Descriptor.MediaType)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	_, err = cache.ResolveBlob(ctx, "foo", other.Blobs[1].Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	wantTag(t, c, "foo", "v1", image)

	qt.Check(t, qt.IsNil(c.DeleteTag(ctx, "foo", "v1")))
	qt.Check(t, qt.IsNil(c.DeleteManifest(ctx, "foo", image.Descriptor.Digest)))
	origin.set("", errBroken)
	_, err = c.GetTag(ctx, "foo", "v1")
	qt.Check(t, qt.ErrorIs(err, errBroken))
	_, err = c.GetManifest(ctx, "foo", image.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, errBroken))
}
