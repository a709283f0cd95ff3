package ocimem

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

var blobSizes = []int{4 << 10, 1 << 20, 256 << 20}

func sizeName(n int) string {
	if n < 1<<20 {
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprintf("%dMiB", n>>20)
}

func BenchmarkPushBlob(b *testing.B) {
	for _, size := range blobSizes {
		b.Run(sizeName(size), func(b *testing.B) {
			data := randomBytes(1, size)
			desc := descriptor(data)
			r := New()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				pushBlob(b, r, "a", data)
				if err := r.DeleteBlob(ctx, "a", desc.Digest); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkResolveBlob and BenchmarkGetBlob must not depend on the size.
func BenchmarkResolveBlob(b *testing.B) {
	for _, size := range blobSizes {
		b.Run(sizeName(size), func(b *testing.B) {
			r := New()
			desc := pushBlob(b, r, "a", randomBytes(1, size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.ResolveBlob(ctx, "a", desc.Digest); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGetBlob(b *testing.B) {
	for _, size := range blobSizes {
		b.Run(sizeName(size), func(b *testing.B) {
			r := New()
			desc := pushBlob(b, r, "a", randomBytes(1, size))
			b.ReportAllocs()
			for b.Loop() {
				blob, err := r.GetBlob(ctx, "a", desc.Digest)
				if err != nil {
					b.Fatal(err)
				}
				blob.Close()
			}
		})
	}
}

// BenchmarkTagsPage reads a page of 100 tags from the middle of the list. It
// must cost about the same in a repository of 100,000 tags as in one of 100.
func BenchmarkTagsPage(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := New()
			for i := range n {
				_, err := r.PushManifest(ctx, "a", fmt.Sprintf("v%07d", i), []byte("{}"), "text/plain")
				qt.Assert(b, qt.IsNil(err))
			}
			after := ""
			if n > 100 {
				after = fmt.Sprintf("v%07d", n/2)
			}
			b.ReportAllocs()
			for b.Loop() {
				got := 0
				for _, err := range r.Tags(ctx, "a", after) {
					if err != nil {
						b.Fatal(err)
					}
					if got++; got == 100 {
						break
					}
				}
				if got != 100 {
					b.Fatalf("%d tags", got)
				}
			}
		})
	}
}

func BenchmarkPushTag(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := New()
			for i := range n {
				_, err := r.PushManifest(ctx, "a", fmt.Sprintf("v%07d", i), []byte("{}"), "text/plain")
				qt.Assert(b, qt.IsNil(err))
			}
			other := [][]byte{[]byte("{}"), []byte("[]")}
			i := 0
			for b.Loop() {
				i++
				if _, err := r.PushManifest(ctx, "a", "v0000050", other[i%2], "text/plain"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRetainedMemory reports how much memory 64 blobs of 1 MiB take, as a
// ratio to their bytes, and how much is left when they are deleted.
func BenchmarkRetainedMemory(b *testing.B) {
	const blobs, size = 64, 1 << 20
	for b.Loop() {
		r := New()
		before := heap()
		data := make([]byte, size)
		for i := range blobs {
			data[0] = byte(i)
			err := chunked(r, func(w ociregistry.BlobWriter) error {
				_, err := w.(io.ReaderFrom).ReadFrom(bytes.NewReader(data))
				return err
			}, digest.FromBytes(data))
			qt.Assert(b, qt.IsNil(err))
		}
		stored := heap() - before
		for i := range blobs {
			data[0] = byte(i)
			qt.Assert(b, qt.IsNil(r.DeleteBlob(ctx, "a", digest.FromBytes(data))))
		}
		b.ReportMetric(float64(stored)/(blobs*size), "stored/bytes")
		b.ReportMetric(float64(heap()-before)/(blobs*size), "left/bytes")
		runtime.KeepAlive(r)
	}
}
