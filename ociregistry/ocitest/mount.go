package ocitest

import (
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

var mountClauses = []clause{
	{name: "FromRepository", needs: Mount, run: mount},
	{name: "FromAnyRepository", needs: MountFromAny, run: mountFromAny},
	{name: "SHA512", needs: Mount, run: mountSHA512},
	{name: "AlreadyThere", needs: Mount, run: mountAgain},
	{name: "UnknownSource", needs: Mount, run: mountUnknownRepository},
	{name: "SourceHasToHaveIt", needs: Mount, run: mountUnknownBlob},
	{name: "NobodyHasIt", needs: MountFromAny, run: mountUnknownAnywhere},
	{name: "SourceAndTargetAreIndependent", needs: Mount | DeleteBlobs, run: mountIndependent},
	{name: "ServesManifests", needs: Mount | PushManifests, run: mountForManifest},
}

func (t *test) mustMount(from, to string, d ociregistry.Digest, size int64) {
	t.Helper()
	desc, err := t.reg.MountBlob(t.Context(), from, to, d)
	t.must(err, "MountBlob from %q to %q", from, to)
	if desc.Digest != d || desc.Size != size && !(desc.Size == 0 && t.opts.Remote) {
		t.Errorf("MountBlob from %q to %q: the descriptor has digest %q and size %d, want %q and %d", from, to, desc.Digest, desc.Size, d, size)
	}
}

func (t *test) wantMountErr(want error, from, to string, d ociregistry.Digest, what string) {
	t.Helper()
	sentinels := is(want)
	if t.opts.Remote {
		sentinels = is(ociregistry.ErrUnsupported, ociregistry.ErrBlobUnknown, ociregistry.ErrNameUnknown)
	}
	_, err := t.reg.MountBlob(t.Context(), from, to, d)
	t.wantErr(err, sentinels, "MountBlob %s", what)
	t.wantNoRepository(to, "after a failed MountBlob to it")
}

func mount(t *test) {
	data := content(1, 10_000)
	desc := t.mustPushBlob("foo", data)
	t.mustMount("foo", "bar", desc.Digest, desc.Size)
	t.wantBlob("bar", data, desc.Digest)
	t.wantBlob("foo", data, desc.Digest)
	t.wantRepositories("after a blob was mounted", "bar", "foo")
	t.mustMount("bar", "foo/bar", desc.Digest, desc.Size)
	t.wantBlob("foo/bar", data, desc.Digest)
}

func mountFromAny(t *test) {
	data := []byte("hello")
	t.mustPushBlob("aaa", []byte("x"))
	desc := t.mustPushBlob("foo", data)
	t.mustPushBlob("zzz", []byte("x"))
	t.mustMount("", "bar", desc.Digest, desc.Size)
	t.wantBlob("bar", data, desc.Digest)
}

func mountSHA512(t *test) {
	data := []byte("hello")
	d := digest.SHA512.FromBytes(data)
	t.mustPushBlobAs("foo", d, data)
	t.mustMount("foo", "bar", d, 5)
	t.wantBlob("bar", data, d)
}

func mountAgain(t *test) {
	data := []byte("hello")
	desc := t.mustPushBlob("foo", data)
	t.mustPushBlob("bar", data)
	t.mustMount("foo", "bar", desc.Digest, desc.Size)
	t.mustMount("foo", "foo", desc.Digest, desc.Size)
	t.wantBlob("bar", data, desc.Digest)
	t.wantBlob("foo", data, desc.Digest)
}

func mountUnknownRepository(t *test) {
	desc := t.mustPushBlob("foo", []byte("hello"))
	t.wantMountErr(ociregistry.ErrNameUnknown, "unknown", "bar", desc.Digest, "from a repository that does not exist")
}

// A mount fails if the source does not have the blob, even if another repository has it.
func mountUnknownBlob(t *test) {
	desc := t.mustPushBlob("foo", []byte("hello"))
	t.mustPushBlob("other", []byte("x"))
	t.wantMountErr(ociregistry.ErrBlobUnknown, "other", "bar", desc.Digest, "from a repository that does not have the blob")
}

func mountUnknownAnywhere(t *test) {
	t.mustPushBlob("foo", []byte("hello"))
	t.wantMountErr(ociregistry.ErrBlobUnknown, "", "bar", digest.FromString("x"), "of a blob that no repository has")
}

func mountIndependent(t *test) {
	data := []byte("hello")
	desc := t.mustPushBlob("foo", data)
	t.mustMount("foo", "bar", desc.Digest, desc.Size)
	t.must(t.reg.DeleteBlob(t.Context(), "foo", desc.Digest), "DeleteBlob")
	t.wantNoRepository("foo", "after its last blob was deleted")
	t.wantBlob("bar", data, desc.Digest)

	t.mustMount("bar", "foo", desc.Digest, desc.Size)
	t.must(t.reg.DeleteBlob(t.Context(), "bar", desc.Digest), "DeleteBlob")
	t.wantNoBlob("bar", desc.Digest, "after it was deleted there")
	t.wantBlob("foo", data, desc.Digest)
}

// A manifest can name a blob that was mounted.
func mountForManifest(t *test) {
	image := t.mustPushImage("foo", 1)
	for _, b := range image.Blobs {
		t.mustMount("foo", "bar", b.Descriptor.Digest, b.Descriptor.Size)
	}
	_, err := t.reg.PushManifest(t.Context(), "bar", "v1", image.Manifest, image.Descriptor.MediaType)
	t.must(err, "PushManifest after mounting its blobs")
	t.must(image.Verify(t.Context(), t.reg, "bar"), "reading an image with mounted blobs")
}
