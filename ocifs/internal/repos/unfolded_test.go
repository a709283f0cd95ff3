package repos

import (
	"context"
	"os"
	"testing"

	"github.com/go-quicktest/qt"
	digest "github.com/opencontainers/go-digest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

// TestMark_IsRemovedAfterFoldOfAnother folds through another Set than the one that has
// written the mark. That one learns of it just before it is closed, or while it is being
// closed.
func TestMark_IsRemovedAfterFoldOfAnother(t *testing.T) {
	t.Parallel()
	t.Run("before", func(t *testing.T) { testMarkOfAnother(t, func(context.Context, *Repository) {}) })
	t.Run("while", func(t *testing.T) {
		testMarkOfAnother(t, func(ended context.Context, repo *Repository) {
			repo.retain()              // for foldAtRest
			repo.folding.last.Store(0) // it is at rest
			repo.foldAtRest(ended)
		})
	})
}

func testMarkOfAnother(t *testing.T, closing func(ended context.Context, repo *Repository)) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dir := scratch.Kept(t)
		set, _ := newSet(t, dir)
		other, _ := newSet(t, dir)
		set.foldMarked(ctx) // else it comes with Close, and finds the mark
		repo := used(t, set, "foo")
		commit(t, repo, repostate.Op{Kind: repostate.PutBlob, Digest: digest.FromString("text"), Text: "text"})

		qt.Assert(t, qt.IsNil(used(t, other, "foo").Fold(ctx)))
		qt.Assert(t, qt.IsNil(repo.refresh()))
		cancel()
		closing(ctx, repo)
		qt.Assert(t, qt.IsNil(set.Close()))
		_, err := os.Lstat(set.marks.File("foo"))
		qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
	})
}
