package ocibucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// fleet is caches of one origin that share a bucket, as each machine of a fleet has one.
type fleet struct {
	t      *testing.T
	origin *asked
	mem    *ocimem.Registry // what the origin has
	store  *memstore.Store
	log    locked.Buffer // of all caches
}

// asked is an origin that writes down which of its methods are called.
type asked struct {
	ociregistry.Interface
	blobs chan struct{} // if not nil, GetBlob waits until it is closed

	mu    sync.Mutex
	calls []string
}

func (o *asked) note(method string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, method)
}

// took returns the calls since the last took.
func (o *asked) took() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := o.calls
	o.calls = nil
	return calls
}

func (o *asked) GetBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	o.note("GetBlob")
	if o.blobs != nil {
		<-o.blobs
	}
	return o.Interface.GetBlob(ctx, repo, d)
}

func (o *asked) GetManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	o.note("GetManifest")
	return o.Interface.GetManifest(ctx, repo, d)
}

func (o *asked) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	o.note("GetTag")
	return o.Interface.GetTag(ctx, repo, tag)
}

func (o *asked) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	o.note("ResolveTag")
	return o.Interface.ResolveTag(ctx, repo, tag)
}

// inFleet runs a test by a clock that is not real.
func inFleet(t *testing.T, test func(t *testing.T, f *fleet)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		f := &fleet{t: t, origin: &asked{Interface: mem}, mem: mem, store: memstore.New(nil)}
		test(t, f)
		qt.Check(t, qt.Equals(f.log.String(), ""))
	})
}

// cache returns the cache of another process. Its bucket is another Registry, too.
func (f *fleet) cache(opts ociunify.CacheOptions) *ociunify.Cache {
	opts.Logger = slog.New(slog.NewTextHandler(&f.log, nil))
	c := ociunify.NewCache(mustOpen(f.t, f.store, &Options{Sparse: true}), f.origin, &opts)
	f.t.Cleanup(func() { c.Close() })
	return c
}

func (f *fleet) image(seed uint64, tag string) *ocitest.Artifact {
	image := ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{100, 100_000}})
	qt.Assert(f.t, qt.IsNil(image.Push(f.t.Context(), f.mem, "app", tag)))
	return image
}

// pull checks that a cache has an image under a tag, with all of its content.
func (f *fleet) pull(c *ociunify.Cache, tag string, image *ocitest.Artifact) {
	f.t.Helper()
	rd, err := c.GetTag(f.t.Context(), "app", tag)
	qt.Assert(f.t, qt.IsNil(err))
	qt.Check(f.t, qt.Equals(rd.Descriptor().Digest, image.Descriptor.Digest))
	qt.Check(f.t, qt.IsNil(rd.Close()))
	qt.Check(f.t, qt.IsNil(image.Verify(f.t.Context(), c, "app")))
	synctest.Wait()
}

func TestFleet_WhatOneFetchedAnotherServes(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		one, two := f.cache(ociunify.CacheOptions{}), f.cache(ociunify.CacheOptions{})
		image := f.image(1, "v1")
		f.pull(one, "v1", image)
		f.origin.took()
		f.pull(two, "v1", image)
		qt.Check(t, qt.DeepEquals(f.origin.took(), []string{"ResolveTag"})) // where the tag points
		third := f.cache(ociunify.CacheOptions{})
		qt.Check(t, qt.IsNil(image.Verify(t.Context(), third, "app")))
		qt.Check(t, qt.HasLen(f.origin.took(), 0))
	})
}

// Each asks the origin about a tag when TagTTL has passed since it asked itself. A tag that one has
// found to be moved has moved for all.
func TestFleet_ATagMovesForAll(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		const ttl = time.Minute
		one, two := f.cache(ociunify.CacheOptions{TagTTL: ttl}), f.cache(ociunify.CacheOptions{TagTTL: ttl})
		before := f.image(1, "v1")
		f.pull(one, "v1", before)
		time.Sleep(ttl / 2)
		f.pull(two, "v1", before)
		after := f.image(2, "v1")
		time.Sleep(ttl / 4)
		f.origin.took()
		f.pull(one, "v1", before)
		f.pull(two, "v1", before)
		qt.Check(t, qt.HasLen(f.origin.took(), 0))

		time.Sleep(ttl / 4)
		f.pull(one, "v1", after)
		qt.Check(t, qt.IsTrue(slices.Contains(f.origin.took(), "ResolveTag")))
		f.pull(two, "v1", after)
		qt.Check(t, qt.HasLen(f.origin.took(), 0))
		time.Sleep(ttl / 2)
		f.pull(two, "v1", after)
		qt.Check(t, qt.DeepEquals(f.origin.took(), []string{"ResolveTag"}))
	})
}

func TestFleet_SeveralMayFetchTheSameAtOnce(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		image := f.image(1, "v1")
		f.origin.blobs = make(chan struct{})
		var pulls sync.WaitGroup
		for range 4 {
			c := f.cache(ociunify.CacheOptions{MaxBytes: 1 << 20})
			pulls.Go(func() { qt.Check(t, qt.IsNil(image.Verify(t.Context(), c, "app"))) })
		}
		time.Sleep(time.Minute)
		qt.Check(t, qt.HasLen(slices.DeleteFunc(f.origin.took(), func(s string) bool { return s != "GetBlob" }), 4))
		close(f.origin.blobs)
		pulls.Wait()
		r := mustOpen(t, f.store, &Options{Sparse: true})
		qt.Check(t, qt.IsNil(image.Verify(t.Context(), r, "app")))
		for p, err := range r.Verify(t.Context()) {
			t.Error(p, err)
		}
	})
}

// MaxBytes bounds what each keeps or reads. What another one has deleted is fetched again.
func TestFleet_HoldsMaxBytesForEachProcess(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		const size, processes = 100_000, 3
		var blobs []ocitest.Blob
		for i := range 12 {
			b := ocitest.NewBlob(uint64(i), size)
			_, err := f.mem.PushBlob(t.Context(), "app", b.Descriptor, b.NewReader())
			qt.Assert(t, qt.IsNil(err))
			blobs = append(blobs, b)
		}
		r := mustOpen(t, f.store, &Options{Sparse: true})
		held := func() (n int) {
			for _, b := range blobs {
				if _, err := r.ResolveBlob(t.Context(), "app", b.Descriptor.Digest); err == nil {
					n++
				}
			}
			return n
		}
		read := func(c *ociunify.Cache, list ...ocitest.Blob) {
			t.Helper()
			for _, b := range list {
				rd, err := c.GetBlob(t.Context(), "app", b.Descriptor.Digest)
				qt.Assert(t, qt.IsNil(err))
				got, err := io.ReadAll(rd)
				qt.Check(t, qt.IsNil(errors.Join(err, rd.Close())))
				qt.Check(t, qt.IsTrue(bytes.Equal(got, b.Bytes())))
				time.Sleep(time.Millisecond)
				synctest.Wait()
				qt.Check(t, qt.IsTrue(held() <= 2*processes), qt.Commentf("%d blobs are kept", held()))
			}
		}
		bound := ociunify.CacheOptions{MaxBytes: 2 * size}
		caches := [processes]*ociunify.Cache{f.cache(bound), f.cache(bound), f.cache(bound)}
		synctest.Wait()
		for i, c := range caches {
			read(c, blobs[4*i:4*i+4]...)
		}
		qt.Check(t, qt.Equals(held(), 2*processes))

		// What one deletes, as it reads others, is gone for all.
		read(caches[0], blobs[11], blobs[10], blobs[0], blobs[1])
		f.origin.took()
		read(caches[2], blobs[11])
		qt.Check(t, qt.DeepEquals(f.origin.took(), []string{"GetBlob"}))

		// Who starts knows what all have kept.
		for _, c := range caches[1:] {
			qt.Check(t, qt.IsNil(c.Close()))
		}
		qt.Check(t, qt.IsTrue(held() > 2))
		last := f.cache(bound)
		qt.Check(t, qt.IsNil(caches[0].Close()))
		synctest.Wait()
		read(last, blobs[5])
		qt.Check(t, qt.Equals(held(), 2))
	})
}
