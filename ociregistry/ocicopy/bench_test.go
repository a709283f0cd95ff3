package ocicopy

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

var layerSize = flag.Int64("layersize", 1<<20, "size in bytes of each of the 20 layers that benchmarks copy")

// distant returns a registry whose calls all take some time.
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
	for _, test := range []struct {
		name        string
		opts        *Options
		destination string // the requests to it
	}{
		{"repeat", nil, "GetManifest 1, ResolveBlob 21, ResolveTag 1"},
		{"repeat-trusted", &Options{TrustDestination: true}, "ResolveTag 1"},
	} {
		b.Run(test.name, func(b *testing.B) {
			dst := distant(latency)
			mustCopy(b, Place{dst, "a", ""}, Place{src, "a", "v1"}, test.opts)
			src.take()
			dst.take()
			for b.Loop() {
				mustCopy(b, Place{dst, "a", ""}, Place{src, "a", "v1"}, test.opts)
				qt.Assert(b, qt.Equals(src.take(), "ResolveTag 1"))
				qt.Assert(b, qt.Equals(dst.take(), test.destination))
			}
		})
	}
}

// BenchmarkCopyBetweenServers copies 20 layers between two servers, 1 MiB each by default:
// one at a time, and with the default concurrency. A server that sends at most 100 MB/s
// on a connection represents a remote one.
func BenchmarkCopyBetweenServers(b *testing.B) {
	image := twentyLayers(*layerSize)
	directory := func() ociregistry.Interface {
		r, err := ocifs.New(b.TempDir(), nil)
		qt.Assert(b, qt.IsNil(err))
		b.Cleanup(func() { r.Close() })
		return r
	}
	for _, test := range []struct {
		name string
		make func() ociregistry.Interface
		rate float64 // of the source's connections, in bytes per second; 0 means no limit
	}{
		{"memory", func() ociregistry.Interface { return ocimem.New() }, 0},
		{"directory", directory, 0},
		{"memory-100MBps", func() ociregistry.Interface { return ocimem.New() }, 100e6},
	} {
		backend := test.make()
		mustPush(b, backend, "a", image, "v1")
		src := serve(b, backend, test.rate)
		for _, concurrency := range []int{1, DefaultConcurrency} {
			b.Run(fmt.Sprintf("%s/concurrency=%d", test.name, concurrency), func(b *testing.B) {
				b.SetBytes(20 * *layerSize)
				for b.Loop() {
					b.StopTimer()
					dst := serve(b, test.make(), 0)
					b.StartTimer()
					mustCopy(b, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{Concurrency: concurrency})
				}
			})
		}
	}
}

// serve returns a client of a server of r.
func serve(b testing.TB, r ociregistry.Interface, rate float64) ociregistry.Interface {
	h := ociserver.New(r, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if rate > 0 {
			w = &pacedWriter{ResponseWriter: w, rate: rate, start: time.Now()}
		}
		h.ServeHTTP(w, req)
	}))
	b.Cleanup(srv.Close)
	c, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{Insecure: true})
	qt.Assert(b, qt.IsNil(err))
	return c
}

// pacedWriter writes as slowly as a network.
type pacedWriter struct {
	http.ResponseWriter
	rate  float64
	start time.Time
	n     int
}

func (w *pacedWriter) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		var m int
		m, err = w.ResponseWriter.Write(p[n:min(len(p), n+64<<10)])
		n += m
		w.n += m
		time.Sleep(time.Until(w.start.Add(time.Duration(float64(w.n) / w.rate * 1e9))))
	}
	return n, err
}

// The time that counts is that spent waiting for the registries.
func TestCopy_InParallelIsTwiceAsFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := distant(time.Second)
		mustPush(t, src, "a", twentyLayers(1000), "v1")
		took := func(opts *Options) time.Duration {
			start := time.Now()
			mustCopy(t, Place{distant(time.Second), "a", ""}, Place{src, "a", "v1"}, opts)
			return time.Since(start)
		}
		// Besides the 21 blobs: resolve two tags, and check and push the manifest.
		// For each blob: check, read, write.
		qt.Check(t, qt.Equals(took(&Options{Concurrency: 1}), (4+21*3)*time.Second))
		qt.Check(t, qt.Equals(took(nil), (4+4*3)*time.Second))
	})
}
