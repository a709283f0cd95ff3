package ociunify_test

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociunify"
)

// A cache of a cache works as a cache. Each of them keeps what it needs.
func TestCache_WorksOverAnotherCache(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	inner := newCache(t, ocimem.New(), origin, nil)
	between := count(inner)
	outer := newCache(t, ocimem.New(), between, nil)
	pullByHead(t, outer, "foo", "v1", image)
	qt.Check(t, qt.IsNil(image.Verify(ctx, outer, "foo")))
	_, err := ociregistry.All(outer.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
	qt.Check(t, qt.IsNil(err))
	for _, broken := range []*counted{origin, between} {
		broken.set("", errBroken)
		for _, c := range []*ociunify.Cache{inner, outer} {
			wantTag(t, c, "foo", "v1", image)
			qt.Check(t, qt.DeepEquals(tagsOf(t, c, "foo"), []string{"v1"}))
			qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
			_, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
			qt.Check(t, qt.IsNil(err))
		}
	}
}

// The same over HTTP, with an origin that accepts requests and does not answer.
func TestCache_WorksOverHTTP(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	served := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	c := newCache(t, ocimem.New(), remote(t, served), &ociunify.CacheOptions{OriginWait: 50 * time.Millisecond})
	pullByHead(t, c, "foo", "v1", image)
	qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	_, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
	qt.Check(t, qt.IsNil(err))
	for _, method := range []string{"ResolveTag", "GetTag", "GetManifest", "Tags", "Referrers"} {
		served.hold(method)
	}
	for range 3 {
		wantTag(t, c, "foo", "v1", image)
		pullByHead(t, c, "foo", "v1", image)
		qt.Check(t, qt.DeepEquals(tagsOf(t, c, "foo"), []string{"v1"}))
		_, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
		qt.Check(t, qt.IsNil(err))
	}
}

// The client of a remote cache registry finds out that content is damaged there.
func TestCache_FindsDamageInARemoteCacheRegistry(t *testing.T) {
	t.Parallel()
	for name, damage := range damage {
		ctx, mem := t.Context(), ocimem.New()
		origin := count(mem)
		image := pushed(t, mem, "foo", 1, "v1")
		layer := image.Blobs[2]
		kept := &rotten{Interface: ocimem.New(), of: layer.Descriptor.Digest}
		far := remote(t, kept)
		filled(t, far, mem, image)
		kept.damage = damage
		c := newCache(t, far, origin, nil)
		got, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
		if err == nil { // its length is enough to know
			wantBytes(t, got, err, layer.Bytes())
		}
		got, err = readBlob(ctx, c, "foo", layer.Descriptor.Digest)
		wantBytes(t, got, err, layer.Bytes())
		qt.Check(t, qt.IsNil(c.Close()))
		qt.Check(t, qt.Equals(origin.number("GetBlob"), 1), qt.Commentf("%s", name))
		got, err = readBlob(ctx, kept, "foo", layer.Descriptor.Digest)
		wantBytes(t, got, err, layer.Bytes())
	}
}
