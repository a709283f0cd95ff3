package ociunify_test

import (
	"bytes"
	"io"
	"os"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociunify"
)

// The reader of a fetch says that the blob is verified: a push from it to another registry
// of this module need not hash it again.
func TestCache_ReaderOfAFetchSaysThatItIsVerified(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	gone := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Remove(gone)))
	for name, tempDir := range map[string]string{"spooled": "", "read on at the origin": gone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := ocimem.New()
			layer := pushed(t, mem, "foo", 1).Blobs[2]
			d, size := layer.Descriptor.Digest, layer.Descriptor.Size
			c := newCache(t, ocimem.New(), mem, &ociunify.CacheOptions{TempDir: tempDir})

			rd, err := c.GetBlob(ctx, "foo", d)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(verified.By(rd), verified.State{Digest: d}))
			dst := ocimem.New()
			_, err = dst.PushBlob(ctx, "foo", layer.Descriptor, rd)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(verified.By(rd), verified.State{Digest: d, Read: size, Ended: true}))
			rd.Close()
			got, err := readBlob(ctx, dst, "foo", d)
			wantBytes(t, got, err, layer.Bytes())
		})
		t.Run(name+", a part", func(t *testing.T) {
			t.Parallel()
			mem := ocimem.New()
			layer := pushed(t, mem, "foo", 1).Blobs[2]
			c := newCache(t, ocimem.New(), mem, &ociunify.CacheOptions{TempDir: tempDir})
			rd, err := c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 1, -1)
			qt.Assert(t, qt.IsNil(err))
			defer rd.Close()
			_, err = io.Copy(io.Discard, rd)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(verified.By(rd), verified.State{}))
		})
	}
}

// No caller reads wrong content of the origin to the end without an error, and none of it
// is kept.
func TestCache_NeitherServesNorKeepsWrongContent(t *testing.T) {
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
					// The size may be known only at the end.
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

// The cache does not hash again what a registry has verified. The last byte is held back
// all the same.
func TestCache_HashesNothingThatIsVerified(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[2]
	c := newCache(t, remote(t, mem), ocimem.New(), nil)
	rd, err := c.GetBlob(ctx, "foo", layer.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	dst := ocimem.New()
	_, err = dst.PushBlob(ctx, "foo", layer.Descriptor, rd)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(verified.By(rd), verified.State{Digest: layer.Descriptor.Digest, Read: layer.Descriptor.Size, Ended: true}))
	rd.Close()
}

// selfVerifying is a registry with a view that verifies what is read.
type selfVerifying struct {
	ociregistry.Interface
	view ociregistry.Interface
}

func (r selfVerifying) Verified() ociregistry.Interface { return r.view }

func TestCache_ReadsTheVerifiedView(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	kept := ocimem.New()
	filled(t, kept, mem, image)
	raw, view, origin := count(kept), count(kept), count(mem)
	c := newCache(t, selfVerifying{raw, view}, origin, nil)
	qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	qt.Check(t, qt.Equals(raw.took(), ""))
	view.took()

	// A blob that the view does not have is fetched, and pushed to the registry.
	layer := image.Blobs[2].Descriptor.Digest
	view.set("GetBlob", ociregistry.ErrBlobUnknown)
	got, err := readBlob(ctx, c, "foo", layer)
	wantBytes(t, got, err, image.Blobs[2].Bytes())
	qt.Check(t, qt.IsNil(c.Close()))
	qt.Check(t, qt.Equals(raw.took(), "PushBlob"))
	qt.Check(t, qt.Equals(origin.took(), "GetBlob"))
}
