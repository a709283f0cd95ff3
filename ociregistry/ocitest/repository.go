package ocitest

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A repository exists while it holds a blob, a manifest or a tag.

var repositoryClauses = []clause{
	{name: "NoneAtFirst", run: repositoryNone},
	{name: "BeginsWithABlob", run: repositoryBlob},
	{name: "BeginsWithAManifest", run: repositoryManifest},
	{name: "NotByFailedCalls", run: repositoryFailedCalls},
	{name: "NotByOpenUploads", needs: PushChunks, run: repositoryOpenUploads},
	{name: "EndsWithItsLastBlob", needs: DeleteBlobs, run: repositoryLastBlob},
	{name: "EndsWithItsLastManifest", needs: DeleteManifests | DeleteTags | MoveTags, run: repositoryLastManifest},
	{name: "CanComeBack", needs: DeleteBlobs, run: repositoryComesBack},
	{name: "NamesAreIndependent", run: repositoryNames},
	{name: "LongNames", run: repositoryLongNames},
}

func repositoryNone(t *test) {
	t.wantRepositories("of an empty registry")
	t.wantNoRepository("foo", "in an empty registry")
}

func repositoryBlob(t *test) {
	t.mustPushBlob("foo/bar", []byte("x"))
	t.wantRepositories("after a blob was pushed", "foo/bar")
	t.wantTags("foo/bar")
	t.wantNoRepository("foo", "after a blob was pushed to foo/bar")
	t.wantNoTag("foo/bar", "latest", "in a repository with a blob only")
	_, _, err := read(t.reg.GetTag(t.Context(), "foo/bar", "latest"))
	t.wantErr(err, is(ociregistry.ErrManifestUnknown), "GetTag in a repository with a blob only")
}

func repositoryManifest(t *test) {
	desc := t.mustPushManifest("foo", []byte("anything"), "text/plain")
	t.wantRepositories("after a manifest was pushed", "foo")
	t.wantTags("foo")
	t.wantManifest("foo", []byte("anything"), desc)
	_, _, err := read(t.reg.GetBlob(t.Context(), "foo", digest.FromString("")))
	t.wantErr(err, is(ociregistry.ErrBlobUnknown), "GetBlob in a repository with a manifest only")
}

// All calls with valid names that fail.
func repositoryFailedCalls(t *test) {
	t.mustPushBlob("other", []byte("x"))
	for _, c := range slices.Concat(digestCalls, tagCalls, otherCalls, []call{mountFrom}) {
		if c.needs&(PushBlobs|PushManifests) == 0 && t.has(c.needs) {
			a := goodArguments
			a.digest = digest.FromString("unknown")
			c.do(t, a) // the clauses of each method say what it returns
		}
	}
	t.wantNoRepository("foo", "after calls for what is not there")

	ctx := t.Context()
	if t.has(PushBlobs) {
		_, err := t.reg.PushBlob(ctx, "foo", describe([]byte("x")), strings.NewReader("y"))
		t.wantErr(err, is(ociregistry.ErrDigestInvalid), "PushBlob with the digest of other content")
		t.wantNoRepository("foo", "after a failed PushBlob")
	}
	if t.has(Mount) {
		if _, err := t.reg.MountBlob(ctx, "other", "foo", digest.FromString("unknown")); err == nil {
			t.Errorf("MountBlob of a blob that does not exist: succeeded")
		}
		t.wantNoRepository("foo", "after a failed MountBlob")
	}
	if t.has(PushManifests) {
		_, err := t.reg.PushManifest(ctx, "foo", "v1", []byte("{"), ocispec.MediaTypeImageManifest)
		t.wantErr(err, is(ociregistry.ErrManifestInvalid), "PushManifest of half a manifest")
		_, err = t.reg.PushManifest(ctx, "foo", string(digest.FromString("x")), []byte("y"), "text/plain")
		t.wantErr(err, is(ociregistry.ErrDigestInvalid), "PushManifest with the digest of other content")
		t.wantNoRepository("foo", "after a failed PushManifest")
	}
	t.wantRepositories("after failed calls", "other")
}

func repositoryOpenUploads(t *test) {
	data := []byte("hello")
	w := t.mustStart("foo", 0)
	defer w.Cancel()
	t.mustWrite(w, data)
	t.wantNoRepository("foo", "with an open upload")
	t.must(w.Close(), "Close of an upload")
	t.wantNoRepository("foo", "with an upload that can be resumed")
	t.wantNoBlob("foo", describe(data).Digest, "with an upload of it that can be resumed")

	t.mustPushBlob("foo", []byte("other"))
	t.wantNoBlob("foo", describe(data).Digest, "with an upload of it that can be resumed")
}

func repositoryLastBlob(t *test) {
	a, b := t.mustPushBlob("foo", []byte("a")), t.mustPushBlob("foo", []byte("b"))
	t.must(t.reg.DeleteBlob(t.Context(), "foo", a.Digest), "DeleteBlob")
	t.wantRepositories("after one of two blobs was deleted", "foo")
	t.must(t.reg.DeleteBlob(t.Context(), "foo", b.Digest), "DeleteBlob")
	t.wantNoRepository("foo", "after its last blob was deleted")
}

func repositoryLastManifest(t *test) {
	desc := t.mustPushManifest("foo", []byte("anything"), "text/plain", "v1", "v2")
	t.must(t.reg.DeleteTag(t.Context(), "foo", "v1"), "DeleteTag")
	t.must(t.reg.DeleteTag(t.Context(), "foo", "v2"), "DeleteTag")
	t.wantRepositories("after its last tag was deleted", "foo")
	t.wantManifest("foo", []byte("anything"), desc)
	t.must(t.reg.DeleteManifest(t.Context(), "foo", desc.Digest), "DeleteManifest")
	t.wantNoRepository("foo", "after its last manifest was deleted")

	desc = t.mustPushManifest("foo", []byte("anything"), "text/plain", "v1", "v2")
	t.must(t.reg.DeleteManifest(t.Context(), "foo", desc.Digest), "DeleteManifest")
	t.wantNoRepository("foo", "after its last manifest was deleted with all tags")
}

func repositoryComesBack(t *test) {
	data := []byte("x")
	for range 3 {
		desc := t.mustPushBlob("foo", data)
		t.wantRepositories("after a blob was pushed", "foo")
		t.wantTags("foo")
		t.wantBlob("foo", data, desc.Digest)
		t.must(t.reg.DeleteBlob(t.Context(), "foo", desc.Digest), "DeleteBlob")
		t.wantNoRepository("foo", "after its last blob was deleted")
	}
}

// Names that look like parts of a path or of a URL are names like any other, and no
// repository is inside another.
func repositoryNames(t *test) {
	names := []string{
		"a", "a/a", "a/blobs", "a/blobs/sha256", "a/blobs/uploads", "a/index.json", "a/manifests", "a/oci-layout",
		"a/referrers", "a/tags", "a/tags/list", "a/uploads", "a0", "aa", "blobs", "index.json", "v2", "v2/a",
	}
	slices.Sort(names)
	blobs := make(map[string][]byte)
	images := make(map[string]*Artifact)
	for i, name := range names {
		blobs[name] = []byte("the blob of " + name)
		t.mustPushBlob(name, blobs[name])
		images[name] = t.mustPushImage(name, uint64(i), "v1")
	}
	t.wantRepositories("with all sorts of names", names...)
	for _, name := range names {
		t.wantBlob(name, blobs[name], describe(blobs[name]).Digest)
		t.wantManifest(name, images[name].Manifest, images[name].Descriptor, "v1")
		t.wantTags(name, "v1")
		for _, other := range names {
			if other == name {
				continue
			}
			if _, err := t.reg.ResolveBlob(t.Context(), other, describe(blobs[name]).Digest); !errors.Is(err, ociregistry.ErrBlobUnknown) {
				t.Errorf("ResolveBlob in %s of a blob of %s: got error %v, want %q", other, name, err, ociregistry.ErrBlobUnknown)
			}
		}
	}
}

func repositoryLongNames(t *test) {
	// Names of up to 255 bytes are valid; a view of a part of a registry
	// has fewer to give.
	repo := strings.Repeat("a", 100) + "/" + strings.Repeat("b", 100)
	tag := strings.Repeat("T", 128)
	image := t.mustPushImage(repo, 1, tag)
	t.wantManifest(repo, image.Manifest, image.Descriptor, tag)
	t.wantRepositories("with a long name", repo)
	t.wantTags(repo, tag)
	if t.has(PushBlobs) {
		data := bytes.Repeat([]byte("x"), 1000)
		_, err := t.reg.PushBlob(t.Context(), repo, describe(data), bytes.NewReader(data))
		t.must(err, "PushBlob to a repository with a long name")
		t.wantBlob(repo, data, describe(data).Digest)
	}
}
