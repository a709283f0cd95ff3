package ociunify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// remote returns a registry that gets blobs over HTTP, and verifies them, as a
// client has to.
func remote(b testing.TB, r ociregistry.Interface) ociregistry.Interface {
	srv := httptest.NewServer(ociserver.New(r, nil))
	b.Cleanup(srv.Close)
	return &ociregistry.Funcs{GetBlob_: func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/v2/%s/blobs/%s", srv.URL, repo, d), nil)
		if err != nil {
			return nil, err
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return nil, errors.New(resp.Status)
		}
		return &remoteReader{resp.Body, ociregistry.Descriptor{Digest: d, Size: resp.ContentLength}, d.Verifier()}, nil
	}}
}

type remoteReader struct {
	io.ReadCloser
	desc     ociregistry.Descriptor
	verifier digest.Verifier
}

func (r *remoteReader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r *remoteReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.verifier.Write(p[:n])
	if err == io.EOF && !r.verifier.Verified() {
		return n, errBroken
	}
	return n, err
}

func discard(b *testing.B, rd ociregistry.BlobReader, err error) {
	if err == nil {
		_, err = io.Copy(io.Discard, rd)
		rd.Close()
	}
	if err != nil {
		b.Fatal(err)
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
			c := newCache(b, cache, ocimem.New(), &ociunify.CacheOptions{MaxBytes: 1 << 30})
			for _, r := range []struct {
				name string
				r    ociregistry.Interface
			}{{"direct", cache}, {"cached", c}} {
				b.Run(fmt.Sprintf("%s/%dKiB/%s", name, size>>10, r.name), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						rd, err := r.r.GetBlob(b.Context(), "foo", blob.Descriptor.Digest)
						discard(b, rd, err)
					}
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
		for name, origin := range map[string]ociregistry.Interface{"loopback": remote(b, mem), "250MBps": remote(b, paced(mem, 250e6))} {
			benchmarkMiss(b, fmt.Sprintf("%dKiB/%s", size>>10, name), origin, blob)
		}
	}
}

func benchmarkMiss(b *testing.B, name string, origin ociregistry.Interface, blob ocitest.Blob) {
	size := blob.Descriptor.Size
	b.Run(name+"/direct", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			rd, err := origin.GetBlob(b.Context(), "foo", blob.Descriptor.Digest)
			discard(b, rd, err)
		}
	})
	b.Run(name+"/cold", func(b *testing.B) {
		b.SetBytes(size)
		cache := ocimem.New()
		for b.Loop() {
			c := ociunify.NewCache(cache, origin, nil)
			rd, err := c.GetBlob(b.Context(), "foo", blob.Descriptor.Digest)
			discard(b, rd, err)
			c.Close() // waits until it is stored, which counts too
			if err := cache.DeleteBlob(b.Context(), "foo", blob.Descriptor.Digest); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// paced returns r with blobs that come at so many bytes in a second, as over a
// network.
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
	time.Sleep(time.Until(r.start.Add(time.Duration(float64(r.n) / r.rate * 1e9))))
	return n, err
}

// BenchmarkTag compares a tag that was validated with that of the cache registry.
func BenchmarkTag(b *testing.B) {
	mem, cache := ocimem.New(), ocimem.New()
	pushed(b, mem, "foo", 1, "v1")
	c := newCache(b, cache, mem, &ociunify.CacheOptions{TagTTL: 1 << 60})
	rd, err := c.GetTag(b.Context(), "foo", "v1")
	discard(b, rd, err)
	for _, r := range []struct {
		name string
		r    ociregistry.Interface
	}{{"direct", cache}, {"cached", c}} {
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rd, err := r.r.GetTag(b.Context(), "foo", "v1")
				discard(b, rd, err)
			}
		})
	}
}
