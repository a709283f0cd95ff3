package ocitest

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// The context of a call may allow content to be missing, or content in use to be deleted,
// which the contract forbids otherwise. If the registry does not know allowances, the call
// fails like any other.

var allowanceClauses = []clause{
	{name: "Missing", needs: Allowances | PushManifests, run: allowMissing, when: isComplete},
	{name: "MissingIsInUseWhenItComes", needs: Allowances | PushManifests | DeleteBlobs | DeleteManifests, run: allowMissingInUse, when: isComplete},
	{name: "MissingAllowsNothingElse", needs: Allowances | PushManifests, run: allowMissingOnly, when: isComplete},
	{name: "InUse", needs: Allowances | PushManifests | DeleteBlobs | DeleteManifests | MoveTags, run: allowInUse, when: isComplete},
	{name: "InUseAllowsNothingElse", needs: Allowances | PushManifests | DeleteBlobs | DeleteManifests, run: allowInUseOnly, when: isComplete},
	{name: "NotKnown", needs: PushManifests, run: allowNothing, when: func(o Options) bool { return isComplete(o) && o.Absent&Allowances != 0 }},
}

// pushAllowing pushes a manifest that may name missing content.
func (t *test) pushAllowing(repo, ref string, contents []byte, mediaType string, tags ...string) error {
	_, err := t.reg.PushManifest(ociregistry.AllowMissing(t.Context()), repo, ref, contents, mediaType, tags...)
	return err
}

// remover returns the method that deletes the content of the slot.
func (s slot) remover(r ociregistry.Interface) func(context.Context, string, ociregistry.Digest) error {
	if s.children {
		return r.DeleteManifest
	}
	return r.DeleteBlob
}

// A manifest that was pushed with the allowance is a manifest like any other. Pushing it
// again without the allowance requires all that it names.
func allowMissing(t *test) {
	for i, s := range slots {
		repo := fmt.Sprint("foo", i)
		good := t.mustPushBlob(repo, []byte("good"))
		contents := s.manifest(good, s.mustFill(t, "other", "content"))
		desc := describeManifest(contents, s.mediaType)
		t.must(t.pushAllowing(repo, "v1", contents, s.mediaType), "PushManifest of %v that may be missing", s)
		t.wantManifest(repo, contents, desc, "v1")

		for _, ref := range []string{"v1", "v2", string(desc.Digest), ""} {
			err := t.pushManifest(repo, ref, contents, s.mediaType, "v3")
			t.wantErr(err, is(ociregistry.ErrManifestBlobUnknown), "PushManifest with ref %q of %v that is missing, which is there because that was allowed", ref, s)
		}
		t.wantManifest(repo, contents, desc, "v1")
		t.wantTags(repo, "v1")
		t.must(t.pushAllowing(repo, "v2", contents, s.mediaType), "PushManifest once more of %v that may be missing", s)

		s.mustFill(t, repo, "content")
		t.must(t.pushManifest(repo, "v3", contents, s.mediaType), "PushManifest of %v that was missing and has come", s)
		t.wantManifest(repo, contents, desc, "v1", "v2", "v3")
	}
	contents := slots[0].manifest(slots[0].missing(), slots[0].missing())
	t.must(t.pushAllowing("new", "", contents, slots[0].mediaType), "PushManifest to a new repository of what may be missing")
	t.wantManifest("new", contents, describeManifest(contents, slots[0].mediaType))
	t.wantNoBlob("new", slots[0].missing().Digest, "after only a manifest was pushed")
}

func allowMissingInUse(t *test) {
	for i, s := range slots {
		repo := fmt.Sprint("foo", i)
		good := t.mustPushBlob(repo, []byte("good"))
		contents := s.manifest(good, s.mustFill(t, "other", "content"))
		t.must(t.pushAllowing(repo, "", contents, s.mediaType), "PushManifest of %v that may be missing", s)
		d := s.mustFill(t, repo, "content")
		remove := s.remover(t.reg)
		t.wantErr(remove(t.Context(), repo, d.Digest), is(ociregistry.ErrInUse), "deleting the %s of %v, which came after it", s.name, s)
		t.must(t.reg.DeleteManifest(t.Context(), repo, digest.FromBytes(contents)), "DeleteManifest of %v", s)
		t.must(remove(t.Context(), repo, d.Digest), "deleting what was the %s of %v", s.name, s)
	}
}

func allowMissingOnly(t *test) {
	image := t.mustPushImage("foo", 1)
	mediaType := ocispec.MediaTypeImageManifest
	t.wantErr(t.pushAllowing("foo", "v1", []byte("{"), mediaType), is(ociregistry.ErrManifestInvalid), "PushManifest of what is no JSON and may name what is missing")
	t.wantErr(t.pushAllowing("foo", string(other), image.Manifest, mediaType), is(ociregistry.ErrDigestInvalid), "PushManifest by another digest of what may name what is missing")
	t.wantErr(t.pushAllowing("foo", "-bad", image.Manifest, mediaType), is(ociregistry.ErrManifestInvalid), "PushManifest by an invalid tag of what may name what is missing")

	missing := slots[0].manifest(slots[0].missing(), slots[0].missing())
	ctx := ociregistry.WithoutAllowances(ociregistry.AllowMissing(t.Context()))
	_, err := t.reg.PushManifest(ctx, "foo", "v1", missing, slots[0].mediaType)
	t.wantErr(err, is(ociregistry.ErrManifestBlobUnknown), "PushManifest of what is missing when the allowance was taken back")
	t.wantTags("foo")
	if t.has(DeleteBlobs) {
		err := t.reg.DeleteBlob(ociregistry.AllowMissing(t.Context()), "foo", image.Blobs[1].Descriptor.Digest)
		t.wantErr(err, is(ociregistry.ErrInUse), "DeleteBlob of a layer where content may be missing")
	}
}

func allowInUse(t *test) {
	for i, s := range slots {
		repo := fmt.Sprint("foo", i)
		good := t.mustPushBlob(repo, []byte("good"))
		d := s.mustFill(t, repo, "content")
		contents := s.manifest(good, d)
		desc := t.mustPushManifest(repo, contents, s.mediaType, "v1")
		remove := s.remover(t.reg)
		t.must(remove(ociregistry.AllowInUse(t.Context()), repo, d.Digest), "deleting the %s of %v, which may be in use", s.name, s)
		if s.children {
			t.wantNoManifest(repo, d.Digest, "after it was deleted")
		} else {
			t.wantNoBlob(repo, d.Digest, "after it was deleted")
		}
		t.wantManifest(repo, contents, desc, "v1")
		err := t.pushManifest(repo, "v1", contents, s.mediaType)
		t.wantErr(err, is(ociregistry.ErrManifestBlobUnknown), "PushManifest again of %v, which was deleted", s)

		s.mustFill(t, repo, "content")
		t.must(t.pushManifest(repo, "v1", contents, s.mediaType), "PushManifest of %v, which came back", s)
		t.wantErr(remove(t.Context(), repo, d.Digest), is(ociregistry.ErrInUse), "deleting the %s of %v, which came back", s.name, s)
		t.must(t.reg.DeleteManifest(t.Context(), repo, desc.Digest), "DeleteManifest of %v", s)
		t.must(remove(t.Context(), repo, d.Digest), "deleting what was the %s of %v", s.name, s)
	}
}

func allowInUseOnly(t *test) {
	image := t.mustPushImage("foo", 1)
	ctx := ociregistry.AllowInUse(t.Context())
	t.wantErr(t.reg.DeleteBlob(ctx, "foo", other), is(ociregistry.ErrBlobUnknown), "DeleteBlob of an unknown blob, which may be in use")
	t.wantErr(t.reg.DeleteManifest(ctx, "foo", other), is(ociregistry.ErrManifestUnknown), "DeleteManifest of an unknown manifest, which may be in use")
	t.wantErr(t.reg.DeleteBlob(ctx, "foo", image.Descriptor.Digest), is(ociregistry.ErrInUse), "DeleteBlob of a manifest, where content may be in use")
	missing := slots[0].manifest(slots[0].missing(), slots[0].missing())
	_, err := t.reg.PushManifest(ctx, "foo", "v1", missing, slots[0].mediaType)
	t.wantErr(err, is(ociregistry.ErrManifestBlobUnknown), "PushManifest of what is missing, where content may be in use")
	err = t.reg.DeleteBlob(ociregistry.WithoutAllowances(ctx), "foo", image.Blobs[1].Descriptor.Digest)
	t.wantErr(err, is(ociregistry.ErrInUse), "DeleteBlob of a layer when the allowance was taken back")
	t.must(image.Verify(t.Context(), t.reg, "foo"), "reading an image after deletes that were refused")
}

func allowNothing(t *test) {
	for i, s := range slots {
		repo := fmt.Sprint("foo", i)
		good := t.mustPushBlob(repo, []byte("good"))
		err := t.pushAllowing(repo, "v1", s.manifest(good, s.missing()), s.mediaType)
		t.wantErr(err, is(ociregistry.ErrManifestBlobUnknown), "PushManifest of %v that may be missing, to a registry that does not know allowances", s)
		t.wantTags(repo)

		d := s.mustFill(t, repo, "content")
		t.mustPushManifest(repo, s.manifest(good, d), s.mediaType)
		if t.has(DeleteBlobs | DeleteManifests) {
			err := s.remover(t.reg)(ociregistry.AllowInUse(t.Context()), repo, d.Digest)
			t.wantErr(err, is(ociregistry.ErrInUse), "deleting the %s of %v, in a registry that does not know allowances", s.name, s)
		}
	}
}
