package ocibucket

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

// A session counts until it is known to have ended, or nobody here went on with it for an hour.
func TestMaxUploads_BoundsTheSessionsThatAProcessTakesForOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		r, other := mustOpen(t, store, &Options{MaxUploads: 2}), mustOpen(t, store, &Options{MaxUploads: -1})
		begin := func() ociregistry.BlobWriter {
			t.Helper()
			w, err := r.PushBlobChunked(t.Context(), "app", 0)
			qt.Assert(t, qt.IsNil(err))
			return w
		}
		wantFull := func() {
			t.Helper()
			_, err := r.PushBlobChunked(t.Context(), "app", 0)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrTooManyRequests)))
		}
		empty := digest.FromString("")
		first, second := begin(), begin()
		wantFull()
		_, err := first.Commit(empty)
		qt.Assert(t, qt.IsNil(err))
		third := begin()
		wantFull()
		qt.Assert(t, qt.IsNil(second.Cancel()))
		fourth := begin()
		wantFull()

		// Others may end it, which is known when somebody asks.
		qt.Assert(t, qt.IsNil(third.Close()))
		w, err := other.PushBlobChunkedResume(t.Context(), "app", third.ID(), 0, 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Commit(empty)
		qt.Assert(t, qt.IsNil(err))
		wantFull()
		w, err = r.PushBlobChunkedResume(t.Context(), "app", third.ID(), 0, 0)
		qt.Assert(t, qt.IsNil(err)) // it is not asked for what it knows
		_, err = w.Commit(empty)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
		begin()
		wantFull()

		time.Sleep(59 * time.Minute)
		qt.Assert(t, qt.IsNil(fourth.Close()))
		_, err = r.PushBlobChunkedResume(t.Context(), "app", fourth.ID(), 0, 0)
		qt.Assert(t, qt.IsNil(err))
		wantFull()
		time.Sleep(2 * time.Minute)
		begin()
		wantFull()
		for range 10 {
			_, err := other.PushBlobChunked(t.Context(), "app", 0)
			qt.Check(t, qt.IsNil(err))
		}
	})
}
