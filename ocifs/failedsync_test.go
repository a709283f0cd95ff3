package ocifs

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestJournalIsDurableBeforeWhatFollowsAFailedSync deletes a blob that exists only as
// a file, according to the journal. If the journal was not made durable because a
// sync failed, the disk may still have a journal that brings the blob back.
func TestJournalIsDurableBeforeWhatFollowsAFailedSync(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		failure := errors.New("the disk is gone")
		r, h := openHooked(t, scratch.Kept(t), nil)
		image, blob := ocitest.NewImage(ocitest.Spec{}), ocitest.NewBlob(7, 1000)
		qt.Assert(t, qt.IsNil(image.Push(ctx, r, "foo", "v1")))
		_, err := r.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
		qt.Assert(t, qt.IsNil(err))
		repo := used(t, r, "foo")

		truncated := false
		h.Set(func(op, name string) error {
			if filepath.Base(name) != "journal" {
				return nil
			}
			truncated = truncated || op == "file.Truncate"
			if truncated && op == "file.Sync" {
				return failure
			}
			return nil
		})
		err = repo.Fold(ctx)
		qt.Assert(t, qt.ErrorIs(err, failure))
		qt.Assert(t, qt.IsTrue(truncated))

		var synced, removed bool
		h.Set(func(op, name string) error {
			switch {
			case op == "file.Sync" && filepath.Base(name) == "journal":
				synced = true
			case op == "Remove" && filepath.Base(name) == blob.Descriptor.Digest.Encoded():
				removed = true
				qt.Check(t, qt.IsTrue(synced))
			}
			return nil
		})
		qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, "foo", blob.Descriptor.Digest)))
		qt.Check(t, qt.IsTrue(removed))
	})
}

// TestRecordsOfOthersAreWrittenAgainAfterAFailedSync has a journal with records that
// nobody has synced. After their sync fails, the system may take them for written, so
// the success of a second sync proves nothing.
func TestRecordsOfOthersAreWrittenAgainAfterAFailedSync(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		failure := errors.New("the disk is gone")
		dir := scratch.Kept(t)
		other, _ := openHooked(t, dir, &Options{NoSync: true})
		r, h := openHooked(t, dir, nil)
		push := func(r *Registry, seed uint64) error {
			blob := ocitest.NewBlob(seed, 5000)
			_, err := r.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
			return err
		}
		qt.Assert(t, qt.IsNil(push(other, 1)))
		h.Set(func(op, name string) error {
			if op == "file.Sync" && filepath.Base(name) == "journal" {
				return failure
			}
			return nil
		})
		qt.Assert(t, qt.ErrorIs(push(r, 2), failure))

		var calls []string
		h.Set(func(op, name string) error {
			if (op == "file.Sync" || op == "file.WriteAt") && filepath.Base(name) == "journal" {
				calls = append(calls, op)
			}
			return nil
		})
		qt.Assert(t, qt.IsNil(push(r, 2)))
		qt.Check(t, qt.DeepEquals(calls, []string{"file.WriteAt", "file.Sync", "file.WriteAt", "file.Sync"}))
	})
}
