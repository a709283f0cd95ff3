package ocifs

import (
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestUsedBySameBlobs pushes each blob by several calls at once: its bytes count
// once.
func TestUsedBySameBlobs(t *testing.T) {
	t.Parallel()
	r, _ := openHooked(t, KeptDir(t), &Options{MaxBytes: 1 << 20})
	const blobs, size = 30, 100
	for i := range blobs {
		b := ocitest.NewBlob(uint64(i), size)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := r.PushBlob(t.Context(), "foo", b.Descriptor, b.NewReader())
				qt.Check(t, qt.IsNil(err))
			})
		}
		wg.Wait()
	}
	qt.Check(t, qt.Equals(r.used.Load(), blobs*size))
}

// TestUsedInUnfinishedFold counts the bytes of manifests that a journal still has,
// and files too, and of one that was deleted, but whose file is still there.
func TestUsedInUnfinishedFold(t *testing.T) {
	t.Parallel()
	dir := KeptDir(t)
	opts := &Options{NoSync: true, MaxBytes: 1 << 20}
	r, _ := openHooked(t, dir, opts)
	var digests []ociregistry.Digest
	for i := range 3 {
		desc, err := r.PushManifest(t.Context(), "foo", "", ocitest.NewBlob(uint64(i), 100).Bytes(), "text/plain")
		qt.Assert(t, qt.IsNil(err))
		digests = append(digests, desc.Digest)
	}
	foldSome(t, r.repository("foo"))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), "foo", digests[0])))
	qt.Check(t, qt.Equals(r.used.Load(), 200))
	next, _ := openHooked(t, dir, opts)
	qt.Check(t, qt.Equals(next.used.Load(), 200))
}
