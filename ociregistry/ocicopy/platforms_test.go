package ocicopy

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestCopy_KeepsThePartialIndexAtASparseDestination(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newSpy(newSparse(t))
	index := newPlatforms(1, amd64, arm64, armV7)
	outer := ocitest.NewIndex(ocitest.Spec{}, index, newPlatforms(9, armV7))
	mustPush(t, src, "a", outer, "v1")
	from := Place{src, "a", "v1"}

	result := mustCopy(t, Place{dst, "a", ""}, from, &Options{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}})
	qt.Check(t, qt.Equals(result.Descriptor.Digest, outer.Descriptor.Digest))
	qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), outer.Descriptor.Digest))
	mustHave(t, dst, "a", index.Children[1])
	_, err := dst.ResolveManifest(t.Context(), "a", index.Children[0].Descriptor.Digest)
	qt.Check(t, qt.IsTrue(absent(err)))

	// A repeated copy writes nothing. Another platform is added.
	src.take()
	opts := &Options{Platforms: []ocispec.Platform{*arm64}}
	qt.Check(t, qt.IsTrue(mustCopy(t, Place{dst, "a", ""}, from, opts).Unchanged()))
	qt.Check(t, qt.Equals(src.take(), "ResolveTag 1"))
	opts.Platforms = []ocispec.Platform{*amd64, *armV7}
	result = mustCopy(t, Place{dst, "a", ""}, from, opts)
	n, _ := result.Count(Manifest, Copied)
	qt.Check(t, qt.Equals(n, 3))
	mustHave(t, dst, "a", outer)
}

func TestCopy_TagsTheChosenManifestAtAStrictDestination(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		index := newPlatforms(1, amd64, arm64, armV7)
		outer := ocitest.NewIndex(ocitest.Spec{}, index)
		mustPush(t, src, "a", outer, "v1")
		to, from := Place{dst, "a", ""}, Place{src, "a", "v1"}
		opts := &Options{Platforms: []ocispec.Platform{*arm64}, CosignTags: true, Referrers: true}
		result := mustCopy(t, to, from, opts)
		image := index.Children[1]
		qt.Check(t, qt.Equals(result.Descriptor.Digest, image.Descriptor.Digest))
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), image.Descriptor.Digest))
		mustHave(t, dst, "a", image)
		qt.Check(t, qt.IsFalse(result.Unchanged()))

		dst.take()
		result = mustCopy(t, to, from, opts)
		qt.Check(t, qt.IsTrue(result.Unchanged()))
		qt.Check(t, qt.Equals(result.Descriptor.Digest, image.Descriptor.Digest))
		qt.Check(t, qt.IsFalse(strings.Contains(dst.take(), "Push")))

		// A tag cannot point at two manifests.
		opts.Platforms = []ocispec.Platform{*arm64, *amd64}
		_, err := Copy(t.Context(), Place{dst, "a", "v2"}, from, opts)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestBlobUnknown))
		opts.Platforms = []ocispec.Platform{{OS: "plan9"}}
		_, err = Copy(t.Context(), Place{dst, "a", "v2"}, from, opts)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "v2"), ""))

		// With all platforms, the tag points at the index.
		opts.Platforms = []ocispec.Platform{{OS: "linux"}}
		result = mustCopy(t, Place{dst, "a", "v2"}, from, opts)
		qt.Check(t, qt.Equals(result.Descriptor.Digest, outer.Descriptor.Digest))
	})
}

func TestCopy_MatchesPlatforms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		want string
		has  ocispec.Platform
		ok   bool
	}{
		{"linux/amd64", *amd64, true},
		{"linux/amd64", *arm64, false},
		{"linux/arm64", *arm64, true},
		{"linux/arm64/v8", *arm64, true},
		{"linux/arm64/v8", ocispec.Platform{OS: "linux", Architecture: "arm64"}, true},
		{"linux/arm", *armV7, true},
		{"linux/arm/v6", *armV7, false},
		{"linux/arm/v6", ocispec.Platform{OS: "linux", Architecture: "arm"}, false},
		{"windows/amd64", *amd64, false},
	}
	for _, test := range tests {
		want, err := ParsePlatform(test.want)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(manifest.MatchesPlatform(test.has, []ocispec.Platform{want}), test.ok), qt.Commentf("%+v", test))
	}
}
