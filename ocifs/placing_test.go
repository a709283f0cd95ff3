package ocifs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestManifestOfBlobBeingPlaced pushes a manifest between the moment at which a
// blob gets its name and that at which the name is durable: that is then made
// durable first.
func TestManifestOfBlobBeingPlaced(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := KeptDir(t)
	r, h := openHooked(t, dir, nil)
	for _, text := range []string{"1", "2"} { // and it is anchored
		_, err := r.PushManifest(ctx, "foo", "", []byte(text), "text/plain")
		qt.Assert(t, qt.IsNil(err))
	}
	b := ocitest.NewBlob(1, 100_000)
	contents := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[]}`, b.Descriptor.Digest, b.Descriptor.Size)

	blobs := filepath.Join(dir, "foo", "blobs", "sha256")
	var syncs, before int
	var pushErr error
	h.set(func(op, name string) error {
		switch {
		case op == "SyncDir" && name == blobs:
			syncs++
		case op == "Link" && strings.HasPrefix(name, r.store.pool): // in foo it has been linked
			_, pushErr = r.PushManifest(ctx, "foo", "v1", []byte(contents), "application/vnd.oci.image.manifest.v1+json")
			before = syncs
		}
		return nil
	})
	_, err := r.PushBlob(ctx, "foo", b.Descriptor, b.NewReader())
	h.set(nil)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(pushErr))
	qt.Check(t, qt.Not(qt.Equals(before, 0)))
}

// TestMountOfDamagedBlob mounts a blob that is cut short over a sound one.
func TestMountOfDamagedBlob(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := KeptDir(t)
	r, _ := openHooked(t, dir, &Options{NoSync: true})
	b := ocitest.NewBlob(1, 40_000)
	for _, name := range []string{"a", "b"} {
		_, err := r.PushBlob(ctx, name, b.Descriptor, b.NewReader())
		qt.Assert(t, qt.IsNil(err))
	}
	file := blobPath(filepath.Join(dir, "a"), b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(os.Remove(file)))
	qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte("cut short"), filePerm)))
	_, err := r.MountBlob(ctx, "a", "b", b.Descriptor.Digest)
	qt.Check(t, qt.IsNotNil(err))
	got, err := r.ResolveBlob(ctx, "b", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, b.Descriptor.Size))

	// The other way round, the sound one replaces the damaged one.
	_, err = r.MountBlob(ctx, "b", "a", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	got, err = r.ResolveBlob(ctx, "a", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, b.Descriptor.Size))
}
