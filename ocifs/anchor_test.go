package ocifs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A sync that fails may take with it what others have written to the file, who do not learn of
// it by their own sync. So the journal is synced only by one who has its lock.
func TestJournal_IsSyncedOnlyWhileItIsLocked(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		dir := scratch.Kept(t)
		r0, _ := openHooked(t, dir, nil)
		small, large := ocitest.NewBlob(1, 100), ocitest.NewBlob(2, 100_000)
		_, err := r0.PushBlob(ctx, "foo", small.Descriptor, small.NewReader())
		qt.Assert(t, qt.IsNil(err))

		r1, h := openHooked(t, dir, nil)
		journal := layout.JournalPath(filepath.Join(dir, "foo"))
		syncs := 0
		h.Set(func(op, name string) error {
			if op != "file.Sync" || name != journal {
				return nil
			}
			syncs++
			f, err := disk.OS{}.OpenFile(journal, os.O_RDWR, 0)
			qt.Assert(t, qt.IsNil(err))
			defer f.Close()
			free, err := disk.OS{}.TryLock(f)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.IsFalse(free))
			return nil
		})
		_, err = r1.PushBlob(ctx, "foo", large.Descriptor, large.NewReader())
		qt.Assert(t, qt.IsNil(err))
		h.Set(nil)
		qt.Check(t, qt.IsTrue(syncs > 0))
	})
}

// A process that dies while it removes an empty repository leaves a part of it, in which others
// push.
func TestFold_CompletesWhatIsLeftOfARepositoryThatWasBeingRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := scratch.Kept(t)
	repo := filepath.Join(dir, "foo")
	for name, text := range map[string]string{layout.IndexPath(repo): repostate.EmptyIndex, layout.JournalPath(repo): ""} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(name), disk.DirPerm)))
		qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), disk.FilePerm)))
	}
	blob := ocitest.NewBlob(1, 100)
	r, err := New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.Close()))
	_, err = os.Lstat(filepath.Join(repo, layout.FileName))
	qt.Check(t, qt.IsNil(err))
	_, err = os.Lstat(filepath.Join(repo, "blobs", "sha256", blob.Descriptor.Digest.Encoded()))
	qt.Check(t, qt.IsNil(err))
}
