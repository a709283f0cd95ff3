package ocitest

import (
	"bytes"
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Content whose push was acknowledged is present, whatever is deleted at the same time.

// pushAgainstDeletes pushes a manifest repeatedly while other goroutines delete what it
// names. Either the push fails or the deletes.
func (t *test) pushAgainstDeletes(a *Artifact, parts digests, pushParts func(), remove func(context.Context, string, ociregistry.Digest) error) {
	t.Helper()
	ctx := t.Context()
	t.mustPushBlob("foo", []byte("keeps the repository"))
	for range t.scale(60) {
		pushParts()
		var pushErr error
		t.together(1+len(parts), func(i int) error {
			if i == 0 {
				pushErr = t.pushManifest("foo", "", a.Manifest, a.Descriptor.MediaType)
				return unless(pushErr, "PushManifest", ociregistry.ErrManifestBlobUnknown)
			}
			return unless(remove(ctx, "foo", parts[i-1]), "deleting what a manifest will name",
				ociregistry.ErrInUse, ociregistry.ErrBlobUnknown, ociregistry.ErrManifestUnknown)
		})
		if pushErr != nil {
			continue // deleted in time
		}
		t.must(a.Verify(ctx, t.reg, "foo"), "reading what was pushed while others tried to delete parts of it")
		t.must(t.reg.DeleteManifest(ctx, "foo", a.Descriptor.Digest), "DeleteManifest")
	}
}

// A manifest whose push was acknowledged has its blobs, even if others try to delete them.
func concurrentBlobDelete(t *test) {
	image := NewImage(Spec{Layers: []int64{10}})
	var blobs digests
	for _, b := range image.Blobs {
		blobs = append(blobs, b.Descriptor.Digest)
	}
	t.pushAgainstDeletes(image, blobs, func() {
		for _, b := range image.Blobs {
			t.must(t.pushBlob("foo", b.Descriptor, b.NewReader()), "PushBlob")
		}
	}, t.reg.DeleteBlob)
}

// An index whose push was acknowledged has its children, even if others try to delete
// them.
func concurrentChildDelete(t *test) {
	index := NewIndex(Spec{}, numbered(0), numbered(1))
	var children digests
	for _, child := range index.Children {
		children = append(children, child.Descriptor.Digest)
	}
	t.pushAgainstDeletes(index, children, func() {
		for _, child := range index.Children {
			t.must(child.Push(t.Context(), t.reg, "foo"), "push of a child")
		}
	}, t.reg.DeleteManifest)
}

// No tag points at a manifest that was deleted.
func concurrentTagDelete(t *test) {
	a := numbered(1)
	ctx := t.Context()
	t.mustPushBlob("foo", []byte("keeps the repository"))
	t.meanwhile(t.scale(60), func(round int) error {
		err := t.pushManifest("foo", fmt.Sprint("a", round%5), a.Manifest, a.Descriptor.MediaType, fmt.Sprint("b", round%5))
		return unless(err, "PushManifest")
	}, func(int) error {
		for tag, err := range t.reg.Tags(ctx, "foo", "") {
			if err != nil {
				return fmt.Errorf("list of tags: %w", err)
			}
			contents, _, err := read(t.reg.GetTag(ctx, "foo", tag))
			if err := unless(err, "GetTag", ociregistry.ErrManifestUnknown); err != nil {
				return err
			}
			if err == nil && !bytes.Equal(contents, a.Manifest) {
				return fmt.Errorf("GetTag: %s", diffBytes(contents, a.Manifest))
			}
		}
		return nil
	}, func(int) error {
		err := t.reg.DeleteManifest(ctx, "foo", a.Descriptor.Digest)
		return unless(err, "DeleteManifest", ociregistry.ErrManifestUnknown)
	})
	for tag, err := range t.reg.Tags(ctx, "foo", "") {
		t.must(err, "Tags")
		t.wantManifest("foo", a.Manifest, a.Descriptor, tag)
	}
}

// A blob whose mount was acknowledged is present, even if its source is deleted.
func concurrentMount(t *test) {
	data := content(1, 1000)
	desc := describe(data)
	ctx := t.Context()
	t.mustPushBlob("src", []byte("keeps the repository"))
	t.mustPushBlob("dst", []byte("keeps the repository"))
	for range t.scale(60) {
		t.must(t.pushBlob("src", desc, bytes.NewReader(data)), "PushBlob")
		var mountErr error
		t.together(2, func(i int) error {
			if i == 0 {
				_, mountErr = t.reg.MountBlob(ctx, "src", "dst", desc.Digest)
				return unless(mountErr, "MountBlob", ociregistry.ErrBlobUnknown, ociregistry.ErrUnsupported)
			}
			return unless(t.reg.DeleteBlob(ctx, "src", desc.Digest), "DeleteBlob")
		})
		t.wantNoBlob("src", desc.Digest, "after it was deleted")
		if mountErr == nil {
			t.wantBlob("dst", data, desc.Digest)
			t.must(t.reg.DeleteBlob(ctx, "dst", desc.Digest), "DeleteBlob of what was mounted")
		}
	}
}

// A repository that disappears with its last blob takes no newer blob along.
func concurrentRepositories(t *test) {
	ctx := t.Context()
	var fs []func(int) error
	for i := range 3 {
		data := content(uint64(i), 100)
		d := describe(data).Digest
		fs = append(fs, func(int) error {
			if err := t.pushBlob("foo", describe(data), bytes.NewReader(data)); err != nil {
				return fmt.Errorf("PushBlob: %w", err)
			}
			jitter()
			if got, _, err := read(t.reg.GetBlob(ctx, "foo", d)); err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("GetBlob after PushBlob: error %v; %s", err, diffBytes(got, data))
			}
			jitter()
			return unless(t.reg.DeleteBlob(ctx, "foo", d), "DeleteBlob after PushBlob")
		})
	}
	t.meanwhile(t.scale(100), fs...)
	t.wantNoRepository("foo", "after everything was deleted")
	data := []byte("x")
	t.must(t.pushBlob("foo", describe(data), bytes.NewReader(data)), "PushBlob to a repository that was removed")
	t.wantRepositories("after a repository came back", "foo")
}
