package ocicopy

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

var layerSize = flag.Int64("layersize", 1<<20, "size in bytes of each of the 20 layers that benchmarks copy")

// distant returns a registry every call of which takes some time.
func distant(latency time.Duration) *spy {
	s := newSpy(ocimem.New())
	s.before = func(ctx context.Context, _, _, _ string) error {
		select {
		case <-time.After(latency):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s
}

func twentyLayers(size int64) *ocitest.Artifact {
	layers := make([]int64, 20)
	for i := range layers {
		layers[i] = size
	}
	return ocitest.NewImage(ocitest.Spec{Layers: layers})
}

func BenchmarkCopy(b *testing.B) {
	const latency = 10 * time.Millisecond
	image := twentyLayers(*layerSize)
	src := distant(latency)
	mustPush(b, src, "a", image, "v1")
	for _, concurrency := range []int{1, DefaultConcurrency} {
		b.Run(fmt.Sprintf("concurrency=%d", concurrency), func(b *testing.B) {
			b.SetBytes(20 * *layerSize)
			for b.Loop() {
				dst := distant(latency)
				mustCopy(b, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Concurrency: concurrency})
			}
		})
	}
	b.Run("repeat", func(b *testing.B) {
		dst := distant(latency)
		mustCopy(b, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
		src.take()
		dst.take()
		requests := 0
		for b.Loop() {
			mustCopy(b, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
			requests += src.calls["ResolveTag"] + dst.calls["ResolveTag"]
			qt.Assert(b, qt.Equals(src.take()+dst.take(), "ResolveTag 1ResolveTag 1"))
		}
		b.ReportMetric(float64(requests)/float64(b.N), "requests/op")
	})
}

// TestParallelCopyIsTwiceAsFast counts the time that is spent waiting for the
// registries.
func TestParallelCopyIsTwiceAsFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := distant(time.Second)
		mustPush(t, src, "a", twentyLayers(1000), "v1")
		took := func(opts *Options) time.Duration {
			start := time.Now()
			mustCopy(t, Place{distant(time.Second), "a", ""}, Place{src, "a", "v1"}, opts)
			return time.Since(start)
		}
		// Before and after the 21 blobs: two tags, a look for the manifest, and
		// its push. For each blob: a look, a read, a write.
		qt.Check(t, qt.Equals(took(&Options{Concurrency: 1}), (4+21*3)*time.Second))
		qt.Check(t, qt.Equals(took(nil), (4+4*3)*time.Second))
	})
}
