package ocifs

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestJournalIsDurableBeforeWhatFollowsAFailedSync deletes a blob whose file is all that
// there is of it, by what the journal says. If that was not made durable, because a sync
// failed, the disk may still have a journal that brings the blob back.
func TestJournalIsDurableBeforeWhatFollowsAFailedSync(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	failure := errors.New("the disk is gone")
	r, h := openHooked(t, KeptDir(t), nil)
	image, blob := ocitest.NewImage(ocitest.Spec{}), ocitest.NewBlob(7, 1000)
	qt.Assert(t, qt.IsNil(image.Push(ctx, r, "foo", "v1")))
	_, err := r.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	repo := r.repository("foo")

	truncated := false
	h.set(func(op, name string) error {
		if filepath.Base(name) != "journal" {
			return nil
		}
		truncated = truncated || op == "file.Truncate"
		if truncated && op == "file.Sync" {
			return failure
		}
		return nil
	})
	err = repo.commit(&change{ctx: ctx, alone: true, work: repo.fold})
	qt.Assert(t, qt.ErrorIs(err, failure))
	qt.Assert(t, qt.IsTrue(truncated))

	var synced, removed bool
	h.set(func(op, name string) error {
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
}
