package ocifs

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// TestGC_CollectionsOfOthersAreNoProblem has another process delete what a collection may be
// about to read, before each of its calls of the system: by a collection of its own, or by a
// delete and a fold.
func TestGC_CollectionsOfOthersAreNoProblem(t *testing.T) {
	t.Parallel()
	step := int64(3)
	if *raceLong {
		step = 1
	}
	for at := int64(1); !t.Failed(); at += step {
		more := false
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			dir, g := newRaceGarbage(t)
			other, _ := openHooked(t, dir, &Options{NoSync: true})
			collecting, hooks := openHooked(t, dir, &Options{NoSync: true})
			synctest.Wait()
			deleted := make(chan error, 1)
			var n atomic.Int64
			hooks.Set(func(string, string) error {
				if n.Add(1) == at {
					more = true
					go func() {
						err := other.DeleteManifest(ctx, "app", g.image.Descriptor.Digest)
						if at%2 == 0 {
							_, err = other.GC(ctx, &ocigc.Options{Delay: -1, Untagged: true})
						}
						deleted <- errors.Join(err, other.Close())
					}()
					synctest.Wait() // it is done, or waits for the collection
				}
				return nil
			})
			report, err := collecting.GC(ctx, &ocigc.Options{Untagged: true})
			hooks.Set(nil)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(report.Problems, 0), qt.Commentf("a delete before call %d: %v", at, report.Problems))
			if more {
				<-deleted // the collection may have been first
			}
		})
		if !more {
			return
		}
	}
}
