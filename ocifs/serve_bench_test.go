package ocifs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// The benchmarks of this file go over HTTP. Those of large blobs have a twin
// named "bare": a handler that does what cannot be avoided, and nothing else.

// largeBlob is the size of a large blob, in bytes.
func largeBlob() int64 {
	if testing.Short() {
		return 8 << 20
	}
	return 1 << 30
}

// keep is a handler that hashes what is put and writes it to a file in dir, which
// it makes durable.
func keep(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := keepBody(filepath.Join(dir, "file"), req); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusCreated)
	})
}

func keepBody(name string, req *http.Request) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	buf := transfers.Get().(*[1 << 20]byte)
	defer transfers.Put(buf)
	if _, err := io.CopyBuffer(io.MultiWriter(f, h), req.Body, buf[:]); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, h); string(got) != req.URL.Query().Get("digest") {
		return fmt.Errorf("it is %s", got)
	}
	return f.Sync()
}

// BenchmarkServePushLarge pushes a blob that is new each time, durably. It is to
// take at most 1.25 times as long as bare.
func BenchmarkServePushLarge(b *testing.B) {
	c := newContents(largeBlob())
	b.Run("bare", func(b *testing.B) {
		dir := b.TempDir()
		s := serve(b, keep(dir))
		b.SetBytes(c.size)
		for b.Loop() {
			d, body := c.next(b)
			s.must(http.StatusCreated, "PUT", "/?digest="+string(d), body, c.size)
			b.StopTimer()
			qt.Assert(b, qt.IsNil(os.Remove(filepath.Join(dir, "file"))))
			b.StartTimer()
		}
	})
	for _, way := range blobPushes {
		b.Run(way.name, func(b *testing.B) {
			r := newRegistry(b, nil)
			s := serve(b, ociserver.New(r, nil))
			must(b, r).MustPushBlob("repo", []byte("another, so that the repository is there"))
			b.SetBytes(c.size)
			for b.Loop() {
				d, body := c.next(b)
				qt.Assert(b, qt.IsNil(way.push(s, d, body, c.size)))
				b.StopTimer()
				qt.Assert(b, qt.IsNil(r.DeleteBlob(b.Context(), "repo", d)))
				b.StartTimer()
			}
		})
	}
}

// BenchmarkServePullLarge is to take at most 1.1 times as long as bare, and as
// much of the processors. That counts the client as well, which is the same one.
func BenchmarkServePullLarge(b *testing.B) {
	dir := b.TempDir()
	r, err := ocifs.New(dir, &ocifs.Options{NoSync: true})
	qt.Assert(b, qt.IsNil(err))
	b.Cleanup(func() { qt.Check(b, qt.IsNil(r.Close())) })
	c := newContents(largeBlob())
	d, body := c.next(b)
	_, err = r.PushBlob(b.Context(), "repo", ociregistry.Descriptor{Digest: d, Size: c.size}, body)
	qt.Assert(b, qt.IsNil(err))
	name := filepath.Join(dir, "repo", "blobs", "sha256", d.Encoded())
	bare := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f, err := os.Open(name)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, req, "", time.Time{}, f)
	})
	for _, twin := range []struct {
		name    string
		handler http.Handler
	}{{"bare", bare}, {"GET", ociserver.New(r, nil)}} {
		b.Run(twin.name, func(b *testing.B) {
			s := serve(b, twin.handler)
			b.SetBytes(c.size)
			before, known := processorTime()
			for b.Loop() {
				s.get("/v2/repo/blobs/" + string(d))
			}
			if after, _ := processorTime(); known {
				b.ReportMetric(float64(after-before)/float64(b.N), "cpu-ns/op")
			}
		})
	}
}

// serveTags serves a repository of n tags, as it is when it has been at rest.
func serveTags(b *testing.B, n int) (*site, [2][]byte) {
	dir := b.TempDir()
	r, err := ocifs.New(dir, &ocifs.Options{NoSync: true})
	qt.Assert(b, qt.IsNil(err))
	manifests := [2][]byte{[]byte(`{"one":1}`), []byte(`{"two":2}`)}
	for first := 0; first < n; first += 1000 {
		var tags []string
		for i := first; i < min(first+1000, n); i++ {
			tags = append(tags, tagName(i))
		}
		_, err := r.PushManifest(b.Context(), "repo", "", manifests[1], testType, tags...)
		qt.Assert(b, qt.IsNil(err))
	}
	qt.Assert(b, qt.IsNil(r.Close()))
	r, err = ocifs.New(dir, nil)
	qt.Assert(b, qt.IsNil(err))
	b.Cleanup(func() { qt.Check(b, qt.IsNil(r.Close())) })
	s := serve(b, ociserver.New(r, nil))
	s.get("/v2/repo/manifests/" + tagName(0)) // which reads index.json
	return s, manifests
}

func tagName(i int) string { return fmt.Sprintf("tag-%06d", i) }

// BenchmarkServeTags has what is to cost at most 1.2 times as much in a
// repository of 100,000 tags as in one of 100.
func BenchmarkServeTags(b *testing.B) {
	for _, bench := range []struct {
		name string
		do   func(s *site, manifests [2][]byte, n, i int)
	}{
		{"Put", func(s *site, manifests [2][]byte, n, i int) {
			m := manifests[i/n%2] // not the one that the tag has
			s.must(http.StatusCreated, "PUT", "/v2/repo/manifests/"+tagName(i%n), bytes.NewReader(m), int64(len(m)), "Content-Type", testType)
		}},
		{"Get", func(s *site, _ [2][]byte, n, i int) {
			s.get("/v2/repo/manifests/" + tagName(i%n))
		}},
		{"GetManifest", func(s *site, manifests [2][]byte, _, _ int) {
			s.get("/v2/repo/manifests/" + string(digest.FromBytes(manifests[1])))
		}},
		{"Page", func(s *site, _ [2][]byte, n, i int) {
			s.get("/v2/repo/tags/list?n=100&last=" + tagName(i*97%max(n-100, 1)))
		}},
	} {
		for _, n := range tagCounts {
			b.Run(fmt.Sprintf("%s/tags=%d", bench.name, n), func(b *testing.B) {
				s, manifests := serveTags(b, n)
				for i := 0; b.Loop(); i++ {
					bench.do(s, manifests, n, i)
				}
			})
		}
	}
}

// BenchmarkServePushSmall pushes blobs of 4 KiB and manifests, durably. 64
// callers at once are to be 5 times as fast as one.
func BenchmarkServePushSmall(b *testing.B) {
	for _, small := range []struct {
		name string
		push func(s *site, i int64) error
	}{
		{"Blob", func(s *site, i int64) error {
			data := bytes.Repeat(fmt.Appendf(nil, "%016x", i), 256)
			_, err := s.exchange(http.StatusCreated, "POST", uploadsPath+"?digest="+string(digest.FromBytes(data)), bytes.NewReader(data), int64(len(data)))
			return err
		}},
		{"Manifest", func(s *site, i int64) error {
			data := fmt.Append(nil, i)
			_, err := s.exchange(http.StatusCreated, "PUT", fmt.Sprintf("/v2/repo/manifests/tag-%d", i), bytes.NewReader(data), int64(len(data)), "Content-Type", testType)
			return err
		}},
	} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", small.name, callers), func(b *testing.B) {
				s := serve(b, ociserver.New(newBenchRegistry(b, nil), nil))
				qt.Assert(b, qt.IsNil(small.push(s, 0))) // makes the repository
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							qt.Check(b, qt.IsNil(small.push(s, i)))
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// BenchmarkServeMount mounts a blob, which is to take the same time for any size.
// A small blob is a file once its repository was at rest for a moment; before, it
// is in the journal, and mounting copies it to another journal.
func BenchmarkServeMount(b *testing.B) {
	for _, bench := range []struct {
		name  string
		size  int64
		fresh bool
	}{
		{"1KiB/fresh", 1 << 10, true},
		{"1KiB", 1 << 10, false},
		{"32KiB", 32 << 10, false},
		{"large", largeBlob(), false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			dir := b.TempDir()
			r, err := ocifs.New(dir, nil)
			qt.Assert(b, qt.IsNil(err))
			c := newContents(bench.size)
			push := func() digest.Digest {
				d, body := c.next(b)
				_, err := r.PushBlob(b.Context(), "from", ociregistry.Descriptor{Digest: d, Size: c.size}, body)
				qt.Assert(b, qt.IsNil(err))
				return d
			}
			d := push()
			must(b, r).MustPushBlob("to", []byte("another, so that the repository is there"))
			qt.Assert(b, qt.IsNil(r.Close()))
			r, err = ocifs.New(dir, nil)
			qt.Assert(b, qt.IsNil(err))
			b.Cleanup(func() { qt.Check(b, qt.IsNil(r.Close())) })
			s := serve(b, ociserver.New(r, nil))
			for b.Loop() {
				if bench.fresh {
					b.StopTimer()
					d = push()
					b.StartTimer()
				}
				s.must(http.StatusCreated, "POST", "/v2/to/blobs/uploads/?from=from&mount="+string(d), nil, 0)
				b.StopTimer()
				qt.Assert(b, qt.IsNil(r.DeleteBlob(b.Context(), "to", d)))
				b.StartTimer()
			}
		})
	}
}
