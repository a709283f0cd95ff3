package ocicopy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestCopy_CopiesReferrersAndCosignTags(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		index, extras := signedIndex(t, src, "a", "v1")
		from := Place{src, "a", "v1"}

		mustCopy(t, Place{dst, "plain", ""}, from, nil)
		for _, e := range extras {
			qt.Check(t, qt.IsNotNil(e.Verify(t.Context(), dst, "plain")))
		}

		opts := &Options{Referrers: true, CosignTags: true}
		mustCopy(t, Place{dst, "b", ""}, from, opts)
		mustHave(t, dst, "b", index)
		for _, e := range extras {
			mustHave(t, dst, "b", e)
		}
		referrers, err := ociregistry.All(dst.Referrers(t.Context(), "b", index.Descriptor.Digest, ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(referrers, 1))
		qt.Check(t, qt.Equals(referrers[0].Digest, extras[0].Descriptor.Digest))
		qt.Check(t, qt.Equals(referrers[0].ArtifactType, typeNotation))
		qt.Check(t, qt.Equals(tagged(t, dst, "b", rules.CosignTag(index.Descriptor.Digest)+".sig"), extras[2].Descriptor.Digest))

		// A repeated copy reads no manifest and no blob from the source.
		src.take()
		dst.take()
		qt.Check(t, qt.IsTrue(mustCopy(t, Place{dst, "b", ""}, from, opts).Unchanged()))
		// Seven manifests: the index, two images, two signatures of notation,
		// one of cosign, an SBOM.
		qt.Check(t, qt.Equals(src.take(), "Referrers 7, ResolveTag 22"))
		qt.Check(t, qt.IsFalse(strings.Contains(dst.take(), "GetBlob")))

		// An image that was copied without them gets them later, and nothing else.
		result := mustCopy(t, Place{dst, "plain", ""}, from, opts)
		n, _ := result.Count(Manifest, Copied)
		qt.Check(t, qt.Equals(n, 4))
		for _, e := range extras {
			mustHave(t, dst, "plain", e)
		}
	})
}

func TestCopy_CopiesOnlyReferrersOfTheGivenTypes(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newMem(t)
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10}})
	sig, sbom := newReferrer(2, typeNotation, image), newReferrer(3, "application/sbom", image)
	for _, a := range []*ocitest.Artifact{image, sig, sbom} {
		mustPush(t, src, "a", a)
	}
	from := Place{src, "a", string(image.Descriptor.Digest)}
	mustCopy(t, Place{dst, "a", "v1"}, from, &Options{Referrers: true, ReferrerTypes: []string{"application/sbom"}})
	mustHave(t, dst, "a", sbom)
	qt.Check(t, qt.IsNotNil(sig.Verify(t.Context(), dst, "a")))
}

func TestCopy_EndsWhereManifestsLoop(t *testing.T) {
	t.Parallel()
	// A registry can list anything as a referrer: here each of two images is a referrer
	// of the other and of itself.
	src, dst := newSpy(newMem(t)), newMem(t)
	a := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10}})
	b := ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{10}})
	mustPush(t, src, "a", a, "v1")
	mustPush(t, src, "a", b)
	lists(src, func(ociregistry.Digest) []ociregistry.Descriptor {
		return []ociregistry.Descriptor{a.Descriptor, b.Descriptor}
	})
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Referrers: true})
	qt.Check(t, qt.HasLen(result.Items, 6))
	mustHave(t, dst, "a", b)
}

func TestCopy_CopiesAReferrerThatNamesItsSubject(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10}})
		group := ocitest.NewIndex(ocitest.Spec{Subject: &image.Descriptor}, image)
		mustPush(t, src, "a", image, "v1")
		mustPush(t, src, "a", group)
		mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Referrers: true})
		mustHave(t, dst, "a", group)
	})
}

func TestCopy_ReportsAReferrerThatIsGone(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	image := ocitest.NewImage(ocitest.Spec{Seed: 1})
	mustPush(t, src, "a", image, "v1")
	lists(src, func(ociregistry.Digest) []ociregistry.Descriptor {
		return []ociregistry.Descriptor{newReferrer(1, typeNotation, image).Descriptor}
	})
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Referrers: true})
	mustHave(t, dst, "a", image)
	qt.Assert(t, qt.HasLen(result.Missing, 1))
	qt.Check(t, qt.Equals(result.Missing[0].Subject, image.Descriptor.Digest))
	qt.Check(t, qt.Equals(result.Missing[0].Descriptor.Digest, newReferrer(1, typeNotation, image).Descriptor.Digest))
	qt.Check(t, qt.ErrorIs(result.Missing[0].Err, ociregistry.ErrManifestUnknown))
}

// lists makes s list referrers that it does not have.
func lists(s *spy, referrers func(ociregistry.Digest) []ociregistry.Descriptor) {
	s.Interface.(*ociregistry.Funcs).Referrers_ = referrersOf(referrers)
}

// BuildKit stores a cache as an index that names blobs. The source is asked once for each
// of them.
func TestCopy_CopiesAnIndexOfBlobs(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		layer := ocitest.NewBlob(1, 100)
		layer.Descriptor.MediaType = ocispec.MediaTypeImageLayerGzip
		index := ocitest.NewIndex(ocitest.Spec{}, &ocitest.Artifact{Descriptor: layer.Descriptor})
		index.Children, index.Blobs = nil, []ocitest.Blob{layer}
		mustPush(t, src, "a", index, "cache")
		mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "cache"}, nil)
		mustHave(t, dst, "a", index)

		src.take()
		qt.Check(t, qt.IsTrue(mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "cache"}, nil).Unchanged()))
		qt.Check(t, qt.Equals(src.take(), "ResolveTag 1"))
	})
}

func TestCopy_HostileGraphsHitLimits(t *testing.T) {
	t.Parallel()
	src := newSpy(newSparse(t))
	deep := ocitest.NewImage(ocitest.Spec{})
	for range 5 {
		deep = ocitest.NewIndex(ocitest.Spec{}, deep)
	}
	mustPush(t, src, "a", deep, "deep")
	var children []*ocitest.Artifact
	for i := range 20 {
		children = append(children, ocitest.NewImage(ocitest.Spec{Seed: uint64(i)}))
	}
	mustPush(t, src, "a", ocitest.NewIndex(ocitest.Spec{}, children...), "wide")
	mustPush(t, src, "a", ocitest.NewImage(ocitest.Spec{Layers: []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}}), "layers")
	many := func(n int) func(ociregistry.Digest) []ociregistry.Descriptor {
		return func(ociregistry.Digest) (all []ociregistry.Descriptor) {
			for i := range n {
				all = append(all, ociregistry.Descriptor{Digest: digest.FromString(fmt.Sprint(i)), MediaType: ocispec.MediaTypeImageManifest})
			}
			return all
		}
	}
	tests := []struct {
		tag       string
		opts      Options
		referrers int
		want      error
	}{
		{"deep", Options{MaxDepth: 5}, 0, nil},
		{"deep", Options{MaxDepth: 4}, 0, ErrLimit},
		{"wide", Options{MaxManifests: 21}, 0, nil},
		{"wide", Options{MaxManifests: 20}, 0, ErrLimit},
		{"layers", Options{MaxBlobs: 10}, 0, nil},
		{"layers", Options{MaxBlobs: 9}, 0, ErrLimit},
		{"layers", Options{MaxManifestSize: 4000}, 0, nil},
		{"layers", Options{MaxManifestSize: 1000}, 0, ErrLimit},
		{"layers", Options{MaxManifests: 10, Referrers: true}, 9, nil},
		{"layers", Options{MaxManifests: 10, Referrers: true}, 11, ErrLimit},
	}
	for _, test := range tests {
		lists(src, many(test.referrers))
		dst := newMem(t)
		_, err := Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", test.tag}, &test.opts)
		if test.want == nil {
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", test.tag))
			continue
		}
		qt.Check(t, qt.ErrorIs(err, test.want), qt.Commentf("%s", test.tag))
		repos, err := ociregistry.All(dst.Repositories(t.Context(), ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(repos, 0))
	}
}

func TestCopy_RefusesContentThatIsNotWhatItIsCalled(t *testing.T) {
	t.Parallel()
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10}})
	other := ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{10}})
	layer := image.Blobs[1].Descriptor
	var wrongSize ocispec.Manifest
	qt.Assert(t, qt.IsNil(json.Unmarshal(image.Manifest, &wrongSize)))
	wrongSize.Layers[0].Size = 1 << 62
	enormous, err := json.Marshal(wrongSize)
	qt.Assert(t, qt.IsNil(err))
	enormousDesc := ociregistry.Descriptor{MediaType: image.Descriptor.MediaType, Digest: digest.FromBytes(enormous), Size: 1}

	manifest := func(contents []byte, desc ociregistry.Descriptor) func(*ociregistry.Funcs) {
		return func(f *ociregistry.Funcs) {
			f.GetTag_ = func(context.Context, string, string) (ociregistry.BlobReader, error) {
				return ocimem.NewBytesReader(contents, desc), nil
			}
		}
	}
	tests := map[string]struct {
		lie  func(f *ociregistry.Funcs)
		want error
	}{
		"other manifest":  {manifest(other.Manifest, image.Descriptor), ociregistry.ErrDigestInvalid},
		"no digest":       {manifest(image.Manifest, ociregistry.Descriptor{MediaType: image.Descriptor.MediaType}), ociregistry.ErrDigestInvalid},
		"no JSON":         {manifest([]byte("{"), ociregistry.Descriptor{MediaType: image.Descriptor.MediaType, Digest: digest.FromString("{")}), ociregistry.ErrManifestInvalid},
		"enormous layer":  {manifest(enormous, enormousDesc), ociregistry.ErrSizeInvalid},
		"other blob":      {blobIs(layer, strings.Repeat("x", 10)), ociregistry.ErrDigestInvalid},
		"truncated blob":  {blobIs(layer, "x"), ociregistry.ErrSizeInvalid},
		"blob is missing": {blobIs(layer, ""), ociregistry.ErrBlobUnknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := newSpy(newMem(t)), newMem(t)
			mustPush(t, src, "a", image, "v1")
			test.lie(src.Interface.(*ociregistry.Funcs))
			progress := func(p Progress) { qt.Check(t, qt.IsTrue(p.BytesDone >= 0 && p.BytesTotal >= p.BytesDone)) }
			_, err := Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Progress: progress})
			qt.Check(t, qt.ErrorIs(err, test.want))
			qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), ""))
		})
	}
}

// blobIs makes a registry return other content for a blob, or none if it is empty.
func blobIs(desc ociregistry.Descriptor, content string) func(*ociregistry.Funcs) {
	return func(f *ociregistry.Funcs) {
		get := f.GetBlob_
		f.GetBlob_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
			switch {
			case d != desc.Digest:
				return get(ctx, repo, d)
			case content == "":
				return nil, ociregistry.ErrBlobUnknown
			}
			return ocimem.NewBytesReader([]byte(content), desc), nil
		}
	}
}

func TestCopy_StopsWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	mustPush(t, src, "a", ocitest.NewImage(ocitest.Spec{Layers: []int64{1, 2, 3}}), "v1")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	src.before = func(ctx context.Context, method, _, _ string) error {
		if method == "GetBlob" {
			cancel(gone)
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	_, err := Copy(ctx, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
	qt.Check(t, qt.ErrorIs(err, gone))
	qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), ""))
}

func TestResult_SizesDoNotOverflow(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.Equals(addSizes(1, 2), 3))
	qt.Check(t, qt.Equals(addSizes(math.MaxInt64, 1), math.MaxInt64))
	r := Result{Items: []Item{
		{Kind: Blob, Action: Copied, Descriptor: ociregistry.Descriptor{Size: 1 << 62}},
		{Kind: Blob, Action: Copied, Descriptor: ociregistry.Descriptor{Size: 1 << 62}},
	}}
	n, bytes := r.Count(Blob, Copied)
	qt.Check(t, qt.Equals(n, 2))
	qt.Check(t, qt.Equals(bytes, math.MaxInt64))
}

// The destination resolves a manifest, and does not have it when it is read.
func TestCopy_RestoresAManifestThatTheDestinationLost(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newSpy(newMem(t))
	index := newPlatforms(1, amd64, arm64)
	mustPush(t, src, "a", index, "v1")
	dst.Interface.(*ociregistry.Funcs).ResolveManifest_ = func(_ context.Context, _ string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
		if d == index.Descriptor.Digest {
			return index.Descriptor, nil
		}
		return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
	}
	from := Place{src, "a", string(index.Descriptor.Digest)}
	result := mustCopy(t, Place{dst, "a", "v1"}, from, &Options{Referrers: true})
	qt.Check(t, qt.IsFalse(result.Unchanged()))
	mustHave(t, dst, "a", index)
}

// The source loses the manifest at which the tag pointed.
func TestCopy_FailsWhenTheTagGoesAway(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newMem(t)
	mediaType := "application/x-unknown"
	_, err := src.PushManifest(t.Context(), "a", "v1", []byte("x"), mediaType)
	qt.Assert(t, qt.IsNil(err))
	mustPush(t, dst, "a", ocitest.NewImage(ocitest.Spec{}), "v1")
	src.before = func(_ context.Context, method, _, _ string) error {
		if method == "GetManifest" {
			return ociregistry.ErrManifestUnknown
		}
		return nil
	}
	_, err = Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))

	src.before = nil
	mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
	got, err := dst.GetTag(t.Context(), "a", "v1")
	qt.Assert(t, qt.IsNil(err))
	ocitest.CheckContent(t, got, []byte("x"), mediaType)
}
