package ocitest

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

var deleteBlobClauses = []clause{
	{name: "Deletes", needs: DeleteBlobs, run: deleteBlob},
	{name: "Unknown", needs: DeleteBlobs, run: deleteUnknownBlob},
	{name: "OneRepositoryOnly", needs: DeleteBlobs, run: deleteBlobElsewhere},
	{name: "PushedAgain", needs: DeleteBlobs | PushBlobs, run: deleteBlobAndPush},
	{name: "InUse", needs: DeleteBlobs | DeleteManifests | MoveTags, run: deleteBlobInUse, when: isComplete},
	{name: "InUseBelowAnIndex", needs: DeleteBlobs | DeleteManifests | MoveTags, run: deleteBlobBelowIndex, when: isComplete},
	{name: "InUseTwice", needs: DeleteBlobs | DeleteManifests | MoveTags, run: deleteSharedBlob, when: isComplete},
	{name: "InUseElsewhere", needs: DeleteBlobs, run: deleteBlobInUseElsewhere},
	{name: "OfAManifest", needs: DeleteBlobs, run: deleteManifestAsBlob},
	{name: "UncheckedManifestsUseNothing", needs: DeleteBlobs, run: deleteBlobUnchecked},
}

var deleteManifestClauses = []clause{
	{name: "Deletes", needs: DeleteManifests, run: deleteManifest},
	{name: "TakesItsTags", needs: DeleteManifests | MoveTags, run: deleteTaggedManifest},
	{name: "Unknown", needs: DeleteManifests, run: deleteUnknownManifest},
	{name: "OneRepositoryOnly", needs: DeleteManifests | MoveTags, run: deleteManifestElsewhere},
	{name: "PushedAgain", needs: DeleteManifests | MoveTags, run: deleteManifestAndPush},
	{name: "InUse", needs: DeleteManifests | MoveTags, run: deleteManifestInUse, when: isComplete},
	{name: "InUseInNestedIndexes", needs: DeleteManifests | MoveTags, run: deleteNested, when: isComplete},
	{name: "InUseTwice", needs: DeleteManifests | MoveTags, run: deleteSharedManifest, when: isComplete},
	{name: "SubjectsAreNotInUse", needs: DeleteManifests, run: deleteSubject},
}

var deleteTagClauses = []clause{
	{name: "Deletes", needs: DeleteTags, run: deleteTag},
	{name: "Unknown", needs: DeleteTags, run: deleteUnknownTag},
	{name: "OneRepositoryOnly", needs: DeleteTags, run: deleteTagElsewhere},
	{name: "PushedAgain", needs: DeleteTags, run: deleteTagAndPush},
}

// other is a digest that no content has.
var other = digest.FromString("what no repository has")

func deleteBlob(t *test) {
	kept, gone := []byte("kept"), []byte("gone")
	k, g := t.mustPushBlob("foo", kept), t.mustPushBlob("foo", gone)
	t.must(t.reg.DeleteBlob(t.Context(), "foo", g.Digest), "DeleteBlob")
	t.wantNoBlob("foo", g.Digest, "after it was deleted")
	t.wantBlob("foo", kept, k.Digest)
	t.wantErr(t.reg.DeleteBlob(t.Context(), "foo", g.Digest), is(ociregistry.ErrBlobUnknown), "DeleteBlob of a blob that was deleted")
}

func deleteUnknownBlob(t *test) {
	t.mustPushBlob("foo", []byte("x"))
	t.wantErr(t.reg.DeleteBlob(t.Context(), "foo", other), is(ociregistry.ErrBlobUnknown), "DeleteBlob of an unknown blob")
	t.wantErr(t.reg.DeleteBlob(t.Context(), "unknown", other), is(ociregistry.ErrNameUnknown), "DeleteBlob in an unknown repository")
	t.wantRepositories("after deletes that failed", "foo")
}

func deleteBlobElsewhere(t *test) {
	data := []byte("hello")
	desc := t.mustPushBlob("foo", data)
	t.mustPushBlob("bar", data)
	t.must(t.reg.DeleteBlob(t.Context(), "foo", desc.Digest), "DeleteBlob")
	t.wantNoBlob("foo", desc.Digest, "after it was deleted")
	t.wantBlob("bar", data, desc.Digest)
}

func deleteBlobAndPush(t *test) {
	data := content(1, 10_000)
	t.mustPushBlob("foo", []byte("x"))
	for range 3 {
		desc := t.mustPushBlob("foo", data)
		t.wantBlob("foo", data, desc.Digest)
		t.must(t.reg.DeleteBlob(t.Context(), "foo", desc.Digest), "DeleteBlob")
		t.wantNoBlob("foo", desc.Digest, "after it was deleted")
	}
}

// wantInUse checks that a delete is refused.
func (t *test) wantInUse(err error, format string, args ...any) {
	t.Helper()
	what := fmt.Sprintf(format, args...)
	t.wantErr(err, is(ociregistry.ErrInUse), "%s", what)
	if err != nil && !errors.Is(err, ociregistry.ErrDenied) {
		t.Errorf("%s: error %q is not %q too", what, err, ociregistry.ErrDenied)
	}
}

func deleteBlobInUse(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	ctx := t.Context()
	for _, b := range image.Blobs {
		t.wantInUse(t.reg.DeleteBlob(ctx, "foo", b.Descriptor.Digest), "DeleteBlob of the %s of an image", b.Descriptor.MediaType)
	}
	t.must(image.Verify(ctx, t.reg, "foo"), "reading an image after deletes that were refused")

	if t.has(DeleteTags) {
		t.must(t.reg.DeleteTag(ctx, "foo", "v1"), "DeleteTag")
		t.wantInUse(t.reg.DeleteBlob(ctx, "foo", image.Blobs[1].Descriptor.Digest), "DeleteBlob of a layer of an image without tags")
	}
	t.must(t.reg.DeleteManifest(ctx, "foo", image.Descriptor.Digest), "DeleteManifest")
	for _, b := range image.Blobs {
		t.wantBlob("foo", b.Bytes(), b.Descriptor.Digest)
		t.must(t.reg.DeleteBlob(ctx, "foo", b.Descriptor.Digest), "DeleteBlob of a blob whose manifest was deleted")
	}
	t.wantNoRepository("foo", "after everything was deleted")
}

func deleteBlobBelowIndex(t *test) {
	index := NewIndex(Spec{}, NewIndex(Spec{}, NewImage(Spec{Layers: []int64{100}})))
	t.mustPush("foo", index, "v1")
	ctx := t.Context()
	image := index.Children[0].Children[0]
	layer := image.Blobs[1].Descriptor.Digest
	t.wantInUse(t.reg.DeleteBlob(ctx, "foo", layer), "DeleteBlob of a layer below an index")
	for _, a := range []*Artifact{index, index.Children[0]} {
		t.must(t.reg.DeleteManifest(ctx, "foo", a.Descriptor.Digest), "DeleteManifest of an index")
		t.wantInUse(t.reg.DeleteBlob(ctx, "foo", layer), "DeleteBlob of a layer of an image whose index was deleted")
	}
	t.must(t.reg.DeleteManifest(ctx, "foo", image.Descriptor.Digest), "DeleteManifest")
	t.must(t.reg.DeleteBlob(ctx, "foo", layer), "DeleteBlob of a layer whose image was deleted")
}

// A blob that several manifests name, or one manifest names twice, is in use until the last
// of them is deleted.
func deleteSharedBlob(t *test) {
	layer := t.mustPushBlob("foo", []byte("layer"))
	config := t.mustPushBlob("foo", []byte("{}"))
	manifest := func(name string, layers ...ociregistry.Descriptor) ociregistry.Descriptor {
		return t.mustPushManifest("foo", jsonObject{
			"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": layers,
			"annotations": jsonObject{"name": name},
		}, ocispec.MediaTypeImageManifest, name)
	}
	manifests := []ociregistry.Descriptor{manifest("one", layer), manifest("two", layer, layer), manifest("three", layer, config)}
	ctx := t.Context()
	for _, m := range manifests {
		t.wantInUse(t.reg.DeleteBlob(ctx, "foo", layer.Digest), "DeleteBlob of a layer that a manifest still names")
		t.wantInUse(t.reg.DeleteBlob(ctx, "foo", config.Digest), "DeleteBlob of a config that a manifest still names")
		t.must(t.reg.DeleteManifest(ctx, "foo", m.Digest), "DeleteManifest")
	}
	t.must(t.reg.DeleteBlob(ctx, "foo", layer.Digest), "DeleteBlob of a layer that no manifest names any more")
	t.must(t.reg.DeleteBlob(ctx, "foo", config.Digest), "DeleteBlob of a config that no manifest names any more")
}

func deleteBlobInUseElsewhere(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	layer := image.Blobs[1]
	t.mustPushBlob("bar", layer.Bytes())
	t.must(t.reg.DeleteBlob(t.Context(), "bar", layer.Descriptor.Digest), "DeleteBlob of what only a manifest of another repository names")
	t.wantNoBlob("bar", layer.Descriptor.Digest, "after it was deleted")
	t.must(image.Verify(t.Context(), t.reg, "foo"), "reading an image when another repository lost its layer")
}

func deleteManifestAsBlob(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	t.wantInUse(t.reg.DeleteBlob(t.Context(), "foo", image.Descriptor.Digest), "DeleteBlob of a manifest")
	t.wantManifest("foo", image.Manifest, image.Descriptor, "v1")
}

func deleteBlobUnchecked(t *test) {
	layer := t.mustPushBlob("foo", []byte("layer"))
	t.mustPushManifest("foo", jsonObject{"config": layer, "layers": []any{layer}, "blobs": []any{layer}}, "application/vnd.example.manifest+json", "v1")
	t.must(t.reg.DeleteBlob(t.Context(), "foo", layer.Digest), "DeleteBlob of what stands in a manifest of an unknown media type")
}

func deleteManifest(t *test) {
	kept, gone := t.mustPushImage("foo", 1, "v1"), t.mustPushImage("foo", 2)
	t.must(t.reg.DeleteManifest(t.Context(), "foo", gone.Descriptor.Digest), "DeleteManifest")
	t.wantNoManifest("foo", gone.Descriptor.Digest, "after it was deleted")
	for _, b := range gone.Blobs {
		t.wantBlob("foo", b.Bytes(), b.Descriptor.Digest)
	}
	t.wantManifest("foo", kept.Manifest, kept.Descriptor, "v1")
	err := t.reg.DeleteManifest(t.Context(), "foo", gone.Descriptor.Digest)
	t.wantErr(err, is(ociregistry.ErrManifestUnknown), "DeleteManifest of a manifest that was deleted")
}

func deleteTaggedManifest(t *test) {
	kept, gone := t.mustPushImage("foo", 1, "a", "d"), t.mustPushImage("foo", 2, "b", "c", "e")
	t.must(t.reg.DeleteManifest(t.Context(), "foo", gone.Descriptor.Digest), "DeleteManifest")
	for _, tag := range []string{"b", "c", "e"} {
		t.wantNoTag("foo", tag, "after its manifest was deleted")
	}
	t.wantTags("foo", "a", "d")
	t.wantManifest("foo", kept.Manifest, kept.Descriptor, "a", "d")

	// A tag that has moved to another manifest is not deleted.
	gone = t.mustPushImage("foo", 2, "b", "c")
	t.mustPush("foo", kept, "c")
	t.must(t.reg.DeleteManifest(t.Context(), "foo", gone.Descriptor.Digest), "DeleteManifest")
	t.wantTags("foo", "a", "c", "d")
}

func deleteUnknownManifest(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	unknown := is(ociregistry.ErrManifestUnknown)
	t.wantErr(t.reg.DeleteManifest(t.Context(), "foo", other), unknown, "DeleteManifest of an unknown manifest")
	t.wantErr(t.reg.DeleteManifest(t.Context(), "foo", image.Blobs[0].Descriptor.Digest), unknown, "DeleteManifest of a blob")
	t.wantErr(t.reg.DeleteManifest(t.Context(), "unknown", other), is(ociregistry.ErrNameUnknown), "DeleteManifest in an unknown repository")
	t.must(image.Verify(t.Context(), t.reg, "foo"), "reading an image after deletes that failed")
	t.wantRepositories("after deletes that failed", "foo")
}

func deleteManifestElsewhere(t *test) {
	image := t.mustPushImage("foo", 1, "v1")
	t.mustPush("bar", image, "v1")
	t.must(t.reg.DeleteManifest(t.Context(), "foo", image.Descriptor.Digest), "DeleteManifest")
	t.wantNoTag("foo", "v1", "after its manifest was deleted")
	t.wantManifest("bar", image.Manifest, image.Descriptor, "v1")
}

// The tags of a manifest that was deleted do not return when it is pushed again.
func deleteManifestAndPush(t *test) {
	a := numbered(1)
	t.mustPush("foo", a, "v1", "v2")
	for range 2 {
		t.must(t.reg.DeleteManifest(t.Context(), "foo", a.Descriptor.Digest), "DeleteManifest")
		t.wantNoManifest("foo", a.Descriptor.Digest, "after it was deleted")
		t.mustPush("foo", a, "v2")
		t.wantManifest("foo", a.Manifest, a.Descriptor, "v2")
		t.wantTags("foo", "v2")
	}
}

func deleteManifestInUse(t *test) {
	index := NewIndex(Spec{}, NewImage(Spec{Seed: 1}), NewImage(Spec{Seed: 2}))
	t.mustPush("foo", index, "v1")
	t.mustPush("foo", index.Children[0], "child")
	ctx := t.Context()
	for _, child := range index.Children {
		t.wantInUse(t.reg.DeleteManifest(ctx, "foo", child.Descriptor.Digest), "DeleteManifest of a child of an index")
		t.wantManifest("foo", child.Manifest, child.Descriptor)
	}
	t.wantTags("foo", "child", "v1")
	t.must(t.reg.DeleteManifest(ctx, "foo", index.Descriptor.Digest), "DeleteManifest of an index")
	for _, child := range index.Children {
		t.wantManifest("foo", child.Manifest, child.Descriptor)
		t.must(t.reg.DeleteManifest(ctx, "foo", child.Descriptor.Digest), "DeleteManifest of what was a child of an index")
	}
	t.wantTags("foo")
}

func deleteNested(t *test) {
	outer := NewIndex(Spec{}, NewIndex(Spec{}, NewImage(Spec{})))
	t.mustPush("foo", outer, "v1")
	inner := outer.Children[0]
	chain := []*Artifact{outer, inner, inner.Children[0]}
	for i, a := range chain {
		for _, below := range chain[i+1:] {
			t.wantInUse(t.reg.DeleteManifest(t.Context(), "foo", below.Descriptor.Digest), "DeleteManifest of a child of an index")
		}
		t.must(t.reg.DeleteManifest(t.Context(), "foo", a.Descriptor.Digest), "DeleteManifest of the outermost index")
	}
}

func deleteSharedManifest(t *test) {
	child := NewImage(Spec{})
	var parents []*Artifact
	for _, name := range []string{"one", "two"} {
		a := NewIndex(Spec{Annotations: map[string]string{"name": name}}, child, child)
		t.mustPush("foo", a)
		parents = append(parents, a)
	}
	for _, a := range parents {
		t.wantInUse(t.reg.DeleteManifest(t.Context(), "foo", child.Descriptor.Digest), "DeleteManifest of what an index still names")
		t.must(t.reg.DeleteManifest(t.Context(), "foo", a.Descriptor.Digest), "DeleteManifest of an index")
	}
	t.must(t.reg.DeleteManifest(t.Context(), "foo", child.Descriptor.Digest), "DeleteManifest of what no index names any more")
}

func deleteSubject(t *test) {
	image := t.mustPushImage("foo", 1)
	referrer := NewImage(Spec{ArtifactType: "text/plain", Subject: &image.Descriptor})
	t.mustPush("foo", referrer)
	t.must(t.reg.DeleteManifest(t.Context(), "foo", image.Descriptor.Digest), "DeleteManifest of a subject")
	t.wantNoManifest("foo", image.Descriptor.Digest, "after it was deleted")
	t.wantManifest("foo", referrer.Manifest, referrer.Descriptor)
	t.must(t.reg.DeleteManifest(t.Context(), "foo", referrer.Descriptor.Digest), "DeleteManifest of a referrer")
}

func deleteTag(t *test) {
	a := numbered(1)
	t.mustPush("foo", a, "v1", "v2", "v3")
	for _, left := range [][]string{{"v2", "v3"}, {"v3"}, {}} {
		tag := fmt.Sprint("v", 3-len(left))
		t.must(t.reg.DeleteTag(t.Context(), "foo", tag), "DeleteTag")
		t.wantNoTag("foo", tag, "after it was deleted")
		t.wantTags("foo", left...)
		t.wantManifest("foo", a.Manifest, a.Descriptor, left...)
		t.wantErr(t.reg.DeleteTag(t.Context(), "foo", tag), is(ociregistry.ErrManifestUnknown), "DeleteTag of a tag that was deleted")
	}
	t.wantRepositories("after its last tag was deleted", "foo")
}

func deleteUnknownTag(t *test) {
	a := numbered(1)
	t.mustPush("foo", a, "v1")
	unknown := is(ociregistry.ErrManifestUnknown)
	t.wantErr(t.reg.DeleteTag(t.Context(), "foo", "v2"), unknown, "DeleteTag of an unknown tag")
	t.wantErr(t.reg.DeleteTag(t.Context(), "foo", string(a.Descriptor.Digest)), unknown, "DeleteTag of a digest")
	t.wantErr(t.reg.DeleteTag(t.Context(), "unknown", "v1"), is(ociregistry.ErrNameUnknown), "DeleteTag in an unknown repository")
	t.wantManifest("foo", a.Manifest, a.Descriptor, "v1")
	t.wantRepositories("after deletes that failed", "foo")
}

func deleteTagElsewhere(t *test) {
	a := numbered(1)
	t.mustPush("foo", a, "v1")
	t.mustPush("bar", a, "v1")
	t.must(t.reg.DeleteTag(t.Context(), "foo", "v1"), "DeleteTag")
	t.wantManifest("bar", a.Manifest, a.Descriptor, "v1")
}

func deleteTagAndPush(t *test) {
	a := numbered(1)
	for range 3 {
		t.mustPush("foo", a, "v1")
		t.wantManifest("foo", a.Manifest, a.Descriptor, "v1")
		t.must(t.reg.DeleteTag(t.Context(), "foo", "v1"), "DeleteTag")
		t.wantNoTag("foo", "v1", "after it was deleted")
	}
}
