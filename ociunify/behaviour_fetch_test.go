package ociunify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/leak"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// The numbers are those of the lines of behaviours/sync.md.

func TestBehaviour01_MissIsFetched(t *testing.T) {
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

func TestBehaviour02_ByteForByte(t *testing.T) {
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

func TestBehaviour03_OneFetchForAll(t *testing.T) {
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

// Callers that leave, at any stage, do not disturb others; when the last has
// left, the fetch ends, or goes on if it is wanted.
func TestBehaviour03_CallersLeave(t *testing.T) {
	t.Parallel()
	for _, finish := range []bool{false, true} {
		for stage := range 3 {
			t.Run(fmt.Sprint(finish, stage), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testCallersLeave(t, finish, stage) })
			})
		}
	}
}

func testCallersLeave(t *testing.T, finish bool, stage int) {
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

func TestBehaviour03_ManyReadersBoundedMemory(t *testing.T) {
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
	var asking sync.WaitGroup
	var wrong atomic.Int64
	for i := range n {
		asking.Go(func() {
			rd, err := c.GetBlob(t.Context(), "foo", blob.Descriptor.Digest)
			if err != nil {
				wrong.Add(1)
				return
			}
			defer rd.Close()
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

func TestBehaviour04_MissStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		origin := count(mem)
		layer := pushed(t, mem, "foo", 1).Blobs[2]
		d, data := layer.Descriptor.Digest, layer.Bytes()
		open := make(chan struct{})
		origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader { return newGate(rd, 100_000, open) })
		c := ociunify.NewCache(cache, origin, nil)

		rd, err := c.GetBlob(ctx, "foo", d)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(rd.Descriptor(), ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: layer.Descriptor.Size}))
		head := make([]byte, 99_999) // the last byte is held back, since it might be the blob's
		_, err = io.ReadFull(rd, head)
		wantBytes(t, head, err, data[:99_999])

		// A range is there as soon as its bytes are.
		part, err := c.GetBlobRange(ctx, "foo", d, 50_000, 60_000)
		got, err := readAll(part, err)
		wantBytes(t, got, err, data[50_000:60_000])
		later := make(chan []byte)
		go func() {
			got, _ := readAll(c.GetBlobRange(ctx, "foo", d, 99_000, 101_000))
			later <- got
		}()
		_, err = c.GetBlobRange(ctx, "foo", d, 300_001, -1)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
		synctest.Wait()
		close(open)
		qt.Check(t, qt.IsTrue(bytes.Equal(<-later, data[99_000:101_000])))
		rest, err := readAll(rd, nil)
		wantBytes(t, rest, err, data[99_999:])
		qt.Check(t, qt.Equals(origin.took(), "GetBlob"))
		qt.Check(t, qt.IsNil(c.Close()))

		// A range of what is not being fetched does not fetch the whole.
		qt.Assert(t, qt.IsNil(cache.DeleteBlob(ctx, "foo", d)))
		c = ociunify.NewCache(cache, origin, nil)
		got, err = readAll(c.GetBlobRange(ctx, "foo", d, 10, 20))
		wantBytes(t, got, err, data[10:20])
		qt.Check(t, qt.Equals(origin.took(), "GetBlobRange"))
		_, err = cache.ResolveBlob(ctx, "foo", d)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// All callers have the first byte at the time when the cache has it, whatever the
// origin does then.
func TestBehaviour04_FirstByteForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		mem := ocimem.New()
		origin := count(mem)
		layer := pushed(t, mem, "foo", 1).Blobs[2]
		open := make(chan struct{})
		origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			time.Sleep(time.Second)
			return newGate(rd, 2, open) // of two bytes the last might be that of the blob
		})
		c := ociunify.NewCache(ocimem.New(), origin, nil)
		start := time.Now()
		var asking, begun sync.WaitGroup
		begun.Add(n)
		for range n {
			asking.Go(func() {
				rd, err := c.GetBlob(t.Context(), "foo", layer.Descriptor.Digest)
				if err != nil {
					t.Error(err)
					begun.Done()
					return
				}
				first := make([]byte, 1)
				_, err = io.ReadFull(rd, first)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(time.Since(start), time.Second))
				begun.Done()
				got, err := readAll(rd, nil)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.IsTrue(bytes.Equal(append(first, got...), layer.Bytes())))
			})
		}
		begun.Wait()
		close(open)
		asking.Wait()
		qt.Check(t, qt.Equals(origin.took(), "GetBlob"))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

func TestBehaviour04_UnknownSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		origin := count(mem)
		layer := pushed(t, mem, "foo", 1).Blobs[2]
		origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withDescriptor{rd, ociregistry.Descriptor{Size: -1}}
		})
		c := ociunify.NewCache(cache, origin, nil)
		got, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
		wantBytes(t, got, err, layer.Bytes())
		qt.Check(t, qt.IsNil(c.Close()))
		desc, err := cache.ResolveBlob(ctx, "foo", layer.Descriptor.Digest)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Size, layer.Descriptor.Size))
	})
}

// Where nothing can be spooled, each caller reads on at the origin.
func TestBehaviour04_NoPlaceToSpool(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	mem := ocimem.New()
	layer := pushed(t, mem, "foo", 1).Blobs[2]
	var log logLines
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Remove(dir)))
	origin := count(mem)
	c := newCache(t, ocimem.New(), origin, &ociunify.CacheOptions{TempDir: dir, Logger: log.logger()})
	for range 2 {
		got, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
		wantBytes(t, got, err, layer.Bytes())
	}
	qt.Check(t, qt.IsTrue(log.has("cannot keep a blob while it is fetched")))
	origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
		return withReader{rd, io.MultiReader(io.LimitReader(rd, 299_999), bytes.NewReader([]byte("x")))}
	})
	got, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	qt.Check(t, qt.IsTrue(len(got) < 300_000))
	qt.Assert(t, qt.IsNil(os.Mkdir(dir, 0o777)))
}

// Whatever is wrong with what the origin sends, no caller has all of it without
// an error, and nothing of it is kept.
func TestBehaviour05_NothingUnverified(t *testing.T) {
	t.Parallel()
	lies := map[string]func(ociregistry.BlobReader) ociregistry.BlobReader{
		"first byte": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			io.CopyN(io.Discard, rd, 1)
			return withReader{rd, io.MultiReader(bytes.NewReader([]byte{0}), rd)}
		},
		"last byte": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withReader{rd, io.MultiReader(io.LimitReader(rd, rd.Descriptor().Size-1), bytes.NewReader([]byte{0}))}
		},
		"empty": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withReader{rd, bytes.NewReader(nil)}
		},
		"truncated": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withReader{rd, io.LimitReader(rd, rd.Descriptor().Size-1)}
		},
		"truncated, and says so": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			desc := rd.Descriptor()
			desc.Size--
			return withDescriptor{withReader{rd, io.LimitReader(rd, desc.Size)}, desc}
		},
		"more": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withReader{rd, io.MultiReader(rd, bytes.NewReader([]byte("more")))}
		},
		"more, of unknown size": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			desc := rd.Descriptor()
			desc.Size = -1
			return withDescriptor{withReader{rd, io.MultiReader(rd, bytes.NewReader([]byte("more")))}, desc}
		},
		"breaks": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withReader{rd, io.MultiReader(io.LimitReader(rd, rd.Descriptor().Size/2), brokenReader{})}
		},
		"breaks at the end": func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withReader{rd, io.MultiReader(rd, brokenReader{})}
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				mem, cache := ocimem.New(), ocimem.New()
				origin := count(mem)
				image := pushed(t, mem, "foo", 1, "v1")
				c := ociunify.NewCache(cache, origin, nil)
				origin.setBody(lie)
				for _, blob := range image.Blobs {
					got, err := readBlob(ctx, c, "foo", blob.Descriptor.Digest)
					qt.Check(t, qt.IsNotNil(err))
					// How much it is may be known only by its end.
					qt.Check(t, qt.IsTrue(int64(len(got)) < blob.Descriptor.Size || name == "more, of unknown size"), qt.Commentf("a caller had %d bytes of %d", len(got), blob.Descriptor.Size))
				}
				_, err := readAll(c.GetManifest(ctx, "foo", image.Descriptor.Digest))
				qt.Check(t, qt.IsNotNil(err))
				_, err = readAll(c.GetTag(ctx, "foo", "v1"))
				qt.Check(t, qt.IsNotNil(err))
				synctest.Wait()
				repos, err := ociregistry.All(cache.Repositories(ctx, ""))
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.HasLen(repos, 0))

				origin.setBody(nil)
				qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
				qt.Check(t, qt.IsNil(c.Close()))
			})
		})
	}
}

var errBroken = errors.New("connection reset")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }
