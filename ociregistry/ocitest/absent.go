package ocitest

import (
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A method that a registry does not support fails at once, without any effect.

var absentClauses = []clause{
	absent(PushBlobs, func(t *test, _ *Artifact) error {
		return t.pushBlob("new", describe([]byte("new")), strings.NewReader("new"))
	}),
	absent(PushChunks, func(t *test, _ *Artifact) error {
		w, err := t.reg.PushBlobChunked(t.Context(), "new", 0)
		if err == nil {
			w.Cancel()
		}
		return err
	}),
	absent(ResumeUploads, func(t *test, _ *Artifact) error {
		id := "id"
		if t.has(PushChunks) {
			id = t.mustPark("new", []byte("new"))
		}
		w, err := t.reg.PushBlobChunkedResume(t.Context(), "new", id, -1, 0)
		if err == nil {
			w.Cancel()
		}
		return err
	}),
	absent(Mount, func(t *test, image *Artifact) error {
		_, err := t.reg.MountBlob(t.Context(), "foo", "new", image.Blobs[0].Descriptor.Digest)
		return err
	}),
	absent(MountFromAny, func(t *test, image *Artifact) error {
		_, err := t.reg.MountBlob(t.Context(), "", "new", image.Blobs[0].Descriptor.Digest)
		return err
	}),
	absent(PushManifests, func(t *test, _ *Artifact) error {
		a := numbered(1)
		return t.pushManifest("new", "v1", a.Manifest, a.Descriptor.MediaType)
	}),
	absent(MoveTags, func(t *test, _ *Artifact) error {
		a := numbered(1)
		return t.pushManifest("foo", "v1", a.Manifest, a.Descriptor.MediaType)
	}),
	absent(Conditions, func(t *test, _ *Artifact) error {
		a := numbered(1)
		ctx := ociregistry.WithPushCondition(t.Context(), ociregistry.PushCondition{IfNoneMatch: digests{ociregistry.AnyManifest}})
		_, err := t.reg.PushManifest(ctx, "new", "v1", a.Manifest, a.Descriptor.MediaType)
		return err
	}),
	absent(DeleteBlobs, func(t *test, _ *Artifact) error {
		spare := t.mustPushBlob("foo", []byte("spare"))
		err := t.reg.DeleteBlob(t.Context(), "foo", spare.Digest)
		t.wantBlob("foo", []byte("spare"), spare.Digest)
		return err
	}),
	absent(DeleteManifests, func(t *test, image *Artifact) error {
		return t.reg.DeleteManifest(t.Context(), "foo", image.Descriptor.Digest)
	}),
	absent(DeleteTags, func(t *test, _ *Artifact) error {
		return t.reg.DeleteTag(t.Context(), "foo", "v1")
	}),
	absent(ListRepositories, func(t *test, _ *Artifact) error {
		return onlyError(t, t.reg.Repositories(t.Context(), ""))
	}),
	absent(ListTags, func(t *test, _ *Artifact) error {
		return onlyError(t, t.reg.Tags(t.Context(), "foo", ""))
	}),
	absent(ListReferrers, func(t *test, image *Artifact) error {
		return onlyError(t, t.reg.Referrers(t.Context(), "foo", image.Descriptor.Digest, ""))
	}),
}

// absent returns the clause that a registry without c returns the right error. Its only
// repository is foo, which has an image with the tag v1.
func absent(c Capability, do func(t *test, image *Artifact) error) clause {
	return clause{
		name: c.String(),
		when: func(o Options) bool { return (o.Absent|o.Denied)&c != 0 },
		run: func(t *test) {
			image := t.mustPushImage("foo", 1, "v1")
			want := is(ociregistry.ErrUnsupported)
			if t.opts.Denied&c != 0 {
				want = is(ociregistry.ErrDenied)
			}
			t.wantErr(do(t, image), want, "a registry without %v", c)
			t.must(image.Verify(t.Context(), t.reg, "foo"), "reading after a call that is not supported")
			t.wantManifest("foo", image.Manifest, image.Descriptor, "v1")
			t.wantTags("foo", "v1")
			t.wantRepositories("after a call that is not supported", "foo")
		},
	}
}

// onlyError returns the error of a list that must have no other elements.
func onlyError[T any](t *test, seq func(func(T, error) bool)) error {
	all, err := ociregistry.All(seq)
	if len(all) > 0 {
		t.Errorf("a list that is not supported has %d elements", len(all))
	}
	return err
}
