package ocimem

import (
	"context"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

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

func TestUploadsAreBoundedInNumber(t *testing.T) {
	t.Parallel()
	r := NewWithConfig(&Config{MaxUploads: 2})
	first, err := r.PushBlobChunked(ctx, "a", 0)
	qt.Assert(t, qt.IsNil(err))
	named, err := r.PushBlobChunkedResume(ctx, "a", "never-issued", 0, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = named.Write([]byte("x"))
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushBlobChunked(ctx, "b", 0)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrTooManyRequests)))
	late, err := r.PushBlobChunkedResume(ctx, "b", "another", 0, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = late.Write([]byte("x"))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrTooManyRequests)))
	_, err = named.Write([]byte("y")) // one that is open goes on
	qt.Check(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(first.Cancel()))
	_, err = r.PushBlobChunked(ctx, "b", 0)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.used.Load(), 2))
}

// TestSweepsComeOnlyWhileNeeded checks whether a sweep is scheduled before, during and after
// a session.
func TestSweepsComeOnlyWhileNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New()
		sweeping := func() bool {
			synctest.Wait()
			r.uploads.mu.Lock()
			defer r.uploads.mu.Unlock()
			return r.uploads.sweeping
		}
		qt.Check(t, qt.IsFalse(sweeping()))
		w, err := r.PushBlobChunked(ctx, "a", 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Commit(digest.FromString(""))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(sweeping()))

		// The sweep that was meant for the first upload finds another, later one.
		time.Sleep(DefaultUploadExpiry / 2)
		w, err = r.PushBlobChunked(ctx, "a", 0)
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(DefaultUploadExpiry / 2)
		qt.Check(t, qt.IsTrue(sweeping()))
		qt.Check(t, qt.HasLen(r.uploads.open, 1))
		time.Sleep(DefaultUploadExpiry / 2)
		qt.Check(t, qt.IsFalse(sweeping()))
		qt.Check(t, qt.HasLen(r.uploads.open, 0))
		_, err = w.Write([]byte("x"))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	})
}

// TestTimerDoesNotKeepTheRegistry drops a registry that has an open upload.
func TestTimerDoesNotKeepTheRegistry(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	func() {
		r := New()
		runtime.AddCleanup(r, func(gone chan struct{}) { close(gone) }, gone)
		_, err := r.PushBlobChunked(ctx, "a", 0)
		qt.Assert(t, qt.IsNil(err))
	}()
	for range 10_000 {
		runtime.GC()
		select {
		case <-gone:
			return
		default:
			runtime.Gosched()
		}
	}
	t.Error("the registry is still in memory")
}

func TestNeverIssuedUploadID_BeginsASessionAtZero(t *testing.T) {
	t.Parallel()
	r := New()
	_, err := r.PushBlobChunkedResume(ctx, "a", "1", 3, 0)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	w, err := r.PushBlobChunkedResume(ctx, "a", "1", 0, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(w.ID(), "1"))
	qt.Assert(t, qt.HasLen(r.uploads.open, 0))
	_, err = r.PushBlobChunkedResume(ctx, "a", "1", -1, 0)
	qt.Assert(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown))) // it is nowhere yet
	other, err := r.PushBlobChunkedResume(ctx, "a", "1", 0, 0)
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

	// An id that was issued for one repository does not begin a session in another.
	w, err = r.PushBlobChunked(ctx, "a", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushBlobChunkedResume(ctx, "b", w.ID(), -1, 0)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
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
