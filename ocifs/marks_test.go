package ocifs

import (
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/marks"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestMount_FindsWhatIsInAJournalThatAnotherProcessHasFoldedBefore has one process look at a
// repository between the last steps of another's fold. What is pushed then must be found by
// mounts from anywhere.
func TestMount_FindsWhatIsInAJournalThatAnotherProcessHasFoldedBefore(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		dir := scratch.Kept(t)
		r0, h := openHooked(t, dir, nil)
		r1, _ := openHooked(t, dir, nil)
		blobs := []ocitest.Blob{ocitest.NewBlob(1, 100), ocitest.NewBlob(2, 100)}
		_, err := r0.PushBlob(ctx, "foo", blobs[0].Descriptor, blobs[0].NewReader())
		qt.Assert(t, qt.IsNil(err))
		_, err = r1.ResolveBlob(ctx, "foo", blobs[0].Descriptor.Digest) // it will fold, too
		qt.Assert(t, qt.IsNil(err))
		mark := marks.Dir{Path: filepath.Join(dir, layout.PrivateDir, "unfolded")}.File("foo")
		h.Set(func(op, name string) error {
			if op == "Remove" && name == mark {
				_, err := r1.ResolveBlob(ctx, "foo", blobs[0].Descriptor.Digest)
				qt.Check(t, qt.IsNil(err))
				h.Set(nil)
			}
			return nil
		})
		foldAll(t, used(t, r0, "foo"))

		_, err = r1.PushBlob(ctx, "foo", blobs[1].Descriptor, blobs[1].NewReader())
		qt.Assert(t, qt.IsNil(err))
		for _, r := range []*Registry{r0, r1} {
			_, err = r.MountBlob(ctx, "", "bar", blobs[1].Descriptor.Digest)
			qt.Check(t, qt.IsNil(err))
		}
	})
}

// TestMount_FindsWhatWasMarkedBesideIt has another process look for marks just after one is
// made.
func TestMount_FindsWhatWasMarkedBesideIt(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		dir := scratch.Kept(t)
		r0, h := openHooked(t, dir, nil)
		r1, _ := openHooked(t, dir, nil)
		blob, other := ocitest.NewBlob(1, 100), ocitest.NewBlob(2, 100)
		mark := marks.Dir{Path: filepath.Join(dir, layout.PrivateDir, "unfolded")}.File("foo")
		looked := false
		h.Set(func(op, name string) error {
			if op == "file.WriteAt" && name == mark {
				looked = true
				_, err := r1.MountBlob(ctx, "", "bar", other.Descriptor.Digest)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
			}
			return nil
		})
		_, err := r0.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(looked))
		_, err = r1.MountBlob(ctx, "", "bar", blob.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))
	})
}
