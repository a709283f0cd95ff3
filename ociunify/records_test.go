package ociunify_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// The repository with the records of a cache is unknown to each call, which asks
// neither registry and leaves no reader open.
func TestCache_HidesItsRecords(t *testing.T) {
	t.Parallel()
	const records = "ociunify.cache"
	ctx, mem := t.Context(), ocimem.New()
	image := pushed(t, mem, records, 1, "v1")
	cache, origin := count(mem), count(mem)
	c := newCache(t, cache, origin, &ociunify.CacheOptions{WriteThrough: true})
	manifest, blob := image.Descriptor.Digest, image.Blobs[0].Descriptor.Digest
	calls := map[string]func() error{
		"GetBlob":         func() error { _, err := c.GetBlob(ctx, records, blob); return err },
		"GetBlobRange":    func() error { _, err := c.GetBlobRange(ctx, records, blob, 1, 2); return err },
		"ResolveBlob":     func() error { _, err := c.ResolveBlob(ctx, records, blob); return err },
		"GetManifest":     func() error { _, err := c.GetManifest(ctx, records, manifest); return err },
		"ResolveManifest": func() error { _, err := c.ResolveManifest(ctx, records, manifest); return err },
		"GetTag":          func() error { _, err := c.GetTag(ctx, records, "v1"); return err },
		"ResolveTag":      func() error { _, err := c.ResolveTag(ctx, records, "v1"); return err },
		"Tags":            func() error { _, err := ociregistry.All(c.Tags(ctx, records, "")); return err },
		"Referrers":       func() error { _, err := ociregistry.All(c.Referrers(ctx, records, manifest, "")); return err },
		"PushBlob": func() error {
			b := ocitest.NewBlob(2, 10)
			_, err := c.PushBlob(ctx, records, b.Descriptor, b.NewReader())
			return err
		},
		"PushManifest": func() error {
			_, err := c.PushManifest(ctx, records, "v2", image.Manifest, image.Descriptor.MediaType)
			return err
		},
		"PushBlobChunked":       func() error { _, err := c.PushBlobChunked(ctx, records, 0); return err },
		"PushBlobChunkedResume": func() error { _, err := c.PushBlobChunkedResume(ctx, records, "id", 0, 0); return err },
		"MountBlob":             func() error { _, err := c.MountBlob(ctx, "foo", records, blob); return err },
		"MountBlob from":        func() error { _, err := c.MountBlob(ctx, records, "foo", blob); return err },
		"DeleteBlob":            func() error { return c.DeleteBlob(ctx, records, blob) },
		"DeleteManifest":        func() error { return c.DeleteManifest(ctx, records, manifest) },
		"DeleteTag":             func() error { return c.DeleteTag(ctx, records, "v1") },
	}
	for name, call := range calls {
		qt.Check(t, qt.ErrorIs(call(), ociregistry.ErrNameUnknown), qt.Commentf(name))
	}
	qt.Check(t, qt.Equals(cache.took(), ""))
	qt.Check(t, qt.Equals(origin.took(), ""))
}
