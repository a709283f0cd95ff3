package ociunify_test

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// The cache registry fails at each of its calls in turn, and at all of them: what
// is read is right all the same.
func TestBehaviour09_CacheFails(t *testing.T) {
	t.Parallel()
	methods := []string{
		"", "GetBlob", "GetBlobRange", "GetManifest", "GetTag", "ResolveBlob", "ResolveManifest", "ResolveTag",
		"PushBlob", "PushManifest", "DeleteBlob", "DeleteManifest", "DeleteTag", "Tags", "Referrers",
	}
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				mem := ocimem.New()
				cache := count(ocimem.New())
				image := pushed(t, mem, "foo", 1, "v1")
				other := pushed(t, mem, "foo", 2, "v2")
				reg := ocitest.NewRegistry(t, mem)
				reg.MustPush("foo", ocitest.NewImage(ocitest.Spec{ArtifactType: "text/plain", Subject: &image.Descriptor}))
				var log logLines
				opts := &ociunify.CacheOptions{MaxBytes: 350_000, TagTTL: time.Minute, Logger: log.logger()}
				c := ociunify.NewCache(cache, mem, opts)
				use := func() {
					t.Helper()
					for _, a := range []*ocitest.Artifact{image, other} {
						qt.Check(t, qt.IsNil(a.Verify(ctx, c, "foo")))
						got, err := readAll(c.GetBlobRange(ctx, "foo", a.Blobs[2].Descriptor.Digest, 5, 15))
						wantBytes(t, got, err, a.Blobs[2].Bytes()[5:15])
						_, err = c.ResolveBlob(ctx, "foo", a.Blobs[2].Descriptor.Digest)
						qt.Check(t, qt.IsNil(err))
						_, err = c.ResolveManifest(ctx, "foo", a.Descriptor.Digest)
						qt.Check(t, qt.IsNil(err))
						synctest.Wait()
					}
					for range 2 {
						wantTag(t, c, "foo", "v1", image)
						wantTag(t, c, "foo", "v2", other)
						_, err := c.ResolveTag(ctx, "foo", "v1")
						qt.Check(t, qt.IsNil(err))
					}
					referrers, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
					qt.Check(t, qt.IsNil(err))
					qt.Check(t, qt.HasLen(referrers, 1))
				}
				cache.set(method, errBroken)
				use()
				use()
				if method == "" || method == "PushBlob" {
					qt.Check(t, qt.IsTrue(log.has("cannot keep")))
				}
				cache.set(method, nil)
				use()
				qt.Check(t, qt.IsNil(c.Close()))
			})
		})
	}
}

// A push to the cache that fails in the middle of a blob disturbs nobody.
func TestBehaviour09_CacheIsFull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	mem := ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	var log logLines
	c := newCache(t, ocimem.NewWithConfig(&ocimem.Config{MaxBytes: 100_000}), mem, &ociunify.CacheOptions{Logger: log.logger()})
	for range 2 {
		qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	}
	qt.Check(t, qt.IsNil(c.Close()))
	qt.Check(t, qt.IsTrue(log.has("cannot keep a blob")))
}

func TestBehaviour12_Bounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		origin := count(mem)
		const n, size = 10, 10_000
		var blobs []ocitest.Blob
		for i := range n {
			blob := ocitest.NewBlob(uint64(i), size)
			_, err := mem.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
			qt.Assert(t, qt.IsNil(err))
			blobs = append(blobs, blob)
		}
		image := pushed(t, mem, "foo", 1, "v1")
		c := ociunify.NewCache(cache, origin, &ociunify.CacheOptions{MaxBytes: 4*size + 5000})
		read := func(i int) {
			t.Helper()
			got, err := readBlob(ctx, c, "foo", blobs[i].Descriptor.Digest)
			wantBytes(t, got, err, blobs[i].Bytes())
			synctest.Wait()
		}
		kept := func() (list []int) {
			for i, blob := range blobs {
				if _, err := cache.ResolveBlob(ctx, "foo", blob.Descriptor.Digest); err == nil {
					list = append(list, i)
				}
			}
			return list
		}
		synctest.Wait()
		wantTag(t, c, "foo", "v1", image)
		for i := range 4 {
			read(i)
		}
		qt.Check(t, qt.DeepEquals(kept(), []int{0, 1, 2, 3}))
		read(0)
		open, err := c.GetBlob(ctx, "foo", blobs[1].Descriptor.Digest)
		qt.Assert(t, qt.IsNil(err))
		head := make([]byte, 100)
		_, err = io.ReadFull(open, head)
		qt.Assert(t, qt.IsNil(err))
		read(4)
		read(5)
		qt.Check(t, qt.DeepEquals(kept(), []int{0, 1, 4, 5}))
		read(6)
		read(7)
		qt.Check(t, qt.DeepEquals(kept(), []int{4, 5, 6, 7}))
		rest, err := readAll(open, nil)
		wantBytes(t, rest, err, blobs[1].Bytes()[100:]) // it was open

		// What is too large is passed on. What has gone is fetched again. The
		// manifest is there after all that.
		origin.took()
		got, err := readBlob(ctx, c, "foo", image.Blobs[2].Descriptor.Digest)
		wantBytes(t, got, err, image.Blobs[2].Bytes())
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(kept(), []int{4, 5, 6, 7}))
		read(1)
		qt.Check(t, qt.Equals(origin.took(), "GetBlob GetBlob"))
		_, err = cache.ResolveManifest(ctx, "foo", image.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))

		// A restart knows what there is.
		qt.Check(t, qt.IsNil(c.Close()))
		c = ociunify.NewCache(cache, origin, &ociunify.CacheOptions{MaxBytes: 4*size + 5000})
		synctest.Wait()
		for i := range n {
			read(i)
			qt.Check(t, qt.IsTrue(len(kept()) <= 4))
		}
		qt.Check(t, qt.DeepEquals(kept(), []int{6, 7, 8, 9}))
		qt.Check(t, qt.IsNil(c.Close()))

		// A smaller bound holds from the next thing that is kept. With no blobs
		// left, manifests go.
		c = ociunify.NewCache(cache, origin, &ociunify.CacheOptions{MaxBytes: size})
		synctest.Wait()
		read(0)
		qt.Check(t, qt.DeepEquals(kept(), []int{0}))
		_, err = cache.ResolveManifest(ctx, "foo", image.Descriptor.Digest)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// What was kept without a bound counts from when it is read, and a digest counts
// once for all repositories.
func TestBehaviour12_Counting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		blob, other := ocitest.NewBlob(1, 1000), ocitest.NewBlob(2, 1000)
		for i := range 3 {
			for _, b := range []ocitest.Blob{blob, other} {
				_, err := mem.PushBlob(ctx, fmt.Sprint("foo", i), b.Descriptor, b.NewReader())
				qt.Assert(t, qt.IsNil(err))
			}
		}
		read := func(opts *ociunify.CacheOptions, b ocitest.Blob, repos ...int) {
			t.Helper()
			c := ociunify.NewCache(cache, mem, opts)
			synctest.Wait()
			for _, i := range repos {
				got, err := readBlob(ctx, c, fmt.Sprint("foo", i), b.Descriptor.Digest)
				wantBytes(t, got, err, b.Bytes())
				synctest.Wait()
			}
			qt.Check(t, qt.IsNil(c.Close()))
		}
		kept := func(b ocitest.Blob) (n int) {
			for i := range 3 {
				if _, err := cache.ResolveBlob(ctx, fmt.Sprint("foo", i), b.Descriptor.Digest); err == nil {
					n++
				}
			}
			return n
		}
		bound := &ociunify.CacheOptions{MaxBytes: 1500}
		read(nil, blob, 0, 1)
		read(bound, blob, 0, 1, 2)
		qt.Check(t, qt.Equals(kept(blob), 3))
		read(bound, other, 0)
		qt.Check(t, qt.Equals(kept(blob), 0))
		qt.Check(t, qt.Equals(kept(other), 1))
	})
}
