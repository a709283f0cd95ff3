package ocifs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Nothing is left of ended uploads, however they ended.
func TestSession_LeavesNothingAfterItsEnd(t *testing.T) {
	t.Parallel()
	const repo = "app"
	start := func(t *testing.T, f *fixture, content []byte) ociregistry.BlobWriter {
		w, err := f.PushBlobChunked(t.Context(), repo, 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(content)
		qt.Assert(t, qt.IsNil(err))
		return w
	}
	errRead := errors.New("reader failed")
	ends := []struct {
		name string
		end  func(t *testing.T, f *fixture, content []byte)
		blob bool // whether it became one
	}{
		{"cancelled", func(t *testing.T, f *fixture, content []byte) {
			qt.Check(t, qt.IsNil(start(t, f, content).Cancel()))
		}, false},
		{"cancelled after Close", func(t *testing.T, f *fixture, content []byte) {
			w := start(t, f, content)
			qt.Check(t, qt.IsNil(w.Close()))
			qt.Check(t, qt.IsNil(w.Cancel()))
		}, false},
		{"cancelled after a restart", func(t *testing.T, f *fixture, content []byte) {
			w := start(t, f, content)
			f.reopen()
			w, err := f.PushBlobChunkedResume(t.Context(), repo, w.ID(), -1, 0)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsNil(w.Cancel()))
		}, false},
		{"committed", func(t *testing.T, f *fixture, content []byte) {
			_, err := start(t, f, content).Commit(describe(content).Digest)
			qt.Check(t, qt.IsNil(err))
		}, true},
		{"committed as SHA-512", func(t *testing.T, f *fixture, content []byte) {
			_, err := start(t, f, content).Commit(digest.SHA512.FromBytes(content))
			qt.Check(t, qt.IsNil(err))
			_, err = start(t, f, content).Commit(describe(content).Digest)
			qt.Check(t, qt.IsNil(err))
		}, true},
		{"committed twice", func(t *testing.T, f *fixture, content []byte) {
			for range 2 {
				_, err := start(t, f, content).Commit(describe(content).Digest)
				qt.Check(t, qt.IsNil(err))
			}
		}, true},
		{"committed with the wrong digest", func(t *testing.T, f *fixture, content []byte) {
			_, err := start(t, f, content).Commit(digest.FromString("other"))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDigestInvalid)))
		}, false},
		{"pushed", func(t *testing.T, f *fixture, content []byte) {
			qt.Check(t, qt.IsNil(pushBlob(t.Context(), f, repo, content)))
		}, true},
		{"pushed twice", func(t *testing.T, f *fixture, content []byte) {
			qt.Check(t, qt.IsNil(pushBlob(t.Context(), f, repo, content)))
			qt.Check(t, qt.IsNil(pushBlob(t.Context(), f, repo, content)))
		}, true},
		{"pushed with the wrong digest", func(t *testing.T, f *fixture, content []byte) {
			desc := describe(content)
			desc.Digest = digest.FromString("other")
			_, err := f.PushBlob(t.Context(), repo, desc, bytes.NewReader(content))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDigestInvalid)))
		}, false},
		{"pushed with the wrong size", func(t *testing.T, f *fixture, content []byte) {
			for _, by := range []int64{-1, 1} {
				desc := describe(content)
				desc.Size += by
				_, err := f.PushBlob(t.Context(), repo, desc, bytes.NewReader(content))
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrSizeInvalid)))
			}
		}, false},
		{"pushed by a reader that fails", func(t *testing.T, f *fixture, content []byte) {
			r := io.MultiReader(bytes.NewReader(content[:len(content)-1]), failingReader{errRead})
			_, err := f.PushBlob(t.Context(), repo, describe(content), r)
			qt.Check(t, qt.ErrorIs(err, errRead))
		}, false},
		{"pushed when the context has ended", func(t *testing.T, f *fixture, content []byte) {
			ctx, cancel := context.WithCancel(t.Context())
			r := io.MultiReader(bytes.NewReader(content[:100]), readerFunc(func(p []byte) (int, error) {
				cancel()
				return copy(p, content[100:]), nil
			}))
			_, err := f.PushBlob(ctx, repo, describe(content), r)
			qt.Check(t, qt.IsNotNil(err))
		}, false},
	}
	for _, e := range ends {
		for _, size := range []int64{200, 300_000} {
			t.Run(fmt.Sprint(e.name, "/", size), func(t *testing.T) {
				t.Parallel()
				disktest.Still(t, func(t *testing.T) {
					f := newFixture(t, ocifs.Options{})
					content := data(1, size)
					e.end(t, f, content)
					if e.blob {
						wantBlob(t, f, repo, content)
					} else {
						wantRepositories(t, f)
					}
					wantEmptyPrivate(t, f)
					var bytes int64
					for name, what := range tree(t, f.dir) {
						if strings.Contains(what, string(content[:100])) {
							bytes++
							qt.Check(t, qt.StringContains(name, "blobs"))
						}
					}
					if !e.blob {
						qt.Check(t, qt.Equals(bytes, 0))
					}
				})
			})
		}
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A limit on bytes shows that the bytes of ended sessions are released.
func TestSession_ReleasesItsBytesAtItsEnd(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		const repo = "app"
		f := newFixture(t, ocifs.Options{MaxBytes: 100_000, UploadExpiry: time.Hour})
		content := data(1, 90_000)
		for i := range 10 {
			w, err := f.PushBlobChunked(t.Context(), repo, 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = w.Write(content)
			qt.Assert(t, qt.IsNil(err), qt.Commentf("round %d", i))
			switch i % 5 {
			case 0:
				err = w.Cancel()
			case 1:
				if _, err = w.Commit(digest.FromString("other")); errors.Is(err, ociregistry.ErrDigestInvalid) {
					err = nil
				}
			case 2:
				_, err = w.Commit(describe(content).Digest)
				qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, describe(content).Digest)))
			case 3:
				f.reopen()
				w, err = f.PushBlobChunkedResume(t.Context(), repo, w.ID(), -1, 0)
				qt.Assert(t, qt.IsNil(err))
				err = w.Cancel()
			case 4:
				qt.Assert(t, qt.IsNil(w.Close()))
				age(t, filepath.Join(f.dir, ".ocifs", "uploads"), 2*time.Hour)
				if _, err = f.PushBlobChunkedResume(t.Context(), repo, w.ID(), -1, 0); errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
					err = nil
				}
			}
			qt.Assert(t, qt.IsNil(err), qt.Commentf("round %d", i))
		}
		wantEmptyPrivate(t, f)
	})
}
