package ocimem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

var ctx = context.Background()

func randomBytes(seed uint64, n int) []byte {
	data := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	src.Read(data)
	return data
}

func descriptor(data []byte) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func pushBlob(t testing.TB, r ociregistry.Interface, repo string, data []byte) ociregistry.Descriptor {
	t.Helper()
	desc, err := r.PushBlob(ctx, repo, descriptor(data), bytes.NewReader(data))
	qt.Assert(t, qt.IsNil(err))
	return desc
}

func readAll(t testing.TB, r io.ReadCloser) []byte {
	t.Helper()
	data, err := io.ReadAll(r)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.Close()))
	return data
}

func TestBlobsOfAnySizeReadBackByEveryWay(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, minChunk - 1, minChunk, minChunk + 1, 3 * minChunk, maxChunk - 1, maxChunk, maxChunk + 1, 5*maxChunk + 7} {
		data := randomBytes(uint64(size), size)
		pushes := map[string]func(r *Registry) error{
			"PushBlob": func(r *Registry) error {
				_, err := r.PushBlob(ctx, "a", descriptor(data), iotest.HalfReader(bytes.NewReader(data)))
				return err
			},
			"ReadFrom": func(r *Registry) error {
				return chunked(r, func(w ociregistry.BlobWriter) error {
					_, err := w.(io.ReaderFrom).ReadFrom(iotest.DataErrReader(bytes.NewReader(data)))
					return err
				}, digest.FromBytes(data))
			},
			"Write": func(r *Registry) error {
				return chunked(r, func(w ociregistry.BlobWriter) error {
					for rest := data; len(rest) > 0; {
						n := min(len(rest), 1000)
						if _, err := w.Write(rest[:n]); err != nil {
							return err
						}
						rest = rest[n:]
					}
					return nil
				}, digest.FromBytes(data))
			},
		}
		for name, push := range pushes {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				t.Parallel()
				r := New()
				qt.Assert(t, qt.IsNil(push(r)))
				b, err := r.GetBlob(ctx, "a", digest.FromBytes(data))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(iotest.TestReader(b, data)))
				b, err = r.GetBlobRange(ctx, "a", digest.FromBytes(data), int64(size/3), int64(size-size/3))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(iotest.TestReader(b, data[size/3:size-size/3])))
				var buf bytes.Buffer
				b, _ = r.GetBlob(ctx, "a", digest.FromBytes(data))
				n, err := b.(io.WriterTo).WriteTo(&buf)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(n, int64(size)))
				qt.Assert(t, qt.IsTrue(bytes.Equal(buf.Bytes(), data)))
			})
		}
	}
}

func chunked(r *Registry, write func(ociregistry.BlobWriter) error, dgst ociregistry.Digest) error {
	w, err := r.PushBlobChunked(ctx, "a", 0)
	if err != nil {
		return err
	}
	if err := write(w); err != nil {
		return err
	}
	_, err = w.Commit(dgst)
	return err
}

// TestChunksAreSizedByWhatHasCome looks at allocation by a claim: a push that
// claims a terabyte and sends a little.
func TestChunksAreSizedByWhatHasCome(t *testing.T) {
	t.Parallel()
	var largest int
	rd := readerFunc(func(p []byte) (int, error) {
		largest = max(largest, len(p))
		return 0, io.EOF
	})
	_, err := New().PushBlob(ctx, "a", ociregistry.Descriptor{Digest: digest.FromString("x"), Size: 1 << 40}, rd)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrSizeInvalid))
	qt.Assert(t, qt.Equals(largest, minChunk))

	// However it comes, at most a sixteenth is kept unused.
	for _, step := range []int{1, 7, 511, 4096, 100_000} {
		b := newBuffer(New(), digest.SHA256)
		for range 300_000 / step {
			chunk := make([]byte, step, 2*step)
			qt.Assert(t, qt.IsNil(b.append(chunk)))
		}
		var have int64
		for _, chunk := range b.content().chunks {
			have += int64(cap(chunk))
		}
		qt.Assert(t, qt.IsTrue(have <= b.size*17/16), qt.Commentf("step %d: %d for %d bytes", step, have, b.size))
		qt.Assert(t, qt.IsTrue(len(b.chunks) < 1000), qt.Commentf("step %d: %d chunks", step, len(b.chunks)))
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestMemoryIsFreed pushes 64 blobs of 1 MiB and looks at the heap, with them
// and without them.
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

func TestUploadMemoryIsFreed(t *testing.T) {
	t.Parallel()
	data := randomBytes(1, 100_000)
	ends := map[string]func(w ociregistry.BlobWriter) error{
		"Cancel":      func(w ociregistry.BlobWriter) error { return w.Cancel() },
		"CommitWrong": func(w ociregistry.BlobWriter) error { _, err := w.Commit(digest.FromString("x")); return err },
		"CommitDup":   func(w ociregistry.BlobWriter) error { _, err := w.Commit(digest.FromBytes(data)); return err },
		"Expire":      func(w ociregistry.BlobWriter) error { time.Sleep(DefaultUploadExpiry); return nil },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := New()
				pushBlob(t, r, "a", data)
				w, err := r.PushBlobChunked(ctx, "a", 0)
				qt.Assert(t, qt.IsNil(err))
				_, err = w.Write(data)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(r.used.Load(), 200_000))
				end(w)
				synctest.Wait()
				qt.Assert(t, qt.Equals(r.used.Load(), 100_000))
				qt.Assert(t, qt.HasLen(r.uploads.open, 0))
				_, err = r.PushBlobChunkedResume(ctx, "a", w.ID(), -1, 0)
				qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			})
		})
	}
}

func TestUploadsExpireWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewWithConfig(&Config{UploadExpiry: time.Minute})
		w, err := r.PushBlobChunked(ctx, "a", 0)
		qt.Assert(t, qt.IsNil(err))
		for range 3 { // in use, it lives longer than its expiry
			time.Sleep(40 * time.Second)
			_, err = w.Write([]byte("x"))
			qt.Assert(t, qt.IsNil(err))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		_, err = w.Write([]byte("x"))
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
		qt.Assert(t, qt.Equals(r.used.Load(), 0))

		r = NewWithConfig(&Config{UploadExpiry: -1})
		w, err = r.PushBlobChunked(ctx, "a", 0)
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(1000 * time.Hour)
		_, err = w.Commit(digest.FromString(""))
		qt.Assert(t, qt.IsNil(err))
	})
}

func TestNeverIssuedUploadID(t *testing.T) {
	t.Parallel()
	r := New()
	_, err := r.PushBlobChunkedResume(ctx, "a", "1", 3, 0)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	w, err := r.PushBlobChunkedResume(ctx, "a", "1", 0, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(w.ID(), "1"))
	qt.Assert(t, qt.HasLen(r.uploads.open, 0))
	other, err := r.PushBlobChunkedResume(ctx, "a", "1", -1, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Write([]byte("abc"))
	qt.Assert(t, qt.IsNil(err))
	_, err = other.Write([]byte("xyz"))
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	_, err = w.Commit(digest.FromString("abc"))
	qt.Assert(t, qt.IsNil(err))

	for _, id := range []string{"", ".", "..", "a/b", `a\b`, "a\x00", "\xff", "a\nb", strings.Repeat("x", 257)} {
		_, err := r.PushBlobChunkedResume(ctx, "a", id, -1, 0)
		qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown), qt.Commentf("%q", id))
	}

	// An id that was issued for one repository is not a new name in another.
	w, err = r.PushBlobChunked(ctx, "a", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushBlobChunkedResume(ctx, "b", w.ID(), -1, 0)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
}

func TestMaxBytes(t *testing.T) {
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

func TestImmutableTags(t *testing.T) {
	t.Parallel()
	r := NewWithConfig(&Config{ImmutableTags: true})
	push := func(ref, contents, mediaType string, tags ...string) error {
		_, err := r.PushManifest(ctx, "a", ref, []byte(contents), mediaType, tags...)
		return err
	}
	one := digest.FromString("one")
	qt.Assert(t, qt.IsNil(push("v1", "one", "text/plain")))
	qt.Assert(t, qt.IsNil(push("v1", "one", "text/plain", "v1.0")))
	qt.Assert(t, qt.ErrorIs(push("v1", "two", "text/plain"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(push("v2", "two", "text/plain", "v3", "v1"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(push("", "one", "text/html"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(r.DeleteTag(ctx, "a", "v1"), ociregistry.ErrDenied))
	qt.Assert(t, qt.ErrorIs(r.DeleteManifest(ctx, "a", one), ociregistry.ErrDenied))
	tags, err := ociregistry.All(r.Tags(ctx, "a", ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(tags, []string{"v1", "v1.0"}))

	qt.Assert(t, qt.IsNil(push("", "two", "text/plain")))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromString("two"))))
}

func TestLaxAndSparse(t *testing.T) {
	t.Parallel()
	image := []byte(`{"config":{"mediaType":"a/b","size":1,"digest":"` + string(digest.FromString("x")) + `"}}`)
	index := []byte(`{"manifests":[{"mediaType":"a/b","size":1,"digest":"` + string(digest.FromBytes(image)) + `"}]}`)
	tests := []struct {
		name       string
		cfg        Config
		push, drop error
	}{
		{"Strict", Config{}, ociregistry.ErrManifestBlobUnknown, ociregistry.ErrInUse},
		{"Lax", Config{LaxChildReferences: true}, nil, ociregistry.ErrInUse},
		{"Sparse", Config{Sparse: true}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := NewWithConfig(&test.cfg)
			_, err := r.PushManifest(ctx, "a", "i", image, ocispec.MediaTypeImageManifest)
			checkError(t, err, test.push)
			pushBlob(t, r, "a", []byte("x"))
			_, err = r.PushManifest(ctx, "a", "i", image, ocispec.MediaTypeImageManifest)
			qt.Assert(t, qt.IsNil(err))
			_, err = r.PushManifest(ctx, "a", "x", index, ocispec.MediaTypeImageIndex)
			qt.Assert(t, qt.IsNil(err))
			checkError(t, r.DeleteBlob(ctx, "a", digest.FromString("x")), test.drop)
			checkError(t, r.DeleteManifest(ctx, "a", digest.FromBytes(image)), test.drop)
		})
	}
}

func checkError(t *testing.T, got, want error) {
	t.Helper()
	qt.Assert(t, qt.IsTrue(errors.Is(got, want)), qt.Commentf("got %v, want %v", got, want))
}

// TestMediaTypeIsReplaced pushes bytes that are an index to some and anything
// to others.
func TestMediaTypeIsReplaced(t *testing.T) {
	t.Parallel()
	r := New()
	child := []byte(`{"manifests":[]}`)
	index := []byte(`{"manifests":[{"size":16,"digest":"` + string(digest.FromBytes(child)) + `"}]}`)
	_, err := r.PushManifest(ctx, "a", "i", index, "text/plain")
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushManifest(ctx, "a", "", child, ocispec.MediaTypeImageIndex)
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushManifest(ctx, "a", "", index, ocispec.MediaTypeImageIndex)
	qt.Assert(t, qt.IsNil(err))
	desc, err := r.ResolveTag(ctx, "a", "i")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(desc.MediaType, ocispec.MediaTypeImageIndex))
	qt.Assert(t, qt.ErrorIs(r.DeleteManifest(ctx, "a", digest.FromBytes(child)), ociregistry.ErrInUse))
	_, err = r.PushManifest(ctx, "a", "", index, "text/plain")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromBytes(child))))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromBytes(index))))
	_, err = r.ResolveTag(ctx, "a", "i")
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
}

// TestBlobIsStoredOnce looks at the sharing between repositories.
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

// TestRepositoriesComeAndGo races the creation and removal of one repository.
func TestRepositoriesComeAndGo(t *testing.T) {
	t.Parallel()
	r := New()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			data := []byte{byte(i)}
			for range 300 {
				pushBlob(t, r, "a", data)
				if _, err := r.ResolveBlob(ctx, "a", digest.FromBytes(data)); err != nil {
					t.Errorf("pushed and not there: %v", err)
				}
				if err := r.DeleteBlob(ctx, "a", digest.FromBytes(data)); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	qt.Assert(t, qt.HasLen(r.repos, 0))
	qt.Assert(t, qt.Equals(r.names.Len(), 0))
	qt.Assert(t, qt.Equals(r.used.Load(), 0))
}

// TestReadFromKeepsWhatWasRead ends the context in the middle of a read.
func TestReadFromKeepsWhatWasRead(t *testing.T) {
	t.Parallel()
	r := New()
	ctx, cancel := context.WithCancel(context.Background())
	w, err := r.PushBlobChunked(ctx, "a", 0)
	qt.Assert(t, qt.IsNil(err))
	n, err := w.(io.ReaderFrom).ReadFrom(readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, "abc"), nil
	}))
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	qt.Assert(t, qt.Equals(n, 3))
	_, err = w.Write([]byte("x"))
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	_, err = w.Commit(digest.FromString("abc"))
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	qt.Assert(t, qt.IsNil(w.Close()))
	w, err = r.PushBlobChunkedResume(context.Background(), "a", w.ID(), -1, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Commit(digest.FromString("abc"))
	qt.Assert(t, qt.IsNil(err))
}
