package ocifs

import (
	"context"
	"os"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// intoJournal makes u publish as a registry does with small content, which becomes
// no file.
func intoJournal(u *uploads) {
	u.publish = func(_ context.Context, _ string, _ ociregistry.Digest, content *staged) error {
		content.unlinked = true
		return nil
	}
}

// commit commits a session with the given content.
func (t *uploadTest) commit(w *uploadWriter, data string) {
	t.Helper()
	t.write(w, []byte(data))
	_, err := w.Commit(digest.FromString(data))
	qt.Assert(t, qt.IsNil(err))
}

func TestSessionsHaveFilesOfOthers(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	intoJournal(tt.u)
	var files []os.FileInfo
	for _, data := range []string{"a long one", "short", "longer again"} {
		w := tt.start()
		tt.write(w, []byte(data[:1]))
		files = append(files, tt.info(tt.u.statePath(w.ID())), tt.info(tt.u.dataPath(w.ID())))
		tt.write(w, []byte(data[1:]))
		_, err := w.Commit(digest.FromString(data))
		qt.Assert(t, qt.IsNil(err))
		tt.checkUnknown(w.ID())
		tt.checkNoFiles()
		qt.Check(t, qt.HasLen(tt.s.staging.spares, 2))
	}
	for _, later := range files[2:] {
		qt.Check(t, qt.IsTrue(os.SameFile(later, files[0]) || os.SameFile(later, files[1])))
	}
}

// What a session became may be a blob. Those that fail or are cancelled leave
// nothing.
func TestFilesThatAreNotSpare(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *uploadTest, w *uploadWriter){
		"published": func(t *uploadTest, w *uploadWriter) { t.commit(w, "content") },
		"cancelled": func(t *uploadTest, w *uploadWriter) { qt.Check(t, qt.IsNil(w.Cancel())) },
		"wrong": func(t *uploadTest, w *uploadWriter) {
			_, err := w.Commit(digest.FromString("other"))
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt := newUploadTest(t)
			if name != "published" {
				intoJournal(tt.u)
			}
			end(tt, tt.start())
			tt.checkNoFiles()
			qt.Check(t, qt.HasLen(tt.s.staging.spares, 0))
		})
	}
}

// A process that has the file of a session open, which another has ended, does not
// take for it the session that has the file now.
func TestSessionWhoseFilesAreAnothers(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	intoJournal(tt.u)
	w := tt.start()
	tt.write(w, []byte("con"))
	u := tt.process()
	late := tt.resume(u, w.ID(), 3)
	state, err := u.openState(background, w.ID())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(late.session.load(state)))
	gone, err := tt.fs.OpenFile(tt.u.statePath(w.ID()), os.O_RDWR, 0) // as one who waits has it
	qt.Assert(t, qt.IsNil(err))
	defer gone.Close()
	qt.Assert(t, qt.IsNil(state.Close()))

	_, err = w.Write([]byte("tent"))
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Commit(digest.FromString("content"))
	qt.Assert(t, qt.IsNil(err))
	next := tt.start()
	qt.Check(t, qt.ErrorIs(late.session.load(gone), ociregistry.ErrBlobUploadUnknown))
	_, err = late.Write([]byte("xyz"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Check(t, qt.IsNil(late.Close()))
	tt.commit(next, "next")
}

// A power cut can undo that a state file got another name, and not what it has.
func TestSweepOfAnothersState(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w := tt.start()
	qt.Assert(t, qt.IsNil(w.Close()))
	const old = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
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
	qt.Check(t, qt.IsNil(tt.resume(tt.u, w.ID(), 0).Cancel()))
}
