package uploads

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/uploadid"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Content that comes in one request has no files of a session, and nothing is locked
// or written for the session.
func TestUnshared_NeedsNoFilesOfASession(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	data := disktest.RandomBytes(1, 1<<20)
	w := tt.start()
	_, err := tt.Work.NewName() // makes the staging directory, which has a lock
	qt.Assert(t, qt.IsNil(err))
	tt.FS.Set(func(op, name string) error {
		looks := op == "OpenFile" || op == "Lstat" // another process may have made some
		if !looks && (op == "TryLock" || strings.HasPrefix(name, tt.u.dir) || strings.HasPrefix(name, tt.u.ended.dir)) {
			t.Errorf("%s %s", op, name)
		}
		return nil
	})
	_, err = w.ReadFrom(bytes.NewReader(data))
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Commit(digest.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))
	tt.FS.Set(nil)
	tt.checkBlob(tt.a, data)
	tt.checkUnknown(w.ID())
	qt.Check(t, qt.Equals(tt.quota.Used(), int64(len(data))))
	tt.checkNoFiles()
}

// Other processes know nothing of content until the writer is closed, unless it is
// large.
func TestUnshared_IsKnownOnceItIsAcknowledgedOrLarge(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	data := disktest.RandomBytes(1, maxUnshared+1)
	w := tt.start()
	_, err := w.ReadFrom(bytes.NewReader(data[:maxUnshared]))
	qt.Assert(t, qt.IsNil(err))
	tt.checkEmpty(tt.process(), w.ID())
	tt.write(w, data[maxUnshared:])
	other := tt.resume(tt.process(), w.ID(), -1)
	qt.Check(t, qt.Equals(other.Size(), int64(len(data))))
	qt.Check(t, qt.IsNil(other.Close()))
	_, err = w.Commit(digest.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))

	w = tt.start()
	tt.write(w, data[:MaxSmall+1])
	qt.Assert(t, qt.IsNil(w.Close()))
	other = tt.resume(tt.process(), w.ID(), MaxSmall+1)
	tt.write(other, data[MaxSmall+1:])
	_, err = other.Commit(digest.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))
	tt.checkUnknown(w.ID())
}

// If two processes have content for one session, the first whose writer is closed has
// the session, and the bytes of the other one do not mix with it.
func TestUnshared_FirstToCloseWins(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	first, second := disktest.RandomBytes(1, 100_000), disktest.RandomBytes(2, 200_000)
	w := tt.start()
	late := tt.resume(tt.process(), w.ID(), 0)
	tt.write(w, first)
	tt.write(late, second)
	qt.Assert(t, qt.IsNil(w.Close()))
	_, err := late.Commit(digest.FromBytes(second))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	qt.Check(t, qt.IsNotNil(late.Close()))
	w = tt.resume(tt.u, w.ID(), int64(len(first)))
	_, err = w.Commit(digest.FromBytes(first))
	qt.Assert(t, qt.IsNil(err))
	tt.checkBlob(tt.a, first)
	qt.Check(t, qt.Equals(tt.quota.Used(), int64(len(first))))
	tt.checkNoFiles()
}

// If the files cannot be made, the process keeps the content, and nothing of the
// files is left.
func TestUnshared_StaysIfItsFilesCannotBeMade(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"OpenFile", "TryLock", "Link", "Rename", "file.WriteAt"} {
		for skip := range 3 {
			tt := newUploadTest(t)
			data := disktest.RandomBytes(1, 100_000)
			w := tt.start()
			tt.write(w, data)
			left, failed := skip, false
			tt.FS.Set(func(got, name string) error {
				if got != op {
					return nil
				}
				if left--; left < 0 && !failed {
					failed = true
					return syscall.ENOSPC
				}
				return nil
			})
			err := w.session.createFiles()
			tt.FS.Set(nil)
			qt.Check(t, qt.Equals(err != nil, failed), qt.Commentf("%s after %d", op, skip))
			if err != nil {
				tt.checkEmpty(tt.process(), w.ID())
			}
			_, err = w.Commit(digest.FromBytes(data))
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s after %d", op, skip))
			tt.checkBlob(tt.a, data)
			qt.Check(t, qt.Equals(tt.quota.Used(), int64(len(data))))
			tt.checkNoFiles()
		}
	}
}

// A Commit that failed can be repeated with a digest of another algorithm.
func TestUnshared_FailedCommitCanBeRepeated(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	data := disktest.RandomBytes(1, 100_000)
	w := tt.start()
	tt.write(w, data)
	tt.FS.Set(disktest.Failing("Link", syscall.ENOSPC))
	_, err := w.Commit(digest.FromBytes(data))
	qt.Check(t, qt.ErrorIs(err, syscall.ENOSPC))
	tt.FS.Set(nil)
	other := tt.resume(tt.u, w.ID(), -1)
	_, err = other.Write(data)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadInvalid))
	_, err = w.Commit(digest.SHA512.FromBytes(data))
	qt.Assert(t, qt.IsNil(err))
	_, err = tt.s.Stat(tt.a, digest.SHA512.FromBytes(data))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(other.Close()))
	tt.checkNoFiles()
}

// Logs contain a hash in place of the id of a session.
func TestSessions_LogNoIDs(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	var log strings.Builder
	u := New(tt.Work, tt.s, tt.quota, Options{
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		Publish: func(_ context.Context, _ string, _ ociregistry.Digest, _ *blobs.Staged) error { return nil },
	})
	t.Cleanup(func() { u.Close() })
	lost, unended, unswept := tt.start(), tt.start(), tt.start()
	for _, w := range []*writer{lost, unended, unswept} {
		tt.write(w, disktest.RandomBytes(1, MaxSmall+1))
		qt.Assert(t, qt.IsNil(w.Close()))
	}
	qt.Assert(t, qt.IsNil(os.Remove(u.dataPath(lost.ID()))))
	_, err := u.Resume(background, "repo", lost.ID(), -1, 0)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Check(t, qt.StringContains(log.String(), uploadid.Hash(lost.ID())))

	tt.FS.Set(disktest.Failing("file.Write", syscall.ENOSPC))
	qt.Check(t, qt.IsNil(tt.resume(u, unended.ID(), -1).Cancel()))
	qt.Check(t, qt.StringContains(log.String(), uploadid.Hash(unended.ID())))

	tt.FS.Set(disktest.Failing("OpenFile", syscall.EIO))
	u.sweepAfter(0)
	u.sweeping.Wait()
	tt.FS.Set(nil)
	qt.Check(t, qt.StringContains(log.String(), uploadid.Hash(unswept.ID())))
	for _, w := range []*writer{lost, unended, unswept} {
		qt.Check(t, qt.Not(qt.StringContains(log.String(), w.ID())))
	}
}
