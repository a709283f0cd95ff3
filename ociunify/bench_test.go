package ociunify_test

import (
	"fmt"
	"io"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// remote returns a registry that reaches r over HTTP.
func remote(b testing.TB, r ociregistry.Interface) ociregistry.Interface {
	srv := httptest.NewServer(ociserver.New(r, nil))
	b.Cleanup(srv.Close)
	c, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{Insecure: true, Retry: ociclient.RetryPolicy{Attempts: 2, Wait: time.Millisecond}})
	qt.Assert(b, qt.IsNil(err))
	return c
}

func discard(b testing.TB, rd ociregistry.BlobReader, err error) {
	if err == nil {
		_, err = io.Copy(io.Discard, rd)
		rd.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// inTurns times operations in turns, so that other load of the machine affects all of
// them alike. It reports the time of each, and the ratio to that of the first: the
// median of the turns. An operation returns the time it took.
func inTurns(b *testing.B, names []string, ops ...func() time.Duration) {
	times := make([][]float64, len(ops))
	ratios := make([][]float64, len(ops))
	for b.Loop() {
		for i, op := range ops {
			times[i] = append(times[i], float64(op()))
			last := len(times[i]) - 1
			ratios[i] = append(ratios[i], times[i][last]/times[0][last])
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, name := range names {
		b.ReportMetric(median(times[i]), name+"-ns")
		if i > 0 {
			b.ReportMetric(median(ratios[i]), name+"-times")
		}
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// timed returns an operation that calls do n times.
func timed(n int, f func()) func() time.Duration {
	return func() time.Duration {
		start := time.Now()
		for range n {
			f()
		}
		return time.Since(start) / time.Duration(n)
	}
}

// BenchmarkHit compares a hit with reading the cache registry directly.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int64{1 << 10, 1 << 20, 64 << 20} {
		blob := ocitest.NewBlob(1, size)
		dir, err := ocifs.New(b.TempDir(), &ocifs.Options{NoSync: true})
		qt.Assert(b, qt.IsNil(err))
		b.Cleanup(func() { dir.Close() })
		for name, cache := range map[string]ociregistry.Interface{"memory": ocimem.New(), "directory": dir} {
			_, err := cache.PushBlob(b.Context(), "foo", blob.Descriptor, blob.NewReader())
			qt.Assert(b, qt.IsNil(err))
			for bound, opts := range map[string]*ociunify.CacheOptions{"free": nil, "bounded": {MaxBytes: 1 << 30}} {
				c := newCache(b, cache, ocimem.New(), opts)
				read := func(r ociregistry.Interface) func() time.Duration {
					return timed(int(max(100, 1<<20/size)), func() { // the clock counts too, otherwise
						rd, err := r.GetBlob(b.Context(), "foo", blob.Descriptor.Digest)
						discard(b, rd, err)
					})
				}
				b.Run(fmt.Sprintf("%s/%dKiB/%s", name, size>>10, bound), func(b *testing.B) {
					inTurns(b, []string{"direct", "hit"}, read(cache), read(c))
				})
			}
		}
	}
}

// BenchmarkMiss compares a miss with reading the origin directly.
func BenchmarkMiss(b *testing.B) {
	for _, size := range []int64{100 << 10, 64 << 20} {
		blob := ocitest.NewBlob(1, size)
		mem := ocimem.New()
		_, err := mem.PushBlob(b.Context(), "foo", blob.Descriptor, blob.NewReader())
		qt.Assert(b, qt.IsNil(err))
		for _, origin := range []struct {
			name string
			r    ociregistry.Interface
		}{
			{"loopback", remote(b, mem)},
			{"100MBps", remote(b, paced(mem, 100e6))},
		} {
			for name, cache := range map[string]ociregistry.Interface{"memory": ocimem.New(), "directory": newDirectory(b)} {
				b.Run(fmt.Sprintf("%dKiB/%s/%s", size>>10, origin.name, name), func(b *testing.B) {
					benchmarkMiss(b, origin.r, cache, blob)
				})
			}
		}
	}
}

// benchmarkMiss compares reading the origin, a miss until the caller has everything, a
// miss until the blob is stored as well, and the minimum for any cache: pushing the blob
// to the cache registry while it is read from the origin.
func benchmarkMiss(b *testing.B, origin, cache ociregistry.Interface, blob ocitest.Blob) {
	ctx, d := b.Context(), blob.Descriptor.Digest
	remove := func() {
		if err := cache.DeleteBlob(ctx, "foo", d); err != nil {
			b.Fatal(err)
		}
	}
	var stored time.Duration
	inTurns(b, []string{"direct", "miss", "stored", "push"}, timed(1, func() {
		rd, err := origin.GetBlob(ctx, "foo", d)
		discard(b, rd, err)
	}), func() time.Duration {
		c := ociunify.NewCache(cache, origin, nil)
		start := time.Now()
		rd, err := c.GetBlob(ctx, "foo", d)
		discard(b, rd, err)
		took := time.Since(start)
		c.Close() // waits until it is stored
		stored = time.Since(start)
		remove()
		return took
	}, func() time.Duration {
		return stored
	}, func() time.Duration {
		start := time.Now()
		rd, err := origin.GetBlob(ctx, "foo", d)
		if err == nil {
			_, err = cache.PushBlob(ctx, "foo", blob.Descriptor, rd)
			rd.Close()
		}
		took := time.Since(start)
		if err != nil {
			b.Fatal(err)
		}
		remove()
		return took
	})
}

// BenchmarkManyPulls lets 300 callers at once pull a blob that is not kept. It reports
// how much later they have the first byte than a reader of the origin, and by how many
// bytes the heap grows. They continue when all have the first byte: otherwise the first
// of them, reading from memory, would keep the processors busy.
func BenchmarkManyPulls(b *testing.B) {
	const n, size = 300, 64 << 20
	ctx, blob := b.Context(), ocitest.NewBlob(1, size)
	d := blob.Descriptor.Digest
	mem := ocimem.New()
	_, err := mem.PushBlob(ctx, "foo", blob.Descriptor, blob.NewReader())
	qt.Assert(b, qt.IsNil(err))
	counting := count(mem)
	origin := remote(b, counting)
	firstByte := func(r ociregistry.Interface, begun *sync.WaitGroup) time.Duration {
		start := time.Now()
		rd, err := r.GetBlob(ctx, "foo", d)
		if err != nil {
			b.Fatal(err)
		}
		defer rd.Close()
		if _, err := io.ReadFull(rd, make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		begun.Done()
		begun.Wait()
		if _, err := io.Copy(io.Discard, rd); err != nil {
			b.Fatal(err)
		}
		return took
	}
	var begun sync.WaitGroup
	begun.Add(1)
	direct := firstByte(origin, &begun)
	cache := newDirectory(b)
	var late, last []float64
	var idle, busy runtime.MemStats
	runtime.GC()
	debug.FreeOSMemory()
	runtime.ReadMemStats(&idle)
	for b.Loop() {
		counting.took()
		c := ociunify.NewCache(cache, origin, nil)
		var asking sync.WaitGroup
		begun.Add(n)
		waits := make([]float64, n)
		for i := range n {
			asking.Go(func() { waits[i] = float64(firstByte(c, &begun)-direct) / 1e6 })
		}
		asking.Wait()
		c.Close()
		if got := counting.took(); got != "GetBlob" {
			b.Fatalf("the origin was asked for %s", got)
		}
		if err := cache.DeleteBlob(ctx, "foo", d); err != nil {
			b.Fatal(err)
		}
		late = append(late, median(waits))
		last = append(last, slices.Max(waits))
	}
	runtime.ReadMemStats(&busy)
	b.ReportMetric(median(late), "later-ms-median")
	b.ReportMetric(median(last), "later-ms-max")
	b.ReportMetric(float64(busy.HeapSys-busy.HeapReleased)-float64(idle.HeapSys-idle.HeapReleased), "heap-bytes")
}

// paced returns r with blobs that are read at a limited rate in bytes per second, as
// over a network.
func paced(r ociregistry.Interface, rate float64) ociregistry.Interface {
	c := count(r)
	c.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
		return withReader{rd, &pacedReader{r: rd, rate: rate, start: time.Now()}}
	})
	return c
}

type pacedReader struct {
	r     io.Reader
	rate  float64
	start time.Time
	n     int
}

func (r *pacedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += n
	pause(time.Until(r.start.Add(time.Duration(float64(r.n) / r.rate * 1e9))))
	return n, err
}

// BenchmarkTag compares a tag that was validated with that of the cache registry.
func BenchmarkTag(b *testing.B) {
	mem, cache := ocimem.New(), ocimem.New()
	pushed(b, mem, "foo", 1, "v1")
	c := newCache(b, cache, mem, &ociunify.CacheOptions{TagTTL: 1 << 60})
	read := func(r ociregistry.Interface) func() time.Duration {
		return timed(1000, func() {
			rd, err := r.GetTag(b.Context(), "foo", "v1")
			discard(b, rd, err)
		})
	}
	read(c)()
	inTurns(b, []string{"direct", "hit"}, read(cache), read(c))
}
