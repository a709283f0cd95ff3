package ocifs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// uploadSizes are sizes on both sides of the limits: of the journal, of a page, and
// of the buffers.
var uploadSizes = []int64{0, 1, 4096, 16 << 10, 16<<10 + 1, 64 << 10, 300_001}

// An upload returns the length, stores verified content, and fails with a malformed
// digest.
func TestUpload_ReturnsLengthAndVerifiesDigest(t *testing.T) {
	t.Parallel()
	const repo = "app"
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		ctx := t.Context()
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			for i, size := range uploadSizes {
				monolithic, chunked := data(uint64(i), size), data(uint64(100+i), size)
				d := alg.FromBytes(monolithic)
				desc, err := r.PushBlob(ctx, repo, ociregistry.Descriptor{Digest: d, Size: size}, bytes.NewReader(monolithic))
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(desc.Size, size))
				qt.Check(t, qt.Equals(desc.Digest, d))

				d = alg.FromBytes(chunked)
				for _, hint := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
					w, err := r.PushBlobChunked(ociregistry.WithDigestAlgorithm(ctx, hint), repo, 0)
					qt.Assert(t, qt.IsNil(err))
					for p := chunked; len(p) > 0; p = p[min(len(p), 40_000):] {
						n, err := w.Write(p[:min(len(p), 40_000)])
						qt.Assert(t, qt.IsNil(err))
						qt.Check(t, qt.Equals(n, min(len(p), 40_000)))
					}
					desc, err = w.Commit(d)
					qt.Assert(t, qt.IsNil(err))
					qt.Check(t, qt.Equals(desc.Size, size))
					qt.Check(t, qt.Equals(desc.Digest, d))
				}
				for _, content := range [][]byte{monolithic, chunked} {
					text, err := read(r.GetBlob(ctx, repo, alg.FromBytes(content)))
					qt.Assert(t, qt.IsNil(err))
					qt.Check(t, qt.IsTrue(text == string(content)))
				}
			}
		}
	})
}

// The file on disk has the bytes of the digest.
func TestUpload_FileHasBytesOfDigest(t *testing.T) {
	t.Parallel()
	const repo = "app"
	f := newFixture(t, ocifs.Options{})
	for i, size := range uploadSizes {
		must(t, f).MustPushBlob(repo, data(uint64(i), size))
		qt.Assert(t, qt.IsNil(upload(t.Context(), f, repo, data(uint64(100+i), size))))
	}
	f.close()
	blobs := f.layout(repo).blobs // checked
	for i, size := range uploadSizes {
		for _, seed := range []uint64{uint64(i), uint64(100 + i)} {
			n, ok := blobs[describe(data(seed, size)).Digest]
			qt.Check(t, qt.IsTrue(ok))
			qt.Check(t, qt.Equals(n, size))
		}
	}
}

var malformedDigests = []ociregistry.Digest{
	"", "sha256", "sha256:", "sha256:abc", "sha256:../../../../etc/passwd", "../../x:" + digest.Digest(strings.Repeat("a", 64)),
	"sha256:" + digest.Digest(strings.Repeat("A", 64)), "sha256:" + digest.Digest(strings.Repeat("a", 65)), "md5:d41d8cd98f00b204e9800998ecf8427e",
	"sha256:" + digest.Digest(strings.Repeat("\x00", 64)), "sha256:" + digest.Digest(strings.Repeat("a", 31)) + "/" + digest.Digest(strings.Repeat("a", 32)),
}

func TestUpload_RefusesMalformedDigest(t *testing.T) {
	t.Parallel()
	const repo = "app"
	content := data(1, 20_000)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		ctx := t.Context()
		for _, d := range malformedDigests {
			_, err := r.PushBlob(ctx, repo, ociregistry.Descriptor{Digest: d, Size: int64(len(content))}, bytes.NewReader(content))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDigestInvalid)), qt.Commentf("%q", d))
		}
		w, err := r.PushBlobChunked(ctx, repo, 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(content)
		qt.Assert(t, qt.IsNil(err))
		for _, d := range malformedDigests {
			_, err = w.Commit(d)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDigestInvalid)), qt.Commentf("%q", d))
		}
		wantRepositories(t, r)
		_, err = w.Commit(describe(content).Digest) // the session stayed
		qt.Assert(t, qt.IsNil(err))
		wantBlob(t, r, repo, content)
	})
}

// A cancelled, committed or invented session is unknown to everybody.
func TestSession_IsUnknownAfterItsEnd(t *testing.T) {
	t.Parallel()
	const repo = "app"
	content := data(1, 50_000)
	ends := []struct {
		name string
		end  func(w ociregistry.BlobWriter) error
	}{
		{"cancel", func(w ociregistry.BlobWriter) error { return w.Cancel() }},
		{"cancel after Close", func(w ociregistry.BlobWriter) error { return errors.Join(w.Close(), w.Cancel()) }},
		{"commit", func(w ociregistry.BlobWriter) error {
			_, err := w.Commit(describe(content).Digest)
			return err
		}},
		{"commit with the wrong digest", func(w ociregistry.BlobWriter) error {
			if _, err := w.Commit(digest.FromString("other")); !errors.Is(err, ociregistry.ErrDigestInvalid) {
				return fmt.Errorf("got %v", err)
			}
			return nil
		}},
	}
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		ctx := t.Context()
		for _, written := range []bool{false, true} {
			for _, e := range ends {
				if !written && e.name == "commit" {
					continue
				}
				w, err := r.PushBlobChunked(ctx, repo, 0)
				qt.Assert(t, qt.IsNil(err))
				if written {
					_, err = w.Write(content)
					qt.Assert(t, qt.IsNil(err))
				}
				other, err := r.PushBlobChunkedResume(ctx, repo, w.ID(), -1, 0)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(e.end(w)), qt.Commentf(e.name))
				for _, offset := range []int64{-1, 0, w.Size()} {
					_, err = r.PushBlobChunkedResume(ctx, repo, w.ID(), offset, 0)
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)), qt.Commentf(e.name))
				}
				for _, w := range []ociregistry.BlobWriter{w, other} {
					qt.Check(t, qt.IsNil(w.Cancel()), qt.Commentf(e.name)) // can be deferred
					_, err = w.Write([]byte("more"))
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)), qt.Commentf(e.name))
					_, err = w.Commit(describe(content).Digest)
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)), qt.Commentf(e.name))
					qt.Check(t, qt.IsNil(w.Close()))
				}
			}
		}
		wantBlob(t, r, repo, content) // the one that was committed
	})
}

// An id that the registry did not issue never reaches a path, even if there is
// something like a session at that path.
func TestSession_HostileIDReachesNoPath(t *testing.T) {
	t.Parallel()
	const repo = "app"
	f := newFixture(t, ocifs.Options{})
	w, err := f.PushBlobChunked(t.Context(), repo, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Write([]byte("content"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	id := w.ID()

	// The files of the session are also where the ids below would lead to.
	uploads := filepath.Join(f.dir, ".ocifs", "uploads")
	files, err := os.ReadDir(uploads)
	qt.Assert(t, qt.IsNil(err))
	outside := scratch.Kept(t)
	places := []string{f.dir, filepath.Join(f.dir, ".ocifs"), filepath.Join(uploads, "sub"), filepath.Join(f.dir, ".ocifs", "staging"), outside}
	for _, dir := range places {
		qt.Assert(t, qt.IsNil(os.MkdirAll(dir, 0o777)))
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(uploads, file.Name()))
			qt.Assert(t, qt.IsNil(err))
			writeFile(t, filepath.Join(dir, file.Name()), string(text))
		}
	}
	before := tree(t, f.dir)
	ids := []string{
		"", ".", "..", "/", "../" + id, "../../" + id, "../uploads/" + id, "./" + id, "sub/" + id, "sub/../" + id, `sub\` + id, `..\` + id, id + "/", id + "/.",
		filepath.Join(outside, id), filepath.Join(uploads, id), "/" + id, "//" + id, id + ".state", id + "\x00", "\x00" + id, id + " ", " " + id, id + "\n",
		strings.ToLower(id), id[:len(id)-1], id + "A", "\xff\xfe" + id[2:], "é" + id[2:], strings.Repeat("A", 1<<16), "*", id[:25] + "?", id[:25] + "/", id[:25] + "%2f",
	}
	for _, hostile := range ids {
		for _, offset := range []int64{-1, 0, 7} {
			_, err := f.PushBlobChunkedResume(t.Context(), repo, hostile, offset, 0)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)), qt.Commentf("%.60q", hostile))
		}
	}
	_, err = f.PushBlobChunkedResume(t.Context(), "other", id, -1, 0)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown))) // is the session of a repository
	qt.Check(t, qt.DeepEquals(tree(t, f.dir), before))

	w, err = f.PushBlobChunkedResume(t.Context(), repo, id, 7, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Commit(digest.FromString("content"))
	qt.Assert(t, qt.IsNil(err))
}

// A chunk that does not begin at the end of the session is refused, and the session
// continues.
func TestSession_RefusesWrongOffsetAndContinues(t *testing.T) {
	t.Parallel()
	const repo = "app"
	content := data(1, 30_000)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		ctx := t.Context()
		w, err := r.PushBlobChunked(ctx, repo, 0)
		qt.Assert(t, qt.IsNil(err))
		for sent := int64(0); sent < 30_000; {
			for _, offset := range []int64{0, sent - 1, sent + 1, sent - 10_000, sent + 10_000, 30_000, 1 << 62, -2, -1 << 63} {
				if offset == sent || offset == -1 {
					continue
				}
				_, err := r.PushBlobChunkedResume(ctx, repo, w.ID(), offset, 0)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)), qt.Commentf("at %d instead of %d", offset, sent))
			}
			next, err := r.PushBlobChunkedResume(ctx, repo, w.ID(), sent, 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = next.Write(content[sent : sent+10_000])
			qt.Assert(t, qt.IsNil(err))
			if sent > 0 { // w is behind now
				_, err = w.Write(content[:1])
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
				_, err = w.Commit(describe(content).Digest)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
			}
			sent += 10_000
			w = next
		}
		_, err = w.Commit(describe(content).Digest)
		qt.Assert(t, qt.IsNil(err))
		wantBlob(t, r, repo, content)
	})
}

// A session reports its size, and continues there if no offset is given.
func TestSession_ReportsItsSize(t *testing.T) {
	t.Parallel()
	const repo = "app"
	content := data(1, 100_000)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		ctx := t.Context()
		w, err := r.PushBlobChunked(ctx, repo, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(w.Size(), 0))
		id, sent := w.ID(), int64(0)
		for i, n := range []int64{1, 0, 63, 65, 4096, 16 << 10, 40_000, 39_391} {
			if i%2 == 1 {
				qt.Assert(t, qt.IsNil(w.Close()))
				w, err = r.PushBlobChunkedResume(ctx, repo, id, -1, 0)
				qt.Assert(t, qt.IsNil(err))
			}
			qt.Check(t, qt.Equals(w.Size(), sent))
			_, err = w.Write(content[sent : sent+n])
			qt.Assert(t, qt.IsNil(err))
			sent += n
			qt.Check(t, qt.Equals(w.Size(), sent))
			qt.Check(t, qt.Equals(w.ID(), id))
			other, err := r.PushBlobChunkedResume(ctx, repo, id, -1, 0)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(other.Size(), sent))
			qt.Assert(t, qt.IsNil(other.Close()))
		}
		qt.Assert(t, qt.Equals(sent, 100_000))
		desc, err := w.Commit(describe(content).Digest)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Size, 100_000))
		wantBlob(t, r, repo, content)
	})
}

// Acknowledged content can be read at once, by every method and every client.
func TestAcknowledged_IsReadableAtOnce(t *testing.T) {
	t.Parallel()
	const repo = "app"
	pushes := map[string]func(context.Context, ociregistry.Interface, string, []byte) error{"PushBlob": pushBlob, "Commit": upload}
	check := func(t *testing.T, r ociregistry.Interface, content []byte) {
		ctx := t.Context()
		want := describe(content)
		desc, err := r.ResolveBlob(ctx, repo, want.Digest)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(desc, want))
		wantBlob(t, r, repo, content)
		n := want.Size
		for _, at := range [][2]int64{{0, -1}, {0, n}, {n, n}, {n / 2, -1}, {n / 3, n / 2}, {max(n-1, 0), n + 100}} {
			got, err := r.GetBlobRange(ctx, repo, want.Digest, at[0], at[1])
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(got.Descriptor(), want))
			text, err := read(got, nil)
			qt.Check(t, qt.IsNil(err))
			end := at[1]
			if end < 0 || end > n {
				end = n
			}
			qt.Check(t, qt.IsTrue(text == string(content[at[0]:end])))
		}
	}
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		for name, push := range pushes {
			for i, size := range uploadSizes {
				content := data(uint64(i+len(name)), size)
				qt.Assert(t, qt.IsNil(push(t.Context(), r, repo, content)))
				check(t, r, content)
			}
		}
	})
	t.Run("another process", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, ocifs.Options{})
		other := openFixture(t, f.dir, "", ocifs.Options{})
		for name, push := range pushes {
			for i, size := range uploadSizes {
				content := data(uint64(i+len(name)), size)
				qt.Assert(t, qt.IsNil(push(t.Context(), f, repo, content)))
				check(t, other, content)
			}
		}
	})
}
