package ocifs_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A session outlives the registry that opened it.
func TestSession_OutlivesTheRegistry(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	for _, single := range []string{"", repo} {
		for _, hint := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			for _, closed := range []bool{true, false} { // the writer, before the registry
				f := openFixture(t, scratch.Kept(t), single, ocifs.Options{})
				ctx := ociregistry.WithDigestAlgorithm(t.Context(), hint)
				content := data(7, 123_457)
				w, err := f.PushBlobChunked(ctx, repo, 0)
				qt.Assert(t, qt.IsNil(err))
				id, sent := w.ID(), 0
				for _, n := range []int{0, 1, 63, 64, 65, 50_000, 73_264} { // in the middle of the hash's blocks, and between them
					_, err = w.Write(content[sent : sent+n])
					qt.Assert(t, qt.IsNil(err))
					sent += n
					if closed {
						qt.Assert(t, qt.IsNil(w.Close()))
					}
					f.reopen()
					_, err = f.PushBlobChunkedResume(ctx, repo, id, int64(sent+1), 0)
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
					if single == "" {
						_, err = f.PushBlobChunkedResume(ctx, "other", id, int64(sent), 0)
						qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
					}
					w, err = f.PushBlobChunkedResume(ctx, repo, id, -1, 0)
					qt.Assert(t, qt.IsNil(err))
					qt.Check(t, qt.Equals(w.Size(), int64(sent)))
				}
				qt.Assert(t, qt.Equals(sent, len(content)))
				f.reopen()
				w, err = f.PushBlobChunkedResume(ctx, repo, id, int64(sent), 0)
				qt.Assert(t, qt.IsNil(err))
				d := hint.FromBytes(content)
				_, err = w.Commit(d)
				qt.Assert(t, qt.IsNil(err))
				text, err := read(f.GetBlob(ctx, repo, d))
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.IsTrue(text == string(content)))
				f.close()
				_, ok := f.layout(repo).blobs[d]
				qt.Check(t, qt.IsTrue(ok))
			}
		}
	}
}

// After a restart, too, content that does not match the digest is refused.
func TestSession_RefusesWrongDigestAfterRestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	w, err := f.PushBlobChunked(t.Context(), "app", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Write(data(1, 50_000))
	qt.Assert(t, qt.IsNil(err))
	f.reopen()
	w, err = f.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Write([]byte("x"))
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Commit(describe(data(1, 50_000)).Digest)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDigestInvalid)))
	wantRepositories(t, f)
}

// Two processes can use one session.
func TestSession_IsSharedByTwoProcesses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	content := data(1, 50_000)
	w, err := f.PushBlobChunked(t.Context(), "app", 0)
	qt.Assert(t, qt.IsNil(err))
	other := openFixture(t, f.dir, "", ocifs.Options{})
	registries := []*fixture{f, other}
	for i := range 5 {
		w, err = registries[i%2].PushBlobChunkedResume(t.Context(), "app", w.ID(), int64(i)*10_000, 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(content[i*10_000:][:10_000])
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Close()))
	}
	other.close() // leaves the session
	w, err = f.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Commit(describe(content).Digest)
	qt.Assert(t, qt.IsNil(err))
	wantBlob(t, f, "app", content)
}

// A session ends when it was idle for too long, and not before.
func TestSession_ExpiresOnlyWhenIdle(t *testing.T) {
	t.Parallel()
	const repo = "app"
	tests := []struct {
		name    string
		expiry  time.Duration
		idle    time.Duration
		expires bool
	}{
		{"young", time.Hour, 50 * time.Minute, false},
		{"old", time.Hour, 70 * time.Minute, true},
		{"young by default", 0, 23 * time.Hour, false},
		{"old by default", 0, 25 * time.Hour, true},
		{"never", -1, 10_000 * time.Hour, false},
	}
	for _, test := range tests {
		for _, written := range []bool{false, true} {
			for _, restart := range []bool{false, true} {
				f := newFixture(t, ocifs.Options{UploadExpiry: test.expiry})
				w, err := f.PushBlobChunked(t.Context(), repo, 0)
				qt.Assert(t, qt.IsNil(err))
				content := []byte(nil)
				if written {
					content = data(1, 50_000)
					_, err = w.Write(content)
					qt.Assert(t, qt.IsNil(err))
				}
				if !written && test.expires {
					continue // it is the id's own time that counts
				}
				qt.Assert(t, qt.IsNil(w.Close()))
				if restart {
					f.close()
				}
				age(t, filepath.Join(f.dir, ".ocifs", "uploads"), test.idle)
				if restart {
					f.open()
				}
				if !test.expires {
					w, err = f.PushBlobChunkedResume(t.Context(), repo, w.ID(), -1, 0)
					qt.Assert(t, qt.IsNil(err), qt.Commentf(test.name))
					_, err = w.Commit(describe(content).Digest)
					qt.Assert(t, qt.IsNil(err), qt.Commentf(test.name))
					continue
				}
				_, err = f.PushBlobChunkedResume(t.Context(), repo, w.ID(), -1, 0)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)), qt.Commentf(test.name))
				eventually(t, "no files of the session", func() bool { return len(sessionFiles(t, f.dir)) == 0 })
			}
		}
	}
}

// A session that expires while the registry is closed is removed when it is opened.
func TestSession_ExpiredIsRemovedByOpening(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		f := newFixture(t, ocifs.Options{UploadExpiry: time.Hour})
		for range 3 {
			w, err := f.PushBlobChunked(t.Context(), "app", 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = w.Write(data(1, 50_000))
			qt.Assert(t, qt.IsNil(err))
		}
		f.close()
		age(t, filepath.Join(f.dir, ".ocifs", "uploads"), 2*time.Hour)
		f.open()
		young, err := f.PushBlobChunked(t.Context(), "app", 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = young.Write(data(2, 50_000))
		qt.Assert(t, qt.IsNil(err))
		eventually(t, "the old sessions are gone", func() bool {
			for _, name := range sessionFiles(t, f.dir) {
				if !strings.HasPrefix(name, young.ID()) {
					return false
				}
			}
			return true
		})
		_, err = young.Commit(describe(data(2, 50_000)).Digest)
		qt.Assert(t, qt.IsNil(err))
		wantEmptyPrivate(t, f)
	})
}

// age makes all files below dir older.
func age(t testing.TB, dir string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chtimes(name, then, then)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there are no sessions with bytes
		}
		return err
	})
	qt.Assert(t, qt.IsNil(err))
}

// sessionFiles returns the names of the files of upload sessions.
func sessionFiles(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, ".ocifs", "uploads"))
	if !errors.Is(err, fs.ErrNotExist) {
		qt.Assert(t, qt.IsNil(err))
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantEmptyPrivate checks that a registry keeps no content except blobs. While it is
// open, it may keep files of zeros for the next sessions, and afterwards nothing at
// all.
func wantEmptyPrivate(t testing.TB, f *fixture) {
	t.Helper()
	private := func(visit func(name string, e fs.DirEntry)) {
		for _, dir := range []string{"uploads", "staging"} {
			filepath.WalkDir(filepath.Join(f.dir, ".ocifs", dir), func(name string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() {
					visit(name, e)
				}
				return nil
			})
		}
	}
	qt.Check(t, qt.HasLen(sessionFiles(t, f.dir), 0))
	private(func(name string, e fs.DirEntry) {
		if text, err := os.ReadFile(name); err == nil {
			qt.Check(t, qt.HasLen(bytes.Trim(text, "\x00"), 0), qt.Commentf("%s has %d bytes", name, len(text)))
		}
	})
	f.close()
	private(func(name string, e fs.DirEntry) { t.Errorf("%s is left", name) })
	staged, _ := os.ReadDir(filepath.Join(f.dir, ".ocifs", "staging"))
	qt.Check(t, qt.HasLen(staged, 0))
}

// Of two writers at one offset, one wins, and their bytes never mix.
func TestSession_WritersAtOneOffsetNeverMix(t *testing.T) {
	t.Parallel()
	const repo = "app"
	const writers, rounds, size = 4, 10, 3000
	race := func(t *testing.T, registries ...ociregistry.Interface) {
		ctx := t.Context()
		w, err := registries[0].PushBlobChunked(ctx, repo, 0)
		qt.Assert(t, qt.IsNil(err))
		id := w.ID()
		var want []byte
		for round := range rounds {
			var ws [writers]ociregistry.BlobWriter
			for i := range ws {
				ws[i], err = registries[i%len(registries)].PushBlobChunkedResume(ctx, repo, id, int64(len(want)), 0)
				qt.Assert(t, qt.IsNil(err))
			}
			var writes, closes [writers]error
			var wg sync.WaitGroup
			for i, w := range ws {
				wg.Go(func() {
					n, err := w.Write(bytes.Repeat([]byte{byte('a' + i)}, size))
					if err != nil && n != 0 {
						err = fmt.Errorf("%d bytes with error %w", n, err)
					}
					writes[i], closes[i] = err, w.Close() // which says whether the bytes are kept
				})
			}
			wg.Wait()
			winner := -1
			for i := range ws {
				if writes[i] == nil && closes[i] == nil {
					qt.Check(t, qt.Equals(winner, -1))
					winner = i
					qt.Check(t, qt.Equals(ws[i].Size(), int64(len(want)+size)))
					continue
				}
				qt.Check(t, qt.ErrorIs(cmp.Or(writes[i], closes[i]), error(ociregistry.ErrRangeInvalid)))
				if writes[i] != nil {
					qt.Check(t, qt.IsNil(closes[i]))
					qt.Check(t, qt.Equals(ws[i].Size(), int64(len(want))))
				}
			}
			qt.Assert(t, qt.Not(qt.Equals(winner, -1)), qt.Commentf("round %d", round))
			want = append(want, bytes.Repeat([]byte{byte('a' + winner)}, size)...)
		}
		w, err = registries[0].PushBlobChunkedResume(ctx, repo, id, -1, 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Commit(describe(want).Digest)
		qt.Assert(t, qt.IsNil(err))
		wantBlob(t, registries[0], repo, want)
	}
	onBackends(t, func(t *testing.T, r ociregistry.Interface) { race(t, r) })
	t.Run("two processes", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, ocifs.Options{})
		race(t, f, openFixture(t, f.dir, "", ocifs.Options{}))
	})
}

// A commit and a write at the same offset exclude each other, too.
func TestSession_CommitExcludesWriteAtItsOffset(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		ctx := t.Context()
		for i := range 20 {
			repo, content := fmt.Sprint("app-", i), data(uint64(i), 20_000)
			w1, err := r.PushBlobChunked(ctx, repo, 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = w1.Write(content)
			qt.Assert(t, qt.IsNil(err))
			w2, err := r.PushBlobChunkedResume(ctx, repo, w1.ID(), -1, 0)
			qt.Assert(t, qt.IsNil(err))
			var commitErr, writeErr error
			var wg sync.WaitGroup
			wg.Go(func() { _, commitErr = w1.Commit(describe(content).Digest) })
			wg.Go(func() { _, writeErr = w2.Write([]byte("more")) })
			wg.Wait()
			if commitErr == nil {
				qt.Check(t, qt.ErrorIs(writeErr, error(ociregistry.ErrBlobUploadUnknown)))
				wantBlob(t, r, repo, content)
				continue
			}
			qt.Check(t, qt.ErrorIs(commitErr, error(ociregistry.ErrRangeInvalid)))
			qt.Assert(t, qt.IsNil(writeErr))
			more := append(content, "more"...)
			_, err = w2.Commit(describe(more).Digest)
			qt.Assert(t, qt.IsNil(err))
			wantBlob(t, r, repo, more)
		}
	})
}
