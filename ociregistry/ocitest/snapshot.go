package ocitest

import (
	"bytes"
	"io"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A reader keeps working if the content is deleted or replaced.

var snapshotClauses = []clause{
	{name: "BlobDeleted", needs: DeleteBlobs, run: snapshotBlob},
	{name: "ManifestDeleted", needs: DeleteManifests | MoveTags, run: snapshotManifest},
	{name: "TagMoved", needs: MoveTags, run: snapshotTag},
}

// snapshotBlob deletes a blob, and with it the repository, after readers have read a part of
// it.
func snapshotBlob(t *test) {
	data := content(1, 2<<20)
	desc := t.mustPushBlob("foo", data)
	ctx := t.Context()
	whole, err := t.reg.GetBlob(ctx, "foo", desc.Digest)
	t.must(err, "GetBlob")
	unread, err := t.reg.GetBlob(ctx, "foo", desc.Digest)
	t.must(err, "GetBlob")
	part, err := t.reg.GetBlobRange(ctx, "foo", desc.Digest, 1000, 1<<20)
	t.must(err, "GetBlobRange")
	headOfWhole, headOfPart := t.mustReadN(whole, 10_000), t.mustReadN(part, 10_000)

	t.must(t.reg.DeleteBlob(ctx, "foo", desc.Digest), "DeleteBlob")
	t.wantNoBlob("foo", desc.Digest, "after it was deleted")
	t.mustPushBlob("foo", content(2, 2<<20))

	t.wantRest(whole, headOfWhole, data, "GetBlob, the blob deleted meanwhile")
	t.wantRest(part, headOfPart, data[1000:1<<20], "GetBlobRange, the blob deleted meanwhile")
	t.wantRest(unread, nil, data, "GetBlob, the blob deleted before the first Read")
}

func snapshotManifest(t *test) {
	image := NewImage(Spec{Annotations: map[string]string{"large": string(bytes.Repeat([]byte("x"), 500_000))}})
	t.mustPush("foo", image, "v1")
	ctx := t.Context()
	byDigest, err := t.reg.GetManifest(ctx, "foo", image.Descriptor.Digest)
	t.must(err, "GetManifest")
	byTag, err := t.reg.GetTag(ctx, "foo", "v1")
	t.must(err, "GetTag")
	head := t.mustReadN(byDigest, 1000)
	t.must(t.reg.DeleteManifest(ctx, "foo", image.Descriptor.Digest), "DeleteManifest")
	t.wantNoManifest("foo", image.Descriptor.Digest, "after it was deleted")
	t.wantRest(byDigest, head, image.Manifest, "GetManifest, the manifest deleted meanwhile")
	t.wantRest(byTag, nil, image.Manifest, "GetTag, the manifest deleted meanwhile")
}

func snapshotTag(t *test) {
	old := t.mustPushImage("foo", 1, "v1")
	r, err := t.reg.GetTag(t.Context(), "foo", "v1")
	t.must(err, "GetTag")
	head := t.mustReadN(r, 10)
	t.mustPushImage("foo", 2, "v1")
	if diff := diffDescriptor(r.Descriptor(), old.Descriptor); diff != "" {
		t.Errorf("GetTag, the tag moved meanwhile: descriptor differs: %s", diff)
	}
	t.wantRest(r, head, old.Manifest, "GetTag, the tag moved meanwhile")
}

func (t *test) mustReadN(r ociregistry.BlobReader, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	t.must(err, "the first %d bytes", n)
	return p
}

// wantRest reads the rest after head, and checks the whole.
func (t *test) wantRest(r ociregistry.BlobReader, head, want []byte, what string) {
	t.Helper()
	rest, _, err := read(r, nil)
	if diff := diffBytes(append(head, rest...), want); diff != "" || err != nil {
		t.Errorf("%s: error %v; %s", what, err, diff)
	}
}
