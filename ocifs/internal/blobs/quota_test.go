package blobs

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestQuota(t *testing.T) {
	t.Parallel()
	q := Quota{Max: 10}
	qt.Check(t, qt.IsNil(q.Reserve(4)))
	qt.Check(t, qt.ErrorIs(q.Reserve(7), error(ociregistry.ErrDenied)))
	qt.Check(t, qt.IsNil(q.Reserve(6)))
	qt.Check(t, qt.IsNil(q.Reserve(0)), qt.Commentf("nothing fits always"))
	q.Add(5) // it was there before
	qt.Check(t, qt.Equals(q.Used(), 15))
	q.Release(6)
	qt.Check(t, qt.IsNil(q.Reserve(1)))
	qt.Check(t, qt.ErrorIs(q.Reserve(1), error(ociregistry.ErrDenied)))

	var unbounded Quota
	qt.Check(t, qt.IsNil(unbounded.Reserve(1<<62)))
}

// Refused bytes take nothing from others, not even for a moment.
func TestQuota_RefusalsTakeNothing(t *testing.T) {
	t.Parallel()
	q := Quota{Max: 100}
	var refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				if i%2 == 0 {
					qt.Check(t, qt.ErrorIs(q.Reserve(101), error(ociregistry.ErrDenied)))
				} else if q.Reserve(25) == nil {
					q.Release(25)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	qt.Check(t, qt.Equals(refused.Load(), 0))
	qt.Check(t, qt.Equals(q.Used(), 0))
}
