package ociunify_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// signedIndex pushes an index for two platforms, with a signature of it, one of the
// first image and one of that, and returns them.
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

// One read of a tag brings all of an image, once, and it is there when the origin is
// not.
func TestCache_BringsWholeImages(t *testing.T) {
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

// Of an index, the platforms that were chosen are brought.
func TestCache_BringsChosenPlatforms(t *testing.T) {
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

// An image that came by a retry comes as a whole.
func TestCache_RetryBringsWholeImages(t *testing.T) {
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

// What cannot be fetched is logged, and the rest comes.
func TestCache_BringsWhatItCan(t *testing.T) {
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
			qt.Check(t, qt.IsTrue(log.has("cannot bring all of an image")))
			_, err := kept.ResolveManifest(t.Context(), "foo", images[1].Descriptor.Digest)
			qt.Check(t, qt.Equals(err == nil, method != "GetManifest"))
			_, err = kept.ResolveBlob(t.Context(), "foo", images[1].Blobs[1].Descriptor.Digest)
			qt.Check(t, qt.Equals(err == nil, method == "Referrers"))
			qt.Check(t, qt.IsNil(c.Close()))
		})
	}
}

// No more than a few blobs are fetched at a time, and Close ends all.
func TestCache_BringsAFewBlobsAtATime(t *testing.T) {
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

// An image larger than the bound does not push everything else out.
func TestCache_BringsNoMoreThanTheBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin := count(mem)
		index, _, _ := signedIndex(t, mem, "v1")
		var log logLines
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{WholeImages: true, MaxBytes: 150_000, Logger: log.logger()})
		wantTag(t, c, "foo", "v1", index)
		synctest.Wait()
		qt.Check(t, qt.IsTrue(log.has("which are the bound")))
		qt.Check(t, qt.IsTrue(origin.number("GetBlob") < 10))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Manifests that name what is no manifest, and each other without end, end.
func TestCache_BringsOddImages(t *testing.T) {
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
		qt.Check(t, qt.IsTrue(log.has("cannot bring all of an image")))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}
