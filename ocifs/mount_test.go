package ocifs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestMountBlob_FindsBlobInTargetRepository mounts a blob from any repository into
// the one that has it already, because another program or an interrupted push has
// left it there.
func TestMountBlob_FindsBlobInTargetRepository(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	r, err := New(dir, &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	image := ocitest.NewImage(ocitest.Spec{})
	qt.Assert(t, qt.IsNil(image.Push(ctx, r, "foo", "v1")))
	blob := ocitest.NewBlob(7, 100_000)
	d := blob.Descriptor.Digest
	name := filepath.Join(dir, "foo", "blobs", d.Algorithm().String(), d.Encoded())
	qt.Assert(t, qt.IsNil(os.WriteFile(name, blob.Bytes(), 0o666)))

	desc, err := r.MountBlob(ctx, "", "foo", d)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(desc.Size, blob.Descriptor.Size))
	_, err = r.MountBlob(ctx, "", "foo", ocitest.NewBlob(8, 100_000).Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
}
