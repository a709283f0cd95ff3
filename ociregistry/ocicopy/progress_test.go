package ocicopy

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestCopy_ReportsProgress(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{3 << 20, 100, 0}})
		mustPush(t, src, "a", image, "v1")
		size := image.Descriptor.Size + 3<<20 + 100 + image.Blobs[0].Descriptor.Size

		var mu sync.Mutex
		var calls []Progress
		opts := &Options{Progress: func(p Progress) {
			qt.Check(t, qt.IsTrue(mu.TryLock())) // it is called by one goroutine at a time
			defer mu.Unlock()
			calls = append(calls, p)
		}}
		result := mustCopy(t, Place{dst, "b", ""}, Place{src, "a", "v1"}, opts)
		mustHave(t, dst, "b", image)
		last := calls[len(calls)-1]
		qt.Check(t, qt.Equals(last.ItemsDone, 5))
		qt.Check(t, qt.Equals(last.BytesDone, size))
		qt.Check(t, qt.Equals(last.Item.Kind, Manifest))
		var before Progress
		done := make(map[ociregistry.Digest]int64)
		var finished []Item
		for _, p := range calls {
			qt.Check(t, qt.Equals(p.ItemsTotal, 5))
			qt.Check(t, qt.Equals(p.BytesTotal, size))
			qt.Check(t, qt.IsTrue(p.ItemsDone >= before.ItemsDone && p.BytesDone >= before.BytesDone))
			qt.Check(t, qt.IsTrue(p.Bytes >= done[p.Item.Descriptor.Digest]))
			done[p.Item.Descriptor.Digest] = p.Bytes
			before = p
			if p.Item.Action != "" {
				qt.Check(t, qt.Equals(p.Bytes, p.Item.Descriptor.Size))
				finished = append(finished, p.Item)
			}
		}
		qt.Check(t, qt.HasLen(finished, len(result.Items)))
		// The start and the end of each item, and twelve times 256 KiB of the large
		// blob, or fewer calls if it is read in larger parts.
		qt.Check(t, qt.IsTrue(len(calls) >= 9+4 && len(calls) <= 9+12), qt.Commentf("%d calls", len(calls)))

		calls = nil
		mustCopy(t, Place{dst, "b", ""}, Place{src, "a", "v1"}, opts)
		qt.Assert(t, qt.HasLen(calls, 5))
		for _, p := range calls {
			qt.Check(t, qt.Equals(p.Item.Action, Present))
		}
		qt.Check(t, qt.Equals(calls[4].BytesDone, calls[4].BytesTotal))
	})
}

func TestCopy_ReportsProgressOfAReaderThatSeeks(t *testing.T) {
	t.Parallel()
	content := slices.Repeat([]byte("x"), 1<<20)
	var now Progress
	tracker := newTracker(func(p Progress) { now = p })
	item := Item{Descriptor: ociregistry.Descriptor{Size: 1 << 20}}
	body, told := metered(ocimem.NewBytesReader(content, item.Descriptor), tracker, item)
	for range 2 { // a push that starts again
		_, err := body.(io.Seeker).Seek(0, io.SeekStart)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(now.BytesDone, 0))
		_, err = io.Copy(io.Discard, body)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(now.BytesDone > 700<<10))
	}
	tracker.finish(item, told())
	qt.Check(t, qt.Equals(now.BytesDone, 1<<20))
}

// Counting bytes does not make the destination hash again what the source has verified.
func TestMeter_KeepsWhatTheReaderVerified(t *testing.T) {
	t.Parallel()
	item := Item{Descriptor: ociregistry.Descriptor{Size: 4}}
	d := digest.FromString("text")
	body, _ := metered(verifying{strings.NewReader("text"), d}, newTracker(func(Progress) {}), item)
	qt.Check(t, qt.Equals(verified.By(body), verified.State{Digest: d}))
}

type verifying struct {
	io.Reader
	digest ociregistry.Digest
}

func (v verifying) Verified() verified.State { return verified.State{Digest: v.digest} }
