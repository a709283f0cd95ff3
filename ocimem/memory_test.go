package ocimem

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// TestChunksAreSizedByWhatHasCome pushes a little content that claims to be a terabyte.
func TestChunksAreSizedByWhatHasCome(t *testing.T) {
	t.Parallel()
	var largest int
	rd := readerFunc(func(p []byte) (int, error) {
		largest = max(largest, len(p))
		return 0, io.EOF
	})
	_, err := New().PushBlob(ctx, "a", ociregistry.Descriptor{Digest: digest.FromString("x"), Size: 1 << 40}, rd)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrSizeInvalid))
	qt.Assert(t, qt.Equals(largest, firstChunk))

	// However the content arrives, at most a sixteenth of the memory is unused.
	for _, step := range []int{1, 7, 511, 4096, 100_000} {
		b := newBuffer(New(), digest.SHA256)
		for range 300_000 / step {
			chunk := make([]byte, step, 2*step)
			qt.Assert(t, qt.IsNil(b.append(chunk)))
		}
		var have int64
		for _, chunk := range b.content("").chunks {
			have += int64(cap(chunk))
		}
		qt.Assert(t, qt.IsTrue(have <= b.size*17/16), qt.Commentf("step %d: %d for %d bytes", step, have, b.size))
		qt.Assert(t, qt.IsTrue(len(b.chunks) < 1000), qt.Commentf("step %d: %d chunks", step, len(b.chunks)))
	}
}

// TestMemoryIsFreed measures the heap with 64 blobs of 1 MiB, and after they are deleted.
func TestMemoryIsFreed(t *testing.T) {
	// Not parallel: it measures the heap.
	const blobs, size = 64, 1 << 20
	r := New()
	before := heap()
	var descs []ociregistry.Descriptor
	data := make([]byte, size)
	for i := range blobs {
		data[0], data[size-1] = byte(i), byte(i)
		qt.Assert(t, qt.IsNil(chunked(r, func(w ociregistry.BlobWriter) error {
			_, err := w.(io.ReaderFrom).ReadFrom(bytes.NewReader(data))
			return err
		}, digest.FromBytes(data))))
		descs = append(descs, descriptor(data))
	}
	stored := heap() - before
	qt.Assert(t, qt.IsTrue(stored < blobs*size*11/10), qt.Commentf("%d bytes for %d", stored, blobs*size))
	qt.Assert(t, qt.IsTrue(stored > blobs*size*9/10), qt.Commentf("%d bytes for %d", stored, blobs*size))
	for _, desc := range descs {
		qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, "a", desc.Digest)))
	}
	left := heap() - before
	qt.Assert(t, qt.IsTrue(left < size), qt.Commentf("%d bytes are left", left))
	runtime.KeepAlive(r)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMaxBytes_BoundsBlobsManifestsAndUploads(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	r := NewWithConfig(&Config{MaxBytes: limit})
	small := pushBlob(t, r, "a", randomBytes(1, 60_000))
	pushBlob(t, r, "b", randomBytes(1, 60_000)[:0])
	_, err := r.MountBlob(ctx, "a", "b", small.Digest)
	qt.Assert(t, qt.IsNil(err))

	big := randomBytes(2, 60_000)
	_, err = r.PushBlob(ctx, "c", descriptor(big), bytes.NewReader(big))
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	w, err := r.PushBlobChunked(ctx, "c", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.(io.ReaderFrom).ReadFrom(bytes.NewReader(big))
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	qt.Assert(t, qt.Equals(r.used.Load(), 60_000)) // nobody has to cancel it
	_, err = r.PushBlobChunkedResume(ctx, "c", w.ID(), -1, 0)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	_, err = w.Commit(digest.FromString(""))
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied)) // as the Write before it
	qt.Assert(t, qt.IsNil(w.Cancel()))
	_, err = r.PushManifest(ctx, "c", "x", big, "text/plain")
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	qt.Assert(t, qt.Equals(r.used.Load(), 60_000))
	_, err = r.ResolveBlob(ctx, "c", small.Digest)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))

	qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, "a", small.Digest)))
	qt.Assert(t, qt.Equals(r.used.Load(), 60_000)) // b has it
	qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, "b", small.Digest)))
	qt.Assert(t, qt.Equals(r.used.Load(), 0))
	pushBlob(t, r, "c", big)

	_, err = r.PushManifest(ctx, "c", "x", []byte("{}"), "text/plain")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "c", digest.FromString("{}"))))
	qt.Assert(t, qt.Equals(r.used.Load(), 60_000))
}

// TestBlobIsStoredOnce checks that repositories share the memory of a blob.
func TestBlobIsStoredOnce(t *testing.T) {
	t.Parallel()
	r := New()
	data := randomBytes(3, 50_000)
	desc := pushBlob(t, r, "a", data)
	pushBlob(t, r, "b", data)
	_, err := r.MountBlob(ctx, "", "c", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.used.Load(), 50_000))
	open, err := r.GetBlob(ctx, "c", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	for _, repo := range []string{"a", "b", "c"} {
		qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, repo, desc.Digest)))
	}
	qt.Assert(t, qt.HasLen(r.store.blobs, 0))
	qt.Assert(t, qt.HasLen(r.repos, 0))
	qt.Assert(t, qt.IsTrue(bytes.Equal(readAll(t, open), data)))
	_, err = r.MountBlob(ctx, "", "c", desc.Digest)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
}

// TestRefusedBytesAreNotCounted acquires bytes that fit and bytes that do not, concurrently.
func TestRefusedBytesAreNotCounted(t *testing.T) {
	t.Parallel()
	r := NewWithConfig(&Config{MaxBytes: 1000})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 20_000 {
				if err := r.acquireBytes(1001); !errors.Is(err, ociregistry.ErrDenied) {
					t.Errorf("1001 bytes: got error %v", err)
				}
			}
		})
	}
	for range 20_000 {
		qt.Check(t, qt.IsNil(r.acquireBytes(500)))
		r.releaseBytes(500)
	}
	wg.Wait()
	qt.Assert(t, qt.Equals(r.used.Load(), 0))
}

// TestRequestsAreNotKept passes names that are a part of a long string, as names in a URL
// can be.
func TestRequestsAreNotKept(t *testing.T) {
	// Not parallel: it measures the heap.
	const n, size = 16, 1 << 20
	part := func(s string) string { return (s + strings.Repeat("x", size))[:len(s)] }
	r := New()
	before := heap()
	for i := range n {
		repo, data := fmt.Sprint("a", i), []byte(fmt.Sprint(i))
		sum := digest.FromBytes(data)
		_, err := r.PushBlob(ctx, part(repo), ociregistry.Descriptor{Digest: digest.Digest(part(string(sum))), Size: int64(len(data))}, bytes.NewReader(data))
		qt.Assert(t, qt.IsNil(err))
		_, err = r.MountBlob(ctx, part(repo), "b", digest.Digest(part(string(sum))))
		qt.Assert(t, qt.IsNil(err))
		_, err = r.PushBlobChunked(ctx, part(repo), 0)
		qt.Assert(t, qt.IsNil(err))
		for range 2 { // a tag that is set again
			_, err = r.PushManifest(ctx, "b", part(string(sum)), data, part("text/plain"), part(repo))
			qt.Assert(t, qt.IsNil(err))
		}
	}
	grown := heap() - before
	qt.Assert(t, qt.IsTrue(grown < size), qt.Commentf("%d bytes are kept", grown))
	runtime.KeepAlive(r)
}

// TestDeletedManifestsAreNotKept deletes large manifests that name the same content as small
// ones.
func TestDeletedManifestsAreNotKept(t *testing.T) {
	// Not parallel: it measures the heap.
	const n, size = 16, 1 << 20
	r := New()
	pad := strings.Repeat("x", size)
	before := heap()
	for i := range n {
		desc := pushBlob(t, r, "a", []byte(fmt.Sprint(i)))
		image := func(pad string) []byte {
			return fmt.Appendf(nil, `{"config":{"digest":%q,"size":%d},"subject":{"digest":%q},"annotations":{"pad":%q}}`, desc.Digest, desc.Size, digest.FromString(fmt.Sprint("subject", i)), pad)
		}
		order := [][]byte{image(""), image(pad)}
		if i%2 == 0 {
			order[0], order[1] = order[1], order[0]
		}
		for _, m := range order {
			_, err := r.PushManifest(ctx, "a", "", m, ocispec.MediaTypeImageManifest)
			qt.Assert(t, qt.IsNil(err))
		}
		qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromBytes(image(pad)))))
	}
	grown := heap() - before
	qt.Assert(t, qt.IsTrue(grown < size), qt.Commentf("%d bytes are kept", grown))
	runtime.KeepAlive(r)
}

// TestManifestsAreStoredOnce pushes manifests of which almost every byte is parsed.
func TestManifestsAreStoredOnce(t *testing.T) {
	// Not parallel: it measures the heap.
	const n, size = 16, 1 << 20
	r := New()
	pad := strings.Repeat("x", size)
	before := heap()
	for i := range n {
		contents := fmt.Appendf(nil, `{"manifests":[],"annotations":{"pad%d":%q}}`, i, pad)
		_, err := r.PushManifest(ctx, "a", "", contents, ocispec.MediaTypeImageIndex)
		qt.Assert(t, qt.IsNil(err))
	}
	grown := heap() - before
	qt.Assert(t, qt.IsTrue(grown < n*size*11/10), qt.Commentf("%d bytes for %d", grown, n*size))
	runtime.KeepAlive(r)
}
