package uploads

import (
	"bytes"
	"os"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// keep writes to a new session, closes its writer, and returns one that goes on.
func (t *uploadTest) keep(data string) *writer {
	t.Helper()
	w := t.start()
	t.write(w, []byte(data))
	qt.Assert(t, qt.IsNil(w.Close()))
	return t.resume(t.u, w.ID(), int64(len(data)))
}

func (t *uploadTest) commit(w *writer, data string) {
	t.Helper()
	_, err := w.Commit(digest.FromString(data))
	qt.Assert(t, qt.IsNil(err))
}

func TestStateFile_IsReusedAsZeros(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	var first os.FileInfo
	for _, data := range []string{"a long one", "short", "longer again"} {
		w := tt.keep(data)
		now := tt.Info(tt.u.statePath(w.ID()))
		if first == nil {
			first = now
		}
		qt.Check(t, qt.IsTrue(os.SameFile(now, first)))
		tt.checkUnknown(idEncoding.EncodeToString(make([]byte, idBytes)))
		tt.commit(w, data)
		tt.checkBlob(tt.a, []byte(data))
		tt.checkUnknown(w.ID())
		tt.checkNoFiles()
		spares := tt.Staged()
		qt.Assert(t, qt.HasLen(spares, 1))
		text, err := os.ReadFile(spares[0])
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(bytes.Trim(text, "\x00"), 0)) // nothing of the content
	}
}

// Sessions that fail or are cancelled leave no spare file. Large ones do not either,
// because their file may be a blob's.
func TestStateFile_IsNotReusedAfterFailure(t *testing.T) {
	t.Parallel()
	large := string(disktest.RandomBytes(1, MaxSmall+1))
	for name, end := range map[string]func(t *uploadTest){
		"large":     func(t *uploadTest) { t.commit(t.keep(large), large) },
		"cancelled": func(t *uploadTest) { qt.Check(t, qt.IsNil(t.keep("content").Cancel())) },
		"wrong": func(t *uploadTest) {
			_, err := t.keep("content").Commit(digest.FromString("other"))
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		},
		"never kept": func(t *uploadTest) {
			w := t.start()
			t.write(w, []byte("content"))
			t.commit(w, "content")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt := newUploadTest(t)
			end(tt)
			tt.checkNoFiles()
			qt.Check(t, qt.HasLen(tt.Staged(), 0))
		})
	}
}

// A process that has the state file of a session open, which another process has
// ended, does not take the session that reuses the file for the old one.
func TestStateFile_ReusedIsNotTakenForTheOldSession(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w := tt.keep("content")
	u := tt.process()
	late := tt.resume(u, w.ID(), 7)
	gone, err := tt.FS.OpenFile(tt.u.statePath(w.ID()), os.O_RDWR, 0) // as one who waits has it
	qt.Assert(t, qt.IsNil(err))
	defer gone.Close()
	tt.commit(w, "content")
	qt.Check(t, qt.ErrorIs(late.session.load(gone), ociregistry.ErrBlobUploadUnknown))
	next := tt.keep("another")
	info, err := gone.Stat()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(os.SameFile(info, tt.Info(tt.u.statePath(next.ID())))))
	qt.Check(t, qt.ErrorIs(late.session.load(gone), ociregistry.ErrBlobUploadUnknown))
	_, err = late.Write([]byte("xyz"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Check(t, qt.IsNil(late.Close()))
	tt.commit(next, "another")
}

// A power cut may undo the rename of a state file but not its new content.
func TestSweep_RemovesStateOfAnotherSession(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w := tt.keep("content")
	old := tt.issue()
	qt.Assert(t, qt.IsNil(os.Link(tt.u.statePath(w.ID()), tt.u.statePath(old))))
	qt.Assert(t, qt.IsNil(os.WriteFile(tt.u.dataPath(old), []byte("data"), 0o644)))
	tt.checkUnknown(old)
	n, err := tt.process().sweep()
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 1))
	for _, name := range []string{tt.u.statePath(old), tt.u.dataPath(old)} {
		_, err := os.Lstat(name)
		qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
	}
	qt.Check(t, qt.IsNil(tt.resume(tt.u, w.ID(), 7).Cancel()))
}
