//go:build unix

package ocifs

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Calls on a repository share one object, which is forgotten when nobody uses it any more
// and the repository does not exist.
func TestUse_OneObjectForEachRepository(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		disk := disktest.NewDisk(nil)
		other, err := open(disk, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		image := ocitest.NewImage(ocitest.Spec{})
		qt.Assert(t, qt.IsNil(image.Push(ctx, other, "found", "v1")))
		qt.Assert(t, qt.IsNil(other.Close()))
		r, err := open(disk, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		// One that nobody uses and does not exist is another one next time.
		wantKept := func(want bool, name string) {
			t.Helper()
			time.Sleep(time.Minute) // what is pending comes to its end
			first := r.repos.Use(name)
			first.Release()
			second := r.repos.Use(name)
			second.Release()
			qt.Check(t, qt.Equals(first == second, want), qt.Commentf("%s", name))
		}

		// Calls that find nothing, fail, or look at no content.
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, err := r.ResolveTag(ctx, "none", "v1")
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
				_, err = r.PushManifest(ctx, "none", "v1", image.Manifest, image.Descriptor.MediaType)
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestBlobUnknown))
				qt.Check(t, qt.ErrorIs(r.DeleteTag(ctx, "none", "v1"), ociregistry.ErrNameUnknown))
				_, err = r.MountBlob(ctx, "none", "none", image.Descriptor.Digest)
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
				for _, err := range r.Referrers(ctx, "none", image.Descriptor.Digest, "") {
					qt.Check(t, qt.IsNil(err))
				}
				names, err := ociregistry.All(r.Repositories(ctx, ""))
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.DeepEquals(names, []string{"found"}))
			})
		}
		wg.Wait()
		wantKept(false, "none")
		wantKept(false, "found") // it was only listed

		// Concurrent first calls for one repository, and for one that they make.
		for _, name := range []string{"found", "made"} {
			for i := range 4 {
				wg.Go(func() {
					qt.Check(t, qt.IsNil(image.Push(ctx, r, name, "v1")))
					large := ocitest.NewBlob(uint64(i), smallBlob+1)
					_, err := r.PushBlob(ctx, name, large.Descriptor, large.NewReader())
					qt.Check(t, qt.IsNil(err))
					_, err = r.ResolveTag(ctx, name, "v1")
					qt.Check(t, qt.IsNil(err))
				})
			}
		}
		wg.Wait()
		wantKept(true, "found")
		wantKept(true, "made")

		// The last content goes.
		for _, name := range []string{"found", "made"} {
			qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, name, image.Descriptor.Digest)))
			for _, blob := range image.Blobs {
				qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, name, blob.Descriptor.Digest)))
			}
			for i := range 4 {
				qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, name, ocitest.NewBlob(uint64(i), smallBlob+1).Descriptor.Digest)))
			}
			wantKept(false, name)
		}
	})
}
