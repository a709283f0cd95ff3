package ocifs

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestMarkWithoutName opens a root where a process died that had made a mark and
// not written to it.
func TestMarkWithoutName(t *testing.T) {
	t.Parallel()
	dir := KeptDir(t)
	mark := filepath.Join(dir, privateDir, "unfolded", "0123")
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(mark), dirPerm)))
	qt.Assert(t, qt.IsNil(os.WriteFile(mark, nil, filePerm)))
	r, err := New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.Close()))
	_, err = os.Lstat(mark)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}

// TestMarkOfTwo folds by one of two objects that stand for the same repository, as
// two calls make them that come first at the same time. The other finds that out
// just before the registry is closed, or while it is.
func TestMarkOfTwo(t *testing.T) {
	t.Parallel()
	t.Run("before", func(t *testing.T) { testMarkOfTwo(t, func(context.Context, *repository) {}) })
	t.Run("while", func(t *testing.T) {
		testMarkOfTwo(t, func(ended context.Context, repo *repository) {
			repo.folding.last.Store(0) // it is at rest
			repo.foldAtRest(ended)
		})
	})
}

func testMarkOfTwo(t *testing.T, closing func(ended context.Context, repo *repository)) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := New(KeptDir(t), &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	r.recover(ctx) // else it comes with Close, and finds the mark
	blob := ocitest.NewBlob(1, 100)
	_, err = r.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	first, err := r.open("foo")
	qt.Assert(t, qt.IsNil(err))
	r.forget(first)
	second, err := r.open("foo")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsFalse(first == second))

	qt.Assert(t, qt.IsNil(second.commit(&change{ctx: ctx, alone: true, work: second.fold})))
	qt.Assert(t, qt.IsNil(first.refresh()))
	cancel()
	closing(ctx, first)
	qt.Assert(t, qt.IsNil(r.Close()))
	_, err = os.Lstat(r.markPath("foo"))
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}
