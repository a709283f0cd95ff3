//go:build unix

package ocifs

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// TestDeleteBlob_ReleasesItsBytesOnce deletes a blob that one repository has in its
// journal, and another as a file.
func TestDeleteBlob_ReleasesItsBytesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		r, err := open(disktest.NewDisk(nil), root, "", &Options{MaxBytes: 1000})
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		blob := disktest.RandomBytes(1, 100)
		desc := ociregistry.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		push := func(repo string) {
			_, err := r.PushBlob(ctx, repo, desc, bytes.NewReader(blob))
			qt.Assert(t, qt.IsNil(err))
		}
		push("a")
		time.Sleep(time.Second)
		qt.Check(t, qt.Equals(r.quota.Used(), 100))
		push("b")
		qt.Check(t, qt.Equals(r.quota.Used(), 100))
		qt.Check(t, qt.IsNil(r.DeleteBlob(ctx, "b", desc.Digest)))
		qt.Check(t, qt.Equals(r.quota.Used(), 100))
		qt.Check(t, qt.IsNil(r.DeleteBlob(ctx, "a", desc.Digest)))
		qt.Check(t, qt.Equals(r.quota.Used(), 0))
	})
}
