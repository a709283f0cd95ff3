package ocibucket

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// drain is a store that forgets the bytes of parts, for what is more than fits into memory.
type drain struct{ objstore.Store }

func (d drain) PutPart(ctx context.Context, up objstore.Multipart, number int, body []byte) (objstore.Part, error) {
	part, err := d.Store.PutPart(ctx, up, number, body[:1])
	part.Size = int64(len(body))
	return part, err
}

func (d drain) CompleteMultipart(ctx context.Context, up objstore.Multipart, parts []objstore.Part, cond objstore.Condition) (objstore.Info, error) {
	return d.Store.Put(ctx, up.Key, nil, cond)
}

// peak returns the most memory that the heap has while f runs, beyond what it had before, in MiB.
func peak(f func()) int64 {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	runtime.GC()
	before := heap()
	var most atomic.Int64
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
				most.Store(max(most.Load(), heap()))
			}
		}
	})
	f()
	close(done)
	watch.Wait()
	return (max(most.Load(), heap()) - before) >> 20
}

// TestFigures measures what is large, with OCIBUCKET_FULL=1. It bounds what is documented.
func TestFigures(t *testing.T) {
	if os.Getenv("OCIBUCKET_FULL") == "" {
		t.Skip("OCIBUCKET_FULL is not set")
	}
	ctx := t.Context()
	took := func(f func()) time.Duration {
		began := time.Now()
		f()
		return time.Since(began).Round(time.Millisecond)
	}
	t.Run("100,000 tags", func(t *testing.T) {
		b := newBench(t)
		a := b.image("app", "latest", 100)
		pushes := took(func() {
			for i := range 100_000 {
				_, err := b.PushManifest(ctx, "app", fmt.Sprintf("t%d", i), a.Manifest, a.Descriptor.MediaType)
				b.must(err)
			}
			b.quiet()
		})
		counts := b.store.Reset()
		r := mustOpen(t, b.store, nil)
		b.store.Reset()
		var first time.Duration
		heap := peak(func() { first = took(func() { b.read(r.GetTag(ctx, "app", "t7")) }) })
		t.Logf("100,000 pushes of a tag: %v, %v; first GET of another process: %v, %v, heap %d MiB", pushes, counts, first, b.store.Reset(), heap)
	})
	t.Run("10,000 repositories", func(t *testing.T) {
		b := newBench(t)
		a := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
		var pushes time.Duration
		heap := peak(func() {
			pushes = took(func() {
				for i := range 10_000 {
					b.must(a.Push(ctx, b, fmt.Sprintf("team/app%d", i), "v1"))
				}
			})
		})
		b.store.Reset()
		list := took(func() {
			names, err := ociregistry.All(b.Repositories(ctx, ""))
			b.must(err)
			qt.Check(t, qt.HasLen(names, 10_001))
		})
		t.Logf("10,000 images: %v, heap %d MiB with the store; list of repositories: %v, %v", pushes, heap, list, b.store.Reset())
		r := mustOpen(t, b.store, nil)
		b.store.Reset()
		var count time.Duration
		heap = peak(func() {
			count = took(func() {
				_, err := r.Usage(ctx, "")
				b.must(err)
			})
		})
		t.Logf("usage, asked of another process for the first time: %v, %v, heap %d MiB", count, b.store.Reset(), heap)
	})
	push := func(t *testing.T, r *Registry, seed uint64, size int64) {
		blob := ocitest.NewBlob(seed, size)
		w, err := r.PushBlobChunked(ctx, "app", 0)
		qt.Check(t, qt.IsNil(err))
		_, err = io.Copy(struct{ io.Writer }{w}, blob.NewReader())
		qt.Check(t, qt.IsNil(err))
		_, err = w.Commit(blob.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))
	}
	t.Run("64 uploads of 64 MiB at once", func(t *testing.T) {
		r := mustOpen(t, drain{memstore.New(nil)}, nil)
		var d time.Duration
		heap := peak(func() {
			d = took(func() {
				var all sync.WaitGroup
				for i := range 64 {
					all.Go(func() { push(t, r, uint64(i), 64<<20) })
				}
				all.Wait()
			})
		})
		t.Logf("%v, heap %d MiB", d, heap)
		qt.Check(t, qt.IsTrue(heap < 2*64*(DefaultConcurrency+2)*DefaultPartSize>>20))
	})
	t.Run("5 GiB in parts of 16 MiB", func(t *testing.T) {
		r := mustOpen(t, drain{memstore.New(nil)}, &Options{PartSize: 16 << 20})
		var d time.Duration
		heap := peak(func() { d = took(func() { push(t, r, 1, 5<<30) }) })
		t.Logf("%v, heap %d MiB", d, heap)
		qt.Check(t, qt.IsTrue(heap < 2*(DefaultConcurrency+2)*16))
	})
}
