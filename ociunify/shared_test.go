package ociunify_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

const (
	private = "application/vnd.ociunify.cached."
	wrapped = `application/vnd.ociunify.cached; type="` // by earlier versions
)

// strict is a registry that knows no allowances.
type strict struct{ ociregistry.Interface }

func (r strict) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	return r.Interface.PushManifest(ociregistry.WithoutAllowances(ctx), repo, ref, contents, mediaType, tags...)
}

func (r strict) DeleteBlob(ctx context.Context, repo string, d ociregistry.Digest) error {
	return r.Interface.DeleteBlob(ociregistry.WithoutAllowances(ctx), repo, d)
}

func (r strict) DeleteManifest(ctx context.Context, repo string, d ociregistry.Digest) error {
	return r.Interface.DeleteManifest(ociregistry.WithoutAllowances(ctx), repo, d)
}

func mediaTypeOf(t testing.TB, r ociregistry.Interface, image *ocitest.Artifact) string {
	t.Helper()
	desc, err := r.ResolveManifest(t.Context(), "foo", image.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	return desc.MediaType
}

// A cache keeps manifests as any program would push them, before their blobs.
func TestCache_KeepsTrueMediaTypes(t *testing.T) {
	t.Parallel()
	registries := map[string]func(testing.TB) ociregistry.Interface{
		"memory":    func(testing.TB) ociregistry.Interface { return ocimem.New() },
		"directory": func(t testing.TB) ociregistry.Interface { return newDirectory(t) },
		"union":     func(t testing.TB) ociregistry.Interface { return ociunify.New(ocimem.New(), newDirectory(t), nil) },
	}
	for name, registry := range registries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, mem, kept := t.Context(), ocimem.New(), registry(t)
			image := pushed(t, mem, "foo", 1, "v1")
			index := ocitest.NewIndex(ocitest.Spec{}, image)
			ocitest.NewRegistry(t, mem).MustPush("foo", index, "index")
			c := newCache(t, kept, mem, nil)
			wantTag(t, c, "foo", "index", index)
			wantTag(t, c, "foo", "v1", image)
			qt.Check(t, qt.Equals(mediaTypeOf(t, kept, image), image.Descriptor.MediaType))
			qt.Check(t, qt.Equals(mediaTypeOf(t, kept, index), index.Descriptor.MediaType))

			// A copy to the same registry completes the image.
			_, err := ocicopy.Copy(ctx, ocicopy.Place{Registry: kept, Repository: "foo"}, ocicopy.Place{Registry: mem, Repository: "foo", Ref: "v1"}, nil)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsNil(image.Verify(ctx, kept, "foo")))
		})
	}
}

// In a registry that knows no allowances, manifests are kept under a media type of the
// cache. The cache tries the true one once.
func TestCache_UsesAPrivateMediaTypeOnlyWhereNeeded(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	inner := ocimem.New()
	pushes := count(inner)
	one, two := pushed(t, mem, "foo", 1, "v1"), pushed(t, mem, "foo", 2, "v2")
	c := newCache(t, strict{pushes}, mem, nil)
	wantTag(t, c, "foo", "v1", one)
	qt.Check(t, qt.Equals(pushes.number("PushManifest"), 2))
	wantTag(t, c, "foo", "v2", two)
	qt.Check(t, qt.Equals(pushes.number("PushManifest"), 3))
	for _, image := range []*ocitest.Artifact{one, two} {
		qt.Check(t, qt.IsTrue(strings.HasPrefix(mediaTypeOf(t, inner, image), private)))
		qt.Check(t, qt.Equals(mediaTypeOf(t, c, image), image.Descriptor.MediaType))
	}
}

// A manifest that every registry would refuse is kept all the same.
func TestCache_KeepsInvalidManifests(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	content := []byte(`{"mediaType":"application/vnd.oci.image.index.v1+json","config":{}}`)
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	mem, kept := ocimem.New(), ocimem.New()
	desc, err := mem.PushManifest(ctx, "foo", "odd", content, "a/b")
	qt.Assert(t, qt.IsNil(err))
	desc.MediaType = mediaType
	origin := count(mem)
	origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader { return withDescriptor{rd, desc} })
	c := newCache(t, kept, origin, nil)
	for range 2 {
		rd, err := c.GetTag(ctx, "foo", "odd")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(rd.Descriptor().MediaType, mediaType))
		got, err := readAll(rd, err)
		wantBytes(t, got, err, content)
		origin.set("", errBroken)
	}
	origin.set("", nil)
	image := pushed(t, mem, "foo", 1, "v1")
	origin.setBody(nil)
	wantTag(t, c, "foo", "v1", image)
	qt.Check(t, qt.Equals(mediaTypeOf(t, kept, image), image.Descriptor.MediaType))
}

// A manifest with a wrong size of a layer is kept, and so is the layer, whichever is read
// first.
func TestCache_KeepsManifestsWithWrongSizes(t *testing.T) {
	t.Parallel()
	for name, registry := range map[string]func(testing.TB) ociregistry.Interface{
		"memory":    func(testing.TB) ociregistry.Interface { return ocimem.New() },
		"directory": func(t testing.TB) ociregistry.Interface { return newDirectory(t) },
	} {
		for _, layerFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, layer first %v", name, layerFirst), func(t *testing.T) {
				t.Parallel()
				ctx, mem := t.Context(), ocimem.New()
				image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
				layer := image.Blobs[1]
				size := fmt.Sprintf(`"size":%d`, layer.Descriptor.Size)
				content := bytes.Replace(image.Manifest, []byte(size), []byte(`"size":98765`), 1)
				qt.Assert(t, qt.IsFalse(bytes.Equal(content, image.Manifest)))
				_, err := mem.PushManifest(ociregistry.AllowMissing(ctx), "foo", "v1", content, image.Descriptor.MediaType)
				qt.Assert(t, qt.IsNil(err))
				ocitest.NewRegistry(t, mem).MustPush("foo", image)

				origin := count(mem)
				c := newCache(t, registry(t), origin, nil)
				read := func() {
					t.Helper()
					rd, err := c.GetBlob(ctx, "foo", layer.Descriptor.Digest)
					got, err := readAll(rd, err)
					wantBytes(t, got, err, layer.Bytes())
				}
				for range 2 {
					if layerFirst {
						read()
					}
					rd, err := c.GetTag(ctx, "foo", "v1")
					qt.Assert(t, qt.IsNil(err))
					qt.Check(t, qt.Equals(rd.Descriptor().MediaType, image.Descriptor.MediaType))
					got, err := readAll(rd, err)
					wantBytes(t, got, err, content)
					read()
					origin.set("", errBroken)
				}
			})
		}
	}
}

// Manifests that earlier versions kept are read, and kept under their own media type when
// they are next pushed or fetched.
func TestCache_ReadsWhatEarlierVersionsKept(t *testing.T) {
	t.Parallel()
	ctx, mem, kept := t.Context(), ocimem.New(), ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	old := func() {
		_, err := kept.PushManifest(ctx, "foo", "v1", image.Manifest, wrapped+image.Descriptor.MediaType+`"`)
		qt.Assert(t, qt.IsNil(err))
	}
	old()
	c := newCache(t, kept, origin, &ociunify.CacheOptions{WriteThrough: true})
	origin.set("", errBroken)
	rd, err := c.GetTag(ctx, "foo", "v1")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(rd.Descriptor().MediaType, image.Descriptor.MediaType))
	got, err := readAll(rd, err)
	wantBytes(t, got, err, image.Manifest)
	origin.set("", nil)

	_, err = c.PushManifest(ctx, "foo", "v1", image.Manifest, image.Descriptor.MediaType)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(mediaTypeOf(t, kept, image), image.Descriptor.MediaType))

	old()
	pushed(t, mem, "foo", 2, "v1")
	wantTag(t, c, "foo", "v1", ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{100, 300_000}}))
	pushed(t, mem, "foo", 1, "v1")
	wantTag(t, c, "foo", "v1", image)
	qt.Check(t, qt.Equals(mediaTypeOf(t, kept, image), image.Descriptor.MediaType))
}

// Blobs are evicted although manifests name them. If the registry refuses that, MaxBytes
// holds all the same, and manifests are from then on kept so that they name nothing.
func TestCache_DeletesBlobsInUse(t *testing.T) {
	t.Parallel()
	for _, understands := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ctx, mem := t.Context(), ocimem.New()
			inner := ocimem.New()
			var kept ociregistry.Interface = inner
			if !understands {
				kept = strict{inner}
			}
			one, two := pushed(t, mem, "foo", 1, "v1"), pushed(t, mem, "foo", 2, "v2")
			c := ociunify.NewCache(kept, mem, &ociunify.CacheOptions{MaxBytes: 310_000})
			synctest.Wait()
			for _, image := range []*ocitest.Artifact{one, two} {
				for _, blob := range image.Blobs { // before the manifest, which then is verified
					got, err := readBlob(ctx, c, "foo", blob.Descriptor.Digest)
					wantBytes(t, got, err, blob.Bytes())
					synctest.Wait()
				}
				got, err := readAll(c.GetManifest(ctx, "foo", image.Descriptor.Digest))
				wantBytes(t, got, err, image.Manifest)
			}
			_, errOne := inner.ResolveBlob(ctx, "foo", one.Blobs[2].Descriptor.Digest)
			_, errTwo := inner.ResolveBlob(ctx, "foo", two.Blobs[2].Descriptor.Digest)
			qt.Check(t, qt.Equals(errOne == nil, !understands))
			qt.Check(t, qt.Equals(errTwo == nil, understands))
			if !understands {
				qt.Check(t, qt.IsTrue(strings.HasPrefix(mediaTypeOf(t, inner, two), private)))
			}
			qt.Check(t, qt.IsNil(c.Close()))
		})
	}
}
