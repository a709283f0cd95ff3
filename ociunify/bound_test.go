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

func TestCache_KeepsNoMoreThanMaxBytes(t *testing.T) {
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

		// A blob that is too large is passed on. One that was evicted is fetched
		// again. The manifest is still kept.
		origin.took()
		got, err := readBlob(ctx, c, "foo", image.Blobs[2].Descriptor.Digest)
		wantBytes(t, got, err, image.Blobs[2].Bytes())
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(kept(), []int{4, 5, 6, 7}))
		read(1)
		qt.Check(t, qt.Equals(origin.took(), "GetBlob GetBlob"))
		_, err = cache.ResolveManifest(ctx, "foo", image.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))

		// A restart knows what is kept.
		qt.Check(t, qt.IsNil(c.Close()))
		c = ociunify.NewCache(cache, origin, &ociunify.CacheOptions{MaxBytes: 4*size + 5000})
		synctest.Wait()
		for i := range n {
			read(i)
			qt.Check(t, qt.IsTrue(len(kept()) <= 4))
		}
		qt.Check(t, qt.DeepEquals(kept(), []int{6, 7, 8, 9}))
		qt.Check(t, qt.IsNil(c.Close()))

		// A smaller limit applies from the next blob that is kept. When no blobs are
		// left, manifests are evicted.
		c = ociunify.NewCache(cache, origin, &ociunify.CacheOptions{MaxBytes: size})
		synctest.Wait()
		read(0)
		qt.Check(t, qt.DeepEquals(kept(), []int{0}))
		_, err = cache.ResolveManifest(ctx, "foo", image.Descriptor.Digest)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Content that was kept without a limit counts from its first read, and a digest counts
// once for all repositories.
func TestCache_CountsEachDigestOnceFromItsFirstRead(t *testing.T) {
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

// Processes that share a cache registry each record what they read, and do not delete each other's
// records: who starts knows all that is kept.
func TestCache_RecordsWhatAnotherProcessDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		blobs := []ocitest.Blob{ocitest.NewBlob(0, 1000), ocitest.NewBlob(1, 1000), ocitest.NewBlob(2, 1000)}
		for _, b := range blobs {
			_, err := mem.PushBlob(ctx, "foo", b.Descriptor, b.NewReader())
			qt.Assert(t, qt.IsNil(err))
		}
		start := func() *ociunify.Cache {
			c := newCache(t, cache, mem, &ociunify.CacheOptions{MaxBytes: 1000})
			synctest.Wait()
			return c
		}
		read := func(c *ociunify.Cache, i int) {
			t.Helper()
			got, err := readBlob(ctx, c, "foo", blobs[i].Descriptor.Digest)
			wantBytes(t, got, err, blobs[i].Bytes())
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		kept := func() (list []int) {
			for i, b := range blobs {
				if _, err := cache.ResolveBlob(ctx, "foo", b.Descriptor.Digest); err == nil {
					list = append(list, i)
				}
			}
			return list
		}
		one, two := start(), start()
		read(one, 0)
		read(two, 0)
		read(one, 1) // deletes what two counts
		qt.Check(t, qt.DeepEquals(kept(), []int{1}))
		read(two, 0)
		qt.Check(t, qt.DeepEquals(kept(), []int{0, 1}))
		read(start(), 2)
		qt.Check(t, qt.DeepEquals(kept(), []int{2}))
	})
}
