//go:build !race

package ociunify

import (
	"io"
	"runtime/debug"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// costs is a cache in memory, with calls of it.
type costs struct {
	*Cache
	t     *testing.T
	kept  *ocimem.Registry
	image *ocitest.Artifact
	layer ocitest.Blob
}

func (c *costs) read(rd ociregistry.BlobReader, err error) {
	if err == nil {
		_, err = io.Copy(io.Discard, rd)
		rd.Close()
	}
	c.resolved(ociregistry.Descriptor{}, err)
}

func (c *costs) resolved(_ ociregistry.Descriptor, err error) {
	if err != nil {
		c.t.Fatal(err)
	}
}

// forget deletes from the cache registry what was fetched.
func (c *costs) forget() {
	c.working.Wait()
	c.kept.DeleteBlob(c.t.Context(), "foo", c.layer.Descriptor.Digest)
	c.kept.DeleteManifest(c.t.Context(), "foo", c.image.Descriptor.Digest)
}

// Limits for waits cost nothing while the origin answers. The allowed numbers were
// measured with a cache without limits, with two exceptions: a range from the origin has
// its own context and reader, and deleting a manifest allocates once more because the
// manifest is kept under its own media type.
func TestCache_AllocatesNoMoreForBoundedWaits(t *testing.T) { // not parallel: all allocations count
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which empties pools
	ctx := t.Context()
	origin := ocimem.New()
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{1000}})
	ocitest.NewRegistry(t, origin).MustPush("foo", image, "v1")
	d, layer := image.Descriptor.Digest, image.Blobs[1]
	none := ociregistry.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")
	for _, test := range []struct {
		name  string
		ttl   time.Duration
		limit float64
		kept  bool // the image is kept before
		call  func(*costs)
	}{
		{"GetBlob", 0, 1, true, func(c *costs) { c.read(c.GetBlob(ctx, "foo", layer.Descriptor.Digest)) }},
		{"GetBlobRange", 0, 1, true, func(c *costs) { c.read(c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 1, 9)) }},
		{"ResolveBlob", 0, 0, true, func(c *costs) { c.resolved(c.ResolveBlob(ctx, "foo", layer.Descriptor.Digest)) }},
		{"GetManifest", 0, 3, true, func(c *costs) { c.read(c.GetManifest(ctx, "foo", d)) }},
		{"ResolveManifest", 0, 0, true, func(c *costs) { c.resolved(c.ResolveManifest(ctx, "foo", d)) }},
		{"GetTag", time.Hour, 3, true, func(c *costs) { c.read(c.GetTag(ctx, "foo", "v1")) }},
		{"ResolveTag", time.Hour, 0, true, func(c *costs) { c.resolved(c.ResolveTag(ctx, "foo", "v1")) }},
		{"GetTag, revalidated", 0, 24, true, func(c *costs) { c.read(c.GetTag(ctx, "foo", "v1")) }},
		{"ResolveTag, revalidated", 0, 10, true, func(c *costs) { c.resolved(c.ResolveTag(ctx, "foo", "v1")) }},

		{"GetBlob, missed", 0, 58, false, func(c *costs) { c.read(c.GetBlob(ctx, "foo", layer.Descriptor.Digest)); c.forget() }},
		{"GetBlobRange, missed", 0, 5, false, func(c *costs) { c.read(c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 1, 9)) }},
		{"ResolveBlob, missed", 0, 12, false, func(c *costs) { c.resolved(c.ResolveBlob(ctx, "foo", layer.Descriptor.Digest)) }},
		{"GetManifest, missed", 0, 56, false, func(c *costs) { c.read(c.GetManifest(ctx, "foo", d)); c.forget() }},
		{"ResolveManifest, missed", 0, 12, false, func(c *costs) { c.resolved(c.ResolveManifest(ctx, "foo", d)) }},
		{"GetTag, missed", 0, 62, false, func(c *costs) { c.read(c.GetTag(ctx, "foo", "v1")); c.forget() }},
		{"ResolveTag, missed", 0, 11, false, func(c *costs) { c.resolved(c.ResolveTag(ctx, "foo", "v1")) }},

		{"GetBlob, absent", 0, 14, true, func(c *costs) { c.GetBlob(ctx, "foo", none) }},
		{"GetManifest, absent", 0, 13, true, func(c *costs) { c.GetManifest(ctx, "foo", none) }},
		{"GetTag, absent", 0, 13, true, func(c *costs) { c.GetTag(ctx, "foo", "none") }},
		{"ResolveTag, absent", 0, 12, true, func(c *costs) { c.ResolveTag(ctx, "foo", "none") }},

		{"Repositories", 0, 17, true, func(c *costs) { ociregistry.All(c.Repositories(ctx, "")) }},
		{"Tags", 0, 14, true, func(c *costs) { ociregistry.All(c.Tags(ctx, "foo", "")) }},
		{"Referrers", 0, 24, true, func(c *costs) { ociregistry.All(c.Referrers(ctx, "foo", d, "")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept := ocimem.New()
			c := &costs{NewCache(kept, origin, &CacheOptions{TagTTL: test.ttl}), t, kept, image, layer}
			defer c.Close()
			if test.kept {
				c.read(c.GetTag(ctx, "foo", "v1"))
				c.read(c.GetBlob(ctx, "foo", layer.Descriptor.Digest))
				c.working.Wait()
			}
			got := testing.AllocsPerRun(100, func() { test.call(c) })
			qt.Check(t, qt.IsTrue(got <= test.limit), qt.Commentf("%v allocations, not %v", got, test.limit))
		})
	}
}
