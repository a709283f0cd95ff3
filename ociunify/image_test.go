package ociunify_test

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// signedIndex pushes an index for two platforms, with signatures of the index, of its
// first image, and of that signature. It returns all of them.
func signedIndex(t testing.TB, r ociregistry.Interface, tag string) (index *ocitest.Artifact, images, signatures []*ocitest.Artifact) {
	t.Helper()
	image := func(seed uint64, arch string) *ocitest.Artifact {
		a := ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{1000, 100_000}})
		a.Descriptor.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		return a
	}
	amd64, arm64 := image(1, "amd64"), image(2, "arm64")
	index = ocitest.NewIndex(ocitest.Spec{}, amd64, arm64)
	reg := ocitest.NewRegistry(t, r)
	reg.MustPush("foo", index, tag)
	subject := []*ocitest.Artifact{index, amd64}
	for i := range 3 {
		s := ocitest.NewImage(ocitest.Spec{Seed: uint64(10 + i), ArtifactType: "application/vnd.example", Subject: &subject[i].Descriptor, Layers: []int64{50}})
		reg.MustPush("foo", s)
		subject = append(subject, s)
	}
	return index, []*ocitest.Artifact{amd64, arm64}, subject[2:]
}

// Who looks at a manifest makes the cache fetch nothing else. The next pull brings the rest.
func TestCache_FetchesNoWholeImageForAnInspection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin := count(mem)
		index, _, _ := signedIndex(t, mem, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{WholeImages: true})
		look := ociregistry.WithInspection(t.Context())
		got, err := readAll(c.GetTag(look, "foo", "v1"))
		wantBytes(t, got, err, index.Manifest)
		got, err = readAll(c.GetManifest(look, "foo", index.Descriptor.Digest))
		wantBytes(t, got, err, index.Manifest)
		synctest.Wait()
		qt.Check(t, qt.Equals(origin.number("GetBlob"), 0))
		qt.Check(t, qt.Equals(origin.number("Referrers"), 0))
		wantTag(t, c, "foo", "v1", index)
		synctest.Wait()
		qt.Check(t, qt.Equals(origin.number("GetBlob"), 10))
		c.Close()
	})
}

// Reading a tag once fetches the whole image, once. It is served when the origin is down.
func TestCache_FetchesWholeImages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), ocimem.New()
		origin := count(mem)
		index, _, signatures := signedIndex(t, mem, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{WholeImages: true, MaxBytes: 1 << 30})
		for range 5 {
			wantTag(t, c, "foo", "v1", index)
			got, err := readAll(c.GetManifest(ctx, "foo", index.Descriptor.Digest))
			wantBytes(t, got, err, index.Manifest)
		}
		synctest.Wait()
		qt.Check(t, qt.Equals(origin.number("GetBlob"), 10)) // the signatures share a config
		qt.Check(t, qt.Equals(origin.number("GetManifest"), 5))
		qt.Check(t, qt.Equals(origin.number("Referrers"), 6))
		origin.set("", errBroken)
		qt.Check(t, qt.IsNil(index.Verify(ctx, c, "foo")))
		for _, s := range signatures {
			qt.Check(t, qt.IsNil(s.Verify(ctx, c, "foo")))
		}
		list, err := ociregistry.All(c.Referrers(ctx, "foo", signatures[0].Descriptor.Digest, ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(list, 1))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Only the chosen platforms of an index are fetched.
func TestCache_FetchesChosenPlatformsOfAnImage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), ocimem.New()
		origin := count(mem)
		index, images, _ := signedIndex(t, mem, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{
			WholeImages: true,
			Platforms:   []ocispec.Platform{{OS: "linux", Architecture: "arm64"}},
		})
		wantTag(t, c, "foo", "v1", index)
		synctest.Wait()
		origin.set("", errBroken)
		qt.Check(t, qt.IsNil(images[1].Verify(ctx, c, "foo")))
		qt.Check(t, qt.ErrorIs(images[0].Verify(ctx, c, "foo"), errBroken))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// An image whose manifest was fetched by a retry is fetched as a whole.
func TestCache_RetryFetchesWholeImages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), ocimem.New()
		origin := count(mem)
		index, _, signatures := signedIndex(t, mem, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{RetryDelay: time.Minute})
		origin.set("", errBroken)
		_, err := c.GetTag(ctx, "foo", "v1")
		qt.Check(t, qt.ErrorIs(err, errBroken))
		origin.set("", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		origin.set("", errBroken)
		wantTag(t, c, "foo", "v1", index)
		qt.Check(t, qt.IsNil(index.Verify(ctx, c, "foo")))
		qt.Check(t, qt.IsNil(signatures[2].Verify(ctx, c, "foo")))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Content that cannot be fetched is logged, and the rest is fetched.
func TestCache_FetchesTheRestOfAnImageWhenSomethingFails(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GetBlob", "GetManifest", "Referrers"} {
		synctest.Test(t, func(t *testing.T) {
			mem, kept := ocimem.New(), ocimem.New()
			origin := count(mem)
			index, images, _ := signedIndex(t, mem, "v1")
			var log logLines
			c := ociunify.NewCache(kept, origin, &ociunify.CacheOptions{WholeImages: true, Logger: log.logger()})
			origin.set(method, errBroken)
			wantTag(t, c, "foo", "v1", index)
			synctest.Wait()
			qt.Check(t, qt.IsTrue(log.has("cannot fetch all of an image")))
			_, err := kept.ResolveManifest(t.Context(), "foo", images[1].Descriptor.Digest)
			qt.Check(t, qt.Equals(err == nil, method != "GetManifest"))
			_, err = kept.ResolveBlob(t.Context(), "foo", images[1].Blobs[1].Descriptor.Digest)
			qt.Check(t, qt.Equals(err == nil, method == "Referrers"))
			qt.Check(t, qt.IsNil(c.Close()))
		})
	}
}

// At most four blobs are fetched at the same time, and Close ends all of them.
func TestCache_FetchesAFewBlobsOfImagesAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin := count(mem)
		index, _, _ := signedIndex(t, mem, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{WholeImages: true})
		origin.hold("GetBlob")
		wantTag(t, c, "foo", "v1", index)
		synctest.Wait()
		qt.Check(t, qt.Equals(origin.number("GetBlob"), 4))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// An image that is larger than MaxBytes does not evict everything else.
func TestCache_FetchesNoMoreOfAnImageThanMaxBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin := count(mem)
		index, _, _ := signedIndex(t, mem, "v1")
		var log logLines
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{WholeImages: true, MaxBytes: 150_000, Logger: log.logger()})
		wantTag(t, c, "foo", "v1", index)
		synctest.Wait()
		qt.Check(t, qt.IsTrue(log.has("the limit of the cache")))
		qt.Check(t, qt.IsTrue(origin.number("GetBlob") < 10))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Fetching ends even if manifests name content that is not a manifest, or each other.
func TestCache_FetchesOddImagesToAnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, mem, kept := t.Context(), ocimem.NewWithConfig(&ocimem.Config{Sparse: true}), ocimem.New()
		blob := ocitest.NewBlob(1, 1000)
		_, err := mem.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
		qt.Assert(t, qt.IsNil(err))
		desc := blob.Descriptor
		desc.MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
		odd := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
			desc,
			{MediaType: ocispec.MediaTypeImageManifest, Digest: ocitest.NewBlob(2, 10).Descriptor.Digest, Size: 10},
			{MediaType: ocispec.MediaTypeImageManifest, Digest: "blake3:abc", Size: 10},
		}}
		odd.SchemaVersion = 2
		contents, err := json.Marshal(odd)
		qt.Assert(t, qt.IsNil(err))
		_, err = mem.PushManifest(ctx, "foo", "v1", contents, odd.MediaType)
		qt.Assert(t, qt.IsNil(err))
		var log logLines
		c := ociunify.NewCache(kept, mem, &ociunify.CacheOptions{WholeImages: true, Logger: log.logger()})
		got, err := readAll(c.GetTag(ctx, "foo", "v1"))
		wantBytes(t, got, err, contents)
		synctest.Wait()
		_, err = kept.ResolveBlob(ctx, "foo", desc.Digest)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(log.has("cannot fetch all of an image")))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// All manifests of an image are fetched, however many blobs it has.
func TestCache_FetchesAllManifestsOfAnImageOfManyBlobs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), ocimem.NewWithConfig(&ocimem.Config{Sparse: true})
		many := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocitest.NewBlob(1, 10).Descriptor}
		many.SchemaVersion = 2
		for i := range 4200 { // of which the origin has none
			many.Layers = append(many.Layers, ociregistry.Descriptor{
				MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(strconv.Itoa(i)), Size: 10,
			})
		}
		contents, err := json.Marshal(many)
		qt.Assert(t, qt.IsNil(err))
		first, err := mem.PushManifest(ctx, "foo", "many", contents, many.MediaType)
		qt.Assert(t, qt.IsNil(err))
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{1000}})
		inner := ocitest.NewIndex(ocitest.Spec{}, image)
		ocitest.NewRegistry(t, mem).MustPush("foo", inner)
		outer := ocitest.NewIndex(ocitest.Spec{}, &ocitest.Artifact{Descriptor: first}, &ocitest.Artifact{Descriptor: inner.Descriptor})
		_, err = mem.PushManifest(ctx, "foo", "v1", outer.Manifest, outer.Descriptor.MediaType)
		qt.Assert(t, qt.IsNil(err))
		kept := ocimem.New()
		c := ociunify.NewCache(kept, mem, &ociunify.CacheOptions{WholeImages: true})
		got, err := readAll(c.GetTag(ctx, "foo", "v1"))
		wantBytes(t, got, err, outer.Manifest)
		synctest.Wait()
		for _, blob := range image.Blobs {
			_, err := kept.ResolveBlob(ctx, "foo", blob.Descriptor.Digest)
			qt.Check(t, qt.IsNil(err))
		}
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Sizes whose sum overflows do not get around MaxBytes, and do not keep blobs that fit
// from being fetched.
func TestCache_FetchesWhatFitsOfAnImageWhenSizesOverflow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), ocimem.NewWithConfig(&ocimem.Config{Sparse: true})
		config, small := ocitest.NewBlob(1, 10), ocitest.NewBlob(2, 100)
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config.Descriptor}
		m.SchemaVersion = 2
		m.Layers = []ociregistry.Descriptor{
			{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("a"), Size: math.MaxInt64},
			{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("b"), Size: math.MaxInt64},
			{MediaType: ocispec.MediaTypeImageLayer, Digest: small.Descriptor.Digest, Size: 100},
		}
		contents, err := json.Marshal(m)
		qt.Assert(t, qt.IsNil(err))
		_, err = mem.PushManifest(ctx, "foo", "v1", contents, m.MediaType)
		qt.Assert(t, qt.IsNil(err))
		for _, blob := range []ocitest.Blob{config, small} {
			_, err := mem.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
			qt.Assert(t, qt.IsNil(err))
		}
		origin, kept := count(mem), ocimem.New()
		c := ociunify.NewCache(kept, origin, &ociunify.CacheOptions{WholeImages: true, MaxBytes: 10_000})
		got, err := readAll(c.GetTag(ctx, "foo", "v1"))
		wantBytes(t, got, err, contents)
		synctest.Wait()
		qt.Check(t, qt.Equals(origin.number("GetBlob"), 2))
		_, err = kept.ResolveBlob(ctx, "foo", small.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}
