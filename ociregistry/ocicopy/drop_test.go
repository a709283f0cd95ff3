package ocicopy

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

var twoPlatforms = []ocispec.Platform{*amd64, *arm64}

// newAttested makes an index as BuildKit does: with an image for each platform, and the
// attestations of each image.
func newAttested(seed uint64, platforms ...*ocispec.Platform) *ocitest.Artifact {
	images := newPlatforms(seed, platforms...).Children
	all := images
	for i, image := range images {
		attestation := ocitest.NewImage(ocitest.Spec{Seed: seed + 50 + uint64(i), Layers: []int64{60}})
		attestation.Descriptor.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		attestation.Descriptor.Annotations = map[string]string{
			"vnd.docker.reference.digest": string(image.Descriptor.Digest),
			"vnd.docker.reference.type":   "attestation-manifest",
		}
		all = append(all, attestation)
	}
	return ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"by": "BuildKit"}}, all...)
}

// indexAt reads the index that a tag points at, and checks its media type.
func indexAt(t testing.TB, r ociregistry.Interface, repo, tag, mediaType string) (index ocispec.Index, contents []byte) {
	t.Helper()
	rd, err := r.GetTag(t.Context(), repo, tag)
	qt.Assert(t, qt.IsNil(err))
	defer rd.Close()
	qt.Check(t, qt.Equals(rd.Descriptor().MediaType, mediaType))
	contents, err = io.ReadAll(rd)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(digest.FromBytes(contents), rd.Descriptor().Digest))
	qt.Assert(t, qt.IsNil(json.Unmarshal(contents, &index)))
	return index, contents
}

func mustLack(t testing.TB, r ociregistry.Interface, repo string, a *ocitest.Artifact) {
	t.Helper()
	_, err := r.ResolveManifest(t.Context(), repo, a.Descriptor.Digest)
	qt.Check(t, qt.IsTrue(absent(err)), qt.Commentf("%v", err))
}

func TestCopy_DropsOtherPlatforms(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		index := newAttested(1, amd64, armV7, arm64)
		mustPush(t, src, "a", index, "v1")
		to, from := Place{dst, "a", ""}, Place{src, "a", "v1"}
		opts := &Options{Platforms: twoPlatforms, DropOthers: true}
		src.take()

		plan, err := Plan(t.Context(), to, from, opts)
		qt.Assert(t, qt.IsNil(err))
		src.take()
		result := mustCopy(t, to, from, opts)
		qt.Check(t, qt.DeepEquals(result, plan))
		// A config and a layer for each of four manifests, and another layer for the images.
		qt.Check(t, qt.Equals(src.take(), "GetBlob 10, GetManifest 4, GetTag 1"))
		qt.Check(t, qt.Equals(result.MadeOf, index.Descriptor.Digest))
		qt.Check(t, qt.IsFalse(result.Unchanged()))
		n, _ := result.Count(Manifest, Made)
		qt.Check(t, qt.Equals(n, 1))
		item := result.Items[len(result.Items)-1]
		qt.Check(t, qt.Equals(item.MadeOf, index.Descriptor.Digest))
		qt.Check(t, qt.DeepEquals(item.Tags, []string{"v1"}))
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), result.Descriptor.Digest))

		made, contents := indexAt(t, dst, "a", "v1", index.Descriptor.MediaType)
		qt.Check(t, qt.Equals(result.Descriptor.Size, int64(len(contents))))
		qt.Check(t, qt.DeepEquals(made.Annotations, map[string]string{
			"by":                "BuildKit",
			AnnotationMadeOf:    string(index.Descriptor.Digest),
			AnnotationPlatforms: "linux/amd64,linux/arm64",
		}))
		var original ocispec.Index
		qt.Assert(t, qt.IsNil(json.Unmarshal(index.Manifest, &original)))
		var want []ocispec.Descriptor
		for i, child := range index.Children {
			if i == 1 || i == 4 {
				mustLack(t, dst, "a", child)
				continue
			}
			mustHave(t, dst, "a", child)
			want = append(want, original.Manifests[i])
		}
		qt.Check(t, qt.DeepEquals(made.Manifests, want))
		mustLack(t, dst, "a", index)

		// A repeated copy asks the source only for the tag, whatever the order of the
		// platforms.
		dst.take()
		opts.Platforms = []ocispec.Platform{*arm64, *amd64, {OS: "linux", Architecture: "arm64"}}
		again := mustCopy(t, to, from, opts)
		qt.Check(t, qt.IsTrue(again.Unchanged()))
		qt.Check(t, qt.Equals(again.Descriptor.Digest, result.Descriptor.Digest))
		qt.Check(t, qt.Equals(again.MadeOf, index.Descriptor.Digest))
		qt.Check(t, qt.Equals(src.take(), "ResolveTag 1"))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 5, ResolveBlob 10, ResolveManifest 4, ResolveTag 1"))
		opts.TrustDestination = true
		qt.Check(t, qt.IsTrue(mustCopy(t, to, from, opts).Unchanged()))
		qt.Check(t, qt.Equals(src.take(), "ResolveTag 1"))
		qt.Check(t, qt.Equals(dst.take(), "GetManifest 1, ResolveTag 1"))
		opts.TrustDestination = false

		// Another tag, and no tag, get the same index.
		for _, ref := range []string{"v2", string(index.Descriptor.Digest)} {
			other := mustCopy(t, Place{dst, "a", ref}, from, opts)
			qt.Check(t, qt.Equals(other.Descriptor.Digest, result.Descriptor.Digest))
			qt.Check(t, qt.Equals(other.Unchanged(), ref != "v2"))
		}
		// By digest, there is no tag that points at the new index.
		from.Ref = string(index.Descriptor.Digest)
		qt.Check(t, qt.IsTrue(mustCopy(t, Place{dst, "a", ""}, from, opts).Unchanged()))

		// Other platforms make another index.
		opts.Platforms = []ocispec.Platform{*armV7}
		from.Ref = "v1"
		other := mustCopy(t, Place{dst, "a", "v1"}, from, opts)
		qt.Check(t, qt.Not(qt.Equals(other.Descriptor.Digest, result.Descriptor.Digest)))
		mustHave(t, dst, "a", index.Children[1])
		mustHave(t, dst, "a", index.Children[4])

		// With all platforms, the index does not change.
		for _, opts := range []*Options{{Platforms: []ocispec.Platform{{OS: "linux"}}, DropOthers: true}, nil} {
			other = mustCopy(t, to, from, opts)
			qt.Check(t, qt.Equals(other.Descriptor.Digest, index.Descriptor.Digest))
			qt.Check(t, qt.Equals(other.MadeOf, ""))
			mustHave(t, dst, "a", index)
		}
	})
}

// Attestations are copied with their image without DropOthers too.
func TestCopy_AttestationsFollowTheirImage(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newSparse(t)
	index := newAttested(1, amd64, armV7, arm64)
	mustPush(t, src, "a", index, "v1")
	mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Platforms: []ocispec.Platform{*armV7}})
	for i, child := range index.Children {
		if i == 1 || i == 4 {
			mustHave(t, dst, "a", child)
		} else {
			mustLack(t, dst, "a", child)
		}
	}

	// If the index is refused, the tag points at the image.
	dst = newMem(t)
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Platforms: []ocispec.Platform{*armV7}})
	qt.Check(t, qt.Equals(result.Descriptor.Digest, index.Children[1].Descriptor.Digest))
}

func TestCopy_DropsOtherPlatformsOfNestedIndexes(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		mixed, none := newPlatforms(1, amd64, armV7), newPlatforms(10, armV7)
		whole, empty := newPlatforms(20, arm64), ocitest.NewIndex(ocitest.Spec{})
		outer := ocitest.NewIndex(ocitest.Spec{}, mixed, none, whole, empty, mixed)
		mustPush(t, src, "a", outer, "v1")
		notation := newReferrer(30, typeNotation, whole)
		about := newReferrer(31, typeNotation, mixed)
		for _, a := range []*ocitest.Artifact{notation, about} {
			mustPush(t, src, "a", a)
		}
		opts := &Options{Platforms: twoPlatforms, DropOthers: true, Referrers: true}
		to, from := Place{dst, "a", ""}, Place{src, "a", "v1"}
		result := mustCopy(t, to, from, opts)
		n, _ := result.Count(Manifest, Made)
		qt.Check(t, qt.Equals(n, 2))
		made, _ := indexAt(t, dst, "a", "v1", outer.Descriptor.MediaType)
		qt.Assert(t, qt.HasLen(made.Manifests, 4))
		qt.Check(t, qt.Equals(made.Manifests[0].Digest, made.Manifests[3].Digest))
		qt.Check(t, qt.Equals(made.Manifests[1].Digest, whole.Descriptor.Digest))
		qt.Check(t, qt.Equals(made.Manifests[2].Digest, empty.Descriptor.Digest))
		mustHave(t, dst, "a", whole)
		mustHave(t, dst, "a", notation)
		mustHave(t, dst, "a", mixed.Children[0])
		for _, a := range []*ocitest.Artifact{outer, mixed, none, about, mixed.Children[1], none.Children[0]} {
			mustLack(t, dst, "a", a)
		}

		src.take()
		qt.Check(t, qt.IsTrue(mustCopy(t, to, from, opts).Unchanged()))
		// Lists of referrers for what the source has: three images and indexes, the
		// empty index, and the signature.
		qt.Check(t, qt.Equals(src.take(), "Referrers 5, ResolveTag 1"))
	})
}

// The destination gets again what it lost, including a new index, which the source never
// had.
func TestCopy_RepairsAnIndexThatItMade(t *testing.T) {
	t.Parallel()
	src := newSpy(newMem(t))
	nested := newPlatforms(1, amd64, armV7)
	index := ocitest.NewIndex(ocitest.Spec{}, nested)
	mustPush(t, src, "a", index, "v1")
	for _, referrers := range []bool{false, true} {
		dst := newSparse(t)
		opts := &Options{Platforms: twoPlatforms, DropOthers: true, Referrers: referrers}
		to, from := Place{dst, "a", ""}, Place{src, "a", "v1"}
		first := mustCopy(t, to, from, opts)
		made, _ := indexAt(t, dst, "a", "v1", index.Descriptor.MediaType)
		inner := made.Manifests[0].Digest
		image := nested.Children[0]
		for name, lose := range map[string]func(context.Context) error{
			"blob":  func(ctx context.Context) error { return dst.DeleteBlob(ctx, "a", image.Blobs[1].Descriptor.Digest) },
			"image": func(ctx context.Context) error { return dst.DeleteManifest(ctx, "a", image.Descriptor.Digest) },
			"inner": func(ctx context.Context) error { return dst.DeleteManifest(ctx, "a", inner) },
			"outer": func(ctx context.Context) error { return dst.DeleteManifest(ctx, "a", first.Descriptor.Digest) },
			"tag":   func(ctx context.Context) error { return dst.DeleteTag(ctx, "a", "v1") },
			"another image": func(context.Context) error {
				mustPush(t, dst, "a", image, "v1")
				return nil
			},
			"another index": func(ctx context.Context) error {
				mustPush(t, dst, "a", newPlatforms(9, amd64), "v1")
				return nil
			},
		} {
			qt.Assert(t, qt.IsNil(lose(t.Context())), qt.Commentf("%s", name))
			result := mustCopy(t, to, from, opts)
			qt.Check(t, qt.IsFalse(result.Unchanged()), qt.Commentf("%s", name))
			qt.Check(t, qt.Equals(result.Descriptor.Digest, first.Descriptor.Digest))
			qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), first.Descriptor.Digest))
			mustHave(t, dst, "a", image)
			_, err := dst.ResolveManifest(t.Context(), "a", inner)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(mustCopy(t, to, from, opts).Unchanged()))
		}
	}
}

// Referrers are copied only if the destination has their subject.
func TestCopy_SkipsReferrersOfDroppedPlatforms(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		index := newPlatforms(1, amd64, armV7)
		mustPush(t, src, "a", index, "v1")
		ofIndex, ofImage, ofOther := newReferrer(30, typeNotation, index), newReferrer(31, typeNotation, index.Children[0]), newReferrer(32, typeNotation, index.Children[1])
		for _, a := range []*ocitest.Artifact{ofIndex, ofImage, ofOther} {
			mustPush(t, src, "a", a)
		}
		mustPush(t, src, "a", newCosign(33), rules.CosignTag(index.Descriptor.Digest)+".sig")
		sbom := rules.CosignTag(index.Children[0].Descriptor.Digest) + ".sbom"
		mustPush(t, src, "a", newCosign(34), sbom)
		// A referrer that names a replaced index cannot be complete.
		group := ocitest.NewIndex(ocitest.Spec{Subject: &index.Children[0].Descriptor}, index)
		group.Manifest = []byte(strings.Replace(string(group.Manifest), `,"platform":{"architecture":"amd64","os":"linux"}`, "", 1))
		group.Descriptor.Digest, group.Descriptor.Size = digest.FromBytes(group.Manifest), int64(len(group.Manifest))
		mustPush(t, src, "a", group)

		opts := &Options{Platforms: twoPlatforms, DropOthers: true, Referrers: true, CosignTags: true}
		src.before = failOn("Referrers", string(index.Descriptor.Digest), errSource) // not called
		for pass := range 2 {
			result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
			qt.Check(t, qt.Equals(result.Unchanged(), pass == 1))
			if pass == 0 {
				qt.Assert(t, qt.HasLen(result.Missing, 1))
				qt.Check(t, qt.Equals(result.Missing[0].Descriptor.Digest, group.Descriptor.Digest))
				qt.Check(t, qt.ErrorIs(result.Missing[0].Err, ociregistry.ErrManifestBlobUnknown))
			}
		}
		mustHave(t, dst, "a", ofImage)
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), sbom+" v1"))
		for _, a := range []*ocitest.Artifact{ofIndex, ofOther, newCosign(33)} {
			mustLack(t, dst, "a", a)
		}
	})
}

// All other fields of an index stay the same, in each of its forms.
func TestCopy_NewIndexKeepsAllElse(t *testing.T) {
	t.Parallel()
	images := newPlatforms(1, amd64, armV7)
	entry := func(i int, more string) string {
		desc := images.Children[i].Descriptor
		platform, err := json.Marshal(desc.Platform)
		qt.Assert(t, qt.IsNil(err))
		return `{"mediaType":"` + desc.MediaType + `","digest":"` + string(desc.Digest) + `","size":` + jsonOf(t, desc.Size) + `,"platform":` + string(platform) + more + `}`
	}
	odd := `,"big":123456789012345678901234567890,"html":"<&>","deep":{"b":[1.50,null],"a":{}}`
	for _, test := range []struct{ mediaType, head string }{
		{manifest.MediaTypeDockerManifestList, `"mediaType":"` + manifest.MediaTypeDockerManifestList + `"`},
		{ocispec.MediaTypeImageIndex, `"annotations":{"k":"<v>"}`},
		{ocispec.MediaTypeImageIndex, `"annotations":null,"subject":{"mediaType":"a/b","digest":"` + string(images.Descriptor.Digest) + `","size":7}`},
	} {
		src, dst := newMem(t), newMem(t)
		for _, image := range images.Children {
			mustPush(t, src, "a", image)
		}
		contents := `{"schemaVersion":2,` + test.head + odd + `,"manifests":[` + entry(0, odd) + "," + entry(1, "") + `]}`
		desc, err := src.PushManifest(t.Context(), "a", "v1", []byte(contents), test.mediaType)
		qt.Assert(t, qt.IsNil(err))
		mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Platforms: twoPlatforms, DropOthers: true})
		_, got := indexAt(t, dst, "a", "v1", test.mediaType)

		var want, made map[string]json.RawMessage
		qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(contents), &want)))
		qt.Assert(t, qt.IsNil(json.Unmarshal(got, &made)))
		var annotations map[string]string
		qt.Assert(t, qt.IsNil(json.Unmarshal(made["annotations"], &annotations)))
		qt.Check(t, qt.Equals(annotations[AnnotationMadeOf], string(desc.Digest)))
		if strings.Contains(test.head, "<v>") {
			qt.Check(t, qt.Equals(annotations["k"], "<v>"))
		}
		delete(want, "annotations")
		delete(made, "annotations")
		want["manifests"] = json.RawMessage("[" + entry(0, odd) + "]")
		for name, value := range want {
			qt.Check(t, qt.Equals(string(made[name]), string(value)), qt.Commentf("%s", name))
		}
		qt.Check(t, qt.Equals(len(made), len(want)))
	}
}

func jsonOf(t testing.TB, v any) string {
	text, err := json.Marshal(v)
	qt.Assert(t, qt.IsNil(err))
	return string(text)
}

func TestCopy_DropsNothingOfAnImage(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newMem(t)
	mustPush(t, src, "a", ocitest.NewIndex(ocitest.Spec{}, newPlatforms(1, armV7)), "index")
	mustPush(t, src, "a", image(1), "image")
	opts := &Options{Platforms: twoPlatforms, DropOthers: true}
	_, err := Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "index"}, opts)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), ""))

	// A manifest that is not an index does not change, nor does an index of which all
	// platforms are chosen.
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "image"}, opts)
	qt.Check(t, qt.Equals(result.Descriptor.Digest, image(1).Descriptor.Digest))
	result = mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "index"}, &Options{DropOthers: true})
	qt.Check(t, qt.Equals(result.MadeOf, ""))
}
