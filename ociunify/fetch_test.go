package ociunify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/leak"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

func TestCache_FetchesWhatItLacks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	origin, cache := count(ocimem.New()), ocimem.New()
	image := pushed(t, origin, "foo", 1, "v1", "v2")
	c := newCache(t, cache, origin, nil)
	origin.took()

	rd, err := c.GetTag(ctx, "foo", "v1")
	got, err := readAll(rd, err)
	wantBytes(t, got, err, image.Manifest)
	qt.Check(t, qt.Equals(origin.took(), "GetTag"))
	for _, blob := range image.Blobs {
		got, err := readBlob(ctx, c, "foo", blob.Descriptor.Digest)
		wantBytes(t, got, err, blob.Bytes())
	}
	qt.Check(t, qt.Equals(origin.took(), "GetBlob GetBlob GetBlob"))
	qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	qt.Check(t, qt.Equals(origin.took(), ""))

	tags, err := ociregistry.All(c.Tags(ctx, "foo", ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(tags, []string{"v1", "v2"}))

	other := digest.FromString("other")
	tests := []struct {
		name string
		ask  func(ociregistry.Interface) error
	}{
		{"repository", func(r ociregistry.Interface) error { _, err := r.GetTag(ctx, "bar", "v1"); return err }},
		{"tag", func(r ociregistry.Interface) error { _, err := r.GetTag(ctx, "foo", "v3"); return err }},
		{"resolved tag", func(r ociregistry.Interface) error { _, err := r.ResolveTag(ctx, "foo", "v3"); return err }},
		{"manifest", func(r ociregistry.Interface) error { _, err := r.GetManifest(ctx, "foo", other); return err }},
		{"blob", func(r ociregistry.Interface) error { _, err := r.GetBlob(ctx, "foo", other); return err }},
		{"range", func(r ociregistry.Interface) error { _, err := r.GetBlobRange(ctx, "foo", other, 1, 2); return err }},
	}
	for _, test := range tests {
		want, got := test.ask(origin), test.ask(c)
		qt.Check(t, qt.IsNotNil(want))
		qt.Check(t, qt.DeepEquals(fmt.Sprint(got), fmt.Sprint(want)), qt.Commentf("unknown %s", test.name))
	}
}

func TestCache_ServesTheOriginByteForByte(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, sparse := range []bool{false, true} {
		origin := count(ocimem.New())
		image := pushed(t, origin, "foo", 1)
		index := ocitest.NewIndex(ocitest.Spec{}, image, ocitest.NewImage(ocitest.Spec{Seed: 2}))
		artifact := ocitest.NewImage(ocitest.Spec{ArtifactType: "application/vnd.example", Subject: &image.Descriptor})
		reg := ocitest.NewRegistry(t, origin)
		reg.MustPush("foo", index, "index")
		reg.MustPush("foo", artifact, "artifact")
		odd := []byte("{\n  \"any\": \"thing\" }\n")
		oddDesc, err := origin.PushManifest(ctx, "foo", "odd", odd, "application/vnd.example; a=\"b\"")
		qt.Assert(t, qt.IsNil(err))
		sha512 := digest.SHA512.FromBytes(odd)
		_, err = origin.PushManifest(ctx, "foo", string(sha512), odd, "text/plain")
		qt.Assert(t, qt.IsNil(err))

		c := newCache(t, ocimem.NewWithConfig(&ocimem.Config{Sparse: sparse}), origin, &ociunify.CacheOptions{Sparse: sparse})
		for range 2 { // the second time from the cache
			qt.Check(t, qt.IsNil(index.Verify(ctx, c, "foo")))
			qt.Check(t, qt.IsNil(artifact.Verify(ctx, c, "foo")))
			rd, err := c.GetTag(ctx, "foo", "odd")
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(rd.Descriptor(), oddDesc))
			got, err := readAll(rd, err)
			wantBytes(t, got, err, odd)
			desc, err := c.ResolveTag(ctx, "foo", "odd")
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(desc, oddDesc))
			got, err = readAll(c.GetManifest(ctx, "foo", sha512))
			wantBytes(t, got, err, odd)
		}
		qt.Check(t, qt.Equals(origin.number("GetManifest"), len(index.Children)+3))
	}
}

func TestCache_FetchesOnceForAllCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		ctx := t.Context()
		mem := ocimem.New()
		origin := count(mem)
		image := pushed(t, mem, "foo", 1)
		pushed(t, mem, "bar", 1, "v1")
		layer := image.Blobs[2]
		c := ociunify.NewCache(ocimem.New(), origin, nil)
		asks := map[string]struct {
			ask  func() ([]byte, error)
			want []byte
		}{
			"GetBlob":     {func() ([]byte, error) { return readBlob(ctx, c, "foo", layer.Descriptor.Digest) }, layer.Bytes()},
			"GetManifest": {func() ([]byte, error) { return readAll(c.GetManifest(ctx, "foo", image.Descriptor.Digest)) }, image.Manifest},
			"GetTag":      {func() ([]byte, error) { return readAll(c.GetTag(ctx, "bar", "v1")) }, image.Manifest},
		}
		for method, a := range asks {
			for _, failure := range []error{errors.New("origin is on fire"), nil} {
				open := origin.hold(method)
				origin.set(method, failure)
				var asking sync.WaitGroup
				for range n {
					asking.Go(func() {
						got, err := a.ask()
						if failure == nil {
							qt.Check(t, qt.IsNil(err))
							qt.Check(t, qt.IsTrue(bytes.Equal(got, a.want)))
						} else {
							qt.Check(t, qt.ErrorIs(err, failure))
						}
					})
				}
				synctest.Wait()
				close(open)
				asking.Wait()
				synctest.Wait()
				qt.Check(t, qt.Equals(origin.number(method), 1), qt.Commentf("%s with error %v", method, failure))
				origin.took()
			}
		}
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Callers that leave, at any stage, do not disturb others. When the last one has left,
// the fetch ends, or continues with FinishFetches.
func TestCache_CallersWhoLeaveDisturbNoOthers(t *testing.T) {
	t.Parallel()
	for _, finish := range []bool{false, true} {
		for stage := range 3 {
			t.Run(fmt.Sprint(finish, stage), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testCallersWhoLeave(t, finish, stage) })
			})
		}
	}
}

func testCallersWhoLeave(t *testing.T, finish bool, stage int) {
	mem, cache := ocimem.New(), ocimem.New()
	origin := count(mem)
	layer := pushed(t, mem, "foo", 1).Blobs[2]
	d := layer.Descriptor.Digest
	c := ociunify.NewCache(cache, origin, &ociunify.CacheOptions{FinishFetches: finish})
	open := make(chan struct{})
	if stage == 0 {
		open = origin.hold("GetBlob")
	} else {
		origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return newGate(rd, []int{0, 0, 100_000}[stage], open)
		})
	}
	leave := func(ctx context.Context) {
		rd, err := c.GetBlob(ctx, "foo", d)
		if err == nil {
			_, err = io.Copy(io.Discard, rd)
			rd.Close()
		}
		qt.Check(t, qt.ErrorIs(err, context.Canceled))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() { leave(ctx) })
	synctest.Wait()
	asking.Go(func() {
		got, err := readBlob(t.Context(), c, "foo", d)
		wantBytes(t, got, err, layer.Bytes())
	})
	asking.Go(func() { leave(ctx) })
	synctest.Wait()
	cancel()
	synctest.Wait()
	close(open)
	asking.Wait()
	qt.Check(t, qt.Equals(origin.number("GetBlob"), 1))

	// Now all leave.
	synctest.Wait()
	qt.Assert(t, qt.IsNil(cache.DeleteBlob(t.Context(), "foo", d)))
	open = make(chan struct{})
	if stage == 0 {
		open = origin.hold("GetBlob")
	}
	ctx, cancel = context.WithCancel(t.Context())
	asking.Go(func() { leave(ctx) })
	asking.Go(func() { leave(ctx) })
	synctest.Wait()
	cancel()
	asking.Wait()
	synctest.Wait()
	close(open)
	synctest.Wait()
	_, err := cache.ResolveBlob(t.Context(), "foo", d)
	qt.Check(t, qt.Equals(err == nil, finish))
	got, err := readBlob(t.Context(), c, "foo", d)
	wantBytes(t, got, err, layer.Bytes())
	qt.Check(t, qt.Equals(origin.number("GetBlob") == 2, finish))
	qt.Check(t, qt.IsNil(c.Close()))
}

// A blob that a caller has read is known, even if the cache registry has yet to take it.
func TestCache_ResolvesABlobThatIsYetToBeKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin, cache := count(mem), count(ocimem.New())
		layer := pushed(t, mem, "foo", 1).Blobs[2]
		c := ociunify.NewCache(cache, origin, nil)
		take := cache.hold("PushBlob")
		got, err := readBlob(t.Context(), c, "foo", layer.Descriptor.Digest)
		wantBytes(t, got, err, layer.Bytes())
		origin.set("", errBroken)
		arrived, err := c.ResolveBlob(t.Context(), "foo", layer.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(arrived.Size, layer.Descriptor.Size))
		close(take)
		synctest.Wait()
		kept, err := c.ResolveBlob(t.Context(), "foo", layer.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(arrived, kept))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

func TestCache_BoundsTheMemoryOfManyReaders(t *testing.T) {
	const n, size = 300, 64 << 20
	mem := ocimem.New()
	origin := count(mem)
	blob := ocitest.NewBlob(1, size)
	_, err := mem.PushBlob(t.Context(), "foo", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	cache, err := ocifs.New(t.TempDir(), &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	defer cache.Close()
	running := leak.Goroutines()
	c := ociunify.NewCache(cache, origin, &ociunify.CacheOptions{TempDir: t.TempDir()})
	open := origin.hold("GetBlob")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var asking, joined sync.WaitGroup
	var wrong atomic.Int64
	joined.Add(n)
	for i := range n {
		asking.Go(func() {
			rd, err := c.GetBlob(t.Context(), "foo", blob.Descriptor.Digest)
			joined.Done()
			if err != nil {
				wrong.Add(1)
				return
			}
			defer rd.Close()
			joined.Wait() // for those who would have to fetch it again if all others had left
			// A few read all; the others leave after some of it.
			want := int64(size)
			if i%20 != 0 {
				want = size / 64
			}
			if m, err := io.CopyN(io.Discard, rd, want); err != nil || m != want {
				wrong.Add(1)
			}
		})
	}
	close(open)
	asking.Wait()
	runtime.ReadMemStats(&after)
	qt.Check(t, qt.Equals(wrong.Load(), 0))
	qt.Check(t, qt.Equals(origin.number("GetBlob"), 1))
	qt.Check(t, qt.IsTrue(after.HeapSys-min(before.HeapSys, after.HeapSys) < 32<<20), qt.Commentf("the heap grew by %d bytes", after.HeapSys-before.HeapSys))
	qt.Check(t, qt.IsNil(c.Close()))
	got, err := cache.ResolveBlob(t.Context(), "foo", blob.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, size))
	running.Check(t)
}
