package ocicopy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/leak"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestCopy_RepeatedCopiesNothing(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10, 2000, 30}})
		mustPush(t, src, "a", image, "v1")
		from, to := Place{src, "a", "v1"}, Place{dst, "b/c", ""}
		src.take()

		result := mustCopy(t, to, from, nil)
		qt.Check(t, qt.Equals(src.take(), "GetBlob 4, GetTag 1"))
		qt.Check(t, qt.Equals(dst.take(), "PushBlob 4, PushManifest 1, ResolveBlob 4, ResolveManifest 1, ResolveTag 1"))
		qt.Check(t, qt.Equals(result.Descriptor.Digest, image.Descriptor.Digest))
		qt.Check(t, qt.IsFalse(result.Unchanged()))
		mustHave(t, dst, "b/c", image)
		qt.Check(t, qt.Equals(tagged(t, dst, "b/c", "v1"), image.Descriptor.Digest))
		dst.take()

		// One request to the source. One request to the destination for each manifest
		// and each blob; no blob is read.
		result = mustCopy(t, to, from, nil)
		qt.Check(t, qt.Equals(src.take(), "ResolveTag 1"))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 1, ResolveBlob 4, ResolveTag 1"))
		qt.Check(t, qt.IsTrue(result.Unchanged()))
		qt.Check(t, qt.DeepEquals(result.Descriptor, ociregistry.Descriptor{
			MediaType: image.Descriptor.MediaType,
			Digest:    image.Descriptor.Digest,
			Size:      image.Descriptor.Size,
		}))

		// By digest, no request to the source is necessary.
		from.Ref, to.Ref = string(image.Descriptor.Digest), "v1"
		qt.Check(t, qt.IsTrue(mustCopy(t, to, from, nil).Unchanged()))
		qt.Check(t, qt.Equals(src.take(), ""))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 1, ResolveBlob 4, ResolveTag 1"))
		to.Ref = ""
		qt.Check(t, qt.IsTrue(mustCopy(t, to, from, nil).Unchanged()))
		qt.Check(t, qt.Equals(src.take(), ""))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 1, ResolveBlob 4, ResolveManifest 1"))

		// Another tag needs only the manifest, which the destination has.
		to.Ref = "v2"
		result = mustCopy(t, to, from, nil)
		qt.Check(t, qt.Equals(src.take(), ""))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 1, PushManifest 1, ResolveBlob 4, ResolveManifest 1, ResolveTag 1"))
		qt.Check(t, qt.IsFalse(result.Unchanged()))
		qt.Check(t, qt.DeepEquals(result.Items[4].Tags, []string{"v2"}))
	})
}

func TestCopy_AsksATrustedDestinationOnce(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10, 2000, 30}})
		mustPush(t, src, "a", image, "v1")
		from, to := Place{src, "a", "v1"}, Place{dst, "b/c", ""}
		opts := &Options{TrustDestination: true}
		mustCopy(t, to, from, opts)
		mustHave(t, dst, "b/c", image)
		src.take()
		dst.take()
		repeat := func(source, destination string) {
			t.Helper()
			qt.Check(t, qt.IsTrue(mustCopy(t, to, from, opts).Unchanged()))
			qt.Check(t, qt.Equals(src.take(), source))
			qt.Check(t, qt.Equals(dst.take(), destination))
		}
		repeat("ResolveTag 1", "ResolveTag 1")
		from.Ref, to.Ref = string(image.Descriptor.Digest), "v1"
		repeat("", "ResolveTag 1")
		to.Ref = ""
		repeat("", "ResolveManifest 1")

		to.Ref = "v2"
		result := mustCopy(t, to, from, opts)
		qt.Check(t, qt.Equals(src.take(), ""))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 1, PushManifest 1, ResolveManifest 1, ResolveTag 1"))
		qt.Check(t, qt.DeepEquals(result.Items[0].Tags, []string{"v2"}))
	})
}

func TestCopy_ReadsOnlyWhatIsMissing(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10, 20, 30}})
		mustPush(t, src, "a", image, "v1")
		for _, b := range image.Blobs[:3] {
			_, err := dst.PushBlob(t.Context(), "b", b.Descriptor, b.NewReader())
			qt.Assert(t, qt.IsNil(err))
		}
		src.take()
		result := mustCopy(t, Place{dst, "b", "v1"}, Place{src, "a", "v1"}, nil)
		qt.Check(t, qt.Equals(src.take(), "GetBlob 1, GetTag 1"))
		n, bytes := result.Count(Blob, Copied)
		qt.Check(t, qt.Equals(n, 1))
		qt.Check(t, qt.Equals(bytes, 30))
		n, _ = result.Count(Blob, Present)
		qt.Check(t, qt.Equals(n, 3))
		mustHave(t, dst, "b", image)
	})
}

func TestCopy_MountsWithinOneRegistry(t *testing.T) {
	overEachPair(t, func(t *testing.T, _, reg *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10, 20}})
		mustPush(t, reg, "a", image, "v1")
		reg.take()
		result := mustCopy(t, Place{reg, "b", "v1"}, Place{reg, "a", "v1"}, nil)
		qt.Check(t, qt.Equals(reg.take(), "GetTag 1, MountBlob 3, PushManifest 1, ResolveBlob 3, ResolveManifest 1, ResolveTag 1"))
		n, bytes := result.Count(Blob, Mounted)
		qt.Check(t, qt.Equals(n, 3))
		qt.Check(t, qt.Equals(bytes, 30+image.Blobs[0].Descriptor.Size))
		qt.Check(t, qt.Equals(result.Items[0].From, "a"))
		mustHave(t, reg, "b", image)

		// A new tag in the same repository.
		mustCopy(t, Place{reg, "a", "v2"}, Place{reg, "a", "v1"}, nil)
		qt.Check(t, qt.Equals(tagged(t, reg, "a", "v2"), image.Descriptor.Digest))
	})
}

func TestCopy_MountsFromCandidates(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10, 20}})
		mustPush(t, src, "a", image, "v1")
		layer := image.Blobs[1]
		_, err := dst.PushBlob(t.Context(), "other", layer.Descriptor, layer.NewReader())
		qt.Assert(t, qt.IsNil(err))
		src.take()
		opts := &Options{MountFrom: []string{"nothing/here", "other"}}

		plan, err := Plan(t.Context(), Place{dst, "b", "v1"}, Place{src, "a", "v1"}, opts)
		qt.Assert(t, qt.IsNil(err))
		result := mustCopy(t, Place{dst, "b", "v1"}, Place{src, "a", "v1"}, opts)
		qt.Check(t, qt.DeepEquals(plan, result))
		n, _ := result.Count(Blob, Mounted)
		qt.Check(t, qt.Equals(n, 1))
		qt.Check(t, qt.Equals(src.take(), "GetBlob 2, GetTag 2"))
		mustHave(t, dst, "b", image)
	})
}

func TestCopy_BoundsParallelBlobs(t *testing.T) {
	t.Parallel()
	const limit = 3
	src, dst := newSpy(ocimem.New()), newSpy(ocimem.New())
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}})
	mustPush(t, src, "a", image, "v1")
	var running, most atomic.Int64
	full := make(chan struct{})
	src.before = func(ctx context.Context, method, _, _ string) error {
		if method != "GetBlob" {
			return nil
		}
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == limit {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		<-full // as many run as may
		return nil
	}
	mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Concurrency: limit})
	qt.Check(t, qt.Equals(most.Load(), limit))
}

func TestCopy_PushesManifestsAfterWhatTheyNameAndTagsLast(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		index, extras := signedIndex(t, src, "a", "v1")
		mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Referrers: true, CosignTags: true})
		mustHave(t, dst, "a", index)
		for _, e := range extras {
			mustHave(t, dst, "a", e)
		}
		log := dst.pushes()
		qt.Check(t, qt.Equals(log[len(log)-1], "PushManifest v1"))
		first := slices.IndexFunc(log, func(s string) bool { return strings.HasPrefix(s, "PushManifest") })
		last := slices.IndexFunc(log, func(s string) bool { return strings.HasPrefix(s, "PushBlob") })
		qt.Check(t, qt.IsTrue(last < first))
		// The registries are not sparse, and have accepted the manifests: these came
		// after what they name.
	})
}

func TestCopy_FollowsNestedIndexes(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		shared := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
		inner := ocitest.NewIndex(ocitest.Spec{}, shared, ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{50}}))
		outer := ocitest.NewIndex(ocitest.Spec{}, shared, inner, ocitest.NewIndex(ocitest.Spec{}))
		mustPush(t, src, "a", outer, "v1")
		result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
		mustHave(t, dst, "a", outer)
		n, _ := result.Count(Manifest, Copied)
		qt.Check(t, qt.Equals(n, 5))
		n, _ = result.Count(Blob, Copied)
		qt.Check(t, qt.Equals(n, 4))

		src.take()
		mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
		qt.Check(t, qt.Equals(src.take(), "ResolveTag 1"))
	})
}

func TestCopy_ContinuesWhereItStopped(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10, 20, 30, 40, 50}})
		mustPush(t, src, "a", image, "v1")
		src.take()
		broken := errors.New("broken")
		gets := 0
		src.before = func(_ context.Context, method, _, _ string) error {
			if method == "GetBlob" {
				if gets++; gets > 4 {
					return broken
				}
			}
			return nil
		}
		to, from := Place{dst, "b", "v1"}, Place{src, "a", "v1"}
		result, err := Copy(t.Context(), to, from, &Options{Concurrency: 1})
		qt.Assert(t, qt.ErrorIs(err, broken))
		n, _ := result.Count(Blob, Copied)
		qt.Check(t, qt.Equals(n, 4))
		qt.Check(t, qt.Equals(tagged(t, dst, "b", "v1"), ""))

		src.before = nil
		src.take()
		mustCopy(t, to, from, nil)
		qt.Check(t, qt.Equals(src.take(), "GetBlob 2, GetTag 1"))
		mustHave(t, dst, "b", image)
	})
}

func TestCopy_SkipsNonDistributableLayersUnlessAsked(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := foreignImage()
		mustPush(t, src, "a", image, "v1")
		foreign := image.Blobs[1].Descriptor
		result := mustCopy(t, Place{dst, "b", ""}, Place{src, "a", "v1"}, nil)
		n, _ := result.Count(Blob, Skipped)
		qt.Check(t, qt.Equals(n, 1))
		qt.Check(t, qt.Equals(result.Descriptor.Digest, image.Descriptor.Digest))
		_, err := dst.ResolveBlob(t.Context(), "b", foreign.Digest)
		qt.Check(t, qt.IsTrue(absent(err)))

		mustCopy(t, Place{dst, "c", ""}, Place{src, "a", "v1"}, &Options{NonDistributable: true})
		mustHave(t, dst, "c", image)

		// Requested, but missing at the source: the image is complete all the same.
		result = mustCopy(t, Place{src, "d", "v1"}, Place{dst, "b", "v1"}, &Options{NonDistributable: true})
		n, _ = result.Count(Blob, Skipped)
		qt.Check(t, qt.Equals(n, 1))
	})
}

func TestCopy_KeepsDigests(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		// Spaces, unknown fields and a digest by SHA-512 are kept.
		contents := []byte(" {\"schemaVersion\": 2,\n\"x\": [1.50], \"manifests\": [] }\n")
		d := sha512Of(contents)
		mediaType := "application/vnd.oci.image.index.v1+json"
		_, err := src.PushManifest(t.Context(), "a", string(d), contents, mediaType, "v1")
		qt.Assert(t, qt.IsNil(err))
		for _, ref := range []string{"v1", string(d)} {
			result := mustCopy(t, Place{dst, "b", ref}, Place{src, "a", string(d)}, nil)
			qt.Check(t, qt.Equals(result.Descriptor.Digest, d))
			qt.Check(t, qt.IsTrue(mustCopy(t, Place{dst, "b", ref}, Place{src, "a", string(d)}, nil).Unchanged()))
		}
		got, err := dst.GetTag(t.Context(), "b", "v1")
		qt.Assert(t, qt.IsNil(err))
		ocitest.CheckContent(t, got, contents, mediaType)

		// With another digest as the Ref of the destination, nothing is copied.
		_, err = Copy(t.Context(), Place{dst, "c", string(sha512Of([]byte("x")))}, Place{src, "a", "v1"}, nil)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		_, err = ociregistry.All(dst.Tags(t.Context(), "c", ""))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
	})
}

func TestPlan_SaysWhatCopyDoes(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		index, _ := signedIndex(t, src, "a", "v1")
		mustPush(t, dst, "b", index.Children[0])
		src.take()
		dst.take()
		to, from, opts := Place{dst, "b", "v2"}, Place{src, "a", "v1"}, &Options{Referrers: true, CosignTags: true}
		plan, err := Plan(t.Context(), to, from, opts)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsFalse(strings.Contains(src.take(), "GetBlob")))
		qt.Check(t, qt.IsFalse(strings.Contains(dst.take(), "Push")))
		qt.Check(t, qt.DeepEquals(mustCopy(t, to, from, opts), plan))

		plan, err = Plan(t.Context(), to, from, opts)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(plan.Unchanged()))
	})
}

func TestCopy_RepairsASparseDestination(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newSparse(t)
	index := ocitest.NewIndex(ocitest.Spec{}, ocitest.NewImage(ocitest.Spec{Layers: []int64{10, 20}}))
	mustPush(t, src, "a", index, "v1")
	mustPush(t, dst, "a", index, "v1")
	qt.Assert(t, qt.IsNil(dst.DeleteBlob(t.Context(), "a", index.Children[0].Blobs[1].Descriptor.Digest)))

	trusting := &Options{TrustDestination: true}
	qt.Check(t, qt.IsTrue(mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, trusting).Unchanged()))
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
	n, _ := result.Count(Blob, Copied)
	qt.Check(t, qt.Equals(n, 1))
	mustHave(t, dst, "a", index)

	qt.Assert(t, qt.IsNil(dst.DeleteManifest(t.Context(), "a", index.Children[0].Descriptor.Digest)))
	mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
	mustHave(t, dst, "a", index)
}

func TestCopy_ErrorsSayWhatFailedWhere(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newMem(t)
	mustPush(t, src, "a", ocitest.NewImage(ocitest.Spec{}), "v1")
	tests := []struct {
		repo, ref string
		want      error
	}{
		{"none", "v1", ociregistry.ErrNameUnknown},
		{"a", "v2", ociregistry.ErrManifestUnknown},
		{"a", string(sha512Of(nil)), ociregistry.ErrManifestUnknown},
		{"A", "v1", ociregistry.ErrNameInvalid},
		{"a", "sha256:12", ociregistry.ErrDigestInvalid},
		{"a", "", ociregistry.ErrManifestUnknown},
	}
	for _, test := range tests {
		_, err := Copy(t.Context(), Place{dst, "b", ""}, Place{src, test.repo, test.ref}, nil)
		qt.Check(t, qt.ErrorIs(err, test.want), qt.Commentf("%s %s", test.repo, test.ref))
	}
	_, err := ociregistry.All(dst.Tags(t.Context(), "b", ""))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

// This test counts goroutines, and so is not parallel.
func TestCopy_ReportsTheFailureOfAnyCall(t *testing.T) {
	broken := errors.New("broken")
	source := ocimem.New()
	index, _ := signedIndex(t, source, "a", "v1")
	opts := &Options{Referrers: true, CosignTags: true, Concurrency: 2}
	before := leak.Goroutines()
	for call := int64(1); ; call++ {
		src, dst := newSpy(source), newSpy(ocimem.New())
		var n atomic.Int64
		src.before = func(context.Context, string, string, string) error {
			if n.Add(1) == call {
				return broken
			}
			return nil
		}
		dst.before = src.before
		_, err := Copy(t.Context(), Place{dst, "b", "v1"}, Place{src, "a", "v1"}, opts)
		before.Check(t)
		src.before, dst.before = nil, nil
		if err == nil {
			qt.Assert(t, qt.IsTrue(call > 50))
			mustHave(t, dst, "b", index)
			return
		}
		qt.Assert(t, qt.ErrorIs(err, broken))
		qt.Assert(t, qt.Equals(tagged(t, dst, "b", "v1"), ""))
		mustCopy(t, Place{dst, "b", "v1"}, Place{src, "a", "v1"}, opts)
		mustHave(t, dst, "b", index)
	}
}
