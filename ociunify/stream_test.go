package ociunify_test

import (
	"bytes"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociunify"
)

func TestCache_StreamsAMiss(t *testing.T) {
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

		// A range can be read as soon as its bytes have come.
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

		// Reading a range of a blob that is not being fetched does not fetch the blob.
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

// All callers get the first byte when the cache has it, whatever the origin does then.
func TestCache_GivesAllCallersTheFirstByteAtOnce(t *testing.T) {
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

func TestCache_KeepsABlobOfUnknownSize(t *testing.T) {
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

// If nothing can be spooled, each caller reads from the origin.
func TestCache_ReadsFromTheOriginWhenItCannotSpool(t *testing.T) {
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
