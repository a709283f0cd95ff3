package ocitest

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A repository must have the content that a manifest names when the manifest is pushed, and
// keeps it as long as the manifest.

var referenceClauses = []clause{
	{name: "Present", needs: PushManifests, run: referencesPresent},
	{name: "Missing", needs: PushManifests, run: referencesMissing, when: isComplete},
	{name: "MissingInNestedIndex", needs: PushManifests, run: referencesNested, when: isComplete},
	{name: "OtherRepositoriesDoNotCount", needs: PushManifests, run: referencesElsewhere, when: isComplete},
	{name: "Malformed", needs: PushManifests, run: referencesMalformed, when: isComplete},
	{name: "ExemptLayers", needs: PushManifests, run: referencesExempt},
	{name: "Sizes", needs: PushManifests, run: referencesSizes},
	{name: "SizesWhereMissingIsAllowed", needs: Allowances | PushManifests, run: allowedSizes},
	{name: "SizesOfExemptLayers", needs: PushManifests, run: referencesExemptSizes},
	{name: "InUse", needs: DeleteBlobs | DeleteManifests | MoveTags, run: referencesInUse, when: isComplete},
	{name: "SparseAcceptsMissing", needs: PushManifests, run: sparseMissing, when: isSparse},
	{name: "SparseLetsGo", needs: DeleteBlobs, run: sparseDelete, when: isSparse},
}

func isComplete(o Options) bool { return !o.Sparse }
func isSparse(o Options) bool   { return o.Sparse }

// slot is a field of a manifest that names content by a descriptor.
type slot struct {
	name      string
	mediaType string // of the manifest
	children  bool   // the content is manifests, else blobs
	// make returns a manifest with d in the slot, and good where it needs other blobs.
	make func(good, d ociregistry.Descriptor) jsonObject
}

var slots = []slot{
	{"config", ocispec.MediaTypeImageManifest, false, func(good, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"config": d, "layers": []any{good}}
	}},
	{"layer", ocispec.MediaTypeImageManifest, false, func(good, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"config": good, "layers": []any{good, d}}
	}},
	{"config", mediaTypeDockerImage, false, func(good, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"config": d, "layers": []any{good}}
	}},
	{"layer", mediaTypeDockerImage, false, func(good, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"config": good, "layers": []any{d, good}}
	}},
	{"blob", mediaTypeORASArtifact, false, func(good, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"artifactType": "text/plain", "blobs": []any{good, d}}
	}},
	{"blob", mediaTypeOCIArtifact, false, func(good, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"artifactType": "text/plain", "blobs": []any{good, d}}
	}},
	{"child", ocispec.MediaTypeImageIndex, true, func(_, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"manifests": []any{d}}
	}},
	{"child", mediaTypeDockerList, true, func(_, d ociregistry.Descriptor) jsonObject {
		return jsonObject{"manifests": []any{d}}
	}},
}

func (s slot) String() string { return fmt.Sprintf("a %s with a %s", s.mediaType, s.name) }

func (s slot) manifest(good, d ociregistry.Descriptor) []byte {
	object := s.make(good, d)
	object["schemaVersion"] = 2
	object["mediaType"] = s.mediaType
	return mustMarshal(object)
}

// mustFill pushes content that the slot can name.
func (s slot) mustFill(t *test, repo, data string) ociregistry.Descriptor {
	t.Helper()
	if s.children {
		return t.mustPushManifest(repo, NewIndex(Spec{Annotations: map[string]string{"data": data}}).Manifest, ocispec.MediaTypeImageIndex)
	}
	return t.mustPushBlob(repo, []byte(data))
}

func (s slot) missing() ociregistry.Descriptor {
	d := describe([]byte("missing"))
	if s.children {
		d.MediaType = ocispec.MediaTypeImageManifest
	}
	return d
}

func referencesPresent(t *test) {
	good := t.mustPushBlob("foo", []byte("good"))
	for i, s := range slots {
		contents, tag := s.manifest(good, s.mustFill(t, "foo", "content")), fmt.Sprint("v", i)
		t.must(t.pushManifest("foo", tag, contents, s.mediaType), "PushManifest of %v", s)
		t.wantManifest("foo", contents, describeManifest(contents, s.mediaType), tag)
	}
}

func referencesMissing(t *test) {
	good := t.mustPushBlob("foo", []byte("good"))
	for _, s := range slots {
		t.wantRejected("foo", s.manifest(good, s.missing()), s.mediaType, is(ociregistry.ErrManifestBlobUnknown), s.String()+" that is missing")
	}
	t.wantTags("foo")
}

// The repository must have a child as a manifest. The content below it was checked when the
// child was pushed.
func referencesNested(t *test) {
	inner := NewIndex(Spec{}, NewImage(Spec{Seed: 1}))
	outer := NewIndex(Spec{}, inner)
	unknown := is(ociregistry.ErrManifestBlobUnknown)
	t.mustPushBlob("foo", []byte("x"))
	t.wantRejected("foo", inner.Manifest, inner.Descriptor.MediaType, unknown, "an index whose child is missing")
	t.wantRejected("foo", outer.Manifest, outer.Descriptor.MediaType, unknown, "an index whose child is missing")
	t.mustPush("foo", inner.Children[0])
	t.wantRejected("foo", outer.Manifest, outer.Descriptor.MediaType, unknown, "an index whose child is missing")
	t.must(t.pushManifest("foo", "", inner.Manifest, inner.Descriptor.MediaType), "PushManifest of an index")
	t.must(t.pushManifest("foo", "v1", outer.Manifest, outer.Descriptor.MediaType), "PushManifest of an index of an index")
	t.must(outer.Verify(t.Context(), t.reg, "foo"), "reading an index of an index")
}

func referencesElsewhere(t *test) {
	for _, s := range slots {
		good := t.mustPushBlob("foo", []byte("good"))
		d := s.mustFill(t, "bar", "content")
		t.wantRejected("foo", s.manifest(good, d), s.mediaType, is(ociregistry.ErrManifestBlobUnknown), s.String()+" that only another repository has")
	}
}

// A manifest cannot name content by a malformed digest.
func referencesMalformed(t *test) {
	good := t.mustPushBlob("foo", []byte("good"))
	sentinels := is(ociregistry.ErrManifestInvalid, ociregistry.ErrManifestBlobUnknown, ociregistry.ErrDigestInvalid)
	for _, s := range slots {
		for _, d := range badDigests {
			if len(d) > 200 {
				continue
			}
			desc := s.missing()
			desc.Digest = d
			t.wantRejected("foo", s.manifest(good, desc), s.mediaType, sentinels, fmt.Sprintf("%v that has digest %q", s, d))
		}
	}
}

// Layers that clients get from elsewhere may be missing.
func referencesExempt(t *test) {
	config := t.mustPushBlob("foo", []byte("{}"))
	for i, layer := range []ociregistry.Descriptor{
		{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar"},
		{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
		{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"},
		{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
		{MediaType: ocispec.MediaTypeImageLayerGzip, URLs: []string{"https://example.com/layer"}},
	} {
		layer.Digest, layer.Size = digest.FromString("missing"), 7
		for j, mediaType := range []string{ocispec.MediaTypeImageManifest, mediaTypeDockerImage} {
			contents := mustMarshal(jsonObject{"schemaVersion": 2, "mediaType": mediaType, "config": config, "layers": []any{layer}})
			tag := fmt.Sprint("v", i, "-", j)
			t.must(t.pushManifest("foo", tag, contents, mediaType), "PushManifest of a %s with a layer %s and URLs %q that is missing", mediaType, layer.MediaType, layer.URLs)
			t.wantManifest("foo", contents, describeManifest(contents, mediaType), tag)
		}
	}
}

// The size in a manifest must be that of the content in the repository. A manifest with
// another size is refused, and does not affect the content.
func referencesSizes(t *test) {
	for i, s := range slots {
		repo := fmt.Sprint("foo", i)
		good := t.mustPushBlob(repo, []byte("good"))
		d := s.mustFill(t, repo, "content")
		for _, size := range []int64{0, d.Size - 1, d.Size + 1, 1 << 40} {
			wrong := d
			wrong.Size = size
			t.wantRejected(repo, s.manifest(good, wrong), s.mediaType, is(ociregistry.ErrManifestInvalid), fmt.Sprintf("%v of %d bytes instead of %d", s, size, d.Size))
		}
		err := t.pushManifest(repo, "", s.manifest(good, ociregistry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: 987654}), s.mediaType)
		for _, size := range []string{"987654", fmt.Sprint(d.Size)} {
			if err != nil && !strings.Contains(err.Error(), size) {
				t.Errorf("PushManifest of %v of 987654 bytes instead of %d: error %q does not say %s", s, d.Size, err, size)
			}
		}
		contents := s.manifest(good, d)
		t.must(t.pushManifest(repo, "v1", contents, s.mediaType), "PushManifest of %v of the right size, after others", s)
		t.wantManifest(repo, contents, describeManifest(contents, s.mediaType), "v1")
		t.wantTags(repo, "v1")
		t.wantSlot(repo, s, "content", d)
	}
}

// wantSlot checks that the repository has content of mustFill.
func (t *test) wantSlot(repo string, s slot, data string, d ociregistry.Descriptor) {
	t.Helper()
	if s.children {
		t.wantManifest(repo, NewIndex(Spec{Annotations: map[string]string{"data": data}}).Manifest, d)
	} else {
		t.wantBlob(repo, []byte(data), d.Digest)
	}
}

// A manifest that is pushed before its blobs may have wrong sizes. The blobs can be pushed
// and read nevertheless.
func allowedSizes(t *test) {
	for i, s := range slots {
		repo := fmt.Sprint("foo", i)
		good := t.mustPushBlob(repo, []byte("good"))
		wrong := s.mustFill(t, "other", "content")
		wrong.Size += 5
		contents := s.manifest(good, wrong)
		t.must(t.pushAllowing(repo, "v1", contents, s.mediaType), "PushManifest of %v of another size that is missing", s)
		d := s.mustFill(t, repo, "content")
		t.wantSlot(repo, s, "content", d)
		invalid := is(ociregistry.ErrManifestInvalid)
		t.wantErr(t.pushAllowing(repo, "v1", contents, s.mediaType), invalid, "PushManifest of %v of another size, where content may be missing", s)
		t.wantErr(t.pushManifest(repo, "v1", contents, s.mediaType), invalid, "PushManifest of %v of another size", s)
		t.wantManifest(repo, contents, describeManifest(contents, s.mediaType), "v1")
		t.wantSlot(repo, s, "content", d)
	}
}

// The size of a layer that may be missing is checked if the layer is present.
func referencesExemptSizes(t *test) {
	config := t.mustPushBlob("foo", []byte("{}"))
	layer := t.mustPushBlob("foo", []byte("layer"))
	layer.Size++
	for _, d := range []ociregistry.Descriptor{
		{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar"},
		{MediaType: ocispec.MediaTypeImageLayerGzip, URLs: []string{"https://example.com/layer"}},
	} {
		d.Digest, d.Size = layer.Digest, layer.Size
		contents := mustMarshal(jsonObject{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{d}})
		t.wantRejected("foo", contents, ocispec.MediaTypeImageManifest, is(ociregistry.ErrManifestInvalid), fmt.Sprintf("an image with a layer %s of another size", d.MediaType))
	}
}

// Content in each slot of each kind of manifest is kept until the manifest is deleted.
func referencesInUse(t *test) {
	for i, s := range slots {
		repo := fmt.Sprint("foo", i)
		good := t.mustPushBlob(repo, []byte("good"))
		d := s.mustFill(t, repo, "content")
		manifest := t.mustPushManifest(repo, s.manifest(good, d), s.mediaType)
		remove := s.remover(t.reg)
		t.wantErr(remove(t.Context(), repo, d.Digest), is(ociregistry.ErrInUse), "deleting the %s of %v", s.name, s)
		t.must(t.reg.DeleteManifest(t.Context(), repo, manifest.Digest), "DeleteManifest of %v", s)
		t.must(remove(t.Context(), repo, d.Digest), "deleting what was the %s of %v", s.name, s)
	}
}

func sparseMissing(t *test) {
	for i, s := range slots {
		contents, tag := s.manifest(s.missing(), s.missing()), fmt.Sprint("v", i)
		t.must(t.pushManifest("foo", tag, contents, s.mediaType), "PushManifest of %v that is missing, to a sparse registry", s)
		t.wantManifest("foo", contents, describeManifest(contents, s.mediaType), tag)
	}
	t.wantNoBlob("foo", slots[0].missing().Digest, "after only manifests were pushed")
}

func sparseDelete(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	for _, b := range image.Blobs {
		t.must(t.reg.DeleteBlob(t.Context(), "foo", b.Descriptor.Digest), "DeleteBlob of what a manifest names, in a sparse registry")
		t.wantNoBlob("foo", b.Descriptor.Digest, "after it was deleted")
	}
	t.wantManifest("foo", image.Manifest, image.Descriptor, "v1")
	t.mustPush("foo", image, "v1")
	t.must(image.Verify(t.Context(), t.reg, "foo"), "reading an image whose blobs came back")
}
