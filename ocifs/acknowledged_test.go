//go:build unix

package ocifs

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Calls that succeed are to be believed, whatever happens to what others write at
// the same time.

// pushText pushes a manifest that names nothing.
func pushText(ctx context.Context, r *Registry, repo, ref, contents string) error {
	_, err := r.PushManifest(ctx, repo, ref, []byte(contents), "text/plain")
	return err
}

// TestSamePushesFailTogether checks that when the batch of several pushes of the same
// cannot be written, none of them succeeds.
func TestSamePushesFailTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		d := newDisk(nil)
		fsys := &faultFS{filesystem: d}
		r, err := open(fsys, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		qt.Assert(t, qt.IsNil(pushText(ctx, r, "a", "old", "old")))
		lock, err := d.OpenFile(filepath.Join(root, "a", privateDir, "journal"), os.O_RDWR, 0)
		qt.Assert(t, qt.IsNil(err))
		ok, err := d.TryLock(lock)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(ok))
		errs := make(chan error, 4)
		for range 3 {
			go func() { errs <- pushText(ctx, r, "a", "v1", "new") }()
		}
		go func() { errs <- r.DeleteTag(ctx, "a", "old") }()
		synctest.Wait()
		fsys.arm(fault{op: "writeat", call: 1, errno: syscall.ENOSPC})
		lock.Close()
		for range 4 {
			qt.Check(t, qt.ErrorIs(<-errs, error(syscall.ENOSPC)))
		}
		_, err = r.ResolveTag(ctx, "a", "v1")
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
	})
}
